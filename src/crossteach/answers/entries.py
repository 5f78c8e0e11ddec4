"""The entries of a store as they lie on disk: what each is, which were used last, and their removal."""

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from ..config import SCORING
from ..errors import StoreError, first_line
from ..files import if_free, writing
from .blocks import PART, cover, find_blocks
from .layout import Layout
from .logit_table import MANIFEST, count_rows

FORMAT = 2
"""Of a table. Those of another format, or of another `SCORING`, are never read: `ls` names and `prune` removes them."""
FACT = "fact.json"
"""The file that makes a folder a small fact."""
GONE = ".gone-"
"""How the name of a folder begins that is being removed."""
DAMAGED, OTHER_VERSION, UNFINISHED = "damaged", "other version", "unfinished"
"""Kinds of entries that are no answers."""


@dataclass(frozen=True)
class Entry:
    """A table of answers, a small fact, or what a killed process has left."""

    folder: str
    kind: str
    """As its key says: predictions, views, probe, …; `damaged`, `unfinished` and `other version` are no answers."""
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


def find_entries(folder: Path) -> list[Entry]:
    """Return all that a store's folder holds, what was used last first; nothing is changed.

    An entry costs the reading of its manifest, not of its answers.
    """
    found = []
    for each in sorted(folder.glob("[0-9a-f][0-9a-f]/*")):
        with suppress(FileNotFoundError):  # another process may remove it at this moment
            if each.is_dir():
                found.append(_describe(each))
    return sorted(found, key=lambda entry: (-entry.used, entry.folder))


def _describe(folder: Path) -> Entry:
    stats = [(path.name, path.stat()) for path in folder.iterdir() if path.is_file()]
    size = sum(getattr(stat, "st_blocks", 0) * 512 or stat.st_size for _, stat in stats)
    used = max((stat.st_mtime for _, stat in stats), default=0.0)
    bare = Entry(str(folder), "fact", "", 0, 0, 0, "", size, used)
    names = {name for name, _ in stats}
    if folder.name.startswith(".") or not names or all(name.endswith(PART) for name in names):
        return replace(bare, kind=UNFINISHED)
    if FACT in names and MANIFEST not in names:
        return bare
    try:
        said = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        own = {"format": FORMAT, "scoring": str(SCORING)}
        for what, reads in own.items():
            if (written := said.get(what, reads)) != reads:
                problem = f"of {what} {written}, this version of crossteach reads {reads}"
                return replace(bare, kind=OTHER_VERSION, problem=problem)
        layout, rows = Layout(str(said["dtype"]), int(said["classes"])), int(said["rows"])
        blocks, cut = find_blocks(folder, layout.row_bytes)
        if cut or any(block.stop > rows for block in blocks):
            raise ValueError(f"{len(cut)} files are not of the size that their names say, {min(cut, default='')}")
    except (OSError, ValueError, KeyError, TypeError, StoreError) as error:
        return replace(bare, kind=DAMAGED, problem=first_line(error))
    return replace(
        bare,
        kind=str(said.get("kind", "")),
        model=str(said.get("model", "")),
        rows=rows,
        known=count_rows(cover(blocks)),
        classes=layout.classes,
        dtype=layout.dtype,
    )


def remove_entry(folder: Path) -> None:
    """Remove an entry: its folder takes another name first, so that no other process sees a half of it."""
    gone = folder.with_name(f"{GONE}{folder.name}")
    with writing(folder):
        shutil.rmtree(gone, ignore_errors=True)  # one that a killed process has left
        with suppress(FileNotFoundError):
            folder.rename(gone)
            shutil.rmtree(gone)
    with suppress(OSError):  # others may be in it
        folder.parent.rmdir()


def remove_unused(entries: Sequence[Entry]) -> Iterator[Entry]:
    """Remove entries, one after the other, but for tables that a process has open; yield what is gone."""
    for entry in entries:
        folder = Path(entry.folder)
        try:
            with if_free(folder / MANIFEST) as free:
                if free:
                    remove_entry(folder)
        except FileNotFoundError:  # no table: a fact, or what was never finished
            free = True
            remove_entry(folder)
        if free:
            yield entry
