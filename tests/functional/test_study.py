import numpy as np
import pytest
from scipy import stats

from crossteach.functional.study import study_interval, summarise_study

NAMES = ("a", "b", "c", "d")


def table(rng, students=4, teachers=4, diagonal=True):
    values = rng.normal(1, 1, (students, 1)) + rng.normal(0, 1, teachers) + rng.normal(0, 0.3, (students, teachers))
    if diagonal:
        np.fill_diagonal(values, np.nan)
    return values


def test_models_are_left_out_one_by_one_as_student_and_as_teacher():
    values = table(np.random.default_rng(0))
    found = study_interval(values, NAMES, NAMES)
    left = []
    for name in range(4):
        kept = [values[s, t] for s in range(4) for t in range(4) if s != t and name not in (s, t)]
        left.append(np.mean(kept))
    mean = np.nanmean(values)
    error = np.sqrt(3 / 4 * sum((value - mean) ** 2 for value in left))
    reach = stats.t.ppf(0.975, 3) * error
    assert found.estimate == pytest.approx(mean)
    assert (found.low, found.high) == pytest.approx((mean - reach, mean + reach))
    assert found.over == ("students", "teachers")


def test_students_that_are_no_teachers_are_a_factor_of_their_own():
    values = table(np.random.default_rng(1), 3, 4, diagonal=False)
    found = study_interval(values, ("x", "y", "z"), NAMES)
    mean = values.mean()
    of_students = sum((np.delete(values, i, 0).mean() - mean) ** 2 for i in range(3)) * 2 / 3
    of_teachers = sum((np.delete(values, i, 1).mean() - mean) ** 2 for i in range(4)) * 3 / 4
    reach = stats.t.ppf(0.975, 2) * np.sqrt(of_students + of_teachers)
    assert (found.low, found.high) == pytest.approx((mean - reach, mean + reach))


def test_groups_of_samples_add_their_variance():
    values = table(np.random.default_rng(2))
    by_group, sizes = np.array([0.5, 1.5, 2.0]), np.array([100.0, 50.0, 50.0])
    alone, both = study_interval(values, NAMES, NAMES), study_interval(values, NAMES, NAMES, by_group, sizes)
    sums = by_group * sizes
    without = [(sums.sum() - sums[g]) / (200 - sizes[g]) for g in range(3)]
    samples = 2 / 3 * sum((w - np.mean(without)) ** 2 for w in without)
    models = ((alone.high - alone.estimate) / stats.t.ppf(0.975, 3)) ** 2
    effective = 200**2 / (sizes**2).sum()
    freedom = (models + samples) ** 2 / (models**2 / 3 + samples**2 / (effective - 1))
    reach = stats.t.ppf(0.975, freedom) * np.sqrt(models + samples)
    assert both.high - both.estimate == pytest.approx(reach)
    assert both.over == ("students", "teachers", "test samples")


def test_one_pair_has_no_interval_but_over_its_samples():
    """A single number once excluded 0."""
    alone = study_interval(np.array([[0.1]]), ["a"], ["b"])
    assert (alone.estimate, alone.low, alone.high, alone.over) == (0.1, None, None, ())
    two = study_interval(np.array([[np.nan, 0.1], [0.2, np.nan]]), ["a", "b"], ["a", "b"])
    assert two.low is None, "without either model nothing is left"
    sampled = study_interval(np.array([[0.1]]), ["a"], ["b"], np.array([0.0, 0.2]), np.array([5.0, 5.0]))
    assert sampled.over == ("test samples",) and sampled.low < 0 < sampled.high
    with pytest.raises(ValueError, match="the table has none"):
        study_interval(np.array([[np.nan]]), ["a"], ["b"])


def test_one_teacher_of_all_speaks_of_other_students_only():
    found = study_interval(np.array([[0.1], [0.2], [0.4]]), ["a", "b", "c"], ["t"])
    assert found.over == ("students",)
    expected = stats.t.interval(0.95, 2, np.mean([0.1, 0.2, 0.4]), stats.sem([0.1, 0.2, 0.4]))
    assert (found.low, found.high) == pytest.approx(expected)


def test_a_constant_is_the_constant():
    values = np.full((3, 4), 2.0)
    values[1, 1] = np.nan
    found = study_interval(values, ("x", "y", "z"), NAMES)
    assert (found.estimate, found.low, found.high) == pytest.approx((2.0, 2.0, 2.0))


@pytest.mark.parametrize("models", [3, 6, 12])
@pytest.mark.parametrize(("groups", "uneven"), [(4, False), (6, True), (30, False)])
@pytest.mark.parametrize("alike", [False, True], ids=["independent", "good students are good teachers"])
def test_the_interval_covers_from_three_models_on(models, groups, uneven, alike):
    """All pairs share models and test samples, and there is no difference in truth."""
    rng, times, held = np.random.default_rng(models), 250, 0
    names = [str(i) for i in range(models)]
    for _ in range(times):
        share = rng.dirichlet(np.ones(groups)) if uneven else np.full(groups, 1 / groups)
        sizes = np.maximum(5, (groups * 100 * share).astype(int))
        students = rng.normal(0, 1, models)
        teachers = students if alike else rng.normal(0, 1, models)
        deltas = students[:, None, None] + teachers[:, None] + rng.normal(0, 1, groups)
        deltas = deltas + rng.normal(0, 1, (models, models, groups)) * np.sqrt(100 / sizes)
        deltas[np.arange(models), np.arange(models)] = np.nan
        found = study_interval(deltas @ sizes / sizes.sum(), names, names, np.nanmean(deltas, (0, 1)), sizes)
        held += found.low <= 0 <= found.high
    assert held / times >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / times)


def test_a_study_by_hand():
    runs = [  # student, delta, upper bound, taken
        ("a", 1.0, 2.0, True),
        ("a", 0.0, 0.0, False),
        ("a", 0.5, 0.9, True),
        ("a", 0.2, 0.7, True),
        ("b", -0.1, 0.2, True),  # not below the threshold of harm
        ("b", -0.11, 0.2, True),
        ("b", -3.0, -2.0, True),
        ("b", 0.1, 0.3, True),
        ("c", 0.4, 0.5, True),
        ("c", -0.05, -0.01, True),  # significant, but below no threshold
    ]
    students, deltas, uppers, taken = (list(column) for column in zip(*runs, strict=True))
    found = summarise_study(students, deltas, uppers, taken)
    assert found.runs == 10
    assert found.mean_delta == pytest.approx(sum(deltas) / 10) and found.worst_delta == -3.0
    assert found.median_delta == pytest.approx((0.0 + 0.1) / 2)
    assert found.success_mean == pytest.approx((75 + 25 + 50) / 3)
    assert (found.success_median, found.success_worst) == (50.0, 25.0)
    assert found.harm == pytest.approx(20.0) and found.significant_harm == pytest.approx(20.0)
    assert found.coverage == pytest.approx(90.0)
    assert summarise_study(students, deltas, uppers).coverage == 100.0
