import gc
from dataclasses import replace

import numpy as np
import pytest
import torch

from crossteach.data import drawn
from crossteach.data.arrays import ArrayInputs
from crossteach.data.views import Views, augmentation
from crossteach.types import Preprocess, Split


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch):
    monkeypatch.setattr(drawn, "_KEPT", [])


def split(n=40, seed=0, size=8):
    pixels = np.random.default_rng(seed).integers(0, 256, (n, size, size, 1), dtype=np.uint8)
    return Split("train", ArrayInputs(pixels, "x"), np.arange(n, dtype=np.int64))


def images(views, data, index, number=0):
    index = np.asarray(index)
    return views.batch(data, index, np.full(len(index), number)).images(Preprocess())


FEW = Views(seed=0, count=2, augmentation=augmentation("warp"))
FRESH = replace(FEW, count=0)


def test_kept_pixels_are_those_that_are_drawn_anew_bit_for_bit():
    data = split()
    for index in ([3, 1, 2], [1, 5, 3], list(range(40)), [39, 0, 0]):
        for number in (0, 1):
            assert torch.equal(images(FEW, data, index, number), images(FRESH, data, index, number))
    assert len(drawn._KEPT) == 2 and all(view.known.all() for view in drawn._KEPT)


def test_a_view_that_is_known_is_not_drawn_again(monkeypatch):
    data, asked = split(), []
    read = ArrayInputs.read
    monkeypatch.setattr(
        ArrayInputs, "read", lambda self, rows, *rest: asked.append(len(rows)) or read(self, rows, *rest)
    )
    images(FEW, data, [0, 1, 2])
    images(FEW, data, [1, 2, 3])
    images(FEW, data, [3, 0])
    assert asked == [3, 1]
    images(FRESH, data, [0, 1])
    assert asked == [3, 1, 2]


def test_the_same_views_are_found_again_by_whoever_asks():
    data = split()
    for _ in range(2):
        images(Views(seed=0, count=2, augmentation=augmentation("warp")), data, [0, 1])
    assert len(drawn._KEPT) == 1


def test_who_changes_what_was_given_changes_nothing_that_is_kept():
    data = split()
    first = images(FEW, data, [0, 1])
    expected = first.clone()
    first.zero_()
    assert torch.equal(images(FEW, data, [0, 1]), expected)


def test_other_splits_seeds_and_augmentations_are_other_views():
    data, other = split(), split(seed=1)
    same = images(FEW, data, [0, 1])
    for views, of in (
        (FEW, other),
        (replace(FEW, seed=1), data),
        (replace(FEW, augmentation=augmentation("warp", 2)), data),
    ):
        assert not torch.equal(images(views, of, [0, 1]), same)
    part = data.take(np.array([7, 8]))
    assert torch.equal(images(FEW, part, [0, 1]), images(FRESH, data, [7, 8]))
    assert len(drawn._KEPT) == 5


def test_room_is_bounded_and_what_nobody_holds_is_forgotten(monkeypatch):
    data, other = split(), split(seed=1)
    whole = drawn.size_of(data)
    monkeypatch.setattr(drawn, "KEPT_BYTES", 3 * whole)
    for of in (data, other):
        for number in (0, 1):
            images(FEW, of, [0], number)
    assert sum(view.pixels.nbytes for view in drawn._KEPT) == 3 * whole
    assert [view.split() is other for view in drawn._KEPT] == [False, True, True]
    del other, of
    gc.collect()
    images(FEW, data, [0], 0)
    assert all(view.split() is data for view in drawn._KEPT)


def test_what_does_not_fit_is_not_kept(monkeypatch):
    data = split()
    monkeypatch.setattr("crossteach.data.views.KEPT_BYTES", 2 * drawn.size_of(data) - 1)
    images(FEW, data, [0, 1])
    assert drawn._KEPT == []
