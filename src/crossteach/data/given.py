"""Data that the caller holds already: arrays, or torch data sets."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from ..errors import DataError
from ..specs import Spec
from ..types import Inputs, Interpolation, Preprocess, Size, SplitName, Splits
from .arrays import ArrayInputs, default_augmentation, splits_from_arrays
from .assemble import RawSplit, assemble
from .evaluation import evaluate_picture
from .files import cut_picture, stack
from .look import digest_of
from .pixels import pixel_code

Arrays = tuple[Any, ...]
"""(images, labels) or (images, labels, groups); labels and groups may be None."""

IN_MEMORY = 1 << 30
"""Bytes up to which the images of a data set are kept in memory, if they are of one size."""

PARTS: tuple[tuple[SplitName, str], ...] = (("train", "train"), ("selection", "val"), ("test", "test"))


def from_arrays(
    train: Arrays,
    test: Arrays,
    selection: Arrays | None = None,
    classes: Sequence[str] | None = None,
    name: str = "arrays",
    **options: Any,
) -> Splits:
    """Make data of arrays.

    Args:
        train: (images, labels), (images, labels, groups), or (images, None) without labels. Images are numpy arrays
            [N, H, W] or [N, H, W, 1 or 3], or torch tensors [N, H, W] or [N, 1 or 3, H, W]; uint8, or floats in [0, 1].
        test: The same; it reports.
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
    if "y_test" not in arrays:
        raise DataError(f"test of {name} must have labels: (images, labels)")
    if classes is not None:
        arrays["class_names"] = np.array(list(classes), str)
    return splits_from_arrays(_spec(name, options), arrays)


def from_dataset(
    train: Any,
    test: Any,
    selection: Any = None,
    classes: Sequence[str] | None = None,
    name: str = "dataset",
    **options: Any,
) -> Splits:
    """Make data of torch data sets, which are read once now: for labels, sizes, and what tells the images apart.

    Images of one size are kept in memory, up to 1 GiB a split. Others are asked of the data set whenever they are
    needed, as pictures of 8 bits a channel. A data set must give the same image each time: views and normalisation are
    done here, so it must do neither.

    Args:
        train: Has a length, and gives (image, label) or an image alone by its number. An image is a Pillow image, an
            array [H, W] or [H, W, 1 or 3], or a tensor [1 or 3, H, W]; uint8, or floats in [0, 1].
        test: The same; it reports.
        selection: The same; it decides. None cuts it from train, or with `selection_from="test"` from test.
        classes: Names of the classes; None takes the `classes` of `train`, or numbers them.
        name: What the data are called in messages.
        options: As behind `?` of a data spec: `selection_from`, `train_samples`, `train_labels`, `duplicates`.

    Raises:
        DataError: If a data set has no length, gives no images, or another image when it is asked again.

    Example:
        ```python
        train, test = FashionMNIST(root, train=True), FashionMNIST(root, train=False)
        data = crossteach.from_dataset(train, test, selection_from="test")
        ```
    """
    datasets = {"train": train, "selection": selection, "test": test}
    raw = {part: _read(datasets[part], part, name) for part, _ in PARTS if datasets[part] is not None}
    known = [int(part.labels.max()) for part in raw.values() if part.labels is not None]
    names = classes if classes is not None else getattr(train, "classes", None)
    names = [str(i) for i in range(max(known, default=0) + 1)] if names is None else list(map(str, names))
    first = raw["train"].inputs
    of_pictures = "crop" if first.channels == 3 else "warp"
    augmentation = default_augmentation(first) if isinstance(first, ArrayInputs) else of_pictures
    return assemble(_spec(name, options), names, raw, augmentation)


def _spec(name: str, options: dict[str, Any]) -> Spec:
    words = {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in options.items()}
    spec = Spec(name, "data", "", options=words)
    spec.refuse_unknown({"selection_from", "train_samples", "train_labels", "duplicates"})
    return spec


def _array(values: Any, images: bool) -> np.ndarray:
    """Return numpy values; torch images have their channels last then."""
    if not isinstance(values, Tensor):
        return np.asarray(values)
    array = values.detach().cpu().numpy()
    return array.transpose(0, 2, 3, 1) if images and array.ndim == 4 else array


