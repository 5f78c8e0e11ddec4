"""A torch data set of the caller's: read once, then kept in memory or asked again."""

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

from ..errors import DataError, first_line
from ..types import Inputs, Size
from .arrays import ArrayInputs
from .assemble import RawSplit
from .deep import is_deep
from .look import PictureRules, digest_of, flatten
from .picture_inputs import Draw, PictureInputs, stack
from .pixels import pixel_code

IN_MEMORY = 1 << 30
"""Bytes up to which the images of a data set are kept in memory, if they are of one size."""
TWICE = 16
"""Images that are read twice: a data set with a random transform is found out."""
IMAGE_KEYS, LABEL_KEYS = ("image", "img"), ("label", "labels")
"""What items that are dictionaries may call their parts."""
GREY_MODES = ("1", "L", "LA")
"""Modes of Pillow images that have no colour."""


WHOLE_SAMPLERS = (SequentialSampler, RandomSampler, WeightedRandomSampler, DistributedSampler)
"""Samplers that draw from a whole data set: which images there are does not depend on them."""


def without_loader(dataset: Any, what: str) -> tuple[Any, list[str]]:
    """Return the data set of a DataLoader, and a note of what plays no part; what is no loader comes back as it is.

    Args:
        dataset: A DataLoader, or anything else.
        what: Names it in messages.

    Raises:
        DataError: If it is not known which images the loader draws.
    """
    if not isinstance(dataset, DataLoader):
        return dataset, []
    inner: Any = dataset.dataset
    sampler: Any = dataset.sampler
    note = (
        f"{what} is a DataLoader: the {{}} images of its data set are read; its order, batches and collate play no part"
    )
    if isinstance(inner, IterableDataset):
        return inner, []
    if type(dataset.batch_sampler) not in (BatchSampler, type(None)):
        sampler = dataset.batch_sampler
    if isinstance(sampler, SubsetRandomSampler):
        inner = Subset(inner, sorted(map(int, sampler.indices)))
    elif type(sampler) not in WHOLE_SAMPLERS:
        raise DataError(
            f"{what} is a DataLoader that draws by {type(sampler).__name__}, so which images it gives is not known; "
            "give its data set, or a torch.utils.data.Subset of it"
        )
    return inner, [note.format(len(inner))]


def read_dataset(dataset: Any, what: str) -> RawSplit:
    """Read every item of a data set once.

    Args:
        dataset: Has a length, and gives items by their number.
        what: Names it in messages.

    Raises:
        DataError: If an item is no image, or differs when it is read again.
    """
    if isinstance(dataset, IterableDataset) or not all(hasattr(dataset, n) for n in ("__len__", "__getitem__")):
        raise DataError(f"{what} must be a data set with a length and items, not {type(dataset).__name__}")
    items, count = _Items(dataset, what), len(dataset)
    if not count:
        raise DataError(f"{what} is empty; it needs at least one sample")
    first, _ = items.read(0)
    kept = np.empty((count, *first.shape), first.dtype) if count * first.nbytes <= IN_MEMORY else None
    keys, labels, labelled, channels = np.empty(count, np.int64), np.empty(count, np.int64), 0, 1
    for row in range(count):
        image, label = items.read(row)
        keys[row], channels = _digest(image), max(channels, image.shape[2])
        if label is not None:
            labels[row], labelled = label, labelled + 1
        if kept is not None and (image.shape, image.dtype) == (first.shape, first.dtype):
            kept[row] = image
        else:
            kept = None
    _refuse_random(items, keys)
    if 0 < labelled < count:
        raise DataError(f"{what} gives a label with {labelled} of {count} images; give all of them one, or none")
    inputs: Inputs = ArrayInputs(kept, what) if kept is not None else DatasetInputs(items, keys, channels)
    return RawSplit(inputs, labels if labelled else None)


def _refuse_random(items: "_Items", keys: Int[np.ndarray, " N"]) -> None:
    """Raise DataError if one of some images differs when it is read again."""
    for row in np.unique(np.linspace(0, len(keys) - 1, TWICE).astype(int)).tolist():
        if _digest(items.read(row)[0]) != keys[row]:
            raise DataError(
                f"{items.what} gives another image each time it is asked for image {row}; take its random transforms "
                "out: crossteach draws the views itself"
            )


