"""The plan of a training and its batches: what is taught, how fast and for how long. Training does not change it."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..config import PROBE_RATES, TransferConfig
from ..data.pixels import resize
from ..data.texts import join
from ..data.views import ViewBatch
from ..functional.judging import Judge
from ..models.features import FeaturePair
from ..types import NO_LABEL, Preprocess, TrainableClassifier
from .loss import TransferLoss
from .methods import Method
from .sources import Source, steps_an_epoch


@dataclass(frozen=True)
class TrainingPlan:
    """What a training reads: method, samples, views, tutors, rate and length."""

    method: Method
    config: TransferConfig
    sources: tuple[Source, ...]
    """Train, unless it is empty, and the pools."""
    lr: float
    epochs: int
    """An epoch passes at least once through every source."""
    max_steps: int | None = None
    """Ends the schedule early; for the rate probe."""
    temperatures: tuple[float, ...] | None = None
    """Of each tutor, where the method calibrates them."""
    judge: Judge | None = None
    """Of the tutors, where the method asks one."""
    known: Bool[Tensor, "K C"] | None = None
    """Which classes each tutor knows; None is all."""
    features: FeaturePair | None = None
    """Where the features are that the method compares, if it does."""
    table_lr: float | None = None
    """Of embedding tables, where they have a rate of their own."""
    shown: Bool[Tensor, " C"] | None = None
    """Which classes have any sample, where not all have: the others keep the old student's probability."""

    @cached_property
    def loss(self) -> TransferLoss:
        """The loss of a batch."""
        return TransferLoss(self.method, self.config.partition, self.temperatures, self.judge, self.known, self.shown)

    @cached_property
    def steps_per_epoch(self) -> int:
        """Batches in one pass through the source that takes most of them; the others repeat meanwhile."""
        return steps_an_epoch(self.sources)

    @property
    def teaches_pools(self) -> bool:
        """Whether a pool is among the sources."""
        return any(source.is_pool for source in self.sources)

    @property
    def probe_rates(self) -> tuple[float, ...]:
        """Rates that the probe may try, ascending: where a pool that shows all classes teaches by SGD one more."""
        rates, more = self.config.optim.probe_rates or PROBE_RATES[self.optimiser], self.config.pool.probe_rate
        if more is None or not self.teaches_pools or self.optimiser != "sgd" or self.shown is not None:
            return rates
        return tuple(sorted({*rates, more}))

    @property
    def optimiser(self) -> str:
        """Which optimiser teaches: `sgd` or `adamw`."""
        wanted = self.config.optim.optimiser
        if wanted != "auto":
            return wanted
        return "adamw" if self.sources[0].split.inputs.kind == "text" else "sgd"

    @property
    def steps(self) -> int:
        """Length of the schedule."""
        wanted = self.config.optim.steps
        whole = self.epochs * self.steps_per_epoch
        return self.max_steps or (whole if wanted is None else min(wanted, whole))

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
    """What one step reads; tensors are on the CPU."""

    views: tuple[ViewBatch, ...]
    """One of each source."""
    labels: Int[Tensor, " n"] | None
    """`NO_LABEL` for samples that have none."""
    targets: Float[Tensor, "n C"] | None
    shares: Float[Tensor, "T n"]
    """What each tutor, and last the label, has of each target."""
    from_pools: int
    """How many samples are of pools; they stand last."""

    def images(self, preprocess: Preprocess) -> Float[Tensor, "n c h w"]:
        """Return the pixels in [0, 1], at the model's size where the sources differ in theirs, or the texts."""
        parts = [view.images(preprocess) for view in self.views]
        if preprocess.kind == "text":
            return join(parts)
        if len({part.shape[2:] for part in parts}) > 1:
            assert preprocess.size is not None, "a setup with sources of other sizes has been refused"
            parts = [resize(part, preprocess.size, preprocess.interpolation) for part in parts]
        return parts[0] if len(parts) == 1 else torch.cat(parts)


def batches(plan: TrainingPlan, student: TrainableClassifier, epoch: int, first: int = 0) -> Iterator[Batch]:
    """Yield the batches of an epoch in its seeded order, targets chosen, pixels drawn.

    Args:
        plan: What is taught.
        student: Says at what size pixels are drawn.
        epoch: From 0.
        first: The batch to begin with: a resumed training has done those before it.
    """
    for within in range(first, plan.steps_per_epoch):
        step = epoch * plan.steps_per_epoch + within
        parts = [_part(plan, place, source, step) for place, source in enumerate(plan.sources)]
        labelled = any(source.split.labels is not None for source in plan.sources)
        labels = torch.cat([part.labels for part in parts]) if labelled else None
        answers = [part.tutors for part in parts if part.tutors is not None]
        chance = torch.cat([part.view.chance(plan.config.seed) for part in parts])
        targets, shares = plan.loss.targets(torch.cat(answers, 1) if answers else None, labels, chance, len(chance))
        from_pools = sum(len(part.labels) for part, source in zip(parts, plan.sources, strict=True) if source.is_pool)
        batch = Batch(tuple(part.view for part in parts), labels, targets, shares, from_pools)
        batch.images(student.preprocess)  # drawn here, so that a prefetching thread does the work
        if plan.features is not None:
            batch.images(plan.features.tutor.preprocess)
        yield batch


@dataclass(frozen=True)
class _Part:
    """What one source gives to a batch."""

    view: ViewBatch
    labels: Int[Tensor, " n"]
    tutors: Float[Tensor, "K n C"] | None


def _part(plan: TrainingPlan, place: int, source: Source, step: int) -> _Part:
    """Draw the samples of a step from one source, and let its tutors answer."""
    index, passed = source.samples(step, plan.config.seed, place)
    view = source.views.batch(source.split, index, source.views.numbers(passed, len(index)))
    labels = torch.full((len(index),), NO_LABEL)
    if source.split.labels is not None:
        labels = torch.from_numpy(source.split.labels[index])
    tutors = None if source.tutors is None or plan.method.targets is None else source.tutors.logits(view)
    return _Part(view, labels, tutors)
