import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import kstest

from crossteach.data import load_data
from crossteach.data.arrays import ArrayInputs
from crossteach.data.views import Views, augmentation, plain_images, resized_crop_boxes, uniforms
from crossteach.errors import ConfigError, DataError
from crossteach.types import Preprocess, Split

SIZE = Preprocess(size=(20, 24))
AUGMENTATIONS = ("warp", "crop", "none")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Write twelve images of different sizes in class folders."""
    root, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for k in range(12):
        path = root / ("train", "val", "test")[k % 3] / "ab"[k // 3 % 2] / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (18 + 5 * k, 60 - 3 * k, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return root


def arrays(n=150, size=(32, 32), channels=1):
    images = np.random.default_rng(0).integers(0, 256, (n, *size, channels), dtype=np.uint8)
    return Split("train", ArrayInputs(images, "x"), np.arange(n) * 7 + 3)


def show(views, split, index, number=1, preprocess=SIZE):
    index = np.asarray(index)
    return views.batch(split, index, np.full(len(index), number)).images(preprocess)


def digest(images):
    return hashlib.blake2b(images.contiguous().numpy().tobytes()).hexdigest()


def test_uniforms_belong_to_their_key_alone():
    ids, numbers = np.arange(100) ** 3, np.arange(100) % 4
    table = uniforms(5, ids, numbers, 8)
    order = np.random.default_rng(0).permutation(100)
    assert torch.equal(uniforms(5, ids[order], numbers[order], 8), table[order])
    assert torch.equal(uniforms(5, ids[17:18], numbers[17:18], 8), table[17:18])
    assert torch.equal(uniforms(5, ids, numbers, 3), table[:, :3])
    for other in (uniforms(6, ids, numbers, 8), uniforms(5, ids + 1, numbers, 8), uniforms(5, ids, numbers + 1, 8)):
        assert (other == table).float().mean() < 0.01
    assert len(set(table.flatten().tolist())) > 790


def splitmix(counter):
    """Scramble one 64-bit number with Python's own integers."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        counter = (counter ^ counter >> shift) * factor % 2**64
    return counter ^ counter >> 31


def test_uniforms_agree_with_a_loop_over_whole_numbers():
    ids, numbers, golden = [0, 123456789, 2**62 + 1], [0, 3, 2**31], 0x9E3779B97F4A7C15
    table = uniforms(7, np.array(ids), np.array(numbers), 3)
    for row, sample, number in zip(table.tolist(), ids, numbers, strict=True):
        key = splitmix(splitmix(splitmix(7 + golden) ^ sample * golden % 2**64) + number * golden & 2**64 - 1)
        assert row == [(splitmix((key + k * golden) % 2**64) >> 40) / 2**24 for k in (1, 2, 3)]


@pytest.mark.parametrize("vary", ["seed", "id", "view", "draw"])
def test_uniforms_are_uniform(vary):
    n, one = np.arange(3000), np.zeros(3000, int)
    table = {
        "seed": lambda: torch.cat([uniforms(s, np.array([3]), np.array([1]), 1) for s in range(600)]),
        "id": lambda: uniforms(0, n, one, 1),
        "view": lambda: uniforms(0, one, n, 1),
        "draw": lambda: uniforms(0, one[:1], one[:1], 3000),
    }[vary]()
    drawn = table.flatten().numpy()
    assert drawn.min() >= 0 and drawn.max() < 1
    assert kstest(drawn, "uniform").pvalue > 0.001
    assert abs(np.corrcoef(drawn[1:], drawn[:-1])[0, 1]) < 4 / np.sqrt(len(drawn))


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_view_is_the_same_whatever_stands_beside_it(name, channels):
    split, views = arrays(channels=channels), Views(4, 4, augmentation(name))
    together = show(views, split, np.arange(150))
    order = np.random.default_rng(1).permutation(150)
    assert torch.equal(show(views, split, order), together[order])
    assert torch.equal(torch.cat([show(views, split, part) for part in np.split(np.arange(150), [1, 8, 71])]), together)
    taken = split.take(order[:40])
    assert torch.equal(show(views, taken, np.arange(40)), together[order[:40]])
    if name != "none":
        assert not torch.equal(show(views, split, [0], number=2), together[:1])
        assert not torch.equal(show(Views(5, 4, augmentation(name)), split, [0]), together[:1])


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("workers", [0, 1, 4])
def test_a_view_of_a_file_is_the_same_for_any_number_of_workers(folder, name, workers):
    views, shown = Views(4, 4, augmentation(name)), {}
    for count in (0, workers):
        train = load_data(f"folder:{folder}?workers={count}").train
        images = show(views, train, np.arange(len(train)))
        assert torch.equal(show(views, train, [3, 1]), images[[3, 1]])
        assert torch.equal(show(views, train, [2]), images[[2]])
        shown[count] = images
    assert torch.equal(shown[0], shown[workers])
    assert shown[0].shape == (4, 3, 20, 24)


