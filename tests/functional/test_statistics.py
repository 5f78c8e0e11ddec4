from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from crossteach.functional.statistics import (
    balanced_accuracy,
    balanced_weights,
    holm,
    mcnemar,
    paired_delta,
    sign_flip_test,
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
            interval = paired_delta(before, after, given_group)
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
    assert paired_delta(before, after, np.zeros(400, int), unseen=4.0).low < wide.low - 10


def test_interval_by_hand():
    before, after = np.zeros(8, bool), np.array([True, True] + 6 * [False])
    centre, total = (2.5 - 0.5) / 10, 10
    reach = 1.959964 * np.sqrt((3.0 / total - centre**2) / total)
    interval = paired_delta(before, after)
    assert interval.estimate == 25.0
    assert (interval.low, interval.high) == pytest.approx((100 * (centre - reach), 100 * (centre + reach)), abs=1e-4)


def test_interval_over_groups_by_hand():
    """Three groups of four: two gained, one gained, none."""
    before, group = np.zeros(12, bool), np.repeat([7, 1, 3], 4)
    after = np.array([1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0], bool)
    without = 100 * np.array([1 / 8, 2 / 8, 3 / 8])
    error = np.sqrt(2 / 3 * ((without - without.mean()) ** 2).sum())
    found = paired_delta(before, after, group)
    assert found.estimate == 25.0
    assert (found.low, found.high) == pytest.approx((25 - 4.302653 * error, 25 + 4.302653 * error))
    room = np.hypot(error, 8.0 / 4)
    assert paired_delta(before, after, group, unseen=8.0).high == pytest.approx(25 + 4.302653 * room)


def test_groups_that_change_alike_do_not_make_an_interval_without_width():
    before, after = np.zeros(200, bool), np.arange(200) % 20 == 0
    alone = paired_delta(before, after)
    assert paired_delta(before, after, np.arange(200) // 100) == alone and alone.high - alone.low > 3


@pytest.mark.parametrize(("groups", "uneven"), [(4, False), (6, True), (30, False), (30, True)])
def test_interval_over_few_or_uneven_groups_covers(groups, uneven):
    rng, covered, times = np.random.default_rng(groups), 0, 300
    for _ in range(times):
        share = rng.dirichlet(np.ones(groups)) if uneven else np.full(groups, 1 / groups)
        group = np.repeat(np.arange(groups), np.maximum(5, (groups * 100 * share).astype(int)))
        delta = np.clip(rng.normal(0, 0.03, groups), -0.2, 0.2)[group]
        chance, churn = rng.random(len(group)), np.maximum(0.04, np.abs(delta))
        gained, lost = chance < (churn + delta) / 2, chance > 1 - (churn - delta) / 2
        before = np.where(gained, False, np.where(lost, True, rng.random(len(group)) < 0.8))
        found = paired_delta(before, np.where(gained, True, np.where(lost, False, before)), group)
        covered += found.low <= 0 <= found.high
    assert covered / times >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / times)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=9))
def test_the_sign_flip_test_counts_all_flips(groups):
    """Against a loop over every assignment of signs."""
    before = np.concatenate([np.repeat([False, True], pair) for pair in groups])
    group = np.repeat(np.arange(len(groups)), [sum(pair) for pair in groups])
    nets = [gained - lost for gained, lost in groups]
    totals = [sum(s * n for s, n in zip(signs, nets, strict=True)) for signs in product((1, -1), repeat=len(nets))]
    expected = np.mean([abs(total) >= abs(sum(nets)) for total in totals])
    assert sign_flip_test(before, ~before, group) == pytest.approx(expected)


@given(st.integers(0, 60), st.integers(0, 60))
def test_samples_that_are_groups_of_their_own_make_mcnemars_test(gained, lost):
    before = np.repeat([False, True], (gained, lost))
    own = np.arange(len(before))
    assert sign_flip_test(before, ~before) == mcnemar(gained, lost)
    assert sign_flip_test(before, ~before, own) == pytest.approx(mcnemar(gained, lost))


def test_the_sign_flip_test_holds_its_level_where_mcnemars_does_not():
    """40 groups of 160 that differ by 2 points, and no change on average."""
    rng, times, found = np.random.default_rng(0), 300, np.zeros(2)
    group = np.repeat(np.arange(40), 160)
    for _ in range(times):
        delta = np.clip(rng.normal(0, 0.02, 40), -0.1, 0.1)[group]
        chance, churn = rng.random(len(group)), np.maximum(0.04, np.abs(delta))
        gained, lost = chance < (churn + delta) / 2, chance > 1 - (churn - delta) / 2
        before = np.where(gained, False, np.where(lost, True, rng.random(len(group)) < 0.8))
        after = np.where(gained, True, np.where(lost, False, before))
        found += mcnemar(int(gained.sum()), int(lost.sum())) < 0.05, sign_flip_test(before, after, group) < 0.05
    alone, grouped = found / times
    assert alone > 0.15 and grouped <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / times)


def test_a_real_change_in_most_groups_is_found():
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(40), 160)
    before = rng.random(len(group)) < 0.8
    after = np.where(rng.random(len(group)) < 0.02, True, before)
    assert sign_flip_test(before, after, group) < 1e-4


def test_no_samples_decide_nothing():
    interval = paired_delta(np.zeros(0, bool), np.zeros(0, bool))
    assert interval.estimate == 0.0 and interval.low < 0 < interval.high


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_agrees_with_a_loop(p_values):
    expected, highest = {}, 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[i]))
        expected[i] = highest
    assert holm(p_values).tolist() == pytest.approx([expected[i] for i in range(len(p_values))])


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


def test_balanced_accuracy_is_scikit_learns():
    from sklearn.metrics import balanced_accuracy_score

    rng = np.random.default_rng(0)
    for classes in (2, 7, 40):
        labels = np.minimum(rng.geometric(0.3, 300) - 1, classes - 1)  # some classes are rare
        preds = np.where(rng.random(300) < 0.6, labels, 0)
        assert balanced_accuracy(preds == labels, labels) == pytest.approx(100 * balanced_accuracy_score(labels, preds))


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
