"""From encoded pictures to splits: the options of pictures, what is broken, and what is said of both."""

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from ..errors import DataError, SpecError
from ..specs import Spec
from ..types import SplitName, Splits
from .assemble import OPTIONS, RawSplit, assemble, default_ids
from .encoded import EncodedPictures
from .files import FileInputs, Survey, survey_files
from .label_words import ORDERS, LabelWords, number_labels
from .look import PictureRules, read_background

PICTURE_OPTIONS = {"channels", "workers", "exif", "background", "white", "max_broken", "check"}
"""Options of encoded pictures, whatever holds them."""
LISTED_OPTIONS = {*OPTIONS, *PICTURE_OPTIONS, "class_order"}
"""Options of data whose source lists pictures and labels."""


@dataclass(frozen=True)
class PictureOptions:
    """How the pictures of a spec are read."""

    rules: PictureRules
    workers: int
    max_broken: float
    thorough: bool


@dataclass(frozen=True)
class PicturePart:
    """The pictures of one split: those that are kept, and what is known of all."""

    pictures: EncodedPictures
    kept: Int[np.ndarray, " n"]
    """Which of them can be decoded, as far as a look tells."""
    survey: Survey
    """Of those."""
    broken: dict[int, str]
    """Why others cannot be decoded, by row."""

    def raw(
        self,
        options: PictureOptions,
        labels: Int[np.ndarray, " N"] | None = None,
        ids: Int[np.ndarray, " N"] | None = None,
        group: np.ndarray | None = None,
    ) -> RawSplit:
        """Return the pictures that are kept, with what is known of each picture, broken ones too."""
        kept = self.pictures.take(self.kept)
        return RawSplit(
            FileInputs(kept, options.rules, options.workers, self.survey, options.max_broken),
            *(None if values is None else values[self.kept] for values in (labels, group, ids)),
        )


@dataclass(frozen=True)
class Listed:
    """What a source lists for one split: pictures, and what it says of each."""

    where: str
    """Names the source in messages."""
    pictures: EncodedPictures
    labels: LabelWords | None = None
    ids: Int[np.ndarray, " N"] | None = None
    """None numbers them."""
    group: np.ndarray | None = None


def listed_splits(
    spec: Spec, parts: Mapping[SplitName, Listed], notes: Sequence[str] = (), classes: Sequence[str] | None = None
) -> Splits:
    """Make data of what a source lists; a split that it lacks is cut from the others.

    Args:
        spec: Names the data and carries the options of pictures and of all data.
        parts: The splits.
        notes: What the source has to say.
        classes: The class names where the source knows their order; None orders the words of the labels.

    Raises:
        SpecError: If an option is out of range.
        DataError: If too many pictures are broken, labels are no classes, or the parts do not fit.
    """
    options = read_picture_options(spec)
    classes, labels, ordered = class_ids(spec, {name: part.labels for name, part in parts.items()}, classes)
    looked = {name: look_at_part(part.where, part.pictures, options) for name, part in parts.items()}
    raw = {}
    for name, part in parts.items():
        ids = default_ids(name, len(part.pictures)) if part.ids is None else part.ids
        raw[name] = looked[name].raw(options, labels[name], ids, part.group)
    said = [note for name, part in looked.items() for note in picture_notes(name, part)]
    all_notes = [*notes, *ordered, *said, *look_notes(looked, options.rules)]
    return assemble(spec, classes, raw, all_notes)


def class_ids(
    spec: Spec, parts: Mapping[SplitName, LabelWords | None], classes: Sequence[str] | None = None
) -> tuple[Sequence[str], Mapping[SplitName, Int[np.ndarray, " N"] | None], list[str]]:
    """Return the class names, the labels of each split as ids, and what the user should know of their order.

    Args:
        spec: Names the data and may say `class_order`.
        parts: What each split says of its samples.
        classes: The class names where the source knows their order; None orders the words of the labels.

    Raises:
        SpecError: If the option is another word.
        DataError: If labels are no classes.
    """
    order = read_word(spec, "class_order", ORDERS)
    if classes is None:
        return number_labels(repr(spec.text), parts, order)
    return classes, {name: None if part is None else part.codes for name, part in parts.items()}, []


