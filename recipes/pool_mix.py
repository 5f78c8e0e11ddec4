"""Where a student of file types has gained: on selection, and on the pool that taught it, class by class.

    python recipes/file_types.py --out runs/file_types
    python recipes/published_models.py files_1000-guesslang-rates --methods "learned, 300 steps, as it ended"
    python recipes/pool_mix.py runs/published_models/files_1000-guesslang-rates/jobs/auto-*/

Takes a run that returned the end of its training. The suffix of a pool snippet's file says its class here, as it does
on selection; the run has read none of them. docs/published_models.md has the figures of 2026-11-27.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from file_types_data import LABELS, NAMES
from jaxtyping import Int

import crossteach
from crossteach.data.label_space import fit_label_space
from crossteach.runs import read_json
from crossteach.types import Split

ASKED = 3000
"""Snippets of the pool that are asked about, of those that taught and of the others."""


def class_of(path: str) -> str | None:
    """Name the class of a file by its name or suffix.

    Example:
        >>> class_of("a:b/Makefile"), class_of("a:b.c/x.PY"), class_of("a:b/x.unknown")
        ('makefile', 'python', None)
    """
    name = path.rpartition("/")[2].lower()
    return NAMES.get(name) or LABELS.get("." + name.rpartition(".")[2])


Classes = Int[np.ndarray, " N"]


def tell(title: str, names: Sequence[str], labels: Classes, before: Classes, after: Classes) -> None:
    """Print what is right before and after, of all snippets with a class, as the mean of the classes, and by class."""
    known = np.unique(labels[labels >= 0])
    old, new = (np.array([100 * (said[labels == k] == k).mean() for k in known]) for said in (before, after))
    counts = np.array([(labels == k).sum() for k in known])
    all_old, all_new = (counts @ shares / counts.sum() for shares in (old, new))
    print(f"\n{title}: {counts.sum()} snippets, {all_old:.1f} to {all_new:.1f}%; ", end="")
    print(f"mean of the classes {old.mean():.1f} to {new.mean():.1f}%")
    for place in np.argsort(new - old):
        print(f"| {names[known[place]]} | {counts[place]} | {old[place]:.1f} | {new[place]:.1f} |")


def main() -> None:
    """Print the tables of a run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", type=Path, help="a folder of a run that returned the end of training")
    parser.add_argument("--file-types", type=Path, default=Path("runs/file_types"))
    arguments = parser.parse_args()
    told = read_json(arguments.run / "config.json")
    spec, pool = told["student"]["spec"], arguments.file_types / "pool_1000.parquet"
    data = crossteach.load_data(told["data"]["spec"], pools=told["pools"])
    before, after = (crossteach.load_model(opened, like=data) for opened in (spec, f"run:{arguments.run}"))
    data = fit_label_space(data, [before])
    whole = crossteach.load_data(told["data"]["spec"], pools=[f"csv:{pool}?text=text"]).pools[0].split
    names = map(class_of, pq.read_table(pool, columns=["path"])["path"].to_pylist())
    labels = np.array([-1 if name is None else data.classes.index(name) for name in names])
    taught = np.isin(whole.ids, data.pools[0].split.ids)

    def ask(title: str, split: Split, truth: Int[np.ndarray, " N"]) -> None:
        tell(title, data.classes, truth, *(crossteach.predict(model, split).preds.numpy() for model in (before, after)))

    assert data.selection.labels is not None
    ask("selection", data.selection, data.selection.labels)
    for title, mask in (("pool, taught", taught), ("pool, not taught", ~taught)):
        rows = np.sort(np.random.default_rng(0).permutation(np.flatnonzero(mask))[:ASKED])
        ask(title, whole.take(rows), labels[rows])


if __name__ == "__main__":
    main()
