"""What a chosen tutor, or a mixture of tutors, teaches: tutor logits to target logits."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .rules import require_labels

CERTAIN = 1e4
"""Logit gap of a one-hot target: at any temperature its softmax is exactly 0 and 1 in float32."""


def targets(tutors: Float[Tensor, "K N C"], tutor: Int[Tensor, " N"]) -> Float[Tensor, "N C"]:
    """Pick each sample's logits from its tutor.

    Args:
        tutors: Logits of each tutor.
        tutor: The tutor of each sample, as a `Partition` returns it.

    Example:
        >>> targets(torch.tensor([[[1.0, 2.0]], [[3.0, 4.0]]]), torch.tensor([1]))
        tensor([[3., 4.]])
    """
    return tutors.gather(0, tutor[None, :, None].expand(1, -1, tutors.shape[2])).squeeze(0)


def mixed_targets(tutors: Float[Tensor, "K N C"], weights: Float[Tensor, "K N"]) -> Float[Tensor, "N C"]:
    """Return the logarithm of the weighted mean of the tutors' probabilities: logits whose softmax is that mean.

    The mean is taken at temperature 1; a temperature of the loss softens the mean.

    Args:
        tutors: Logits of each tutor.
        weights: Of each tutor on each sample, as a `Mixture` returns them; those of a sample sum to 1.

    Example:
        >>> mixed_targets(torch.tensor([[[0.5, 0.5]], [[0.1, 0.9]]]).log(), torch.tensor([[0.5], [0.5]])).exp()
        tensor([[0.3000, 0.7000]])
    """
    return torch.logsumexp(tutors.log_softmax(-1) + weights.log()[..., None], 0)


def label_targets(frozen: Float[Tensor, "N C"], labels: Int[Tensor, " N"] | None) -> Float[Tensor, "N C"]:
    """Return the frozen student's logits where it is right, and the label (as one-hot logits) elsewhere.

    The partition without a teacher: the control `self+labels`.

    Args:
        frozen: Logits of the frozen student.
        labels: True class ids.

    Raises:
        MissingLabelsError: Without labels.

    Example:
        >>> label_targets(torch.tensor([[2.0, 1.0]]), torch.tensor([1])).softmax(1)
        tensor([[0., 1.]])
    """
    labels = require_labels(labels, "self+labels")
    one_hot = torch.full_like(frozen, -CERTAIN).scatter_(1, labels[:, None], 0.0)
    return torch.where((frozen.argmax(1) == labels)[:, None], frozen, one_hot)
