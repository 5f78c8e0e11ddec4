"""Image files in class folders: `folder:PATH` with train/, val/ (optional) and test/."""

import hashlib
import math
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import DataError, SpecError
from ..specs import Spec
from ..types import SplitName, Splits
from .assemble import OPTIONS, RawSplit, assemble
from .files import FileInputs, Survey, survey_files
from .look import PictureRules, read_background, shown
from .tree import Listing, list_pictures

NAMES: dict[SplitName, tuple[str, ...]] = {
    "train": ("train",),
    "selection": ("val", "valid", "validation", "selection"),
    "test": ("test",),
}
"""The folders of each split; the first that is there is read."""

PICTURE_OPTIONS = {"channels", "workers", "exif", "background", "white", "max_broken", "check"}
"""Options of image files, in class folders or not."""
FOLDER_OPTIONS = {*PICTURE_OPTIONS, "class_order", "empty_classes"}
"""Data options that only image folders take."""


@dataclass(frozen=True)
class _Part:
    """One split as its folder holds it: its pictures without the broken ones, and what is known of them."""

    listing: Listing
    kept: list[int]
    survey: Survey
    broken: dict[int, str]

    @property
    def owners(self) -> list[str | None]:
        """The class folder of each picture."""
        return [self.listing.owners[row] for row in self.kept]

    @property
    def paths(self) -> list[Path]:
        """The pictures."""
        return [self.listing.paths[row] for row in self.kept]


