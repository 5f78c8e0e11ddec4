"""Is the result better? The tune half proposes a point on the path from old to new weights, the gate half decides."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int

from .config import GateConfig
from .statistics import Interval, paired_delta

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
    evidence: str = ""
    """What speaks for the result where no label could."""


def decide(tune: Half, gate: Half, config: GateConfig) -> GateResult:
    """Take the alpha that the tune half likes best, if the gate half confirms it.

    Confirmed is a delta that is positive, and whose one-sided lower bound exceeds −max_loss. One alpha is tested, not
    all of them: the best of four tests would accept harm twice as often as its level says.

    Args:
        tune: Proposes the alpha with the highest accuracy, the largest of equals.
        gate: Has trained and tuned nothing.
        config: The alphas, the bound and its level.
    """
    level = 2 * config.level - 1  # a two-sided interval of this level has the one-sided bound as its lower end
    steps = tuple(
        Step(alpha, paired_points(tune.before, tuned), paired_delta(gate.before, gated, gate.group, level))
        for alpha, tuned, gated in zip(config.alphas, tune.along, gate.along, strict=True)
    )
    proposed = max(steps, key=lambda step: (step.tune_delta, step.alpha))
    if proposed.delta.estimate > 0 and proposed.delta.low > -config.max_loss:
        return GateResult("accepted", proposed.alpha, proposed.delta.estimate, steps)
    return GateResult("kept_original", 0.0, 0.0, steps)


def paired_points(before: Bool[np.ndarray, " N"], after: Bool[np.ndarray, " N"]) -> float:
    """Return accuracy after − before, in points."""
    return 100.0 * float(after.sum() - before.sum()) / len(before)
