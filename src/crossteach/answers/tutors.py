"""Logits of the tutors for a batch of views: live, or from the store. Both give the same bits."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..data.views import ViewBatch, Views
from ..models.mapped import partial_knowledge
from ..models.scoring import CHUNK, Images, ask, draw_for, provenance, read_ahead, set_batch
from ..types import Classifier, Progress, Split, no_progress
from .layout import LOWEST, Layout, layout_of
from .logit_table import LogitTable
from .store import Store


@runtime_checkable
class Tutors(Protocol):
    """What answers for the tutors: from the store, or live."""

    names: tuple[str, ...]

    def logits(self, batch: ViewBatch) -> Float[Tensor, "K n C"]:
        """Return each tutor's logits on each view, less the row's maximum, float32 on the CPU; NaN is no answer."""
        ...


def below_maximum(logits: Float[Tensor, "n C"]) -> Float[Tensor, "n C"]:
    """Subtract each row's maximum, which the softmax does not see: float16 is finest near 0."""
    return (logits - logits.max(1, keepdim=True).values).clamp_(min=LOWEST)


def _rounded(logits: Float[Tensor, "n C"], layout: Layout, temperature: float) -> Float[Tensor, "n C"]:
    """Return logits as they would come back from the store."""
    return torch.from_numpy(layout.decode(layout.encode(below_maximum(logits).numpy()), temperature)).float()


class LiveTutors:
    """Tutors that are asked in every step."""

    def __init__(
        self, classifiers: Sequence[Classifier], layouts: Sequence[Layout] | None = None, temperature: float = 1.0
    ) -> None:
        """Take the tutors, how the store would keep what each says (None is dense), and the temperature of the loss."""
        self.classifiers = tuple(classifiers)
        self.names = tuple(c.name for c in classifiers)
        self._temperature = temperature
        self._layouts = layouts or [Layout("float16", c.n_classes) for c in classifiers]

    @property
    def kept(self) -> tuple[str, ...]:
        """How the store would keep what each tutor says: `float16`, or `top20` and the like; see `layout.Layout`."""
        return tuple(layout.dtype for layout in self._layouts)

    def logits(self, batch: ViewBatch) -> Float[Tensor, "K n C"]:
        """Ask every tutor; the answers are rounded as the store rounds them."""
        asked = zip(self.classifiers, self._layouts, strict=True)
        answers = ((ask(c, batch.split, batch.index, batch.images), layout) for c, layout in asked)
        return torch.stack([_rounded(logits, layout, self._temperature) for logits, layout in answers])


class StoredTutors:
    """Tutors whose answers on all views of a split were computed before."""

    def __init__(
        self,
        names: Sequence[str],
        tables: Sequence[Mapping[int, LogitTable]],
        clamped: int = 0,
        temperature: float = 1.0,
    ) -> None:
        """Take each tutor's tables by the number of the view.

        Args:
            names: Of the tutors.
            tables: Of each tutor.
            clamped: How many logits were too low for float16.
            temperature: Of the loss.
        """
        self.names = tuple(names)
        self.clamped = clamped
        self._tables = tables
        self._temperature = temperature

    @property
    def kept(self) -> tuple[str, ...]:
        """How each tutor's answers are kept."""
        return tuple(next(iter(views.values())).layout.dtype for views in self._tables)

    @property
    def n_logits(self) -> int:
        """How many logits a sample has, of all tutors together."""
        return sum(next(iter(views.values())).layout.classes for views in self._tables)

    def logits(self, batch: ViewBatch) -> Float[Tensor, "K n C"]:
        """Read the answers."""
        answers = [torch.from_numpy(_read(views, batch, self._temperature)).float() for views in self._tables]
        return torch.stack(answers)


