"""What opening data finds out is kept for the next process, and never outlives the files that it was found in."""

import os

import numpy as np
import pytest
from disks import small_disk
from PIL import Image

from crossteach import Store, load_data
from crossteach.data import files, near
from crossteach.data.encoded import PictureFiles
from crossteach.data.facts import keeping
from crossteach.data.files import survey_files
from crossteach.data.look import PictureRules
from crossteach.sweeping import jobs

LONG_AGO = 0
"""Nanoseconds: the files of these tests count as settled at once."""


def scene(rng, size=48):
    small = rng.integers(0, 256, (6, 6, 3), np.uint8)
    return Image.fromarray(small).resize((size, size), Image.Resampling.BICUBIC)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Class folders, and a pool in which one picture stands in test and one nearly does; some are of odd kinds."""
    monkeypatch.setattr(files, "SETTLED", LONG_AGO)
    rng, top = np.random.default_rng(0), tmp_path / "pictures"
    for part, count in (("train", 6), ("val", 4), ("test", 5)):
        for name in ("a", "b"):
            (top / part / name).mkdir(parents=True)
            for i in range(count):
                scene(rng).save(top / part / name / f"{i}.png")
    pool = tmp_path / "pool"
    pool.mkdir()
    for i in range(150):
        scene(rng).save(pool / f"{i:03}.png")
    (pool / "same.png").write_bytes((top / "test" / "a" / "0.png").read_bytes())
    Image.open(top / "val" / "b" / "1.png").save(pool / "near.jpg", quality=75)
    Image.open(top / "test" / "b" / "1.png").save(pool / "near-test.jpg", quality=75)
    deep = rng.integers(0, 1 << 16, (40, 40), np.uint16)
    Image.fromarray(deep).save(pool / "deep.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    scene(rng).resize((40, 20)).save(pool / "turned.jpg", exif=turned)
    scene(rng).convert("RGBA").save(pool / "transparent.png")
    (pool / "broken.png").write_bytes((pool / "000.png").read_bytes()[:90])
    return top


def opened(root, store=None):
    return load_data(f"folder:{root}", [f"folder:{root.parent / 'pool'}"], store=store)


def shown(data):
    """All that two openings must agree on."""
    (pool,) = data.pools
    held = pool.split.input_rows(np.arange(len(pool.split)))
    return data.fingerprint, data.notes, pool.notes, pool.dropped, held.tolist(), pool.split.inputs.names(held)


def refuse(*_):
    raise AssertionError("a picture was read")


def test_the_second_opening_finds_the_same_and_reads_no_picture(root, tmp_path, monkeypatch):
    expected = shown(opened(root))
    assert expected[3] == {"in test": 1, "nearly in test": 1, "nearly in selection": 1}
    assert any("cannot be decoded" in note for note in expected[2]) and any("turned" in note for note in expected[2])
    assert shown(opened(root, Store(tmp_path / "store"))) == expected
    monkeypatch.setattr("crossteach.data.files.decode", refuse)
    monkeypatch.setattr(files, "look_at", refuse)
    assert shown(opened(root, Store(tmp_path / "store"))) == expected
    with pytest.raises(AssertionError, match="was read"):
        opened(root, Store(tmp_path / "other"))


def test_a_worker_of_a_sweep_takes_what_its_parent_has_found(root, tmp_path, monkeypatch):
    expected = shown(opened(root, Store(tmp_path / "store")))
    monkeypatch.setattr("crossteach.data.files.decode", refuse)
    monkeypatch.setattr(files, "look_at", refuse)
    assert shown(jobs._data(f"folder:{root}", (f"folder:{root.parent / 'pool'}",), tmp_path / "store")) == expected
    jobs._data.cache_clear()


def test_near_duplicates_are_the_same_however_many_are_compared_at_once(root, monkeypatch):
    expected = shown(opened(root))
    monkeypatch.setattr(near, "READ", 8)
    monkeypatch.setattr(near, "COMPARED", 16)
    assert shown(opened(root)) == expected


@pytest.mark.parametrize("option", ["duplicates=exact", "samples=100", "check=all"])
def test_options_of_a_pool_are_told_apart(root, tmp_path, option):
    spec, store = f"folder:{root.parent / 'pool'}?{option}", Store(tmp_path / "store")
    opened(root, store)
    expected = shown(load_data(f"folder:{root}", [spec]))
    assert [shown(load_data(f"folder:{root}", [spec], store=store)) for _ in range(2)] == [expected] * 2


def test_a_picture_of_the_same_size_and_date_is_noticed(root, tmp_path):
    spec, store, path = f"folder:{root}", Store(tmp_path / "store"), root / "test" / "a" / "0.png"
    before, stat, content = load_data(spec, store=store), path.stat(), path.read_bytes()
    other = bytearray(content)
    other[-20] ^= 1  # a byte of the sum of the pixels: another content of the same size
    path.write_bytes(other)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)
    assert load_data(spec, store=store).test.fingerprint != before.test.fingerprint
    path.write_bytes(content)
    assert load_data(spec, store=store).fingerprint == before.fingerprint


def test_files_that_changed_just_now_are_always_read(root, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "SETTLED", 10**12)
    store = Store(tmp_path / "store")
    expected = shown(opened(root, store))
    assert shown(opened(root, store)) == expected
    monkeypatch.setattr(files, "look_at", refuse)
    with pytest.raises(AssertionError, match="was read"):
        opened(root, store)


def test_what_could_not_be_read_is_read_the_next_time(root, tmp_path, monkeypatch):
    pictures, store = PictureFiles(sorted((root / "train" / "a").iterdir())), Store(tmp_path / "store")
    read = PictureFiles.read

    def read_but_one(self, row):
        if row == 2:
            raise OSError("the network is away")
        return read(self, row)

    with keeping(store):
        monkeypatch.setattr(PictureFiles, "read", read_but_one)
        assert survey_files(pictures, PictureRules()).broken == {2: "the network is away"}
        monkeypatch.setattr(PictureFiles, "read", read)
        assert not survey_files(pictures, PictureRules()).broken


def test_a_store_that_cannot_be_written_is_no_reason_not_to_open(root, tmp_path):
    expected = shown(opened(root))
    with small_disk(tmp_path / "store") as remount:
        remount("ro")
        assert shown(opened(root, Store(tmp_path / "store"))) == expected
