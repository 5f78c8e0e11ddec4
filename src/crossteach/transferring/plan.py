"""The plan of a training and its batches: what is taught, how fast and for how long. Training does not change it."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..answers.tutors import StoredTutors
from ..config import PROBE_RATES, TransferConfig
from ..data.pixels import resize
from ..data.texts import join
from ..data.views import ViewBatch
from ..functional.judging import Judge
from ..models.features import FeaturePair
from ..types import NO_LABEL, Preprocess, TrainableClassifier
from .crew import ALONE, Alone, Crew, own_share
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
    """What one step reads, or one of several processes reads of it; tensors are on the CPU."""

    views: tuple[ViewBatch, ...]
    """One of each source."""
    labels: Int[Tensor, " n"] | None
    """`NO_LABEL` for samples that have none."""
    targets: Float[Tensor, "n C"] | None
    shares: Float[Tensor, "T n"]
    """What each tutor, and last the label, has of each target."""
    from_pools: int
    """How many samples are of pools; they stand last."""
    counted: int
    """Over how many samples the loss of the whole batch is a mean, those of other processes among them."""
    spare: bool = False
    """Whether the batch had no sample left for this process: it is shown one that does not count."""

    def images(self, preprocess: Preprocess) -> Float[Tensor, "n c h w"]:
        """Return the pixels in [0, 1], at the model's size where the sources differ in theirs, or the texts."""
        parts = [view.images(preprocess) for view in self.views]
        if preprocess.kind == "text":
            return join(parts)
        if len({part.shape[2:] for part in parts}) > 1:
            assert preprocess.size is not None, "a setup with sources of other sizes has been refused"
            parts = [resize(part, preprocess.size, preprocess.interpolation) for part in parts]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def parts(self, preprocess: Preprocess, count: int, loss: TransferLoss) -> Iterator["PartOfBatch"]:
        """Yield the batch in so many parts, or in as many as it has samples.

        Args:
            preprocess: The student's, at whose size the pixels are wanted.
            count: How many parts.
            loss: Says what a part weighs in the loss of the whole batch.
        """
        images = self.images(preprocess)
        count = min(count, len(images))
        for number in range(count):
            rows = own_share(len(images), Alone(number, count))
            targets, labels = (None if each is None else each[rows] for each in (self.targets, self.labels))
            of_part = 0 if self.spare else loss.counted(labels, rows.stop - rows.start)
            weight = of_part / max(self.counted, 1)
            yield PartOfBatch(images[rows], targets, labels, weight, last=number == count - 1)


@dataclass(frozen=True)
class PartOfBatch:
    """What the student is shown at once of a batch, and what it is taught of that."""

    images: Float[Tensor, "n c h w"]
    targets: Float[Tensor, "n C"] | None
    labels: Int[Tensor, " n"] | None
    weight: float
    """Of its mean loss in the loss of the whole batch."""
    last: bool
    """Whether the gradient of the batch is whole with it."""


def batches(
    plan: TrainingPlan, student: TrainableClassifier, epoch: int, first: int = 0, crew: Crew = ALONE
) -> Iterator[Batch]:
    """Yield the batches of an epoch in its seeded order, targets chosen, pixels drawn.

    Every process of a crew draws the same batch and takes its own share of each source's samples.

    Args:
        plan: What is taught.
        student: Says at what size pixels are drawn.
        epoch: From 0.
        first: The batch to begin with: a resumed training has done those before it.
        crew: Those who share the batches.
    """
    ahead = _batches_ahead(plan)
    last = min(plan.steps_per_epoch, plan.steps - epoch * plan.steps_per_epoch)  # views beyond have no answers
    for begin in range(first - first % ahead, last, ahead):  # the same ones together after a resume
        steps = range(begin, min(begin + ahead, last))
        drawn = [_draw(plan, epoch * plan.steps_per_epoch + within, crew) for within in steps]
        for batch in islice(_with_targets(plan, drawn), max(0, first - begin), None):
            batch.images(student.preprocess)  # drawn here, so that a prefetching thread does the work
            if plan.features is not None:
                batch.images(plan.features.tutor.preprocess)
            yield batch


AHEAD, AHEAD_BYTES = 8, 64 << 20
"""Batches whose targets are chosen at once where the tutors' answers are stored, and what these may take in memory.
Each row is chosen for itself, and many small operations become few larger ones."""