def _read(dataset: Any, part: str, name: str) -> RawSplit:
    """Read a data set once."""
    what = f"{part} of {name}"
    if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
        raise DataError(f"{what} must be a data set with a length and items, not {type(dataset).__name__}")
    if not len(dataset):
        raise DataError(f"{what} is empty; it needs at least one sample")
    images, labels, digests, shapes, kept = [], [], [], set(), 0
    for row in range(len(dataset)):
        image, label = _item(dataset, row, what)
        digests.append(digest_of(f"{image.dtype}{image.shape}".encode() + image.tobytes()))
        shapes.add((image.shape, image.dtype.str))
        labels.append(label)
        kept += image.nbytes
        if len(shapes) == 1 and kept <= IN_MEMORY:
            images.append(image)
        else:
            images.clear()
    again, _ = _item(dataset, 0, what)
    if digest_of(f"{again.dtype}{again.shape}".encode() + again.tobytes()) != digests[0]:
        raise DataError(
            f"{what} gives another image each time it is asked for the first one; take its random transforms out: "
            "crossteach draws the views itself"
        )
    if any(label is None for label in labels) and not all(label is None for label in labels):
        raise DataError(f"{what} gives a label with some images and none with others; give all of them one")
    keys = np.array(digests, np.int64)
    inputs: Inputs = (
        ArrayInputs(np.stack(images), what) if len(images) == len(labels) else DatasetInputs(dataset, keys, what)
    )
    return RawSplit(inputs, None if labels[0] is None else np.array(labels, np.int64), keys=keys)


def _item(dataset: Any, row: int, what: str) -> tuple[np.ndarray, int | None]:
    """Return an image [H, W] or [H, W, c], and its label if it has one."""
    item = dataset[row]
    image, label = (item[0], item[1]) if isinstance(item, tuple | list) else (item, None)
    if isinstance(image, Image.Image):
        image = np.asarray(image if image.mode in ("L", "RGB") else image.convert("RGB"))
    elif isinstance(image, Tensor):
        image = image.detach().cpu().numpy()
        image = image.transpose(1, 2, 0) if image.ndim == 3 else image
    if (
        not isinstance(image, np.ndarray)
        or image.ndim not in (2, 3)
        or (image.ndim == 3 and image.shape[2] not in (1, 3))
    ):
        got = list(image.shape) if isinstance(image, np.ndarray) else type(image).__name__
        raise DataError(
            f"{what} gives {got} as image {row}; it must be a Pillow image, an array [H, W] or [H, W, 1 or 3], or a "
            "tensor [1 or 3, H, W]"
        )
    if image.dtype != np.uint8 and (not np.isfinite(image).all() or image.min() < 0 or image.max() > 1):
        raise DataError(
            f"{what} gives values outside [0, 1] in image {row}; take the normalisation out of its transforms: each "
            "model's own is applied here"
        )
    if (
        label is not None
        and not isinstance(label, int | np.integer)
        and not (isinstance(label, Tensor) and label.ndim == 0)
    ):
        raise DataError(f"{what} gives {type(label).__name__} as label {row}; it must be a class id, a whole number")
    return image, None if label is None else int(label)


class DatasetInputs:
    """Images of a torch data set, asked for when they are read: pictures of many sizes, or too many to keep."""

    size: Size | None = None

    def __init__(self, dataset: Any, keys: Int[np.ndarray, " N"], what: str) -> None:
        """Take a data set that has been read once, and the digest of each of its images."""
        self._dataset, self._keys, self._what = dataset, keys, what
        self.channels = 1 if self._picture(0).mode == "L" else 3
        self.fingerprint = f"{digest_of(pixel_code().encode() + keys.tobytes()):016x}"

    def __len__(self) -> int:
        return len(self._keys)

    def _picture(self, row: int) -> Image.Image:
        image, _ = _item(self._dataset, row, self._what)
        image = image if image.dtype == np.uint8 else np.round(255 * image).astype(np.uint8)
        return Image.fromarray(image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image)

    def digests(self, rows: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
        """Return the digests of some images: equal images have equal ones."""
        return np.asarray(self._keys[rows])

    def aspect(self, rows: Int[np.ndarray, " n"]) -> Float[Tensor, " n"]:
        """Width over height of each image."""
        pictures = (self._picture(row) for row in rows.tolist())
        return torch.tensor([picture.width / picture.height for picture in pictures])

    def read(
        self,
        rows: Int[np.ndarray, " n"],
        size: Size | None,
        boxes: Float[Tensor, "n 4"] | None,
        interpolation: Interpolation = "bilinear",
    ) -> Float[Tensor, "n c h w"]:
        """Read images, cut their boxes out and resize them; see `Inputs.read`."""
        size = self._need(size)
        shares = boxes if boxes is not None else torch.tensor([[0.0, 0.0, 1.0, 1.0]]).expand(len(rows), 4)
        cut = (
            cut_picture(self._picture(row), size, box, interpolation)
            for row, box in zip(rows.tolist(), shares.tolist(), strict=True)
        )
        return stack([np.asarray(p).reshape(*size, self.channels) for p in cut])

    def evaluation(self, rows: Int[np.ndarray, " n"], preprocess: Preprocess) -> Float[Tensor, "n c h w"]:
        """Read images, resized and cropped as the model wants it; see `Inputs.evaluation`."""
        size = self._need(preprocess.size)
        drawn = (evaluate_picture(self._picture(row), size, preprocess) for row in rows.tolist())
        return stack([np.asarray(p).reshape(*size, self.channels) for p in drawn])

    def _need(self, size: Size | None) -> Size:
        if size is None:
            raise DataError(f"the images of {self._what} come in many sizes and the model names none; give it a size")
        return size
