"""Pools: read from every source without labels; what stands in another split is taken out and counted."""

import gzip
import struct

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import TensorDataset

import crossteach
from crossteach.data import load_data, pool_from, read_pool, with_pools
from crossteach.errors import DataError, SpecError


@pytest.fixture
def fresh():
    return np.random.default_rng(1).integers(0, 256, (50, 8, 8), np.uint8)


def saved(path, **arrays):
    np.savez(path, **arrays)
    return f"npz:{path}"


def opened(tmp_path, arrays, *pools):
    return load_data(saved(tmp_path / "data.npz", **arrays), pools)


def pixels(split):
    read = split.inputs.read(split.input_rows(np.arange(len(split))), None, None)
    return (255 * read[:, 0].numpy()).round().astype(np.uint8)


@pytest.mark.parametrize("key", ["x", "x_train"])
def test_an_npz_needs_no_labels_and_only_images(tmp_path, arrays, fresh, key):
    data = opened(tmp_path, arrays, saved(tmp_path / "pool.npz", **{key: fresh}))
    (pool,) = data.pools
    assert (pool.found, len(pool.split), pool.dropped, pool.split.labels) == (50, 50, {}, None)
    assert np.array_equal(pixels(pool.split), fresh)
    assert [len(split) for split in data.taught] == [60, 50]


def test_what_stands_in_another_split_is_taken_out_and_counted(tmp_path, arrays, fresh):
    fresh[0], fresh[1:3] = arrays["x_test"][0], arrays["x_val"][:2]
    fresh[3:6], fresh[6] = arrays["x_train"][:3], fresh[7]
    (pool,) = opened(tmp_path, arrays, saved(tmp_path / "pool.npz", x=fresh)).pools
    assert pool.dropped == {"repeated in the pool": 1, "in test": 1, "in selection": 2, "in train": 3}
    assert pool.found == len(pool.split) + sum(pool.dropped.values()) == 50
    assert np.array_equal(pixels(pool.split), np.delete(fresh, [0, 1, 2, 3, 4, 5, 7], 0))


def test_an_earlier_pool_keeps_what_two_pools_share(tmp_path, arrays, fresh):
    first, second = (saved(tmp_path / f"{k}.npz", x=x) for k, x in (("a", fresh[:30]), ("b", fresh[20:])))
    one, two = opened(tmp_path, arrays, first, second).pools
    assert (len(one.split), len(two.split), two.dropped) == (30, 20, {f"in the pool {first}": 10})


def test_nearly_equal_images_are_taken_out_too(tmp_path, arrays):
    """A picture that is a little brighter, or saved with loss, is the same picture."""
    rng = np.random.default_rng(2)
    smooth = np.stack(
        [np.asarray(Image.fromarray(p).resize((32, 32))) for p in rng.integers(0, 256, (120, 6, 6), np.uint8)]
    )
    arrays = {"x_train": smooth[:40], "x_val": smooth[40:60], "x_test": smooth[60:80]}
    arrays |= {f"y_{k}": np.arange(len(arrays[f"x_{k}"])) % 2 for k in ("train", "val", "test")}
    copies = np.concatenate([smooth[50:70] * 0.9 + 5, smooth[80:]]).astype(np.uint8)
    spec = saved(tmp_path / "pool.npz", x=copies)
    (pool,) = opened(tmp_path, arrays, spec).pools
    assert pool.dropped == {"nearly in test": 10, "nearly in selection": 10}
    assert np.array_equal(pixels(pool.split), smooth[80:])
    (exact,) = opened(tmp_path, arrays, f"{spec}?duplicates=exact").pools
    assert len(exact.split) == 60


def test_duplicates_may_be_kept_and_that_is_said(tmp_path, arrays, fresh):
    fresh[0] = arrays["x_test"][0]
    (pool,) = opened(tmp_path, arrays, saved(tmp_path / "pool.npz", x=fresh) + "?duplicates=keep").pools
    assert len(pool.split) == 50 and "are kept: figures may be too good" in pool.notes[0]


def test_groups_of_test_and_selection_are_taken_out_by_their_names(tmp_path, arrays, fresh):
    arrays |= {"group_val": np.repeat(["a", "b"], 15), "group_test": np.repeat(["c", "d"], 20)}
    spec = saved(tmp_path / "pool.npz", x=fresh, group=np.repeat(["z", "c", "e", "b", "f"], 10))
    (pool,) = opened(tmp_path, arrays, spec).pools
    assert pool.dropped == {"of a group of test": 10, "of a group of selection": 10}
    kept = {pool.split.group_names[code] for code in pool.split.group}
    assert kept == {"z", "e", "f"}


def test_a_folder_is_any_tree_of_pictures(tmp_path, arrays, fresh):
    for row, image in enumerate(fresh[:12]):
        path = tmp_path / "pictures" / f"{row % 3}" / f"deep{row % 2}" / f"{row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    Image.fromarray(fresh[12]).save(tmp_path / "pictures" / "outside.png")
    (tmp_path / "pictures" / "words.txt").write_text("no picture")
    (pool,) = opened(tmp_path, arrays, f"folder:{tmp_path / 'pictures'}").pools
    assert len(pool.split) == 13 and pool.split.inputs.channels == 1
    assert "1 files or folders of pool are not read" in pool.notes[0]


