"""Gain and loss by class, the class with the most changes first."""

from typing import Any

import numpy as np

from .reading import Run, clean
from .tables import Tables

COLUMNS = ("samples", "gained", "lost", "gained_ungated", "lost_ungated", "positive_flips")


def class_rows(run: Run, tables: Tables, kept: bool) -> tuple[list[dict[str, Any]], str]:
    """Return a row for each class, and a note where something is missing.

    Args:
        run: The transfer's folder.
        tables: Receive all columns.
        kept: Whether the original came back; the rows then count the end of training.
    """
    if not run.summary.get("labelled", True):
        return [], "Test has no labels, so changes by class are not known."
    found, note = run.columns("classes.parquet", ("class", *COLUMNS)), ""
    if found is None:
        found = from_ledger(run)
        note = "This folder is from a version that kept no class names; classes are numbered."
    if found is None:
        return [], "This folder holds neither classes.parquet nor samples.parquet, so changes by class are not known."
    names = [clean(name) for name in found.get("name", found["class"]).tolist()]
    suffix = "_ungated" if kept else ""
    gained, lost = found[f"gained{suffix}"], found[f"lost{suffix}"]
    order = np.lexsort((found["class"], -np.abs(gained - lost), -(gained + lost)))
    everything = [[int(found["class"][i]), names[i], *(int(found[c][i]) for c in COLUMNS)] for i in order.tolist()]
    tables.write("classes", ("class", "name", *COLUMNS), everything)
    rows = [
        {
            "name": names[i],
            "samples": int(found["samples"][i]),
            "gained": int(gained[i]),
            "lost": int(lost[i]),
            "net": int(gained[i] - lost[i]),
            "moved": int(gained[i] + lost[i]),
            "flips": int(found["positive_flips"][i]),
        }
        for i in order.tolist()
    ]
    return rows, note


def from_ledger(run: Run) -> dict[str, np.ndarray] | None:
    """Count the classes anew from the ledger of the samples."""
    samples = run.columns("samples.parquet", ("label", "pred_before", "pred_after", "pred_ungated"))
    if samples is None:
        return None
    labels = samples["label"].astype(np.int64)
    right = {name: samples[name] == labels for name in samples if name.startswith("pred_")}
    before = right["pred_before"]
    teachers = [correct for name, correct in right.items() if name.startswith("pred_teacher")]
    known = np.any([np.zeros_like(before), *teachers], axis=0)
    marked = {"samples": np.ones_like(before), "positive_flips": known & ~before}
    for name, suffix in (("after", ""), ("ungated", "_ungated")):
        marked[f"gained{suffix}"] = ~before & right[f"pred_{name}"]
        marked[f"lost{suffix}"] = before & ~right[f"pred_{name}"]
    count = int(labels.max(initial=-1)) + 1
    return {"class": np.arange(count), **{k: np.bincount(labels[m], minlength=count) for k, m in marked.items()}}
