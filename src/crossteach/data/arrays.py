"""Images that fit in memory: `npz:`, `idx:`, `sklearn:digits` and the embedded `glyphs`."""

import gzip
import hashlib
import struct
import zipfile
import zlib
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..errors import DataError, SpecError
from ..specs import Spec
from ..types import Interpolation, Kind, Preprocess, Size, SplitName, Splits
from .assemble import OPTIONS, RawSplit, assemble
from .evaluation import evaluate_images
from .look import digest_of
from .pixels import VERSION, crop_and_resize, resize

GLYPHS = Path(__file__).parent.parent / "demo" / "glyphs.npz"
FRESH_GLYPHS = GLYPHS.with_name("pool.npz")
"""More type families, of which no model was trained on any."""


class ArrayInputs:
    """Images of one size, held as uint8 or as floats in [0, 1], channels first."""

    kind: Kind = "image"

    def __init__(self, images: np.ndarray, what: str) -> None:
        """Take images [N, H, W] or [N, H, W, c].

        Args:
            images: uint8, or floats in [0, 1].
            what: Names them in messages.

        Raises:
            DataError: If their shape, type or values are not those of images.
        """
        if images.ndim == 3:
            images = images[..., None]
        if images.ndim != 4 or images.shape[-1] not in (1, 3) or 0 in images.shape[1:]:
            raise DataError(f"{what} must be images [N, H, W] or [N, H, W, 1 or 3], not {list(images.shape)}")
        if images.dtype != np.uint8:
            if not np.issubdtype(images.dtype, np.floating):
                raise DataError(f"{what} must be uint8, or floats in [0, 1], not {images.dtype}")
            if not np.isfinite(images).all():
                bad = int((~np.isfinite(images)).reshape(len(images), -1).any(1).sum())
                raise DataError(f"{what} has NaN or infinite pixels in {bad} of {len(images)} images; remove these")
            if images.size and (images.min() < 0 or images.max() > 1):
                raise DataError(f"{what} has floats from {images.min():g} to {images.max():g}; they must be in [0, 1]")
            images = images.astype(np.float32)
        self._images = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
        self.channels = images.shape[-1]
        self.size: Size | None = (images.shape[1], images.shape[2])
        header = f"pixels{VERSION}{images.dtype}{list(images.shape)}".encode()
        self.fingerprint = hashlib.blake2b(header + np.ascontiguousarray(images).data, digest_size=16).hexdigest()

    def __len__(self) -> int:
        return len(self._images)

    def aspect(self, rows: Int[np.ndarray, " n"]) -> Float[Tensor, " n"]:
        """Width over height of each image."""
        return torch.full((len(rows),), self._images.shape[3] / self._images.shape[2])

    def evaluation(self, rows: Int[np.ndarray, " n"], preprocess: Preprocess) -> Float[Tensor, "n c h w"]:
        """Read images as a model is evaluated on them; see `Inputs.evaluation`."""
        return evaluate_images(self.read(rows, None, None), preprocess)

    @cached_property
    def keys(self) -> Int[np.ndarray, " N"]:
        """A number for each image: equal images have equal ones, and others nearly always another."""
        return self.digests(np.arange(len(self)))

    def digests(self, rows: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
        """Hash the pixels of some images: equal images have equal digests."""
        whole = self._images.numpy()
        return np.fromiter((digest_of(whole[row].tobytes()) for row in rows.tolist()), np.int64, len(rows))

    def read(
        self,
        rows: Int[np.ndarray, " n"],
        size: Size | None,
        boxes: Float[Tensor, "n 4"] | None,
        interpolation: Interpolation = "bilinear",
    ) -> Float[Tensor, "n c h w"]:
        """Read images as floats in [0, 1]; see `Inputs.read`."""
        images = self._images[torch.from_numpy(np.asarray(rows, np.int64))]
        images = images.float() / 255 if images.dtype == torch.uint8 else images
        target = size or (images.shape[2], images.shape[3])
        return resize(images, target, interpolation) if boxes is None else crop_and_resize(images, boxes, target)


def load_npz(spec: Spec, path: Path | None = None) -> Splits:
    """Open `npz:FILE` with the keys `x_train y_train x_val y_val x_test y_test class_names group_train …`.

    Labels may be absent; the label −100 says that a single sample has none. What has no test or no val images gets
    them from the others, by a fixed seed.

    Raises:
        DataError: If the file is missing, is no npz, is cut short, or its arrays do not fit.
    """
    spec.refuse_unknown(OPTIONS)
    path = path or spec.path
    arrays = read_archive(spec, path)
    if "x_train" not in arrays and not {"x_val", "x_test"} <= set(arrays):
        hint = f"; as a pool it opens by --pool {spec.text}" if "x" in arrays else ""
        raise DataError(f"{path} has no array 'x_train'; it has {', '.join(sorted(arrays)) or 'none'}{hint}")
    return splits_from_arrays(spec, arrays)


def npz_pool(spec: Spec, path: Path | None = None) -> RawSplit:
    """Open the images of `npz:FILE` without their labels: `x`, else `x_train`; their groups, if there are any.

    Raises:
        DataError: If the file is no npz, or has neither.
    """
    path = path or spec.path
    arrays = read_archive(spec, path)
    suffix = next((suffix for suffix in ("", "_train") if f"x{suffix}" in arrays), None)
    if suffix is None:
        raise DataError(f"{path} has no array 'x' or 'x_train'; it has {', '.join(sorted(arrays)) or 'none'}")
    return pool_of_images(spec, arrays[f"x{suffix}"], f"x{suffix}", arrays.get(f"group{suffix}"))


def pool_of_images(spec: Spec, images: np.ndarray, what: str, group: np.ndarray | None = None) -> RawSplit:
    """Take images in memory as a pool."""
    return RawSplit(ArrayInputs(images, f"{what} of {spec.text!r}"), None, group)


def read_archive(spec: Spec, path: Path) -> dict[str, np.ndarray]:
    """Read all arrays of an .npz file.

    Raises:
        DataError: If it is missing, no npz, cut short, or holds Python objects.
    """
    if not path.is_file():
        raise DataError(f"no file {path} for {spec.text!r}; expected an .npz file")
    try:
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise DataError(f"{path} is a single array, not an .npz archive with x_train, y_train, …")
            objects = [key for key in archive.files if _holds_objects(archive, key)]
            arrays = {} if objects else {key: archive[key] for key in archive.files}
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, OSError) as error:
        raise DataError(f"{path} is not a whole .npz archive ({error}); write it again with numpy.savez") from error
    if objects:
        raise DataError(
            f"array {objects[0]!r} of {path} holds Python objects, which only pickle reads, and pickle may run code; "
            "save names as numpy.array(names, dtype=str) and labels as integers"
        )
    return arrays


