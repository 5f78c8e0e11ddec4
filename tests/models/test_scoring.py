import pytest
import torch
from torch import nn

from crossteach.errors import ModelError
from crossteach.models.scoring import CHUNK, score


class Answers:
    """Just enough of a classifier."""

    def __init__(self, module):
        self.module, self.spec = module, "py:zoo.py:net"

    def logits(self, images):
        return self.module(images)


@pytest.fixture(autouse=True)
def _unchecked(unchecked):
    """Let half a classifier pass for one."""


def net(width):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1),
        nn.GELU(),
        nn.Conv2d(12, 16, 3, stride=2),
        nn.Flatten(),
        nn.LayerNorm(16 * 49),
        nn.Linear(16 * 49, width),
        nn.ReLU(),
        nn.Linear(width, 10),
    )


def images(n=300):
    return torch.rand(n, 1, 16, 16, generator=torch.Generator().manual_seed(1))


def test_scoring_leaves_the_model_as_it_was():
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Sequential(nn.Dropout(0.5), nn.Flatten()), nn.Linear(784, 3)
    )
    module[0].eval()  # a part that its owner froze
    before = {name: value.clone() for name, value in module.state_dict().items()}
    flags = [part.training for part in module.modules()]
    random = torch.get_rng_state()
    first, second = score(Answers(module), images(5)), score(Answers(module), images(5))
    assert torch.equal(first, second)
    assert [part.training for part in module.modules()] == flags == [True, False, True, True, True, True, True]
    assert torch.equal(torch.get_rng_state(), random)
    after = module.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert not first.requires_grad and first.dtype == torch.float32
    module.eval()
    assert torch.allclose(first, module(images(5)), atol=1e-6)


def test_a_model_that_fails_gets_its_mode_back():
    module = nn.Sequential(nn.Dropout(), nn.Linear(3, 2))
    with pytest.raises(ModelError, match=r"does not accept images of \[1, 16, 16\]"):
        score(Answers(module), images(5))
    assert module.training and module[0].training


@pytest.mark.parametrize("threads", [1, 2])
def test_a_sample_gets_the_same_bits_in_any_batch(threads):
    classifier, batch = Answers(net(32).eval()), images()
    torch.set_num_threads(threads)
    try:
        together = score(classifier, batch)
        assert together.shape == (300, 10)
        for start, stop in ((0, 1), (1, 8), (100, CHUNK + 100), (290, 300)):
            assert torch.equal(score(classifier, batch[start:stop]), together[start:stop])
        order = torch.randperm(300, generator=torch.Generator().manual_seed(0))
        assert torch.equal(score(classifier, batch[order]), together[order])
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_answers_that_are_not_finite_are_refused(wrong):
    class Spoilt(nn.Module):
        def forward(self, batch):
            scores = batch.flatten(1)[:, :4].clone()
            scores[2, 1] = wrong
            return scores

    with pytest.raises(ModelError, match=r"'py:zoo.py:net' answers NaN or infinite logits on 3 of 300 samples"):
        score(Answers(Spoilt()), images())


def test_half_precision_is_scored_in_float32():
    module = nn.Sequential(nn.Flatten(), nn.Linear(256, 3)).to(torch.bfloat16)
    assert score(Answers(nn.Sequential(module)), images(3).bfloat16()).dtype == torch.float32
