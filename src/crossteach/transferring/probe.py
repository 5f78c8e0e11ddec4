"""The rate probe: a few steps at each learning rate, judged on the tune part of the selection split."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ..answers.store import Store
from ..functional.calibration import fit_temperature
from ..types import Progress, TrainableClassifier, no_progress
from .plan import TrainingPlan
from .state import TrainingState, tables_of
from .training import end_of_training, train

Objective = Callable[[Float[Tensor, "n C"]], float]
"""Student logits on the tune part to a number; lower is better."""
BORNE, SLACK = 1.25, 0.02
"""A rate is borne if a short training at it leaves the objective below so many times where it began, or no more than
so much above it. The slack is what a right answer given with 98% costs (−ln 0.98): a student that is perfect on the
tune part begins near 0, and a share of nothing would bear no rate. It decides where the objective begins below 0.08."""
CLIMB, HIGHEST = 3.0, 10.0
"""By how much a rate is raised while that makes the student better within a short training, and up to where."""
RUINED = 1e9
"""Stands for an objective that is not finite."""


class Rates(NamedTuple):
    """What the probe has found."""

    lr: float
    table_lr: float | None
    """Of embedding tables; None where they have no rate of their own."""
    objectives: dict[str, float]
    """What the tune part says after a short training at each rate; rates of tables begin with `tables at`."""


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
) -> Rates:
    """Train a copy of the student shortly at several rates, and take one.

    On train it is the rate that ends best, the lower of two equals. Where a pool teaches it is the highest rate that
    the student bears: fresh samples reward a high rate at the end, and not after fifty steps, so what ends best after
    these is too low (docs/pool.md has the figures). A student that SGD has made better even at the highest rate has
    hardly been moved: three times that rate is tried, and so on while it ends better.

    AdamW moves each weight by its rate, whatever the gradient. Rows of an embedding table, which few samples meet, gain
    from a hundred times the rate at which other weights forget what no sample shows. So tables have a rate of their
    own: raised by three while a short training ends better, and of these the last but one before the best, since here
    a long training rewards a lower rate than a short one (docs/published_models.md).

    Args:
        student: Left as it is.
        plan: What will be taught; its rates, `epochs` and `max_steps` are replaced.
        answers: A model's logits on the tune part.
        objective: Judges them.
        store: Where the outcome is kept.
        key: Everything that the outcome depends on.
        progress: Told how many rates have been tried.
        teach: Trains a copy in place, as `train` does.
    """
    key = {"kind": "probe", **(key or {})}
    known = store.recall(key) if store is not None else None
    if known is not None:
        return Rates(**known)

    def ends_at(lr: float, table_lr: float | None = plan.table_lr) -> float:
        return _after_a_short_training(student, replace(plan, lr=lr, table_lr=table_lr), answers, objective, teach)

    tried: dict[float, float] = {}
    begun = objective(answers(student)) if plan.teaches_pools else -math.inf
    best = _best_rate(plan, ends_at, begun, tried, progress)
    found = {f"{rate:g}": tried[rate] for rate in sorted(tried)}
    table_lr = plan.table_lr
    if table_lr is None and plan.optimiser == "adamw" and tables_of(student.module):
        of_tables = _climb(best, tried[best], lambda rate: ends_at(best, rate))
        found |= {f"tables at {rate:g}": value for rate, value in of_tables.items() if rate != best}
        table_lr = max(min(of_tables, key=lambda rate: (of_tables[rate], rate)) / CLIMB, best)
    rates = Rates(best, table_lr, found)
    if store is not None:
        store.remember(key, rates._asdict())
    return rates


def _best_rate(
    plan: TrainingPlan, ends_at: Callable[[float], float], begun: float, tried: dict[float, float], progress: Progress
) -> float:
    """Return the best of the plan's rates, and put where each has ended into `tried`."""
    rates, bearable = plan.probe_rates, bearable_from(begun)
    for done, rate in enumerate(reversed(rates)):
        tried[rate] = ends_at(rate)
        borne = tried[rate] <= bearable
        progress("trying rates", len(rates) if borne else done + 1, len(rates))
        if borne:
            break
    if not plan.teaches_pools:
        return min(rates, key=lambda rate: (tried[rate], rate))
    highest = rates[-1]
    if plan.optimiser == "sgd" and plan.shown is None and tried[highest] < begun:
        climbed = _climb(highest, tried[highest], ends_at)
        tried.update(climbed)
        return min(climbed, key=lambda rate: (climbed[rate], rate))
    return max((rate for rate, value in tried.items() if value <= bearable), default=min(tried))


def _climb(rate: float, value: float, ends_at: Callable[[float], float]) -> dict[float, float]:
    """Raise a rate for as long as each ends better than the one before it; return where all that were tried ended."""
    tried = {rate: value}
    while rate < HIGHEST:
        rate, before = rate * CLIMB, tried[rate]
        tried[rate] = ends_at(rate)
        if tried[rate] >= before:
            break
    return tried


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
    answers: Callable[[TrainableClassifier], Float[Tensor, "n C"]],
    objective: Objective,
    teach: Callable[[TrainableClassifier, TrainingPlan], TrainingState],
) -> float:
    """Return the objective of a copy that was trained for a few steps; `RUINED` where that is not finite."""
    copy = student.clone()
    steps = min(plan.config.optim.probe_steps, plan.steps)
    short = replace(plan, max_steps=steps, epochs=math.ceil(steps / plan.steps_per_epoch))
    ended = teach(copy, short)
    if ended.diverged:
        return RUINED
    old = student.module.state_dict()
    copy.module.load_state_dict(end_of_training(plan.method, old, ended.weights, ended.slow))
    logits = answers(copy)
    value = objective(logits) if bool(logits.isfinite().all()) else math.inf
    return value if math.isfinite(value) else RUINED
