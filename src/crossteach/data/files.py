"""Encoded pictures, decoded when they are read."""

import hashlib
import os
import threading
import time
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..errors import DataError
from ..types import Size
from .encoded import ABSENT, EncodedPictures, Stamped
from .facts import pack, recall, remember, unpack
from .look import DECODING_ERRORS, Look, PictureRules, decode, decoders, digest_of, look_at
from .picture_inputs import Draw, PictureInputs, stack

WHOLE_FILES, WHOLE_BYTES = 100_000, 2 << 30
"""Up to so many files and bytes a split is read whole when it is opened."""
SAMPLE = 4096
"""Of a larger split, so many files are read whole when it is opened."""
AT_ONCE = 64
"""Files that a thread looks at in one go."""
TAIL = 4096
"""Bytes at the end of every other file that are read then."""
SETTLED = 10_000_000_000
"""Nanoseconds that a file has been left alone before it is known by its times."""
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


def survey_files(pictures: EncodedPictures, rules: PictureRules, workers: int = 4, thorough: bool = False) -> Survey:
    """Read of each picture what its identity needs, and look whether it is whole.

    Up to `WHOLE_FILES` pictures and `WHOLE_BYTES` bytes all are read whole. Of more, a seeded sample of `SAMPLE` is
    read whole, and of every picture its size and its last `TAIL` bytes: the end of a compressed picture changes with
    its content, the end of an uncompressed one need not.

    What was read of files is kept (`facts.keeping`) and taken from there while name, inode, size, and the times of the
    last change of content and state of every file are the same. A file that changed within `SETTLED` is always read:
    it may change again within one tick of the file system's clock.

    Args:
        pictures: Where they are read.
        rules: How their pixels are meant.
        workers: Threads that read.
        thorough: Whether every picture is read whole and decoded.
    """
    if thorough or os.name != "posix" or not isinstance(pictures, Stamped):  # elsewhere no time tells of every change
        return _read_files(pictures, rules, workers, thorough)
    begun, stamps = time.time_ns(), pictures.stamps()
    if stamps[:, 3:].max(initial=0) > begun - SETTLED:  # it may change again and keep its time
        return _read_files(pictures, rules, workers)
    hashed = hashlib.blake2b(pictures.names, digest_size=16)
    hashed.update(stamps.tobytes())
    key = {
        "kind": "survey",
        "files": hashed.hexdigest(),
        "rules": str(rules),
        "decoders": decoders(),
        "limits": [WHOLE_FILES, WHOLE_BYTES, SAMPLE, TAIL],
    }
    if (known := recall(key)) is not None:
        return _from_fact(known)
    survey = _read_files(pictures, rules, workers)
    if survey.keys.all():  # a file that could not be read may be read the next time
        remember(key, _to_fact(survey))
    return survey


