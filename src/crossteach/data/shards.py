"""Tar shards: `wds:PATTERN.tar` or `wds:FOLDER`."""

import glob
import itertools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ..errors import DataError, SpecError
from ..specs import Spec
from ..types import SplitName, Splits
from .assemble import RawSplit, split_of
from .encoded_splits import LISTED_OPTIONS, PICTURE_OPTIONS, Listed, listed_pool, listed_splits
from .look import shown
from .tars import TarIndex, Wanted, WordPlace
from .tree import is_hidden

MEMBER_OPTIONS = {"image", "label", "group"}
"""Options that say which members of a sample are read."""
POOL_OPTIONS = {*PICTURE_OPTIONS, "image", "group"}
SHARD_OPTIONS = {*LISTED_OPTIONS, *MEMBER_OPTIONS, "val", "test"}
LABEL = (WordPlace("cls"), WordPlace("json", "label"))
"""Where labels are looked for."""
MOST = 100_000
"""Names that a pattern may stand for."""
BRACES_AT_MOST = 20
TAR = re.compile(r"\.(tar(\.(gz|bz2|xz|zst))?|tgz)$", re.IGNORECASE)
BRACES = re.compile(r"\{([^{}]*)\}")
RANGE = re.compile(r"(\d{1,18})\.\.(\d{1,18})")


def load_wds(spec: Spec) -> Splits:
    """Open `wds:PATTERN.tar`: samples of webdataset, `KEY.jpg` beside `KEY.cls` or `KEY.json` (its field `label`).

    A pattern is a path with `{000..012}`, `{a,b}`, `*` or `[0-9]` in it, or a folder: all tars in it then. Tars whose
    names (or whose folders, below the one that holds all) say train, val or test are these splits; otherwise all are
    train, and the other splits are cut off, by a fixed seed. The tars must not be compressed; nothing is unpacked.

    Options, beside those of pictures and of all data:
        `val=PATTERN`, `test=PATTERN` name the tars of these splits; what stands before the options is train then.
        `image=SUFFIX` names the picture where a key has several. `label=SUFFIX` or `label=json/FIELD` says where the
        label is; `group=…` likewise. `class_order=text|numbers` as for folders.

    Raises:
        SpecError: If an option is out of range.
        DataError: If a tar is missing, compressed or broken, nothing has a label, or too many pictures are broken.
    """
    spec.refuse_unknown(SHARD_OPTIONS)
    wanted = _wanted(spec, LABEL)
    parts, notes = {}, []
    for name, paths in find_shards(spec).items():
        parts[name], said = _index(spec, name, paths, wanted)
        notes += said
    if not any(part.labels is not None and part.labels.words for part in parts.values()):
        places = " or ".join(_written(place) for place in wanted.label)
        raise DataError(
            f"no sample of {spec.text!r} has a label in {places}; say where they are by ?label=SUFFIX or "
            "?label=json/FIELD, or give the tars as a --pool"
        )
    return listed_splits(spec, parts, notes)


def wds_pool(spec: Spec, channels: int | None) -> tuple[RawSplit, list[str]]:
    """Take the pictures of tars as a pool: those of train where their names say so, else all; labels are not read.

    Raises:
        DataError: If a tar is missing, compressed or broken, or too many pictures are broken.
    """
    shards = find_shards(spec)
    paths = shards.get("train") or list(itertools.chain.from_iterable(shards.values()))
    part, notes = _index(spec, "pool", paths, _wanted(spec, ()))
    raw, said = listed_pool(spec, part, channels)
    return raw, [*notes, *said]


def find_shards(spec: Spec) -> dict[SplitName, list[Path]]:
    """Return the tars of each split.

    Raises:
        DataError: If there are none, some are missing, or only some are named by splits.
    """
    paths = expand(spec, str(spec.path))
    given = {key: spec.options[key] for key in ("val", "test") if key in spec.options}
    if given:
        named: dict[SplitName, list[Path]] = {"train": paths}
        for key, pattern in given.items():
            named["selection" if key == "val" else "test"] = expand(spec, pattern)
        return named
    return _by_names(spec, paths)


def _by_names(spec: Spec, paths: Sequence[Path]) -> dict[SplitName, list[Path]]:
    """Part tars by the splits that their names say; all are train where they say none."""
    parts: dict[SplitName | None, list[Path]] = {}
    common = Path(os.path.commonpath([path.parent for path in paths]))
    for path in paths:
        parts.setdefault(_split_in(path.relative_to(common).parts), []).append(path)
    if set(parts) == {None}:
        return {"train": list(paths)}
    if None in parts:
        known = next(split for split in parts if split is not None)
        raise DataError(
            f"of the tars of {spec.text!r} {shown(parts[known][0].name)} names a split but "
            f"{shown(parts[None][0].name)} none; rename it, or name the splits by ?val=PATTERN&test=PATTERN"
        )
    return {split: found for split, found in parts.items() if split is not None}


