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
from crossteach import Classifier
from crossteach.data.label_space import fit_label_space
from crossteach.runs import read_json
from crossteach.scouting.matching import share_classes
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
"""Class ids; −1 for none."""


def tell(title: str, names: Sequence[str], labels: Classes, said: dict[str, Classes]) -> None:
    """Print what is right before, after and by others: of all with a class, the mean of the classes, and each class."""
    known, counts = np.unique(labels[labels >= 0], return_counts=True)
    right = np.array([[100 * (preds[labels == k] == k).mean() for k in known] for preds in said.values()])
    print(f"\n| {title} | snippets | {' | '.join(said)} |\n|---|{'---|' * (len(said) + 1)}")
    rows = [("all", counts.sum(), right @ counts / counts.sum()), ("mean of the classes", "", right.mean(1))]
    rows += [(names[known[k]], counts[k], right[:, k]) for k in np.argsort(right[1] - right[0])]
    for name, count, shares in rows:
        print(f"| {name} | {count} | {' | '.join(f'{share:.1f}' for share in shares)} |")


def main() -> None:
    """Print the tables of a run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", type=Path, help="a folder of a run that returned the end of training")
    parser.add_argument("--file-types", type=Path, default=Path("runs/file_types"))
    arguments = parser.parse_args()
    told = read_json(arguments.run / "config.json")
    spec, pool = told["data"]["spec"], arguments.file_types / "pool_1000.parquet"
    data = crossteach.load_data(spec, pools=told["pools"])
    whole = crossteach.load_data(spec, pools=[f"csv:{pool}?text=text"]).pools[0].split
    models = [crossteach.load_model(model["spec"], like=data) for model in (told["student"], *told["teachers"])]
    data = fit_label_space(data, models[:1])
    student, *teachers = share_classes(models, data.classes)
    taught = {"before": student, "after": crossteach.load_model(f"run:{arguments.run}", like=data)}

    def ask(title: str, split: Split, labels: Classes, asked: dict[str, Classifier]) -> None:
        said = {name: crossteach.predict(model, split).preds.numpy() for name, model in asked.items()}
        tell(title, data.classes, labels, said)

    assert data.selection.labels is not None, "selection has labels"
    ask("selection", data.selection, data.selection.labels, taught | {model.name: model for model in teachers})
    names = map(class_of, pq.read_table(pool, columns=["path"])["path"].to_pylist())
    labels = np.array([-1 if name is None else data.classes.index(name) for name in names])
    shown = np.isin(whole.ids, data.pools[0].split.ids)
    for title, mask in (("pool, taught", shown), ("pool, not taught", ~shown)):
        rows = np.sort(np.random.default_rng(0).permutation(np.flatnonzero(mask))[:ASKED])
        ask(title, whole.take(rows), labels[rows], taught)


if __name__ == "__main__":
    main()
