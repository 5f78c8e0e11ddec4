"""How far a student is from what it is taught. Every loss takes logits; targets carry no gradient."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..errors import ConfigError, MissingLabelsError


def kl_divergence(
    student: Float[Tensor, "N C"], target: Float[Tensor, "N C"], temperature: float = 1.0
) -> Float[Tensor, ""]:
    """Return T²/n · Σ KL(softmax(target / T) ‖ softmax(student / T)), in nats.

    Args:
        student: Logits of the student in training.
        target: Logits of each sample's tutor, without gradient.
        temperature: Above 1 it softens both.

    Example:
        >>> kl_divergence(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0]])).item()
        0.0

    Source: Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network" (2015).
    """
    student_log_probs = F.log_softmax(student / temperature, dim=1)
    target_log_probs = F.log_softmax(target.detach() / temperature, dim=1)
    divergence = F.kl_div(student_log_probs, target_log_probs, reduction="batchmean", log_target=True)
    return divergence * temperature**2


def top_kl_divergence(
    student: Float[Tensor, "N C"], target: Float[Tensor, "N C"], top: int, temperature: float = 1.0
) -> Float[Tensor, ""]:
    """Return the KL divergence over the target's `top` largest classes, with all others added up to one more class.

    The student is told how probable the rest is, not how it is spread. Adding up classes only loses information, so
    that this is never more than `kl_divergence`; with all classes it is the same.

    Args:
        student: Logits of the student in training.
        target: Logits of each sample's tutor, without gradient; they say which classes are the largest.
        top: How many classes are kept apart, from 1; C or more keeps all.
        temperature: Applied before the classes are chosen and added up.

    Example:
        >>> top_kl_divergence(torch.tensor([[3.0, 2.0, 0.0]]), torch.tensor([[3.0, 0.0, 2.0]]), 1).item()
        0.0
    """
    if top >= student.shape[1]:
        return kl_divergence(student, target, temperature)
    target_log_probs = F.log_softmax(target.detach() / temperature, dim=1)
    largest = target_log_probs.topk(top, dim=1).indices
    student_parts = _with_tail(F.log_softmax(student / temperature, dim=1), largest)
    target_parts = _with_tail(target_log_probs, largest)
    return F.kl_div(student_parts, target_parts, reduction="batchmean", log_target=True) * temperature**2


def _with_tail(log_probs: Float[Tensor, "N C"], kept: Int[Tensor, "N top"]) -> Float[Tensor, "N top+1"]:
    """Pick the kept classes and append the logarithm of what the others add up to."""
    tail = log_probs.scatter(1, kept, -math.inf).logsumexp(1, keepdim=True)
    return torch.cat([log_probs.gather(1, kept), tail], dim=1)


def cross_entropy(student: Float[Tensor, "N C"], labels: Int[Tensor, " N"]) -> Float[Tensor, ""]:
    """Return the mean cross-entropy of logits against labels, in nats.

    Args:
        student: Logits of the student in training.
        labels: True class ids; samples of the label −100 do not count.

    Example:
        >>> round(cross_entropy(torch.zeros(1, 2), torch.tensor([0])).item(), 3)
        0.693
    """
    return F.cross_entropy(student, labels)


def mixed(
    student: Float[Tensor, "N C"],
    target: Float[Tensor, "N C"] | None,
    labels: Int[Tensor, " N"] | None,
    kl_weight: float,
    temperature: float = 1.0,
    top_classes: int | None = None,
    shown: Bool[Tensor, " C"] | None = None,
) -> Float[Tensor, ""]:
    """Return λ·KL + (1−λ)·cross-entropy; what has no weight is not computed.

    Args:
        student: Logits of the student in training.
        target: Tutor logits; may be None where `kl_weight` is 0.
        labels: Class ids; may be None where `kl_weight` is 1.
        kl_weight: λ in [0, 1].
        temperature: Of the KL term.
        top_classes: How many of the target's largest classes the KL term keeps apart; None is all.
        shown: The classes that cross-entropy compares, those of all labels among them; None is all.

    Raises:
        ConfigError: If the KL term has a weight and there are no targets.
        MissingLabelsError: If cross-entropy has a weight and there are no labels.

    Example:
        >>> logits, labels = torch.zeros(1, 2), torch.tensor([0])
        >>> round(mixed(logits, torch.zeros(1, 2), labels, kl_weight=0.5).item(), 3)
        0.347
    """
    terms = []
    if kl_weight > 0:
        if target is None:
            raise ConfigError(f"kl_weight={kl_weight:g} needs targets and none are given; give logits, or kl_weight=0")
        top = student.shape[1] if top_classes is None else top_classes
        terms.append(kl_weight * top_kl_divergence(student, target, top, temperature))
    if kl_weight < 1:
        if labels is None:
            raise MissingLabelsError(
                f"kl_weight={kl_weight:g} needs labels and none are given; give class ids, or kl_weight=1"
            )
        compared = student if shown is None else student.masked_fill(~shown, -math.inf)
        terms.append((1 - kl_weight) * cross_entropy(compared, labels))
    return torch.stack(terms).sum()
