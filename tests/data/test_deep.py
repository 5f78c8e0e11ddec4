"""Pictures of 16 bits and of floats: scaled, never cut off, and refused in one line where their range is unknown."""

import numpy as np
import pytest
from PIL import Image

from crossteach import Preprocess, from_dataset, load_data
from crossteach.data.views import plain_images
from crossteach.errors import DataError, SpecError

RNG = np.random.default_rng(0)


def ramp(dtype, top):
    """From 0 to its top in 144 steps, with a little noise so that no two are equal."""
    pixels = np.linspace(0, top, 144).reshape(12, 12)
    pixels[5] += RNG.random(12) * top / 1000
    return pixels.astype(dtype)


KINDS = {
    "png of 16 bits": ("png", np.uint16, 65535),
    "tif of 16 bits": ("tif", np.uint16, 65535),
    "tif of 32 bits": ("tif", np.int32, 65535),
    "tif of floats": ("tif", np.float32, 1.0),
}


def written(root, suffix, dtype, top):
    """Two classes of two pictures in each split; the pixels of the first one of test."""
    for split in ("train", "val", "test"):
        for label in ("cat", "dog"):
            folder = root / split / label
            folder.mkdir(parents=True)
            for i in range(2):
                pixels = ramp(dtype, top)
                Image.fromarray(pixels).save(folder / f"{i}.{suffix}")
                if (split, label, i) == ("test", "cat", 0):
                    first = pixels
    return first


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_deep_pictures_are_scaled_and_not_cut_off(tmp_path, kind, channels):
    suffix, dtype, top = KINDS[kind]
    first = written(tmp_path, suffix, dtype, top)
    data = load_data(f"folder:{tmp_path}?channels={channels}&check=all")
    shown = plain_images(data.test, np.arange(1), Preprocess(size=(12, 12)))[0]
    assert shown.shape == (channels, 12, 12)
    for plane in shown:
        assert np.abs(plane.numpy() - first / top).max() <= 0.5 / 255 + 1e-6, "rounded to 8 bits, no more"
    (note,) = [note for note in data.notes if "more than 8 bits" in note]
    assert note.startswith("12 pictures have") and "brightest pixel is" in note and "?white=VALUE" in note


def test_what_is_white_can_be_said(tmp_path):
    """Twelve bits in sixteen, as cameras of microscopes write: nearly black, and the note shows it."""
    first = written(tmp_path, "png", np.uint16, 4000)
    dark = load_data(f"folder:{tmp_path}")
    assert any("so that 65535" in note and "brightest pixel is 4" in note for note in dark.notes)
    bright = load_data(f"folder:{tmp_path}?white=4095")
    shown = plain_images(bright.test, np.arange(1), Preprocess(size=(12, 12)))[0, 0].numpy()
    assert np.abs(shown - first / 4095).max() <= 0.5 / 255 + 1e-6
    assert dark.fingerprint != bright.fingerprint
    for wrong in ("0", "-3", "nan", "much"):
        with pytest.raises(SpecError, match="option white"):
            load_data(f"folder:{tmp_path}?white={wrong}")


@pytest.mark.parametrize(
    ("dtype", "values", "told"),
    [
        (np.float32, (-3.0, 812.0), r"floats from -3 to 812 as pixels, not in \[0, 1\]; scale them$"),
        (np.float32, (0.0, 812.0), r"floats from 0 to 812 .*; scale them, or say what is white, as \?white=812$"),
        (np.float32, (0.0, np.nan), r"floats from nan to nan .*; scale them$"),
        (np.int32, (0, 70_000), r"whole numbers from 0 to 70000 as pixels, not in \[0, 65535\]; .*white=70000$"),
    ],
)
def test_a_range_that_nobody_knows_is_refused_in_one_line(tmp_path, dtype, values, told):
    written(tmp_path, "tif", np.uint16, 65535)
    odd = np.full((12, 12), values[1], dtype)
    odd[0, 0] = values[0]
    Image.fromarray(odd).save(tmp_path / "test" / "dog" / "odd.tif")
    with pytest.raises(DataError, match=told) as caught:
        load_data(f"folder:{tmp_path}")
    assert "odd.tif" in str(caught.value) and "\n" not in str(caught.value)


def test_deep_pictures_of_a_data_set_are_scaled_too():
    pixels = [RNG.integers(0, 65536, (12, 12)).astype(np.uint16) for _ in range(24)]
    items = [(Image.fromarray(each), i % 2) for i, each in enumerate(pixels)]
    data = from_dataset(items[:8], items[8:16], items[16:])
    shown = plain_images(data.train, np.arange(8), Preprocess())
    assert np.abs(shown[:, 0].numpy() - np.stack(pixels[:8]) / 65535).max() <= 0.5 / 255 + 1e-6
