"""The rate probe: a few steps at each learning rate, judged on the tune part of the selection split."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ..answers.store import Store
from ..functional.calibration import fit_temperature
from ..types import Progress, TrainableClassifier, no_progress
from .plan import TrainingPlan
from .state import TrainingState
from .training import end_of_training, train

Objective = Callable[[Float[Tensor, "n C"]], float]
"""Student logits on the tune part to a number; lower is better."""
BORNE, SLACK = 1.25, 0.02
"""A rate is borne if a short training at it leaves the objective below so many times where it began, or no more than
so much above it. The slack is what a right answer given with 98% costs (−ln 0.98): a student that is perfect on the
tune part begins near 0, and a share of nothing would bear no rate. It decides where the objective begins below 0.08."""
CLIMB, HIGHEST = 3.0, 10.0
"""By how much a rate is raised that has made the student better within a short training, and up to where."""
RUINED = 1e9
"""Stands for an objective that is not finite."""


def calibrated_cross_entropy(labels: Int[Tensor, " n"]) -> Objective:
    """Judge by cross-entropy with the labels after a temperature fit: finer than accuracy, blind to confidence."""

    def objective(logits: Float[Tensor, "n C"]) -> float:
        return F.cross_entropy(logits / fit_temperature(logits, labels), labels).item()

    return objective


def choose_rate(
    student: TrainableClassifier,
    plan: TrainingPlan,
    answers: Callable[[TrainableClassifier], Float[Tensor, "n C"]],
    objective: Objective,
    store: Store | None = None,
    key: dict[str, Any] | None = None,
    progress: Progress = no_progress,
    teach: Callable[[TrainableClassifier, TrainingPlan], TrainingState] = train,
) -> tuple[float, dict[str, float]]:
    """Train a copy of the student shortly at several rates, and take one.

    On train it is the rate that ends best, the lower of two equals. Where a pool teaches it is the highest rate that
    the student bears: fresh samples reward a high rate at the end, and not after fifty steps, so what ends best after
    these is too low (docs/pool.md has the figures). A student that has become better after these at the highest rate
    has hardly been moved: three times that rate is tried, and so on.

    Args:
        student: Left as it is.
        plan: What will be taught; its `lr`, `epochs` and `max_steps` are replaced.
        answers: A model's logits on the tune part.
        objective: Judges them.
        store: Where the outcome is kept.
        key: Everything that the outcome depends on.
        progress: Told how many rates have been tried.
        teach: Trains a copy in place, as `train` does.

    Returns:
        The rate, and the objective of every rate tried.
    """
    rates = plan.probe_rates
    key = {"kind": "probe", **(key or {})}
    known = store.recall(key) if store is not None else None
    if known is not None:
        return known["lr"], known["objectives"]
    tried: dict[float, float] = {}
    begun = objective(answers(student)) if plan.teaches_pools else -math.inf
    bearable = bearable_from(begun)
    for done, rate in enumerate(reversed(rates)):
        tried[rate] = _after_a_short_training(student, plan, rate, answers, objective, teach)
        borne = tried[rate] <= bearable
        progress("trying rates", len(rates) if borne else done + 1, len(rates))
        if borne:
            break
    rate = rates[-1]
    while plan.teaches_pools and tried[rate] < begun and rate < HIGHEST:
        rate *= CLIMB
        tried[rate] = _after_a_short_training(student, plan, rate, answers, objective, teach)
    if plan.teaches_pools:
        best = max((rate for rate, value in tried.items() if value <= bearable), default=min(tried))
    else:
        best = min(rates, key=lambda rate: (tried[rate], rate))
    objectives = {f"{rate:g}": tried[rate] for rate in sorted(tried)}
    if store is not None:
        store.remember(key, {"lr": best, "objectives": objectives})
    return best, objectives


def bearable_from(begun: float) -> float:
    """Return up to where the objective may stand after a short training at a rate that is borne.

    Example:
        >>> bearable_from(1.0), bearable_from(0.0)
        (1.25, 0.02)
    """
    return max(BORNE * begun, begun + SLACK)


def _after_a_short_training(
    student: TrainableClassifier,
    plan: TrainingPlan,
    rate: float,
    answers: Callable[[TrainableClassifier], Float[Tensor, "n C"]],
    objective: Objective,
    teach: Callable[[TrainableClassifier, TrainingPlan], TrainingState],
) -> float:
    """Return the objective of a copy that was trained for a few steps; `RUINED` where that is not finite."""
    copy = student.clone()
    steps = min(plan.config.optim.probe_steps, plan.steps)
    short = replace(plan, lr=rate, max_steps=steps, epochs=math.ceil(steps / plan.steps_per_epoch))
    ended = teach(copy, short)
    if ended.diverged:
        return RUINED
    old = student.module.state_dict()
    copy.module.load_state_dict(end_of_training(plan.method, old, ended.weights, ended.slow))
    logits = answers(copy)
    value = objective(logits) if bool(logits.isfinite().all()) else math.inf
    return value if math.isfinite(value) else RUINED
