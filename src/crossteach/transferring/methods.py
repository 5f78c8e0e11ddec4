"""The methods by name: which target a sample gets, which losses, which averaging."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..config import ContrastConfig
from ..data.cut import TUNE_SHARE
from ..errors import ConfigError, MissingLabelsError
from ..functional import mixtures, partition, rules, target_logits
from ..functional.contrastive import RepresentationDistillation, SimilarityMatching
from ..functional.judging import FEWEST
from ..functional.label_spaces import keep_unknown
from ..functional.rules import RuleInputs
from ..types import Splits

TargetsAndShares = tuple[Float[Tensor, "N C"], Float[Tensor, "T N"]]
"""Target logits, and what share of each sample each of T taught: the tutors, and last the label; they sum to 1."""

Targets = Callable[[Float[Tensor, "K N C"], Int[Tensor, " N"] | None, RuleInputs], TargetsAndShares]
"""Tutor logits, labels and what else is given to targets, and who they come from."""


@dataclass(frozen=True)
class FeatureLoss:
    """A loss on features, beside cross-entropy with the labels."""

    make: Callable[[int, int, ContrastConfig], nn.Module]
    """Numbers of features of student and teacher to a module of contrastive.py."""
    weight: float
    label_weight: float


def from_partition(rule: rules.Partition) -> Targets:
    """Turn a partition into targets: each sample gets the logits of its tutor."""

    def choose(
        tutors: Float[Tensor, "K N C"], labels: Int[Tensor, " N"] | None, inputs: RuleInputs
    ) -> TargetsAndShares:
        tutor = rule(tutors, labels, inputs)
        return target_logits.targets(keep_unknown(tutors, inputs.known), tutor), _whole(tutor, len(tutors))

    return choose


def from_mixture(rule: rules.Mixture) -> Targets:
    """Turn a mixture into targets: each sample gets the mean of its tutors' probabilities, as log-probabilities."""

    def mix(tutors: Float[Tensor, "K N C"], labels: Int[Tensor, " N"] | None, inputs: RuleInputs) -> TargetsAndShares:
        weights = rule(tutors, labels, inputs)
        return target_logits.mixed_targets(keep_unknown(tutors, inputs.known), weights), F.pad(weights, (0, 0, 0, 1))

    return mix


def frozen_or_label(
    tutors: Float[Tensor, "K N C"], labels: Int[Tensor, " N"] | None, inputs: RuleInputs
) -> TargetsAndShares:
    """Give the frozen student where it is right, else the label, which counts as one more tutor."""
    known = rules.require_labels(labels, "self+labels")
    wrong = tutors[0].argmax(1) != known
    return target_logits.label_targets(tutors[0], known), _whole(wrong.long() * len(tutors), len(tutors))


def _whole(tutor: Int[Tensor, " N"], n_tutors: int) -> Float[Tensor, "T N"]:
    """Give each sample to one tutor whole."""
    return F.one_hot(tutor, n_tutors + 1).T.float()


@dataclass(frozen=True)
class Method:
    """How one method teaches: its targets, the weight of its losses, and whom it asks."""

    targets: Targets | None = None
    """None where no tutor is asked."""
    unlabelled: Targets | None = None
    """Targets of single samples without a label, where `targets` reads labels; None means the same rule."""
    kl_weight: float = 1.0
    """Weight of KL against cross-entropy with the labels."""
    frozen_student: bool = True
    """Whether tutor 0, the frozen student, is asked."""
    teachers: bool = True
    """Whether the teachers are asked."""
    slow_weights: bool = False
    """Whether the student that is returned is the slow average (MCL)."""
    labels: bool = False
    """Whether labels on the transfer set are read."""
    control: bool = False
    """Whether it is a control: a claim of transfer must beat it."""
    margin: bool = False
    """Whether `partition.margin` is read."""
    calibrated: bool = False
    """Whether each tutor's temperature is fitted, with labels, on the tune part of the selection split."""
    judged: bool = False
    """Whether a judge of the tutors is learnt, with labels, on the tune part of the selection split."""
    features: FeatureLoss | None = None
    """What the student's features are pulled towards the teacher's with."""
    by_lot: bool = False
    """Whether tutors are dealt out by lot within a batch, so that no sample's tutor is chosen for itself."""
    random_teachers: bool = False
    """Whether each teacher is replaced by a copy of its architecture with random weights."""
    alpha: float = 1.0
    """How far from the old weights (0) to the trained ones (1) the end of training stands."""


def beside_frozen_student(method: Method) -> Method:
    """Let a method ask the frozen student too: it teaches the samples whose class a teacher does not know."""
    return replace(method, frozen_student=True) if method.teachers and method.targets is not None else method


def _similarities(student: int, teacher: int, config: ContrastConfig) -> nn.Module:
    return SimilarityMatching(config.temperature)


def _representations(student: int, teacher: int, config: ContrastConfig) -> nn.Module:
    return RepresentationDistillation(student, teacher, config.width, config.negatives, config.temperature)


_supervised = from_partition(partition.supervised)
_unsupervised = from_partition(partition.unsupervised)
_teacher = from_partition(partition.teacher_only)
_frozen = from_partition(partition.frozen_student_only)
_learned = from_mixture(mixtures.learned)
_shuffled = from_partition(partition.shuffled)