def listed_pool(spec: Spec, part: Listed, channels: int | None) -> tuple[RawSplit, list[str]]:
    """Take the pictures that a source lists as a pool, without their labels.

    Args:
        spec: Carries the options of pictures.
        part: The pictures, and their groups if there are any.
        channels: Of the data that the pool goes with, where the spec names none.

    Raises:
        DataError: If too many pictures are broken.
    """
    options = read_picture_options(spec, channels or 3)
    looked = look_at_part(part.where, part.pictures, options)
    raw = looked.raw(options, ids=part.ids, group=part.group)
    return raw, [*picture_notes("pool", looked), *look_notes({"pool": looked}, options.rules)]


def ids_of(names: Iterable[bytes]) -> Int[np.ndarray, " N"]:
    """Return a sample id for each name: the same in any order, beside any others."""
    ids = bytearray()
    for name in names:
        ids += hashlib.blake2b(name, digest_size=8).digest()
    return np.frombuffer(ids, np.int64) & np.int64(2**63 - 1)


def read_picture_options(spec: Spec, channels: int = 3) -> PictureOptions:
    """Read the options of encoded pictures.

    Raises:
        SpecError: If one is out of range.
    """
    channels = spec.whole("channels", channels)
    if channels not in (1, 3):
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
    share = spec.number("max_broken", 0.01)
    if not 0 <= share < 1:
        raise SpecError(f"option max_broken of {spec.text!r} must lie in [0, 1), not {spec.options['max_broken']!r}")
    upright = read_word(spec, "exif", ("upright", "ignore")) == "upright"
    thorough = read_word(spec, "check", ("headers", "all")) == "all"
    rules = PictureRules(channels, upright, background, white)
    return PictureOptions(rules, spec.whole("workers", 4), share, thorough)


def read_word(spec: Spec, key: str, words: Sequence[str]) -> str:
    """Read an option that is one of some words, the first by default.

    Raises:
        SpecError: If it is another.
    """
    value = spec.options.get(key, words[0])
    if value not in words:
        raise SpecError(f"option {key} of {spec.text!r} must be {' or '.join(words)}, not {value!r}")
    return value


def look_at_part(where: str, pictures: EncodedPictures, options: PictureOptions) -> PicturePart:
    """Look at pictures, and leave out those that cannot be decoded.

    Raises:
        DataError: If these are more than may be.
    """
    survey = survey_files(pictures, options.rules, options.workers, options.thorough)
    broken = survey.broken
    if len(broken) > options.max_broken * len(pictures):
        row, problem = min(broken.items())
        raise DataError(
            f"{len(broken)} of {len(pictures)} files in {where} cannot be decoded, {pictures.name(row)} among them "
            f"({problem}); remove or replace them, or raise ?max_broken={options.max_broken:g}"
        )
    kept = np.setdiff1d(np.arange(len(pictures)), np.fromiter(broken, np.int64, len(broken)))
    return PicturePart(pictures, kept, survey.take(kept), broken)


def picture_notes(name: SplitName, part: PicturePart) -> list[str]:
    """Say how many pictures of one split are skipped, and how far the others are known."""
    notes = []
    if part.broken:
        row, problem = min(part.broken.items())
        notes.append(
            f"{len(part.broken)} of {len(part.pictures)} pictures of {name} cannot be decoded and are skipped, "
            f"{part.pictures.name(row)} among them ({problem})"
        )
    if not part.survey.whole:
        notes.append(
            f"{len(part.kept)} pictures of {name} ({part.survey.bytes / 2**30:.1f} GiB) are known by size and end, "
            f"{len(part.survey.looks)} of them by their whole content"
        )
    return notes


def look_notes(parts: Mapping[SplitName, PicturePart], rules: PictureRules) -> list[str]:
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


def _deep_notes(parts: Mapping[SplitName, PicturePart], rules: PictureRules) -> list[str]:
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
