"""The rate probe: a few steps at each learning rate, judged on the tune part of the selection split."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ..answers.store import Store
from ..functional.calibration import fit_temperature
from ..types import Progress, TrainableClassifier, no_progress
from .plan import TrainingPlan
from .training import end_of_training, train

Objective = Callable[[Float[Tensor, "n C"]], float]
"""Student logits on the tune part to a number; lower is better."""


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
) -> tuple[float, dict[str, float]]:
    """Train a copy of the student shortly at each rate, and take the rate that ends best; the lower of two equals.

    Args:
        student: Left as it is.
        plan: What will be taught; its `lr`, `epochs` and `max_steps` are replaced.
        answers: A model's logits on the tune part.
        objective: Judges them.
        store: Where the outcome is kept.
        key: Everything that the outcome depends on.

    Returns:
        The rate, and the objective of every rate tried.
    """
    optim, rates = plan.config.optim, plan.probe_rates
    key = {"kind": "probe", **(key or {})}
    known = store.recall(key) if store is not None else None
    if known is not None:
        return known["lr"], known["objectives"]
    objectives: dict[str, float] = {}
    for done, rate in enumerate(rates):
        copy = student.clone()
        steps = min(optim.probe_steps, plan.steps)
        short = replace(plan, lr=rate, max_steps=steps, epochs=math.ceil(steps / plan.steps_per_epoch))
        ended = train(copy, short)
        if not ended.diverged:
            old = student.module.state_dict()
            copy.module.load_state_dict(end_of_training(plan.method, old, ended.weights, ended.slow))
        logits = answers(copy) if not ended.diverged else torch.full((1, 1), math.nan)
        value = objective(logits) if bool(logits.isfinite().all()) else math.inf
        objectives[f"{rate:g}"] = value if math.isfinite(value) else 1e9
        progress("trying rates", done + 1, len(rates))
    best = min(rates, key=lambda rate: (objectives[f"{rate:g}"], rate))
    if store is not None:
        store.remember(key, {"lr": best, "objectives": objectives})
    return best, objectives
