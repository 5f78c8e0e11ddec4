"""The training loop: one student, the targets of its tutors, as many epochs as asked."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..answers.tutors import Tutors
from ..config import TransferConfig
from ..data.prefetch import prefetch
from ..data.views import ViewBatch, Views
from ..functional.averaging import SlowWeights, State, interpolate, snapshot
from ..functional.losses import mixed
from ..functional.partition import RuleInputs
from ..models.asking import prepare_for, set_mode
from ..models.features import FeaturePair, Seen, features_of, reading
from ..types import Progress, Split, TrainableClassifier, no_progress
from .adapting import adapted, folded, learning
from .methods import Method, tutor_share

CHECK_EVERY = 20
"""Steps between two looks at whether the loss is still finite: each look waits for the GPU."""

MCL_TOTAL = 0.6
"""What τ to the power of all updates is by default: 0.9999 over the 5,000 updates of the paper."""


@dataclass
class TrainingState:
    """Where a training stands: everything that a resumed run needs to go on bit for bit."""

    epoch: int = 0
    weights: State = field(default_factory=dict)
    optimiser: dict[str, Any] = field(default_factory=dict)
    scaler: dict[str, Any] = field(default_factory=dict)
    slow: State | None = None
    contrast: State = field(default_factory=dict)
    """What a loss on features has learnt and remembers."""
    random: list[Tensor] = field(default_factory=list)
    records: list[dict[str, Any]] = field(default_factory=list)
    taught: list[float] = field(default_factory=list)
    """Samples that each tutor has taught, and the label last."""
    diverged: str = ""
    """Why the training stopped early; empty while it is well."""


@dataclass(frozen=True)
class Monitor:
    """What is measured on the tune part after each epoch, to stop a training that ruins its student."""

    what: Literal["accuracy", "agreement"]
    """Of the student as it stands: with the labels, or without them with the model that it agrees with most."""
    measure: Callable[[], float]
    """In %."""


@dataclass(frozen=True)
class TrainingPlan:
    """What is taught to whom: all that a training reads and does not change."""

    method: Method
    config: TransferConfig
    split: Split
    views: Views
    tutors: Tutors | None
    lr: float
    epochs: int
    max_steps: int | None = None
    """Ends the schedule early; the probe's."""
    temperatures: tuple[float, ...] | None = None
    """Of each tutor, where the method calibrates them."""
    features: FeaturePair | None = None
    """Where the features are that the method compares, if it does."""

    @property
    def steps_per_epoch(self) -> int:
        """Batches in one pass."""
        return math.ceil(len(self.split) / self.config.optim.batch_size)

    @property
    def steps(self) -> int:
        """Length of the schedule."""
        return self.max_steps or self.epochs * self.steps_per_epoch

    def rate(self, step: int) -> float:
        """Return the learning rate of a step: a linear rise, then a cosine to zero, or what it has risen to."""
        warmup = max(1, round(self.config.optim.warmup * self.steps))
        if step < warmup:
            return self.lr * (step + 1) / warmup
        if self.config.optim.schedule == "constant":
            return self.lr
        return self.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, self.steps - warmup)))


@dataclass(frozen=True)
class Batch:
    """What one step reads."""

    view: ViewBatch
    labels: Int[Tensor, " n"] | None
    """On the CPU, as all of a batch."""
    targets: Float[Tensor, "n C"] | None
    shares: Float[Tensor, "T n"] | None
    """What each tutor, and last the label, has of each target."""


def batches(plan: TrainingPlan, epoch: int, student: TrainableClassifier) -> Iterator[Batch]:
    """Yield the batches of an epoch in its seeded order, targets chosen, pixels drawn."""
    order = np.random.default_rng((plan.config.seed, epoch)).permutation(len(plan.split))
    for start in range(0, len(order), plan.config.optim.batch_size):
        index = order[start : start + plan.config.optim.batch_size]
        view = plan.views.batch(plan.split, index, plan.views.numbers(epoch, len(index)))
        labels = None if plan.split.labels is None else torch.from_numpy(plan.split.labels[index])
        targets, shares = None, None
        if plan.method.targets is not None:
            assert plan.tutors is not None
            given = RuleInputs(plan.config.partition.margin, plan.temperatures, view.chance(plan.config.seed))
            targets, shares = plan.method.targets(plan.tutors.logits(view), labels, given)
        view.images(student.preprocess)  # drawn here, so that a prefetching thread does the work
        if plan.features is not None:
            view.images(plan.features.tutor.preprocess)
        yield Batch(view, labels, targets, shares)


