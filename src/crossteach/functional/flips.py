"""Who is right where the other is wrong: flips, expertise, and what a transfer gained and lost.

Definitions: Roth et al., "Fantastic Gains" (ICLR 2024), sections 3 and 5; docs/method.md says them in our words.
All rates are in %.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..errors import DataError, LabelSpaceError, MissingLabelsError
from ..types import Predictions
from .unanswered import answered

EXPERTISE_SHARES = (2.0, 5.0, 20.0, 50.0, 100.0)
"""The shares of positive flips, in %, at which areas of expertise are read."""


def _require_same_shape(first: Tensor, second: Tensor, names: str = "student and teacher") -> None:
    if first.shape != second.shape:
        raise LabelSpaceError(
            f"{names} must score the same samples and classes, but their scores are "
            f"{list(first.shape)} and {list(second.shape)}"
        )


def positive_flips(
    student: Float[Tensor, "N C"], teacher: Float[Tensor, "N C"], labels: Int[Tensor, " N"]
) -> Bool[Tensor, " N"]:
    """Mark the samples that the teacher has right and the student wrong.

    Only the argmax is read, so logits and probabilities give the same mask. A sample that one of the two has no answer
    to (a row of NaN) is not marked.

    Args:
        student: Scores of the model that will learn.
        teacher: Scores of the model it learns from, same samples, same order.
        labels: True class ids in ``[0, C)``.

    Returns:
        The mask, on the device of the inputs.

    Raises:
        LabelSpaceError: If the two models do not score the same samples and classes.

    Example:
        >>> positive_flips(torch.eye(2), torch.eye(2).flip(0), torch.tensor([1, 1]))
        tensor([ True, False])

    Source: Roth et al., "Fantastic Gains" (ICLR 2024), section 3.
    """
    _require_same_shape(student, teacher)
    both = answered(student) & answered(teacher)
    return both & (teacher.argmax(1) == labels) & (student.argmax(1) != labels)


def negative_flips(
    student: Float[Tensor, "N C"], teacher: Float[Tensor, "N C"], labels: Int[Tensor, " N"]
) -> Bool[Tensor, " N"]:
    """Mark the samples that the student has right and the teacher wrong.

    Arguments, result and errors are those of `positive_flips`.

    Example:
        >>> negative_flips(torch.eye(2), torch.eye(2).flip(0), torch.tensor([0, 0]))
        tensor([ True, False])

    Source: Roth et al., "Fantastic Gains" (ICLR 2024), section 3.
    """
    return positive_flips(teacher, student, labels)


def percent(mask: Bool[Tensor, " N"]) -> float:
    """Return the share that is marked, in %; 0 for an empty mask.

    Example:
        >>> percent(torch.tensor([True, False, False, False]))
        25.0
    """
    return 100.0 * mask.double().mean().item() if mask.numel() else 0.0


@dataclass(frozen=True)
class Flips:
    """What two models know of each other's mistakes, on the samples that both answered."""

    positive: Bool[Tensor, " N"]
    """The teacher is right and the student wrong."""
    negative: Bool[Tensor, " N"]
    """The student is right and the teacher wrong."""
    labels: Int[Tensor, " N"]
    n_classes: int

    @property
    def complementary_knowledge(self) -> float:
        """Positive flips, in % of the samples."""
        return percent(self.positive)

    @cached_property
    def by_class(self) -> Int[Tensor, " C"]:
        """Positive flips of each class."""
        return flips_by_class(self.positive, self.labels, self.n_classes)

    @property
    def entropy(self) -> float:
        """Of the positive flips over classes, in nats; uniform is ln C."""
        return flip_entropy(self.by_class)

    def expertise(self, share: float) -> Int[Tensor, " k"]:
        """Return the classes that hold `share` % of the positive flips."""
        return expertise_area(self.by_class, share)


