"""Who teaches which sample: tutor logits to a tutor index. Tutor 0 is the frozen student.

`rules.py` says what all rules share.

Source: Roth et al., "Fantastic Gains" (ICLR 2024), section 4.2, "data partitioning".
"""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..errors import ConfigError
from .rules import (
    NO_INPUTS,
    RuleInputs,
    _of_knowing,
    _right,
    require_labels,
    who_knows,
)


def _first_best(scores: Float[Tensor, "K N"]) -> Int[Tensor, " N"]:
    """Return the first tutor that reaches the highest score: the frozen student wins every tie it is in."""
    return (scores == scores.max(0).values).to(torch.int8).argmax(0)


def _best(log_probs: Float[Tensor, "K N"], margin: float) -> Int[Tensor, " N"]:
    """Return the best tutor where its probability exceeds the frozen student's by more than the margin, else 0."""
    best = _first_best(log_probs)
    if margin == 0:  # logarithms tell apart what rounds to equal probabilities
        return best
    probs = log_probs.exp()
    ahead = probs.gather(0, best[None]).squeeze(0) - probs[0] > margin
    return torch.where(ahead, best, 0)


def _of_right_class(tutors: Float[Tensor, "K N C"], labels: Int[Tensor, " N"]) -> Float[Tensor, "K N"]:
    """Return each tutor's log-probability of the right class."""
    return tutors.log_softmax(-1).gather(2, labels.expand(len(tutors), -1)[..., None]).squeeze(-1)


def supervised(
    tutors: Float[Tensor, "K N C"], labels: Int[Tensor, " N"] | None, inputs: RuleInputs = NO_INPUTS
) -> Int[Tensor, " N"]:
    """Give each sample to the tutor with the highest probability of the right class.

    Args:
        tutors: Logits; tutor 0 is the frozen student, and wins ties.
        labels: True class ids.
        inputs: Its margin: the best teacher must be ahead of the frozen student by more than it.

    Raises:
        MissingLabelsError: Without labels.

    Example:
        >>> supervised(torch.tensor([[[2.0, 0.0]], [[0.0, 2.0]]]), torch.tensor([1]))
        tensor([1])
    """
    labels = require_labels(labels, "the supervised partition")
    scores = _of_knowing(_of_right_class(tutors, labels), who_knows(tutors, labels, inputs))
    return _best(scores, inputs.margin)


def unsupervised(
    tutors: Float[Tensor, "K N C"], labels: Int[Tensor, " N"] | None = None, inputs: RuleInputs = NO_INPUTS
) -> Int[Tensor, " N"]:
    """Give each sample to the tutor that is most confident in any class; no label is read.

    Args:
        tutors: Logits; tutor 0 is the frozen student, and wins ties.
        labels: Read only where a tutor does not know all classes.
        inputs: Its margin: the best teacher must be ahead of the frozen student by more than it.

    Example:
        >>> unsupervised(torch.tensor([[[2.0, 0.0]], [[0.0, 3.0]]]))
        tensor([1])
    """
    scores = _of_knowing(tutors.log_softmax(-1).max(-1).values, who_knows(tutors, labels, inputs))
    return _best(scores, inputs.margin)


def calibrated(
    tutors: Float[Tensor, "K N C"], labels: Int[Tensor, " N"] | None = None, inputs: RuleInputs = NO_INPUTS
) -> Int[Tensor, " N"]:
    """Give each sample to the tutor whose calibrated confidence is highest; no label of these samples is read.

    The temperatures decide who teaches; the target is then that tutor's logits as they are.

    Args:
        tutors: Logits; tutor 0 is the frozen student, and wins ties.
        labels: Read only where a tutor does not know all classes.
        inputs: Its temperatures, one for each tutor, and its margin, of calibrated confidences.

    Raises:
        ConfigError: Without a temperature for each tutor.

    Example:
        >>> calibrated(torch.tensor([[[2.0, 0.0]], [[0.0, 3.0]]]), None, RuleInputs(temperatures=(1.0, 4.0)))
        tensor([0])
    """
    if inputs.temperatures is None or len(inputs.temperatures) != len(tutors):
        raise ConfigError(
            f"calibrated confidence needs a temperature for each of the {len(tutors)} tutors, not "
            f"{inputs.temperatures}; find each with fit_temperature, and pass RuleInputs(temperatures=(...))"
        )
    heat = torch.tensor(inputs.temperatures, dtype=tutors.dtype, device=tutors.device)
    return unsupervised(tutors / heat[:, None, None], labels, inputs)


def on_positive_flips(
    tutors: Float[Tensor, "K N C"], labels: Int[Tensor, " N"] | None, inputs: RuleInputs = NO_INPUTS
) -> Int[Tensor, " N"]:
    """Give a sample to a teacher only where that is right and the frozen student is wrong.

    Of several right teachers the most confident one teaches.

    Args:
        tutors: Logits; tutor 0 is the frozen student.
        labels: True class ids.
        inputs: Which classes each tutor knows; nothing else is read.

    Raises:
        MissingLabelsError: Without labels.

    Example:
        >>> on_positive_flips(torch.tensor([[[2.0, 0.0]], [[0.0, 2.0]]]), torch.tensor([1]))
        tensor([1])
    """
    labels = require_labels(labels, "the partition by flips")
    right = _right(tutors, labels, inputs)
    return _first_best(_of_right_class(tutors, labels).masked_fill(~right | right[0], -math.inf))


