"""The training loop: one student, the targets of its tutors, as many epochs as asked."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..data.prefetch import prefetch
from ..functional.averaging import State, interpolate, snapshot
from ..models.asking import set_mode
from ..models.features import Seen, features_of, reading
from ..types import Progress, TrainableClassifier, no_progress
from .adapting import adapted, folded, learning
from .crew import ALONE, Crew
from .methods import Method
from .passes import Passes, passes_of, two_views
from .plan import Batch, PartOfBatch, TrainingPlan, batches
from .state import Optimisation, TrainingState

CHECK_EVERY = 20
"""Steps between two checks that the loss is still finite: each check waits for the GPU."""
SAVE_EVERY = 600.0
"""Seconds between two checkpoints inside an epoch; the end of an epoch always makes one."""

Save = Callable[[TrainingState], None]


@dataclass(frozen=True)
class Monitor:
    """What is measured on the tune part after each epoch, to stop a training that ruins its student."""

    what: Literal["accuracy", "agreement"]
    """Of the student as it stands: with the labels, or without them with the model that it agrees with most."""
    measure: Callable[[], float]
    """In %."""


def train(
    student: TrainableClassifier,
    plan: TrainingPlan,
    state: TrainingState | None = None,
    save: Save = lambda state: None,
    monitor: Monitor | None = None,
    progress: Progress = no_progress,
    crew: Crew = ALONE,
) -> TrainingState:
    """Train a student in place.

    Args:
        student: Its module is changed.
        plan: What it is taught.
        state: Where an interrupted training stood; None starts anew.
        save: Called with the state after each epoch, and every ten minutes: to keep a checkpoint.
        monitor: What is measured after each epoch; None measures nothing.
        progress: Called with the number of steps that are done.
        crew: Those who train it together: each calls this with the same student, plan and state.

    Returns:
        The last state. `diverged` says why if the training broke off. Of a crew the leader has the counts.
    """
    part, rank = plan.config.optim.part
    state = state or TrainingState()
    with seeded(plan.config.seed, student.device), flushing():
        if part != "lora":
            with learning(student.module, part, student.n_classes) as weights:
                return _train(student, plan, weights, state, save, monitor, progress, crew)
        with adapted(student.module, rank) as weights:
            ended = _train(student, plan, weights, state, save, monitor, progress, crew)
            inputs = student.prepared(two_views(student, plan))
            plain = folded(student.module, ended.weights, inputs)
            slow = None if ended.slow is None else folded(student.module, ended.slow, inputs)
    student.module.load_state_dict(plain)
    return replace(ended, weights=plain, slow=slow)


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Let dropout, where it is on, draw from a seed; the caller's random stream stays untouched."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


@contextmanager
def flushing() -> Iterator[None]:
    """Let this thread of the CPU take numbers below 1e-38 for 0.

    Gradients are as small as that where a student is taught what it says itself: its frozen copy is its first teacher.
    A processor works on such numbers many times slower, and no weight changes by them.
    """
    before = torch.tensor(1e-39).mul(1.0).item() == 0.0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def _train(
    student: TrainableClassifier,
    plan: TrainingPlan,
    weights: list[nn.Parameter],
    state: TrainingState,
    save: Save,
    monitor: Monitor | None,
    progress: Progress,
    crew: Crew,
) -> TrainingState:
    began = monitor.measure() if monitor else None
    old = snapshot(student.module) if plan.method.alpha < 1 else {}
    if state.step:
        student.module.load_state_dict(state.weights)
    saved = time.monotonic()
    with passes_of(student, plan, crew) as passes:
        optimisation = Optimisation(student, plan, weights, crew.size, passes.learner)
        if state.step:
            optimisation.read_from(state)
        while state.step < plan.steps and not state.diverged:
            epoch, first = divmod(state.step, plan.steps_per_epoch)
            started = time.perf_counter() - state.epoch_seconds
            for batch in _prepared(batches(plan, student, epoch, first, crew), plan, optimisation.device):
                loss = _learn(student, passes, batch, plan, optimisation, state.step)
                _count(state, loss, batch)
                if state.step % CHECK_EVERY == 0:
                    progress("training", state.step, plan.steps)
                    if not _finite_loss(state, crew):
                        break
                if state.step == plan.steps:
                    break
                if _is_time(saved, state.step, crew) and state.step % plan.steps_per_epoch:
                    state.epoch_seconds = time.perf_counter() - started
                    passes.settle()
                    saved = _save(state, optimisation, save, crew)
            passes.settle()
            set_mode(student.module, training=False)
            if not (_finite_loss(state, crew) and crew.tell(_finite_weights(student.module))):
                state.diverged = f"the loss of epoch {epoch + 1} is not finite"
                break
            measured = _measure(student.module, optimisation, old, plan.method, monitor)
            _record(state, plan, epoch, monitor, measured, time.perf_counter() - started)
            state.diverged = crew.tell(_fallen(monitor, began, measured, epoch, plan.config.optim.stop_below))
            if not state.diverged:
                saved = _save(state, optimisation, save, crew)
    if state.diverged:  # the weights are kept as they are, however bad: they are reported, not returned
        state.weights = snapshot(student.module)
        state.slow = optimisation.slow.state if optimisation.slow is not None else None
    return state


def _prepared(stream: Iterator[Batch], plan: TrainingPlan, device: torch.device) -> Iterator[Batch]:
    """Let a thread prepare batches where that is worth it: images are decoded, or a GPU would wait."""
    decoded = any(source.split.inputs.size is None for source in plan.sources)
    return prefetch(stream) if decoded or device.type != "cpu" else stream


def _learn(
    student: TrainableClassifier,
    passes: Passes,
    batch: Batch,
    plan: TrainingPlan,
    optimisation: Optimisation,
    number: int,
) -> Float[Tensor, ""]:
    """Take step `number` on a batch, and return its loss; of a batch that is shared, what this process adds to it."""
    set_mode(student.module, plan.config.optim.train_statistics)
    total: Tensor | None = None
    for part in batch.parts(student.preprocess, plan.config.optim.accumulate, plan.loss):
        with nullcontext() if part.last else passes.apart():
            loss = _loss(student, passes, part, batch, plan, optimisation)
            loss = loss if part.weight == 1.0 else loss * part.weight
            optimisation.add(loss)
        total = loss.detach() if total is None else total + loss.detach()
    optimisation.step(plan.rate(number), number)
    assert total is not None, "a batch has a sample"
    return total


def _loss(
    student: TrainableClassifier,
    passes: Passes,
    part: PartOfBatch,
    batch: Batch,
    plan: TrainingPlan,
    optimisation: Optimisation,
) -> Float[Tensor, ""]:
    """Ask the student about a part of a batch, and compare its answers with what it is taught."""
    precision, device = optimisation.precision, optimisation.device
    with (
        _reading_features(student, plan) as seen,
        torch.autocast(device.type, precision, enabled=precision != torch.float32),
    ):
        logits = passes.logits(part.images)
    loss = plan.loss.of(logits.float(), part.targets, part.labels)
    return loss if optimisation.contrast is None else _with_contrast(loss, optimisation.contrast, seen, batch, plan)


def _reading_features(student: TrainableClassifier, plan: TrainingPlan) -> AbstractContextManager[Seen | None]:
    """Read the student's features, where the method compares them."""
    return nullcontext() if plan.features is None else reading(student.module, plan.features.student)


