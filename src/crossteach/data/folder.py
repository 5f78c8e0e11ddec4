"""Image files in class folders: `folder:PATH` with train/, val/ and test/, or with class folders alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..specs import Spec
from ..types import NO_LABEL, SplitName, Splits
from .assemble import OPTIONS, SPLIT_NAMES, RawSplit, assemble
from .encoded import PictureFiles, name_of
from .encoded_splits import (
    PICTURE_OPTIONS,
    PictureOptions,
    PicturePart,
    ids_of,
    look_at_part,
    look_notes,
    picture_notes,
    read_picture_options,
    read_word,
)
from .label_words import ORDERS, in_order
from .look import shown
from .tree import Listing, folders_in, list_pictures

FOLDER_OPTIONS = {*PICTURE_OPTIONS, "class_order", "empty_classes"}
"""Data options that only image folders take."""


@dataclass(frozen=True)
class _Part:
    """One split as its folder holds it."""

    listing: Listing
    look: PicturePart

    @property
    def owners(self) -> list[str | None]:
        """The class folder of each picture that is kept."""
        return [self.listing.owners[row] for row in self.look.kept.tolist()]


def load_folder(spec: Spec) -> Splits:
    """Open `folder:PATH`: class folders under train, val (or valid, validation, selection) and test, or alone.

    What is missing of test and val is cut from the others, by a fixed seed; where there is none of the three, class
    folders that hold pictures are train. The classes are the class folders of all splits. A train folder that holds
    images directly, without class folders, is unlabelled. All that Pillow reads is a picture, and links are followed;
    files that are not read are counted in the notes. Pictures that cannot be decoded are skipped, up to a share
    `max_broken` of a split. What only shows when a picture is used, damage in its middle, is not known here: a grey
    picture is then shown in its place, with a warning; `?check=all` decodes every picture once to find these too.

    The pixels are known by content: an edited picture makes other data. Beyond 100,000 files or 2 GiB a split is known
    by the size and the last 4096 bytes of each file, and the whole content of 4096 files.

    Options, beside those that all data take:
        `channels=1` reads grey. `workers=N` sets the decoding threads (default 4). `exif=ignore` leaves turned pictures
        turned. `background=COLOUR` (default white) is what transparent pictures are laid on, by name or as `#rrggbb`;
        `none` drops their transparency. `white=VALUE` is what is white in pictures of more than 8 bits (default 65535,
        of floats 1). `max_broken=0.01`. `check=all`. `class_order=text|numbers`: folders that are numbers are ordered
        as numbers, others as text. `empty_classes=true` takes a class whose folder in test holds no picture.

    Raises:
        SpecError: If an option is out of range.
        DataError: If folders or images are missing, too many are broken, or a class came out empty in test.
    """
    spec.refuse_unknown(OPTIONS | FOLDER_OPTIONS)
    root = spec.path
    if not root.is_dir():
        raise DataError(
            f"no folder {root} for {spec.text!r}; expected one with train/CLASS/IMAGE and test/CLASS/IMAGE, or "
            "CLASS/IMAGE"
        )
    options, order = read_picture_options(spec), read_word(spec, "class_order", ORDERS)
    allow_empty = spec.flag("empty_classes", False)
    listings, notes = _listings(spec, root)
    parts = {name: _look_at_listing(listing, options) for name, listing in listings.items()}
    folders, said = _classes(parts, order, allow_empty)
    notes += said
    raw = {name: _raw_split(root, part, folders, options) for name, part in parts.items()}
    notes += [note for name, part in parts.items() for note in _file_notes(name, part)]
    notes += look_notes({name: part.look for name, part in parts.items()}, options.rules)
    classes = [shown(folder) for folder in folders]
    return assemble(spec, classes, raw, notes)


def folder_pool(spec: Spec, channels: int | None) -> tuple[RawSplit, list[str]]:
    """Find the pictures of any folder, however deep: what their folders are called says nothing.

    Args:
        spec: Takes the options of an image folder that do not speak of classes.
        channels: Of the data that the pool goes with, where the spec names none.

    Returns:
        The pictures, and what the user should know of them.

    Raises:
        DataError: If the folder is missing, holds no picture, or too many are broken.
    """
    if not spec.path.is_dir():
        raise DataError(f"no folder {spec.path} for {spec.text!r}; expected one with pictures in it")
    options = read_picture_options(spec, channels or 3)
    part = _look_at_listing(list_pictures(spec.path, classes=False), options)
    notes = [*_file_notes("pool", part), *look_notes({"pool": part.look}, options.rules)]
    return _raw_split(spec.path, part, (), options), notes


def _listings(spec: Spec, root: Path) -> tuple[dict[SplitName, Listing], list[str]]:
    """List the pictures of each split that has a folder; where none has, those of class folders as train.

    Raises:
        DataError: If there is neither the one nor the other.
    """
    found: dict[SplitName, Listing] = {}
    folders = folders_in(root)
    for name, words in SPLIT_NAMES.items():
        there = [root / folder for word in words for folder in folders if folder.lower() == word]
        if there:
            found[name] = list_pictures(there[0])
    a_class = set(found) == {"train"} and not found["train"].folders and len(folders) > 1  # trains beside buses
    if found and not a_class:
        return found, []
    whole = list_pictures(root)
    outside = next((path for path in map(Path, whole.paths) if path.parent.parent != root), None)
    if outside is not None or len(set(whole.owners)) < 2:
        came = f"{shown(outside)} lies elsewhere" if outside else f"{len(set(whole.owners))} folders hold pictures"
        raise DataError(
            f"{shown(root)} holds neither train/CLASS/IMAGE (better with val/ and test/) nor CLASS/IMAGE of two "
            f"classes or more: {came}; arrange it so, or teach on it without labels by --pool {spec.text}"
        )
    return {"train": whole}, [f"{shown(root)} has no train/CLASS, val/CLASS or test/CLASS: its own folders are classes"]


def _look_at_listing(listing: Listing, options: PictureOptions) -> _Part:
    return _Part(listing, look_at_part(shown(listing.folder), PictureFiles(listing.paths), options))


def _classes(parts: dict[SplitName, _Part], order: str, allow_empty: bool) -> tuple[list[str], list[str]]:
    """Return the class folders of all splits in their order, and what the user should know of them.

    Raises:
        DataError: If a class folder of test holds no picture and that is not allowed.
    """
    used = {owner for part in parts.values() for owner in part.owners if owner is not None}
    listed = {folder for part in parts.values() for folder in part.listing.folders}
    test = parts.get("test")
    of_test = set(test.listing.folders) if test else set()
    empty = sorted(of_test - set(test.owners)) if test else []
    if test and empty and not allow_empty:
        raise DataError(
            f"{len(empty)} of {len(of_test)} class folders in {shown(test.listing.folder)} hold no picture "
            f"that can be read, {shown(empty[0])!r} among them; add pictures, remove the folders, or give "
            "?empty_classes=true"
        )
    names, notes = used | of_test, []
    unused = sorted(listed - names)
    if unused:
        first = shown(unused[0])
        notes.append(f"{len(unused)} folders hold no picture in any split and are no classes, {first!r} among them")
    classes, ordered = in_order(names, order, "class folders")
    return classes, [*notes, *ordered]


def _raw_split(root: Path, part: _Part, folders: Sequence[str], options: PictureOptions) -> RawSplit:
    code: dict[str | None, int] = {name: i for i, name in enumerate(folders)}
    labelled = any(owner is not None for owner in part.owners)
    owners = [code.get(owner, NO_LABEL) for owner in part.listing.owners]  # NO_LABEL: all its pictures are broken
    ids = ids_of(name_of(path, root) for path in part.listing.paths)
    return part.look.raw(options, np.array(owners, np.int64) if labelled else None, ids)


def _file_notes(name: SplitName, part: _Part) -> list[str]:
    """Say what was skipped in one split, and how far its files are known."""
    listing, notes = part.listing, []
    if listing.skipped:
        reasons = [f"{count} {reason} ({listing.examples[reason]})" for reason, count in listing.skipped.most_common()]
        notes.append(f"{listing.skipped.total()} files or folders of {name} are not read: {', '.join(reasons)}")
    return [*notes, *picture_notes(name, part.look)]
