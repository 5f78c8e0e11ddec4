"""What a model wants done to pixels: from the options of its spec, or from timm's description."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, get_args

from ..errors import ModelError, SpecError, first_line
from ..specs import Spec
from ..types import CropMode, Interpolation, Kind, Preprocess

PREPROCESS_OPTIONS = {"size", "channels", "mean", "std", "interpolation", "crop", "crop_mode"}
"""Model options that every source takes."""
LARGEST, MOST_CHANNELS = 4096, 64
"""Pixels a side, and channels, that a file may ask for; an option may ask for more."""
FOREIGN = (AttributeError, IndexError, KeyError, TypeError, ValueError, OverflowError, RecursionError)
"""What a file's value of another type or size raises."""


def read_preprocess(spec: Spec, default: Preprocess) -> Preprocess:
    """Put the options of a spec over a model's own preprocessing.

    Raises:
        SpecError: If an option is out of range.
    """
    options = spec.options
    changes: dict[str, Any] = {}
    if "size" in options:
        sides = [int(s) for s in options["size"].split("x")] if _is_size(options["size"]) else []
        if not sides:
            raise SpecError(f"option size of {spec.text!r} must be PIXELS or HEIGHTxWIDTH, not {options['size']!r}")
        changes["size"] = (sides[0], sides[-1])
    if "channels" in options:
        if options["channels"] not in ("1", "3"):
            raise SpecError(f"option channels of {spec.text!r} must be 1 or 3, not {options['channels']!r}")
        changes["channels"] = int(options["channels"])
    for key in ("mean", "std"):
        if key in options:
            try:
                changes[key] = tuple(float(number) for number in options[key].split(","))
            except ValueError:
                raise SpecError(f"option {key} of {spec.text!r} must be numbers, not {options[key]!r}") from None
    if "std" in changes and min(changes["std"]) <= 0:
        raise SpecError(f"option std of {spec.text!r} must be above 0, not {options['std']!r}")
    if "interpolation" in options:
        changes["interpolation"] = read_interpolation(spec, options["interpolation"])
    if "crop" in options:
        changes["crop"] = spec.number("crop", 1.0)
        if not 0 < changes["crop"] <= 1:
            raise SpecError(f"option crop of {spec.text!r} must lie in (0, 1], not {options['crop']!r}")
    if "crop_mode" in options:
        changes["crop_mode"] = _one_of(options["crop_mode"], CropMode)
        if changes["crop_mode"] is None:
            raise SpecError(_must_be(spec, "crop_mode", CropMode, options["crop_mode"]))
    return replace(default, **changes)


def _is_size(text: str) -> bool:
    sides = text.split("x")
    return len(sides) in (1, 2) and all(side.isdigit() and int(side) > 0 for side in sides)


def read_interpolation(spec: Spec, word: str) -> Interpolation:
    """Read the name of an interpolation."""
    found: Interpolation | None = _one_of(word, Interpolation)
    if found is None:
        raise SpecError(_must_be(spec, "interpolation", Interpolation, word))
    return found


def _one_of(word: Any, words: Any) -> Any:
    """Return a word if it is one of a Literal's, else None."""
    return word if word in get_args(words) else None


def _must_be(spec: Spec, key: str, words: Any, word: str) -> str:
    return f"option {key} of {spec.text!r} must be one of {', '.join(get_args(words))}, not {word!r}"


def from_pretrained_cfg(cfg: Mapping[str, Any]) -> Preprocess:
    """Read timm's description of a model's input (`pretrained_cfg`).

    All of its fields that change evaluation pixels are read: `input_size`, `interpolation`, `crop_pct`, `crop_mode`,
    `mean` and `std`. As in timm itself, `test_input_size` and `test_crop_pct` are not used, and `fixed_input_size` only
    says that the model takes no other size. What a description leaves out is 3x224x224, bilinear, no crop, no
    normalisation; timm's own descriptions leave nothing out.

    Raises:
        ModelError: If a field has a value that timm's evaluation transform does not take.
    """
    with described_by("a pretrained_cfg"):
        channels, height, width = (int(n) for n in cfg.get("input_size") or (3, 224, 224))
        crop = float(cfg.get("crop_pct") or 1.0)
        if crop <= 0:
            raise ModelError(f"a pretrained_cfg has crop_pct {crop:g}, but it must be above 0; correct it in the model")
        own = Preprocess(
            size=(height, width),
            channels=channels,
            mean=tuple(float(m) for m in cfg.get("mean") or (0.0,)),
            std=tuple(float(s) for s in cfg.get("std") or (1.0,)),
            interpolation=_word_of(cfg, "interpolation", Interpolation),
            crop=crop,
            crop_mode=_word_of(cfg, "crop_mode", CropMode),
        )
        return require_sound(own)


@contextmanager
def described_by(source: str) -> Iterator[None]:
    """Refuse in one line a description that holds something else than belongs there: it may come from anybody."""
    try:
        yield
    except FOREIGN as error:
        why = f"{type(error).__name__}: {first_line(error)}"
        raise ModelError(
            f"{source} does not say how images are brought to the model ({why}); correct it there"
        ) from error


def require_sound(preprocess: Preprocess) -> Preprocess:
    """Return what a file says of a model's input; raise ValueError where nothing could be prepared so."""
    size, channels = preprocess.size, preprocess.channels
    for key, sound in (
        ("size", size is None or (len(size) == 2 and all(_is_count(side, LARGEST) for side in size))),
        ("channels", channels is None or _is_count(channels, MOST_CHANNELS)),
        ("mean", _are_numbers(preprocess.mean, channels)),
        ("std", _are_numbers(preprocess.std, channels) and min(preprocess.std) > 0),
        ("crop", _are_numbers((preprocess.crop,), 1) and preprocess.crop > 0),
        ("interpolation", _one_of(preprocess.interpolation, Interpolation)),
        ("crop_mode", _one_of(preprocess.crop_mode, CropMode)),
        ("kind", _one_of(preprocess.kind, Kind)),
    ):
        if not sound:
            raise ValueError(f"its {key} is {getattr(preprocess, key)!r}")
    return preprocess


def _is_count(value: Any, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most


def _are_numbers(values: Any, channels: int | None) -> bool:
    """Tell finite numbers, one for all channels or one each."""
    fits = len(values) == 1 or channels in (None, len(values))
    return fits and all(isinstance(value, int | float) and math.isfinite(value) for value in values) and bool(values)


def _word_of(cfg: Mapping[str, Any], key: str, words: Any) -> Any:
    """Read a field of a description that is one of a Literal's words, the first of them if it is not given."""
    word = cfg.get(key) or get_args(words)[0]
    if _one_of(word, words) is None:
        raise ModelError(
            f"a pretrained_cfg has {key} {word!r}, but evaluation needs one of {', '.join(get_args(words))}; "
            "correct it in the model"
        )
    return word


def unsaid(spec: Spec, preprocess: Preprocess, channels: int | None) -> tuple[str, ...]:
    """Say what a model without a description of its input gets."""
    missing = [key for key in ("mean", "std") if key not in spec.options]
    notes = []
    if missing:
        size = "" if preprocess.size else ", at the data's own size"
        notes.append(
            f"{spec.text} says nothing of its {' and '.join(missing)}: it gets pixels in [0, 1] that are "
            f"not {'normalised' if len(missing) == 2 else 'shifted' if missing == ['mean'] else 'scaled'}{size}"
        )
    if preprocess.channels is None and channels is not None:
        notes.append(f"{spec.text} takes {channels} channels and no others: images are brought to that")
    return tuple(notes)
