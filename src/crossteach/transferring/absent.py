"""Classes that nothing shows: no label of train and selection, and, as far as the tutors agree, no sample of a pool.

A student that is taught on some of its classes is told, sample by sample, that it is none of the others, and forgets
them: no gate sees it where selection lacks them too. So their probability is left as the old student has it.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..functional.unanswered import fill_unanswered
from ..types import NO_LABEL, Splits
from .sources import Source

EVEN_SHARE = 0.25
"""A class is shown by a pool of which all tutors give it so much of an even share, or more."""
ASKED = 20_000
"""Samples of a pool, drawn by lot, that are enough to tell."""
AT_ONCE = 4096
"""Samples whose answers are read at once."""


def labelled_classes(data: Splits) -> Bool[Tensor, " C"]:
    """Mark the classes of which train or selection have a labelled sample."""
    found = torch.zeros(len(data.classes), dtype=torch.bool)
    for split in (data.train, data.selection):
        if split.labels is not None:
            found[torch.from_numpy(split.labels[split.labels != NO_LABEL])] = True
    return found


def shown_classes(data: Splits, sources: tuple[Source, ...]) -> Bool[Tensor, " C"] | None:
    """Mark the classes that labels or pools show; None where all are shown, or it cannot be told that any is.

    Args:
        data: Its labels.
        sources: What the student is taught on, with their tutors' answers.
    """
    shown = labelled_classes(data)
    if not bool(shown.all()):
        for source in sources:
            if source.tutors is not None and (source.is_pool or source.split.labels is None):
                shown |= _agreed(source, len(shown)) >= EVEN_SHARE / len(shown)
    return None if bool(shown.all()) or not bool(shown.any()) else shown


def _agreed(source: Source, classes: int) -> Float[Tensor, " C"]:
    """Return the share of a source's samples that all tutors take for each class."""
    rows = np.arange(len(source.split)) if source.rows is None else source.rows
    if len(rows) > ASKED:
        rows = np.sort(np.random.default_rng(0).choice(rows, ASKED, replace=False))
    view = source.views.shown(1)[0] if source.views.count else 0
    counts = torch.zeros(classes, dtype=torch.float32)
    assert source.tutors is not None
    for some in np.array_split(rows, range(AT_ONCE, len(rows), AT_ONCE)):
        batch = source.views.batch(source.split, some, np.full(len(some), view))
        preds = fill_unanswered(source.tutors.logits(batch)).argmax(2)
        counts += torch.bincount(preds[0][(preds == preds[0]).all(0)], minlength=classes)
    return counts / max(1, len(rows))


def absent_note(shown: Bool[Tensor, " C"] | None, classes: tuple[str, ...]) -> tuple[str, ...]:
    """Say which classes nothing shows."""
    if shown is None:
        return ()
    absent = torch.nonzero(~shown).flatten().tolist()
    names = ", ".join(classes[i] for i in absent[:3]) + (", …" if len(absent) > 3 else "")
    return (
        f"{len(absent)} of {len(classes)} classes ({names}) stand neither in labels nor, as far as the tutors agree, "
        "in a pool: the student is taught to leave their probability as it was (partition.keep_absent)",
    )
