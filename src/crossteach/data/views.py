"""Seeded views: one augmentation of one sample, the same in any process, order or batch.

A view's random numbers come from a counter-based generator keyed by (seed, sample id, view number): nothing is
drawn from a shared stream, so nothing depends on what was drawn before.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int, UInt64
from torch import Tensor

from ..code import read_code
from ..config import ViewsConfig
from ..errors import ConfigError
from ..types import Interpolation, Kind, Preprocess, Size, Split, Splits
from .drawn import KEPT_BYTES, drawn_view, size_of
from .pixels import central_boxes, warp
from .texts import drop_span, drop_words

VERSION = 1
"""Of the code below; part of the store's key. Raise it when a view's pixels change."""

LOTS = 2**32
"""Added to a run's seed: no seed of views reaches it."""

GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mix(counter: UInt64[np.ndarray, "..."]) -> UInt64[np.ndarray, "..."]:
    """Scramble 64-bit counters (the SplitMix64 finaliser: Steele, Lea and Flood, OOPSLA 2014)."""
    mixed = counter ^ (counter >> np.uint64(30))
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return np.asarray(mixed)


def uniforms(
    seed: int, ids: Int[np.ndarray, " n"], numbers: Int[np.ndarray, " n"], draws: int
) -> Float[Tensor, "n draws"]:
    """Draw `draws` uniform numbers in [0, 1) for each (seed, sample id, view number), the same on any machine."""
    key = _mix(np.array([seed], np.uint64) + GOLDEN)
    key = _mix(key ^ (ids.astype(np.uint64) * GOLDEN))
    key = _mix(key + numbers.astype(np.uint64) * GOLDEN)
    table = _mix(key[:, None] + _steps(draws))
    return torch.from_numpy((table >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24))


@lru_cache
def _steps(draws: int) -> UInt64[np.ndarray, " draws"]:
    return np.arange(1, draws + 1, dtype=np.uint64) * GOLDEN


WORD_DRAWS = 64
"""Uniform numbers for the words of a text; later words take them again."""
TEXT_VIEWS = {"words": drop_words, "span": drop_span}

Pixels = Callable[[Float[Tensor, "n c h w"], Float[Tensor, "n draws"]], Float[Tensor, "n c h w"]]
Boxes = Callable[[Float[Tensor, " n"], Float[Tensor, "n draws"]], Float[Tensor, "n 4"]]


@dataclass(frozen=True)
class Augmentation:
    """How random numbers become a view: a crop box first, taken while decoding, then pixels, a batch at a time."""

    name: str
    draws: int
    """How many uniform numbers a view takes."""
    pixels: Pixels
    """(images in [0, 1], uniforms [n, draws]) -> images."""
    boxes: Boxes | None = None
    """(aspect ratios, uniforms [n, draws]) -> boxes; None keeps the whole image."""
    kind: Kind | None = "image"
    """What it is made for; None is both."""