def train(
    student: TrainableClassifier,
    plan: TrainingPlan,
    position: TrainingState | None = None,
    after_epoch: Callable[[TrainingState], None] = lambda position: None,
    watch: Monitor | None = None,
    progress: Progress = no_progress,
) -> TrainingState:
    """Train a student in place.

    Args:
        student: Its module is changed.
        plan: What it is taught.
        position: Where an interrupted training stood; None starts anew.
        after_epoch: Called with the position after each epoch: to keep a checkpoint.
        watch: What is measured after each epoch; None measures nothing.
        progress: Told how many steps are done.

    Returns:
        The last position. `diverged` says why if the training broke off.
    """
    part, rank = plan.config.optim.part
    arguments = (student, plan, position, after_epoch, watch, progress)
    with seeded(plan.config.seed, student.device):
        if part != "lora":
            with learning(student.module, part, student.n_classes) as weights:
                return _train(weights, *arguments)
        with adapted(student.module, rank) as weights:
            ended = _train(weights, *arguments)
            few = np.arange(min(2, len(plan.split)))
            images = plan.views.batch(plan.split, few, 0 * few).images(student.preprocess)
            inputs = prepare_for(images, student.preprocess, student.device)
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


def _train(
    weights: list[nn.Parameter],
    student: TrainableClassifier,
    plan: TrainingPlan,
    position: TrainingState | None,
    after_epoch: Callable[[TrainingState], None],
    watch: Monitor | None,
    progress: Progress,
) -> TrainingState:
    optim, device = plan.config.optim, student.device
    precision = _precision(plan.config, device)
    state = _start(student, plan, weights, precision)
    optimiser, scaler, slow, contrast = state.optimiser, state.scaler, state.slow, state.contrast
    old = snapshot(student.module) if plan.method.alpha < 1 else {}
    began = watch.measure() if watch else None
    if position is None:
        position = TrainingState(taught=[0.0] * (len(plan.tutors.names) + 1 if plan.tutors else 1))
    else:
        _restore(position, student.module, state)
    for epoch in range(position.epoch, plan.epochs):
        started, total = time.perf_counter(), torch.zeros((), device=device)
        taught = torch.zeros(len(position.taught), dtype=torch.double)
        stream = batches(plan, epoch, student)
        threaded = plan.split.inputs.size is None or device.type != "cpu"
        for number, batch in enumerate(prefetch(stream) if threaded else stream):
            step = epoch * plan.steps_per_epoch + number
            if step >= plan.steps:
                break
            for group in optimiser.param_groups:
                group["lr"] = plan.rate(step)
            set_mode(student.module, optim.train_statistics)
            with (
                _reading_features(student, plan) as seen,
                torch.autocast(device.type, precision, enabled=precision != torch.float32),
            ):
                logits = student.logits(batch.view.images(student.preprocess))
            loss = _loss(logits.float(), batch, plan)
            if contrast is not None:
                loss = _with_contrast(loss, contrast, seen, batch, plan)
            scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            scaler.unscale_(optimiser)
            nn.utils.clip_grad_norm_(state.learning, optim.clip)
            scaler.step(optimiser)
            scaler.update()
            optimiser.zero_grad(set_to_none=True)
            if slow is not None:
                slow.update(student.module, step + 1)
            total += loss.detach()
            if batch.shares is not None:
                taught += tutor_share(batch.shares)
            else:
                taught[-1] += len(batch.view.index)
            if (step + 1) % CHECK_EVERY == 0:
                progress("training", step + 1, plan.steps)
                if not total.isfinite():
                    break
        set_mode(student.module, training=False)
        position.epoch = epoch + 1
        position.taught = [a + b for a, b in zip(position.taught, taught.tolist(), strict=True)]
        if not total.isfinite() or not _finite(student.module):
            position.diverged = f"the loss of epoch {epoch + 1} is not finite"
            return _stopped(position, student.module, slow)
        measured = _measure(student.module, slow, old, plan.method, watch)
        position.records.append(
            {
                "epoch": epoch + 1,
                "loss": total.item() / (number + 1),
                "lr": plan.rate(epoch * plan.steps_per_epoch),
                **({f"tune_{watch.what}": measured} if watch else {}),
                "seconds": round(time.perf_counter() - started, 3),
            }
        )
        if watch and measured is not None and began is not None and measured < optim.stop_below * began:
            position.diverged = (
                f"{watch.what} fell from {began:.1f} to {measured:.1f}% in epoch {epoch + 1}, below "
                f"optim.stop_below={optim.stop_below:g} of where it began; a lower optim.lr may help"
            )
            return _stopped(position, student.module, slow)
        _remember(position, student.module, state)
        after_epoch(position)
    return position


def _loss(logits: Float[Tensor, "n C"], batch: Batch, plan: TrainingPlan) -> Float[Tensor, ""]:
    partition = plan.config.partition
    weight = plan.method.kl_weight if partition.kl_weight is None else partition.kl_weight
    if plan.method.targets is None:
        weight = 0.0
    targets = None if batch.targets is None else batch.targets.to(logits.device)
    labels = None if batch.labels is None else batch.labels.to(logits.device)
    return mixed(logits, targets, labels, weight, partition.temperature, partition.top_classes)


