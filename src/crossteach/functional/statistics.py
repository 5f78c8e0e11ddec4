"""Is it more than chance? Paired tests and intervals for one transfer; `study` has those for many."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import signal, stats

Rows = Int[np.ndarray, " N"]


def mcnemar(gained: int, lost: int) -> float:
    """Return the exact two-sided p-value of McNemar's test on discordant pairs; 1 without any.

    Example:
        >>> mcnemar(8, 1)
        0.0390625
    """
    return float(stats.binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def sign_flip_test(before: Bool[np.ndarray, " N"], after: Bool[np.ndarray, " N"], group: Rows | None = None) -> float:
    """Return the exact two-sided p-value of "the change is as likely to harm a group as to help it".

    If nothing has changed in truth, a group that gained 3 samples could as well have lost 3. The p-value is the share
    of all such flips of signs, group by group, after which the total is as far from 0 as it is. Of G groups none falls
    below 2^(1 − G): five groups are never significant at 5%. Without groups each sample is one, and the test is
    McNemar's.

    Args:
        before: Which samples were right.
        after: Which samples are right now.
        group: What samples have in common.

    Example:
        >>> sign_flip_test(np.zeros(6, bool), np.ones(6, bool), np.array([0, 0, 1, 1, 2, 2]))
        0.25
    """
    change = after.astype(np.int64) - before.astype(np.int64)
    if group is None:
        return mcnemar(int((change > 0).sum()), int((change < 0).sum()))
    net = np.abs(np.bincount(np.unique(group, return_inverse=True)[1], weights=change).astype(np.int64))
    total, reach = abs(int(change.sum())), int(net.sum())
    chances = np.ones(1)  # of each total from −reach to reach, in steps of 2
    for size, count in zip(*np.unique(net[net > 0], return_counts=True), strict=True):
        kept = np.zeros(count * size + 1)
        kept[::size] = stats.binom.pmf(np.arange(count + 1), count, 0.5)  # so many groups of this size keep their sign
        chances = signal.convolve(chances, kept)
    totals = np.arange(-reach, reach + 1, 2)
    return float(np.clip(chances[np.abs(totals) >= total].sum(), 0.0, 1.0))


@dataclass(frozen=True)
class Interval:
    """An estimate with its bounds."""

    estimate: float
    low: float
    high: float


def paired_delta(
    before: Bool[np.ndarray, " N"],
    after: Bool[np.ndarray, " N"],
    group: Rows | None = None,
    level: float = 0.95,
    weights: Float[np.ndarray, " N"] | None = None,
    unseen: float = 0.0,
) -> Interval:
    """Return accuracy after − before, in points, with a two-sided interval.

    Without groups: the adjusted Wald interval for paired proportions (Agresti and Min, 2005), which adds half a pair
    to every cell. With groups: the jackknife over whole groups times Student's t, and nowhere narrower than without.
    For t, groups of uneven size count as their effective number, (sum of sizes)² / sum of squared sizes. One group
    alone says nothing of others: its interval is that of its samples, unless `unseen` is given.

    Args:
        before: Which samples were right.
        after: Which samples are right now.
        group: What samples have in common.
        level: Two-sided coverage; 0.8 makes the lower bound a one-sided 90% one.
        weights: How much each sample counts, 1 on average; `balanced_weights` make it balanced accuracy.
        unseen: Points by which a group that is not among these may differ from them. The error grows as if one such
            group stood beside them: no sample of groups shows what it has by chance not met.

    Example:
        >>> before, after = np.arange(100) < 80, np.arange(100) < 84
        >>> found = paired_delta(before, after)
        >>> found.estimate, round(found.low, 1), round(found.high, 1)
        (4.0, -0.3, 8.2)
    """
    n = len(before)
    weights = np.ones(n) if weights is None else weights
    difference = weights * (after.astype(np.int8) - before.astype(np.int8))
    estimate = 100.0 * float(difference.mean()) if n else 0.0
    total = n + 2.0  # with half a pair gained, half a pair lost, and half a pair of either that did not change
    centre = difference.sum() / total
    spread = np.sqrt(((difference**2).sum() + 1.0) / total - centre**2) / np.sqrt(total)
    reach = float(stats.norm.ppf(0.5 + level / 2)) * spread
    low, high = 100.0 * float(centre - reach), 100.0 * float(centre + reach)
    if group is None or not n:
        return Interval(estimate, low, high)
    error, count, effective = _group_error(difference, weights, group)
    reach = float(stats.t.ppf(0.5 + level / 2, max(effective - 1, 1))) * float(np.hypot(error, unseen / (count + 1)))
    return Interval(estimate, min(low, estimate - reach), max(high, estimate + reach))


def _group_error(
    difference: Float[np.ndarray, " N"], weights: Float[np.ndarray, " N"], group: Rows
) -> tuple[float, int, float]:
    """Return the jackknife's standard error over groups, in points, and the number of groups: plain and effective."""
    _, code = np.unique(group, return_inverse=True)
    sums, sizes = np.bincount(code, weights=difference), np.bincount(code, weights=weights)
    count, effective = len(sizes), float(sizes.sum() ** 2 / (sizes**2).sum())
    if count == 1:
        return 0.0, count, effective
    without = 100.0 * (sums.sum() - sums) / (sizes.sum() - sizes)
    return float(np.sqrt((count - 1) * without.var())), count, effective


def balanced_weights(labels: Rows) -> Float[np.ndarray, " N"]:
    """Weigh samples so that every class that occurs counts the same, and a sample counts 1 on average.

    Example:
        >>> balanced_weights(np.array([0, 0, 0, 1]))
        array([0.66666667, 0.66666667, 0.66666667, 2.        ])
    """
    classes, code, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    return np.asarray(len(labels) / (len(classes) * sizes[code]))


def balanced_accuracy(right: Bool[np.ndarray, " N"], labels: Rows) -> float:
    """Return the mean accuracy of the classes that occur, in %: a rare class counts as much as a common one.

    Example:
        >>> balanced_accuracy(np.array([True, True, True, False]), np.array([0, 0, 0, 1]))
        50.0
    """
    return float(100.0 * np.average(right, weights=balanced_weights(labels)))


def holm(p_values: Sequence[float]) -> Float[np.ndarray, " P"]:
    """Return p-values corrected for their number (Holm, 1979).

    Example:
        >>> holm([0.01, 0.04, 0.03]).tolist()
        [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, float)
    order = np.argsort(p)
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return corrected
