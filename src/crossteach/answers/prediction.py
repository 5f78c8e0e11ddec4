"""(model, split) -> Predictions, each computed once."""

import time
from collections.abc import Iterator, Sequence
from functools import cache, partial

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..data.views import plain_images
from ..models.asking import evaluation_mode
from ..models.mapped import partial_knowledge
from ..models.scoring import CHUNK, Images, ask, draw_for, provenance, read_ahead, score, set_batch
from ..types import Classifier, Predictions, Progress, Split, no_progress
from .arguments import require_classifier, require_split
from .logit_table import LogitTable
from .store import Store

BLOCK = 8 * CHUNK
"""Samples that are read at once."""
READ_ROWS, BLOCK_ROWS = 512, 64
"""Samples of all models that are read at once, and that are handed on at once."""
FEW, ENOUGH_SECONDS = 8, 0.05
"""Images that a timing begins with, and how long it must take to be believed."""


def predict(
    classifier: Classifier,
    split: Split,
    store: Store | None = None,
    progress: Progress = no_progress,
) -> Predictions:
    """Return what a model says about the plain samples of a split, in float32; NaN where a table has no answer.

    Args:
        classifier: Any model that answers.
        split: The samples.
        store: Where answers are kept and looked up; None computes them.
        progress: Told how many samples are done.

    Raises:
        ModelError: If the model answers NaN or infinity.
    """
    require_classifier(classifier, "the model")
    require_split(split)
    key, batch = _key(classifier, split), set_batch(classifier)
    if store is None:
        logits = torch.empty(len(split), classifier.n_classes)
        for rows, scored in _answers(classifier, split, np.arange(len(split)), progress):
            logits[torch.from_numpy(rows)] = scored
    else:
        logits = torch.from_numpy(_fill(classifier, split, store, key, progress).read_all())
    if set_batch(classifier) != batch:  # memory ran out: all are asked in the smaller batch
        return predict(classifier, split, store, progress)
    return Predictions(
        model=classifier.name,
        logits=logits,
        labels=None if split.labels is None else torch.from_numpy(split.labels),
        ids=split.ids,
        model_fingerprint=key["model"],
        data_fingerprint=key["data"],
        group=split.group,
        knows=partial_knowledge(classifier),
    )


def keep_answers(
    classifier: Classifier, split: Split, store: Store, progress: Progress = no_progress, rows: range | None = None
) -> LogitTable:
    """Let a model answer on those plain samples of a split that the store does not know yet; see `predict`.

    Only a block of answers is in memory. With `rows`, from a multiple of `CHUNK` on, it answers on those samples alone.
    """
    return _fill(classifier, split, store, _key(classifier, split), progress, rows)


def _fill(
    classifier: Classifier,
    split: Split,
    store: Store,
    key: dict[str, str],
    progress: Progress,
    part: range | None = None,
) -> LogitTable:
    table, batch = store.table(key, len(split), classifier.n_classes, "float32"), set_batch(classifier)
    missing = table.missing()
    if part is not None:
        missing = missing[(missing >= part.start) & (missing < part.stop)]
    store.require_room(len(missing) * table.layout.row_bytes)
    for rows, scored in _answers(classifier, split, missing, progress):
        if set_batch(classifier) != batch:  # memory ran out: the smaller batch has a table of its own
            return keep_answers(classifier, split, store, progress, part)
        table.write(rows, scored.numpy())
    table.flush()
    return table


def _answers(
    classifier: Classifier, split: Split, missing: Int[np.ndarray, " n"], progress: Progress
) -> Iterator[tuple[Int[np.ndarray, " m"], Float[Tensor, "m C"]]]:
    """Let a model answer on some plain samples, a chunk at a time."""

    def chunks() -> Iterator[tuple[Int[np.ndarray, " m"], Images]]:
        for start in range(0, len(missing), CHUNK):
            rows = missing[start : start + CHUNK]
            images = cache(partial(plain_images, split, rows))
            draw_for([classifier], images)
            yield rows, images

    done = 0
    for rows, images in read_ahead(chunks(), [classifier]):
        yield rows, ask(classifier, split, rows, images)
        done += len(rows)
        progress(f"{classifier.name} on {split.name}", done, len(missing))


