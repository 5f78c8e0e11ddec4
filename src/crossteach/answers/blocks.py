"""Blocks: files of rows that stand next to each other, each written whole, then given its name.

A name says which rows a block holds and what its bytes add up to: `000000000000-000000004096-1c291ca3.rows`. The rows
themselves are all that is in it. A block that is not whole has no such name, so what a name promises is there.
"""

import os
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from ..errors import StoreError, first_line
from ..files import write_bytes, writing

NAME = re.compile(r"(\d{12})-(\d{12})-([0-9a-f]{8})\.rows")
PART = ".part"
"""How the names of files end that are being written."""
ABANDONED = 24 * 3600.0
"""Seconds after which what was never finished is nobody's: writing it takes moments."""
COPIED = 4 << 20
"""Bytes that are copied at once."""


@dataclass(frozen=True)
class Block:
    """A file of rows."""

    folder: Path
    start: int
    stop: int
    """The row after its last one."""
    check: str
    """CRC-32 of its bytes."""

    @property
    def path(self) -> Path:
        """Where it lies."""
        return self.folder / f"{self.start:012}-{self.stop:012}-{self.check}.rows"

    def read(self, start: int, stop: int, row_bytes: int) -> UInt8[np.ndarray, "n B"]:
        """Read some of its rows from the file, past any memory map.

        Raises:
            FileNotFoundError: If another process has joined it with others meanwhile.
            StoreError: If the file cannot be read or is shorter than it should be.
        """
        wanted = (stop - start) * row_bytes
        try:
            raw = np.fromfile(self.path, np.uint8, wanted, offset=(start - self.start) * row_bytes)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise StoreError(f"stored logits in {self.path} cannot be read ({first_line(error)})") from error
        if len(raw) < wanted:
            raise StoreError(f"stored logits in {self.path} were cut short; delete this file")
        return raw.reshape(-1, row_bytes)

    def map(self, kind: np.dtype) -> np.ndarray:
        """Map the file into memory, one element a row.

        Raises:
            FileNotFoundError: If another process has joined it with others meanwhile.
        """
        return np.asarray(np.memmap(self.path, kind, "r", shape=(self.stop - self.start,)))

    def bytes_in_order(self, start: int, stop: int, row_bytes: int) -> Iterator[bytes]:
        """Yield the bytes of some of its rows, a few megabytes at a time; fewer come if the file was cut."""
        left = (stop - start) * row_bytes
        with self.path.open("rb") as file:
            file.seek((start - self.start) * row_bytes)
            while left and (part := file.read(min(COPIED, left))):
                left -= len(part)
                yield part


@dataclass(frozen=True)
class Piece:
    """Rows that are known, and the block to read them from."""

    start: int
    stop: int
    block: Block


def find_blocks(folder: Path, row_bytes: int) -> tuple[list[Block], list[str]]:
    """Return the blocks of a folder, if it is there, and the names of those whose size is not what their name says."""
    found: list[Block] = []
    damaged: list[str] = []
    try:
        listed = os.scandir(folder)
    except FileNotFoundError:
        return found, damaged
    with listed as files:
        for file in files:
            if named := NAME.fullmatch(file.name):
                block = Block(folder, int(named[1]), int(named[2]), named[3])
                with suppress(FileNotFoundError):  # another process has joined it with others meanwhile
                    whole = file.stat().st_size == (block.stop - block.start) * row_bytes
                    found.append(block) if whole else damaged.append(file.name)
    return found, damaged


def cover(blocks: Sequence[Block]) -> list[Piece]:
    """Say which block each known row is read from; two processes may have written the same rows.

    Example:
        >>> a, b = (Block(Path(), start, stop, "") for start, stop in ((0, 5), (3, 9)))
        >>> [(piece.start, piece.stop) for piece in cover([a, b])]
        [(0, 5), (5, 9)]
    """
    pieces, reached = [], 0
    for block in sorted(blocks, key=lambda block: (block.start, -block.stop, block.check)):
        if block.stop > reached:
            pieces.append(Piece(max(block.start, reached), block.stop, block))
            reached = block.stop
    return pieces


def write_block(folder: Path, start: int, raw: UInt8[np.ndarray, "n B"]) -> Block:
    """Write rows whole or not at all.

    Raises:
        WriteError: If the disk is full, or the folder may not be written or is gone.
    """
    content = np.ascontiguousarray(raw).data.cast("B")
    block = Block(folder, start, start + len(raw), f"{zlib.crc32(content):08x}")
    write_bytes(block.path, content)
    return block


def join_blocks(folder: Path, pieces: Sequence[Piece], row_bytes: int) -> None:
    """Write pieces that stand next to each other as one block; their own blocks stay.

    Nothing is written where one of them was cut.

    Raises:
        WriteError: If the disk is full, or another process has joined them meanwhile.
    """
    part, check, size = folder / f".joined.{os.getpid()}{PART}", 0, 0
    try:
        with writing(folder), part.open("wb") as joined:
            for piece in pieces:
                for some in piece.block.bytes_in_order(piece.start, piece.stop, row_bytes):
                    check, size = zlib.crc32(some, check), size + len(some)
                    joined.write(some)
            joined.flush()
            os.fsync(joined.fileno())
        block = Block(folder, pieces[0].start, pieces[-1].stop, f"{check:08x}")
        if size == (block.stop - block.start) * row_bytes:
            with writing(folder):
                part.replace(block.path)
    finally:
        with suppress(OSError):
            part.unlink()


def check_block(block: Block, row_bytes: int) -> bool:
    """Tell whether a block still holds the bytes that were written."""
    check = 0
    for some in block.bytes_in_order(block.start, block.stop, row_bytes):
        check = zlib.crc32(some, check)
    return f"{check:08x}" == block.check
