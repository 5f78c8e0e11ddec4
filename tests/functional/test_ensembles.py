import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from crossteach.functional.ensembles import ensemble_accuracies


@given(seed=st.integers(0, 1000), models=st.integers(1, 4), n=st.integers(1, 25), block=st.integers(1, 9))
def test_ensembles_agree_with_a_loop(seed, models, n, block):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(models, n, 5, generator=generator) * 2
    labels = torch.randint(0, 5, (n,), generator=generator)
    blocks = zip(torch.split(logits, block, 1), torch.split(labels, block), strict=True)
    found = ensemble_accuracies(blocks, models)
    probs = logits.double().softmax(2)
    for a in range(models):
        for b in range(models):
            right = ((probs[a] + probs[b]).argmax(1) == labels).sum().item()
            assert found.pairs[a, b].item() == pytest.approx(100 * right / n)
    together = (probs.mean(0).argmax(1) == labels).sum().item()
    assert found.together == pytest.approx(100 * together / n)


def test_two_sure_models_that_disagree_leave_it_to_the_first_class():
    """Probabilities of exactly 1 are tied: the lower class id counts, as with every argmax here."""
    logits = torch.tensor([[[0.0, 200.0, 0.0]], [[0.0, 0.0, 200.0]]])
    assert ensemble_accuracies([(logits, torch.tensor([1]))], 2).pairs[0, 1] == 100
    assert ensemble_accuracies([(logits, torch.tensor([2]))], 2).pairs[0, 1] == 0
