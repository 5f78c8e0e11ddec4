from functools import partial

import numpy as np
import pytest

from crossteach.config import GateConfig
from crossteach.functional.statistics import paired_delta
from crossteach.transferring import gate
from crossteach.transferring.gate import Held, decide

CONFIG = GateConfig()
N = 3000


def held(*changes, group=None):
    """Return samples of which, at each alpha, the first (gained, lost) samples changed."""
    before = np.arange(N) % 2 == 0
    along = []
    for gained, lost in changes:
        after = before.copy()
        after[np.flatnonzero(~before)[:gained]] = True
        after[np.flatnonzero(before)[:lost]] = False
        along.append(after)
    return Held(before, along, group)


def test_the_best_alpha_of_those_that_pass_is_taken():
    result = decide(held((60, 0), (90, 10), (70, 0), (1440, 1355)), CONFIG)
    assert (result.verdict, result.alpha) == ("accepted", 0.5)
    assert result.selection_delta == pytest.approx(100 * 80 / N)
    assert [step.alpha for step in result.path] == list(CONFIG.alphas)
    assert [step.delta.estimate for step in result.path] == pytest.approx([2.0, 80 / 30, 70 / 30, 85 / 30])
    assert result.path[3].delta.low < -CONFIG.max_loss


def test_the_largest_of_equals_is_taken():
    assert decide(held((9, 0), (50, 0), (60, 10), (9, 0)), CONFIG).alpha == 0.75


def test_where_no_alpha_passes_the_original_is_kept():
    result = decide(held((0, 0), (5, 5), (60, 70), (10, 90)), CONFIG)
    assert (result.verdict, result.alpha, result.selection_delta) == ("kept_original", 0.0, 0.0)


def one(gained, lost, group=None, **config):
    """Ask a gate with a single alpha."""
    return decide(held((gained, lost), group=group), GateConfig(alphas=(1.0,), **config))


def test_the_bounds_hold_for_all_alphas_at_once():
    """Of four points each may miss with a quarter of the probability that all together may."""
    (step, *_) = decide(held(*[(60, 50)] * 4), CONFIG).path
    assert step.delta.low == pytest.approx(one(60, 50, level=1 - (1 - CONFIG.level) / 4).path[0].delta.low)
    assert step.delta.low < one(60, 50).path[0].delta.low


def test_an_estimate_of_zero_is_not_taken_however_sure():
    for change in ((0, 0), (1, 1)):
        result = one(*change)
        assert result.verdict == "kept_original"
        assert result.path[0].delta.low > -CONFIG.max_loss


def test_a_positive_estimate_that_may_hide_a_loss_is_not_taken():
    assert one(205, 200).verdict == "kept_original"
    assert one(205, 200, max_loss=2.0).verdict == "accepted"
    low = one(205, 200).path[0].delta.low
    assert one(205, 200, max_loss=-low + 0.01).verdict == "accepted"
    assert one(205, 200, max_loss=-low - 0.01).verdict == "kept_original"


def test_the_bound_is_one_sided_at_the_level():
    bounds = [one(60, 50, level=level).path[0].delta.low for level in (0.8, 0.9, 0.975)]
    half_a_pair, ten, error = 100 / N, 100 * 10 / N, 100 * np.sqrt(110) / N
    assert bounds == sorted(bounds, reverse=True)
    assert bounds == pytest.approx([ten - z * error for z in (0.842, 1.282, 1.960)], abs=half_a_pair)


def test_what_one_group_gains_is_no_proof():
    group = np.arange(N) // 100
    before = np.arange(N) % 2 == 0
    after = (before & (group != 1)) | (group == 0)  # group 0 gains 50 samples, group 1 loses its 50
    after[np.flatnonzero(group == 1)[:20]] = True  # but for 10, and 10 more are gained
    config = GateConfig(alphas=(1.0,))
    alone, grouped = (decide(Held(before, [after], g), config) for g in (None, group))
    assert (alone.verdict, grouped.verdict) == ("accepted", "kept_original")
    assert alone.path[0].delta.estimate == grouped.path[0].delta.estimate


