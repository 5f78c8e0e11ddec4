"""Data that the caller holds already: arrays, texts, torch data sets and loaders, or data frames."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import Subset

from ..errors import DataError
from ..specs import Spec
from ..types import SplitName, Splits
from .arrays import pool_of_images, splits_from_arrays
from .assemble import RawSplit, assemble
from .dataset import read_dataset, without_loader
from .listed import splits_of_frame
from .pool import RawPool, make_pool
from .texts import LONGEST, TextInputs

Arrays = tuple[Any, ...]
"""(images, labels) or (images, labels, groups); labels and groups may be None."""

PARTS: tuple[SplitName, ...] = ("train", "selection", "test")


def from_arrays(
    train: Arrays,
    test: Arrays | None = None,
    selection: Arrays | None = None,
    classes: Sequence[str] | None = None,
    name: str = "arrays",
    **options: Any,
) -> Splits:
    """Make data of arrays.

    Args:
        train: (images, labels), (images, labels, groups), or (images, None) without labels. Images are numpy arrays
            [N, H, W] or [N, H, W, 1 or 3], or torch tensors [N, H, W] or [N, 1 or 3, H, W]; uint8, or floats in [0, 1].
        test: The same; it reports. Without labels nothing is verified. None cuts it from selection, else from train.
        selection: The same; it decides. None cuts it from train, or with `selection_from="test"` from test.
        classes: Names of the classes; None numbers them.
        name: What the data are called in messages.
        options: As behind `?` of a data spec: `selection_from`, `train_samples`, `train_labels`, `duplicates`.

    Raises:
        DataError: If the parts do not fit together, or are no images.

    Example:
        >>> images, labels = np.random.default_rng(0).random((30, 8, 8)), np.arange(30) % 3
        >>> data = from_arrays((images[:20], labels[:20]), (images[20:], labels[20:]), selection_from="test")
        >>> len(data.train), len(data.selection), len(data.test)
        (20, 5, 5)
    """
    given = {"train": train, "val": selection, "test": test}
    arrays: dict[str, np.ndarray] = {}
    for key, part in given.items():
        if part is None:
            continue
        if not isinstance(part, tuple | list) or not 1 <= len(part) <= 3:
            raise DataError(
                f"{'selection' if key == 'val' else key} of {name} must be (images, labels) or (images, labels, groups)"
            )
        for letter, values in zip(("x", "y", "group"), part, strict=False):
            if values is not None:
                arrays[f"{letter}_{key}"] = _array(values, images=letter == "x")
    if classes is not None:
        arrays["class_names"] = np.array(list(classes), str)
    return splits_from_arrays(_spec(name, options), arrays)


def from_texts(
    train: Arrays,
    test: Arrays | None = None,
    selection: Arrays | None = None,
    classes: Sequence[str] | None = None,
    name: str = "texts",
    longest: int = LONGEST,
    **options: Any,
) -> Splits:
    """Make data of texts.

    Args:
        train: (texts, labels), (texts, labels, groups), or (texts, None) without labels. A text is a string, kept as
            UTF-8, or bytes; a label is a class id, and -100 says that a text has none.
        test: The same; it reports. None cuts it from selection, else from train.
        selection: The same; it decides. None cuts it from train, or with `selection_from="test"` from test.
        classes: Names of the classes; None numbers them.
        name: What the data are called in messages.
        longest: Bytes that are kept of a text; a note says how many were longer.
        options: As behind `?` of a data spec: `selection_from`, `train_samples`, `train_labels`, `duplicates`.

    Raises:
        DataError: If the parts do not fit together, or are no texts.

    Example:
        >>> words = ["good", "bad", "fine", "poor"] * 10
        >>> texts = [f"{word} {number}" for number, word in enumerate(words)]
        >>> data = from_texts((texts[:20], [0, 1] * 10), (texts[20:], [0, 1] * 10), selection_from="test")
        >>> len(data.train), len(data.selection), data.test.inputs.texts(np.array([0]))
        (20, 10, [b'good 20'])
    """
    raw: dict[SplitName, RawSplit] = {}
    notes = []
    given: dict[SplitName, Arrays | None] = {"train": train, "selection": selection, "test": test}
    for part, content in given.items():
        if content is None:
            continue
        if not isinstance(content, tuple | list) or not 1 <= len(content) <= 3:
            raise DataError(f"{part} of {name} must be (texts, labels) or (texts, labels, groups)")
        texts, labels, groups = (*content, None, None)[:3]
        inputs = TextInputs(texts, f"{part} of {name}", longest)
        notes += [f"{inputs.cut} texts of {part} are cut to {longest} bytes"] if inputs.cut else []
        numbers = None if labels is None else np.asarray(labels)
        if numbers is not None and not np.issubdtype(numbers.dtype, np.integer):
            raise DataError(f"labels of {part} of {name} must be class ids (integers), not {numbers.dtype}")
        raw[part] = RawSplit(inputs, numbers, None if groups is None else np.asarray(groups))
    known = [int(part.labels.max()) for part in raw.values() if part.labels is not None and len(part.labels)]
    names = list(map(str, classes)) if classes is not None else [str(i) for i in range(max(known, default=0) + 1)]
    return assemble(_spec(name, options), names, raw, notes)


def from_dataset(
    train: Any,
    test: Any = None,
    selection: Any = None,
    classes: Sequence[str] | None = None,
    name: str = "dataset",
    **options: Any,
) -> Splits:
    """Make data of torch data sets, which are read once now: for labels, sizes, and what tells the images apart.

    Of a DataLoader its data set is read, and of one that draws a subset (`SubsetRandomSampler`) that subset, in the
    order of the data set: batches, shuffling, weights and `collate_fn` play no part. A note says so.

    Images of one size are kept in memory, up to 1 GiB a split. Others are asked of the data set whenever they are
    needed, as pictures of 8 bits a channel. A data set must give the same image each time: views and normalisation are
    done here, so it must do neither. Transparent pictures are laid on white.

    Args:
        train: A DataLoader, or what has a length and gives (image, label) or an image alone by its number, or a
            dictionary with `image` (or `img`) and `label` (or `labels`). An image is a Pillow image, an array [H, W] or
            [H, W, 1 or 3], or a tensor [1 or 3, H, W]; uint8, or floats in [0, 1].
        test: The same; it reports. None cuts it from selection, else from train.
        selection: The same; it decides. None cuts it from train, or with `selection_from="test"` from test.
        classes: Names of the classes; None takes the `classes` of the data sets, or numbers them.
        name: What the data are called in messages.
        options: As behind `?` of a data spec: `selection_from`, `train_samples`, `train_labels`, `duplicates`.

    Raises:
        DataError: If a data set has no length, gives no images, or another image when it is asked again, or if two of
            them name other classes.

    Example:
        ```python
        train, test = FashionMNIST(root, train=True), FashionMNIST(root, train=False)
        data = crossteach.from_dataset(train, test, selection_from="test")
        ```
    """
    given = {"train": train, "selection": selection, "test": test}
    datasets, notes = {}, []
    for part, dataset in given.items():
        datasets[part], said = without_loader(dataset, f"{part} of {name}")
        notes += said
    raw = {part: read_dataset(datasets[part], f"{part} of {name}") for part in PARTS if datasets[part] is not None}
    known = [int(part.labels.max()) for part in raw.values() if part.labels is not None]
    names = list(map(str, classes)) if classes is not None else _class_names(datasets, name)
    names = names or [str(i) for i in range(max(known, default=0) + 1)]
    return assemble(_spec(name, options), names, raw, notes)


def from_frame(
    frame: Any,
    root: str | Path = ".",
    name: str = "frame",
    *,
    path: str = "path",
    text: str | None = None,
    label: str = "label",
    split: str | None = None,
    group: str | None = None,
    **options: Any,
) -> Splits:
    """Make data of a data frame that lists picture files or holds texts, as `csv:FILE` does of a file.

    Args:
        frame: Of pandas or polars, with a row a sample.
        root: The folder that its paths are relative to.
        name: What the data are called in messages.
        path: The column of paths.
        text: The column of texts. None takes one called `text` where there are no paths.
        label: The column of class names or ids; an empty cell, None or NaN is no label.
        split: The column that says train, val or test. None takes one called `split`, if there is one; else all rows
            are train and the other splits are cut off, by a fixed seed. "" reads none.
        group: The column of groups. None takes one called `group`, if there is one; "" reads none.
        options: As behind `?` of `csv:`, as in `channels=1`.

    Raises:
        SpecError: If an option is unknown or out of range.
        DataError: If a column is not there, too many pictures are missing or broken, or labels are no single classes.

    Example:
        ```python
        data = crossteach.from_frame(pandas.read_csv("birds.csv"), "pictures", path="file", label="species")
        ```
    """
    columns = {"path": path, "text": text, "label": label, "split": split, "group": group}
    named = {key: column for key, column in columns.items() if column is not None and column != key}
    return splits_of_frame(Spec(name, "frame", "", options=_words(options)), frame, Path(root), named)


def pool_from(images: Any, name: str = "pool", groups: Any = None) -> RawPool:
    """Make a pool of images or texts that the caller holds; labels are not read.

    Args:
        images: An array or tensor as `from_arrays` takes them, a torch data set or loader as `from_dataset` does, or a
            list of texts as `from_texts` does.
        name: What the pool is called in messages.
        groups: What each image has in common with others, if that is known.

    Raises:
        DataError: If these are no images.

    Example:
        >>> pool_from(np.random.default_rng(0).random((30, 8, 8)), name="mine").found
        30
    """
    group = None if groups is None else np.asarray(groups)
    images, notes = without_loader(images, name)
    if isinstance(images, np.ndarray | Tensor):
        return make_pool(name, pool_of_images(Spec(name, "pool", ""), _array(images, images=True), "the images", group))
    if isinstance(images, list | tuple) and images and isinstance(images[0], str | bytes):
        return make_pool(name, RawSplit(TextInputs(images, name), None, group))
    pool = make_pool(name, replace(read_dataset(images, name), labels=None, group=group))
    return replace(pool, notes=tuple(notes))


def _class_names(datasets: Mapping[str, Any], name: str) -> list[str]:
    """Return what the data sets say themselves of their classes; empty if they say nothing.

    Raises:
        DataError: If they differ, as their labels would then mean different classes.
    """
    whole: dict[str, Any] = {part: d.dataset if isinstance(d, Subset) else d for part, d in datasets.items()}
    known = {part: list(map(str, d.classes)) for part, d in whole.items() if getattr(d, "classes", None)}
    first = next(iter(known.values()), [])
    for part, names in known.items():
        if names != first:
            odd = next((name for name in sorted(set(names) ^ set(first))), names[0])
            raise DataError(
                f"{next(iter(known))} and {part} of {name} name other classes ({odd!r} among them), or in another "
                "order; give data sets whose labels mean the same, or the true names as classes"
            )
    return first


def _spec(name: str, options: dict[str, Any]) -> Spec:
    spec = Spec(name, "data", "", options=_words(options))
    spec.refuse_unknown({"selection_from", "train_samples", "train_labels", "duplicates"})
    return spec


def _words(options: dict[str, Any]) -> dict[str, str]:
    """Write options as a spec has them."""
    return {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in options.items()}


def _array(values: Any, images: bool) -> np.ndarray:
    """Return numpy values; torch images have their channels last then."""
    if not isinstance(values, Tensor):
        return np.asarray(values)
    array = values.detach().cpu().numpy()
    return array.transpose(0, 2, 3, 1) if images and array.ndim == 4 else array