def test_the_mnist_family_and_embedded_data_are_pools(tmp_path, arrays, fresh):
    header = struct.pack(">IIII", 0x803, 50, 8, 8)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(header + fresh.tobytes()))
    assert len(read_pool(f"idx:{tmp_path}").split) == 50, "neither labels nor test images are asked for"
    assert len(read_pool("glyphs?samples=20").split) == 20
    assert len(read_pool("sklearn:digits").split) > 1000


def test_a_draw_is_the_same_every_time(tmp_path, fresh):
    spec = saved(tmp_path / "pool.npz", x=fresh) + "?samples=10"
    first, again = read_pool(spec), read_pool(spec)
    assert first.found == 10 and np.array_equal(first.split.ids, again.split.ids)


def test_ids_are_those_of_the_images_wherever_they_stand(tmp_path, fresh):
    whole, turned = (read_pool(saved(tmp_path / f"{k}.npz", x=x)) for k, x in (("a", fresh), ("b", fresh[::-1])))
    assert np.array_equal(whole.split.ids, turned.split.ids[::-1]) and (whole.split.ids >= 0).all()


def test_arrays_and_data_sets_of_the_callers_are_pools(tmp_path, arrays, fresh):
    tensors = torch.from_numpy(fresh)[:, None]
    pools = [pool_from(fresh[:20], "a"), pool_from(TensorDataset(tensors[20:]), "b")]
    data = with_pools(opened(tmp_path, arrays), pools)
    assert [len(pool.split) for pool in data.pools] == [20, 30]
    assert np.array_equal(pixels(data.pools[1].split), fresh[20:])


def test_pools_are_part_of_what_a_result_depends_on(tmp_path, arrays, fresh):
    bare = opened(tmp_path, arrays)
    one, other = (with_pools(bare, [pool_from(x)]) for x in (fresh, fresh[:40]))
    assert len({bare.fingerprint, one.fingerprint, other.fingerprint}) == 3


def test_a_pool_alone_is_data_without_labels(tmp_path):
    images = np.random.default_rng(3).integers(0, 256, (400, 8, 8), np.uint8)
    data = load_data(None, [saved(tmp_path / "pool.npz", x=images)])
    assert (len(data.train), data.classes, data.test.labels, data.selection.labels) == (0, (), None, None)
    parts = [pixels(data.pools[0].split), pixels(data.selection), pixels(data.test)]
    assert [len(part) for part in parts] == [324, 36, 40]
    assert len({image.tobytes() for part in parts for image in part}) == 400, "none stands in two parts"


@pytest.mark.parametrize(
    ("spec", "error", "told"),
    [
        ("npz:{}/none.npz", DataError, "no file"),
        ("npz:{}/empty.npz", DataError, "holds no image"),
        ("npz:{}/test_only.npz", DataError, "has no array 'x' or 'x_train'; it has x_test"),
        ("npz:{}/colour.npz", DataError, "has 3 channels but .* has 1; both must have the same"),
        ("npz:{}/pool.npz?samples=0", SpecError, "samples of .* must be at least 1"),
        ("npz:{}/pool.npz?duplicates=maybe", SpecError, "must be one of near, exact, keep, not 'maybe'"),
        ("npz:{}/pool.npz?classes=3", SpecError, "option 'classes', which npz: does not know"),
        ("npz:{}/data.npz", DataError, "nothing is left of the pool .*: of 60 images 60 in train; give fresh ones"),
        ("folder:{}/none", DataError, "expected one with pictures in it"),
        ("folder:{}/bare", DataError, "holds no image"),
        ("folder:{}/broken", DataError, "3 of 3 files in .* cannot be decoded"),
        ("hub:pictures", SpecError, "unknown pool .*; expected one of csv, folder, glyphs, hf, idx, npz, sklearn, wds"),
    ],
)
def test_wrong_pools_are_refused_in_one_line(tmp_path, arrays, fresh, spec, error, told):
    saved(tmp_path / "pool.npz", x=fresh)
    saved(tmp_path / "empty.npz", x=fresh[:0])
    saved(tmp_path / "test_only.npz", x_test=fresh)
    saved(tmp_path / "colour.npz", x=np.repeat(fresh[..., None], 3, 3))
    (tmp_path / "bare").mkdir()
    (tmp_path / "broken").mkdir()
    for k in range(3):
        (tmp_path / "broken" / f"{k}.png").write_bytes(b"no picture")
    with pytest.raises(error, match=told):
        opened(tmp_path, arrays, spec.format(tmp_path))


def test_neither_data_nor_a_pool_is_refused():
    with pytest.raises(DataError, match="neither data nor a pool is given"):
        load_data(None)


def test_labels_may_be_missing_for_single_samples(tmp_path, arrays):
    arrays["y_train"][::2], arrays["y_test"][:10], arrays["y_val"][:] = -100, -100, -100
    data = opened(tmp_path, arrays)
    assert data.has_train_labels and (data.train.labels == -100).sum() == 30
    assert len(data.test) == 30 and (data.test.labels >= 0).all()
    assert data.selection.labels is None
    assert "10 of 40 samples of test have no label and judge nothing" in data.notes


def test_a_test_split_without_labels_opens(tmp_path, arrays):
    del arrays["y_test"]
    assert opened(tmp_path, arrays).test.labels is None
    images = arrays["x_test"]
    data = crossteach.from_arrays((arrays["x_train"], arrays["y_train"]), (images, None), (arrays["x_val"], None))
    assert data.test.labels is None
