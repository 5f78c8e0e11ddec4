"""Encoded pictures, wherever they lie: in files, in tars, in tables. What is made of them is the same."""

import os
import stat
from array import array
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int

from .look import shown

ABSENT = -1
"""The size of a picture that is not there."""


@runtime_checkable
class EncodedPictures(Protocol):
    """The content of picture files, read one at a time; several threads may read."""

    def __len__(self) -> int: ...

    def sizes(self) -> Int[np.ndarray, " N"]:
        """Bytes of each; `ABSENT` where there is none."""
        ...

    def read(self, row: int) -> bytes:
        """Read one whole.

        Raises:
            OSError: If it cannot be read.
        """
        ...

    def tail(self, row: int, count: int) -> bytes:
        """Read the end of one, as far as possible without the rest.

        Raises:
            OSError: If it cannot be read.
        """
        ...

    def name(self, row: int) -> str:
        """Name one in messages."""
        ...

    def take(self, rows: Int[np.ndarray, " n"]) -> "EncodedPictures":
        """Return some of them."""
        ...


@runtime_checkable
class Stamped(Protocol):
    """Pictures of which the file system tells, unread, whether they are as they were."""

    def stamps(self) -> Int[np.ndarray, "N 5"]:
        """Device, inode, bytes (`ABSENT` where there is none), and when content and state last changed, in ns."""
        ...

    @property
    def names(self) -> bytes:
        """All their names."""
        ...


class PictureFiles:
    """Picture files on a disk. Their paths are one text and where each begins in it: a million objects weigh more."""

    def __init__(self, paths: Iterable[str | bytes | Path]) -> None:
        self._text, self._ends = bytearray(), array("q", [0])
        for path in paths:
            self._text += os.fsencode(path)
            self._ends.append(len(self._text))

    def __len__(self) -> int:
        return len(self._ends) - 1

    @property
    def names(self) -> bytes:
        """All paths, and where each ends."""
        return bytes(self._text) + self._ends.tobytes()

    def path(self, row: int) -> Path:
        """Return the path of one file."""
        return Path(os.fsdecode(self._name(row)))

    def _name(self, row: int) -> bytes:
        return bytes(self._text[self._ends[row] : self._ends[row + 1]])

    def sizes(self) -> Int[np.ndarray, " N"]:
        """Bytes of each file; `ABSENT` where there is none."""
        return np.fromiter((size_of(self._name(row)) for row in range(len(self))), np.int64, len(self))

    def stamps(self) -> Int[np.ndarray, "N 5"]:
        """Say of each file, unread, what changes when it does; see `Stamped`."""
        stamps = np.empty((len(self), 5), np.int64)
        for row in range(len(self)):
            stamps[row] = _stamp_of(self._name(row))
        return stamps

    def read(self, row: int) -> bytes:
        """Read one file; what is none, as a device, is not opened."""
        path = self.path(row)
        if size_of(path) == ABSENT:
            raise FileNotFoundError("no such file")
        return path.read_bytes()

    def tail(self, row: int, count: int) -> bytes:
        """Read the end of one file."""
        with self.path(row).open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - count))
            return file.read(count)

    def name(self, row: int) -> str:
        """Return the path of one file, as messages name it."""
        return shown(self.path(row))

    def take(self, rows: Int[np.ndarray, " n"]) -> "PictureFiles":
        """Return some of the files."""
        return PictureFiles(self._name(row) for row in rows.tolist())


def name_of(path: str | Path, root: Path) -> bytes:
    """Return the bytes of a file's name below the root, else its whole name: names need not be UTF-8."""
    whole, above = os.fspath(path), f"{root}/"
    if os.sep == "/" and whole.startswith(above):  # without a Path for each of millions
        return os.fsencode(whole[len(above) :])
    path = Path(path)
    return os.fsencode((path.relative_to(root) if path.is_relative_to(root) else path).as_posix())


def size_of(path: Path | bytes) -> int:
    """Return the bytes of a file; `ABSENT` if there is none, or if it is no file."""
    return _stamp_of(path)[2]


def _stamp_of(path: Path | bytes) -> tuple[int, int, int, int, int]:
    try:
        found = os.stat(path)  # noqa: PTH116  a Path for each of millions takes longer than asking
    except (OSError, ValueError):  # ValueError: a path with a zero byte in it
        return (0, 0, ABSENT, 0, 0)
    size = found.st_size if stat.S_ISREG(found.st_mode) else ABSENT
    return (found.st_dev, found.st_ino, size, found.st_mtime_ns, found.st_ctime_ns)