def load_folder(spec: Spec) -> Splits:
    """Open `folder:PATH`: class folders under train, val (or valid, validation, selection) and test.

    The classes are the class folders of all splits. A train folder that holds images directly, without class folders,
    is unlabelled. All that Pillow reads is a picture, and links are followed; files that are not read are counted in
    the notes. Pictures that cannot be decoded are skipped, up to a share `max_broken` of a split. What only shows when
    a picture is used, damage in its middle, is not known here: a grey picture is then shown in its place, with a
    warning; `?check=all` decodes every picture once to find these too.

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
        raise DataError(f"no folder {root} for {spec.text!r}; expected one with train/CLASS/IMAGE and test/CLASS/IMAGE")
    rules, order = _read_rules(spec), _word(spec, "class_order", ("auto", "text", "numbers"))
    allow_empty, max_broken = spec.flag("empty_classes", False), _max_broken(spec)
    thorough = _word(spec, "check", ("headers", "all")) == "all"
    parts: dict[SplitName, _Part] = {}
    for name, candidates in NAMES.items():
        there = [root / candidate for candidate in candidates if (root / candidate).is_dir()]
        if there:
            listing = list_pictures(there[0])
            survey = survey_files(listing.paths, rules, spec.whole("workers", 4), thorough)
            parts[name] = _without_broken(listing, survey, max_broken)
    if "test" not in parts:
        raise DataError(f"{root} has no folder test/; expected train/, test/ and, better, val/")
    folders, notes = _classes(parts, order, allow_empty)
    raw = {
        name: _raw_split(root, part, folders, rules, spec.whole("workers", 4), max_broken)
        for name, part in parts.items()
    }
    notes += [note for name, part in parts.items() for note in _file_notes(name, part)]
    notes += _look_notes(parts, rules)
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
    rules, workers, max_broken = _read_rules(spec, channels or 3), spec.whole("workers", 4), _max_broken(spec)
    listing = list_pictures(spec.path, classes=False)
    thorough = _word(spec, "check", ("headers", "all")) == "all"
    part = _without_broken(listing, survey_files(listing.paths, rules, workers, thorough), max_broken)
    raw = _raw_split(spec.path, part, (), rules, workers, max_broken)
    return raw, [*_file_notes("pool", part), *_look_notes({"pool": part}, rules)]


def _read_rules(spec: Spec, channels: int = 3) -> PictureRules:
    if spec.whole("channels", channels) not in (1, 3):
        raise SpecError(f"option channels of {spec.text!r} must be 1 or 3, not {spec.options['channels']!r}")
    word = spec.options.get("background", "white")
    try:
        background = read_background(word)
    except ValueError:
        raise SpecError(
            f"option background of {spec.text!r} must be a colour as white or #ff8000, or none, not {word!r}"
        ) from None
    white = spec.number("white", math.nan) if "white" in spec.options else None
    if white is not None and not 0 < white < math.inf:
        raise SpecError(f"option white of {spec.text!r} must be a number above 0, not {spec.options['white']!r}")
    upright = _word(spec, "exif", ("upright", "ignore")) == "upright"
    return PictureRules(spec.whole("channels", channels), upright, background, white)


def _word(spec: Spec, key: str, words: Sequence[str]) -> str:
    value = spec.options.get(key, words[0])
    if value not in words:
        raise SpecError(f"option {key} of {spec.text!r} must be {' or '.join(words)}, not {value!r}")
    return value


def _max_broken(spec: Spec) -> float:
    share = spec.number("max_broken", 0.01)
    if not 0 <= share < 1:
        raise SpecError(f"option max_broken of {spec.text!r} must lie in [0, 1), not {spec.options['max_broken']!r}")
    return share


def _without_broken(listing: Listing, survey: Survey, max_broken: float) -> _Part:
    """Leave out pictures that cannot be decoded.

    Raises:
        DataError: If these are more than may be.
    """
    broken = survey.broken
    if len(broken) > max_broken * len(listing.paths):
        row, problem = min(broken.items())
        raise DataError(
            f"{len(broken)} of {len(listing.paths)} files in {shown(listing.folder)} cannot be decoded, "
            f"{shown(listing.paths[row])} among them ({problem}); remove or replace them, "
            f"or raise ?max_broken={max_broken:g}"
        )
    kept = [row for row in range(len(listing.paths)) if row not in broken]
    return _Part(listing, kept, survey.take(np.array(kept, np.int64)), broken)


def _classes(parts: dict[SplitName, _Part], order: str, allow_empty: bool) -> tuple[list[str], list[str]]:
    """Return the class folders of all splits in their order, and what the user should know of them.

    Raises:
        DataError: If a class folder of test holds no picture and that is not allowed.
    """
    used = {owner for part in parts.values() for owner in part.owners if owner is not None}
    listed = {folder for part in parts.values() for folder in part.listing.folders}
    of_test = set(parts["test"].listing.folders)
    empty = sorted(of_test - set(parts["test"].owners))
    if empty and not allow_empty:
        raise DataError(
            f"{len(empty)} of {len(of_test)} class folders in {shown(parts['test'].listing.folder)} hold no picture "
            f"that can be read, {shown(empty[0])!r} among them; add pictures, remove the folders, or give "
            "?empty_classes=true"
        )
    names, notes = used | of_test, []
    unused = sorted(listed - names)
    if unused:
        first = shown(unused[0])
        notes.append(f"{len(unused)} folders hold no picture in any split and are no classes, {first!r} among them")
    classes, ordered = _in_order(names, order)
    return classes, [*notes, *ordered]


def _in_order(names: set[str], order: str) -> tuple[list[str], list[str]]:
    """Order class folders as numbers or as text, and say which was taken where the two differ."""
    orders = {"text": sorted(names), "numbers": sorted(sorted(names), key=by_number)}
    if orders["text"] == orders["numbers"]:
        return orders["text"], []
    are_numbers = all(name.isascii() and name.isdecimal() for name in names)
    taken = order if order in orders else "numbers" if are_numbers else "text"
    other = "text" if taken == "numbers" else "numbers"
    pairs = zip(orders[taken], orders[other], strict=True)
    start = max(0, next(i for i, (one, two) in enumerate(pairs) if one != two) - 1)
    several = ", ".join(shown(name) for name in orders[taken][start : start + 3])
    what = "class folders are numbers" if are_numbers else "the names of class folders hold numbers"
    note = f"{what} and are ordered as {taken} (…, {several}, …); ?class_order={other} orders them as {other}"
    return orders[taken], [note]


def by_number(name: str) -> list[str | int]:
    """Return the parts of a name, those of digits as numbers, to sort by: a9 comes before a10."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"([0-9]+)", name))]