def _reading_features(student: TrainableClassifier, plan: TrainingPlan) -> AbstractContextManager[Seen | None]:
    """Monitor the student's features, where the method compares them."""
    return nullcontext() if plan.features is None else reading(student.module, plan.features.student)


def _with_contrast(
    loss: Float[Tensor, ""], contrast: nn.Module, seen: Seen | None, batch: Batch, plan: TrainingPlan
) -> Float[Tensor, ""]:
    """Weigh cross-entropy against the loss on features."""
    pair, weights = plan.features, plan.method.features
    assert pair is not None and weights is not None and seen is not None and seen.features is not None
    assert batch.labels is not None
    theirs = features_of(pair.tutor, pair.teacher, batch.view.images(pair.tutor.preprocess))
    apart: Tensor = contrast(seen.features, theirs.to(loss.device), batch.labels.to(loss.device))
    return weights.label_weight * loss + weights.weight * apart


@dataclass(frozen=True)
class Optimisation:
    """What moves the student, and has a state of its own."""

    learning: list[nn.Parameter]
    """The student's weights that learn, and those of the loss."""
    optimiser: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    slow: SlowWeights | None
    contrast: nn.Module | None
    """A loss on features."""


def _start(
    student: TrainableClassifier, plan: TrainingPlan, weights: list[nn.Parameter], precision: torch.dtype
) -> Optimisation:
    optim, device, contrast = plan.config.optim, student.device, None
    if plan.features is not None and plan.method.features is not None:
        contrast = plan.method.features.make(*plan.features.widths, plan.config.contrast).to(device)
    learning = [*weights, *(contrast.parameters() if contrast is not None else ())]
    optimiser = torch.optim.SGD(learning, lr=plan.lr, momentum=optim.momentum, weight_decay=optim.weight_decay)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == torch.float16)
    return Optimisation(learning, optimiser, scaler, _slow_weights(student.module, plan), contrast)


def _precision(config: TransferConfig, device: torch.device) -> torch.dtype:
    wanted = config.optim.precision
    if wanted == "auto":
        if device.type != "cuda":
            return torch.float32
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[wanted]


def _slow_weights(module: nn.Module, plan: TrainingPlan) -> SlowWeights | None:
    if not plan.method.slow_weights:
        return None
    every, momentum = plan.config.partition.slow_every, plan.config.partition.slow_momentum
    updates = max(1, plan.steps // every)
    return SlowWeights(module, MCL_TOTAL ** (1 / updates) if momentum is None else momentum, every)


def _finite(module: nn.Module) -> bool:
    return all(bool(value.isfinite().all()) for value in module.state_dict().values())


def end_of_training(method: Method, old: Mapping[str, Tensor], weights: State, slow: State | None) -> State:
    """Return the weights that a method ends with: slow ones where there are any, on the way from the old ones."""
    new = weights if slow is None else slow
    return new if method.alpha == 1.0 else interpolate(old, new, method.alpha)


def _measure(
    module: nn.Module, slow: SlowWeights | None, old: State, method: Method, watch: Monitor | None
) -> float | None:
    """Measure what would be returned, on a borrowed module."""
    if watch is None:
        return None
    if slow is None and method.alpha == 1.0:
        return watch.measure()
    fast = snapshot(module)
    module.load_state_dict(end_of_training(method, old, fast, slow.state if slow else None))
    measured = watch.measure()
    module.load_state_dict(fast)
    return measured


def _stopped(position: TrainingState, module: nn.Module, slow: SlowWeights | None) -> TrainingState:
    """Keep the weights as they are at the end, however bad: they are reported, not returned."""
    position.weights, position.slow = snapshot(module), slow.state if slow else None
    return position


def _remember(position: TrainingState, module: nn.Module, state: Optimisation) -> None:
    position.weights = snapshot(module)
    position.optimiser = state.optimiser.state_dict()
    position.scaler = state.scaler.state_dict()
    position.slow = state.slow.state if state.slow else None
    position.contrast = {} if state.contrast is None else snapshot(state.contrast)
    device = next(module.parameters()).device
    position.random = [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]


def _restore(position: TrainingState, module: nn.Module, state: Optimisation) -> None:
    slow = state.slow
    module.load_state_dict(position.weights)
    position.weights = snapshot(module)  # on the module's device again
    state.optimiser.load_state_dict(position.optimiser)
    if position.scaler:
        state.scaler.load_state_dict(position.scaler)
    if state.contrast is not None:
        state.contrast.load_state_dict(position.contrast)
    if slow is not None and position.slow is not None:
        slow.state = {name: value.to(slow.state[name].device).clone() for name, value in position.slow.items()}
        position.slow = slow.state
    cpu, *gpu = position.random
    torch.set_rng_state(cpu)
    if gpu:
        torch.cuda.set_rng_state(gpu[0], next(module.parameters()).device)
