"""What a transfer shows beside its numbers: gain and loss by class, and samples that were gained and lost."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..data.pictures import write_pictures
from ..files import write_json
from ..functional.flips import flips_by_class, positive_flips
from ..runs import RunFolder
from ..types import Predictions, Splits

SHOWN = 12
"""Samples that are shown of those gained, and of those lost."""


def write_exhibits(
    run: RunFolder,
    data: Splits,
    before: Predictions,
    after: Predictions,
    ungated: Predictions,
    teachers: Sequence[Predictions],
) -> None:
    """Write `classes.parquet`, `pictures.json` and the pictures of a transfer.

    Args:
        run: The transfer's folder.
        data: Its test split is shown.
        before: The student as it was.
        after: The student that is returned. Where it is the original, the end of training is shown instead.
        ungated: The student at the end of training.
        teachers: Those it had.
    """
    run.write_table("classes.parquet", class_table(data.classes, before, after, ungated, teachers))
    kept = torch.equal(before.logits, after.logits)
    shown = ungated if kept else after
    chosen = {
        "gained": strongest(before, shown, ~before.correct & shown.correct),
        "lost": strongest(before, shown, before.correct & ~shown.correct),
    }
    files = write_pictures(data.test, [row for rows in chosen.values() for row in rows], run.path)
    entries = {
        name: [_entry(row, files[row], data.classes, before, shown) for row in rows] for name, rows in chosen.items()
    }
    write_json(run.path / "pictures.json", {"of": "ungated" if kept else "returned", **entries})


def class_table(
    classes: Sequence[str],
    before: Predictions,
    after: Predictions,
    ungated: Predictions,
    teachers: Sequence[Predictions],
) -> dict[str, np.ndarray]:
    """Count, for each class, the test samples and those that changed sides."""
    labels = before.labels
    assert labels is not None
    flips = torch.zeros_like(labels, dtype=torch.bool)
    for teacher in teachers:
        flips |= positive_flips(before.logits, teacher.logits, labels)
    marked = {
        "samples": torch.ones_like(flips),
        "gained": ~before.correct & after.correct,
        "lost": before.correct & ~after.correct,
        "gained_ungated": ~before.correct & ungated.correct,
        "lost_ungated": before.correct & ~ungated.correct,
        "positive_flips": flips,
    }
    counts = {name: flips_by_class(mask, labels, len(classes)).numpy() for name, mask in marked.items()}
    return {"class": np.arange(len(classes)), "name": np.array(classes, dtype=object), **counts}


def strongest(before: Predictions, after: Predictions, mask: Bool[Tensor, " N"], count: int = SHOWN) -> list[int]:
    """Return the marked samples whose confidence in the true class changed most, earlier ones first on a tie."""
    change = (_true_probability(after) - _true_probability(before)).abs()
    rows = mask.nonzero().flatten()
    return [int(row) for row in rows[torch.argsort(change[rows], descending=True, stable=True)][:count]]


def _true_probability(answers: Predictions) -> Float[Tensor, " N"]:
    assert answers.labels is not None
    return answers.logits.softmax(1).gather(1, answers.labels[:, None])[:, 0]


def _entry(row: int, file: str, classes: Sequence[str], before: Predictions, after: Predictions) -> dict[str, Any]:
    assert before.labels is not None
    entry: dict[str, Any] = {"file": file, "sample": row, "label": classes[int(before.labels[row])]}
    for name, answers in (("before", before), ("after", after)):
        confidence, pred = answers.logits[row].softmax(0).max(0)
        entry |= {name: classes[int(pred)], f"{name}_confidence": float(confidence)}
    return entry