def _batches_ahead(plan: TrainingPlan) -> int:
    """Return for how many batches targets are chosen at once."""
    tutors = [source.tutors for source in plan.sources]
    stored = [each for each in tutors if isinstance(each, StoredTutors)]
    if plan.method.by_lot or len(stored) < len(tutors):
        return 1
    batch = 4 * stored[0].n_logits * plan.config.optim.batch_size
    return max(1, min(AHEAD, AHEAD_BYTES // batch))


@dataclass(frozen=True)
class _Drawn:
    """A batch whose targets are not chosen yet."""

    parts: list["_Part"]
    from_pools: int
    counted: int
    spare: bool

    @property
    def size(self) -> int:
        """How many samples it has."""
        return sum(len(part.labels) for part in self.parts)


def _draw(plan: TrainingPlan, step: int, crew: Crew) -> _Drawn:
    """Choose the samples of a step, and let their tutors answer."""
    drawn = [_Samples(s, *s.samples(step, plan.config.seed, place)) for place, s in enumerate(plan.sources)]
    own = [samples.share(crew) for samples in drawn if len(samples.share(crew).index)]
    parts = [_part(plan, samples) for samples in own or [drawn[0].first]]
    from_pools = sum(len(samples.index) for samples in own if samples.source.is_pool)
    return _Drawn(parts, from_pools, _count(plan.loss, drawn), spare=not own)


def _with_targets(plan: TrainingPlan, drawn: Sequence[_Drawn]) -> Iterator[Batch]:
    """Choose the targets of batches all together, and yield each with its own."""
    parts = [part for each in drawn for part in each.parts]
    sizes = [each.size for each in drawn]
    labelled = any(source.split.labels is not None for source in plan.sources)
    labels = torch.cat([part.labels for part in parts]) if labelled else None
    answers = [part.tutors for part in parts if part.tutors is not None]
    chance = torch.cat([part.view.chance(plan.config.seed) for part in parts]) if plan.method.by_lot else None
    targets, shares = plan.loss.targets(torch.cat(answers, 1) if answers else None, labels, chance, sum(sizes))
    of_labels = [None] * len(drawn) if labels is None else labels.split_with_sizes(sizes)
    of_targets = [None] * len(drawn) if targets is None else targets.split_with_sizes(sizes)
    for each, own, taught, share in zip(drawn, of_labels, of_targets, shares.split_with_sizes(sizes, 1), strict=True):
        views = tuple(part.view for part in each.parts)
        shown = torch.zeros_like(share) if each.spare else share
        yield Batch(views, own, taught, shown, each.from_pools, each.counted, each.spare)


@dataclass(frozen=True)
class _Samples:
    """What one source gives to a batch: samples, as positions in its split, and the pass that they belong to."""

    source: Source
    index: Int[np.ndarray, " n"]
    passed: int

    def share(self, crew: Crew) -> "_Samples":
        """Return those that one of several processes takes."""
        return self if crew.size == 1 else replace(self, index=self.index[own_share(len(self.index), crew)])

    @property
    def first(self) -> "_Samples":
        """The first sample alone."""
        return replace(self, index=self.index[:1])

    @property
    def labels(self) -> Int[Tensor, " n"]:
        """Their labels, or `NO_LABEL`."""
        labels = self.source.split.labels
        return torch.full((len(self.index),), NO_LABEL) if labels is None else torch.from_numpy(labels[self.index])


def _count(loss: TransferLoss, drawn: Sequence[_Samples]) -> int:
    """Return over how many samples of a batch its loss is a mean."""
    return sum(loss.counted(samples.labels, len(samples.index)) for samples in drawn)


@dataclass(frozen=True)
class _Part:
    """What one source gives to a batch, drawn."""

    view: ViewBatch
    labels: Int[Tensor, " n"]
    tutors: Float[Tensor, "K n C"] | None


def _part(plan: TrainingPlan, samples: _Samples) -> _Part:
    """Draw the views of samples, and let their tutors answer."""
    source, index = samples.source, samples.index
    view = source.views.batch(source.split, index, source.views.numbers(samples.passed, len(index)))
    tutors = None if source.tutors is None or plan.method.targets is None else source.tutors.logits(view)
    return _Part(view, samples.labels, tutors)
