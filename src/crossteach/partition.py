"""Who teaches which sample: tutor logits to a tutor index. Tutor 0 is the frozen student.

Source: Roth et al., "Fantastic Gains" (ICLR 2024), section 4.2, "data partitioning".
"""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .errors import MissingLabelsError


@runtime_checkable
class Partition(Protocol):
    """A rule that gives each sample to one tutor."""

    def __call__(self, tutors: Float[Tensor, "K N C"], labels: Int[Tensor, " N"] | None) -> Int[Tensor, " N"]:
        """Return the tutor of each sample."""
        ...


def _first_best(scores: Float[Tensor, "K N"]) -> Int[Tensor, " N"]:
    """Return the first tutor that reaches the highest score: the frozen student wins every tie it is in."""
    return (scores == scores.max(0).values).to(torch.int8).argmax(0)


def supervised(tutors: Float[Tensor, "K N C"], labels: Int[Tensor, " N"] | None) -> Int[Tensor, " N"]:
    """Give each sample to the tutor with the highest probability of the right class.

    Args:
        tutors: Logits; tutor 0 is the frozen student, and wins ties.
        labels: True class ids.

    Raises:
        MissingLabelsError: Without labels.

    Example:
        >>> supervised(torch.tensor([[[2.0, 0.0]], [[0.0, 2.0]]]), torch.tensor([1]))
        tensor([1])
    """
    labels = require_labels(labels, "the supervised partition")
    log_probs = tutors.log_softmax(-1)
    right = log_probs.gather(2, labels.expand(len(tutors), -1)[..., None]).squeeze(-1)
    return _first_best(right)


def unsupervised(tutors: Float[Tensor, "K N C"], labels: Int[Tensor, " N"] | None = None) -> Int[Tensor, " N"]:
    """Give each sample to the tutor that is most confident in whatever class; no label is read.

    Example:
        >>> unsupervised(torch.tensor([[[2.0, 0.0]], [[0.0, 3.0]]]))
        tensor([1])
    """
    return _first_best(tutors.log_softmax(-1).max(-1).values)


def teacher_only(tutors: Float[Tensor, "K N C"], labels: Int[Tensor, " N"] | None = None) -> Int[Tensor, " N"]:
    """Give every sample to the last tutor: plain distillation."""
    return torch.full((tutors.shape[1],), len(tutors) - 1, dtype=torch.long, device=tutors.device)


def frozen_student_only(tutors: Float[Tensor, "K N C"], labels: Int[Tensor, " N"] | None = None) -> Int[Tensor, " N"]:
    """Give every sample to the frozen student: the self-transfer control."""
    return torch.zeros(tutors.shape[1], dtype=torch.long, device=tutors.device)


def targets(tutors: Float[Tensor, "K N C"], tutor: Int[Tensor, " N"]) -> Float[Tensor, "N C"]:
    """Pick each sample's logits from its tutor."""
    return tutors.gather(0, tutor[None, :, None].expand(1, -1, tutors.shape[2])).squeeze(0)


def label_targets(frozen: Float[Tensor, "N C"], labels: Int[Tensor, " N"] | None) -> Float[Tensor, "N C"]:
    """Return the frozen student's logits where it is right, and the label (as one-hot logits) elsewhere.

    The partition without a teacher: the control `self+labels`.
    """
    labels = require_labels(labels, "self+labels")
    one_hot = torch.full_like(frozen, -CERTAIN).scatter_(1, labels[:, None], 0.0)
    return torch.where((frozen.argmax(1) == labels)[:, None], frozen, one_hot)


CERTAIN = 1e4
"""Logit gap of a one-hot target: at any temperature its softmax is exactly 0 and 1 in float32."""


def require_labels(labels: Int[Tensor, " N"] | None, who: str) -> Int[Tensor, " N"]:
    """Return the labels, or raise MissingLabelsError naming who needs them."""
    if labels is None:
        raise MissingLabelsError(
            f"{who} needs labels on the transfer set, which has none; use kl+dp-unsupervised, or give labels"
        )
    return labels
