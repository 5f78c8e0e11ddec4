"""How a row of logits is kept: dense, or as its largest logits and the sum of the others."""

import math
import re
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, UInt8

from ..errors import StoreError

LOWEST = -60000.0
"""Lowest kept logit below the row's maximum: float16 ends at -65504."""
DENSE_CLASSES = 100
"""Up to so many classes `auto` keeps all logits: the largest 20 would be no five times smaller."""
DENSE_BYTES = 1 << 30
"""One view of a tutor that would take more is kept as the largest logits by `auto`."""
AUTO_TOP = 20
"""How many logits of a row `auto` then keeps."""
RESTS = (1.0, 2.0, 4.0)
"""Temperatures at which the sum of the other logits' exponentials is kept."""
BUDGET_SHARE = 64
"""A view is no more than this part of a store's budget, or `auto` keeps the largest logits."""


@dataclass(frozen=True)
class Layout:
    """How the rows of a table lie on disk: `float32`, `float16`, or `top20`.

    `top20` keeps the 20 largest logits of a row, in float16, with their classes, and of all others the logarithm of the
    sum of their exponentials at the temperatures 1, 2 and 4, in float32. Read back for one temperature, the others
    share their sum evenly. The softmax at that temperature then has the probability of each of the 20 classes, and that
    of all others together, as float16 has them; so do the ratios among the 20 at any temperature. The sum is exact at
    1, 2, 4 and in the limit, within 3% between these, and a guess below 1. Never exact are single probabilities among
    the others, nor their sum at another temperature than the one that they are read for.

    Example:
        >>> Layout("float16", 1000).row_bytes, Layout("top20", 1000).row_bytes
        (2000, 92)
    """

    dtype: str
    classes: int

    def __post_init__(self) -> None:
        if self.dtype not in ("float32", "float16") and not 0 < self.top < self.classes:
            raise StoreError(
                f"rows of {self.classes} logits are kept as float32, float16, or topN with N below {self.classes}, "
                f"not {self.dtype!r}"
            )

    @cached_property
    def top(self) -> int:
        """How many logits of a row are kept; 0 is all."""
        found = re.fullmatch(r"top(\d+)", self.dtype)
        return int(found[1]) if found else 0

    @cached_property
    def record(self) -> np.dtype:
        """What one row is on disk."""
        if not self.top:
            return np.dtype((self.dtype, (self.classes,)))
        index = "<u2" if self.classes <= 1 << 16 else "<u4"
        return np.dtype(
            [("rest", "<f4", (len(RESTS),)), ("classes", index, (self.top,)), ("logits", "<f2", (self.top,))]
        )

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return self.record.itemsize

    def encode(self, logits: Float[np.ndarray, "n C"]) -> UInt8[np.ndarray, "n B"]:
        """Return rows as they are kept."""
        if not self.top:
            return np.array(logits, self.dtype, order="C").view(np.uint8).reshape(len(logits), self.row_bytes)
        import torch  # here: `crossteach store ls` does without it

        scores = torch.from_numpy(np.asarray(logits, np.float32))
        largest = scores.topk(self.top, 1)
        rows = np.empty(len(logits), self.record)
        rows["logits"] = largest.values.clamp(min=LOWEST).half().numpy()
        rows["classes"] = largest.indices.numpy()
        others = scores.scatter(1, largest.indices, -math.inf)
        rests = torch.stack([(others / temperature).logsumexp(1) for temperature in RESTS], 1)
        rows["rest"] = rests.clamp(min=LOWEST).numpy()
        return rows.view(np.uint8).reshape(len(logits), self.row_bytes)

    def decode(self, kept: UInt8[np.ndarray, "n B"], temperature: float = 1.0) -> Float[np.ndarray, "n C"]:
        """Return the logits of rows: in their own precision where all are kept, else in float32.

        Args:
            kept: Rows as `encode` returns them.
            temperature: That the logits will be divided by: where not all are kept, the others have the right sum then.
        """
        if not self.top:
            return kept.reshape(-1).view(self.dtype).reshape(len(kept), self.classes)
        rows = kept.reshape(-1).view(self.record)
        others = _even_logits(rows["rest"], self.classes - self.top, temperature)
        logits = np.repeat(others[:, None], self.classes, 1)
        np.put_along_axis(logits, rows["classes"].astype(np.int64), rows["logits"].astype(np.float32), 1)
        return logits


def _even_logits(rests: Float[np.ndarray, "n R"], count: int, temperature: float) -> Float[np.ndarray, " n"]:
    """Return the logit that so many classes share if the sum of their exponentials is to be right at a temperature.

    The logarithm of that sum is a smooth function of 1/T: a cubic goes through the three that are kept and log(count),
    which it is at 0. Above 1 it goes on straight.
    """
    at, known = (0.0, *(1 / each for each in reversed(RESTS))), np.float32(math.log(count))
    values = [np.full(len(rests), known), *rests.T[::-1]]
    wanted = 1 / temperature
    if wanted > 1:
        slope = (values[3] - values[2]) / np.float32(at[3] - at[2])
        return np.asarray((values[3] + slope * np.float32(wanted - 1) - known) * np.float32(temperature))
    total = np.zeros(len(rests), np.float32)
    for i, value in enumerate(values):
        weight = math.prod((wanted - at[j]) / (at[i] - at[j]) for j in range(len(at)) if j != i)
        if weight:
            total += np.float32(weight) * value
    return (total - known) * np.float32(temperature)


def layout_of(keep: str, samples: int, classes: int, knows_all: bool = True, budget: int | None = None) -> Layout:
    """Return how a tutor's answers on one view of a split are kept.

    Args:
        keep: `auto`, `dense`, or how many of the largest logits of a row are kept: the setting `store.keep`.
        samples: Of the split.
        classes: Of the tutor.
        knows_all: Whether it knows all classes; one that does not is kept dense, as classes that it does not know
            take no part in what the others share.
        budget: Bytes that the store may take, if it has a limit.

    Example:
        >>> [layout_of("auto", 1_281_167, classes).dtype for classes in (100, 1000)]
        ['float16', 'top20']
        >>> layout_of("5", 1000, 10).dtype
        'top5'
    """
    dense = Layout("float16", classes)
    if keep == "dense" or not knows_all:
        return dense
    if keep != "auto":
        return Layout(f"top{keep}", classes) if int(keep) < classes else dense
    most = DENSE_BYTES if budget is None else min(DENSE_BYTES, budget // BUDGET_SHARE)
    return dense if classes <= DENSE_CLASSES or samples * dense.row_bytes <= most else Layout(f"top{AUTO_TOP}", classes)
