"""Image files in class folders: `folder:PATH` with train/, val/ (optional) and test/."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from ..errors import DataError, SpecError
from ..specs import Spec
from ..types import Size, SplitName, Splits
from .assemble import OPTIONS, RawSplit, assemble

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif"}
SELECTION_NAMES = ("val", "valid", "validation", "selection")


class FolderInputs:
    """Image files, decoded when read, by threads (Pillow decodes outside Python's lock)."""

    size: Size | None = None

    def __init__(self, root: Path, paths: list[Path], channels: int, workers: int) -> None:
        self._root, self._paths, self._workers = root, paths, workers
        self._pool: ThreadPoolExecutor | None = None
        self._aspect: dict[int, float] = {}
        self.channels = channels
        hashed = hashlib.blake2b(str(channels).encode(), digest_size=16)
        for path in paths:
            stat = path.stat()
            hashed.update(f"{path.relative_to(root).as_posix()}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
        self.fingerprint = hashed.hexdigest()

    def __len__(self) -> int:
        return len(self._paths)

    def aspect(self, rows: Int[np.ndarray, " n"]) -> Float[Tensor, " n"]:
        """Width over height of each image, from the files' headers."""
        for row in rows.tolist():
            if row not in self._aspect:
                with _open(self._paths[row]) as image:
                    self._aspect[row] = image.width / image.height
        return torch.tensor([self._aspect[row] for row in rows.tolist()])

    def read(
        self, rows: Int[np.ndarray, " n"], size: Size | None, boxes: Float[Tensor, "n 4"] | None
    ) -> Float[Tensor, "n c h w"]:
        """Decode images, cut their boxes out and resize them; see `Inputs.read`."""
        assert size is not None, "files differ in size: a size must be asked for"
        shares = boxes if boxes is not None else torch.tensor([[0.0, 0.0, 1.0, 1.0]]).expand(len(rows), 4)
        jobs = [(self._paths[row], size, box) for row, box in zip(rows.tolist(), shares.tolist(), strict=True)]
        if self._workers > 0:
            self._pool = self._pool or ThreadPoolExecutor(self._workers, thread_name_prefix="decode")
            decoded = list(self._pool.map(self._decode, jobs))
        else:
            decoded = [self._decode(job) for job in jobs]
        return torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2).float() / 255

    def _decode(self, job: tuple[Path, Size, list[float]]) -> np.ndarray:
        path, (height, width), (left, top, right, bottom) = job
        with _open(path) as image:
            try:
                if image.mode in ("I", "F") or image.mode.startswith("I;"):
                    raise DataError(f"{path} has more than 8 bits a pixel ({image.mode}); convert it to 8 bits")
                pixels = image.convert("L" if self.channels == 1 else "RGB")
            except (OSError, SyntaxError, ValueError) as error:
                raise DataError(f"{path} cannot be decoded ({error}); remove it or replace it") from error
        w, h = pixels.size
        box = (left * w, top * h, min(right * w, w), min(bottom * h, h))
        array = np.asarray(pixels.resize((width, height), Image.Resampling.BILINEAR, box=box))
        return array.reshape(height, width, -1)


def _open(path: Path) -> Image.Image:
    try:
        return Image.open(path)
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError) as error:
        raise DataError(f"{path} is not an image that can be read; remove it or replace it") from error


def load_folder(spec: Spec) -> Splits:
    """Open `folder:PATH`: class folders under train, val (or valid, validation, selection) and test.

    `?channels=1` reads grey, `?workers=N` sets the decoding threads (default 4). A train folder that holds images
    directly, without class folders, is unlabelled.

    Raises:
        DataError: If folders or images are missing, or a split has a class that the others do not know.
    """
    spec.refuse_unknown(OPTIONS | {"channels", "workers"})
    root = spec.path
    if not root.is_dir():
        raise DataError(f"no folder {root} for {spec.text!r}; expected one with train/CLASS/IMAGE and test/CLASS/IMAGE")
    if spec.whole("channels", 3) not in (1, 3):
        raise SpecError(f"option channels of {spec.text!r} must be 1 or 3, not {spec.options['channels']!r}")
    found: dict[SplitName, Path] = {}
    names: tuple[tuple[SplitName, tuple[str, ...]], ...] = (
        ("train", ("train",)),
        ("selection", SELECTION_NAMES),
        ("test", ("test",)),
    )
    for name, candidates in names:
        for candidate in candidates:
            if (root / candidate).is_dir():
                found[name] = root / candidate
                break
    if "test" not in found:
        raise DataError(f"{root} has no folder test/; expected train/, test/ and, better, val/")
    classes = sorted(p.name for p in found["test"].iterdir() if p.is_dir() and not p.name.startswith("."))
    raw = {name: _raw_split(spec, root, folder, classes) for name, folder in found.items()}
    return assemble(spec, classes, raw, "crop" if spec.whole("channels", 3) == 3 else "warp")


def _raw_split(spec: Spec, root: Path, folder: Path, classes: list[str]) -> RawSplit:
    paths = sorted(
        p
        for p in folder.rglob("*")
        if p.suffix.lower() in SUFFIXES
        and p.is_file()
        and not any(x.startswith(".") for x in p.relative_to(root).parts)
    )
    code = {name: i for i, name in enumerate(classes)}
    names = [p.relative_to(folder).parts[0] if p.parent != folder else None for p in paths]
    labelled = any(name is not None for name in names)
    unknown = sorted({name for name in names if name is not None and name not in code})
    if unknown:
        raise DataError(f"class folder {folder / unknown[0]} has no counterpart in the test folder")
    if labelled and None in names:
        raise DataError(f"{folder} has images both in class folders and outside; move {paths[names.index(None)].name}")
    channels, workers = spec.whole("channels", 3), spec.whole("workers", 4)
    keys = [hashlib.blake2b(p.relative_to(root).as_posix().encode(), digest_size=8).digest() for p in paths]
    return RawSplit(
        inputs=FolderInputs(root, paths, channels, workers),
        labels=np.array([code[name] for name in names if name is not None], np.int64) if labelled else None,
        ids=np.frombuffer(b"".join(keys), np.int64) & np.int64(2**63 - 1),
    )
