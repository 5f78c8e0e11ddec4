"""Is the result better? Points on the path from old to new weights are tested on samples that nothing else has used."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import stats

from ..config import GateConfig
from ..errors import ConfigError, MissingLabelsError
from ..functional.statistics import Interval, balanced_weights, paired_delta
from ..types import Predictions
from .evidence import Evidence

Verdict = Literal["accepted", "kept_original", "unverified", "diverged"]
MUCH_TO_ASK = 0.3
"""Points; where want of groups makes the gate demand a larger gain, a gain that it does not take is `unverified`."""


@dataclass(frozen=True)
class Held:
    """Which samples of the held part of the selection split are right: the part that has trained and tuned nothing."""

    before: Bool[np.ndarray, " N"]
    """With the old weights."""
    along: Sequence[Bool[np.ndarray, " N"]]
    """With the weights at each alpha of the config."""
    group: Int[np.ndarray, " N"] | None = None
    """What samples have in common."""
    labels: Int[np.ndarray, " N"] | None = None
    """Class ids: for a gate that looks at classes."""
    names: Sequence[str] = ()
    """Of the classes."""


@dataclass(frozen=True)
class Step:
    """One point on the path."""

    alpha: float
    delta: Interval
    """In points; `low` is the one-sided bound, which holds for all points of the path at once."""


@dataclass(frozen=True)
class GateResult:
    """What the gate decided, and on what."""

    verdict: Verdict
    alpha: float
    """How far from the old weights (0) to the new (1) the returned ones stand."""
    selection_delta: float | None
    """Estimated delta of the returned weights; 0 when the original is kept."""
    path: tuple[Step, ...] = ()
    label_free: tuple[Evidence, Evidence] | None = None
    """What was found without labels, before and after: all there is where the verdict is `unverified`."""
    classes: str = ""
    """What the gate found in single classes, where it was asked to look."""
    groups: int | None = None
    """How many groups of samples decided; None where samples have none."""


def decide(before: Predictions, after: Predictions, config: GateConfig | None = None) -> GateResult:
    """Ask the gate whether new weights are better than old ones: for training loops of one's own.

    Args:
        before: What the old weights answer on labelled samples that have trained and tuned nothing.
        after: What the new weights answer on the same samples.
        config: The measure, the bounds and their level; None takes the defaults. Its alphas are not used: there are
            the new weights (1) and the old (0).

    Returns:
        `accepted` with alpha 1, or with alpha 0 `kept_original`, or `unverified` where too few groups speak for the new
        weights; what it rests on stands in `path` and `groups`.

    Raises:
        MissingLabelsError: If there are no labels.
        ConfigError: If the two are not answers to the same samples.

    Example:
        ```python
        before = crossteach.predict(student, data.selection)
        train(student.module)
        verdict = crossteach.decide(before, crossteach.predict(student, data.selection)).verdict
        ```
    """
    if before.labels is None or after.labels is None:
        raise MissingLabelsError("decide compares right answers and needs labels; give predictions of a labelled split")
    if not np.array_equal(before.ids, after.ids):
        raise ConfigError(
            f"decide needs answers of both models to the same samples; there are {len(before.ids)} and "
            f"{len(after.ids)} samples, or their ids differ"
        )
    held = Held(before.correct.numpy(), [after.correct.numpy()], before.group, before.labels.numpy())
    return choose_alpha(held, replace(config or GateConfig(), alphas=(1.0,)))


def choose_alpha(held: Held, config: GateConfig) -> GateResult:
    """Take the alpha with the highest accuracy among those that pass.

    An alpha passes if its delta is positive, its one-sided lower bound exceeds −max_loss, and (where the config asks)
    no class is shown to lose more than class_max_loss. Any of k points may be taken, so each bound has the level
    1 − (1 − level) / k (Bonferroni): weights that lose max_loss are taken no more often than the level says. Where
    samples have groups, the error allows for a group that is not among them and differs by `unseen_group` points:
    few groups say little about others (`benchmarks/gate_level.py`). Where that alone stands against a gain, and there
    are so few groups that it demands more than `MUCH_TO_ASK` points, the verdict is `unverified`: the original is
    returned, and labels of other groups could tell.

    Args:
        held: Has trained and tuned nothing.
        config: The alphas, the measure, the bounds and their level.
    """
    level, weights = _two_sided_level(config), _weights(held, config)
    steps = tuple(
        Step(alpha, paired_delta(held.before, after, held.group, level, weights, config.unseen_group))
        for alpha, after in zip(config.alphas, held.along, strict=True)
    )
    groups = None if held.group is None else len(np.unique(held.group))
    looked_at = [_look_at_classes(held, after, config) for after in held.along]
    passing = [
        place
        for place, (step, (harmed, _)) in enumerate(zip(steps, looked_at, strict=True))
        if step.delta.estimate > 0 and step.delta.low > -config.max_loss and not harmed
    ]
    if not passing:
        finding = next((finding for harmed, finding in looked_at if harmed), looked_at[-1][1])
        few = groups is not None and least_gain(groups, config) >= MUCH_TO_ASK
        undecided = few and choose_alpha(held, replace(config, unseen_group=0.0)).verdict == "accepted"
        verdict: Verdict = "unverified" if undecided else "kept_original"
        return GateResult(verdict, 0.0, 0.0, steps, classes=finding, groups=groups)
    best = max(passing, key=lambda place: (steps[place].delta.estimate, steps[place].alpha))
    chosen, finding = steps[best], looked_at[best][1]
    return GateResult("accepted", chosen.alpha, chosen.delta.estimate, steps, classes=finding, groups=groups)


def least_gain(groups: int, config: GateConfig) -> float:
    """Return the gain, in points, below which so many groups accept nothing, were they of one size and one mind."""
    quantile = float(stats.t.ppf(0.5 + _two_sided_level(config) / 2, max(groups - 1, 1)))
    return max(0.0, quantile * config.unseen_group / (groups + 1) - config.max_loss)


def _two_sided_level(config: GateConfig) -> float:
    """Return the level of intervals whose lower ends are the one-sided bounds of all alphas at once."""
    return 1 - 2 * (1 - config.level) / len(config.alphas)


def _weights(held: Held, config: GateConfig) -> Float[np.ndarray, " N"]:
    if config.measure == "accuracy":
        return np.ones(len(held.before))
    assert held.labels is not None, "balanced accuracy needs labels"
    return balanced_weights(held.labels)


def _look_at_classes(held: Held, after: Bool[np.ndarray, " N"], config: GateConfig) -> tuple[bool, str]:
    """Tell whether a class is shown to lose more than it may, and say what was found.

    Shown is a net loss above the budget in which lost samples outnumber gained ones beyond chance (one-sided sign test
    at the gate's level). With fewer samples than `enough`, even the smallest loss that is beyond chance is above it.

    Returns:
        Whether there is such a class, and a sentence.
    """
    budget = config.class_max_loss
    if budget is None:
        return False, ""
    assert held.labels is not None, "a budget for classes needs labels"
    fewest = math.floor(math.log2(1 / (1 - config.level))) + 1  # so many losses without a gain pass the sign test
    enough = math.ceil(100 * fewest / budget)
    sizes = np.bincount(held.labels)
    lost = np.bincount(held.labels[held.before & ~after], minlength=len(sizes))
    gained = np.bincount(held.labels[~held.before & after], minlength=len(sizes))
    points = 100.0 * (lost - gained) / np.maximum(sizes, 1)
    by_chance = stats.binom.sf(lost - 1, lost + gained, 0.5)
    harmed = np.flatnonzero((points > budget) & (by_chance < 1 - config.level))
    few = int(((sizes > 0) & (sizes < enough)).sum())
    finding = (
        f"in {few} of {int((sizes > 0).sum())} classes, of fewer than {enough} samples, only a larger loss than "
        f"{budget:g} points could be shown"
    )
    if len(harmed):
        worst = int(harmed[points[harmed].argmax()])
        name = held.names[worst] if held.names else f"class {worst}"
        finding = f"{name} lost {points[worst]:.1f} points ({lost[worst]} lost, {gained[worst]} gained); {finding}"
    return bool(len(harmed)), finding
