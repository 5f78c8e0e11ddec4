"""Many transfers as one: an interval over the models and the test samples they share, and a row of figures."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Real
from scipy import stats


@dataclass(frozen=True)
class StudyInterval:
    """The mean of many transfers with its bounds."""

    estimate: float
    low: float | None
    """None where nothing varies: one pair of models, and no answers of single samples."""
    high: float | None
    over: tuple[str, ...]
    """What the bounds speak for, beyond what was tried: other `students`, `teachers`, `test samples`."""


def study_interval(
    values: Float[np.ndarray, "S T"],
    students: Sequence[str],
    teachers: Sequence[str],
    by_group: Float[np.ndarray, " G"] | None = None,
    sizes: Real[np.ndarray, " G"] | None = None,
    level: float = 0.95,
) -> StudyInterval:
    """Return the mean of a student x teacher table with an interval over models and test samples.

    Neither pairs that share a model nor pairs measured on the same samples are independent. So each model is left out
    in turn, as student and as teacher, and each group of test samples; the two variances are added (a jackknife over
    crossed factors), and Student's t has the degrees of freedom of Satterthwaite (1946). A jackknife of a mean is its
    bootstrap without random numbers; with t it holds its level from three models on
    (`benchmarks/interval_coverage.py`), where percentiles of a bootstrap do not. What one model does apart from its
    sums over pairs is counted for both of the pair: where such noise prevails the interval is too wide.

    Args:
        values: One delta a pair, in points; NaN where there is none (the diagonal).
        students: Names of the rows. A model that is student and teacher is one model.
        teachers: Names of the columns.
        by_group: Mean delta over the pairs in each group of test samples, in points; None leaves the samples out, and
            the interval speaks of these samples alone.
        sizes: Samples of each group.
        level: Two-sided coverage.

    Raises:
        ValueError: If the table has no value.

    Example:
        >>> study_interval(np.array([[0.1]]), ["a"], ["b"])
        StudyInterval(estimate=0.1, low=None, high=None, over=())
    """
    present = np.isfinite(values)
    if not present.any():
        raise ValueError("a study needs the delta of at least one pair; the table has none")
    estimate = float(values[present].mean())
    models, freedom, over = _variance_over_models(np.where(present, values, 0.0), present, students, teachers)
    samples, groups = (0.0, 1.0) if by_group is None else _variance_over_groups(by_group, sizes)
    if groups > 1:
        over = (*over, "test samples")
    variance = models + samples
    if not over:
        return StudyInterval(estimate, None, None, ())
    shares = models**2 / max(freedom, 1) + samples**2 / max(groups - 1, 1)
    quantile = stats.t.ppf(0.5 + level / 2, max(variance**2 / shares, 1) if shares > 0 else 1)
    reach = float(quantile * np.sqrt(variance))
    return StudyInterval(estimate, estimate - reach, estimate + reach, over)


def _variance_over_models(
    filled: Float[np.ndarray, "S T"], present: np.ndarray, students: Sequence[str], teachers: Sequence[str]
) -> tuple[float, int, tuple[str, ...]]:
    """Leave out each model in turn: its row, its column, or both.

    Returns:
        The variance, its degrees of freedom, and which models vary.
    """
    rows, columns = {name: i for i, name in enumerate(students)}, {name: i for i, name in enumerate(teachers)}
    estimate = filled.sum() / present.sum()
    variance, varied = 0.0, {"students": 0, "teachers": 0}
    for name in dict.fromkeys((*students, *teachers)):
        kept = np.ones_like(present)
        if name in rows:
            kept[rows[name]] = False
        if name in columns:
            kept[:, columns[name]] = False
        kept &= present
        if not kept.any():  # all there is speaks of this model: nothing is known of others
            continue
        counts = [len(places) for places in (rows, columns) if name in places]
        variance += (min(counts) - 1) / min(counts) * (filled[kept].mean() - estimate) ** 2
        varied["students"] += name in rows
        varied["teachers"] += name in columns
    over = tuple(kind for kind, count in varied.items() if count)
    return float(variance), min((varied[kind] - 1 for kind in over), default=0), over


def _variance_over_groups(
    by_group: Float[np.ndarray, " G"], sizes: Real[np.ndarray, " G"] | None
) -> tuple[float, float]:
    """Leave out each group in turn; return the variance and the effective number of groups."""
    sizes = np.ones(len(by_group)) if sizes is None else np.asarray(sizes, float)
    sums, count = by_group * sizes, len(by_group)
    if count < 2:
        return 0.0, 1.0
    without = (sums.sum() - sums) / (sizes.sum() - sizes)
    return float((count - 1) * without.var()), float(sizes.sum() ** 2 / (sizes**2).sum())


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

    Example:
        >>> found = summarise_study(["a", "a", "b"], [1.0, 0.5, -0.2], [2.0, 1.0, 0.1])
        >>> found.median_delta, found.success_worst, round(found.harm, 1)
        (0.5, 0.0, 33.3)
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
