import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from crossteach.functional.statistics import (
    balanced_weights,
    holm,
    mcnemar,
    paired_delta,
    summarise_study,
    two_way_bootstrap,
)


@given(st.integers(0, 200), st.integers(0, 200))
def test_mcnemar_is_the_exact_binomial_test(gained, lost):
    p = mcnemar(gained, lost)
    assert p == pytest.approx(mcnemar(lost, gained))
    if gained + lost:
        assert p == pytest.approx(binomtest(gained, gained + lost, 0.5).pvalue)
        assert p == pytest.approx(min(1.0, 2 * binom.cdf(min(gained, lost), gained + lost, 0.5)))


def test_mcnemar_by_hand():
    assert mcnemar(8, 1) == pytest.approx(2 * (1 + 9) / 2**9)
    assert mcnemar(3, 3) == mcnemar(0, 0) == 1.0


def draw(rng, n, gain, loss, base=0.7):
    """Draw what was right and what is right now, with these shares of changes."""
    kind = rng.choice(3, n, p=[gain, loss, 1 - gain - loss])
    before = np.where(kind == 0, False, np.where(kind == 1, True, rng.random(n) < base))
    return before, np.where(kind == 2, before, kind == 0)


@pytest.mark.parametrize(("n", "gain", "loss"), [(1000, 0.05, 0.03), (300, 0.02, 0.01)])
def test_interval_covers_the_truth_in_95_of_100_data_sets(n, gain, loss):
    rng, covered = np.random.default_rng(0), 0
    for _ in range(2000):
        interval = paired_delta(*draw(rng, n, gain, loss))
        covered += interval.low <= 100 * (gain - loss) <= interval.high
    assert 0.93 <= covered / 2000 <= 0.975


def test_interval_over_groups_covers_the_truth_where_samples_do_not():
    rng, groups, size = np.random.default_rng(0), 40, 25
    group = np.repeat(np.arange(groups), size)
    covered = np.zeros(2)
    for _ in range(400):
        of_group = rng.choice(3, groups, p=[0.12, 0.08, 0.8])  # a whole group is gained, lost or left
        kind = np.where(rng.random(len(group)) < 0.8, of_group[group], 2)
        before = np.where(kind == 2, rng.random(len(group)) < 0.7, kind == 1)
        after = np.where(kind == 2, before, kind == 0)
        truth = 100 * 0.8 * (0.12 - 0.08)
        for k, given_group in enumerate((None, group)):
            interval = paired_delta(before, after, given_group, resamples=400)
            covered[k] += interval.low <= truth <= interval.high
    ungrouped, grouped = covered / 400
    assert grouped >= 0.90 and grouped > ungrouped + 0.3


def test_estimate_is_the_difference_of_accuracies_and_the_level_widens():
    before, after = draw(np.random.default_rng(1), 400, 0.1, 0.05)
    narrow, wide = paired_delta(before, after, level=0.8), paired_delta(before, after, level=0.95)
    assert narrow.estimate == wide.estimate == pytest.approx(100 * (after.mean() - before.mean()))
    assert wide.low < narrow.low < narrow.estimate < narrow.high < wide.high
    grouped = paired_delta(before, after, np.arange(400) % 20)
    assert grouped == paired_delta(before, after, np.arange(400) % 20)
    assert grouped.estimate == narrow.estimate
    assert paired_delta(before, after, np.zeros(400, int)) == wide  # one group says nothing of groups


def test_interval_by_hand():
    before, after = np.zeros(8, bool), np.array([True, True] + 6 * [False])
    centre, total = (2.5 - 0.5) / 10, 10
    reach = 1.959964 * np.sqrt((3.0 / total - centre**2) / total)
    interval = paired_delta(before, after)
    assert interval.estimate == 25.0
    assert (interval.low, interval.high) == pytest.approx((100 * (centre - reach), 100 * (centre + reach)), abs=1e-4)


def test_no_samples_decide_nothing():
    interval = paired_delta(np.zeros(0, bool), np.zeros(0, bool))
    assert interval.estimate == 0.0 and interval.low < 0 < interval.high


def test_two_way_bootstrap_is_as_wide_as_models_differ():
    rng, covered = np.random.default_rng(0), 0
    for seed in range(200):
        table = 1.5 + rng.normal(0, 1, (12, 1)) + rng.normal(0, 1, (1, 12)) + rng.normal(0, 0.2, (12, 12))
        np.fill_diagonal(table, np.nan)
        interval = two_way_bootstrap(table, resamples=300, seed=seed)
        assert interval.estimate == pytest.approx(np.nanmean(table))
        covered += interval.low <= 1.5 <= interval.high
    assert covered / 200 >= 0.88
    independent = 1.96 * np.nanstd(table) / np.sqrt(132)
    assert interval.high - interval.low > 2 * 2 * independent


def test_two_way_bootstrap_of_a_constant_is_the_constant():
    table = np.full((3, 4), 2.0)
    table[1, 1] = np.nan
    interval = two_way_bootstrap(table, resamples=200)
    assert (interval.estimate, interval.low, interval.high) == pytest.approx((2.0, 2.0, 2.0))


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_agrees_with_a_loop(p_values):
    expected, highest = {}, 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[i]))
        expected[i] = highest
    assert holm(p_values).tolist() == pytest.approx([expected[i] for i in range(len(p_values))])


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


def test_equal_weights_change_nothing():
    rng = np.random.default_rng(0)
    before, after = rng.random(300) < 0.8, rng.random(300) < 0.8
    group = np.arange(300) % 12
    for given_group in (None, group):
        assert paired_delta(before, after, given_group) == paired_delta(
            before, after, given_group, weights=np.ones(300)
        )


def test_balanced_weights_give_balanced_accuracy():
    rng = np.random.default_rng(0)
    labels = rng.choice(5, 400, p=[0.6, 0.2, 0.1, 0.06, 0.04])
    before, after = rng.random(400) < 0.8, rng.random(400) < 0.7
    weights = balanced_weights(labels)
    assert weights.mean() == pytest.approx(1)
    by_class = [100 * (after[labels == c].mean() - before[labels == c].mean()) for c in range(5)]
    found = paired_delta(before, after, weights=weights)
    assert found.estimate == pytest.approx(np.mean(by_class))
    assert found.low < found.estimate < found.high
    assert found.high - found.low > paired_delta(before, after).high - paired_delta(before, after).low


def test_a_balanced_interval_covers():
    """Two classes, one rare: the interval of the balanced delta holds the truth about as often as it says."""
    rng, covered = np.random.default_rng(1), 0
    labels = np.repeat([0, 1], [900, 100])
    weights = balanced_weights(labels)
    for _ in range(300):
        change = rng.random(1000)
        gain, loss = np.where(labels == 0, 0.02, 0.06), np.where(labels == 0, 0.01, 0.10)
        before = rng.random(1000) < 0.5
        after = np.where(before, change >= 2 * loss, change < 2 * gain)
        found = paired_delta(before, after, weights=weights)
        covered += found.low <= 100 * (0.01 - 0.04) / 2 <= found.high
    assert 0.90 <= covered / 300 <= 0.99
