"""Does a model count the classes in another order than the data? Its answers tell, where names cannot."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import stats
from scipy.optimize import linear_sum_assignment
from torch import Tensor

LIFT = 0.1
"""By how much another order must raise the share of right answers, on samples that did not choose it."""
REACHED = 0.4
"""Share of right answers that another order must reach where no other model says what can be reached."""
LEVEL = 1e-3
"""How unlikely such a lift must be where the two orders are equally good."""
MOST_CLASSES = 4096
"""Classes up to which an order is sought: the work grows with their cube."""
SHOWN = 3
"""Classes that a message names."""
PREFERRED = 1e-3
"""Samples by which the order that is there is preferred among equals."""


def class_order_problem(
    predicted: Int[Tensor, " N"],
    reference: Int[np.ndarray, " N"],
    what: str,
    spec: str,
    classes: Sequence[str],
    others: float = 0.0,
) -> str:
    """Say that a model's answers would match far better with its classes in another order; empty if they would not.

    The order is found on one half of the samples, and what it raises is counted on the other, both ways round.

    Args:
        predicted: The class that the model gives each sample.
        reference: The class of each sample: its label, or what the student answers.
        what: What the answers are compared with, for the message.
        spec: Names the model.
        classes: Names of the data's classes.
        others: Share that the best other model has right, 0 if there is none. An untrained model tells images apart
            too, so in its other order a model must come to half of this, or to `REACHED`.
    """
    preds, n_classes = predicted.numpy(), len(classes)
    if n_classes > MOST_CLASSES or len(preds) < 2:
        return ""
    same, reordered = preds == reference, _reordered(preds, reference, n_classes)
    better, worse = int((reordered & ~same).sum()), int((same & ~reordered).sum())
    commonest = np.bincount(reference).max() / len(reference)
    wanted = max(same.mean() + LIFT, commonest + LIFT, others / 2 if others else REACHED)
    if reordered.mean() < wanted or stats.binom.sf(better - 1, better + worse, 0.5) > LEVEL:
        return ""
    order = _best_order(preds, reference, n_classes)
    moved = [f"its {mine} is {theirs} ({classes[theirs]!r})" for mine, theirs in enumerate(order) if mine != theirs]
    more = f" and {len(moved) - SHOWN} more" if len(moved) > SHOWN else ""
    return (
        f"{spec!r} agrees with {what} on {100 * same.mean():.1f}% of the selection split, and on "
        f"{100 * reordered.mean():.1f}% with its classes in another order: {', '.join(moved[:SHOWN])}{more}; "
        "order the classes alike, or go on with --force (in a sweep: force: true)"
    )


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