class _Items:
    """The items of a data set, read by one thread at a time."""

    def __init__(self, dataset: Any, what: str) -> None:
        self.what, self._dataset, self._lock = what, dataset, threading.Lock()

    def read(self, row: int) -> tuple[np.ndarray, int | None]:
        """Return the pixels [H, W, c] of an item, and its label if it has one."""
        try:
            with self._lock:
                item = self._dataset[row]
        except Exception as error:  # a user's data set may raise anything
            raise DataError(f"item {row} of {self.what} cannot be read ({first_line(error)}); mend it") from error
        image, label = _parts(item)
        return _pixels(image, row, self.what), None if label is None else _label(label, row, self.what)


def _parts(item: Any) -> tuple[Any, Any]:
    """Return the image of an item, and its label if it has one."""
    if isinstance(item, Mapping):
        image, label = (next((item[k] for k in keys if k in item), None) for keys in (IMAGE_KEYS, LABEL_KEYS))
        return image, label
    if isinstance(item, tuple | list):
        return (item[0] if item else None), (item[1] if len(item) > 1 else None)
    return item, None


def _pixels(image: Any, row: int, what: str) -> np.ndarray:
    """Return the pixels of an image: an array [H, W, 1 or 3] of bytes, or of floats in [0, 1].

    Raises:
        DataError: If it is none.
    """
    if isinstance(image, Image.Image):
        grey = image.mode in GREY_MODES or is_deep(image)
        rules = PictureRules(1 if grey else 3, upright=False)
        image = np.asarray(flatten(image, rules, f"image {row} of {what}"))
    elif isinstance(image, Tensor):
        image = image.detach().cpu().numpy()
        image = image.transpose(1, 2, 0) if image.ndim == 3 else image
    pixels = image[..., None] if isinstance(image, np.ndarray) and image.ndim == 2 else image
    if not isinstance(pixels, np.ndarray) or pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or 0 in pixels.shape:
        got = list(image.shape) if isinstance(image, np.ndarray) else type(image).__name__
        raise DataError(
            f"{what} gives {got} as image {row}; it must be a Pillow image, an array [H, W] or [H, W, 1 or 3], or a "
            "tensor [1 or 3, H, W]"
        )
    if pixels.dtype == np.uint8:
        return pixels
    if not np.issubdtype(pixels.dtype, np.floating):
        raise DataError(f"{what} gives {pixels.dtype} as image {row}; pixels must be uint8, or floats in [0, 1]")
    if not np.isfinite(pixels).all() or pixels.min() < 0 or pixels.max() > 1:
        raise DataError(
            f"{what} gives values outside [0, 1] in image {row}; take the normalisation out of its transforms: each "
            "model's own is applied here"
        )
    return pixels.astype(np.float32)


def _label(label: Any, row: int, what: str) -> int:
    value = np.asarray(label.cpu() if isinstance(label, Tensor) else label)
    if value.size != 1 or not np.issubdtype(value.dtype, np.integer):
        raise DataError(f"{what} gives {type(label).__name__} as label {row}; it must be a class id, a whole number")
    return int(value.item())


def _digest(pixels: np.ndarray) -> int:
    return digest_of(f"{pixels.dtype}{pixels.shape}".encode() + pixels.tobytes())


class DatasetInputs(PictureInputs):
    """Images of a data set, asked for when they are read: pictures of many sizes, or too many to keep."""

    def __init__(self, items: _Items, keys: Int[np.ndarray, " N"], channels: int) -> None:
        """Take a data set that has been read once, and the digest of each of its images."""
        self._items, self.keys, self.channels = items, keys, channels
        self.no_size = f"the images of {items.what} come in many sizes and the model names none; give it a size"
        self.fingerprint = f"{digest_of(f'{pixel_code()} {channels}'.encode() + keys.tobytes()):016x}"

    def __len__(self) -> int:
        return len(self.keys)

    def _picture(self, row: int) -> Image.Image:
        pixels, _ = self._items.read(row)
        pixels = pixels if pixels.dtype == np.uint8 else np.round(255 * pixels).astype(np.uint8)
        picture = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
        return picture.convert("L" if self.channels == 1 else "RGB")

    def digests(self, rows: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
        """Return the digests of some images: equal images have equal ones."""
        return np.asarray(self.keys[rows])

    def aspect(self, rows: Int[np.ndarray, " n"]) -> Float[Tensor, " n"]:
        """Width over height of each image."""
        pictures = (self._picture(row) for row in rows.tolist())
        return torch.tensor([picture.width / picture.height for picture in pictures])

    def _each(self, rows: Int[np.ndarray, " n"], size: Size, draws: Sequence[Draw]) -> Float[Tensor, "n c h w"]:
        drawn = (draw(self._picture(row)) for row, draw in zip(rows.tolist(), draws, strict=True))
        return stack([np.asarray(picture).reshape(*size, self.channels) for picture in drawn])
