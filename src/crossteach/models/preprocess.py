"""What a model wants done to pixels: from the options of its spec, or from timm's description."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..errors import SpecError
from ..specs import Spec
from ..types import Interpolation, Preprocess

PREPROCESS_OPTIONS = {"size", "channels", "mean", "std", "interpolation", "crop"}
"""Model options that every source takes."""


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
    return replace(default, **changes)


def _is_size(text: str) -> bool:
    sides = text.split("x")
    return len(sides) in (1, 2) and all(side.isdigit() and int(side) > 0 for side in sides)


def read_interpolation(spec: Spec, word: str) -> Interpolation:
    """Read the name of an interpolation."""
    match word:
        case "bilinear" | "bicubic" | "nearest":
            return word
    raise SpecError(f"option interpolation of {spec.text!r} must be bilinear, bicubic or nearest, not {word!r}")


def from_pretrained_cfg(cfg: Mapping[str, Any]) -> Preprocess:
    """Read timm's description of a model's input (`pretrained_cfg`)."""
    channels, height, width = (int(n) for n in cfg.get("input_size", (3, 224, 224)))
    interpolation = cfg.get("interpolation", "bilinear")
    return Preprocess(
        size=(height, width),
        channels=channels,
        mean=tuple(float(m) for m in cfg.get("mean", (0.0,))),
        std=tuple(float(s) for s in cfg.get("std", (1.0,))),
        interpolation=interpolation if interpolation in ("bilinear", "bicubic", "nearest") else "bicubic",
        crop=float(cfg.get("crop_pct") or 1.0),
    )