def _with_contrast(
    loss: Float[Tensor, ""], contrast: nn.Module, seen: Seen | None, batch: Batch, plan: TrainingPlan
) -> Float[Tensor, ""]:
    """Weigh cross-entropy against the loss on features."""
    pair, weights = plan.features, plan.method.features
    assert pair is not None and weights is not None and seen is not None and seen.features is not None
    assert batch.labels is not None
    theirs = features_of(pair.tutor, pair.teacher, batch.images(pair.tutor.preprocess))
    apart: Tensor = contrast(seen.features, theirs.to(loss.device), batch.labels.to(loss.device))
    return weights.label_weight * loss + weights.weight * apart


def _count(state: TrainingState, loss: Float[Tensor, ""], batch: Batch) -> None:
    """Count a step: its loss, and who taught its samples."""
    state.step += 1
    loss, shares = loss.detach(), batch.shares.double().cpu()
    state.epoch_loss = loss.clone() if state.epoch_loss is None else state.epoch_loss.to(loss.device) + loss
    taught, of_pools = shares.sum(1), shares[:, shares.shape[1] - batch.from_pools :].sum(1)
    state.taught = taught if state.taught is None else state.taught + taught
    state.taught_of_pools = of_pools if state.taught_of_pools is None else state.taught_of_pools + of_pools


