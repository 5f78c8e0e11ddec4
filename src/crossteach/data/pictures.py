"""Samples as small pictures for people: raw pixels, no model's preprocessing."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from ..files import make_folder, write_bytes
from ..types import Preprocess, Split
from .views import plain_images

LONGEST = 96
"""Pixels of a picture's longer side; smaller images keep their size."""
LOSSLESS = 64
"""Up to this many pixels a picture is a PNG, above a JPEG."""
AT_ONCE = 64
"""Images that are read at once."""


def write_pictures(split: Split, rows: Sequence[int], folder: Path) -> dict[int, str]:
    """Write samples of a split as pictures.

    Args:
        split: Any split of images.
        rows: Positions in the split; each is written once.
        folder: A run folder; the pictures go to `pictures/` in it.

    Returns:
        The file of each row, relative to the run folder, as in `{12: "pictures/test-12.png"}`.
    """
    wanted = np.unique(np.asarray(rows, np.int64))
    files: dict[int, str] = {}
    if len(wanted):
        make_folder(folder / "pictures")
    size = None if split.inputs.size is not None else (LONGEST, LONGEST)
    for start in range(0, len(wanted), AT_ONCE):
        part = wanted[start : start + AT_ONCE]
        images = plain_images(split, part, Preprocess(size=size))
        pixels = (images * 255).round().byte().permute(0, 2, 3, 1).numpy()
        for row, image in zip(part.tolist(), pixels, strict=True):
            suffix, content = encode_picture(image)
            files[row] = f"pictures/{split.name}-{row}.{suffix}"
            write_bytes(folder / files[row], content)
    return files


def encode_picture(pixels: UInt8[np.ndarray, "h w c"]) -> tuple[str, bytes]:
    """Return a picture's suffix and its bytes, no longer than `LONGEST` on either side."""
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    if max(image.size) > LONGEST:
        image.thumbnail((LONGEST, LONGEST), Image.Resampling.BILINEAR)
    small = max(image.size) <= LOSSLESS
    buffer = io.BytesIO()
    if small:
        image.save(buffer, "PNG", optimize=True)
    else:
        image.save(buffer, "JPEG", quality=80)
    return ("png" if small else "jpg"), buffer.getvalue()
