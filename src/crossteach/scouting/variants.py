"""Other preprocessings that a model may have been trained with, each one change away from its own."""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np

from ..data.views import plain_images
from ..models import Opened
from ..models.preprocess import from_pretrained_cfg
from ..specs import with_options
from ..types import CropMode, Interpolation, Preprocess, Split

AT_ONCE = 128
"""Samples that are read at once."""
NORMALISATIONS = {
    "none": ((0.0,), (1.0,)),
    "ImageNet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "to [-1, 1]": ((0.5,), (0.5,)),
    "CLIP": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "pixels of 0 to 255": ((0.0,), (1 / 255,)),
}
INTERPOLATIONS: tuple[Interpolation, ...] = ("bilinear", "bicubic", "nearest")
CROPS = (1.0, 0.875)
SIZES = (3 / 4, 7 / 8, 8 / 7, 4 / 3)
"""Shares of a model's own size that are tried."""


@dataclass(frozen=True)
class Variant:
    """Another preprocessing."""

    what: str
    preprocess: Preprocess
    flipped: bool = False
    """Whether the channels are in the other order; no option asks for that."""


def variants(model: Opened, split: Split) -> Iterator[Variant]:
    """List preprocessings that may suit a model better than its own; none of one that reads text.

    Args:
        model: Names its own.
        split: The samples; their size, channels and statistics are read.
    """
    own = model.preprocess
    if own.kind != "image":
        return
    yield from cheap_variants(model, split)
    yield from _greys(own, split)
    size = own.size or split.inputs.size
    if size is not None:
        sizes = {(round(size[0] * share), round(size[1] * share)) for share in SIZES}
        if split.inputs.size is not None:
            sizes.add(split.inputs.size)
        for sides in sorted(sizes - {size}):
            yield Variant(f"images of {sides[0]}x{sides[1]} pixels", replace(own, size=sides))
    if own.size is not None:
        yield from _resizings(own, split)


def cheap_variants(model: Opened, split: Split) -> Iterator[Variant]:
    """List those that are tried before every transfer: what the model itself names, and what users mostly mistake."""
    own, named = model.preprocess, getattr(getattr(model, "module", None), "pretrained_cfg", None)
    if named and (itself := from_pretrained_cfg(named)) != own:
        yield Variant("the size, crop and normalisation that the model itself names", itself)
    yield from _normalisations(own, split)
    if (own.channels or split.inputs.channels) == 3 and split.inputs.channels == 3:
        yield Variant("blue before red", own, flipped=True)


def _normalisations(own: Preprocess, split: Split) -> Iterator[Variant]:
    """List the normalisations in common use, and that of the samples, which the model does not ask for."""
    pixels = plain_images(split, np.arange(min(AT_ONCE, len(split))), own)
    mean, spread = (each.tolist() for each in (pixels.mean((0, 2, 3)), pixels.std((0, 2, 3)).clamp(min=1e-3)))
    known = {**NORMALISATIONS, "as these samples are": (_short(mean), _short(spread))}
    for name, (centre, scale) in known.items():
        if len(centre) in (1, own.channels or split.inputs.channels) and (centre, scale) != (own.mean, own.std):
            yield Variant(f"another normalisation ({name})", replace(own, mean=centre, std=scale))


def _short(numbers: list[float]) -> tuple[float, ...]:
    """Round numbers to what a person types."""
    return tuple(float(f"{number:.4g}") for number in numbers)


def _greys(own: Preprocess, split: Split) -> Iterator[Variant]:
    channels = own.channels or split.inputs.channels
    other = 4 - channels
    if {len(own.mean), len(own.std)} <= {1, other}:
        yield Variant("grey images" if other == 1 else "grey images in three channels", replace(own, channels=other))


def _resizings(own: Preprocess, split: Split) -> Iterator[Variant]:
    """Vary how images are brought to a model's size, where that changes them."""
    there, size = split.inputs.size, own.size
    assert size is not None
    if there != size or own.crop != 1.0:
        for interpolation in INTERPOLATIONS:
            if interpolation != own.interpolation:
                yield Variant(f"{interpolation} resizing", replace(own, interpolation=interpolation))
    for crop in CROPS:
        if crop != own.crop:
            yield Variant(f"a central crop of {crop:g}", replace(own, crop=crop))
    if there is None or there[0] * size[1] != there[1] * size[0]:
        for mode in get_args(CropMode):
            if mode != own.crop_mode:
                yield Variant(f"crop mode {mode}", replace(own, crop_mode=mode))


def how_to_ask(model: Opened, variant: Variant) -> tuple[str, str | None]:
    """Say how a user asks a model for a variant.

    Returns:
        What to do, in words; and the spec to type in place of the model's own, None where no spec says it.
    """
    if variant.flipped:
        return "turn the channels over in the model, as images.flip(1): no option does", None
    if ":" not in model.spec:  # the caller's own module or function
        return f"give preprocess={variant.preprocess}", None
    spec = with_options(model.spec, _options(model.preprocess, variant.preprocess))
    return f"type {shlex.quote(spec)} in its place", spec


def _options(own: Preprocess, wanted: Preprocess) -> dict[str, str]:
    """Write what differs between two preprocessings as options of a spec."""
    written = {
        "size": "" if wanted.size is None else "x".join(map(str, dict.fromkeys(wanted.size))),
        "channels": str(wanted.channels or ""),
        "mean": _joined(wanted.mean),
        "std": _joined(wanted.std),
        "interpolation": wanted.interpolation,
        "crop": f"{wanted.crop:.8g}",
        "crop_mode": wanted.crop_mode,
    }
    return {key: value for key, value in written.items() if value and getattr(wanted, key) != getattr(own, key)}


def _joined(numbers: tuple[float, ...]) -> str:
    return ",".join(f"{number:.8g}" for number in numbers)
