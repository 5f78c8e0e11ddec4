"""Samples as small pictures for people: raw pixels or written text, no model's preprocessing."""

import html
import io
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from ..files import make_folder, write_bytes
from ..types import Preprocess, Split
from .texts import TextInputs
from .views import plain_images

LONGEST = 96
"""Pixels of a picture's longer side; smaller images keep their size."""
LOSSLESS = 64
"""Up to this many pixels a picture is a PNG, above a JPEG."""
SIDE, FONT, LINE, LINES = 240, 18, 26, 12
"""Of a text's picture: pixels a side and a line, letters a line, lines."""
AT_ONCE = 64
"""Images that are read at once."""


def write_pictures(split: Split, rows: Sequence[int], folder: Path) -> dict[int, str]:
    """Write samples of a split as pictures.

    Args:
        split: Any split; a text is written into a picture.
        rows: Positions in the split; each is written once.
        folder: A run folder; the pictures go to `pictures/` in it.

    Returns:
        The file of each row, relative to the run folder, as in `{12: "pictures/test-12.png"}`.
    """
    wanted = np.unique(np.asarray(rows, np.int64))
    files: dict[int, str] = {}
    if len(wanted):
        make_folder(folder / "pictures")
    if isinstance(split.inputs, TextInputs):
        for row, text in zip(wanted.tolist(), split.inputs.texts(split.input_rows(wanted)), strict=True):
            files[row] = f"pictures/{split.name}-{row}.svg"
            write_bytes(folder / files[row], draw_text(text).encode())
        return files
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


def draw_text(text: bytes) -> str:
    """Write the beginning of a text into a picture, an SVG of plain lines; bytes that are no UTF-8 are marked."""
    plain = "".join(c if c.isprintable() else " " for c in text.decode("utf-8", "replace").replace("\n", "\u23ce "))
    lines = textwrap.wrap(plain, LINE, max_lines=LINES, placeholder=" \u2026", break_on_hyphens=False)
    spans = "".join(
        f'<tspan x="8" y="{FONT * (number + 1) + 4}">{html.escape(line)}</tspan>' for number, line in enumerate(lines)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {SIDE} {SIDE}" width="{SIDE}" height="{SIDE}">'
        f'<rect width="{SIDE}" height="{SIDE}" fill="#fff"/>'
        f'<text font-family="monospace" font-size="{FONT - 4}" fill="#111" xml:space="preserve">{spans}</text></svg>\n'
    )


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