def _raw_split(
    root: Path, part: _Part, folders: Sequence[str], rules: PictureRules, workers: int, max_broken: float
) -> RawSplit:
    code = {name: i for i, name in enumerate(folders)}
    labelled = any(owner is not None for owner in part.owners)
    ids = [hashlib.blake2b(_name_of(path, root), digest_size=8).digest() for path in part.paths]
    return RawSplit(
        inputs=FileInputs(part.paths, rules, workers, part.survey, max_broken),
        labels=np.array([code[name] for name in part.owners if name is not None], np.int64) if labelled else None,
        ids=np.frombuffer(b"".join(ids), np.int64) & np.int64(2**63 - 1),
    )


def _name_of(path: Path, root: Path) -> bytes:
    """Return the bytes of a file's name below the root: names need not be UTF-8."""
    return os.fsencode(path.relative_to(root).as_posix())


def _file_notes(name: SplitName, part: _Part) -> list[str]:
    """Say what was skipped in one split, and how far its files are known."""
    listing, notes = part.listing, []
    if listing.skipped:
        reasons = [f"{count} {reason} ({listing.examples[reason]})" for reason, count in listing.skipped.most_common()]
        notes.append(f"{listing.skipped.total()} files or folders of {name} are not read: {', '.join(reasons)}")
    if part.broken:
        row, problem = min(part.broken.items())
        notes.append(
            f"{len(part.broken)} of {len(listing.paths)} pictures of {name} cannot be decoded and are skipped, "
            f"{shown(listing.paths[row])} among them ({problem})"
        )
    if not part.survey.whole:
        notes.append(
            f"{len(part.paths)} pictures of {name} ({part.survey.bytes / 2**30:.1f} GiB) are known by size and end, "
            f"{len(part.survey.looks)} of them by their whole content"
        )
    return notes


def _look_notes(parts: dict[SplitName, _Part], rules: PictureRules) -> list[str]:
    """Say how many pictures were turned, and how many laid on a background."""
    seen: dict[str, Counter[str]] = {"turned": Counter(), "transparent": Counter()}
    for name, part in parts.items():
        for look in part.survey.looks.values():
            for what, counts in seen.items():
                counts[name] += getattr(look, what)
    whole = all(part.survey.whole for part in parts.values())
    among = "" if whole else f" of {sum(len(part.survey.looks) for part in parts.values())} that were looked at"
    notes = []
    for what, counts in seen.items():
        if not counts.total():
            continue
        where = ", ".join(f"{name} {count}" for name, count in counts.items() if count)
        if what == "turned":
            done = "are turned upright, as EXIF says; ?exif=ignore leaves them as they are"
        elif rules.background is None:
            done = "are transparent, and what their transparency hides is shown (?background=none)"
        else:
            colour = "#{:02x}{:02x}{:02x}".format(*rules.background)
            done = f"are transparent and laid on {colour}; ?background=COLOUR takes another, none drops it"
        notes.append(f"{counts.total()} pictures{among} ({where}) {done}")
    return [*notes, *_deep_notes(parts, rules)]


def _deep_notes(parts: dict[SplitName, _Part], rules: PictureRules) -> list[str]:
    """Say what is white in pictures of more than 8 bits, and how bright they are: 12 bits in 16 look nearly black."""
    looks = (look for part in parts.values() for look in part.survey.looks.values())
    brightest = [look.brightest for look in looks if look.brightest is not None]
    if not brightest:
        return []
    white = "65535 (of floats 1)" if rules.white is None else f"{rules.white:g}"
    return [
        f"{len(brightest)} pictures have more than 8 bits a pixel and are scaled so that {white} is white; their "
        f"brightest pixel is {max(brightest):g}; ?white=VALUE takes another"
    ]
