"""Pictures of many sizes: each is cut and resized as it is read, whether it comes from a file or from a data set."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from ..errors import DataError
from ..types import Interpolation, Kind, Preprocess, Size
from .evaluation import evaluate_picture
from .pixels import RESAMPLING

Draw = Callable[[Image.Image], Image.Image]


class PictureInputs(ABC):
    """Inputs whose pictures have a size each; a subclass says where they come from."""

    kind: Kind = "image"
    size: Size | None = None
    channels: int
    no_size: str
    """What is said where a model names no size."""

    @abstractmethod
    def _each(self, rows: Int[np.ndarray, " n"], size: Size, draws: Sequence[Draw]) -> Float[Tensor, "n c h w"]:
        """Draw some pictures, each in its own way, to one size."""

    def read(
        self,
        rows: Int[np.ndarray, " n"],
        size: Size | None,
        boxes: Float[Tensor, "n 4"] | None,
        interpolation: Interpolation = "bilinear",
    ) -> Float[Tensor, "n c h w"]:
        """Read pictures, cut their boxes out and resize them; see `Inputs.read`."""
        size = self._need(size)
        shares = boxes if boxes is not None else torch.tensor([[0.0, 0.0, 1.0, 1.0]]).expand(len(rows), 4)

        def cut(picture: Image.Image, box: list[float]) -> Image.Image:
            return cut_picture(picture, size, box, interpolation)

        return self._each(rows, size, [lambda p, b=box: cut(p, b) for box in shares.tolist()])

    def evaluation(self, rows: Int[np.ndarray, " n"], preprocess: Preprocess) -> Float[Tensor, "n c h w"]:
        """Read pictures, resized and cropped as the model wants it; see `Inputs.evaluation`."""
        size = self._need(preprocess.size)
        return self._each(rows, size, [lambda p: evaluate_picture(p, size, preprocess)] * len(rows))

    def _need(self, size: Size | None) -> Size:
        if size is None:
            raise DataError(self.no_size)
        return size


def cut_picture(picture: Image.Image, size: Size, box: Sequence[float], interpolation: Interpolation) -> Image.Image:
    """Cut a box, in shares of width and height, out of a picture and resize it."""
    (left, top, right, bottom), (w, h) = box, picture.size
    corners = (left * w, top * h, min(right * w, w), min(bottom * h, h))
    return picture.resize((size[1], size[0]), RESAMPLING[interpolation], box=corners)


def stack(pictures: Sequence[np.ndarray]) -> Float[Tensor, "n c h w"]:
    """Stack pictures [h, w, c] of bytes to a batch in [0, 1], channels first in memory too.

    Other layouts, where torch takes them for channels-last, crash some models when they are trained on a CPU. For one
    channel `contiguous()` would keep such a layout.
    """
    pixels = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
    return torch.empty(pixels.shape).copy_(pixels) / 255
