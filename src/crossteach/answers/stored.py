"""What a store holds: listed, looked through for damage, and cut down to a size, what was used longest ago first."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConfigError, CrossteachError, first_line
from ..files import read_size as read_size
from ..types import Progress, no_progress
from .blocks import ABANDONED, check_block, cover, find_blocks
from .entries import DAMAGED, OTHER_VERSION, UNFINISHED, Entry, find_entries, remove_entry, remove_unused
from .layout import Layout
from .store import Store

ROWS = 1 << 14
"""Rows of a table that are read at once."""


def list_entries(store: Store) -> list[Entry]:
    """Return all that a store holds, what was used last first; nothing is changed.

    An entry costs the reading of its manifest, not of its answers.
    """
    return find_entries(store.folder)


def verify_store(store: Store, progress: Progress = no_progress) -> list[Entry]:
    """Read every known answer; return the entries that cannot be read, or hold other bytes than were written, or NaN.

    Args:
        store: It is only read.
        progress: Told how many entries are read.
    """
    entries, wrong = list_entries(store), []
    for number, entry in enumerate(entries, 1):
        problem = entry.problem if entry.kind == DAMAGED else _unreadable(entry) if entry.rows else ""
        if problem:
            wrong.append(replace(entry, kind=DAMAGED, problem=problem))
        progress("entries read", number, len(entries))
    return wrong


def _unreadable(entry: Entry) -> str:
    """Say what is wrong with the answers of a table; empty where nothing is."""
    layout = Layout(entry.dtype, entry.classes)
    try:
        blocks, _ = find_blocks(Path(entry.folder), layout.row_bytes)
        for block in blocks:
            if not check_block(block, layout.row_bytes):
                return f"{block.path.name} holds other bytes than were written"
        for piece in cover(blocks):
            for start in range(piece.start, piece.stop, ROWS):
                stop = min(start + ROWS, piece.stop)
                part = layout.decode(piece.block.read(start, stop, layout.row_bytes))
                if bad := int((~np.isfinite(part)).any(1).sum()):
                    return f"{bad} of the rows from {start} hold NaN or infinity"
    except FileNotFoundError:  # another process has joined its blocks, or removed it
        return ""
    except (OSError, ValueError, CrossteachError) as error:
        return first_line(error)
    return ""


def prune_store(
    store: Store, most_bytes: int | None = None, most_days: float | None = None, dry_run: bool = False
) -> list[Entry]:
    """Remove what was used longest ago, until the rest fits; what is no answer goes first.

    That is what is damaged, of another version, or abandoned. A table that a process has open stays. An answer that is
    removed is computed again when it is next asked for: nothing else depends on it.

    Args:
        store: What is left of it opens as before, also if this is interrupted.
        most_bytes: What it may take; None sets no limit.
        most_days: Since an entry was last used; None sets no limit.
        dry_run: Remove nothing.

    Returns:
        The entries that are removed, or would be.

    Raises:
        ConfigError: If a limit is below 0.
        WriteError: If an entry cannot be removed.
    """
    for what, value in (("the size", most_bytes), ("the age", most_days)):
        if value is not None and value < 0:
            raise ConfigError(f"{what} that a store is cut down to must be at least 0, not {value}")
    now, entries = time.time(), list_entries(store)
    nobodys = [e for e in entries if e.kind == UNFINISHED and now - e.used > ABANDONED]
    gone = [e for e in entries if e.kind in (DAMAGED, OTHER_VERSION)]
    kept = [e for e in entries if e.kind not in (DAMAGED, OTHER_VERSION, UNFINISHED)]
    if most_days is not None:
        old = [e for e in kept if now - e.used > most_days * 86400]
        gone, kept = [*gone, *old], [e for e in kept if e not in old]
    total = sum(e.bytes for e in kept)
    while most_bytes is not None and kept and total > most_bytes:
        entry = kept.pop()
        total -= entry.bytes
        gone.append(entry)
    if dry_run:
        return [*nobodys, *gone]
    for entry in nobodys:
        remove_entry(Path(entry.folder))
    return [*nobodys, *remove_unused(gone)]


def summary_of(entries: Sequence[Entry]) -> dict[str, Any]:
    """Count entries and bytes, in all and by kind."""
    kinds: dict[str, dict[str, int]] = {}
    for entry in entries:
        counted = kinds.setdefault(entry.kind, {"entries": 0, "bytes": 0})
        counted["entries"] += 1
        counted["bytes"] += entry.bytes
    return {"entries": len(entries), "bytes": sum(e.bytes for e in entries), "kinds": kinds}
