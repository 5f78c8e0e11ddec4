"""The same pictures in every kind of source."""

import csv
import io
import json
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

SPLITS = {"train": "train", "val": "selection", "test": "test"}


def write_folder(root, counts=None, labels=("cat", "dog", "eel"), size=(16, 12)):
    """Write class folders of PNG and JPEG pictures, no two alike."""
    rng = np.random.default_rng(0)
    for split, count in (counts or {"train": 5, "val": 4, "test": 4}).items():
        for label in labels:
            (root / split / label).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (size[1], size[0] + i % 3, 3), np.uint8)
                Image.fromarray(pixels).save(root / split / label / f"{i:02}.{'jpg' if i % 2 else 'png'}")
    return root


def pictures_of(root):
    """Return split, label and path of each picture, in the order of a folder."""
    paths = sorted(path for path in root.rglob("*") if path.suffix in (".png", ".jpg"))
    rank = {"train": 0, "val": 1, "test": 2}
    rows = [(path.relative_to(root).parts[0], path.parent.name, path) for path in paths]
    return sorted(rows, key=lambda row: rank[row[0]])


def write_csv(path, root, separator=",", header=("path", "label", "split"), **more):
    """List the pictures of a folder in a csv; `more` has columns of constants, or functions of (split, label, path)."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=separator)
        writer.writerow([*header, *more])
        for split, label, picture in pictures_of(root):
            cells = picture.relative_to(root).as_posix(), label, split
            writer.writerow([*cells, *(make(split, label, picture) for make in more.values())])
    return path


def add(tar, name, content):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def write_tars(folder, root, shard=7, as_json=False):
    """Write the pictures of a folder to tars of so many samples each, named by split."""
    folder.mkdir(exist_ok=True)
    for split in SPLITS:
        rows = [row for row in pictures_of(root) if row[0] == split]
        for start in range(0, len(rows), shard):
            with tarfile.open(folder / f"{split}-{start // shard:03}.tar", "w") as tar:
                for i, (_, label, picture) in enumerate(rows[start : start + shard], start):
                    add(tar, f"{i:05}{picture.suffix}", picture.read_bytes())
                    word = json.dumps({"label": label, "id": i}) if as_json else label
                    add(tar, f"{i:05}.{'json' if as_json else 'cls'}", word.encode())
    return folder


def make_datasets(root, labels=("cat", "dog", "eel")):
    """Return the pictures of a folder as a DatasetDict, with their files' own bytes."""
    import datasets

    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(labels)), "row": datasets.Value("int64")}
    )
    parts = {}
    for split in SPLITS:
        rows = [row for row in pictures_of(root) if row[0] == split]
        cells = {
            "image": [{"bytes": path.read_bytes(), "path": path.name} for _, _, path in rows],
            "label": [labels.index(label) for _, label, _ in rows],
            "row": list(range(len(rows))),
        }
        parts[{"val": "validation"}.get(split, split)] = datasets.Dataset.from_dict(cells, features=features)
    return datasets.DatasetDict(parts)


def bytes_of(root: Path):
    return [path.read_bytes() for _, _, path in pictures_of(root)]
