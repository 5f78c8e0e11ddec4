"""What a store holds: listed, looked through for damage, and cut down to a size, what was used longest ago first."""

import json
import os
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConfigError, first_line
from ..files import writing
from ..types import Progress, no_progress
from .store import FORMAT, MANIFEST, NEW, Store

ABANDONED = 24 * 3600.0
"""Seconds after which a table that was never finished is nobody's: making one takes moments."""
ROWS = 1 << 14
"""Rows of a table that are read at once."""


@dataclass(frozen=True)
class Entry:
    """A table of answers, a small fact, or what a killed process has left."""

    folder: str
    kind: str
    """As its key says: predictions, views, probe, …; `unfinished` and `damaged` are no answers."""
    model: str
    """Fingerprint of the model that answered; empty where a fact has several."""
    rows: int
    known: int
    classes: int
    dtype: str
    bytes: int
    used: float
    """When it was last opened, in seconds since 1970."""
    problem: str = ""
    """Why it cannot be read; empty where it can."""


def list_entries(store: Store) -> list[Entry]:
    """Return all that a store holds, what was used last first; nothing is changed.

    An entry costs the reading of its manifest, not of its answers.
    """
    found = []
    for folder in sorted(store.folder.glob("[0-9a-f][0-9a-f]/*")):
        with suppress(FileNotFoundError):  # another process may remove it at this moment
            if folder.is_dir():
                found.append(_describe(folder))
    return sorted(found, key=lambda entry: (-entry.used, entry.folder))


def _describe(folder: Path) -> Entry:
    files = [path for path in folder.iterdir() if path.is_file()]
    size, used = sum(_on_disk(path) for path in files), max((p.stat().st_mtime for p in files), default=0.0)
    bare = Entry(str(folder), "fact", "", 0, 0, 0, "", size, used)
    if folder.name.startswith(NEW):
        return replace(bare, kind="unfinished")
    if (folder / "fact.json").is_file() and not (folder / MANIFEST).is_file():
        return bare
    try:
        said = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        done = np.load(folder / "done.npy", mmap_mode="r")
        logits = np.load(folder / "logits.npy", mmap_mode="r")
        wanted = (int(said["rows"]), int(said["classes"]))
        if said["format"] != FORMAT:
            raise ValueError(f"it is of format {said['format']}, this version reads {FORMAT}")
        if logits.shape != wanted or done.shape != wanted[:1] or str(logits.dtype) != said["dtype"]:
            raise ValueError(f"its files hold {list(logits.shape)} {logits.dtype}, its manifest {list(wanted)}")
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        return replace(bare, kind="damaged", problem=first_line(error))
    return replace(
        bare,
        kind=str(said.get("kind", "")),
        model=str(said.get("model", "")),
        rows=wanted[0],
        known=int(np.count_nonzero(done)),
        classes=wanted[1],
        dtype=str(said["dtype"]),
    )


def _on_disk(path: Path) -> int:
    """Return the bytes that a file takes: what is reserved and not written counts, holes do not."""
    stat = path.stat()
    return stat.st_blocks * 512 if hasattr(stat, "st_blocks") else stat.st_size


def verify_store(store: Store, progress: Progress = no_progress) -> list[Entry]:
    """Read every known answer, and return the entries that cannot be read or hold what is no number.

    Args:
        store: It is only read.
        progress: Told how many entries are read.
    """
    entries, wrong = list_entries(store), []
    for number, entry in enumerate(entries, 1):
        problem = entry.problem or (_unreadable(entry) if entry.rows else "")
        if problem:
            wrong.append(replace(entry, kind="damaged", problem=problem))
        progress("entries read", number, len(entries))
    return wrong


def _unreadable(entry: Entry) -> str:
    """Say what is wrong with the answers of a table; empty where nothing is."""
    folder = Path(entry.folder)
    try:
        done = np.load(folder / "done.npy", mmap_mode="r")
        logits = np.load(folder / "logits.npy", mmap_mode="r")
        for start in range(0, entry.rows, ROWS):
            part = logits[start : start + ROWS][np.asarray(done[start : start + ROWS], bool)]
            if bad := int((~np.isfinite(part)).any(1).sum()):
                return f"{bad} of the rows from {start} hold NaN or infinity"
    except (OSError, ValueError, EOFError) as error:
        return first_line(error)
    return ""


def prune_store(
    store: Store, most_bytes: int | None = None, most_days: float | None = None, dry_run: bool = False
) -> list[Entry]:
    """Remove what was used longest ago, until the rest fits; damaged and abandoned entries go first.

    An answer that is removed is computed again when it is next asked for: nothing else depends on it.

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
    gone = [e for e in entries if e.kind == "damaged" or (e.kind == "unfinished" and now - e.used > ABANDONED)]
    kept = [e for e in entries if e not in gone and e.kind != "unfinished"]
    if most_days is not None:
        old = [e for e in kept if now - e.used > most_days * 86400]
        gone, kept = [*gone, *old], [e for e in kept if e not in old]
    total = sum(e.bytes for e in kept)
    while most_bytes is not None and kept and total > most_bytes:
        entry = kept.pop()
        total -= entry.bytes
        gone.append(entry)
    for entry in () if dry_run else gone:
        _remove(Path(entry.folder))
    return gone


def _remove(folder: Path) -> None:
    """Remove an entry; its manifest goes first: without it a table counts as missing."""
    with writing(folder):
        for name in (MANIFEST, "fact.json"):
            (folder / name).unlink(missing_ok=True)
        shutil.rmtree(folder)
    with suppress(OSError):  # others may be in it
        os.rmdir(folder.parent)  # noqa: PTH106  only where it is empty


def read_size(text: str) -> int:
    """Read a number of bytes, as people write it.

    Example:
        >>> read_size("1.5GB"), read_size("300 MiB"), read_size("0")
        (1500000000, 314572800, 0)

    Raises:
        ConfigError: If it is none.
    """
    units = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
    units |= {"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}
    number = text.strip().lower().rstrip("abcdefghijklmnopqrstuvwxyz ")
    unit = text.strip().lower()[len(number) :].strip()
    try:
        value = float(number) * units[unit]
        if not 0 <= value < 2**63:
            raise ValueError(value)
    except (KeyError, ValueError):
        raise ConfigError(f"a size must be a number of bytes as 500MB or 20GiB, not {text!r}") from None
    return int(value)


def summary_of(entries: Sequence[Entry]) -> dict[str, Any]:
    """Count entries and bytes, in all and by kind."""
    kinds: dict[str, dict[str, int]] = {}
    for entry in entries:
        counted = kinds.setdefault(entry.kind, {"entries": 0, "bytes": 0})
        counted["entries"] += 1
        counted["bytes"] += entry.bytes
    return {"entries": len(entries), "bytes": sum(e.bytes for e in entries), "kinds": kinds}
