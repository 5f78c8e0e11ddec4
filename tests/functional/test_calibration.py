import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar

from crossteach.functional.calibration import expected_calibration_error, fit_temperature


def answers(seed, n=400, c=6, temperature=1.0):
    """Draw logits, and labels from their own probabilities: calibrated at this temperature."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(n, c, generator=generator)
    labels = torch.multinomial((logits / temperature).softmax(1), 1, generator=generator).squeeze(1)
    return logits, labels


@pytest.mark.parametrize("bins", [1, 4, 15])
@pytest.mark.parametrize("seed", range(3))
def test_error_agrees_with_a_loop_over_bins(seed, bins):
    logits, labels = answers(seed)
    probs = logits.double().softmax(1)
    expected = 0.0
    for k in range(bins):
        inside = [i for i in range(len(labels)) if k / bins < probs[i].max().item() <= (k + 1) / bins]
        if inside:
            confidence = sum(probs[i].max().item() for i in inside) / len(inside)
            accuracy = sum(probs[i].argmax().item() == labels[i].item() for i in inside) / len(inside)
            expected += len(inside) / len(labels) * abs(confidence - accuracy)
    assert expected_calibration_error(logits, labels, bins) == pytest.approx(expected)


def test_error_of_a_case_by_hand():
    confidences, right = (0.6, 0.7, 0.9, 0.95), (False, True, True, True)
    logits = torch.tensor([[math.log(p), math.log(1 - p)] for p in confidences])
    labels = torch.tensor([0 if r else 1 for r in right])
    # of four bins, (0.5, 0.75] holds 0.65 against 0.5 and (0.75, 1] holds 0.925 against 1
    assert expected_calibration_error(logits, labels, bins=4) == pytest.approx(0.5 * 0.15 + 0.5 * 0.075, abs=1e-6)
    edge = torch.tensor([[0.0, 0.0], [math.log(0.6), math.log(0.4)]])  # 0.5 lies in (0.25, 0.5], 0.6 in (0.5, 0.75]
    assert expected_calibration_error(edge, torch.tensor([0, 1]), bins=4) == pytest.approx((0.5 + 0.6) / 2, abs=1e-6)


def test_error_at_the_ends():
    sure = torch.tensor([[1000.0, 0.0], [0.0, 1000.0]])
    assert expected_calibration_error(sure, torch.tensor([0, 1])) == 0.0
    assert expected_calibration_error(sure, torch.tensor([1, 0])) == 1.0
    assert expected_calibration_error(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long)) == 0.0


@pytest.mark.parametrize("true", [0.5, 1.0, 3.0])
def test_temperature_is_the_one_that_scipy_finds_and_the_true_one(true):
    logits, labels = answers(0, n=5000, temperature=true)

    def loss(log_temperature):
        log_probs = (logits.double() / math.exp(log_temperature)).log_softmax(1).numpy()
        return -log_probs[np.arange(len(labels)), labels.numpy()].mean()

    best = math.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded", options={"xatol": 1e-8}).x)
    found = fit_temperature(logits, labels)
    assert found == pytest.approx(best, rel=1e-4)
    assert found == pytest.approx(true, rel=0.1)


def test_temperature_mends_the_error_and_leaves_accuracy():
    logits, labels = answers(1, n=5000, temperature=3.0)
    mended = logits / fit_temperature(logits, labels)
    assert torch.equal(mended.argmax(1), logits.argmax(1))
    assert expected_calibration_error(mended, labels) < 0.03 < 0.2 < expected_calibration_error(logits, labels)


@pytest.mark.parametrize("scale", [0.01, 1.0, 1000.0])
def test_temperature_stays_within_bounds(scale):
    logits = scale * torch.eye(4)
    for labels in (torch.arange(4), torch.tensor([1, 2, 3, 0])):
        assert 0.05 <= fit_temperature(logits, labels) <= 20
    assert fit_temperature(logits, torch.tensor([1, 2, 3, 0])) == 20
