"""What a student is taught on: train and the pools, each a source that fills its part of every batch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from jaxtyping import Int

from ..answers.tutors import Tutors
from ..config import OptimConfig, TransferConfig
from ..data.views import Views
from ..types import Split, Splits


@dataclass(frozen=True)
class Source:
    """Samples of one split, passed through again and again, so many a step."""

    split: Split
    views: Views
    a_step: int
    """Samples that it gives to each batch; the last batch of a pass may have fewer."""
    tutors: Tutors | None = None
    """What answers for the tutors; None where none is asked."""
    rows: Int[np.ndarray, " n"] | None = None
    """Which samples of the split teach; None is all of them."""
    joins_last: bool = False
    """Whether a last batch of a single sample joins the one before it: batch norm in train mode cannot take it."""

    @property
    def is_pool(self) -> bool:
        """Whether its samples are of a pool: none has a label."""
        return self.split.name == "pool"

    @property
    def size(self) -> int:
        """How many samples teach."""
        return len(self.split) if self.rows is None else len(self.rows)

    @cached_property
    def starts(self) -> list[int]:
        """Where each batch of a pass begins."""
        return batch_starts(self.size, self.a_step, self.joins_last)

    def passes(self, steps: int) -> int:
        """Return how many passes so many steps begin."""
        return math.ceil(steps / len(self.starts))

    def samples(self, step: int, seed: int, place: int = 0) -> tuple[Int[np.ndarray, " n"], int]:
        """Return the samples of a step, as positions in the split, and the pass that they belong to.

        Args:
            step: Of the training, from 0.
            seed: Of the run.
            place: Of the source among those of a training: each has an order of its own.
        """
        passed, batch = divmod(step, len(self.starts))
        begin, end = (*self.starts, self.size)[batch : batch + 2]
        index = _order(seed, passed, place, self.size)[begin:end]
        return (index if self.rows is None else self.rows[index]), passed


@lru_cache(maxsize=16)
def _order(seed: int, passed: int, place: int, size: int) -> Int[np.ndarray, " n"]:
    """Return the order of a pass; each of its steps asks for it."""
    key = (seed, passed, place) if place else (seed, passed)
    return np.random.default_rng(key).permutation(size)


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


def sources_of(data: Splits, views: Views, config: TransferConfig) -> tuple[Source, ...]:
    """Return what a student is taught on: train, unless it is empty, then the pools.

    Args:
        data: Its train split and its pools.
        views: Those of train; pools show `pool.views` of the same kind.
        config: The size of a batch, and the share of the pools in it.
    """
    size, joins_last = config.optim.batch_size, config.optim.train_statistics
    of_pools = views.kept(config.pool.views) if views.count else views
    pools = [pool.split for pool in data.pools]
    parts = parts_of_batch(size, len(data.train), [len(split) for split in pools], config.pool.share)
    shown = [(data.train, views), *((split, of_pools) for split in pools)]
    return tuple(
        Source(split, drawn, part, joins_last=joins_last)
        for (split, drawn), part in zip(shown, parts, strict=True)
        if part
    )


def steps_an_epoch(sources: Sequence[Source]) -> int:
    """Return how many batches pass through the source that takes most of them; the others repeat meanwhile."""
    return max(len(source.starts) for source in sources)


def planned_steps(sources: Sequence[Source], optim: OptimConfig) -> int:
    """Return how long a training is meant to be."""
    return optim.steps or optim.epochs * steps_an_epoch(sources)


def parts_of_batch(size: int, train: int, pools: Sequence[int], share: float) -> list[int]:
    """Return how many samples of a batch train has, and each pool: at least one of each that has a part.

    Args:
        size: Of a batch.
        train: How many samples train holds.
        pools: How many each pool holds; they share their part by their sizes.
        share: Of the pools in a batch where train holds any.

    Example:
        >>> parts_of_batch(128, 1000, [3000, 1000], 0.75), parts_of_batch(128, 0, [50], 0.75)
        ([32, 72, 24], [0, 128])
    """
    if not pools or (train and not share):
        return [size, *(0 for _ in pools)]
    of_pools = max(round((share if train else 1) * size), 1)
    ends = np.round(np.cumsum(pools) / sum(pools) * of_pools).astype(int)
    parts = [max(1, int(end - start)) for start, end in zip([0, *ends[:-1]], ends, strict=True)]
    return [max(int(share < 1), size - sum(parts)) if train else 0, *parts]