def flips(rng, deltas, churn, groups=None):
    """Simulate: each sample is gained or lost from some alpha on, or never changes.

    Args:
        rng: Of the simulation.
        deltas: True delta at each alpha, in points.
        churn: Share of samples that differ from the original at each alpha.
        groups: How many groups have rates of their own; None draws every sample alike.
    """
    gained = np.diff([(c + d / 100) / 2 for c, d in zip(churn, deltas, strict=True)], prepend=0)
    lost = np.diff([(c - d / 100) / 2 for c, d in zip(churn, deltas, strict=True)], prepend=0)
    assert min(*gained, *lost) >= 0, "flips are nested"
    shares = np.array([*gained, *lost, 1 - gained.sum() - lost.sum()])
    rates = shares[None] if groups is None else rng.dirichlet(30 * shares + 1e-9, groups)
    kind = (rng.random((len(rates), N // len(rates), 1)) > rates.cumsum(1)[:, None, :-1]).sum(2).ravel()
    k = len(deltas)
    before = np.where(kind < 2 * k, kind >= k, rng.random(N) < 0.8)
    along = [np.where((kind < 2 * k) & (kind % k <= i), kind < k, before) for i in range(k)]
    return Held(before, along, None if groups is None else np.repeat(np.arange(groups), N // groups))


def accepted_alphas(deltas, churn, groups, times):
    rng = np.random.default_rng(0)
    return np.array([decide(flips(rng, deltas, churn, groups), CONFIG).alpha for _ in range(times)])


def at_most(share, times):
    """Return a share with the slack of a simulation: three standard errors."""
    return share + 3 * np.sqrt(share * (1 - share) / times)


@pytest.fixture(params=[(None, 300), (30, 100)], ids=["ungrouped", "grouped"])
def simulation(request, monkeypatch):
    """How many groups, and how many gates are simulated; a short bootstrap decides them in the same way."""
    monkeypatch.setattr(gate, "paired_delta", partial(paired_delta, resamples=300))
    return request.param


@pytest.mark.parametrize("churn", [(0.02, 0.03, 0.04, 0.05), (0.05, 0.1, 0.15, 0.2)])
def test_weights_that_lose_all_that_is_allowed_are_seldom_taken(simulation, churn):
    alphas = accepted_alphas([-CONFIG.max_loss] * 4, churn, *simulation)
    assert (alphas > 0).mean() <= at_most(1 - CONFIG.level, simulation[1])


@pytest.mark.parametrize(
    ("deltas", "alpha", "share"),
    [
        pytest.param([0, 0, 0, 0], 0, 0.6, id="nothing changes"),
        pytest.param([-0.15, -0.3, -0.45, -0.6], 0.25, 0.1, id="harm grows with alpha"),
    ],
)
def test_what_does_not_help_is_seldom_taken(simulation, deltas, alpha, share):
    alphas = accepted_alphas(deltas, (0.02, 0.03, 0.04, 0.05), *simulation)
    assert (alphas > alpha).mean() <= at_most(share, simulation[1])


def test_a_clear_gain_is_nearly_always_taken(simulation):
    alphas = accepted_alphas([1.0, 2.0, 3.0, 4.0], (0.03, 0.05, 0.07, 0.09), *simulation)
    assert (alphas > 0).mean() >= 0.9


def classes(*changes, sizes):
    """Return so many samples a class, half of each right before; of each class, (gained, lost) changed."""
    labels = np.repeat(np.arange(len(sizes)), sizes)
    before = np.concatenate([np.arange(size) < size // 2 for size in sizes])
    after = before.copy()
    for c, (gained, lost) in enumerate(changes):
        after[np.flatnonzero(~before & (labels == c))[:gained]] = True
        after[np.flatnonzero(before & (labels == c))[:lost]] = False
    return Held(before, [after], labels=labels, names=("coat", "bag", "shoe"))


def test_balanced_accuracy_lets_every_class_count_the_same():
    """A large class gains what a small one loses: more samples are right, and fewer classes are served."""
    found = classes((60, 0), (0, 20), sizes=(2000, 100))
    plain, balanced = (
        decide(found, GateConfig(alphas=(1.0,), measure=measure)) for measure in ("accuracy", "balanced")
    )
    assert plain.verdict == "accepted"
    assert plain.selection_delta == pytest.approx(100 * 40 / 2100)
    assert balanced.verdict == "kept_original"
    assert balanced.path[0].delta.estimate == pytest.approx((3 - 20) / 2)


def test_no_class_may_be_shown_to_lose_more_than_its_budget():
    found = classes((60, 0), (2, 12), sizes=(2000, 100))
    config = partial(GateConfig, alphas=(1.0,))
    assert decide(found, config()).verdict == "accepted"
    refused = decide(found, config(class_max_loss=5.0))
    assert refused.verdict == "kept_original"
    assert "bag lost 10.0 points (12 lost, 2 gained)" in refused.classes
    assert decide(found, config(class_max_loss=11.0)).verdict == "accepted"


def test_a_loss_that_chance_would_make_vetoes_nothing():
    found = classes((60, 0), (7, 10), sizes=(2000, 50))  # -6 points, of 17 changes
    assert decide(found, GateConfig(alphas=(1.0,), class_max_loss=5.0)).verdict == "accepted"


def test_classes_too_small_to_judge_are_counted_with_the_number_they_lack():
    result = decide(
        classes((60, 0), (0, 0), (0, 3), sizes=(2000, 80, 79)), GateConfig(class_max_loss=5.0, alphas=(1.0,))
    )
    assert result.verdict == "accepted"
    assert "in 1 of 3 classes, of fewer than 80 samples, only a larger loss than 5 points could be" in result.classes
    few = classes((60, 0), (0, 4), sizes=(2000, 80))  # four losses, none gained: 5 points, and 0.5 ** 4 < 0.1
    assert decide(few, GateConfig(alphas=(1.0,), class_max_loss=4.9)).verdict == "kept_original"
