"""Logits on disk: computed once, read by every run that asks for the same.

A table is a folder of three files: `logits.npy` (memory-mapped), `done.npy` (one byte a row) and `manifest.json`.
Rows are marked done only after they are on disk. What a killed run has half written is therefore never read.
"""

import hashlib
import json
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from ..errors import StoreError, first_line
from ..files import default_folder as default_folder
from ..files import make_folder, write_json, writing

FORMAT = 1
MANIFEST, NEW = "manifest.json", ".new-"
"""The file that makes a folder a table, and how the folder of one that is being made begins."""


class LogitTable:
    """Rows of logits, some of them known."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open("r")

    def _open(self, mode: Literal["r", "r+"]) -> None:
        self._writable = mode == "r+"
        self._logits: np.ndarray = np.load(self._folder / "logits.npy", mmap_mode=mode)
        self._done: np.ndarray = np.load(self._folder / "done.npy", mmap_mode=mode)

    @property
    def done(self) -> Bool[np.ndarray, " N"]:
        """Which rows are known."""
        return np.asarray(self._done, bool)

    def missing(self) -> Int[np.ndarray, " n"]:
        """Return the rows that are not known yet."""
        return np.flatnonzero(self._done == 0)

    def write(self, rows: Int[np.ndarray, " n"], logits: Float[np.ndarray, "n C"]) -> None:
        """Keep logits; `flush` makes them known."""
        if not self._writable:  # the folder of a whole table may be read-only
            with writing(self._folder):
                self._open("r+")
        self._logits[rows] = logits

    def flush(self, rows: Int[np.ndarray, " n"]) -> None:
        """Bring what was written to disk, then mark these rows done."""
        with writing(self._folder):
            self._logits.flush()  # type: ignore[attr-defined]
            self._done[rows] = 1
            self._done.flush()  # type: ignore[attr-defined]

    def read(self, rows: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n C"]:
        """Copy known rows into memory.

        Raises:
            StoreError: If some of them are not known.
        """
        self._require_known(self._done[rows], rows)
        return np.asarray(self._logits[rows])

    def read_range(self, start: int, stop: int) -> Float[np.ndarray, "n C"]:
        """Copy known rows that stand next to each other, past the memory map: its pages would stay with the process.

        Raises:
            StoreError: If some of them are not known, or the file is shorter than it should be.
        """
        self._require_known(self._done[start:stop], np.arange(start, stop))
        classes, dtype = self._logits.shape[1], self._logits.dtype
        offset = getattr(self._logits, "offset") + start * classes * dtype.itemsize  # noqa: B009  np.memmap's own
        try:
            flat = np.fromfile(self._folder / "logits.npy", dtype, (stop - start) * classes, offset=offset)
        except OSError as error:
            raise StoreError(f"stored logits in {self._folder} cannot be read ({first_line(error)})") from error
        if len(flat) < (stop - start) * classes:
            raise StoreError(f"stored logits in {self._folder} were cut short; delete this folder")
        return flat.reshape(-1, classes)

    def _require_known(self, done: np.ndarray, rows: Int[np.ndarray, " n"]) -> None:
        """Raise StoreError if rows are read that were never written: what is there are zeros, not answers."""
        unknown = rows[done == 0]
        if len(unknown):
            raise StoreError(
                f"{len(unknown)} of {len(rows)} rows in {self._folder} are read before they are written (row "
                f"{unknown[0]} first): the answers went to another table, as they do when a model changes while it "
                "is asked; delete this folder, or use a model that answers without changing"
            )


class Store:
    """A folder of tables and of small facts, each under the hash of everything it depends on."""

    def __init__(self, folder: Path | str | None = None) -> None:
        self.folder = Path(folder) if folder is not None else default_folder()

    def table(self, key: dict[str, Any], rows: int, classes: int, dtype: str) -> LogitTable:
        """Open the table of a key, or make an empty one.

        Args:
            key: Everything the logits depend on, JSON-able.
            rows: Samples.
            classes: Logits a sample.
            dtype: `float32` or `float16`.

        Raises:
            WriteError: If the disk is full or the folder may not be written.
        """
        described, folder = self._described(key, rows, classes, dtype)
        if not self._is_whole(folder, rows, classes, dtype):
            self._create(folder, described, rows, classes, dtype)
        with suppress(OSError):  # a store that is only read keeps no account of its use
            os.utime(folder / MANIFEST)
        return LogitTable(folder)

    def count_known(self, key: dict[str, Any], rows: int, classes: int, dtype: str) -> int:
        """Return how many rows of a key's table are known; nothing is made where there is none."""
        _, folder = self._described(key, rows, classes, dtype)
        return int(LogitTable(folder).done.sum()) if self._is_whole(folder, rows, classes, dtype) else 0

    def remove(self, key: dict[str, Any], rows: int, classes: int, dtype: str) -> None:
        """Remove the table of a key, if there is one. Its manifest goes first: without it a table counts as missing."""
        _, folder = self._described(key, rows, classes, dtype)
        if folder.is_dir():
            with writing(folder):
                (folder / MANIFEST).unlink(missing_ok=True)
                shutil.rmtree(folder)

    def remember(self, key: dict[str, Any], fact: dict[str, Any]) -> None:
        """Keep a small fact under a key."""
        folder = make_folder(self._folder(key))
        write_json(folder / "fact.json", fact)

    def recall(self, key: dict[str, Any]) -> dict[str, Any] | None:
        """Return the fact kept under a key, if there is one."""
        path = self._folder(key) / "fact.json"
        if not path.is_file():
            return None
        try:
            fact: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            return None
        return fact

    def _described(self, key: dict[str, Any], rows: int, classes: int, dtype: str) -> tuple[dict[str, Any], Path]:
        described = {"format": FORMAT, "rows": rows, "classes": classes, "dtype": dtype, **key}
        return described, self._folder(described)

    def _folder(self, key: dict[str, Any]) -> Path:
        hashed = hashlib.blake2b(json.dumps(key, sort_keys=True).encode(), digest_size=16).hexdigest()
        return self.folder / hashed[:2] / hashed

    @staticmethod
    def _is_whole(folder: Path, rows: int, classes: int, dtype: str) -> bool:
        """Return whether a table is there and has the size it must have."""
        if not (folder / MANIFEST).is_file():
            return False
        try:
            logits = np.load(folder / "logits.npy", mmap_mode="r")
            done = np.load(folder / "done.npy", mmap_mode="r")
        except (OSError, ValueError, EOFError):
            return False
        return bool(logits.shape == (rows, classes) and logits.dtype == np.dtype(dtype) and done.shape == (rows,))

    def _create(self, folder: Path, described: dict[str, Any], rows: int, classes: int, dtype: str) -> None:
        make_folder(folder.parent)
        with writing(folder):
            temporary = Path(tempfile.mkdtemp(prefix=NEW, dir=folder.parent))
            try:
                for name, shape, kind in (("logits", (rows, classes), dtype), ("done", (rows,), "uint8")):
                    path = temporary / f"{name}.npy"
                    np.lib.format.open_memmap(path, "w+", np.dtype(kind), shape).flush()
                    _reserve(path)
                write_json(temporary / MANIFEST, described)
                try:
                    temporary.rename(folder)
                except OSError:  # the folder exists: another process was first, or the table is damaged
                    if not self._is_whole(folder, rows, classes, dtype):
                        shutil.rmtree(folder)
                        temporary.rename(folder)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
        if not self._is_whole(folder, rows, classes, dtype):
            raise StoreError(f"stored logits in {folder} are damaged and could not be replaced; delete this folder")


def _reserve(path: Path) -> None:
    """Claim the disk blocks now: a memory map that outgrows the disk would kill the process later."""
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
