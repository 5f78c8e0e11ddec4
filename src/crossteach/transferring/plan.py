"""The plan of a training and its batches: what is taught, how fast and for how long. Training does not change it."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..answers.tutors import Tutors
from ..config import TransferConfig
from ..data.views import ViewBatch, Views
from ..models.features import FeaturePair
from ..types import Split, TrainableClassifier
from .loss import TransferLoss
from .methods import Method


@dataclass(frozen=True)
class TrainingPlan:
    """What a training reads: method, samples, views, tutors, rate and length."""

    method: Method
    config: TransferConfig
    split: Split
    views: Views
    tutors: Tutors | None
    lr: float
    epochs: int
    max_steps: int | None = None
    """Ends the schedule early; for the rate probe."""
    temperatures: tuple[float, ...] | None = None
    """Of each tutor, where the method calibrates them."""
    features: FeaturePair | None = None
    """Where the features are that the method compares, if it does."""

    @cached_property
    def loss(self) -> TransferLoss:
        """The loss of a batch."""
        return TransferLoss(self.method, self.config.partition, self.temperatures)

    @property
    def steps_per_epoch(self) -> int:
        """Batches in one pass."""
        return len(batch_starts(len(self.split), self.config.optim.batch_size, self.config.optim.train_statistics))

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
    """What one step reads; tensors are on the CPU."""

    view: ViewBatch
    labels: Int[Tensor, " n"] | None
    targets: Float[Tensor, "n C"] | None
    shares: Float[Tensor, "T n"]
    """What each tutor, and last the label, has of each target."""


def batch_starts(count: int, size: int, train_statistics: bool = False) -> list[int]:
    """Return where each batch begins.

    Batch norm in train mode cannot take a batch of one sample: it then joins the batch before it.

    Example:
        >>> batch_starts(9, 4), batch_starts(9, 4, train_statistics=True)
        ([0, 4, 8], [0, 4])
    """
    starts = list(range(0, count, size))
    alone = train_statistics and len(starts) > 1 and starts[-1] == count - 1
    return starts[:-1] if alone else starts


def batches(plan: TrainingPlan, student: TrainableClassifier, epoch: int, first: int = 0) -> Iterator[Batch]:
    """Yield the batches of an epoch in its seeded order, targets chosen, pixels drawn.

    Args:
        plan: What is taught.
        student: Says at what size pixels are drawn.
        epoch: From 0.
        first: The batch to begin with: a resumed training has done those before it.
    """
    optim = plan.config.optim
    order = np.random.default_rng((plan.config.seed, epoch)).permutation(len(plan.split))
    starts = batch_starts(len(order), optim.batch_size, optim.train_statistics)
    for index in np.split(order, starts[1:])[first:]:
        view = plan.views.batch(plan.split, index, plan.views.numbers(epoch, len(index)))
        labels = None if plan.split.labels is None else torch.from_numpy(plan.split.labels[index])
        tutors = None if plan.tutors is None or plan.method.targets is None else plan.tutors.logits(view)
        targets, shares = plan.loss.targets(tutors, labels, view.chance(plan.config.seed), len(index))
        view.images(student.preprocess)  # drawn here, so that a prefetching thread does the work
        if plan.features is not None:
            view.images(plan.features.tutor.preprocess)
        yield Batch(view, labels, targets, shares)