def _between(low: float, high: float, u: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    return low + (high - low) * u


def _mean(images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 1 1 1"]:
    """Average each image; axis by axis, as a sum over several would depend on batch and threads."""
    return images.mean(3, keepdim=True).mean(2, keepdim=True).mean(1, keepdim=True)


def small_warp(
    images: Float[Tensor, "n c h w"], u: Float[Tensor, "n draws"], strength: float = 1.0
) -> Float[Tensor, "n c h w"]:
    """Shift by up to 6%, scale by up to 10%, rotate by up to 8 degrees, change contrast by up to 30%. No flips."""
    angle = _between(-1, 1, u[:, 0]) * (math.radians(8) * strength)
    x_scale = 1 + _between(-0.1, 0.1, u[:, 1]) * strength
    y_scale = x_scale * (1 + _between(-0.05, 0.05, u[:, 2]) * strength)
    x_shift, y_shift = (_between(-0.12, 0.12, u[:, i]) * strength for i in (3, 4))  # the image is 2 wide
    cos, sin = torch.cos(angle), torch.sin(angle)
    rows = [cos / x_scale, -sin / x_scale, x_shift, sin / y_scale, cos / y_scale, y_shift]
    warped = warp(images, torch.stack(rows, dim=1).view(-1, 2, 3), (images.shape[2], images.shape[3]))
    gain = (1 + _between(-0.3, 0.3, u[:, 5]) * strength)[:, None, None, None]
    middle = _mean(warped)
    return ((warped - middle) * gain + middle).clamp_(0, 1)


def resized_crop_boxes(
    aspect: Float[Tensor, " n"], u: Float[Tensor, "n draws"], strength: float = 1.0
) -> Float[Tensor, "n 4"]:
    """Choose boxes of 35 to 100% of the area and an aspect ratio between 3/4 and 4/3."""
    area = _between(1 - 0.65 * min(strength, 1.5), 1, u[:, 0])
    ratio = torch.exp(_between(-1, 1, u[:, 1]) * math.log(4 / 3)) / aspect
    width, height = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
    left, top = (1 - width) * u[:, 2], (1 - height) * u[:, 3]
    return torch.stack([left, top, left + width, top + height], dim=1)


def flip_and_colour(
    images: Float[Tensor, "n c h w"], u: Float[Tensor, "n draws"], strength: float = 1.0
) -> Float[Tensor, "n c h w"]:
    """Mirror every other image; change brightness, contrast and saturation by up to 20%."""
    images = torch.where((u[:, 4] < 0.5)[:, None, None, None], images.flip(3), images)
    bright, contrast, colour = ((1 + _between(-0.2, 0.2, u[:, i]) * strength)[:, None, None, None] for i in (5, 6, 7))
    images = images * bright
    middle = _mean(images)
    images = (images - middle) * contrast + middle
    grey = images.mean(dim=1, keepdim=True)
    return ((images - grey) * colour + grey).clamp_(0, 1)


def unchanged(images: Float[Tensor, "n c h w"], u: Float[Tensor, "n draws"]) -> Float[Tensor, "n c h w"]:
    """Return the images as they are."""
    return images


def augmentation(name: str, strength: float = 1.0) -> Augmentation:
    """Find an augmentation: `warp`, `crop`, `none`, for text `words` or `span`, or a user's own `FILE.py:FUNCTION`.

    A user's function takes images [n, c, h, w] in [0, 1], or texts as bytes (see `data.texts`), and uniform numbers
    [n, draws], and returns the same kind; its attribute `draws` says how many numbers it wants (16 if it says nothing).
    It must draw no numbers itself.

    Raises:
        ConfigError: If there is none of that name.
    """
    if name == "warp":
        return Augmentation(f"warp*{strength:g}", 6, partial(small_warp, strength=strength))
    if name == "crop":
        boxes = partial(resized_crop_boxes, strength=strength)
        return Augmentation(f"crop*{strength:g}", 8, partial(flip_and_colour, strength=strength), boxes)
    if name in TEXT_VIEWS:
        return Augmentation(
            f"{name}*{strength:g}", WORD_DRAWS, partial(TEXT_VIEWS[name], strength=strength), kind="text"
        )
    if name == "none":
        return Augmentation("none", 1, unchanged, kind=None)
    path, _, function = name.rpartition(":")
    if not path.endswith(".py") or not Path(path).is_file():
        raise ConfigError(f"views.augmentation must be warp, crop, none, words, span or FILE.py:FUNCTION, not {name!r}")
    code = read_code(path, "views.augmentation", ConfigError)
    pixels = code.function(function)
    return Augmentation(f"{function}#{code.hash}", int(getattr(pixels, "draws", 16)), pixels, kind=None)


@dataclass(frozen=True)
class ViewBatch:
    """One view of each of n samples; every model asks for it at its own size."""

    split: Split
    index: Int[np.ndarray, " n"]
    numbers: Int[np.ndarray, " n"]
    seed: int
    augmentation: Augmentation
    keep: bool = False
    """Whether its pixels are kept for the next time: the images are in memory, and few views of them are shown."""
    _drawn: dict[tuple[Size | None, Interpolation | None], Tensor] = field(default_factory=dict, repr=False)

    def images(self, preprocess: Preprocess) -> Float[Tensor, "n c h w"]:
        """Return the pixels in [0, 1] at this model's size: the same box for every model, resized its own way."""
        drawn = (None, None) if self.split.inputs.size is not None else (preprocess.size, preprocess.interpolation)
        if drawn not in self._drawn:
            shown = set(self.numbers.tolist())
            if self.keep and len(shown) == 1:
                key = self.seed, self.augmentation.name, shown.pop()
                self._drawn[drawn] = drawn_view(self.split, key).read(self.index, self._draw_again)
            else:
                self._drawn[drawn] = self._draw(self.index, self.numbers, *drawn)
        return self._drawn[drawn]

    def _draw_again(self, index: Int[np.ndarray, " m"]) -> Float[Tensor, "m c h w"]:
        """Draw other samples, or some of them, in the same view."""
        return self._draw(index, np.full(len(index), self.numbers[0]), None, None)

    def _draw(
        self,
        index: Int[np.ndarray, " m"],
        numbers: Int[np.ndarray, " m"],
        size: Size | None,
        interpolation: Interpolation | None,
    ) -> Float[Tensor, "m c h w"]:
        inputs, rows = self.split.inputs, self.split.input_rows(index)
        u = uniforms(self.seed, self.split.ids[index], numbers, self.augmentation.draws)
        boxes = self.augmentation.boxes(inputs.aspect(rows), u) if self.augmentation.boxes else None
        if boxes is None and inputs.size is None:
            boxes = central_boxes(inputs.aspect(rows))
        images = inputs.read(rows, size, boxes, interpolation or "bilinear")
        return self.augmentation.pixels(images, u).contiguous()  # torch crashes on some other layouts in training

    def chance(self, seed: int) -> Float[Tensor, " n"]:
        """Return a uniform number for each view, from another stream than its pixels: for what a run draws by lot."""
        lots = uniforms(LOTS + seed, self.split.ids[self.index], self.numbers, 1)
        return lots[:, 0]


@dataclass(frozen=True)
class Views:
    """All views of a data set: `count` for each sample, or an endless supply where count is 0."""

    seed: int
    count: int
    augmentation: Augmentation
    first: int = 0
    """Which view the first epoch shows."""
    keep: str = "auto"
    """How the store keeps what tutors say of them: the setting `store.keep`."""

    def kept(self, count: int) -> "Views":
        """Return so many views of each sample; where nothing is changed one is all there is, and 0 stays endless.

        Example:
            >>> Views(0, 4, augmentation("none")).kept(6).count, Views(0, 4, augmentation("warp")).kept(6).count
            (1, 6)
        """
        return replace(self, count=min(count, 1) if self.augmentation.name == "none" else count)

    @property
    def key(self) -> str:
        """What a stored logit on a view depends on, beside model and data."""
        return f"views{VERSION}-{self.augmentation.name}-seed{self.seed}"

    def batch(self, split: Split, index: Int[np.ndarray, " n"], numbers: Int[np.ndarray, " n"]) -> ViewBatch:
        """Return view number `numbers[i]` of the sample at `index[i]`; pixels are made when they are asked for."""
        keep = self.count > 0 and split.inputs.size is not None and self.count * size_of(split) <= KEPT_BYTES
        return ViewBatch(split, index, numbers, self.seed, self.augmentation, keep)

    def numbers(self, epoch: int, n: int) -> Int[np.ndarray, " n"]:
        """Return which view each sample shows in an epoch: they take turns, or are always new."""
        number = self.first + epoch
        return np.full(n, number % self.count if self.count else number, dtype=np.int64)

    def shown(self, epochs: int) -> tuple[int, ...]:
        """Return the numbers of the views that so many epochs show, ascending; all views are kept, so count is not 0.

        Example:
            >>> Views(0, 4, augmentation("none"), first=3).shown(2)
            (0, 3)
        """
        return tuple(sorted({(self.first + epoch) % self.count for epoch in range(min(epochs, self.count))}))


def views_of(config: ViewsConfig, data: Splits) -> Views:
    """Return the views that a transfer with these settings shows of this data.

    Raises:
        ConfigError: If there is no such augmentation.
    """
    name = data.augmentation if config.augmentation == "auto" else config.augmentation
    views = Views(config.seed, config.count, augmentation(name, config.strength), config.first)
    return views.kept(config.count)


def plain_images(split: Split, index: Int[np.ndarray, " n"], preprocess: Preprocess) -> Float[Tensor, "n c h w"]:
    """Read samples as a model is evaluated on them: resized and cropped its own way, nothing random."""
    return split.inputs.evaluation(split.input_rows(index), preprocess)
