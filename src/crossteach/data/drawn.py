"""Views that have been drawn, kept while memory is spared for them: a training shows them again."""

import weakref
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..types import Split

KEPT_BYTES = 512 << 20
"""Bytes of drawn pixels that a process keeps."""

Draw = Callable[[Int[np.ndarray, " n"]], Float[Tensor, "n c h w"]]
"""Positions in a split to the pixels of one view of each; the same for a sample in any batch."""


@dataclass(frozen=True)
class DrawnView:
    """One view of every sample of a split, as far as it has been drawn."""

    split: weakref.ref[Split]
    key: tuple[object, ...]
    pixels: Float[Tensor, "N c h w"]
    known: np.ndarray

    def read(self, index: Int[np.ndarray, " n"], draw: Draw) -> Float[Tensor, "n c h w"]:
        """Return the pixels of some samples, drawing those that are not known."""
        new = index[~self.known[index]]
        if len(new):
            self.pixels[torch.from_numpy(new)] = draw(new)
            self.known[new] = True
        return self.pixels[torch.from_numpy(index)]


_KEPT: list[DrawnView] = []
"""Those of this process, the one begun last at the end."""


def size_of(split: Split) -> int:
    """Return the bytes of one drawn view of every sample; the images are in memory and of one size."""
    assert split.inputs.size is not None
    return 4 * len(split) * split.inputs.channels * split.inputs.size[0] * split.inputs.size[1]


def drawn_view(split: Split, key: tuple[object, ...]) -> DrawnView:
    """Return what is kept of a view, or begin it in the place of those begun first.

    Args:
        split: Its samples; when nothing refers to it any more, its views go when the next view begins.
        key: What the pixels depend on beside the split.
    """
    for view in _KEPT:
        if view.key == key and view.split() is split:
            return view
    assert split.inputs.size is not None
    view = DrawnView(
        weakref.ref(split),
        key,
        torch.empty(len(split), split.inputs.channels, *split.inputs.size),
        np.zeros(len(split), bool),
    )
    _KEPT[:] = [kept for kept in _KEPT if kept.split() is not None]
    while _KEPT and view.pixels.nbytes + sum(kept.pixels.nbytes for kept in _KEPT) > KEPT_BYTES:
        del _KEPT[0]
    _KEPT.append(view)
    return view
