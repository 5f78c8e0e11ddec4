"""The recipe of EfficientNet-Lite, without its downloads: which stamps bear a label, and where they go."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def recipes(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "recipes")


@pytest.mark.parametrize(
    ("path", "label"),
    [
        ("animals/birds/pink_flamingo.png", "n02007558"),
        ("animals/mammals/cats/lion-2.png", "n02129165"),
        ("food/fruit/Strawberry2.png", "n07745940"),
        ("vehicles/construction/crane.png", None),  # a bird, or a machine
        ("animals/mammals/rodents/mouse.png", None),  # ImageNet's is that of a computer
        ("animals/birds/cartoon/hen.png", None),
        ("symbols/shapes/star.png", None),
        ("animals/mammals/equines/horse.png", None),
    ],
)
def test_a_photograph_bears_the_label_that_it_is_named_as(path, label):
    from imagenet import label_of

    assert label_of(path) == label


def stamp(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((height, width, 4), (200, 0, 0, 255), np.uint8), "RGBA").save(file, "PNG")
    return file.getvalue()


def test_stamps_with_a_label_are_not_in_the_pool(tmp_path, monkeypatch):
    import imagenet

    named = ["lemon", "orange", "banana", "pizza", "broccoli", "pineapple", "strawberry", "stone", "lemon_mirror"]
    monkeypatch.setattr(
        imagenet, "files_of", lambda *_: [(f"./usr/stamps/food/{name}.png", stamp(20, 10)) for name in named]
    )
    photograph = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8))
    monkeypatch.setattr(imagenet, "sample_pictures", lambda _: {"cat.png": photograph})
    imagenet.make_pictures(tmp_path)
    labelled, pool = pd.read_csv(tmp_path / "stamps.csv"), pd.read_csv(tmp_path / "pool.csv")
    assert set(labelled.path) == {f"stamps/food/{name}.png" for name in named[:7]}
    assert set(labelled.split) == {"val", "test"} and labelled.label.nunique() == 7
    assert set(pool.path) == {"stamps/food/stone.png", *(f"crops/cat-{place}.png" for place in range(imagenet.CROPS))}
    with Image.open(tmp_path / "stamps/food/lemon.png") as laid:
        pixels = np.asarray(laid)
    assert pixels.shape == (20, 20, 3), "in a square"
    assert (pixels[[0, 4, 15, 19]] == 255).all() and (pixels[5:15] == (200, 0, 0)).all(), "in its middle, on white"