@pytest.mark.parametrize("name", ["warp", "crop"])
def test_a_large_view_is_the_same_alone_with_several_threads(name):
    """With threads, torch sums one large image in other parts than one of many: the last bit would tell."""
    split, views = arrays(4, size=(224, 224), channels=3), Views(4, 4, augmentation(name))
    together = show(views, split, np.arange(4))
    torch.set_num_threads(2)
    try:
        assert torch.equal(show(views, split, np.arange(4)), together)
        assert torch.equal(torch.cat([show(views, split, [i]) for i in range(4)]), together)
    finally:
        torch.set_num_threads(1)


FRESH = """
import sys, numpy as np, torch
torch.set_num_threads(int(sys.argv[1]))
from crossteach.data import load_data
from crossteach.data.views import Views, augmentation
from crossteach.types import Preprocess
import hashlib
for spec in ("glyphs?train_samples=150", sys.argv[2]):
    train = load_data(spec).train
    for name in ("warp", "crop", "none"):
        batch = Views(4, 4, augmentation(name)).batch(train, np.arange(4), np.full(4, 1))
        print(hashlib.blake2b(batch.images(Preprocess(size=(20, 24))).contiguous().numpy().tobytes()).hexdigest())
"""


def test_a_view_is_the_same_in_a_fresh_process_with_more_threads(folder):
    spec = f"folder:{folder}?workers=2"
    here = []
    for name in ("glyphs?train_samples=150", spec):
        train = load_data(name).train
        here += [digest(show(Views(4, 4, augmentation(a)), train, np.arange(4))) for a in AUGMENTATIONS]
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "PYTHONHASHSEED": "1"}
    fresh = subprocess.run(
        [sys.executable, "-c", FRESH, "2", spec], capture_output=True, text=True, env=environment, check=True
    )
    assert fresh.stdout.split() == here


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("strength", [0.0, 1.0, 5.0])
def test_no_view_leaves_the_range(name, strength, folder):
    for split in (arrays(40, channels=3), load_data(f"folder:{folder}").train):
        for number in range(3):
            images = show(Views(0, 0, augmentation(name, strength)), split, np.arange(len(split)), number)
            assert images.isfinite().all() and images.min() >= 0 and images.max() <= 1


def test_strength_scales_how_far_a_view_departs():
    split = arrays(40)
    plain = show(Views(0, 0, augmentation("none")), split, np.arange(40))
    away = [
        (show(Views(0, 0, augmentation("warp", s)), split, np.arange(40)) - plain).abs().mean() for s in (0, 0.1, 1)
    ]
    assert away[0] < 1e-5 < away[1] < away[2]


def test_warp_repeats_the_edge():
    white = Split("train", ArrayInputs(np.full((1, 32, 32), 255, np.uint8), "x"), np.arange(1))
    views = Views(0, 0, augmentation("warp")).batch(white, np.zeros(20, int), np.arange(20)).images(Preprocess())
    assert views.min() > 0.999


def test_warp_never_flips():
    images = np.zeros((1, 32, 32), np.uint8)
    images[0, 4:28, 6:11] = images[0, 4:9, 6:26] = images[0, 14:18, 6:20] = 255  # the letter F
    split = Split("train", ArrayInputs(images, "x"), np.arange(1))
    whole = torch.from_numpy(images / 255.0)[None].float()
    views = Views(0, 0, augmentation("warp")).batch(split, np.zeros(300, int), np.arange(300)).images(Preprocess())

    def far_from(other):
        return (views - other).flatten(1).norm(dim=1)

    assert (far_from(whole) < far_from(whole.flip(3))).all()
    assert (far_from(whole) < far_from(whole.flip(2))).all()


def test_crop_mirrors_every_other_view():
    ramp = np.tile(np.linspace(0, 255, 64).astype(np.uint8)[None, None, :, None], (1, 64, 1, 3))
    split = Split("train", ArrayInputs(ramp, "x"), np.arange(1))
    views = Views(0, 0, augmentation("crop")).batch(split, np.zeros(400, int), np.arange(400)).images(Preprocess())
    mirrored = (views[..., 0].mean((1, 2)) > views[..., -1].mean((1, 2))).float().mean()
    assert 0.4 < mirrored < 0.6


@pytest.mark.parametrize("strength", [0.0, 1.0, 5.0])
def test_crop_boxes_lie_in_the_image_and_keep_their_promise(strength):
    u = uniforms(0, np.arange(3000), np.zeros(3000, int), 8)
    u[0], u[1] = 0, 1 - 2**-24
    aspect = torch.exp(torch.linspace(-1.5, 1.5, 3000))
    left, top, right, bottom = resized_crop_boxes(aspect, u, strength).unbind(1)
    assert min(left.min(), top.min()) >= 0 and max(right.max(), bottom.max()) <= 1
    assert (right > left).all() and (bottom > top).all()
    free = (right - left < 0.999) & (bottom - top < 0.999)  # not cut by the border
    area, ratio = (right - left) * (bottom - top), (right - left) / (bottom - top) * aspect
    if strength == 1.0:
        assert free.float().mean() > 0.2
        assert area[free].min() > 0.349 and area.max() <= 1.0001
    assert (ratio[free] > 0.749).all() and (ratio[free] < 1.334).all()