def flips(student: Predictions, teacher: Predictions) -> Flips:
    """Compare two models' predictions on the same samples.

    Args:
        student: What `crossteach.predict` gives of the model that will learn.
        teacher: What it gives of the model that will teach, on the same split.

    Raises:
        DataError: If they answered other samples, or in another order.
        MissingLabelsError: If there are no labels.
        LabelSpaceError: If they do not score the same classes.

    Source: Roth et al., "Fantastic Gains" (ICLR 2024), section 3.
    """
    if student.data_fingerprint != teacher.data_fingerprint:
        raise DataError(
            f"{student.model} and {teacher.model} answered other samples, or the same in another order; "
            "predict both on the same split"
        )
    if student.labels is None:
        raise MissingLabelsError("flips need labels, and this split has none")
    return Flips(
        positive=positive_flips(student.logits, teacher.logits, student.labels),
        negative=negative_flips(student.logits, teacher.logits, student.labels),
        labels=student.labels,
        n_classes=student.logits.shape[1],
    )


def flips_by_class(flips: Bool[Tensor, " N"], labels: Int[Tensor, " N"], n_classes: int) -> Int[Tensor, " C"]:
    """Count the marked samples of each class.

    Args:
        flips: The mask.
        labels: True class ids in ``[0, n_classes)``.
        n_classes: C, the length of the result.

    Example:
        >>> flips_by_class(torch.tensor([True, False, True]), torch.tensor([1, 1, 1]), 3)
        tensor([0, 2, 0])
    """
    return torch.bincount(labels[flips], minlength=n_classes)


def count_by_class(
    masks: Mapping[str, Bool[Tensor, " N"]], labels: Int[Tensor, " N"], n_classes: int
) -> dict[str, Int[np.ndarray, " C"]]:
    """Count several kinds of marked samples of each class, as the columns of a table; see `flips_by_class`.

    Example:
        >>> count_by_class({"gained": torch.tensor([True, False])}, torch.tensor([1, 1]), 2)
        {'gained': array([0, 1])}
    """
    return {name: flips_by_class(mask, labels, n_classes).numpy(force=True) for name, mask in masks.items()}


def strongest(strength: Float[Tensor, " N"], mask: Bool[Tensor, " N"], count: int) -> Int[Tensor, " k"]:
    """Return the positions of the marked samples with the largest strength, at most `count`, earlier ones on a tie.

    Example:
        >>> strongest(torch.tensor([0.1, 0.9, 0.5]), torch.tensor([True, False, True]), 1)
        tensor([2])
    """
    rows = mask.nonzero().flatten()
    return rows[torch.argsort(strength[rows], descending=True, stable=True)][:count]


def flip_entropy(counts: Int[Tensor, " C"]) -> float:
    """Return −Σ k ln k of the flips' distribution over classes, in nats; 0 without flips, ln C where uniform.

    Example:
        >>> round(flip_entropy(torch.tensor([5, 0, 5])), 3)
        0.693

    Source: Roth et al., "Fantastic Gains" (ICLR 2024), section 3.
    """
    total = counts.sum().item()
    if total == 0:
        return 0.0
    shares = counts[counts > 0].double() / total
    return -(shares * shares.log()).sum().item()


def expertise_area(counts: Int[Tensor, " C"], share: float) -> Int[Tensor, " k"]:
    """Return the smallest set of classes, most flips first, that holds at least `share` % of the flips.

    Ties are broken by class id, so that the area is the same everywhere.

    Args:
        counts: Positive flips of each class, as `flips_by_class` gives them.
        share: In %, above 0 and up to 100.

    Returns:
        Class ids, most flips first; none where there are no flips.

    Example:
        >>> expertise_area(torch.tensor([1, 6, 3]), 50.0)
        tensor([1])

    Source: Roth et al., "Fantastic Gains" (ICLR 2024), section 3.
    """
    total = int(counts.sum())
    if total == 0:
        return torch.empty(0, dtype=torch.long, device=counts.device)
    order = torch.argsort(counts, descending=True, stable=True)
    held = counts[order].cumsum(0).double() * 100.0
    size = int((held < share * total - 1e-9).sum()) + 1
    return order[:size]