def _read_files(pictures: EncodedPictures, rules: PictureRules, workers: int, thorough: bool = False) -> Survey:
    sizes = pictures.sizes()
    count, total = len(sizes), int(sizes[sizes != ABSENT].sum())
    whole = thorough or (count <= WHOLE_FILES and total <= WHOLE_BYTES) or count <= SAMPLE
    chosen = np.arange(count)
    if not whole:
        drawn = np.random.default_rng(0).choice(count, SAMPLE, replace=False)
        chosen = np.union1d(drawn, np.flatnonzero(sizes == ABSENT))
    with ThreadPoolExecutor(max(1, workers), thread_name_prefix="look") as pool:
        parts = np.array_split(chosen, max(1, len(chosen) // AT_ONCE))
        found = pool.map(lambda rows: [_look(pictures, row, rules, thorough) for row in rows.tolist()], parts)
        looks = dict(zip(chosen.tolist(), chain.from_iterable(found), strict=True))
        if whole:
            return Survey(looks, np.fromiter((look.digest for look in looks.values()), np.int64, count), True, total)
        parts = np.array_split(np.arange(count), max(1, count // SAMPLE))
        ends = list(pool.map(lambda rows: _tail_digests(pictures, rows, sizes), parts))
    return Survey(looks, np.concatenate(ends), False, total)


def _to_fact(survey: Survey) -> dict[str, Any]:
    looks = survey.looks.values()
    brightest = [np.nan if look.brightest is None else look.brightest for look in looks]
    return {
        "rows": pack(np.fromiter(survey.looks, np.int64)),
        "digests": pack(np.array([look.digest for look in looks], np.int64)),
        "aspects": pack(np.array([look.aspect for look in looks], np.float64)),
        "turned": pack(np.array([look.turned for look in looks], bool)),
        "transparent": pack(np.array([look.transparent for look in looks], bool)),
        "brightest": pack(np.array(brightest, np.float64)),
        "broken": {str(row): problem for row, problem in survey.broken.items()},
        "keys": pack(survey.keys),
        "whole": survey.whole,
        "bytes": survey.bytes,
    }


def _from_fact(fact: dict[str, Any]) -> Survey:
    kinds = {"rows": np.int64, "digests": np.int64, "aspects": np.float64, "turned": np.bool_, "transparent": np.bool_}
    columns = [unpack(fact[name], kind).tolist() for name, kind in kinds.items()]
    brightest = [None if np.isnan(value) else value for value in unpack(fact["brightest"], np.float64).tolist()]
    looks = {
        row: Look(digest, aspect, turned, transparent, bright, fact["broken"].get(str(row), ""))
        for row, digest, aspect, turned, transparent, bright in zip(*columns, brightest, strict=True)
    }
    return Survey(looks, unpack(fact["keys"], np.int64), bool(fact["whole"]), int(fact["bytes"]))


def _look(pictures: EncodedPictures, row: int, rules: PictureRules, thorough: bool = False) -> Look:
    try:
        content = pictures.read(row)
    except (OSError, ValueError) as error:
        return Look(0, problem=getattr(error, "strerror", None) or str(error) or type(error).__name__)
    return look_at(content, pictures.name(row), rules, thorough)


def _tail_digests(
    pictures: EncodedPictures, rows: Int[np.ndarray, " n"], sizes: Int[np.ndarray, " N"]
) -> Int[np.ndarray, " n"]:
    digests = np.zeros(len(rows), np.int64)
    for i, row in enumerate(rows.tolist()):
        with suppress(OSError, ValueError):  # it turns out to be broken when it is used
            digests[i] = digest_of(int(sizes[row]).to_bytes(8, "little", signed=True) + pictures.tail(row, TAIL))
    return digests


class FileInputs(PictureInputs):
    """The encoded pictures of a split, decoded by threads (Pillow decodes outside Python's lock)."""

    no_size = "image files come in many sizes and the model names none; add ?size=PIXELS to its spec"

    def __init__(
        self,
        pictures: EncodedPictures,
        rules: PictureRules,
        workers: int = 4,
        survey: Survey | None = None,
        max_broken: float = 0.01,
    ) -> None:
        """Take pictures that have been surveyed.

        Args:
            pictures: Where they are read.
            rules: How their pixels are meant.
            workers: Threads that decode.
            survey: What is known of them; None makes a survey.
            max_broken: The share that may turn out to be broken when they are used, before that is an error.
        """
        survey = survey or survey_files(pictures, rules, workers)
        self.channels = rules.channels
        self.keys = survey.keys
        self.broken: dict[int, str] = {}
        """Pictures that turned out to be broken when they were used."""
        self._pictures, self._rules, self._workers, self._max_broken = pictures, rules, workers, max_broken
        self._aspect = np.full(len(pictures), np.nan, np.float32)
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
        return len(self._pictures)

    def digests(self, rows: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
        """Hash the whole content of some files: equal files have equal digests."""
        return np.array([digest_of(self._pictures.read(row)) for row in rows.tolist()], np.int64)

    def names(self, rows: Int[np.ndarray, " n"]) -> list[str]:
        """Return the paths of some pictures, as messages name them."""
        return [self._pictures.name(row) for row in rows.tolist()]

    def aspect(self, rows: Int[np.ndarray, " n"]) -> Float[Tensor, " n"]:
        """Width over height of each image, turned upright."""
        for row in rows[np.isnan(self._aspect[rows])].tolist():
            self._aspect[row] = _look(self._pictures, row, self._rules).aspect
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
            picture = draw(decode(self._pictures.read(row), self._pictures.name(row), self._rules))
        except DECODING_ERRORS as error:
            self._stand_in(row, error)
            return np.full((*size, self.channels), GREY, np.uint8)
        return np.asarray(picture).reshape(*size, self.channels)

    def _stand_in(self, row: int, error: BaseException) -> None:
        """Count a picture that is broken although it did not look so.

        Raises:
            DataError: If there are more than may be.
        """
        path = self._pictures.name(row)
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