def _read(views: Mapping[int, LogitTable], batch: ViewBatch, temperature: float) -> np.ndarray:
    shown = np.unique(batch.numbers)
    if len(shown) == 1:
        return views[int(shown[0])].read(batch.index, temperature)
    answers: np.ndarray | None = None
    for number in shown:
        mask = batch.numbers == number
        part = views[number].read(batch.index[mask], temperature)
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
    temperature: float = 1.0,
    rows: range | None = None,
) -> StoredTutors:
    """Let every tutor answer on every view that the store does not know yet, each view drawn once for all of them.

    Args:
        classifiers: The tutors, tutor 0 first.
        split: The transfer set.
        views: With a count above 0.
        store: Where the answers are kept.
        progress: Told how many (sample, view) pairs are done.
        shown: The numbers of the views that will be shown; None is all of them.
        temperature: That the answers will be divided by, when they are read; see `Layout.decode`.
        rows: Those samples alone, from a multiple of `CHUNK` on; None is all. Of a part no clamped logits are counted.
    """
    part = range(len(split)) if rows is None else rows
    numbers = range(views.count) if shown is None else shown
    keys = [_keys(c, split, views) for c in classifiers]
    kept = [layout_for(c, split, views, store).dtype for c in classifiers]
    tables = [
        {number: store.table(own[number], len(split), c.n_classes, dtype) for number in numbers}
        for c, own, dtype in zip(classifiers, keys, kept, strict=True)
    ]
    batches = [set_batch(c) for c in classifiers]
    unknown = [(int((~t.done[part.start : part.stop]).sum()), t.layout) for row in tables for t in row.values()]
    total, done = sum(rows for rows, _ in unknown), 0
    store.require_room(sum(rows * layout.row_bytes for rows, layout in unknown))
    for number in numbers:
        wanted = [~row[number].done for row in tables]
        drawn = _drawn(classifiers, split, views, number, part, wanted)
        for chunk, asked, images in read_ahead(drawn, classifiers):
            for k in asked:
                classifier, table = classifiers[k], tables[k][number]
                values = below_maximum(ask(classifier, split, chunk, images))
                if set_batch(classifier) != batches[k]:  # memory ran out: the smaller batch has tables of its own
                    return fill_store(classifiers, split, views, store, progress, shown, temperature, rows)
                table.write(chunk, values.numpy())
                done += len(chunk)
                progress("tutors answer", min(done, total), total)
        for row in tables:
            row[number].flush()
    clamped = (
        _count_clamped(store, {**own[n], "kept": dtype}, row[n])
        for own, dtype, row in zip(keys, kept, tables, strict=True)
        for n in numbers
        if rows is None
    )
    return StoredTutors([c.name for c in classifiers], tables, sum(clamped), temperature)


def _drawn(
    classifiers: Sequence[Classifier],
    split: Split,
    views: Views,
    number: int,
    part: range,
    wanted: Sequence[Bool[np.ndarray, " N"]],
) -> Iterator[tuple[Int[np.ndarray, " n"], list[int], Images]]:
    """Draw one view of a part of a split, a chunk at a time: its rows, the places of the models to ask, its images."""
    for start in range(part.start, part.stop, CHUNK):
        chunk = np.arange(start, min(start + CHUNK, part.stop))
        if asked := [k for k, missing in enumerate(wanted) if missing[chunk].any()]:
            images = views.batch(split, chunk, np.full(len(chunk), number)).images
            draw_for([classifiers[k] for k in asked], images)
            yield chunk, asked, images


SCANNED = 2 << 20
"""Logits of a table that are read at once to count those that are clamped."""


def _count_clamped(store: Store, key: dict[str, Any], table: LogitTable) -> int:
    """Count the logits of a whole table that float16 could not hold; the count is kept beside it."""
    fact = {**key, "kind": "clamped"}
    known = store.recall(fact)
    if known is None:
        rows = max(1, SCANNED // table.layout.classes)
        parts = (table.read_range(start, min(start + rows, len(table))) for start in range(0, len(table), rows))
        known = {"count": sum(int((part <= LOWEST).sum()) for part in parts)}
        store.remember(fact, known)
    return int(known["count"])


def discard_views(classifier: Classifier, split: Split, views: Views, store: Store) -> None:
    """Remove a tutor's answers on all views: a model in between two lessons is never asked again."""
    dtype = layout_for(classifier, split, views, store).dtype
    for key in _keys(classifier, split, views):
        store.remove(key, len(split), classifier.n_classes, dtype)


def count_missing(classifier: Classifier, split: Split, views: Views, store: Store) -> dict[int, int]:
    """Return how many samples of each view, by its number, the store does not know of a tutor; nothing is made."""
    n, classes = len(split), classifier.n_classes
    keys, dtype = _keys(classifier, split, views), layout_for(classifier, split, views, store).dtype
    return {number: n - store.count_known(key, n, classes, dtype) for number, key in enumerate(keys)}


def layout_for(classifier: Classifier, split: Split, views: Views, store: Store) -> Layout:
    """Return how a tutor's answers on the views of a split are kept, and rounded where they are not."""
    knows_all = partial_knowledge(classifier) is None
    return layout_of(views.keep, len(split), classifier.n_classes, knows_all, store.budget)


def _keys(classifier: Classifier, split: Split, views: Views) -> list[dict[str, Any]]:
    """Return the key of each view's table; the fingerprint in it reads all weights, so it is taken once for all."""
    shared = {"kind": "views", "views": views.key, **provenance(classifier, split.fingerprint)}
    return [{**shared, "view": number} for number in range(views.count)]