def predict_all(
    classifiers: Sequence[Classifier], split: Split, store: Store | None = None, progress: Progress = no_progress
) -> Float[Tensor, "K N C"]:
    """Return the logits of several models on the plain samples of a split, in their order; see `predict`."""
    return torch.stack([predict(classifier, split, store, progress).logits for classifier in classifiers])


def open_table(classifier: Classifier, split: Split, store: Store) -> LogitTable:
    """Open the table of a model's answers on a split."""
    return store.table(_key(classifier, split), len(split), classifier.n_classes, "float32")


def discard_predictions(classifier: Classifier, split: Split, store: Store) -> None:
    """Remove a model's answers on a split from the store, if they are there."""
    store.remove(_key(classifier, split), len(split), classifier.n_classes, "float32")


def count_unanswered(classifier: Classifier, split: Split, store: Store) -> int:
    """Return how many plain samples of a split the store does not know a model's answer on; nothing is made."""
    known = store.count_known(_key(classifier, split), len(split), classifier.n_classes, "float32")
    return len(split) - known


def _key(classifier: Classifier, split: Split) -> dict[str, str]:
    return {"kind": "predictions", **provenance(classifier, split.fingerprint)}


def stored_blocks(
    classifiers: Sequence[Classifier], split: Split, store: Store
) -> Iterator[tuple[Float[Tensor, "M B C"], Int[Tensor, " B"]]]:
    """Read what `predict` has stored for all models, a few samples at a time: logits and labels."""
    assert split.labels is not None, "blocks are read to be compared with labels"
    blocks = answer_blocks(classifiers, split, store)
    yield from zip(blocks, torch.split(torch.from_numpy(split.labels), BLOCK_ROWS), strict=True)


def answer_blocks(classifiers: Sequence[Classifier], split: Split, store: Store) -> Iterator[Float[Tensor, "M B C"]]:
    """Read the logits that `predict` has stored for all models, a few samples at a time.

    However many models there are, only a block of each is in memory.
    """
    tables = [open_table(classifier, split, store) for classifier in classifiers]
    for start in range(0, len(split), READ_ROWS):
        stop = min(start + READ_ROWS, len(split))
        logits = torch.from_numpy(np.stack([table.read_range(start, stop) for table in tables]))
        yield from torch.split(logits, BLOCK_ROWS, 1)


@torch.no_grad()
def images_per_second(classifier: Classifier, split: Split) -> float:
    """Measure how fast a model answers here, on a few images or, where that is too quick to tell, on full batches.

    Reading the images is not counted.
    """
    images = plain_images(split, np.arange(min(CHUNK, len(split))), classifier.preprocess)
    with evaluation_mode(classifier):
        batch, asked, started = images[:FEW], 0, time.perf_counter()
        while (seconds := time.perf_counter() - started) < ENOUGH_SECONDS:
            classifier.logits(batch).cpu()
            asked += len(batch)
            if len(batch) < len(images) and time.perf_counter() - started < ENOUGH_SECONDS:
                batch, asked, started = images, 0, time.perf_counter()
    return asked / seconds


def score_split(classifier: Classifier, split: Split) -> Float[Tensor, "N C"]:
    """Score plain samples without the store: for weights that are not kept, and may have diverged."""
    at_once = BLOCK if split.inputs.size else CHUNK  # pictures that are decoded may be large
    parts = np.array_split(np.arange(len(split)), range(at_once, len(split), at_once))
    images = (plain_images(split, rows, classifier.preprocess) for rows in parts)
    return torch.cat([score(classifier, part, require_finite=False) for part in images])
