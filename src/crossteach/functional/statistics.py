"""Is it more than chance? Paired tests and intervals for one transfer and for a study of many."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import stats

Rows = Int[np.ndarray, " N"]


def mcnemar(gained: int, lost: int) -> float:
    """Return the exact two-sided p-value of McNemar's test on discordant pairs; 1 without any."""
    return float(stats.binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


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
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Return accuracy after − before, in points, with a two-sided interval.

    Without groups: the adjusted Wald interval for paired proportions (Agresti and Min, 2005), which adds half a pair
    to every cell. With groups: the standard error of a bootstrap over whole groups times Student's t, since few groups
    make the percentiles of a bootstrap too narrow.

    Args:
        before: Which samples were right.
        after: Which samples are right now.
        group: What samples have in common.
        level: Two-sided coverage; 0.8 makes the lower bound a one-sided 90% one.
        weights: How much each sample counts, 1 on average; `balanced_weights` make it balanced accuracy.
        resamples: Bootstrap draws.
        seed: Of the bootstrap.
    """
    n = len(before)
    weights = np.ones(n) if weights is None else weights
    difference = weights * (after.astype(np.int8) - before.astype(np.int8))
    estimate = 100.0 * float(difference.mean()) if n else 0.0
    if group is not None and len(np.unique(group)) > 1:
        reach = _group_reach(difference, weights, group, level, resamples, seed)
        return Interval(estimate, estimate - reach, estimate + reach)
    total = n + 2.0  # with half a pair gained, half a pair lost, and half a pair of either that did not change
    centre = difference.sum() / total
    spread = np.sqrt(((difference**2).sum() + 1.0) / total - centre**2) / np.sqrt(total)
    reach = float(stats.norm.ppf(0.5 + level / 2)) * spread
    return Interval(estimate, 100.0 * float(centre - reach), 100.0 * float(centre + reach))


def balanced_weights(labels: Rows) -> Float[np.ndarray, " N"]:
    """Weigh samples so that every class that occurs counts the same, and a sample counts 1 on average.

    Example:
        >>> balanced_weights(np.array([0, 0, 0, 1]))
        array([0.66666667, 0.66666667, 0.66666667, 2.        ])
    """
    classes, code, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    return np.asarray(len(labels) / (len(classes) * sizes[code]))


def _group_reach(
    difference: Float[np.ndarray, " N"],
    weights: Float[np.ndarray, " N"],
    group: Rows,
    level: float,
    resamples: int,
    seed: int,
) -> float:
    _, code = np.unique(group, return_inverse=True)
    sums, sizes = np.bincount(code, weights=difference), np.bincount(code, weights=weights)
    count = len(sizes)
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), resamples)
    deltas = 100.0 * (draws @ sums) / (draws @ sizes)
    error = deltas.std() * np.sqrt(count / (count - 1))
    return float(stats.t.ppf(0.5 + level / 2, count - 1) * error)


def two_way_bootstrap(
    values: Float[np.ndarray, "S T"], level: float = 0.95, resamples: int = 5000, seed: int = 0
) -> Interval:
    """Return the mean of a student x teacher table with an interval over students and teachers.

    Both are drawn anew, with replacement, in every resample: pairs that share a model are not independent.

    Args:
        values: One number a pair; NaN where there is none (the diagonal).
    """
    present = np.isfinite(values)
    filled = np.where(present, values, 0.0)
    rng = np.random.default_rng(seed)
    students, teachers = values.shape
    rows = rng.multinomial(students, np.full(students, 1 / students), resamples).astype(float)
    columns = rng.multinomial(teachers, np.full(teachers, 1 / teachers), resamples).astype(float)
    sums = np.einsum("rs,st,rt->r", rows, filled, columns)
    counts = np.einsum("rs,st,rt->r", rows, present.astype(float), columns)
    means = sums[counts > 0] / counts[counts > 0]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(filled.sum() / present.sum()), float(low), float(high))


def holm(p_values: Sequence[float]) -> Float[np.ndarray, " P"]:
    """Return p-values corrected for their number (Holm, 1979)."""
    p = np.asarray(p_values, float)
    order = np.argsort(p)
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return corrected


@dataclass(frozen=True)
class StudySummary:
    """Many transfers in one row; the definitions stand in docs/method.md."""

    runs: int
    mean_delta: float
    median_delta: float
    worst_delta: float
    success_mean: float
    """Mean over students of the share of teachers with a positive delta, in %."""
    success_median: float
    success_worst: float
    harm: float
    """Share of runs with a delta below −0.1 points, in %."""
    significant_harm: float
    """Share of runs whose 95% interval lies below 0, in %."""
    coverage: float
    """Share of runs whose result was taken, in %."""


def summarise_study(
    students: Sequence[str],
    deltas: Sequence[float],
    upper_bounds: Sequence[float],
    taken: Sequence[bool] | None = None,
) -> StudySummary:
    """Put many transfers into one row.

    Args:
        students: Which student each run trained.
        deltas: Transfer delta of each run, in points.
        upper_bounds: Upper end of each run's 95% interval.
        taken: Which results the gate accepted; None means all.
    """
    delta, upper = np.asarray(deltas, float), np.asarray(upper_bounds, float)
    accepted = np.ones(len(delta), bool) if taken is None else np.asarray(taken, bool)
    names, code = np.unique(np.asarray(students), return_inverse=True)
    success = 100.0 * np.bincount(code, weights=delta > 0, minlength=len(names)) / np.bincount(code)
    return StudySummary(
        runs=len(delta),
        mean_delta=float(delta.mean()),
        median_delta=float(np.median(delta)),
        worst_delta=float(delta.min()),
        success_mean=float(success.mean()),
        success_median=float(np.median(success)),
        success_worst=float(success.min()),
        harm=100.0 * float((delta < -0.1).mean()),
        significant_harm=100.0 * float((upper < 0).mean()),
        coverage=100.0 * float(accepted.mean()),
    )