def _split_in(names: Sequence[str]) -> SplitName | None:
    """Return the split that the last of some names says, else one of those before it."""
    for name in reversed(names):
        splits = {split for word in re.split(r"[^A-Za-z]+", name) if (split := split_of(word)) is not None}
        if len(splits) == 1:
            return splits.pop()
    return None


def expand(spec: Spec, pattern: str) -> list[Path]:
    """Return the tars that a pattern stands for, in the order of their names.

    Raises:
        DataError: If there are none, or one that the pattern names is not there.
    """
    root = Path(pattern)
    if root.is_dir():
        tars = [path for path in sorted(root.rglob("*")) if TAR.search(path.name) and not is_hidden(path.name)]
        if not tars:
            raise DataError(f"folder {shown(root)} of {spec.text!r} holds no .tar")
        return tars
    if root.is_file():
        return [root]
    names = list(itertools.islice(_names(pattern), MOST + 1)) if pattern.count("{") <= BRACES_AT_MOST else []
    if not 0 < len(names) <= MOST:
        raise DataError(
            f"the pattern {shown(pattern)!r} of {spec.text!r} stands for more than {MOST} names; shorten it"
        )
    paths = [Path(path) for name in names for path in _matching(name)]
    missing = [path for path in paths if not path.is_file()]
    if missing or not paths:
        first = f": {shown(missing[0])} is missing, with {len(missing) - 1} others" if len(paths) > 1 else ""
        raise DataError(
            f"no such tars as {shown(pattern)!r} of {spec.text!r}{first}; expected a .tar, a pattern as "
            "shard-{000..012}.tar or shard-*.tar, or a folder of tars"
        )
    return paths


def _matching(name: str) -> list[str]:
    """Return the files that match a name with *, ? or [] in it, sorted; else the name itself."""
    return sorted(glob.glob(name)) if glob.has_magic(name) and not Path(name).is_file() else [name]  # noqa: PTH207


def _names(pattern: str) -> Iterator[str]:
    """Yield what the braces of a pattern stand for.

    Example:
        >>> list(_names("{a,b}-{08..10}.tar"))
        ['a-08.tar', 'a-09.tar', 'a-10.tar', 'b-08.tar', 'b-09.tar', 'b-10.tar']
    """
    found = BRACES.search(pattern)
    if found is None:
        yield pattern
        return
    ends = RANGE.fullmatch(found[1])
    words: Iterator[str]
    if ends is None:
        words = iter(found[1].split(","))
    else:
        words = (f"{i:0{len(ends[1])}}" for i in range(int(ends[1]), int(ends[2]) + 1))
    for word in words:
        for rest in _names(pattern[found.end() :]):
            yield f"{pattern[: found.start()]}{word}{rest}"


def _wanted(spec: Spec, label: tuple[WordPlace, ...]) -> Wanted:
    places: dict[str, tuple[WordPlace, ...]] = {"label": label, "group": ()}
    for key in places:
        if key in spec.options:
            suffix, _, name = spec.options[key].lstrip(".").partition("/")
            if not suffix or (name and suffix != "json"):
                raise SpecError(f"option {key} of {spec.text!r} must be a suffix as cls, or json/FIELD")
            places[key] = (WordPlace(suffix.lower(), name or None),)
    image = spec.options.get("image")
    return Wanted(None if image is None else image.lstrip(".").lower(), places["label"], places["group"])


def _written(place: WordPlace) -> str:
    return f"KEY.{place.suffix}" if place.field is None else f"the field {place.field} of KEY.{place.suffix}"


def _index(spec: Spec, name: SplitName, paths: Sequence[Path], wanted: Wanted) -> tuple[Listed, list[str]]:
    """Index the tars of one split, and say what is not read of them."""
    index = TarIndex(name, wanted)
    for path in paths:
        index.add(path)
    pictures, ids = index.pictures(), index.ids()
    if not len(pictures):
        raise DataError(
            f"the tars of {name} of {spec.text!r} hold no picture; {_counted(index.skipped, index.examples)}"
        )
    notes = [f"in the tars of {name}: {_counted(index.skipped, index.examples)}"] if index.skipped else []
    labels = index.labels() if wanted.label else None
    return Listed(f"{name} of {spec.text!r}", pictures, labels, ids, index.groups()), notes


def _counted(skipped: Mapping[str, int], examples: Mapping[str, str]) -> str:
    said = [
        f"{count} {what}{f', {examples[what]} among them' if what in examples else ''}"
        for what, count in skipped.items()
    ]
    return "; ".join(said) or "no member is one"