METHODS: dict[str, Method] = {
    "kl": Method(_teacher, frozen_student=False),
    "xe-kl": Method(_teacher, kl_weight=0.5, frozen_student=False, labels=True),
    "xe-kl+mcl": Method(_teacher, kl_weight=0.68, frozen_student=False, slow_weights=True, labels=True),
    "kl+dp": Method(_supervised, _unsupervised, labels=True, margin=True),
    "kl+dp-unsupervised": Method(_unsupervised, margin=True),
    "kl+dp-calibrated": Method(from_partition(partition.calibrated), margin=True, calibrated=True),
    "kl+dp-flips": Method(from_partition(partition.on_positive_flips), _unsupervised, labels=True),
    "kl+dp-not-negative": Method(from_partition(partition.off_negative_flips), _unsupervised, labels=True),
    "kl+dp-flips-mean": Method(from_mixture(mixtures.flips_or_mean), from_mixture(mixtures.uniform), labels=True),
    "kl+dp-soft": Method(from_mixture(mixtures.soft)),
    "kl+dp-learned": Method(_learned, judged=True),
    "xe+dp-learned": Method(_supervised, _learned, 0.5, labels=True, margin=True, judged=True),
    "xe+dp": Method(_supervised, _unsupervised, 0.5, labels=True, margin=True),
    "cd": Method(kl_weight=0.0, frozen_student=False, labels=True, features=FeatureLoss(_similarities, 10.0, 0.1)),
    "crd": Method(kl_weight=0.0, frozen_student=False, labels=True, features=FeatureLoss(_representations, 0.8, 1.0)),
    "self": Method(_frozen, teachers=False, control=True),
    "xe": Method(kl_weight=0.0, frozen_student=False, teachers=False, labels=True, control=True),
    "self+labels": Method(frozen_or_label, _frozen, teachers=False, labels=True, control=True),
    "wise-ft": Method(kl_weight=0.0, frozen_student=False, teachers=False, labels=True, control=True, alpha=0.5),
    "kl+ensemble": Method(from_mixture(mixtures.uniform), control=True),
    "kl+dp-random": Method(_shuffled, _shuffled, labels=True, control=True, margin=True, by_lot=True),
    "kl+dp-random-teacher": Method(
        _supervised, _unsupervised, labels=True, control=True, margin=True, random_teachers=True
    ),
}
"""Every method by name; `+mcl` behind any of them returns its slow weights, see `find_method`."""

SLOW = "+mcl"
AUTO = ("auto", f"auto{SLOW}")
"""Names that take the default for the data."""
DEFAULT_WITH_LABELS = "xe+dp"
DEFAULT_WITHOUT_LABELS = "kl+dp-unsupervised"
LEARNT = {DEFAULT_WITH_LABELS: "xe+dp-learned", DEFAULT_WITHOUT_LABELS: "kl+dp-learned"}
"""What the defaults become where a pool teaches and labels tell who of the tutors is right."""


def find_method(name: str) -> Method:
    """Find a method by its name, with or without `+mcl` behind it.

    Example:
        >>> find_method("kl+dp+mcl").slow_weights, find_method("kl+dp").slow_weights
        (True, False)

    Raises:
        ConfigError: If there is no such method.
    """
    if name in METHODS:
        return METHODS[name]
    method = METHODS.get(name.removesuffix(SLOW))
    if method is None or method.slow_weights:
        known = ", ".join(METHODS)
        raise ConfigError(f"unknown method {name!r}; expected auto or one of {known}; {SLOW} may follow")
    return replace(method, slow_weights=True)


def choose_method(name: str, data: Splits, share: float) -> tuple[str, Method]:
    """Find a method; `auto` is the default for these data.

    Args:
        name: Of the method, or `auto`.
        data: Say whether train has labels, and whether there is a pool and a selection split that tells who is right.
        share: Of the pools in a batch (`pool.share`): where they fill it whole, train teaches nothing.

    Raises:
        ConfigError: If there is no such method.
        MissingLabelsError: If it reads labels and there are none.
    """
    labelled = data.has_train_labels and not (data.pools and share == 1)
    if name in AUTO:
        default = DEFAULT_WITH_LABELS if labelled else DEFAULT_WITHOUT_LABELS
        name = name.replace("auto", LEARNT[default] if data.pools and tuned_labels(data) >= FEWEST else default)
    method = find_method(name)
    if method.labels and data.has_train_labels and not labelled:
        raise MissingLabelsError(
            f"method {name!r} needs labels, but with pool.share=1 only pools teach; lower pool.share, or use "
            "kl+dp-unsupervised, kl or self"
        )
    if method.labels and not labelled:
        raise MissingLabelsError(
            f"method {name!r} needs labels on the transfer set, which has none; use kl+dp-unsupervised, kl or self"
        )
    return name, method


def tuned_labels(data: Splits) -> int:
    """Return about how many labelled samples the tune part of the selection split has."""
    return 0 if data.selection.labels is None else round(TUNE_SHARE * len(data.selection))
