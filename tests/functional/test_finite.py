"""The interval of a change from a few labels: it holds its level, and meets plain enumeration."""

import functools
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossteach.errors import ConfigError
from crossteach.functional import Drawn, net_interval
from crossteach.functional.finite import _probability


def test_probabilities_meet_enumeration():
    values = [1] * 4 + [-1] * 3 + [0] * 3
    draws = [sum(values[i] for i in drawn) for drawn in combinations(range(10), 5)]
    for seen in range(-4, 5):
        for above in (True, False):
            share = Fraction(sum((d >= seen) if above else (d <= seen) for d in draws), len(draws))
            assert _probability(10, 5, 7, 4, seen, above) == pytest.approx(float(share), abs=1e-12)


@pytest.mark.parametrize(
    ("differing", "wins", "losses"), [(60, 30, 20), (60, 5, 40), (80, 2, 1), (150, 75, 75), (150, 0, 0), (40, 40, 0)]
)
@pytest.mark.parametrize("labelled", [15, 30])
def test_the_interval_covers_at_its_level_and_the_estimate_is_unbiased(differing, wins, losses, labelled):
    rng, values, interval = np.random.default_rng(0), np.zeros(differing, int), functools.cache(net_interval)
    values[:wins], values[wins : wins + losses] = 1, -1
    truth, covered, times, estimates = 100 * (wins - losses) / 4000, 0, 200, []
    for _ in range(times):
        drawn = rng.permutation(values)[:labelled]
        found = interval(Drawn(4000, differing, labelled, int((drawn > 0).sum()), int((drawn < 0).sum())), 0.9)
        covered += found.low - 1e-9 <= truth <= found.high + 1e-9
        estimates.append(found.estimate)
    assert covered / times >= 0.9 - 2.6 * (0.09 / times) ** 0.5
    assert abs(np.mean(estimates) - truth) <= 4 * np.std(estimates) / times**0.5 + 1e-9


@given(st.integers(1, 60), st.data())
def test_it_holds_what_is_possible_and_nothing_else(differing, data):
    labelled = data.draw(st.integers(0, differing))
    wins = data.draw(st.integers(0, labelled))
    losses = data.draw(st.integers(0, labelled - wins))
    found = net_interval(Drawn(500, differing, labelled, wins, losses))
    least, most = wins - losses - (differing - labelled), wins - losses + (differing - labelled)
    assert least / 5 - 1e-9 <= found.low <= found.high <= most / 5 + 1e-9
    assert found.low - 1e-9 <= found.estimate <= found.high + 1e-9
    if labelled == differing:
        assert found.low == found.high == pytest.approx((wins - losses) / 5)


def test_wins_and_losses_mirror_each_other():
    found, other = net_interval(Drawn(1000, 80, 30, 14, 6)), net_interval(Drawn(1000, 80, 30, 6, 14))
    assert (found.low, found.high) == pytest.approx((-other.high, -other.low))


def test_more_labels_say_more():
    widths = []
    for labelled in (20, 40, 80, 160):
        found = net_interval(Drawn(5000, 160, labelled, labelled // 2, labelled // 4))
        widths.append(found.high - found.low)
    assert widths == sorted(widths, reverse=True) and widths[-1] == 0


def test_numbers_that_cannot_be_are_refused():
    with pytest.raises(ConfigError, match="each number must hold those after it"):
        Drawn(100, 10, 5, 4, 3)
