"""(model, split) -> Predictions, each computed once."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from .data.assemble import split_fingerprint
from .data.views import plain_images
from .scoring import CHUNK, score
from .store import Store
from .types import Classifier, Predictions, Progress, Split, no_progress

FLUSH_EVERY = 32
"""Chunks between two flushes of the store."""
BLOCK = 8 * CHUNK
"""Samples that are read at once."""


def predict(
    classifier: Classifier,
    split: Split,
    store: Store | None = None,
    progress: Progress = no_progress,
) -> Predictions:
    """Return what a model says about the plain samples of a split, in float32.

    Args:
        classifier: Any model that answers.
        split: The samples.
        store: Where answers are kept and looked up; None computes them.
        progress: Told how many samples are done.

    Raises:
        ModelError: If the model answers NaN or infinity.
    """
    data_fingerprint = split_fingerprint(split)
    count, what = len(split), f"{classifier.name} on {split.name}"
    table = None
    if store is not None:
        key = {
            "kind": "predictions",
            "model": classifier.fingerprint,
            "data": data_fingerprint,
            "device": classifier.device.type,
            "torch": str(torch.__version__),
        }
        table = store.table(key, count, classifier.n_classes, "float32")
    logits = torch.empty(count, classifier.n_classes)
    missing = table.missing() if table is not None else np.arange(count)
    pending: list[np.ndarray] = []
    for start in range(0, len(missing), CHUNK):
        rows = missing[start : start + CHUNK]
        scored = score(classifier, plain_images(split, rows, classifier.preprocess))
        logits[torch.from_numpy(rows)] = scored
        if table is not None:
            table.write(rows, scored.numpy())
            pending.append(rows)
            if len(pending) == FLUSH_EVERY:
                table.flush(np.concatenate(pending))
                pending = []
        progress(what, start + len(rows), len(missing))
    if table is not None:
        if pending:
            table.flush(np.concatenate(pending))
        logits = torch.from_numpy(table.read(np.arange(count)))
    return Predictions(
        model=classifier.name,
        logits=logits,
        labels=None if split.labels is None else torch.from_numpy(split.labels),
        ids=split.ids,
        model_fingerprint=classifier.fingerprint,
        data_fingerprint=data_fingerprint,
        group=split.group,
    )


def answers(classifier: Classifier, split: Split) -> Float[Tensor, "N C"]:
    """Score plain samples without the store: for weights that are not kept, and may have diverged."""
    parts = np.array_split(np.arange(len(split)), range(BLOCK, len(split), BLOCK))
    images = (plain_images(split, rows, classifier.preprocess) for rows in parts)
    return torch.cat([score(classifier, part, require_finite=False) for part in images])
