"""What each method name means: which target a sample gets, which losses, which averaging."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from . import partition
from .errors import ConfigError, MissingLabelsError

Targets = Callable[[Float[Tensor, "K N C"], Int[Tensor, " N"] | None], tuple[Float[Tensor, "N C"], Int[Tensor, " N"]]]
"""Tutor logits and labels to target logits and the tutor each came from."""


def from_partition(rule: partition.Partition) -> Targets:
    """Turn a partition into targets: each sample gets the logits of its tutor."""

    def choose(
        tutors: Float[Tensor, "K N C"], labels: Int[Tensor, " N"] | None
    ) -> tuple[Float[Tensor, "N C"], Int[Tensor, " N"]]:
        tutor = rule(tutors, labels)
        return partition.targets(tutors, tutor), tutor

    return choose


def frozen_or_label(
    tutors: Float[Tensor, "K N C"], labels: Int[Tensor, " N"] | None
) -> tuple[Float[Tensor, "N C"], Int[Tensor, " N"]]:
    """Give the frozen student where it is right, else the label, which counts as one more tutor."""
    known = partition.require_labels(labels, "self+labels")
    wrong = tutors[0].argmax(1) != known
    return partition.label_targets(tutors[0], known), wrong.long() * len(tutors)


@dataclass(frozen=True)
class Method:
    """One way to teach."""

    targets: Targets | None = None
    """None where no tutor is asked."""
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

    @property
    def is_control(self) -> bool:
        """Whether the method works without any teacher."""
        return not self.teachers


METHODS: dict[str, Method] = {
    "kl": Method(from_partition(partition.teacher_only), 1.0, False),
    "xe-kl": Method(from_partition(partition.teacher_only), 0.5, frozen_student=False, labels=True),
    "xe-kl+mcl": Method(
        from_partition(partition.teacher_only),
        0.68,
        frozen_student=False,
        slow_weights=True,
        labels=True,
    ),
    "kl+dp": Method(from_partition(partition.supervised), labels=True),
    "kl+dp-unsupervised": Method(from_partition(partition.unsupervised)),
    "xe+dp": Method(from_partition(partition.supervised), 0.5, labels=True),
    "self": Method(from_partition(partition.frozen_student_only), teachers=False),
    "xe": Method(None, 0.0, frozen_student=False, teachers=False, labels=True),
    "self+labels": Method(frozen_or_label, teachers=False, labels=True),
}

DEFAULT_WITH_LABELS = "kl+dp"
DEFAULT_WITHOUT_LABELS = "kl+dp-unsupervised"


def choose_method(name: str, has_labels: bool) -> tuple[str, Method]:
    """Find a method; `auto` is the default for a transfer set with, or without, labels.

    Raises:
        ConfigError: If there is no such method.
        MissingLabelsError: If it reads labels and there are none.
    """
    if name == "auto":
        name = DEFAULT_WITH_LABELS if has_labels else DEFAULT_WITHOUT_LABELS
    if name not in METHODS:
        raise ConfigError(f"unknown method {name!r}; expected auto or one of {', '.join(METHODS)}")
    method = METHODS[name]
    if method.labels and not has_labels:
        raise MissingLabelsError(
            f"method {name!r} needs labels on the transfer set, which has none; use kl+dp-unsupervised, kl or self"
        )
    return name, method


def tutor_share(tutor: Int[Tensor, " N"], n_tutors: int) -> Int[Tensor, " K"]:
    """Count the samples each tutor taught; the last entry is the label's."""
    return torch.bincount(tutor, minlength=n_tutors + 1)
