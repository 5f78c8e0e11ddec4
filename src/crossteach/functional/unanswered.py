"""Samples that a tutor has no answer to: its row of logits is NaN, and NaN reaches no target and no loss."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def answered(logits: Float[Tensor, "... C"]) -> Bool[Tensor, "..."]:
    """Mark the samples that are answered: a row of NaN is no answer.

    Example:
        >>> answered(torch.tensor([[1.0, 2.0], [float("nan")] * 2]))
        tensor([ True, False])
    """
    return ~logits[..., 0].isnan()


def fill_unanswered(tutors: Float[Tensor, "K N C"]) -> Float[Tensor, "K N C"]:
    """Let a tutor without an answer say what tutor 0 says; where all have answered, they are returned as they are.

    Example:
        >>> fill_unanswered(torch.tensor([[[1.0, 2.0]], [[float("nan")] * 2]]))[1]
        tensor([[1., 2.]])
    """
    said = answered(tutors)
    return tutors if bool(said.all()) else torch.where(said[..., None], tutors, tutors[:1])
