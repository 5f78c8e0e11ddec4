"""What the rules share that say who teaches which sample: their shape, what they may read, who knows a class.

Every rule has one shape, ``(tutors, labels, inputs)``. A `Partition` gives each sample to one tutor; a `Mixture` gives
each tutor a share of it. Tutor 0 is the frozen student. A rule ignores what it does not read.
"""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..errors import MissingLabelsError
from .judging import Judge
from .unanswered import answered


@dataclass(frozen=True)
class RuleInputs:
    """What a rule may read beside the tutors' answers and the labels."""

    margin: float = 0.0
    """By how much a teacher's probability must exceed the frozen student's; 0 is the paper's rule."""
    temperatures: tuple[float, ...] | None = None
    """Of each tutor: its logits divided by it are calibrated."""
    chance: Float[Tensor, " N"] | None = None
    """A uniform number in [0, 1) for each sample."""
    judge: Judge | None = None
    """What was learnt of who is right; see `fit_judge`."""
    known: Bool[Tensor, "K C"] | None = None
    """Which classes each tutor knows; None is all. Tutor 0 knows all. No other tutor is given a sample whose class it
    does not know: the label, or without labels what the frozen student answers."""


NO_INPUTS = RuleInputs()


@runtime_checkable
class Partition(Protocol):
    """A rule that gives each sample to one tutor."""

    def __call__(
        self, tutors: Float[Tensor, "K N C"], labels: Int[Tensor, " N"] | None, inputs: RuleInputs = NO_INPUTS
    ) -> Int[Tensor, " N"]:
        """Return the tutor of each sample."""
        ...


@runtime_checkable
class Mixture(Protocol):
    """A rule that gives each tutor a share of each sample."""

    def __call__(
        self, tutors: Float[Tensor, "K N C"], labels: Int[Tensor, " N"] | None, inputs: RuleInputs = NO_INPUTS
    ) -> Float[Tensor, "K N"]:
        """Return the weight of each tutor on each sample; the weights of a sample sum to 1."""
        ...


def who_knows(
    tutors: Float[Tensor, "K N C"], labels: Int[Tensor, " N"] | None, inputs: RuleInputs
) -> Bool[Tensor, "K N"] | None:
    """Mark the tutors that know the class of each sample and have answered; None where all know and answer all.

    Args:
        tutors: Logits; tutor 0 is the frozen student, whose answer is the class of samples without labels. A row of NaN
            is no answer.
        labels: Class ids.
        inputs: Which classes each tutor knows.

    Example:
        >>> tutors = torch.tensor([[[2.0, 0.0], [0.0, 2.0]], [[0.0, 3.0], [0.0, 3.0]]])
        >>> who_knows(tutors, None, RuleInputs(known=torch.tensor([[True, True], [False, True]])))
        tensor([[ True,  True],
                [False,  True]])
    """
    said = answered(tutors)
    if inputs.known is None:
        return None if bool(said.all()) else said
    return said & inputs.known.to(tutors.device)[:, tutors[0].argmax(1) if labels is None else labels]


def _of_knowing(scores: Float[Tensor, "K N"], knows: Bool[Tensor, "K N"] | None) -> Float[Tensor, "K N"]:
    """Let no tutor win a sample whose class it does not know."""
    return scores if knows is None else scores.masked_fill(~knows, -math.inf)


def _right(tutors: Float[Tensor, "K N C"], labels: Int[Tensor, " N"], inputs: RuleInputs) -> Bool[Tensor, "K N"]:
    """Mark what each tutor has right; of a class that it does not know it has nothing right."""
    right, knows = tutors.argmax(2) == labels, who_knows(tutors, labels, inputs)
    return right if knows is None else right & knows


def require_labels(labels: Int[Tensor, " N"] | None, what: str) -> Int[Tensor, " N"]:
    """Return the labels, or raise MissingLabelsError naming what needs them."""
    if labels is None:
        raise MissingLabelsError(
            f"{what} needs labels on the transfer set, which has none; use kl+dp-unsupervised, or give labels"
        )
    return labels
