"""Data of recipes/pool_study.py that differ from the study's: without any label, or with labels of the pool."""

import io
from pathlib import Path
from typing import Any

import numpy as np

import crossteach
from crossteach.files import write_bytes

DATA, BLIND = "glyphs?train_samples=2634", "blind.npz"


def arrays_of_data() -> dict[str, Any]:
    """Return the study's data as the arrays of an npz file."""
    glyphs = crossteach.load_data(DATA)
    arrays: dict[str, Any] = {"class_names": np.array(glyphs.classes)}
    for key, split in (("train", glyphs.train), ("val", glyphs.selection), ("test", glyphs.test)):
        images = split.inputs.read(split.input_rows(np.arange(len(split))), None, None)
        arrays[f"x_{key}"] = (images * 255).round().byte().permute(0, 2, 3, 1).numpy()
        arrays[f"y_{key}"], arrays[f"group_{key}"] = split.labels, np.array(split.group_names)[split.group]
    return arrays


def write_blind(path: Path) -> None:
    """Write the data as those have them who have no label; the test split keeps its own, and only reports."""
    arrays = arrays_of_data()
    for key in ("y_train", "y_val"):
        arrays[key] = np.full_like(arrays[key], -100)
    write_npz(path, arrays)


def labelled(size: int | None = None) -> str:
    """Name the file of data with so many labelled images of the pool beside train; None is all of them."""
    return f"labelled{'' if size is None else f'-{size}'}.npz"


def write_labelled(pool: str, path: Path, size: int | None = None) -> None:
    """Write the data that labels of so many images of the pool would have bought: train and these, all labelled.

    What a transfer leaves out of the pool, since it stands in test or selection as well, is left out here.
    """
    spec = pool if size is None else f"{pool}?samples={size}"
    left = crossteach.load_data(DATA, pools=[spec]).pools[0].split
    arrays, fresh, rows = arrays_of_data(), np.load(pool.removeprefix("npz:")), left.input_rows(np.arange(len(left)))
    order = [list(fresh["class_names"]).index(name) for name in arrays["class_names"]]
    labels = np.argsort(order)[fresh["y_train"][rows]]
    arrays["x_train"] = np.concatenate([arrays["x_train"], fresh["x_train"][rows][..., None]])
    arrays["y_train"] = np.concatenate([arrays["y_train"], labels])
    arrays["group_train"] = np.concatenate([arrays["group_train"], fresh["group_train"][rows].astype(str)])
    write_npz(path, arrays)


def write_npz(path: Path, arrays: dict[str, Any]) -> None:
    """Write arrays whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with io.BytesIO() as packed:
        np.savez(packed, **arrays)
        write_bytes(path, packed.getvalue())
