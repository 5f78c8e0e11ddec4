"""The loss of one batch: who teaches each sample, and how far the student is from what it is taught.

The training loop of crossteach uses `TransferLoss`, and so can any other loop: it takes logits and returns a loss.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..config import PartitionConfig
from ..errors import ConfigError, LabelSpaceError, MissingLabelsError
from ..functional.judging import Judge
from ..functional.label_spaces import keep_absent
from ..functional.losses import mixed
from ..functional.rules import RuleInputs
from ..types import NO_LABEL
from .methods import Method, TargetsAndShares, beside_frozen_student, find_method


class BatchLoss(NamedTuple):
    """The loss of a batch, and which tutor taught each sample."""

    loss: Float[Tensor, ""]
    """Mean over the samples; it carries the gradient of the student's logits."""
    shares: Float[Tensor, "T N"]
    """What each tutor has of each sample: the frozen student, then the teachers, last the label. Columns sum to 1."""

    @property
    def tutor(self) -> Int[Tensor, " N"]:
        """The tutor with the largest share: 0 is the frozen student, 1, 2, … the teachers, the last one the label."""
        return self.shares.argmax(0)


class TransferLoss:
    """The loss of a method, for a training loop of your own.

    Call it once a batch. All models see the same augmented images, each with its own preprocessing.

    Args:
        method: Any method that compares answers, by its name, as in `crossteach transfer --method`.
        partition: Temperature, margin, weight of KL, and how many classes KL keeps apart.
        temperatures: Of the frozen student and of each teacher, for `kl+dp-calibrated`: `fit_temperature` finds them.
        judge: Of the frozen student and each teacher, for `kl+dp-learned` and `xe+dp-learned`: `fit_judge` learns it.
        known: Which classes the frozen student (all) and each teacher know, where one does not know all. Its logits are
            over the student's classes all the same (`crossteach.functional.map_logits`). Samples whose class a teacher
            does not know are never its own; also `kl` then asks the frozen student.
        shown: The classes of which any sample is shown, where these are not all: the others keep the probability that
            the frozen student gives them, and cross-entropy does not compare them.

    Raises:
        ConfigError: If there is no such method, it compares features, or it needs temperatures or a judge and has none.

    Example:
        >>> loss_of = TransferLoss("kl+dp")
        >>> student, frozen = torch.zeros(2, 3, requires_grad=True), torch.zeros(2, 3)
        >>> teacher, labels = torch.tensor([[4.0, 0.0, 0.0], [4.0, 0.0, 0.0]]), torch.tensor([0, 1])
        >>> loss, shares = loss_of(student, frozen, [teacher], labels)
        >>> shares.argmax(0)  # the teacher has sample 0 right, and the frozen student knows more of sample 1
        tensor([1, 0])
    """

    def __init__(
        self,
        method: str | Method = "xe+dp",
        partition: PartitionConfig | None = None,
        temperatures: tuple[float, ...] | None = None,
        judge: Judge | None = None,
        known: Bool[Tensor, "K C"] | None = None,
        shown: Bool[Tensor, " C"] | None = None,
    ) -> None:
        found = _find(method, temperatures, judge) if isinstance(method, str) else method
        self.method = found if known is None and shown is None else beside_frozen_student(found)
        self.known, self.shown = known, shown
        self.partition = partition or PartitionConfig()
        self.temperatures, self.judge = temperatures, judge
        own = self.method.kl_weight if self.partition.kl_weight is None else self.partition.kl_weight
        self._kl_weight = own if self.method.targets is not None else 0.0

    def __call__(
        self,
        student: Float[Tensor, "N C"],
        frozen_student: Float[Tensor, "N C"],
        teachers: Sequence[Float[Tensor, "N C"]],
        labels: Int[Tensor, " N"] | None = None,
        chance: Float[Tensor, " N"] | None = None,
    ) -> BatchLoss:
        """Return the loss of a batch, and who taught each sample.

        Args:
            student: Logits of the student in training, with gradient.
            frozen_student: Logits of the untouched copy of the student.
            teachers: Logits of each teacher.
            labels: Class ids; −100 means that a sample has none. None means that no sample has one.
            chance: A uniform number in [0, 1) for each sample; only the control `kl+dp-random` reads it.

        Raises:
            LabelSpaceError: If the models do not score the same classes of the same samples.
            MissingLabelsError: If the method reads labels and there are none.
        """
        models = [frozen_student, *teachers]
        for number, logits in enumerate(models):
            if logits.shape != student.shape:
                name = f"teacher {number}" if number else "the frozen student"
                raise LabelSpaceError(
                    f"the student's logits are {list(student.shape)} but those of {name} are {list(logits.shape)}; "
                    "all models must score the same classes of the same samples"
                )
        if self.method.labels and labels is None:
            raise MissingLabelsError("this method reads labels and none are given; use kl+dp-unsupervised or kl")
        asked = self._asked(len(teachers))
        tutors = torch.stack([models[number].detach() for number in asked]) if asked else None
        targets, shares = self.targets(tutors, labels, chance, len(student))
        loss = self.of(student, targets, labels)
        spread = shares.new_zeros(len(models) + 1, len(student))
        spread[[*asked, -1]] = shares
        return BatchLoss(loss, spread)

    def _asked(self, n_teachers: int) -> list[int]:
        """Return which models the method asks: 0 is the frozen student."""
        if self.method.targets is None:
            return []
        if self.method.teachers and not n_teachers:
            raise ConfigError("this method needs a teacher and none is given; use self, xe or self+labels")
        if self.method.teachers and not self.method.frozen_student and n_teachers > 1:
            raise ConfigError(f"this method takes one teacher, not {n_teachers}; give one, or use kl+dp")
        frozen = [0] if self.method.frozen_student else []
        return [*frozen, *(range(1, n_teachers + 1) if self.method.teachers else ())]

    def targets(
        self,
        tutors: Float[Tensor, "K N C"] | None,
        labels: Int[Tensor, " N"] | None,
        chance: Float[Tensor, " N"] | None,
        count: int,
    ) -> tuple[Float[Tensor, "N C"] | None, Float[Tensor, "T N"]]:
        """Choose the targets of a batch.

        Args:
            tutors: Logits of those that the method asks, the frozen student first; None where it asks none.
            labels: As in a call.
            chance: As in a call.
            count: Samples in the batch.

        Returns:
            Target logits, or None where labels alone teach; and the share of each tutor asked, last of the label.
        """
        if self.method.targets is None or tutors is None:
            taught = torch.ones(count) if labels is None else (labels != NO_LABEL).float()
            return None, taught[None]
        inputs = RuleInputs(self.partition.margin, self.temperatures, chance, self.judge, self.known)
        labels = labels if self.method.labels else None  # a method that reads none is told the class by no label either
        known = _known(labels, count)
        if labels is None or bool(known.all()):
            targets, shares = self.method.targets(tutors, labels, inputs)
        else:
            targets, shares = self._partly_labelled(tutors, labels, known, inputs)
        return (targets if self.shown is None else keep_absent(tutors[0], targets, self.shown)), shares

    def _partly_labelled(
        self, tutors: Float[Tensor, "K N C"], labels: Int[Tensor, " N"], known: Bool[Tensor, " N"], inputs: RuleInputs
    ) -> TargetsAndShares:
        """Let labelled samples follow the method, and the others its rule for samples without a label."""
        assert self.method.targets is not None
        rules = {True: self.method.targets, False: self.method.unlabelled or self.method.targets}
        targets, shares = torch.empty_like(tutors[0]), tutors.new_empty(len(tutors) + 1, len(known))
        for labelled, rule in rules.items():
            mask = known if labelled else ~known
            if bool(mask.any()):
                chance = None if inputs.chance is None else inputs.chance[mask]
                part = replace(inputs, chance=chance)
                targets[mask], shares[:, mask] = rule(tutors[:, mask], labels[mask] if labelled else None, part)
        return targets, shares

    def of(
        self, student: Float[Tensor, "N C"], targets: Float[Tensor, "N C"] | None, labels: Int[Tensor, " N"] | None
    ) -> Float[Tensor, ""]:
        """Return the mean loss of the student's logits against chosen targets and labels."""
        targets = None if targets is None else targets.to(student.device)
        labels = None if labels is None else labels.to(student.device)
        known = _known(labels, len(student))
        if labels is None or bool(known.all()):
            return self._mixed(student, targets, labels, self._kl_weight)
        labelled, total = int(known.sum()), student.sum() * 0.0
        if labelled:
            some = None if targets is None else targets[known]
            total = total + labelled * self._mixed(student[known], some, labels[known], self._kl_weight)
        if targets is None:
            return total / max(labelled, 1)
        free = self._mixed(student[~known], targets[~known], None, 1.0)
        return (total + (len(student) - labelled) * free) / len(student)

    def counted(self, labels: Int[Tensor, " N"] | None, count: int) -> int:
        """Return over how many samples of a batch the loss is a mean: where labels alone teach, those that have one.

        Args:
            labels: As in a call.
            count: Samples in the batch.
        """
        if labels is None or self.method.targets is not None:
            return count
        return int(_known(labels, count).sum())

    def _mixed(
        self,
        student: Float[Tensor, "N C"],
        targets: Float[Tensor, "N C"] | None,
        labels: Int[Tensor, " N"] | None,
        kl_weight: float,
    ) -> Float[Tensor, ""]:
        shown = None if self.shown is None else self.shown.to(student.device)
        partition = self.partition
        return mixed(student, targets, labels, kl_weight, partition.temperature, partition.top_classes, shown)


def _known(labels: Int[Tensor, " N"] | None, count: int) -> Bool[Tensor, " N"]:
    """Mark the samples that have a label."""
    return torch.zeros(count, dtype=torch.bool) if labels is None else labels != NO_LABEL


def _find(name: str, temperatures: tuple[float, ...] | None, judge: Judge | None) -> Method:
    """Find a method that compares answers, not features."""
    method = find_method(name)
    if method.features is not None:
        raise ConfigError(f"method {name!r} compares features, which logits do not hold; use xe+dp, kl+dp or kl")
    if method.calibrated and temperatures is None:
        raise ConfigError(
            f"method {name!r} needs temperatures=(of the frozen student, of each teacher); "
            "crossteach.functional.fit_temperature finds them"
        )
    if method.judged and judge is None:
        raise ConfigError(
            f"method {name!r} needs judge=(of the frozen student and each teacher); crossteach.functional.fit_judge "
            "learns it"
        )
    return method