OWN = """
import torch

def darker(images, u):
    return images * (0.5 + 0.5 * u[:, 0])[:, None, None, None]

darker.draws = 2
"""


def test_a_users_own_augmentation(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(OWN)
    split, own = arrays(8), augmentation(f"{path}:darker")
    assert own.draws == 2
    views = Views(3, 4, own)
    u = uniforms(3, split.ids, np.ones(8, int), 2)
    expected = split.inputs.read(np.arange(8), None, None) * (0.5 + 0.5 * u[:, 0])[:, None, None, None]
    assert torch.equal(show(views, split, np.arange(8)), expected)
    path.write_text(OWN.replace("0.5 *", "0.25 *"))
    assert Views(3, 4, augmentation(f"{path}:darker")).key != views.key


def test_an_edit_within_one_second_is_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    path = tmp_path / "own.py"
    for draws, now in ((2, 1000.0), (3, 1000.5)):
        path.write_text(OWN.replace("draws = 2", f"draws = {draws}"))
        os.utime(path, (now, now))
        assert augmentation(f"{path}:darker").draws == draws


def test_the_key_says_what_a_view_depends_on():
    keys = {
        Views(seed, 4, augmentation(name, strength)).key
        for seed in (0, 1)
        for name in ("warp", "crop")
        for strength in (1.0, 2.0)
    }
    assert len(keys) == 8
    assert Views(0, 4, augmentation("warp")).key == Views(0, 0, augmentation("warp")).key


def test_an_unknown_augmentation_is_refused(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    with pytest.raises(ConfigError, match=r"warp, crop, none, words, span or FILE.py:FUNCTION, not 'flip'"):
        augmentation("flip")
    with pytest.raises(ConfigError, match=r"missing\.py:f"):
        augmentation(f"{tmp_path}/missing.py:f")
    with pytest.raises(ConfigError, match="no function 'lighter'"):
        augmentation(f"{tmp_path}/own.py:lighter")


def test_a_file_that_python_cannot_read_is_refused(tmp_path):
    (tmp_path / "own.py").write_text("def darker(images, u:\n")
    with pytest.raises(ConfigError, match=r"own\.py"):
        augmentation(f"{tmp_path}/own.py:darker")


def test_views_take_turns_or_are_always_new():
    assert [Views(0, 3, augmentation("none")).numbers(epoch, 2).tolist() for epoch in range(5)] == [
        [0, 0],
        [1, 1],
        [2, 2],
        [0, 0],
        [1, 1],
    ]
    assert Views(0, 3, augmentation("none"), 2).numbers(2, 2).tolist() == [1, 1]
    assert [Views(0, 0, augmentation("none")).numbers(epoch, 1).tolist() for epoch in (0, 7)] == [[0], [7]]


def test_every_model_sees_the_same_crop(folder, monkeypatch):
    train = load_data(f"folder:{folder}").train
    read, boxes = train.inputs.read, []
    monkeypatch.setattr(train.inputs, "read", lambda rows, size, box, how: boxes.append(box) or read(rows, size, box))
    batch = Views(0, 4, augmentation("crop")).batch(train, np.arange(4), np.ones(4, int))
    assert batch.images(Preprocess(size=(64, 64))).shape[2:] == (64, 64)
    assert batch.images(Preprocess(size=(16, 20))).shape[2:] == (16, 20)
    assert batch.images(Preprocess(size=(64, 64))) is batch.images(Preprocess(size=(64, 64)))  # drawn once
    assert len(boxes) == 2 and torch.equal(boxes[0], boxes[1])


def test_plain_images_are_the_central_crop():
    image = np.zeros((1, 20, 20), np.uint8)
    image[0, 5:15, 5:15] = 255
    split = Split("test", ArrayInputs(image, "x"), np.arange(1))
    assert plain_images(split, np.arange(1), Preprocess(crop=0.5)).min() == 1
    assert torch.equal(plain_images(split, np.arange(1), Preprocess(crop=0.5)), torch.ones(1, 1, 10, 10))
    assert plain_images(split, np.arange(1), Preprocess(crop=0.5, size=(8, 8))).shape == (1, 1, 8, 8)
    assert plain_images(split, np.arange(1), Preprocess()).shape == (1, 1, 20, 20)


def test_files_need_a_size(folder):
    train = load_data(f"folder:{folder}").train
    with pytest.raises(DataError, match=r"\?size=PIXELS"):
        plain_images(train, np.arange(2), Preprocess())
    assert plain_images(train, np.arange(2), Preprocess(size=(8, 8))).shape == (2, 3, 8, 8)