def _holds_objects(archive: np.lib.npyio.NpzFile, key: str) -> bool:
    """Read the header of one array of an archive: does it need pickle?"""
    assert archive.zip is not None
    name = key if key in archive.zip.namelist() else f"{key}.npy"
    with archive.zip.open(name) as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        return bool(read(file)[2].hasobject)


def read_names(values: np.ndarray, what: str) -> list[str]:
    """Read class names from an array of text, bytes or numbers.

    Raises:
        DataError: If it is no list, or bytes in it are no UTF-8.
    """
    if values.ndim != 1:
        raise DataError(f"class_names of {what} must be a list of names, not {list(values.shape)}")
    try:
        return [name.decode() if isinstance(name, bytes) else str(name) for name in values.tolist()]
    except UnicodeDecodeError as error:
        raise DataError(f"class_names of {what} holds bytes that are no UTF-8 ({error}); save them as text") from error


def splits_from_arrays(spec: Spec, arrays: dict[str, np.ndarray]) -> Splits:
    """Build splits from arrays under the keys of `npz:`."""
    raw: dict[SplitName, RawSplit] = {}
    parts: tuple[tuple[SplitName, str], ...] = (("train", "train"), ("selection", "val"), ("test", "test"))
    for name, key in parts:
        if f"x_{key}" in arrays:
            inputs = ArrayInputs(arrays[f"x_{key}"], f"x_{key} of {spec.text!r}")
            labels = arrays.get(f"y_{key}")
            if labels is not None and not np.issubdtype(labels.dtype, np.integer):
                raise DataError(f"y_{key} of {spec.text!r} must hold class ids (integers), not {labels.dtype}")
            raw[name] = RawSplit(inputs, labels, arrays.get(f"group_{key}"))
    if "class_names" in arrays:
        classes = read_names(arrays["class_names"], repr(spec.text))
    else:
        known = [part.labels.max() for part in raw.values() if part.labels is not None and len(part.labels)]
        classes = [str(i) for i in range(int(max(known, default=0)) + 1)]
    return assemble(spec, classes, raw)


def load_glyphs(spec: Spec) -> Splits:
    """Open the embedded `glyphs`: 100 characters in free fonts, 32x32 grey, split by type family."""
    _refuse_path(spec)
    return load_npz(spec, GLYPHS)


