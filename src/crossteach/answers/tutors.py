"""Logits of the tutors for a batch of views: live, or from the store. Both give the same bits."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Float16, Int
from torch import Tensor

from ..data.views import ViewBatch, Views
from ..models.scoring import CHUNK, ask, provenance, set_batch
from ..types import Classifier, Progress, Split, no_progress
from .store import LogitTable, Store

LOWEST = -60000.0
"""Lowest kept logit below the row's maximum: float16 ends at -65504."""


@runtime_checkable
class Tutors(Protocol):
    """What answers for the tutors: from the store, or live."""

    names: tuple[str, ...]

    def logits(self, batch: ViewBatch) -> Float[Tensor, "K n C"]:
        """Return each tutor's logits on each view, less the row's maximum, float32 on the CPU; NaN is no answer."""
        ...


def to_half(logits: Float[Tensor, "n C"]) -> Float16[Tensor, "n C"]:
    """Subtract each row's maximum, which the softmax does not see, and round to float16."""
    return (logits - logits.max(1, keepdim=True).values).clamp_(min=LOWEST).half()


class LiveTutors:
    """Tutors that are asked in every step."""

    def __init__(self, classifiers: Sequence[Classifier]) -> None:
        self.classifiers = tuple(classifiers)
        self.names = tuple(c.name for c in classifiers)

    def logits(self, batch: ViewBatch) -> Float[Tensor, "K n C"]:
        """Ask every tutor; the answers are rounded as the store rounds them."""
        answers = [to_half(ask(c, batch.split, batch.index, batch.images)) for c in self.classifiers]
        return torch.stack(answers).float()


class StoredTutors:
    """Tutors whose answers on all views of a split were computed before."""

    def __init__(self, names: Sequence[str], tables: Sequence[Mapping[int, LogitTable]], clamped: int = 0) -> None:
        """Take each tutor's tables by the number of the view, and how many logits were too low for float16."""
        self.names = tuple(names)
        self.clamped = clamped
        self._tables = tables

    def logits(self, batch: ViewBatch) -> Float[Tensor, "K n C"]:
        """Read the answers."""
        answers = [_read(views, batch) for views in self._tables]
        return torch.from_numpy(np.stack(answers)).float()


def _read(views: Mapping[int, LogitTable], batch: ViewBatch) -> np.ndarray:
    shown = np.unique(batch.numbers)
    if len(shown) == 1:
        return views[int(shown[0])].read(batch.index)
    answers: np.ndarray | None = None
    for number in shown:
        mask = batch.numbers == number
        part = views[number].read(batch.index[mask])
        answers = np.empty((len(mask), part.shape[1]), part.dtype) if answers is None else answers
        answers[mask] = part
    assert answers is not None
    return np.asarray(answers)


def fill_store(
    classifiers: Sequence[Classifier],
    split: Split,
    views: Views,
    store: Store,
    progress: Progress = no_progress,
    shown: Sequence[int] | None = None,
) -> StoredTutors:
    """Let every tutor answer on every view that the store does not know yet, each view drawn once for all of them.

    Args:
        classifiers: The tutors, tutor 0 first.
        split: The transfer set.
        views: With a count above 0.
        store: Where the answers are kept.
        progress: Told how many (sample, view) pairs are done.
        shown: The numbers of the views that will be shown; None is all of them.
    """
    numbers = range(views.count) if shown is None else shown
    keys = [_keys(c, split, views) for c in classifiers]
    tables = [
        {number: store.table(own[number], len(split), c.n_classes, "float16") for number in numbers}
        for c, own in zip(classifiers, keys, strict=True)
    ]
    missing = [{number: table.missing() for number, table in row.items()} for row in tables]
    batches = [set_batch(c) for c in classifiers]
    total = sum(len(rows) for row in missing for rows in row.values())
    done = 0
    for number in numbers:
        wanted = [_mark(row[number], len(split)) for row in missing]
        for rows in np.array_split(np.arange(len(split)), range(CHUNK, len(split), CHUNK)):
            asked = [k for k, unknown in enumerate(wanted) if unknown[rows[0] : rows[-1] + 1].any()]
            if not asked:
                continue
            batch = views.batch(split, rows, np.full(len(rows), number))
            for k in asked:
                classifier, table = classifiers[k], tables[k][number]
                values = to_half(ask(classifier, split, rows, batch.images))
                if set_batch(classifier) != batches[k]:  # memory ran out: the smaller batch has tables of its own
                    return fill_store(classifiers, split, views, store, progress, shown)
                table.write(rows, values.numpy())
                done += len(rows)
                progress("tutors answer", min(done, total), total)
            if done % (FLUSH_CHUNKS * CHUNK) < CHUNK * len(asked):
                _flush(tables, number, asked, int(rows[-1]) + 1)
        _flush(tables, number, range(len(tables)), len(split))
    clamped = (_count_clamped(store, own[n], row[n]) for own, row in zip(keys, tables, strict=True) for n in numbers)
    return StoredTutors([c.name for c in classifiers], tables, sum(clamped))


def _mark(rows: Int[np.ndarray, " m"], count: int) -> Bool[np.ndarray, " N"]:
    """Mark some of so many rows: a chunk is then looked up in no more time than it takes to read it."""
    marked = np.zeros(count, bool)
    marked[rows] = True
    return marked


FLUSH_CHUNKS = 64
"""Chunks between two flushes of the store."""
SCANNED = 8192
"""Rows of a table that are read at once to count clamped logits."""


def _count_clamped(store: Store, key: dict[str, Any], table: LogitTable) -> int:
    """Count the logits of a whole table that float16 could not hold; the count is kept beside it."""
    fact = {**key, "kind": "clamped"}
    known = store.recall(fact)
    if known is None:
        parts = (
            table.read_range(start, min(start + SCANNED, len(table.done)))
            for start in range(0, len(table.done), SCANNED)
        )
        known = {"count": sum(int((part <= LOWEST).sum()) for part in parts)}
        store.remember(fact, known)
    return int(known["count"])


def discard_views(classifier: Classifier, split: Split, views: Views, store: Store) -> None:
    """Remove a tutor's answers on all views: a model in between two lessons is never asked again."""
    for key in _keys(classifier, split, views):
        store.remove(key, len(split), classifier.n_classes, "float16")


def _flush(tables: Sequence[Mapping[int, LogitTable]], number: int, asked: Sequence[int], end: int) -> None:
    for k in asked:
        table = tables[k][number]
        if len(table.missing()):
            table.flush(np.arange(end))


def count_missing(classifier: Classifier, split: Split, views: Views, store: Store) -> dict[int, int]:
    """Return how many samples of each view, by its number, the store does not know of a tutor; nothing is made."""
    n, classes = len(split), classifier.n_classes
    keys = _keys(classifier, split, views)
    return {number: n - store.count_known(key, n, classes, "float16") for number, key in enumerate(keys)}


def _keys(classifier: Classifier, split: Split, views: Views) -> list[dict[str, Any]]:
    """Return the key of each view's table; the fingerprint in it reads all weights, so it is taken once for all."""
    shared = {"kind": "views", "views": views.key, **provenance(classifier, split.fingerprint)}
    return [{**shared, "view": number} for number in range(views.count)]
