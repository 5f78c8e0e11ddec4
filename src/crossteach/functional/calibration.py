"""Does confidence agree with accuracy? The expected calibration error, and a temperature that lowers it."""

import math

import torch
from jaxtyping import Bool, Float, Int
from scipy.optimize import brentq
from torch import Tensor

COLDEST, HOTTEST = 0.05, 20.0
"""Temperatures beyond these say that the labels are separated perfectly, or not at all."""


def expected_calibration_error(logits: Float[Tensor, "N C"], labels: Int[Tensor, " N"], bins: int = 15) -> float:
    """Return the mean gap between confidence and accuracy over equal bins of confidence, in [0, 1].

    Args:
        logits: Of one model, uncalibrated or divided by a temperature.
        labels: True class ids.
        bins: How many bins of equal width divide [0, 1].

    Example:
        >>> round(expected_calibration_error(torch.tensor([[0.0, 0.0]]), torch.tensor([0])), 3)
        0.5

    Source: Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017).
    """
    confidence, preds = logits.double().softmax(1).max(1)
    return calibration_error(confidence, preds == labels, bins)


def calibration_error(confidence: Float[Tensor, " N"], correct: Bool[Tensor, " N"], bins: int = 15) -> float:
    """Return the expected calibration error from confidences, in [0, 1].

    Args:
        confidence: The highest probability of each sample.
        correct: Whether each sample's prediction is right.
        bins: How many bins of equal width divide [0, 1].

    Example:
        >>> calibration_error(torch.tensor([0.75, 0.75]), torch.tensor([True, False]))
        0.25
    """
    confidence, right = confidence.double(), correct.double()
    index = (confidence * bins).ceil().long().clamp(1, bins) - 1  # bins are (low, high]
    zeros = torch.zeros(bins, dtype=torch.double, device=confidence.device)
    gap = zeros.index_add(0, index, confidence) - zeros.index_add(0, index, right)
    return gap.abs().sum().item() / max(len(correct), 1)


def fit_temperature(logits: Float[Tensor, "N C"], labels: Int[Tensor, " N"]) -> float:
    """Return the temperature that minimises cross-entropy, within [0.05, 20].

    Cross-entropy is convex in 1 / temperature. Its slope there is the mean logit under the softmax minus the mean logit
    of the labels; the temperature is found where that is zero. Fit it on the selection split: `logits / temperature`
    is then calibrated.

    Args:
        logits: Of one model.
        labels: True class ids.

    Example:
        >>> logits = torch.tensor([[3.0, 0.0]]).expand(4, -1)  # says 95%, is right in 75%
        >>> round(fit_temperature(logits, torch.tensor([0, 0, 0, 1])), 2)
        2.73

    Source: Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017).
    """
    scores = logits.detach().float()
    scores = scores - scores.amax(1, keepdim=True)
    of_labels = float(scores.gather(1, labels[:, None]).double().mean())

    def slope(log_sharpness: float) -> float:
        probs = (scores * math.exp(log_sharpness)).softmax(1)
        return float(torch.linalg.vecdot(probs, scores).double().mean()) - of_labels

    low, high = -math.log(HOTTEST), -math.log(COLDEST)
    if slope(low) >= 0:
        return HOTTEST
    if slope(high) <= 0:
        return COLDEST
    crossing: float = brentq(slope, low, high, xtol=5e-5)
    return math.exp(-crossing)
