"""Batches of images: crop, warp, resize. Pure, deterministic, and the same for a sample in any batch."""

import numpy as np
import PIL
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from ..types import Interpolation, Preprocess, Size

VERSION = 2
"""Of the code that makes pixels, here and in `evaluation`; part of the fingerprint of all inputs.

Raise it when a pixel changes.
"""


def pixel_code() -> str:
    """Name the code that resizes images: another version of it may make other pixels."""
    return f"pixels {VERSION}, Pillow {PIL.__version__}"


RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
}
"""Pillow's filter for each interpolation."""


def resize(
    images: Float[Tensor, "N c h w"], size: Size, interpolation: Interpolation = "bilinear"
) -> Float[Tensor, "N c H W"]:
    """Resize a batch as Pillow does, but without its rounding to bytes; images of that size pass untouched.

    Where it shrinks, it averages (except `nearest`). What overshoots is cut after each direction, width before height.
    (Newer releases of Pillow take the height first where it shrinks and the width does not: `bicubic` and `lanczos`
    then differ at sharp edges.)
    """
    if tuple(images.shape[-2:]) == size:
        return images
    if interpolation == "nearest":
        rows, columns = (_nearest(side, wanted) for side, wanted in zip(images.shape[-2:], size, strict=True))
        return images[:, :, rows][:, :, :, columns].contiguous()
    if interpolation == "bilinear":
        return F.interpolate(images, size, mode="bilinear", antialias=True, align_corners=False).clamp_(0, 1)
    for step in ((images.shape[-2], size[1]), size):
        if interpolation == "bicubic":
            images = F.interpolate(images, step, mode="bicubic", antialias=True, align_corners=False)
        else:
            images = _resize_with_pillow(images, step, interpolation)
        images = images.clamp_(0, 1)
    return images


def _nearest(side: int, wanted: int) -> Int[Tensor, " wanted"]:
    """Return which pixels of a side Pillow takes: its own sums decide where two are equally near."""
    ramp = Image.fromarray(np.arange(side, dtype=np.float32)[None])
    taken = np.asarray(ramp.resize((wanted, 1), RESAMPLING["nearest"]))
    return torch.from_numpy(taken[0].astype(np.int64))


def _resize_with_pillow(
    images: Float[Tensor, "N c h w"], size: Size, interpolation: Interpolation
) -> Float[Tensor, "N c H W"]:
    """Resize each channel as a picture of floats: torch has not all of Pillow's filters."""
    planes = images.detach().cpu().float().flatten(0, 1).numpy()
    resized = [np.asarray(Image.fromarray(p).resize(size[::-1], RESAMPLING[interpolation])) for p in planes]
    return torch.from_numpy(np.stack(resized)).view(*images.shape[:2], *size).to(images)


def warp(images: Float[Tensor, "N c h w"], matrices: Float[Tensor, "N 2 3"], size: Size) -> Float[Tensor, "N c H W"]:
    """Sample each image through its own affine map, bilinear, edges repeated.

    Args:
        images: Source pixels.
        matrices: From output to source coordinates, both in [-1, 1] over the image, x before y.
        size: Height and width of the output.
    """
    height, width = size
    y = ((torch.arange(height) * 2 + 1) / height - 1).to(images)[:, None]
    x = ((torch.arange(width) * 2 + 1) / width - 1).to(images)[None, :]
    m = matrices.to(images)[:, :, :, None, None]
    # written out, not a matrix product: its rounding must not depend on the batch
    grid = torch.stack([m[:, i, 0] * x + m[:, i, 1] * y + m[:, i, 2] for i in (0, 1)], dim=-1)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def crop_and_resize(
    images: Float[Tensor, "N c h w"], boxes: Float[Tensor, "N 4"], size: Size
) -> Float[Tensor, "N c H W"]:
    """Cut a box out of each image and bring it to one size.

    Args:
        images: Source pixels.
        boxes: Left, top, right, bottom as shares of width and height.
        size: Height and width of the output.
    """
    left, top, right, bottom = boxes.unbind(1)
    zero = torch.zeros_like(left)
    rows = [right - left, zero, right + left - 1, zero, bottom - top, bottom + top - 1]
    return warp(images, torch.stack(rows, dim=1).view(-1, 2, 3), size)


def central_boxes(aspect: Float[Tensor, " N"]) -> Float[Tensor, "N 4"]:
    """Return the central square of images of this width over height."""
    width, height = (1 / aspect).clamp(max=1), aspect.clamp(max=1)
    return torch.stack([(1 - width) / 2, (1 - height) / 2, (1 + width) / 2, (1 + height) / 2], dim=1)


def prepare(images: Float[Tensor, "N c h w"], preprocess: Preprocess) -> Float[Tensor, "N C H W"]:
    """Bring pixels in [0, 1] to the size, channels and scale that a model wants.

    Grey becomes three channels by repetition, colour becomes grey by the ITU-R 601 weights.
    """
    if preprocess.size is not None:
        images = resize(images, preprocess.size, preprocess.interpolation)
    if preprocess.channels is not None and preprocess.channels != images.shape[1]:
        if preprocess.channels == 1:
            images = (images * images.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)
        else:
            images = images.repeat(1, preprocess.channels, 1, 1)
    if preprocess.mean == (0.0,) and preprocess.std == (1.0,):
        return images
    mean, std = images.new_tensor(preprocess.mean), images.new_tensor(preprocess.std)
    return (images - mean[:, None, None]) / std[:, None, None]
