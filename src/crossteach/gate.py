"""Is the result better? The walk from old to new weights, and the verdict."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool

from .config import GateConfig
from .statistics import Interval, paired_delta

Verdict = Literal["accepted", "kept_original", "unverified", "diverged"]


@dataclass(frozen=True)
class Step:
    """One point on the path."""

    alpha: float
    delta: Interval
    """On the gate half of the selection split, in points; `low` is the one-sided bound."""
    passes: bool


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


def decide(
    before: Bool[np.ndarray, " N"],
    along: Sequence[tuple[float, Bool[np.ndarray, " N"]]],
    config: GateConfig,
    group: np.ndarray | None = None,
) -> GateResult:
    """Take the largest alpha whose delta is positive and whose lower bound exceeds −max_loss.

    Args:
        before: Which samples of the gate half the original has right.
        along: For each alpha, rising, which samples the weights there have right.
        config: The bound and its level.
        group: What samples have in common.
    """
    steps = []
    for alpha, after in along:
        delta = paired_delta(before, after, group, level=2 * config.level - 1)
        steps.append(Step(alpha, delta, delta.estimate > 0 and delta.low > -config.max_loss))
    passed = [step for step in steps if step.passes]
    if not passed:
        return GateResult("kept_original", 0.0, 0.0, tuple(steps))
    return GateResult("accepted", passed[-1].alpha, passed[-1].delta.estimate, tuple(steps))
