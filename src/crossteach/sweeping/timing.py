"""Times a model on one thread, as in a worker: an answer, a training step, and the memory that both take."""

import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..answers.arguments import require_trainable
from ..answers.store import Store
from ..config import PartitionConfig, TransferConfig, ViewsConfig
from ..data.views import ViewBatch, Views, views_of
from ..errors import CrossteachError, ModelError, first_line
from ..models.scoring import CHUNK, ask, provenance
from ..transferring.methods import METHODS
from ..transferring.plan import TrainingPlan
from ..transferring.sources import Source
from ..transferring.training import train
from ..types import Classifier, Splits, TrainableClassifier

STEPS = 3
"""Steps of a student that are timed."""


@dataclass(frozen=True)
class Timing:
    """What one model takes."""

    answer: float
    """Seconds a sample, view or plain."""
    step: float
    """Seconds a training step of a student; 0 for one that only teaches."""
    memory: int
    """Bytes that answering and learning took."""


def time_model(
    model: Classifier, config: TransferConfig | None, shown: ViewsConfig, data: Splits, store: Store
) -> Timing:
    """Time a chunk of answers and, of a student, a few steps, on one thread as in a worker; kept in the store.

    Args:
        model: Its module is not changed.
        config: Of the student's training; None for a model that only teaches.
        shown: The views that are answered.
        data: What it teaches on is shown.
        store: Where the times are kept.

    Raises:
        ModelError: If the model cannot take a training step.
    """
    key = {
        "kind": "timing",
        "batch_size": config.optim.batch_size if config else 0,
        **provenance(model, data.taught[0].fingerprint),
    }
    if (known := store.recall(key)) is not None:
        return Timing(known["answer"], known["step"], int(known["memory"]))
    threads, before = torch.get_num_threads(), resident()
    torch.set_num_threads(1)
    try:
        answer = _seconds_an_answer(model, views_of(shown, data), data)
        step = _seconds_a_step(require_trainable(model, "the student"), config, data) if config else 0.0
    except CrossteachError:
        raise
    except Exception as error:  # the module is its user's and may raise anything
        raise ModelError(f"{model.spec!r} cannot take a training step: {first_line(error)}") from error
    finally:
        torch.set_num_threads(threads)
    timed = Timing(answer, step, max(0, _peak() - before))
    store.remember(key, {"answer": timed.answer, "step": timed.step, "memory": timed.memory})
    return timed


def _seconds_an_answer(model: Classifier, views: Views, data: Splits) -> float:
    split = data.taught[0]
    rows = np.arange(min(CHUNK, len(split)))

    def answer() -> None:
        ask(model, split, rows, views.batch(split, rows, np.zeros(len(rows), np.int64)).images)

    views = replace(views, count=0)  # so that none is kept, and each is timed
    answer()  # the first one also allocates
    return _seconds(answer) / len(rows)


def _seconds_a_step(model: TrainableClassifier, config: TransferConfig, data: Splits) -> float:
    method = replace(METHODS["self"], frozen_student=False)
    short = replace(config, partition=PartitionConfig())
    tutors = _RandomTutors(model.n_classes)
    drawn = replace(views_of(config.views, data), count=0)  # so that none is kept, and each is timed
    source = Source(data.taught[0], drawn, config.optim.batch_size, tutors, joins_last=config.optim.train_statistics)
    lesson = TrainingPlan(method, short, (source,), 1e-4, STEPS, STEPS)
    copy = model.clone()
    train(copy, replace(lesson, max_steps=1))  # the first one also sets up the optimiser
    return _seconds(lambda: train(copy, lesson)) / STEPS


class _RandomTutors:
    """A tutor that answers zeros and takes no time."""

    names: tuple[str, ...] = ("random",)

    def __init__(self, n_classes: int) -> None:
        self._n_classes = n_classes

    def logits(self, batch: ViewBatch) -> Float[Tensor, "K n C"]:
        """Answer zeros."""
        return torch.zeros(1, len(batch.index), self._n_classes)


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _peak() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def resident() -> int:
    """Return the bytes that this process takes now; where the system does not say, the most it ever took."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except (OSError, ValueError):
        return _peak()
