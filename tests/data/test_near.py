"""Nearly equal images are found, whatever their number; different ones are not taken for them."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance

from crossteach.data.arrays import ArrayInputs
from crossteach.data.near import BAND_BITS, BANDS, FAR, Sketches, near_any, perceptual_hash, sketch
from crossteach.types import Split, no_progress


@pytest.fixture(scope="module")
def scenes():
    """Pictures with large and small shapes, none like another."""
    rng = np.random.default_rng(0)
    coarse, fine = rng.integers(0, 256, (2, 200, 16, 16), np.uint8)
    grown = [np.asarray(Image.fromarray(c[:5, :5]).resize((48, 48), Image.Resampling.BICUBIC), float) for c in coarse]
    noise = [np.asarray(Image.fromarray(f).resize((48, 48)), float) for f in fine]
    return np.stack([0.8 * a + 0.2 * b for a, b in zip(grown, noise, strict=True)]).clip(0, 255).astype(np.uint8)


def sketched(images):
    split = Split("pool", ArrayInputs(images, "images"), np.arange(len(images)))
    return sketch(split, no_progress, "looking")


def changed(images, change):
    return np.stack([np.asarray(change(Image.fromarray(image))) for image in images])


CHANGES = {
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(0.8),
    "paler": lambda image: ImageEnhance.Contrast(image).enhance(0.7),
    "smaller": lambda image: image.resize((36, 36), Image.Resampling.BILINEAR),
    "larger": lambda image: image.resize((96, 96), Image.Resampling.BICUBIC),
}


@pytest.mark.parametrize("change", CHANGES)
def test_copies_are_found_and_others_are_not(scenes, change):
    copies = sketched(changed(scenes[:100], CHANGES[change]))
    assert near_any(copies, sketched(scenes[:100])).mean() >= 0.99
    assert near_any(copies, sketched(scenes[100:])).mean() <= 0.01


def test_the_bands_find_what_a_plain_loop_finds(scenes):
    mine, others = sketched(np.concatenate([scenes[:50] * 0.9, scenes[:50]]).astype(np.uint8)), sketched(scenes[25:75])
    apart = np.abs(mine.thumbnails[:, None] - others.thumbnails[None]).mean(2)
    bands = [
        (h[:, None] >> np.uint64(BAND_BITS * b)) & np.uint64(0xFFFF)
        for h in (mine.hashes, others.hashes)
        for b in range(BANDS)
    ]
    shared = np.any([bands[b] == bands[BANDS + b].T for b in range(BANDS)], 0)
    assert np.array_equal(near_any(mine, others), ((apart <= FAR) & shared).any(1))


def test_plain_images_are_like_no_other():
    plain = np.full((3, 16, 16), 7, np.uint8)
    assert not near_any(sketched(plain), sketched(plain)).any()


def test_many_images_of_one_hash_are_compared_some_at_a_time():
    rng = np.random.default_rng(0)
    thumbnails = rng.standard_normal((1500, 256)).astype(np.float32)
    mine, others = Sketches(np.zeros(1500, np.uint64), thumbnails), Sketches(np.zeros(1, np.uint64), thumbnails[7:8])
    assert np.flatnonzero(near_any(mine, others)).tolist() == [7]
    assert np.flatnonzero(near_any(others, mine)).tolist() == [0]


def test_the_hash_is_the_same_on_any_machine():
    ramp = torch.linspace(-1, 1, 256)[None]
    assert perceptual_hash(ramp).tolist() == perceptual_hash(torch.cat([ramp, -ramp]))[:1].tolist()
    assert (perceptual_hash(ramp) ^ perceptual_hash(-ramp)).item() == 2**64 - 1
