"""Who teaches which sample: tutor logits to a tutor index, or to tutor weights. Tutor 0 is the frozen student.

Every rule has one shape, ``(tutors, labels, inputs)``. A `Partition` gives each sample to one tutor; a `Mixture` gives
each tutor a share of it. A rule ignores what it does not read.

Source: Roth et al., "Fantastic Gains" (ICLR 2024), section 4.2, "data partitioning".
"""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..errors import ConfigError, MissingLabelsError
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


def flips_or_mean(
    tutors: Float[Tensor, "K N C"], labels: Int[Tensor, " N"] | None, inputs: RuleInputs = NO_INPUTS
) -> Float[Tensor, "K N"]:
    """Weigh the teacher alone on positive flips, the frozen student alone on negative flips, both alike elsewhere.

    With several teachers: where the frozen student is wrong, the most confident of the right teachers has all the
    weight; if all are wrong, all tutors weigh alike. Where the frozen student is right, all right tutors weigh alike.

    Args:
        tutors: Logits; tutor 0 is the frozen student.
        labels: True class ids.
        inputs: Which classes each tutor knows; nothing else is read.

    Raises:
        MissingLabelsError: Without labels.

    Example:
        >>> flips_or_mean(torch.tensor([[[2.0, 0.0]], [[0.0, 2.0]]]), torch.tensor([1]))
        tensor([[0.],
                [1.]])
    """
    labels = require_labels(labels, "the partition by flips")
    right, knows = _right(tutors, labels, inputs), who_knows(tutors, labels, inputs)
    teacher = on_positive_flips(tutors, labels, inputs)
    alike = (right | ~right[0] if knows is None else (right | ~right[0]) & knows).to(tutors.dtype)
    alone = F.one_hot(teacher, len(tutors)).T.to(tutors.dtype)
    return torch.where(teacher > 0, alone, alike / alike.sum(0))


def _right(tutors: Float[Tensor, "K N C"], labels: Int[Tensor, " N"], inputs: RuleInputs) -> Bool[Tensor, "K N"]:
    """Mark what each tutor has right; of a class that it does not know it has nothing right."""
    right, knows = tutors.argmax(2) == labels, who_knows(tutors, labels, inputs)
    return right if knows is None else right & knows


def soft(
    tutors: Float[Tensor, "K N C"], labels: Int[Tensor, " N"] | None = None, inputs: RuleInputs = NO_INPUTS
) -> Float[Tensor, "K N"]:
    """Weigh each tutor by the odds p / (1−p) of its confidence p, its highest probability; no label is read.

    This stands between the hard choice, which ignores all tutors but one, and the ensemble, which ignores how sure
    each is. Weights of p itself would hardly differ from the ensemble, since most confidences are high. Odds above
    e^10000 count as e^10000.

    Args:
        tutors: Logits; tutor 0 is the frozen student.
        labels: Read only where a tutor does not know all classes.
        inputs: Which classes each tutor knows; nothing else is read.

    Example:
        >>> soft(torch.tensor([[[0.5, 0.5]], [[0.25, 0.75]]]).log())
        tensor([[0.2500],
                [0.7500]])
    """
    log_probs = tutors.log_softmax(-1)
    best = log_probs.max(-1, keepdim=True)
    others = log_probs.scatter(2, best.indices, -math.inf).logsumexp(-1)
    odds = (best.values.squeeze(-1) - others).clamp(max=1e4)
    return _of_knowing(odds, who_knows(tutors, labels, inputs)).softmax(0)


def learned(
    tutors: Float[Tensor, "K N C"], labels: Int[Tensor, " N"] | None = None, inputs: RuleInputs = NO_INPUTS
) -> Float[Tensor, "K N"]:
    """Weigh each tutor by the square root of its odds of being right, as a judge has learnt to tell them.

    A sure choice would follow every error of the judge; the root keeps the other tutors in the mean where it is not
    sure.

    Args:
        tutors: Logits; tutor 0 is the frozen student.
        labels: Read only where a tutor does not know all classes: the judge has read those of other samples.
        inputs: Its judge, who has learnt on the answers of the same tutors in the same order.

    Raises:
        ConfigError: Without a judge, or with one of other tutors.

    Source: ours; docs/method.md has the figures.
    """
    if inputs.judge is None or len(inputs.judge.bias) != len(tutors):
        known = "none" if inputs.judge is None else f"one of {len(inputs.judge.bias)}"
        raise ConfigError(
            f"the learned partition needs a judge of these {len(tutors)} tutors and {known} is given; learn one with "
            "fit_judge, and pass RuleInputs(judge=...)"
        )
    return _of_knowing(0.5 * inputs.judge(tutors), who_knows(tutors, labels, inputs)).softmax(0)


def uniform(
    tutors: Float[Tensor, "K N C"], labels: Int[Tensor, " N"] | None = None, inputs: RuleInputs = NO_INPUTS
) -> Float[Tensor, "K N"]:
    """Weigh all tutors alike that know the class: the mean-probability ensemble.

    Example:
        >>> uniform(torch.zeros(2, 1, 3))
        tensor([[0.5000],
                [0.5000]])
    """
    knows = who_knows(tutors, labels, inputs)
    return torch.full_like(tutors[..., 0], 1 / len(tutors)) if knows is None else knows / knows.sum(0)


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


CERTAIN = 1e4
"""Logit gap of a one-hot target: at any temperature its softmax is exactly 0 and 1 in float32."""


def require_labels(labels: Int[Tensor, " N"] | None, what: str) -> Int[Tensor, " N"]:
    """Return the labels, or raise MissingLabelsError naming what needs them."""
    if labels is None:
        raise MissingLabelsError(
            f"{what} needs labels on the transfer set, which has none; use kl+dp-unsupervised, or give labels"
        )
    return labels
