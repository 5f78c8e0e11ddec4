"""Arrays are resized as Pillow resizes pictures."""

import numpy as np
import pytest
import torch
from PIL import Image

from crossteach.data.pixels import RESAMPLING, resize

ROUNDED = 3 / 255
"""Pillow rounds to bytes after each direction, and cuts what overshoots; a batch is not rounded."""
SIZES = [(8, 8), (5, 13), (32, 40), (31, 17), (16, 20), (7, 9)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("interpolation", RESAMPLING)
def test_a_batch_is_resized_as_pillow_resizes_pictures(size, interpolation):
    images = np.random.default_rng(0).integers(0, 256, (3, 16, 20), np.uint8)
    ours = resize(torch.from_numpy(images)[:, None].float() / 255, size, interpolation)
    assert ours.is_contiguous()
    for image, mine in zip(images, ours, strict=True):
        theirs = np.asarray(Image.fromarray(image).resize(size[::-1], RESAMPLING[interpolation])) / 255
        assert np.abs(mine[0].numpy() - theirs).max() <= (0 if interpolation == "nearest" else ROUNDED) + 1e-6
