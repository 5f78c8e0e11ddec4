"""Writes gain and loss by class, and pictures of samples that were gained and lost."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..data.pictures import write_pictures
from ..files import write_json
from ..functional.flips import count_by_class, strongest
from ..runs import RunFolder
from ..types import Predictions, Splits
from .foreign import LeftOut
from .measured import TransferPredictions

SHOWN = 12
"""Samples that are shown of those gained, and of those lost."""


def write_exhibits(run: RunFolder, data: Splits, found: TransferPredictions, left_out: Sequence[LeftOut] = ()) -> None:
    """Write `classes.parquet`, `pictures.json` and the pictures of a transfer.

    Without labels the table holds the names of the classes alone, and what is answered otherwise is shown.

    Args:
        run: The transfer's folder.
        data: Its test split is shown.
        found: What student and teachers say of it. Where the original is returned, the end of training is shown.
        left_out: What was taken for foreign in pools; the strangest samples of the first pool are shown.
    """
    before = found.before
    kept = torch.equal(before.logits, found.after.logits)
    shown = found.ungated if kept else found.after
    if before.labels is None:
        run.write_table("classes.parquet", _names(data.classes))
        chosen = {"changed": most_changed(before, shown, before.preds != shown.preds)}
    else:
        run.write_table("classes.parquet", class_table(data.classes, found))
        chosen = {
            "gained": most_changed(before, shown, ~before.correct & shown.correct),
            "lost": most_changed(before, shown, before.correct & ~shown.correct),
        }
    files = write_pictures(data.test, [row for rows in chosen.values() for row in rows], run.path)
    entries = {
        name: [_entry(row, files[row], data.classes, before, shown) for row in rows] for name, rows in chosen.items()
    }
    if left_out:
        entries["left_out"] = _strangest(run, data, left_out[0])
    write_json(run.path / "pictures.json", {"of": "ungated" if kept else "returned", **entries})


def _strangest(run: RunFolder, data: Splits, left: LeftOut) -> list[dict[str, Any]]:
    """Write pictures of the samples that the tutors are least sure of, and say what they take them for."""
    rows = left.rows[:SHOWN].tolist()
    files = write_pictures(left.split, rows, run.path)
    told = zip(rows, left.preds.tolist(), left.confidence.tolist(), strict=False)
    return [
        {"file": files[row], "sample": row, "taken_for": data.classes[pred], "confidence": confidence}
        for row, pred, confidence in told
    ]


def class_table(classes: Sequence[str], found: TransferPredictions) -> dict[str, np.ndarray]:
    """Count, for each class, the test samples and those that were gained and lost."""
    before, after, ungated, labels = found.before, found.after, found.ungated, found.before.labels
    assert labels is not None
    flips = found.positive_flips
    marked = {
        "samples": torch.ones_like(flips),
        "gained": ~before.correct & after.correct,
        "lost": before.correct & ~after.correct,
        "gained_ungated": ~before.correct & ungated.correct,
        "lost_ungated": before.correct & ~ungated.correct,
        "positive_flips": flips,
    }
    counts = count_by_class(marked, labels, len(classes))
    return {**_names(classes), **counts}


def _names(classes: Sequence[str]) -> dict[str, np.ndarray]:
    return {"class": np.arange(len(classes)), "name": np.array(classes, dtype=object)}


def most_changed(before: Predictions, after: Predictions, mask: Bool[Tensor, " N"], count: int = SHOWN) -> list[int]:
    """Return the marked samples whose confidence in the true class changed most, earlier ones first on a tie.

    Without labels it is the confidence in the class that is answered afterwards.
    """
    classes = after.preds if after.labels is None else after.labels
    change = (_probability(after, classes) - _probability(before, classes)).abs()
    found: list[int] = strongest(change, mask, count).tolist()
    return found


def _probability(answers: Predictions, classes: Int[Tensor, " N"]) -> Float[Tensor, " N"]:
    return answers.logits.softmax(1).gather(1, classes[:, None])[:, 0]


def _entry(row: int, file: str, classes: Sequence[str], before: Predictions, after: Predictions) -> dict[str, Any]:
    entry: dict[str, Any] = {"file": file, "sample": row}
    if before.labels is not None:
        entry["label"] = classes[int(before.labels[row])]
    for name, answers in (("before", before), ("after", after)):
        confidence, pred = answers.logits[row].softmax(0).max(0)
        entry |= {name: classes[int(pred)], f"{name}_confidence": float(confidence)}
    return entry
