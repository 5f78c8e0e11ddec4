"""Which files of a folder are pictures, and which class folder each stands in."""

import os
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import DataError
from .look import is_picture, shown, suffixes

NO_CLASSES = {"__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information"}
"""Folders that systems leave behind."""

NO_FILES = {"thumbs.db", "desktop.ini", "ehthumbs.db"}
"""Files that systems leave behind, in small letters."""


@dataclass
class Listing:
    """The pictures below one folder."""

    folder: Path
    paths: list[str] = field(default_factory=list)
    """All pictures, sorted by name within the folder; as texts, for there may be millions."""
    owners: list[str | None] = field(default_factory=list)
    """The class folder of each picture; None for one outside."""
    folders: list[str] = field(default_factory=list)
    """All class folders, those without pictures too."""
    skipped: Counter[str] = field(default_factory=Counter)
    """How many files and folders were not read, by reason."""
    examples: dict[str, str] = field(default_factory=dict)
    """One of them for each reason."""

    def skip(self, path: Path, reason: str) -> None:
        """Count a file or a folder that is not read."""
        self.skipped[reason] += 1
        self.examples.setdefault(reason, shown(path))


def is_hidden(name: str) -> bool:
    """Tell whether a file or folder is the system's, not the user's: hidden, or left behind by an archive."""
    return name.startswith(".") or name in NO_CLASSES or name.lower() in NO_FILES


def folders_in(folder: Path) -> list[str]:
    """Name the folders in a folder that are the user's, those in small letters first.

    Raises:
        DataError: If it cannot be read.
    """
    return sorted(
        (entry.name for entry in _entries(folder) if entry.is_dir() and not is_hidden(entry.name)), key=str.swapcase
    )


def list_pictures(folder: Path, classes: bool = True) -> Listing:
    """Find all pictures below a folder of class folders or, if these say nothing, below any folder.

    Whatever Pillow reads is a picture: by its suffix, or by its content where the suffix says nothing. Links are
    followed; a folder that links to one above itself is not entered again.

    Raises:
        DataError: If the folder cannot be read, or (where it should have class folders) holds pictures both in these
            and outside.
    """
    listing = Listing(folder)
    for entry in _entries(folder):
        if entry.is_dir() and not is_hidden(entry.name):
            listing.folders.append(entry.name)
        _walk(entry, {os.path.realpath(folder)}, listing)
    below = len(os.path.join(folder, ""))  # noqa: PTH118  with the separator at its end
    listing.paths.sort(key=lambda path: os.fsencode(path[below:]).split(os.fsencode(os.sep)))
    for path in listing.paths:
        owner, inside, _ = path[below:].partition(os.sep)
        listing.owners.append(sys.intern(owner) if inside and classes else None)
    if None in listing.owners and any(owner is not None for owner in listing.owners):
        stray = shown(Path(listing.paths[listing.owners.index(None)]).name)
        raise DataError(f"{shown(folder)} has images both in class folders and outside; move {stray}")
    return listing


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: os.fsencode(entry.name))
    except OSError as error:
        raise DataError(f"{shown(folder)} cannot be read ({error.strerror}); give a folder that can be") from error


def _walk(entry: os.DirEntry[str], above: set[str], listing: Listing) -> None:
    """Add the pictures at and below an entry; `above` are the real folders that lead to it."""
    path = Path(entry.path)
    suffix = path.suffix.lower()
    if is_hidden(entry.name):
        listing.skip(path, "hidden or left behind by a system")
    elif entry.is_symlink() and not path.exists():
        listing.skip(path, "broken links")
    elif entry.is_dir():
        real = os.path.realpath(path)
        if real in above:
            listing.skip(path, "links to a folder above")
            return
        for inner in _entries(path):
            _walk(inner, above | {real}, listing)
    elif not entry.is_file():
        listing.skip(path, "no regular files")
    elif suffix in suffixes() or is_picture(path):
        listing.paths.append(entry.path)
    else:
        listing.skip(path, f"{suffix} that Pillow does not read" if suffix else "without suffix and no images")