def _record(
    state: TrainingState,
    plan: TrainingPlan,
    epoch: int,
    monitor: Monitor | None,
    measured: float | None,
    seconds: float,
) -> None:
    """Write down an epoch that is done."""
    assert state.epoch_loss is not None
    state.records.append(
        {
            "epoch": epoch + 1,
            "loss": state.epoch_loss.item() / (state.step - epoch * plan.steps_per_epoch),
            "lr": plan.rate(epoch * plan.steps_per_epoch),
            **({f"tune_{monitor.what}": measured} if monitor else {}),
            "seconds": round(seconds, 3),
        }
    )
    state.epoch_loss, state.epoch_seconds = None, 0.0


def _fallen(monitor: Monitor | None, began: float | None, measured: float | None, epoch: int, stop_below: float) -> str:
    """Return why a training has to stop, if the monitored share has fallen too far; else an empty text."""
    if monitor is None or began is None or measured is None or measured >= stop_below * began:
        return ""
    return (
        f"{monitor.what} fell from {began:.1f} to {measured:.1f}% in epoch {epoch + 1}, below "
        f"optim.stop_below={stop_below:g} of where it began; a lower optim.lr may help"
    )


def _is_time(saved: float, step: int, crew: Crew) -> bool:
    """Tell whether a checkpoint is due; of a crew the leader's clock tells."""
    return step % crew.talks_every == 0 and crew.tell(time.monotonic() - saved > SAVE_EVERY)


def _save(state: TrainingState, optimisation: Optimisation, save: Save, crew: Crew) -> float:
    """Make a checkpoint, and return when."""
    _collect(state, crew)
    optimisation.write_to(state)
    save(state)
    return time.monotonic()


def _collect(state: TrainingState, crew: Crew) -> None:
    """Let the leader of a crew have what all of them have counted."""
    counts = (state.epoch_loss, state.taught, state.taught_of_pools)
    state.epoch_loss, state.taught, state.taught_of_pools = crew.collect(counts)


def _finite_loss(state: TrainingState, crew: Crew) -> bool:
    """Tell whether the loss of the epoch is finite, of all who train."""
    _collect(state, crew)
    return crew.tell(_finite(state))


def _finite(state: TrainingState) -> bool:
    return state.epoch_loss is None or bool(state.epoch_loss.isfinite())


def _finite_weights(module: nn.Module) -> bool:
    return all(bool(value.isfinite().all()) for value in module.state_dict().values())


def end_of_training(method: Method, old: Mapping[str, Tensor], weights: State, slow: State | None) -> State:
    """Return the weights that a method ends with: slow ones where there are any, on the way from the old ones."""
    new = weights if slow is None else slow
    return new if method.alpha == 1.0 else interpolate(old, new, method.alpha)


def _measure(
    module: nn.Module, optimisation: Optimisation, old: State, method: Method, monitor: Monitor | None
) -> float | None:
    """Measure the weights that would be returned; the module has its own again afterwards."""
    if monitor is None:
        return None
    slow = optimisation.slow
    if slow is None and method.alpha == 1.0:
        return monitor.measure()
    fast = snapshot(module)
    module.load_state_dict(end_of_training(method, old, fast, slow.state if slow else None))
    measured = monitor.measure()
    module.load_state_dict(fast)
    return measured
