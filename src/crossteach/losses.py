"""What the student is pulled towards. Every loss takes logits; targets carry no gradient."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


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


def cross_entropy(student: Float[Tensor, "N C"], labels: Int[Tensor, " N"]) -> Float[Tensor, ""]:
    """Return the mean cross-entropy of logits against labels, in nats."""
    return F.cross_entropy(student, labels)


def mixed(
    student: Float[Tensor, "N C"],
    target: Float[Tensor, "N C"] | None,
    labels: Int[Tensor, " N"] | None,
    kl_weight: float,
    temperature: float = 1.0,
) -> Float[Tensor, ""]:
    """Return λ·KL + (1−λ)·cross-entropy; what has no weight is not computed.

    Args:
        student: Logits of the student in training.
        target: Tutor logits; may be None where `kl_weight` is 0.
        labels: Class ids; may be None where `kl_weight` is 1.
        kl_weight: λ in [0, 1].
        temperature: Of the KL term.
    """
    terms = []
    if kl_weight > 0:
        assert target is not None, "a KL term needs targets"
        terms.append(kl_weight * kl_divergence(student, target, temperature))
    if kl_weight < 1:
        assert labels is not None, "a cross-entropy term needs labels"
        terms.append((1 - kl_weight) * cross_entropy(student, labels))
    return torch.stack(terms).sum()
