"""What the bytes of an image file say before it is used: its size, whether it is turned, transparent or broken."""

import hashlib
import io
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageColor, ImageOps, UnidentifiedImageError, features

from .deep import is_deep, to_eight_bits
from .pixels import VERSION

NO_PICTURES = {"EPS", "WMF", "MPEG", "BUFR", "GRIB", "HDF5"}
"""Formats that Pillow names but only other programs decode."""

ORIENTATION = 0x0112
"""The EXIF tag that says how a camera was held."""

ENDS = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}
"""With what a whole file ends; other formats have no such mark."""

PADDING = b"\0\r\n "
"""What may follow the end."""

PNG_TURNED = (b"eXIf", b"Raw profile type", b"adobe.xmp")
"""Without one of these a PNG is upright; asking Pillow would decode it."""

TAIL = 4096
"""Bytes at the end of a file that are searched for its end."""

DECODING_ERRORS = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)
"""What Pillow raises on files that are damaged or no images."""


@dataclass(frozen=True)
class PictureRules:
    """How the pixels of image files are meant."""

    channels: int = 3
    upright: bool = True
    """Whether pictures are turned as their EXIF orientation says."""
    background: tuple[int, int, int] | None = (255, 255, 255)
    """What transparent pictures are laid on; None drops their transparency."""
    white: float | None = None
    """What is white in pictures of more than 8 bits; None is 65535, or 1 for floats."""


@dataclass(frozen=True, slots=True)
class Look:
    """What one file turned out to be."""

    digest: int
    """Of its content; 64 bits."""
    aspect: float = 1.0
    """Width over height, turned upright where the rules say so."""
    turned: bool = False
    transparent: bool = False
    brightest: float | None = None
    """The largest pixel, of a picture of more than 8 bits."""
    problem: str = ""
    """Why it cannot be decoded; empty where it can, as far as a look tells."""


@cache
def decoders() -> str:
    """Name the code that makes pixels of files: another version of it may decode other pixels."""
    parts = [f"{name}{features.version(name)}" for name in ("pil", "jpg", "webp", "avif", "jpg_2000", "libtiff")]
    return f"pixels{VERSION} {' '.join(parts)}"


@cache
def formats() -> tuple[str, ...]:
    """Return the formats that Pillow can open and decode itself."""
    Image.init()
    return tuple(sorted(set(Image.OPEN) - NO_PICTURES))


@cache
def suffixes() -> frozenset[str]:
    """Return the suffixes of these formats, in small letters."""
    known = formats()
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in known)


def is_picture(path: Path) -> bool:
    """Tell whether a file of another suffix, or of none, is an image by its content."""
    try:
        with Image.open(path, formats=formats()):
            return True
    except DECODING_ERRORS:
        return False


def shown(path: Path | str) -> str:
    """Write a path so that any console shows it: bytes that are no UTF-8 are escaped."""
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def digest_of(content: bytes) -> int:
    """Hash some bytes to 64 bits."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little", signed=True)


def look_at(content: bytes, name: str, rules: PictureRules, thorough: bool = False) -> Look:
    """Look at what a file holds: its digest, its header, and whether it is whole.

    Only a file whose end does not look whole is decoded, or, if `thorough`, every file: damage elsewhere shows when the
    picture is used.

    Raises:
        DataError: If it has more than 8 bits a pixel and is not in their range: that is no damage, and the user can
            say what is meant.
    """
    digest = digest_of(content)
    try:
        with Image.open(io.BytesIO(content), formats=formats()) as image:
            orientation = _orientation(image) if rules.upright and _may_be_turned(image, content) else 1
            width, height = image.size[::-1] if orientation > 4 else image.size
            transparent = is_transparent(image)
            brightest = None
            if is_deep(image):
                to_eight_bits(image, name, rules.white)
                brightest = float(np.asarray(image).max())
            elif thorough or not _looks_whole(image, content):
                image.load()
        return Look(digest, width / height, orientation > 1, transparent, brightest)
    except DECODING_ERRORS as error:
        return Look(digest, problem=_reason(error, content))


def decode(content: bytes, name: str, rules: PictureRules) -> Image.Image:
    """Decode what a file holds to a picture of mode L or RGB: upright, and laid on a background where transparent.

    Raises:
        DataError: If it has more than 8 bits a pixel and is not in their range.
        OSError, SyntaxError, ValueError: If it cannot be decoded.
    """
    with Image.open(io.BytesIO(content), formats=formats()) as image:
        image.load()
        return flatten(image, rules, name)


def flatten(image: Image.Image, rules: PictureRules, what: str) -> Image.Image:
    """Turn a picture upright and lay it on a background, as the rules say; the mode becomes L or RGB.

    Raises:
        DataError: If it has more than 8 bits a pixel and is not in their range; `what` names it.
    """
    turned = ImageOps.exif_transpose(image) if rules.upright and _orientation(image) > 1 else image
    if is_deep(turned):
        turned = to_eight_bits(turned, what, rules.white)
    if rules.background is not None and is_transparent(turned):
        over = turned.convert("RGBA")
        turned = Image.alpha_composite(Image.new("RGBA", over.size, (*rules.background, 255)), over).convert("RGB")
    return turned.convert("L" if rules.channels == 1 else "RGB")


def read_background(word: str) -> tuple[int, int, int] | None:
    """Read the name or the #rrggbb of a colour; `none` is None.

    Raises:
        ValueError: If Pillow knows no such colour.
    """
    return None if word == "none" else ImageColor.getrgb(word)[:3]


def is_transparent(image: Image.Image) -> bool:
    """Tell whether an image has an alpha channel or a transparent colour."""
    return image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info


def _orientation(image: Image.Image) -> int:
    """Return how an image is turned: 1 upright, 2 to 4 mirrored or upside down, 5 to 8 sideways."""
    value = image.getexif().get(ORIENTATION, 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _may_be_turned(image: Image.Image, content: bytes) -> bool:
    """Tell whether a header is worth asking how its picture is turned; Pillow itself turns TIFF files."""
    if image.format == "PNG":
        return any(mark in content for mark in PNG_TURNED)
    return image.format != "TIFF"


def _looks_whole(image: Image.Image, content: bytes) -> bool:
    """Tell whether a file ends as its format does; if not, it may still be whole."""
    if image.format == "WEBP":
        return len(content) >= 8 + int.from_bytes(content[4:8], "little")
    mark = ENDS.get(image.format or "")
    return mark is not None and content[-TAIL:].rstrip(PADDING).endswith(mark)


def _reason(error: BaseException, content: bytes) -> str:
    if not content:
        return "the file is empty"
    if isinstance(error, UnidentifiedImageError):
        return "no image that Pillow knows"
    return str(error).splitlines()[0] if str(error) else type(error).__name__