def flip_matrix(correct: Bool[Tensor, "M N"]) -> Float[Tensor, "M M"]:
    """Return the positive flips of every ordered pair, in %: row student, column teacher.

    Args:
        correct: Which samples each of M models has right.

    Example:
        >>> flip_matrix(torch.tensor([[True, False], [True, True]]))
        tensor([[ 0., 50.],
                [ 0.,  0.]], dtype=torch.float64)
    """
    right = correct.double()
    return 100.0 * ((1 - right) @ right.T) / max(correct.shape[1], 1)


@dataclass(frozen=True)
class Change:
    """What a transfer changed on one split, in %; `delta` = `gain` − `loss`."""

    n: int
    accuracy_before: float
    accuracy_after: float
    gain: float
    """Share of samples wrong before and right after."""
    loss: float
    """Share of samples right before and wrong after."""
    retained: float
    """Of the samples right before, the share still right."""

    @property
    def delta(self) -> float:
        """Accuracy after − accuracy before, in points."""
        return self.gain - self.loss


def change(before: Float[Tensor, "N C"], after: Float[Tensor, "N C"], labels: Int[Tensor, " N"]) -> Change:
    """Compare a student before and after a transfer.

    Args:
        before: Scores of the old weights.
        after: Scores of the new weights on the same samples, in the same order.
        labels: True class ids.

    Raises:
        LabelSpaceError: If both do not score the same samples and classes.

    Example:
        >>> change(torch.eye(2), torch.eye(2).flip(0), torch.tensor([1, 1])).gain
        50.0
    """
    _require_same_shape(before, after, "old and new weights")
    was, now = before.argmax(1) == labels, after.argmax(1) == labels
    return Change(
        n=len(labels),
        accuracy_before=percent(was),
        accuracy_after=percent(now),
        gain=percent(~was & now),
        loss=percent(was & ~now),
        retained=percent(now[was]) if was.any() else 100.0,
    )


def transfer_rate(flips: Bool[Tensor, " N"], after: Float[Tensor, "N C"], labels: Int[Tensor, " N"]) -> float | None:
    """Return the share, in %, of the teacher's positive flips that the student has right afterwards.

    Args:
        flips: The positive flips before the transfer.
        after: Scores of the student afterwards.
        labels: True class ids.

    Returns:
        The share; None where there were no flips to transfer.

    Example:
        >>> transfer_rate(torch.tensor([True, True]), torch.eye(2), torch.tensor([0, 0]))
        50.0

    Source: Roth et al., "Fantastic Gains" (ICLR 2024), section 5.
    """
    return percent((after.argmax(1) == labels)[flips]) if flips.any() else None


def transfer_rate_by_area(
    flips: Bool[Tensor, " N"],
    after: Float[Tensor, "N C"],
    labels: Int[Tensor, " N"],
    shares: Sequence[float] = EXPERTISE_SHARES,
) -> dict[float, float | None]:
    """Return the transfer rate inside each area of expertise, in %, keyed by the area's share of the flips.

    Args:
        flips: The positive flips before the transfer.
        after: Scores of the student afterwards.
        labels: True class ids.
        shares: Of the flips, in %, that each area holds; see `expertise_area`.

    Example:
        >>> transfer_rate_by_area(torch.tensor([True, True]), torch.eye(2), torch.tensor([0, 0]), [100.0])
        {100.0: 50.0}

    Source: Roth et al., "Fantastic Gains" (ICLR 2024), section 5.
    """
    counts = flips_by_class(flips, labels, after.shape[1])
    rates = {}
    for share in shares:
        inside = torch.isin(labels, expertise_area(counts, share))
        rates[share] = transfer_rate(flips & inside, after, labels)
    return rates
