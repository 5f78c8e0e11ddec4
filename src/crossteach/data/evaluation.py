"""How a model sees an image when it is evaluated: the resize and crop that timm's own transform does.

An image is resized to `size / crop`, as its mode says, and the centre of `size` is cut out. The arithmetic of sizes
and offsets is timm's and torchvision's, rounding included. Image files are resized by Pillow, as timm does; arrays are
resized without rounding their pixels to bytes.
"""

import math

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ..types import Preprocess, Size
from .pixels import RESAMPLING, resize

Margins = tuple[int, int, int, int]
"""Left, top, right, bottom: pixels that are cut off, or added where a number is negative."""


def resized_size(height: int, width: int, size: Size, preprocess: Preprocess) -> Size:
    """Return the height and width to which an image is resized before its centre is cut out."""
    scaled = math.floor(size[0] / preprocess.crop), math.floor(size[1] / preprocess.crop)
    if preprocess.crop_mode == "squash":
        return scaled
    if preprocess.crop_mode == "center" and scaled[0] == scaled[1]:  # torchvision's Resize rounds down
        long = int(scaled[0] * max(height, width) / min(height, width))
        return (long, scaled[0]) if width <= height else (scaled[0], long)
    ratios = height / scaled[0], width / scaled[1]
    ratio = min(ratios) if preprocess.crop_mode == "center" else max(ratios)  # timm's ResizeKeepRatio rounds to nearest
    return max(1, round(height / ratio)), max(1, round(width / ratio))


def central_margins(height: int, width: int, size: Size) -> Margins:
    """Return what is cut off or added around an image so that its centre is left."""
    (top, bottom), (left, right) = (_margins(side, wanted) for side, wanted in zip((height, width), size, strict=True))
    return left, top, right, bottom


def _margins(side: int, wanted: int) -> tuple[int, int]:
    if wanted > side:
        return -((wanted - side) // 2), -((wanted - side + 1) // 2)
    before = round((side - wanted) / 2)
    return before, side - wanted - before


def margin_colour(preprocess: Preprocess, channels: int) -> tuple[float, ...]:
    """Return the colour, in [0, 1], of what is added around an image: the mean in mode `border`, else black."""
    mean = preprocess.mean if preprocess.crop_mode == "border" else (0.0,)
    colour = [round(255 * m) / 255 for m in mean]
    if len(colour) == channels:
        return tuple(colour)
    return (sum(colour) / len(colour),) * channels


def evaluate_picture(picture: Image.Image, size: Size, preprocess: Preprocess) -> Image.Image:
    """Resize and crop a picture of mode L or RGB as timm does."""
    height, width = resized_size(picture.height, picture.width, size, preprocess)
    if (width, height) != picture.size:
        picture = picture.resize((width, height), RESAMPLING[preprocess.interpolation])
    left, top, right, bottom = central_margins(height, width, size)
    if min(left, top, right, bottom) < 0:
        colour = tuple(round(255 * c) for c in margin_colour(preprocess, len(picture.getbands())))
        laid = Image.new(picture.mode, (size[1], size[0]), colour if len(colour) > 1 else colour[0])
        laid.paste(picture, (-left, -top))
        return laid
    return picture.crop((left, top, width - right, height - bottom))


def evaluate_images(images: Float[Tensor, "n c h w"], preprocess: Preprocess) -> Float[Tensor, "n c H W"]:
    """Resize and crop a batch of images of one size; one that needs neither passes untouched.

    A model without a size of its own gets the central share `crop` of the images at their own size.
    """
    height, width = images.shape[2:]
    if preprocess.size is None:
        if preprocess.crop >= 1.0:
            return images
        side = max(1, round(min(height, width) * preprocess.crop))
        top, left = (height - side) // 2, (width - side) // 2
        return images[:, :, top : top + side, left : left + side].contiguous()
    size = preprocess.size
    resized = resize(images, resized_size(height, width, size, preprocess), preprocess.interpolation)
    left, top, right, bottom = central_margins(resized.shape[2], resized.shape[3], size)
    if not any((left, top, right, bottom)):
        return resized
    laid = images.new_tensor(margin_colour(preprocess, images.shape[1]))[:, None, None].repeat(len(images), 1, *size)
    inside = resized[:, :, max(0, top) : resized.shape[2] - max(0, bottom), max(0, left) :]
    inside = inside[:, :, :, : inside.shape[3] - max(0, right)]
    y, x = max(0, -top), max(0, -left)
    laid[:, :, y : y + inside.shape[2], x : x + inside.shape[3]] = inside
    return laid
