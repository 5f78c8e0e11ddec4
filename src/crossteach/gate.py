"""Is the result better? The tune half proposes a point on the path from old to new weights, the gate half decides."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import stats

from .config import GateConfig
from .evidence import Evidence
from .statistics import Interval, balanced_weights, paired_delta

Verdict = Literal["accepted", "kept_original", "unverified", "diverged"]


@dataclass(frozen=True)
class Half:
    """Which samples of one half of the selection split are right."""

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
    tune_delta: float
    """On the tune half, in points."""
    delta: Interval
    """On the gate half, in points; `low` is the one-sided bound."""


@dataclass(frozen=True)
class GateResult:
    """What the gate decided, and on what."""

    verdict: Verdict
    alpha: float
    """How far from the old weights (0) to the new (1) the returned ones stand."""
    selection_delta: float | None
    """Estimated delta of the returned weights on the gate half; 0 when the original is kept."""
    path: tuple[Step, ...] = ()
    label_free: tuple[Evidence, Evidence] | None = None
    """What was found without labels, before and after: all there is where the verdict is `unverified`."""
    classes: str = ""
    """What the gate found in single classes, where it was asked to look."""


def decide(tune: Half, gate: Half, config: GateConfig) -> GateResult:
    """Take the alpha that the tune half likes best, if the gate half confirms it.

    Confirmed is a delta that is positive, whose one-sided lower bound exceeds −max_loss, and (where the config asks)
    in which no class is shown to lose more than class_max_loss. One alpha is tested, not all of them: the best of four
    tests would accept harm twice as often as its level says.

    Args:
        tune: Proposes the alpha with the highest accuracy, the largest of equals.
        gate: Has trained and tuned nothing.
        config: The alphas, the measure, the bounds and their level.
    """
    level = 2 * config.level - 1  # a two-sided interval of this level has the one-sided bound as its lower end
    tune_weights, gate_weights = _weights(tune, config), _weights(gate, config)
    steps = tuple(
        Step(
            alpha,
            paired_points(tune.before, tuned, tune_weights),
            paired_delta(gate.before, gated, gate.group, level, gate_weights),
        )
        for alpha, tuned, gated in zip(config.alphas, tune.along, gate.along, strict=True)
    )
    place = max(range(len(steps)), key=lambda i: (steps[i].tune_delta, steps[i].alpha))
    proposed = steps[place]
    harmed, classes = _look_at_classes(gate, gate.along[place], config)
    if proposed.delta.estimate > 0 and proposed.delta.low > -config.max_loss and not harmed:
        return GateResult("accepted", proposed.alpha, proposed.delta.estimate, steps, classes=classes)
    return GateResult("kept_original", 0.0, 0.0, steps, classes=classes)


def _weights(half: Half, config: GateConfig) -> Float[np.ndarray, " N"]:
    if config.measure == "accuracy":
        return np.ones(len(half.before))
    assert half.labels is not None, "balanced accuracy needs the labels of a half"
    return balanced_weights(half.labels)


def paired_points(
    before: Bool[np.ndarray, " N"], after: Bool[np.ndarray, " N"], weights: Float[np.ndarray, " N"]
) -> float:
    """Return accuracy after − before, in points."""
    return 100.0 * float(weights @ (after.astype(np.int8) - before.astype(np.int8))) / len(before)


def _look_at_classes(gate: Half, after: Bool[np.ndarray, " N"], config: GateConfig) -> tuple[bool, str]:
    """Tell whether a class is shown to lose more than it may, and say what was found.

    Shown is a net loss above the budget in which lost samples outnumber gained ones beyond chance (one-sided sign test
    at the gate's level). With fewer samples than `enough`, even the smallest loss that is beyond chance is above it.

    Returns:
        Whether there is such a class, and a sentence.
    """
    budget = config.class_max_loss
    if budget is None:
        return False, ""
    assert gate.labels is not None, "a budget for classes needs the labels of a half"
    fewest = math.floor(math.log2(1 / (1 - config.level))) + 1  # so many losses without a gain pass the sign test
    enough = math.ceil(100 * fewest / budget)
    sizes = np.bincount(gate.labels)
    lost = np.bincount(gate.labels[gate.before & ~after], minlength=len(sizes))
    gained = np.bincount(gate.labels[~gate.before & after], minlength=len(sizes))
    points = 100.0 * (lost - gained) / np.maximum(sizes, 1)
    by_chance = stats.binom.sf(lost - 1, lost + gained, 0.5)
    harmed = np.flatnonzero((points > budget) & (by_chance < 1 - config.level))
    few = int(((sizes > 0) & (sizes < enough)).sum())
    told = (
        f"in {few} of {int((sizes > 0).sum())} classes, of fewer than {enough} samples, only a larger loss than "
        f"{budget:g} points could be shown"
    )
    if len(harmed):
        worst = int(harmed[points[harmed].argmax()])
        name = gate.names[worst] if gate.names else f"class {worst}"
        told = f"{name} lost {points[worst]:.1f} points ({lost[worst]} lost, {gained[worst]} gained); {told}"
    return bool(len(harmed)), told