def off_negative_flips(
    tutors: Float[Tensor, "K N C"], labels: Int[Tensor, " N"] | None, inputs: RuleInputs = NO_INPUTS
) -> Int[Tensor, " N"]:
    """Give a sample to a teacher, but for those where the frozen student is right and the teacher wrong.

    Of several right teachers the most confident one teaches. Where all tutors are wrong, the teacher with the highest
    probability of the right class teaches.

    Args:
        tutors: Logits; tutor 0 is the frozen student.
        labels: True class ids.
        inputs: Which classes each tutor knows; nothing else is read.

    Raises:
        MissingLabelsError: Without labels.

    Example:
        >>> off_negative_flips(torch.tensor([[[2.0, 0.0]], [[0.0, 2.0]]]), torch.tensor([0]))
        tensor([0])
    """
    labels = require_labels(labels, "the partition by flips")
    right = _right(tutors, labels, inputs)
    fit = torch.where(right[1:].any(0), right, ~right[0])
    fit[0] = False
    scores = _of_right_class(tutors, labels).masked_fill(~fit, -math.inf)
    return _first_best(_of_knowing(scores, who_knows(tutors, labels, inputs)))


def shuffled(
    tutors: Float[Tensor, "K N C"], labels: Int[Tensor, " N"] | None, inputs: RuleInputs = NO_INPUTS
) -> Int[Tensor, " N"]:
    """Choose tutors by chance; each tutor gets as many samples of the batch as the real partition gives it.

    That is the supervised one, and without labels the unsupervised one.

    Counts are kept in every batch, so they are also kept over a whole training. Which samples a tutor gets depends on
    `inputs.chance`, a number that belongs to a sample and its view. Samples are sorted by it and dealt out: first those
    of tutor 0, then those of tutor 1, and so on. Where batches have about the same counts, a view has the same tutor in
    nearly every batch, as under a real partition. Where a tutor is dealt a class that it does not know, the frozen
    student has the sample.

    Args:
        tutors: Logits; tutor 0 is the frozen student.
        labels: True class ids, or None.
        inputs: Its chance, a uniform number in [0, 1) for each sample, and its margin.

    Raises:
        ConfigError: Without chance.

    Example:
        >>> tutors = torch.tensor([[[2.0, 0.0], [2.0, 0.0]], [[0.0, 2.0], [0.0, 2.0]]])
        >>> shuffled(tutors, torch.tensor([0, 1]), RuleInputs(chance=torch.tensor([0.9, 0.1])))
        tensor([1, 0])
    """
    if inputs.chance is None:
        raise ConfigError(
            "a choice by chance needs a uniform number for each sample and none is given; "
            f"pass RuleInputs(chance=torch.rand({tutors.shape[1]}))"
        )
    rule = unsupervised if labels is None else supervised
    dealt = rule(tutors, labels, inputs).sort().values
    drawn = torch.empty_like(dealt).scatter_(0, inputs.chance.to(dealt.device).argsort(stable=True), dealt)
    return _or_frozen(drawn, who_knows(tutors, labels, inputs))


def _or_frozen(tutor: Int[Tensor, " N"], knows: Bool[Tensor, "K N"] | None) -> Int[Tensor, " N"]:
    """Give a sample to the frozen student where its tutor does not know the class."""
    return tutor if knows is None else torch.where(knows.gather(0, tutor[None]).squeeze(0), tutor, 0)


def teacher_only(
    tutors: Float[Tensor, "K N C"], labels: Int[Tensor, " N"] | None = None, inputs: RuleInputs = NO_INPUTS
) -> Int[Tensor, " N"]:
    """Give every sample whose class it knows to the last tutor: plain distillation.

    Where that does not know all classes, tutor 0 is the frozen student and has the others.

    Example:
        >>> teacher_only(torch.zeros(2, 3, 4))
        tensor([1, 1, 1])
    """
    last = torch.full((tutors.shape[1],), len(tutors) - 1, dtype=torch.long, device=tutors.device)
    return _or_frozen(last, who_knows(tutors, labels, inputs))


def frozen_student_only(
    tutors: Float[Tensor, "K N C"], labels: Int[Tensor, " N"] | None = None, inputs: RuleInputs = NO_INPUTS
) -> Int[Tensor, " N"]:
    """Give every sample to the frozen student: the self-transfer control.

    Example:
        >>> frozen_student_only(torch.zeros(2, 3, 4))
        tensor([0, 0, 0])
    """
    return torch.zeros(tutors.shape[1], dtype=torch.long, device=tutors.device)