def glyphs_pool(spec: Spec) -> RawSplit:
    """Take `glyphs:pool`, the embedded images of other type families, or the train images of `glyphs`, as a pool."""
    if spec.rest == "pool" and spec.weights is None:
        return npz_pool(spec, FRESH_GLYPHS)
    _refuse_path(spec)
    return npz_pool(spec, GLYPHS)


def _refuse_path(spec: Spec) -> None:
    """Raise if a spec names a file that nothing would read, or a pool where labelled data are asked for."""
    if spec.scheme == "glyphs" and spec.rest == "pool" and spec.weights is None:
        raise SpecError("glyphs:pool is a pool without labels; write --data glyphs --pool glyphs:pool")
    known = "" if spec.scheme == "glyphs" else "digits"
    if spec.weights is not None or (spec.scheme == "glyphs" and spec.rest):
        raise SpecError(
            f"{spec.text!r} names a file that nothing would read; write {spec.scheme}{known and ':' + known}"
        )


def load_sklearn(spec: Spec) -> Splits:
    """Open `sklearn:digits`: 1,797 digits of 8x8 pixels, cut 60/20/20."""
    spec.refuse_unknown(OPTIONS)
    return splits_from_arrays(spec, _read_digits(spec))


def sklearn_pool(spec: Spec) -> RawSplit:
    """Take the train images of `sklearn:digits` as a pool."""
    return pool_of_images(spec, _read_digits(spec)["x_train"], "x_train")


def _read_digits(spec: Spec) -> dict[str, np.ndarray]:
    """Return scikit-learn's digits under the keys of `npz:`."""
    _refuse_path(spec)
    if spec.rest != "digits":
        raise SpecError(f"{spec.text!r}: of scikit-learn's data only sklearn:digits holds images")
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)
    labels = digits.target.astype(np.int64)
    order = np.random.default_rng(0).permutation(len(images))
    ends = {"train": (0, 0.6), "val": (0.6, 0.8), "test": (0.8, 1.0)}
    arrays = {"class_names": np.array([str(i) for i in range(10)])}
    for key, (start, end) in ends.items():
        index = order[round(start * len(order)) : round(end * len(order))]
        arrays[f"x_{key}"], arrays[f"y_{key}"] = images[index], labels[index]
    return arrays


def idx_pool(spec: Spec) -> RawSplit:
    """Take the train images of `idx:FOLDER` as a pool."""
    return pool_of_images(spec, _read_idx(spec.path, "train-images-idx3-ubyte", 3), "the train images")


def load_idx(spec: Spec) -> Splits:
    """Open `idx:FOLDER`: the four files of the MNIST family, .gz or not, class names from `classes.txt` if there.

    Without the two test files (t10k) the test split is cut from train, by a fixed seed.

    Raises:
        DataError: If the folder or one of the files is missing, or is cut short.
    """
    spec.refuse_unknown(OPTIONS)
    folder = spec.path
    if not folder.is_dir():
        raise DataError(f"no folder {folder} for {spec.text!r}; expected one with train-images-idx3-ubyte.gz")
    arrays = {}
    for key, stem in (("train", "train"), ("test", "t10k")):
        if key == "test" and not any(folder.glob(f"{stem}-*-ubyte*")):
            continue
        arrays[f"x_{key}"] = _read_idx(folder, f"{stem}-images-idx3-ubyte", 3)
        arrays[f"y_{key}"] = _read_idx(folder, f"{stem}-labels-idx1-ubyte", 1).astype(np.int64)
    names = folder / "classes.txt"
    if names.is_file():
        arrays["class_names"] = np.array(names.read_text(encoding="utf-8").splitlines())
    return splits_from_arrays(spec, arrays)


def _read_idx(folder: Path, stem: str, axes: int) -> np.ndarray:
    """Read one idx file: two zero bytes, type 8 (uint8), the number of axes, their lengths, the values."""
    path = next((p for p in (folder / f"{stem}.gz", folder / stem) if p.is_file()), None)
    if path is None:
        raise DataError(f"{folder} has neither {stem}.gz nor {stem}")
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} is not a whole gzip file ({error})") from error
    if len(content) < 4 + 4 * axes or content[:4] != bytes((0, 0, 8, axes)):
        raise DataError(f"{path} is not an idx file of uint8 values with {axes} axes; it starts {content[:4]!r}")
    shape = struct.unpack(f">{axes}I", content[4 : 4 + 4 * axes])
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * axes)
    if values.size != int(np.prod(shape)):
        raise DataError(f"{path} promises {list(shape)} values but holds {values.size}; it is cut short")
    return values.reshape(shape).copy()  # torch wants arrays that can be written
