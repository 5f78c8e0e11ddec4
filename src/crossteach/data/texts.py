"""Text: strings and bytes, on the same way as pixels.

A batch of texts is a tensor [n, 1, 1, L], one number a byte, -1 behind a text's end: whatever cuts, joins, stores or
shuffles batches of images does so with texts. Only a model with a tokenizer reads it, and makes of it what it takes.
"""

import hashlib
import re
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..errors import DataError
from ..types import Interpolation, Kind, Preprocess, Size
from .look import digest_of

LONGEST = 4096
"""Bytes of a text that are kept unless more are asked for."""
BEHIND = -1
"""Stands behind the end of a text."""
SPACE = re.compile(r"[\W\d_]+")
"""What two texts may differ in and be nearly the same."""


class TextInputs:
    """Texts in memory, one after the other."""

    kind: Kind = "text"
    channels = 1

    def __init__(self, texts: Sequence[object], what: str, longest: int = LONGEST) -> None:
        """Take texts; strings are kept as UTF-8.

        Args:
            texts: In the order of the split.
            what: Names them in messages.
            longest: Bytes that are kept of each; `cut` says how many texts had more.

        Raises:
            DataError: If one of them is neither a string nor bytes.
        """
        encoded = [_bytes_of(text, what) for text in texts]
        self.cut = sum(len(text) > longest for text in encoded)
        encoded = [text[:longest] for text in encoded]
        self._ends = np.cumsum([0, *map(len, encoded)])
        self._bytes = np.frombuffer(b"".join(encoded), np.uint8)
        self.size: Size | None = (1, max(1, int(np.diff(self._ends).max(initial=1))))
        hashed = hashlib.blake2b(f"text{self.size}".encode() + self._ends.tobytes(), digest_size=16)
        hashed.update(self._bytes.tobytes())
        self.fingerprint = hashed.hexdigest()

    def __len__(self) -> int:
        return len(self._ends) - 1

    def texts(self, rows: Int[np.ndarray, " n"]) -> list[bytes]:
        """Return some texts."""
        return [self._bytes[self._ends[row] : self._ends[row + 1]].tobytes() for row in rows.tolist()]

    def aspect(self, rows: Int[np.ndarray, " n"]) -> Float[Tensor, " n"]:
        """Width over height; nothing of a text depends on it."""
        return torch.ones(len(rows))

    def read(
        self,
        rows: Int[np.ndarray, " n"],
        size: Size | None,
        boxes: Float[Tensor, "n 4"] | None,
        interpolation: Interpolation = "bilinear",
    ) -> Float[Tensor, "n c h w"]:
        """Read texts as a batch; they have no size to be brought to, and no box is cut out of them."""
        assert self.size is not None
        return to_batch(self.texts(rows), self.size[1])

    def evaluation(self, rows: Int[np.ndarray, " n"], preprocess: Preprocess) -> Float[Tensor, "n c h w"]:
        """Read texts as a batch: a model's own tokenizer does the rest."""
        return self.read(rows, None, None)

    @cached_property
    def keys(self) -> Int[np.ndarray, " N"]:
        """A number for each text: equal texts have equal ones, and others nearly always another."""
        return self.digests(np.arange(len(self)))

    def digests(self, rows: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
        """Hash some texts."""
        return np.fromiter((digest_of(text) for text in self.texts(rows)), np.int64, len(rows))

    def near_digests(self, rows: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
        """Hash the letters of some texts: case, spaces, digits and signs count for nothing beside them."""
        whole = self.texts(rows)
        plain = (SPACE.sub(" ", text.decode("utf-8", "replace")).strip().casefold().encode() for text in whole)
        return np.fromiter((digest_of(p or text) for p, text in zip(plain, whole, strict=True)), np.int64, len(rows))


def _bytes_of(text: object, what: str) -> bytes:
    if isinstance(text, str):
        return text.encode("utf-8", "surrogateescape")
    if isinstance(text, bytes | bytearray):
        return bytes(text)
    raise DataError(f"{what} must be texts (strings or bytes), but {type(text).__name__} is among them; remove it")


def to_batch(texts: Sequence[bytes], longest: int | None = None) -> Float[Tensor, "n 1 1 L"]:
    """Write texts as a batch, each cut to the longest length; None is that of the longest among them.

    Example:
        >>> to_batch([b"no", b"yes"])[:, 0, 0].int().tolist()
        [[110, 111, -1], [121, 101, 115]]
    """
    longest = max(1, *map(len, texts)) if longest is None else longest
    batch = np.full((len(texts), longest), BEHIND, np.float32)
    for row, text in zip(batch, texts, strict=True):
        held = np.frombuffer(text[:longest], np.uint8)
        row[: len(held)] = held
    return torch.from_numpy(batch)[:, None, None]


def from_batch(batch: Float[Tensor, "n 1 1 L"]) -> list[bytes]:
    """Return the texts of a batch.

    Example:
        >>> from_batch(to_batch([b"no", b"yes", b""]))
        [b'no', b'yes', b'']
    """
    values = batch[:, 0, 0].cpu().numpy()
    lengths = (values >= 0).sum(1).tolist()
    plain = values.astype(np.uint8)
    return [row[:length].tobytes() for row, length in zip(plain, lengths, strict=True)]


def join(batches: Sequence[Float[Tensor, "_ 1 1 _"]]) -> Float[Tensor, "N 1 1 M"]:
    """Put batches of texts of other lengths below one another."""
    longest = max(batch.shape[3] for batch in batches)
    padded = [torch.nn.functional.pad(b, (0, longest - b.shape[3]), value=float(BEHIND)) for b in batches]
    return torch.cat(padded)


FIXED = (
    b"The quick brown fox jumps over the lazy dog.",
    "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich.".encode(),
    "Быстрая лиса прыгает через ленивую собаку".encode(),
    b"def area(radius):\n    return 3.14159 * radius ** 2\n",
    b"<html><body><p>2026-01-01, 12:00</p></body></html>",
    "天地玄黃，宇宙洪荒。".encode(),
    b"select name, count(*) from models group by name;",
    b"a",
)
"""What a model that reads text is asked whenever it is opened: the same on every machine."""


def fixed_texts() -> Float[Tensor, "8 1 1 L"]:
    """Return the fixed texts as a batch."""
    return to_batch(FIXED)


def drop_words(
    batch: Float[Tensor, "n 1 1 L"], u: Float[Tensor, "n draws"], strength: float = 1.0
) -> Float[Tensor, "n 1 1 L"]:
    """Leave out each word, with the space before it, with a chance of 10%; a text never gets empty by it."""
    values = batch[:, 0, 0]
    starts = (values == ord(" ")).cumsum(1) % u.shape[1]
    dropped = (u.gather(1, starts) < 0.1 * strength) & (values >= 0)
    dropped &= ~dropped.eq(values >= 0).all(1, keepdim=True)
    return _without(values, dropped)


def drop_span(
    batch: Float[Tensor, "n 1 1 L"], u: Float[Tensor, "n draws"], strength: float = 1.0
) -> Float[Tensor, "n 1 1 L"]:
    """Leave out one stretch of up to 15% of the text, anywhere in it."""
    values = batch[:, 0, 0]
    length = (values >= 0).sum(1)
    span = (length * u[:, 0] * (0.15 * min(strength, 6.0))).long()
    first = ((length - span) * u[:, 1]).long()
    place = torch.arange(values.shape[1])[None]
    return _without(values, (place >= first[:, None]) & (place < (first + span)[:, None]))


def _without(values: Float[Tensor, "n L"], dropped: Tensor) -> Float[Tensor, "n 1 1 L"]:
    """Close the gaps that dropped bytes leave."""
    order = dropped.to(torch.int8).argsort(dim=1, stable=True)
    closed = values.masked_fill(dropped, float(BEHIND)).gather(1, order)
    return closed[:, None, None].contiguous()
