"""Nearly equal images: the same picture saved anew, brighter, or a little smaller.

Each image is sketched as a 16x16 grey thumbnail of mean 0 and spread 1, and as a perceptual hash: the signs of 64 fixed
random projections of that thumbnail. Two images are nearly equal if their thumbnails differ by at most `FAR` on
average; only those are compared whose hashes share one of four bands of 16 bits, so the work grows with the number of
images. benchmarks/near_duplicates.py measures what is found: 98 to 100% of copies saved as JPEG of quality 75, or with
other brightness or contrast, and of photographs also what is resized by a quarter; of different images of
Fashion-MNIST 0.2% are taken for copies. Pictures that are cut otherwise are not found.

Source: Charikar, "Similarity estimation techniques from rounding algorithms" (STOC 2002), for the hash.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt64
from torch import Tensor

from ..types import Progress, Split
from .facts import pack, recall, remember, unpack
from .pixels import pixel_code

VERSION = 1
"""Of what is taken for nearly equal; part of the key under which it is kept. Raise it when that changes."""
FAR = 0.05
"""Mean absolute difference of thumbnails of spread 1."""
BANDS, BAND_BITS = 4, 16
THUMBNAIL = 16
PROJECTIONS = torch.randn(THUMBNAIL**2, BANDS * BAND_BITS, generator=torch.Generator().manual_seed(0))
READ, READ_SIZE = 512, (64, 64)
"""Images that are read at once, and at what size where theirs differ."""
COMPARED = 8 * READ
"""Images whose sketches are held at once, to be compared with others."""
PAIRS = 1 << 18
"""Pairs that are compared at once."""
PLAIN = 2 / 255
"""Spread of grey below which an image has nothing to compare but its mean."""


@dataclass(frozen=True)
class Sketches:
    """What is held of each image of a split to find nearly equal ones."""

    hashes: UInt64[np.ndarray, " N"]
    thumbnails: Float[np.ndarray, "N p"]
    """Of mean 0 and spread 1; zeros where an image is plain."""


def near_rows(pool: Split, others: Sequence[Split], progress: Progress) -> list[Bool[np.ndarray, " N"]]:
    """Mark the images of a pool of which one of a split is nearly the same, for each of some splits.

    Each image is read once. Sketches of `COMPARED` images of the pool are held at a time, beside those of the others:
    a kilobyte each. What is found is kept for the next process that opens the same pool beside the same splits.
    """
    key = {
        "kind": "near",
        "version": VERSION,
        "pixels": pixel_code(),
        "pool": pool.fingerprint,
        "others": [split.fingerprint for split in others],
    }

    if (known := recall(key)) is not None:
        return list(unpack(known["near"], np.bool_).reshape(len(others), len(pool)))
    theirs = [sketch(split, progress, f"looking at {split.name}") for split in others]
    found = np.zeros((len(others), len(pool)), bool)
    for start in range(0, len(pool), COMPARED):
        part = range(start, min(start + COMPARED, len(pool)))
        mine = sketch(pool, progress, "looking for near duplicates", part)
        for mask, sketches in zip(found, theirs, strict=True):
            mask[part.start : part.stop] = near_any(mine, sketches)
    remember(key, {"near": pack(found)})
    return list(found)


def sketch(split: Split, progress: Progress, what: str, part: range | None = None) -> Sketches:
    """Read images of a split once, at a small size.

    Args:
        split: The images.
        progress: Told how many are read.
        what: Names the work.
        part: Which of them; None is all.
    """
    part = range(len(split)) if part is None else part
    hashes = np.empty(len(part), np.uint64)
    thumbnails = np.empty((len(part), THUMBNAIL**2), np.float32)
    for start in range(0, len(part), READ):
        rows = split.input_rows(np.asarray(part[start : start + READ]))
        grey = split.inputs.read(rows, split.inputs.size or READ_SIZE, None, "box").mean(1, keepdim=True)
        evened = _evened(F.interpolate(grey, (THUMBNAIL, THUMBNAIL), mode="bilinear", antialias=True).flatten(1))
        hashes[start : start + len(rows)] = perceptual_hash(evened)
        thumbnails[start : start + len(rows)] = evened.numpy()
        progress(what, part.start + start + len(rows), len(split))
    return Sketches(hashes, thumbnails)


def perceptual_hash(evened: Float[Tensor, "N p"]) -> UInt64[np.ndarray, " N"]:
    """Return 64 bits an image: the sign of each projection of its thumbnail."""
    bits = (evened @ PROJECTIONS > 0).numpy()
    return np.packbits(bits, axis=1, bitorder="little").view(np.uint64)[:, 0]


def _evened(pixels: Float[Tensor, "N p"]) -> Float[Tensor, "N p"]:
    """Bring each image to mean 0 and spread 1; a plain one to zeros."""
    centred = pixels - pixels.mean(1, keepdim=True)
    spread = centred.square().mean(1, keepdim=True).sqrt()
    return torch.where(spread > PLAIN, centred / spread.clamp(min=PLAIN), torch.zeros_like(centred))


def near_any(mine: Sketches, others: Sketches) -> Bool[np.ndarray, " N"]:
    """Mark the images of which one of the others is nearly the same."""
    found = np.zeros(len(mine.hashes), bool)
    for left, right in _candidates(mine.hashes, others.hashes):
        new = ~found[left]
        left, right = left[new], right[new]
        apart = np.abs(mine.thumbnails[left] - others.thumbnails[right]).mean(1)
        plain = ~mine.thumbnails[left].any(1) | ~others.thumbnails[right].any(1)
        found[left[(apart <= FAR) & ~plain]] = True
    return found


def _candidates(
    mine: UInt64[np.ndarray, " N"], others: UInt64[np.ndarray, " M"]
) -> Iterator[tuple[Int[np.ndarray, " p"], Int[np.ndarray, " p"]]]:
    """Yield pairs (position in mine, position in others) that share a band of bits, some at a time."""
    for band in range(BANDS):
        shift, mask = np.uint64(BAND_BITS * band), np.uint64((1 << BAND_BITS) - 1)
        ours, theirs = (mine >> shift) & mask, (others >> shift) & mask
        order = np.argsort(theirs, kind="stable")
        first = np.searchsorted(theirs[order], ours, "left")
        counts = np.searchsorted(theirs[order], ours, "right") - first
        ends = np.cumsum(counts)
        start = 0
        while start < len(mine):
            stop = max(start + 1, int(np.searchsorted(ends, (ends[start - 1] if start else 0) + PAIRS, "right")))
            some = counts[start:stop]
            left = np.repeat(np.arange(start, stop), some)
            within = np.arange(len(left)) - np.repeat(np.cumsum(some) - some, some)
            if len(left):
                yield left, order[np.repeat(first[start:stop], some) + within]
            start = stop
