"""Does a model count the classes in another order than the data? Its answers tell, where names cannot."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import stats
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from ..data.cut import stratified_sample
from ..data.label_words import by_number
from ..types import Split, Splits
from .problem import Problem

LIFT = 0.1
"""By how much another order must raise the share of right answers, on samples that did not choose it."""
REACHED = 0.4
"""Share of right answers that another order must reach where no other model says what can be reached."""
LEVEL = 1e-3
"""How unlikely such a lift must be where the two orders are equally good."""
MOST_CLASSES = 4096
"""Classes up to which any order is sought: the work grows with their cube."""
FEWEST_ASKED, A_CLASS = 1000, 4
"""Samples of a split that tell the order of classes: so many, or so many of each class if these are more."""
SHOWN = 3
"""Classes that a message names."""
PREFERRED = 1e-3
"""Samples by which the order that is there is preferred among equals."""


def labelled_parts(data: Splits) -> list[Split]:
    """Return samples that tell whether a model counts the classes as the labels do, a part of each split.

    Selection comes first, and whole. Labels of a train split that it was cut from say what its own say, and are left
    out.
    """
    parts: list[Split] = []
    told = data.selection_seen and data.selection.labels is not None
    for split in (data.selection, data.test, *(() if told else (data.train,))):
        labelled = split.labelled()
        if split.labels is None or not len(labelled):
            continue
        parts.append(labelled if split is data.selection else enough_to_tell(labelled, len(data.classes)))
    return parts


def enough_to_tell(labelled: Split, n_classes: int) -> Split:
    """Draw as many samples of a split as the order of classes needs; one with no more than these stays as it is."""
    wanted = max(FEWEST_ASKED, A_CLASS * n_classes)
    return labelled if len(labelled) <= wanted else labelled.take(stratified_sample(labelled, wanted))


def class_order_problem(
    predicted: Int[Tensor, " N"],
    reference: Int[np.ndarray, " N"],
    what: str,
    spec: str,
    classes: Sequence[str],
    others: float = 0.0,
    split: str = "selection",
) -> Problem | None:
    """Say that a model's answers would match far better with its classes in another order; None if they would not.

    Two orders are likely, and a few samples tell them: that of the classes' names as text, and as numbers. Any other
    is found on one half of the samples, and what it raises is counted on the other half, both ways round.

    Args:
        predicted: The class that the model gives each sample.
        reference: The class of each sample: its label, or what the student answers.
        what: What the answers are compared with, for the message.
        spec: Names the model.
        classes: Names of the data's classes.
        others: Share that the best other model has right, 0 if there is none. An untrained model tells images apart
            too, so in its other order a model must come to half of this, or to `REACHED`.
        split: Where the samples are from, for the message.
    """
    preds, n_classes = predicted.numpy(), len(classes)
    if len(preds) < 2:
        return None
    same = preds == reference
    commonest = np.bincount(reference).max() / len(reference)
    wanted = max(same.mean() + LIFT, commonest + LIFT, others / 2 if others else REACHED)

    def far_better(reordered: Bool[np.ndarray, " N"]) -> bool:
        better, worse = int((reordered & ~same).sum()), int((same & ~reordered).sum())
        return bool(reordered.mean() >= wanted) and bool(stats.binom.sf(better - 1, better + worse, 0.5) <= LEVEL)

    def problem(reordered: Bool[np.ndarray, " N"], order: Int[np.ndarray, " C"], advice: str) -> Problem:
        moved = [f"its {mine} is {theirs} ({classes[theirs]!r})" for mine, theirs in enumerate(order) if mine != theirs]
        more = f" and {len(moved) - SHOWN} more" if len(moved) > SHOWN else ""
        return Problem(
            f"{spec!r} agrees with {what} on {100 * same.mean():.1f}% of the {split} split, and on "
            f"{100 * reordered.mean():.1f}% with its classes in another order: {', '.join(moved[:SHOWN])}{more}",
            advice,
        )

    for name, order in _likely_orders(classes):
        if far_better(order[preds] == reference):
            advice = f"it counts the classes in the order of their names as {name}: order the data's so"
            return problem(order[preds] == reference, order, f"{advice} (of a folder: ?class_order={name})")
    if n_classes <= MOST_CLASSES and far_better(reordered := _reordered(preds, reference, n_classes)):
        return problem(reordered, _best_order(preds, reference, n_classes), "order the classes alike")
    return None


def _likely_orders(classes: Sequence[str]) -> Iterator[tuple[str, Int[np.ndarray, " C"]]]:
    """Give the orders of the names as text and as numbers, where the data's own is another: names of each position."""
    keys: dict[str, Callable[[str], Any]] = {"text": str, "numbers": by_number}
    place = {name: index for index, name in enumerate(classes)}
    for name, key in keys.items():
        order = np.array([place[each] for each in sorted(sorted(classes), key=key)])
        if (order != np.arange(len(classes))).any():
            yield name, order


def _reordered(
    preds: Int[np.ndarray, " N"], reference: Int[np.ndarray, " N"], n_classes: int
) -> Bool[np.ndarray, " N"]:
    """Mark the samples that are right in the order that suits the other half best."""
    half = np.empty(len(preds), int)
    half[np.argsort(reference, kind="stable")] = np.arange(len(preds)) % 2  # each half has its share of each class
    right = np.empty(len(preds), bool)
    for part in (0, 1):
        order = _best_order(preds[half != part], reference[half != part], n_classes)
        right[half == part] = order[preds[half == part]] == reference[half == part]
    return right


def _best_order(
    preds: Int[np.ndarray, " N"], reference: Int[np.ndarray, " N"], n_classes: int
) -> Int[np.ndarray, " C"]:
    """Return for each class of the model the class of the data that it stands for."""
    counts: Float[np.ndarray, "C C"] = PREFERRED * np.eye(n_classes)
    np.add.at(counts, (preds, reference), 1.0)
    order: Int[np.ndarray, " C"] = linear_sum_assignment(counts, maximize=True)[1]
    return order
