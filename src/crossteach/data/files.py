"""Image files, decoded when they are read."""

import hashlib
import threading
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..errors import DataError
from ..types import Size
from .look import DECODING_ERRORS, Look, PictureRules, decode, decoders, digest_of, look_at, shown
from .picture_inputs import Draw, PictureInputs, stack

WHOLE_FILES, WHOLE_BYTES = 100_000, 2 << 30
"""Up to so many files and bytes a split is read whole when it is opened."""
SAMPLE = 4096
"""Of a larger split, so many files are read whole when it is opened."""
TAIL = 4096
"""Bytes at the end of every other file that are read then."""
GREY = 128
"""What is shown in the place of a picture that turns out to be broken when it is used."""


class BrokenPictureWarning(UserWarning):
    """A picture could not be decoded when it was used; a grey one is shown in its place."""


@dataclass(frozen=True)
class Survey:
    """What opening a split has read of its files."""

    looks: dict[int, Look]
    """Of the files that were read whole, by row."""
    keys: Int[np.ndarray, " n"]
    """For each file the digest of its content or, where not all are read whole, of its size and its end."""
    whole: bool
    """Whether all files are read whole."""
    bytes: int

    @property
    def broken(self) -> dict[int, str]:
        """Why files cannot be decoded, by row."""
        return {row: look.problem for row, look in self.looks.items() if look.problem}

    def take(self, rows: Int[np.ndarray, " m"]) -> "Survey":
        """Return what is known of some of the files."""
        looks = {new: self.looks[row] for new, row in enumerate(rows.tolist()) if row in self.looks}
        return Survey(looks, self.keys[rows], self.whole, self.bytes)


def survey_files(paths: Sequence[Path], rules: PictureRules, workers: int = 4, thorough: bool = False) -> Survey:
    """Read of each file what its identity needs, and look whether it is a whole picture.

    Up to `WHOLE_FILES` files and `WHOLE_BYTES` bytes all are read whole. Of more, a seeded sample of `SAMPLE` is read
    whole, and of every file its size and its last `TAIL` bytes: the end of a compressed picture changes with its
    content, the end of an uncompressed one need not.

    Args:
        paths: The files.
        rules: How their pixels are meant.
        workers: Threads that read.
        thorough: Whether every file is read whole and decoded.
    """
    sizes = [path.stat().st_size for path in paths]
    whole = thorough or (len(paths) <= WHOLE_FILES and sum(sizes) <= WHOLE_BYTES) or len(paths) <= SAMPLE
    chosen = np.arange(len(paths))
    if not whole:
        chosen = np.sort(np.random.default_rng(0).choice(len(paths), SAMPLE, replace=False))
    with ThreadPoolExecutor(max(1, workers), thread_name_prefix="look") as pool:
        found = pool.map(lambda row: look_at(paths[row], rules, thorough), chosen.tolist())
        looks = dict(zip(chosen.tolist(), found, strict=True))
        keys = [look.digest for look in looks.values()] if whole else list(pool.map(_tail_digest, paths, sizes))
    return Survey(looks, np.array(keys, np.int64), whole, sum(sizes))


def _tail_digest(path: Path, size: int) -> int:
    try:
        with path.open("rb") as file:
            file.seek(max(0, size - TAIL))
            return digest_of(size.to_bytes(8, "little") + file.read(TAIL))
    except OSError:
        return 0  # it turns out to be broken when it is used


class FileInputs(PictureInputs):
    """The image files of a split, decoded by threads (Pillow decodes outside Python's lock)."""

    no_size = "image files come in many sizes and the model names none; add ?size=PIXELS to its spec"

    def __init__(
        self,
        paths: Sequence[Path],
        rules: PictureRules,
        workers: int = 4,
        survey: Survey | None = None,
        max_broken: float = 0.01,
    ) -> None:
        """Take files that have been surveyed.

        Args:
            paths: The files.
            rules: How their pixels are meant.
            workers: Threads that decode.
            survey: What is known of them; None makes a survey.
            max_broken: The share that may turn out to be broken when they are used, before that is an error.
        """
        survey = survey or survey_files(paths, rules, workers)
        self.channels = rules.channels
        self.keys = survey.keys
        self.broken: dict[int, str] = {}
        """Pictures that turned out to be broken when they were used."""
        self._paths, self._rules, self._workers, self._max_broken = list(paths), rules, workers, max_broken
        self._aspect = np.full(len(self._paths), np.nan, np.float32)
        """Width over height; NaN where it is not known yet."""
        for row, look in survey.looks.items():
            self._aspect[row] = np.nan if look.problem else look.aspect
        self._pool: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        hashed = hashlib.blake2b(f"{decoders()} {rules}".encode(), digest_size=16)
        hashed.update(survey.keys.tobytes())
        for row in sorted(survey.looks):
            hashed.update(survey.looks[row].digest.to_bytes(8, "little", signed=True))
        self.fingerprint = hashed.hexdigest()

    def __len__(self) -> int:
        return len(self._paths)

    def digests(self, rows: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
        """Hash the whole content of some files: equal files have equal digests."""
        return np.array([digest_of(self._paths[row].read_bytes()) for row in rows.tolist()], np.int64)

    def aspect(self, rows: Int[np.ndarray, " n"]) -> Float[Tensor, " n"]:
        """Width over height of each image, turned upright."""
        for row in rows[np.isnan(self._aspect[rows])].tolist():
            self._aspect[row] = look_at(self._paths[row], self._rules).aspect
        return torch.from_numpy(self._aspect[rows])

    def _each(self, rows: Int[np.ndarray, " n"], size: Size, draws: Sequence[Draw]) -> Float[Tensor, "n c h w"]:
        if self._workers > 0:
            with self._lock:
                self._pool = self._pool or ThreadPoolExecutor(self._workers, thread_name_prefix="decode")
            drawn = list(self._pool.map(self._draw, rows.tolist(), [size] * len(rows), draws))
        else:
            drawn = [self._draw(row, size, draw) for row, draw in zip(rows.tolist(), draws, strict=True)]
        return stack(drawn)

    def _draw(self, row: int, size: Size, draw: Draw) -> np.ndarray:
        try:
            picture = draw(decode(self._paths[row], self._rules))
        except DECODING_ERRORS as error:
            self._stand_in(row, error)
            return np.full((*size, self.channels), GREY, np.uint8)
        return np.asarray(picture).reshape(*size, self.channels)

    def _stand_in(self, row: int, error: BaseException) -> None:
        """Count a picture that is broken although it did not look so.

        Raises:
            DataError: If there are more than may be.
        """
        path = shown(self._paths[row])
        with self._lock:
            new = row not in self.broken
            self.broken[row] = path
            n = len(self.broken)
        if n > self._max_broken * len(self):
            raise DataError(
                f"{path} cannot be decoded ({error}), {n} of {len(self)} so far; remove or replace such files, or open "
                "the data with ?check=all, which finds and skips them at once"
            ) from error
        if new:
            warnings.warn(
                f"{path} cannot be decoded ({error}): a grey picture is shown instead; ?check=all skips such files",
                BrokenPictureWarning,
                stacklevel=2,
            )
