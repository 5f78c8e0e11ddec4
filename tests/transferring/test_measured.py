import numpy as np
import pytest
import torch

from crossteach import Predictions
from crossteach.transferring.measured import TransferPredictions, ensemble_accuracy, measure

N, C = 120, 6
LABELS = torch.randint(C, (N,), generator=torch.Generator().manual_seed(0))


def predictions(seed: int) -> Predictions:
    logits = torch.randn(N, C, generator=torch.Generator().manual_seed(seed))
    logits[torch.arange(N), LABELS] += 1.0
    return Predictions(f"model {seed}", logits, LABELS, np.arange(N), "", "")


@pytest.fixture
def found() -> TransferPredictions:
    before, after, ungated, *teachers = (predictions(seed) for seed in range(1, 6))
    return TransferPredictions(before, after, ungated, tuple(teachers))


def test_gains_and_losses_are_what_a_loop_counts(found):
    measured = measure(found, found.after)
    gained = lost = flips = reached = 0
    for i in range(N):
        was, now = (p.logits[i].argmax() == LABELS[i] for p in (found.before, found.after))
        knows = any(t.logits[i].argmax() == LABELS[i] for t in found.teachers)
        gained += int(now and not was)
        lost += int(was and not now)
        flips += int(knows and not was)
        reached += int(knows and not was and now)
    assert measured["knowledge_gain"] == pytest.approx(100 * gained / N)
    assert measured["knowledge_loss"] == pytest.approx(100 * lost / N)
    assert measured["transfer_delta"] == pytest.approx(100 * (gained - lost) / N)
    assert measured["transfer_rate"] == pytest.approx(100 * reached / flips)
    assert int(found.positive_flips.sum()) == flips
    low, high = measured["interval"]
    assert low < measured["transfer_delta"] < high


def test_an_original_that_came_back_is_certain(found):
    measured = measure(found, found.before)
    assert measured["transfer_delta"] == 0 and measured["interval"] == [0, 0] and measured["p_value"] == 1


def test_the_ensemble_is_the_mean_of_probabilities(found):
    models = [found.before, *found.teachers]
    mean = np.mean([p.logits.softmax(1).numpy() for p in models], axis=0)
    assert ensemble_accuracy(models) == pytest.approx(100 * float((mean.argmax(1) == LABELS.numpy()).mean()))


def test_no_teacher_has_no_positive_flips(found):
    alone = TransferPredictions(found.before, found.after, found.ungated, ())
    assert not alone.positive_flips.any()
    assert measure(alone, alone.after)["transfer_rate"] is None
