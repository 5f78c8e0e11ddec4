"""Logits on disk: computed once, read by every run that asks for the same."""

import hashlib
import json
import os
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from ..errors import StoreError, WriteError
from ..files import default_folder as default_folder
from ..files import lacking_room, make_folder, read_size, write_json, write_size, writing
from .blocks import cover, find_blocks
from .entries import FACT, FORMAT, OTHER_VERSION, UNFINISHED, Entry, find_entries, remove_entry, remove_unused
from .layout import Layout
from .logit_table import MANIFEST, LogitTable, count_rows

AFTER_EVICTION = 0.9
"""Part of its budget that a store has left when room is made, so that room is not made for every block."""
SURVEYED = 300.0
"""Seconds after which the size of a store is looked up anew: other processes write too."""


class Store:
    """A folder of tables and of small facts, each under the hash of everything it depends on."""

    def __init__(self, folder: Path | str | None = None, budget: int | str | None = None) -> None:
        """Open a store.

        Args:
            folder: Made when something is first kept; None is `$CROSSTEACH_STORE`, or the system's folder for caches.
            budget: What it may take on disk, in bytes or as `500GB`; None is `$CROSSTEACH_STORE_BUDGET`, and where that
                is not set there is no limit. Before a write would pass it, the tables that were used longest ago are
                removed, except those that a process has open; `notes` says so.

        Raises:
            ConfigError: If the budget is no size.
        """
        self.folder = Path(folder) if folder is not None else default_folder()
        given = os.environ.get("CROSSTEACH_STORE_BUDGET") or None if budget is None else budget
        self.budget = read_size(given) if isinstance(given, str) else given
        self._bytes, self._surveyed = 0, -SURVEYED
        self._evicted, self._evicted_bytes, self._over = 0, 0, False
        self._unread: list[Entry] | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """What was removed to keep within the budget, whether that was enough, and what of the store is never read."""
        said = []
        if self._unread:
            size = write_size(sum(entry.bytes for entry in self._unread))
            said.append(
                f"{len(self._unread)} entries of the store ({size}) were written by another version of crossteach and "
                "are not read: models answer anew; crossteach store prune removes them"
            )
        if self._evicted:
            said.append(
                f"{self._evicted} entries of the store ({self._evicted_bytes / 1e9:.2f} GB), those used longest ago, "
                f"were removed to keep within its budget of {(self.budget or 0) / 1e9:g} GB; they are computed again "
                "when they are asked for"
            )
        if self._over:
            said.append(
                f"the store takes more than its budget of {(self.budget or 0) / 1e9:g} GB: what is left is in use; "
                "raise CROSSTEACH_STORE_BUDGET, or keep less with --set store.keep=20"
            )
        return tuple(said)

    def table(self, key: dict[str, Any], rows: int, classes: int, dtype: str) -> LogitTable:
        """Open the table of a key, or make an empty one.

        Args:
            key: Everything the logits depend on, JSON-able.
            rows: Samples.
            classes: Logits a sample.
            dtype: `float32`, `float16`, or `top20` and the like; see `Layout`.

        Raises:
            WriteError: If the disk is full or the folder may not be written.
        """
        described, folder = self._described(key, rows, classes, dtype)
        for _ in range(10):
            if not (folder / MANIFEST).is_file():
                self._find_unread()
                write_json(make_folder(folder) / MANIFEST, described)
            with suppress(OSError):  # a store that is only read keeps no account of its use
                os.utime(folder / MANIFEST)
            with suppress(FileNotFoundError):  # another process has removed it at this moment
                return LogitTable(folder, rows, Layout(dtype, classes), self._make_room)
        raise StoreError(f"the table {folder} is removed again and again by another process; give another --store")

    def count_known(self, key: dict[str, Any], rows: int, classes: int, dtype: str) -> int:
        """Return how many rows of a key's table are known; nothing is made where there is none."""
        _, folder = self._described(key, rows, classes, dtype)
        blocks, _ = find_blocks(folder, Layout(dtype, classes).row_bytes)
        return count_rows(cover(blocks))

    def remove(self, key: dict[str, Any], rows: int, classes: int, dtype: str) -> None:
        """Remove the table of a key, if there is one."""
        _, folder = self._described(key, rows, classes, dtype)
        if folder.is_dir():
            remove_entry(folder)

    def require_room(self, needed: int) -> None:
        """See that so many bytes can be written, before models are asked in vain; 0 asks for nothing.

        Raises:
            WriteError: If the folder may not be written.
            StoreError: If its disk has less room.
        """
        if not needed:
            return
        folder = make_folder(self.folder)
        with writing(folder), TemporaryFile(dir=folder):
            pass
        if self.budget is not None:  # beyond it what is old makes room
            needed = min(needed, max(0, self.budget - sum(entry.bytes for entry in find_entries(folder))))
        if lacking := lacking_room([(folder, needed)]):
            raise StoreError(
                f"the answers to keep take about {lacking}; free some space, give another --store, or keep less with "
                "--set store.keep=20"
            )

    def remember(self, key: dict[str, Any], fact: dict[str, Any]) -> None:
        """Keep a small fact under a key."""
        folder = make_folder(self._folder(key))
        write_json(folder / FACT, fact)

    def recall(self, key: dict[str, Any]) -> dict[str, Any] | None:
        """Return the fact kept under a key, if there is one."""
        path = self._folder(key) / FACT
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

    def _find_unread(self) -> None:
        """Look once, when something is not there, for what another version has written: it may be that."""
        if self._unread is None:
            self._unread = [entry for entry in find_entries(self.folder) if entry.kind == OTHER_VERSION]

    def _make_room(self, needed: int) -> None:
        """Remove what was used longest ago if so many more bytes would pass the budget."""
        if self.budget is None:
            return
        self._bytes += needed
        stale = time.monotonic() - self._surveyed > SURVEYED
        if not stale and (self._bytes <= self.budget or self._over):
            return
        entries = find_entries(self.folder)
        self._bytes, self._surveyed = sum(entry.bytes for entry in entries) + needed, time.monotonic()
        if self._bytes > self.budget:
            self._evict(entries, self._bytes - int(AFTER_EVICTION * self.budget))
        self._over = self._bytes > self.budget

    def _evict(self, entries: list[Entry], wanted: int) -> None:
        """Remove tables that no process has open, those used longest ago first, until so many bytes are free."""
        for entry in reversed(entries):
            if wanted <= 0:
                return
            if entry.kind in ("fact", UNFINISHED):
                continue
            with suppress(WriteError):  # another user's
                for gone in remove_unused([entry]):
                    self._evicted, self._evicted_bytes = self._evicted + 1, self._evicted_bytes + gone.bytes
                    self._bytes, wanted = self._bytes - gone.bytes, wanted - gone.bytes
