"""Logits on disk: rows, some of them known; what is known never depends on where a process was killed.

A table is a folder of a manifest and of blocks (`blocks.py`). What is written waits in memory until a block is full,
so a killed process loses the block in flight and no more. Once all rows are known they are joined to one block, and
that is memory-mapped: any number of readers share the pages of the operating system, and hold two files open each.
"""

import os
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from ..errors import StoreError, WriteError
from ..files import hold_shared
from .blocks import ABANDONED, PART, Piece, cover, find_blocks, join_blocks, write_block
from .layout import Layout

MANIFEST = "manifest.json"
"""The file that makes a folder a table."""
BLOCK_BYTES, BLOCK_SECONDS = 8 << 20, 30.0
"""A block is written once it has so many bytes, or its first row has waited for so long."""
MAPPED_BYTES = 64 << 20
"""A whole table is read into memory up to this size, and mapped beyond."""

Room = Callable[[int], None]


def _any_room(needed: int) -> None:
    """Set no limit."""


class LogitTable:
    """Rows of logits, some of them known. As long as it is open, no process removes it to make room."""

    def __init__(self, folder: Path, rows: int, layout: Layout, room: Room = _any_room) -> None:
        """Open a table.

        Args:
            folder: Holds its manifest.
            rows: How many it has.
            layout: How a row is kept.
            room: Called with a number of bytes before so many are written.

        Raises:
            FileNotFoundError: If there is no such table.
        """
        self.layout = layout
        self._folder, self._rows, self._room = folder, rows, room
        weakref.finalize(self, os.close, hold_shared(folder / MANIFEST))
        self._pending: list[tuple[np.ndarray, np.ndarray]] = []
        self._waiting_bytes, self._waiting_since = 0, 0.0
        self._look()

    def __len__(self) -> int:
        return self._rows

    @property
    def done(self) -> Bool[np.ndarray, " N"]:
        """Which rows are known."""
        known = np.zeros(self._rows, bool)
        for piece in self._pieces:
            known[piece.start : piece.stop] = True
        return known

    @property
    def known(self) -> int:
        """How many rows are known."""
        return count_rows(self._pieces)

    @property
    def is_whole(self) -> bool:
        """Whether all rows are known."""
        return self.known == self._rows

    def missing(self) -> Int[np.ndarray, " n"]:
        """Return the rows that are not known yet."""
        return np.flatnonzero(~self.done)

    def write(self, rows: Int[np.ndarray, " n"], logits: Float[np.ndarray, "n C"]) -> None:
        """Keep logits: known once their block is full, has waited for long, or `flush` is called.

        Raises:
            WriteError: If the disk is full or the folder may not be written.
        """
        raw = self.layout.encode(logits)
        if not self._pending:
            self._waiting_since = time.monotonic()
        self._pending.append((np.array(rows), raw))
        self._waiting_bytes += raw.nbytes
        if self._waiting_bytes >= BLOCK_BYTES or time.monotonic() - self._waiting_since >= BLOCK_SECONDS:
            self._write_pending()

    def flush(self) -> None:
        """Make all that was written known; once the table is whole, make it one block.

        Raises:
            WriteError: If the disk is full or the folder may not be written.
        """
        self._write_pending()
        self._look()
        if self.is_whole and len(self._blocks) > 1:
            if len(self._pieces) > 1:
                self._join()
            self._remove_unread()

    def read(self, rows: Int[np.ndarray, " n"], temperature: float = 1.0) -> Float[np.ndarray, "n C"]:
        """Copy known rows into memory.

        Args:
            rows: In any order.
            temperature: That the logits will be divided by; see `Layout.decode`.

        Raises:
            StoreError: If some of them are not known.
        """
        if self._map is None:
            self._open_map()
        if self._map is not None:
            return self.layout.decode(_as_bytes(self._map[rows]), temperature)
        return self.layout.decode(self._from_blocks(rows, lambda: self._gather(rows)), temperature)

    def read_range(self, start: int, stop: int) -> Float[np.ndarray, "n C"]:
        """Copy known rows that stand next to each other, past the memory map: its pages would stay with the process.

        Raises:
            StoreError: If some of them are not known, or a file is shorter than it should be.
        """
        return self.layout.decode(self._from_blocks(np.arange(start, stop), lambda: self._read_range(start, stop)))

    def read_all(self) -> Float[np.ndarray, "N C"]:
        """Return all rows: a large table of one block is mapped, so that the system keeps what it can spare of it.

        What is written into the array stays in this process.

        Raises:
            StoreError: If some rows are not known, or a file is shorter than it should be.
        """
        whole = len(self._pieces) == 1 and self.is_whole
        if not whole or self.layout.top or self._rows * self.layout.row_bytes < MAPPED_BYTES:
            return self.read_range(0, self._rows)
        shape = self._rows, self.layout.classes
        return np.asarray(np.memmap(self._pieces[0].block.path, self.layout.dtype, "c", shape=shape))

    def _from_blocks(
        self, rows: Int[np.ndarray, " n"], read: Callable[[], UInt8[np.ndarray, "n B"]]
    ) -> UInt8[np.ndarray, "n B"]:
        """Read known rows from the blocks; if these are joined meanwhile, look where the rows are now."""
        for _ in range(2):
            self._require_known(rows)
            try:
                return read()
            except FileNotFoundError:
                self._look()
        raise StoreError(f"stored logits in {self._folder} cannot be read: another process removes them")

    def _gather(self, rows: Int[np.ndarray, " n"]) -> UInt8[np.ndarray, "n B"]:
        """Read rows at random from several blocks; none stays open."""
        raw = np.empty(len(rows), self._void)
        for piece in self._pieces:
            inside = np.flatnonzero((rows >= piece.start) & (rows < piece.stop))
            if len(inside):
                raw[inside] = piece.block.map(self._void)[rows[inside] - piece.block.start]
        return _as_bytes(raw)

    def _read_range(self, start: int, stop: int) -> UInt8[np.ndarray, "n B"]:
        parts = [(p.block, max(start, p.start), min(stop, p.stop)) for p in self._pieces]
        found = [block.read(low, high, self.layout.row_bytes) for block, low, high in parts if low < high]
        return found[0] if len(found) == 1 else np.concatenate([np.empty((0, self.layout.row_bytes), np.uint8), *found])

    @property
    def _void(self) -> np.dtype:
        """One row as bytes without a meaning: the quickest to copy at random."""
        return np.dtype((np.void, self.layout.row_bytes))

    def _look(self) -> None:
        """See which rows are known by now."""
        self._blocks, _ = find_blocks(self._folder, self.layout.row_bytes)
        self._pieces: list[Piece] = cover(self._blocks)
        self._map: np.ndarray | None = None

    def _open_map(self) -> None:
        """Map the block of a whole table."""
        if len(self._pieces) == 1 and self.is_whole:
            self._map = self._pieces[0].block.map(self._void)

    def _write_pending(self) -> None:
        """Write what waits as blocks: one for each run of rows that stand next to each other."""
        if not self._pending:
            return
        rows = np.concatenate([rows for rows, _ in self._pending])
        raw = np.concatenate([raw for _, raw in self._pending])
        if np.any(np.diff(rows) != 1):
            rows, order = np.unique(rows, return_index=True)
            raw = raw[order]
        ends = [0, *(np.flatnonzero(np.diff(rows) != 1) + 1).tolist(), len(rows)]
        for start, stop in pairwise(ends):
            self._room(raw[start:stop].nbytes)
            self._blocks.append(write_block(self._folder, int(rows[start]), raw[start:stop]))
        self._pending, self._waiting_bytes = [], 0
        self._pieces = cover(self._blocks)

    def _join(self) -> None:
        """Make all blocks one; where that fails, as on a full disk, they stay and are read as they are."""
        size = self._rows * self.layout.row_bytes
        self._room(size)
        with suppress(WriteError):
            join_blocks(self._folder, self._pieces, self.layout.row_bytes)
        self._room(-size)
        self._look()

    def _remove_unread(self) -> None:
        """Remove the blocks whose rows are read from another one, and what killed processes have left."""
        read = {piece.block for piece in self._pieces}
        for block in self._blocks:
            if block not in read:
                with suppress(OSError):  # a store that is only read keeps them
                    block.path.unlink()
        for part in self._folder.glob(f"*{PART}"):
            with suppress(OSError):
                if time.time() - part.stat().st_mtime > ABANDONED:
                    part.unlink()

    def _require_known(self, rows: Int[np.ndarray, " n"]) -> None:
        """Raise StoreError if rows are read that were never written."""
        unknown = rows[:0] if self.is_whole else rows[~self.done[rows]]
        if len(unknown):
            raise StoreError(
                f"{len(unknown)} of {len(rows)} rows in {self._folder} are read before they are written (row "
                f"{unknown[0]} first): the answers went to another table, as they do when a model changes while it "
                "is asked; delete this folder, or use a model that answers without changing"
            )


def _as_bytes(rows: np.ndarray) -> UInt8[np.ndarray, "n B"]:
    return rows.view(np.uint8).reshape(len(rows), rows.itemsize)


def count_rows(pieces: list[Piece]) -> int:
    """Return how many rows some pieces hold."""
    return sum(piece.stop - piece.start for piece in pieces)
