"""Pictures with more than 8 bits a pixel, or of floats: scaled to 8 bits, never cut off."""

import numpy as np
from PIL import Image

from ..errors import DataError

WHITE_OF_WHOLE, WHITE_OF_FLOATS = 65535.0, 1.0
"""What is white where nobody says it: the largest number of 16 bits, and 1."""


def is_deep(image: Image.Image) -> bool:
    """Tell whether a picture has whole numbers of more than 8 bits, or floats, as its pixels."""
    return image.mode in ("I", "F") or image.mode.startswith("I;")


def to_eight_bits(image: Image.Image, what: str, white: float | None = None) -> Image.Image:
    """Scale a deep picture to grey of 8 bits: 0 stays black, and the value of white becomes 255.

    Args:
        image: Of mode I, I;16 or F.
        what: Names it in messages.
        white: None is 65535, or 1 for floats.

    Raises:
        DataError: If a pixel lies outside of black and white: what was meant is then unknown.

    Example:
        >>> deep = Image.fromarray(np.array([[0, 32768, 65535]], np.uint16))
        >>> np.asarray(to_eight_bits(deep, "it")).tolist()
        [[0, 128, 255]]
    """
    pixels = np.asarray(image, np.float64)
    top = white or (WHITE_OF_FLOATS if image.mode == "F" else WHITE_OF_WHOLE)
    low, high = float(pixels.min()), float(pixels.max())
    if not (low >= 0 and high <= top):  # so is NaN refused
        hint = f", or say what is white, as ?white={high:g}" if low >= 0 else ""
        kind = "floats" if image.mode == "F" else "whole numbers"
        raise DataError(f"{what} has {kind} from {low:g} to {high:g} as pixels, not in [0, {top:g}]; scale them{hint}")
    return Image.fromarray(np.round(pixels * (255 / top)).astype(np.uint8))
