"""What a folder of pictures holds: which files are read, how their pixels are meant, and what is said of the rest."""

import io
import os
import shutil
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from crossteach.data import load_data
from crossteach.data.files import BrokenPictureWarning
from crossteach.data.views import Views, augmentation
from crossteach.errors import DataError, SpecError
from crossteach.types import Preprocess

SEEDS = iter(range(10**6))


def picture(size=(16, 12), mode="RGB"):
    """Draw another picture each time."""
    rng = np.random.default_rng(next(SEEDS))
    channels = {"L": (), "RGB": (3,), "RGBA": (4,)}[mode]
    return Image.fromarray(rng.integers(0, 256, (size[1], size[0], *channels), dtype=np.uint8))


@pytest.fixture
def root(tmp_path):
    """Write two classes of three pictures in each split."""
    for split in ("train", "val", "test"):
        for label in ("cat", "dog"):
            (tmp_path / "images" / split / label).mkdir(parents=True)
            for i in range(3):
                picture().save(tmp_path / "images" / split / label / f"{i}.png")
    return tmp_path / "images"


def opened(root, options=""):
    return load_data(f"folder:{root}{options}")


def told(data, *words):
    """Return the one note that holds these words."""
    (note,) = [note for note in data.notes if all(word in note for word in words)]
    return note


# which files are pictures


@pytest.mark.parametrize("suffix", [".jpg", ".jfif", ".pgm", ".webp", ".bmp", ".tif", ".gif", ".JPEG", ".avif", ""])
def test_what_pillow_reads_is_a_picture(root, suffix):
    path = root / "test" / "cat" / f"more{suffix}"
    kind = {"": "PNG", ".jfif": "JPEG", ".pgm": "PPM", ".JPEG": "JPEG"}.get(suffix)
    picture(mode="L" if suffix == ".pgm" else "RGB").save(path, kind)
    data = opened(root)
    assert len(data.test) == 7 and data.notes == ()
    assert data.test.labels.tolist() == [0, 0, 0, 0, 1, 1, 1]


def test_links_are_followed_once(root, tmp_path):
    """A linked class folder once was a class without pictures: accuracy 100% on what was left."""
    shutil.move(root / "test" / "dog", tmp_path / "elsewhere")
    (root / "test" / "dog").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "round").symlink_to(root / "test")
    target = tmp_path / "single.png"
    picture().save(target)
    (root / "test" / "cat" / "linked.png").symlink_to(target)
    data = opened(root)
    assert data.classes == ("cat", "dog")
    assert np.bincount(data.test.labels).tolist() == [4, 3]
    assert "links to a folder above" in told(data, "of test are not read")


def test_a_link_to_itself_is_a_broken_one(root):
    (root / "test" / "cat" / "round.png").symlink_to("round.png")
    assert "1 broken links" in told(opened(root), "of test are not read")


def test_what_is_not_read_is_counted_and_named(root):
    cat = root / "test" / "cat"
    (cat / "notes.txt").write_text("no picture")
    (cat / ".hidden.png").write_bytes((cat / "0.png").read_bytes())
    (cat / "gone.png").symlink_to(root / "nowhere.png")
    (cat / "README").write_text("no picture either")
    note = told(opened(root), "of test are not read")
    assert note.startswith("4 files or folders of test are not read")
    for reason in ("1 hidden", "1 broken links", "1 .txt that Pillow does not read", "1 without suffix and no images"):
        assert reason in note


def test_what_systems_leave_behind_is_no_class_and_no_picture(root):
    """An archive's __MACOSX once counted as one more class."""
    for split in ("train", "test"):
        for name in ("__MACOSX", ".git", "@eaDir"):
            (root / split / name).mkdir()
            picture().save(root / split / name / "x.png")
        (root / split / "cat" / "Thumbs.db").write_bytes(b"\0" * 20)
        picture().save(root / split / "cat" / "._0.png")
        (root / split / "desktop.ini").write_text("[x]")
    data = opened(root)
    assert data.classes == ("cat", "dog") and len(data.train) == len(data.test) == 6
    assert "hidden or left behind by a system" in told(data, "of train are not read")


def test_a_class_that_came_out_empty_in_test_is_refused_unless_allowed(root):
    for path in (root / "test" / "dog").iterdir():
        path.unlink()
    (root / "test" / "dog" / "label.txt").write_text("dog")
    with pytest.raises(DataError, match=r"1 of 2 class folders in .*test hold no picture.*'dog'.*empty_classes=true"):
        opened(root)
    data = opened(root, "?empty_classes=true")
    assert data.classes == ("cat", "dog") and data.test.labels.tolist() == [0, 0, 0]
    assert "'dog'" in told(data, "1 of 2 classes have no sample in test")


def test_a_class_without_a_folder_in_test_is_counted_and_said(root):
    shutil.rmtree(root / "test" / "dog")
    data = opened(root)
    assert data.classes == ("cat", "dog") and data.test.labels.tolist() == [0, 0, 0]
    assert "1 of 2 classes have no sample in test, 'dog' among them" in data.notes


def test_names_that_are_not_utf_8_are_read_and_shown_escaped(root):
    folder = root / "test" / os.fsdecode(b"gr\xfc\xdf")
    folder.mkdir()
    with (folder / os.fsdecode(b"p\xe9.png")).open("wb") as file:
        picture().save(file, "PNG")
    data = opened(root)
    assert data.classes == ("cat", "dog", r"gr\xfc\xdf")
    assert data.test.labels.tolist()[-1] == 2
    assert data.test.inputs.read(np.array([6]), (8, 8), None).shape == (1, 3, 8, 8)
    for note in data.notes:
        note.encode("utf-8")


# what is missing


@pytest.fixture
def plain(tmp_path):
    """Write class folders alone."""
    for label, count in (("bus", 20), ("car", 20), ("train", 10)):
        (tmp_path / "plain" / label).mkdir(parents=True)
        for i in range(count):
            picture().save(tmp_path / "plain" / label / f"{i}.png")
    return tmp_path / "plain"


def test_without_test_half_of_val_is_cut_else_a_fifth_of_train(root):
    shutil.rmtree(root / "test")
    data = opened(root)
    assert (len(data.train), len(data.selection) + len(data.test)) == (6, 6) and not data.selection_seen
    assert f"{len(data.test)} of 6 samples of selection were cut off for it" in told(data, "there is no test split")
    shutil.rmtree(root / "val")
    for i in range(3, 12):
        picture().save(root / "train" / "cat" / f"{i}.png")
    data = opened(root)
    assert "samples of train were cut off for it, by a fixed seed" in told(data, "there is no test split")
    assert data.selection_seen and len(data.train) + len(data.selection) + len(data.test) == 15


def test_class_folders_alone_are_train_and_cut_alike_every_time(plain, tmp_path):
    """A class may be called train."""
    data = opened(plain)
    assert data.classes == ("bus", "car", "train")
    assert np.bincount(data.test.labels).tolist() == [4, 4, 2]
    assert [len(s) for s in (data.train, data.selection, data.test)] == [36, 4, 10]
    assert "its own folders are classes" in data.notes[0]
    assert "10 of 50 samples of train were cut off for it" in told(data, "there is no test split")
    shutil.copytree(plain, tmp_path / "moved")
    moved = opened(tmp_path / "moved")
    assert moved.fingerprint == data.fingerprint and data.opens_by == f"folder:{plain}"
    assert not set(data.train.ids) & set(data.test.ids) and not set(data.selection.ids) & set(data.test.ids)


def test_what_would_be_cut_differs_with_the_labels_but_not_with_the_pool(plain):
    whole = load_data(f"folder:{plain}?train_samples=20", [f"folder:{plain}"])
    assert len(whole.pools[0].split) == 16 and whole.pools[0].dropped["in test"] == 10
    assert whole.test.fingerprint == opened(plain).test.fingerprint


def test_splits_are_found_whatever_the_case_of_their_names(root):
    before = opened(root)
    (root / "train").rename(root / "Train")
    (root / "test").rename(root / "TEST")
    data = opened(root)
    assert data.classes == ("cat", "dog") and len(data.test) == len(before.test) and data.notes == ()


@pytest.mark.parametrize(
    ("arrange", "came"),
    [
        (lambda root: root.rename(root.parent / "inner"), "lies elsewhere"),
        (lambda root: [path.rename(root.parent / path.name) for path in root.glob("*/*.png")], "lies elsewhere"),
        (lambda root: [shutil.rmtree(root / label) for label in ("car", "train")], "1 folders hold pictures"),
        (shutil.rmtree, "0 folders hold pictures"),
    ],
)
def test_trees_without_classes_are_refused_and_open_as_pools(plain, arrange, came, tmp_path):
    outer = tmp_path / "outer"
    outer.mkdir()
    inner = plain.rename(outer / "plain")
    arrange(inner)
    target = outer if came == "lies elsewhere" else inner if inner.exists() else outer
    with pytest.raises(DataError, match=rf"neither train/CLASS/IMAGE .*{came}; .* --pool folder:{target}$"):
        opened(target)


def test_val_and_test_beside_a_pool_open_again_by_their_own_spec(root):
    """The folder is data and pool under one name; its labels are not the pool's."""
    (root / "train").rename(root / "more")
    data = load_data(f"folder:{root}", [f"folder:{root}"])
    assert not len(data.train) and data.opens_by == f"folder:{root}" and data.test.labels is not None
    assert load_data(None, [f"folder:{root}"]).opens_by is None


# the order of classes


@pytest.fixture
def numbered(tmp_path):
    for split in ("train", "val", "test"):
        for label in range(12):
            (tmp_path / split / str(label)).mkdir(parents=True)
            picture().save(tmp_path / split / str(label) / "0.png")
    return tmp_path


def test_folders_that_are_numbers_are_ordered_as_numbers_and_that_is_said(numbered):
    data = opened(numbered)
    assert data.classes == tuple(map(str, range(12)))
    note = told(data, "class folders are numbers")
    assert "?class_order=text" in note
    as_text = opened(numbered, "?class_order=text")
    assert as_text.classes[:4] == ("0", "1", "10", "11") and "?class_order=numbers" in told(as_text, "ordered as text")


def test_other_folders_are_ordered_as_text_and_said_where_numbers_would_differ(numbered):
    for split in ("train", "val", "test"):
        for label in range(12):
            (numbered / split / str(label)).rename(numbered / split / f"class{label}")
    data = opened(numbered)
    assert data.classes[:3] == ("class0", "class1", "class10")
    assert "?class_order=numbers" in told(data, "ordered as text")
    assert opened(numbered, "?class_order=numbers").classes == tuple(f"class{i}" for i in range(12))


# how pixels are meant


def pixels(split, row, size):
    return split.inputs.read(np.array([row]), size, None)[0]


def test_pictures_are_turned_upright_as_exif_says(root):
    upright = picture((20, 10))
    for orientation, turn in ((6, Image.Transpose.ROTATE_90), (3, Image.Transpose.ROTATE_180)):
        exif = Image.Exif()
        exif[0x0112] = orientation
        upright.transpose(turn).save(root / "test" / "cat" / "0.png", exif=exif)
        data = opened(root)
        expected = torch.from_numpy(np.asarray(upright).copy()).permute(2, 0, 1).float() / 255
        assert torch.equal(pixels(data.test, 0, (10, 20)), expected)
        assert data.test.inputs.aspect(np.array([0])).item() == 2.0
        assert "1 pictures (test 1) are turned upright" in told(data, "?exif=ignore")
        left = opened(root, "?exif=ignore")
        assert left.test.inputs.fingerprint != data.test.inputs.fingerprint and not left.notes
        assert left.test.inputs.aspect(np.array([0])).item() == (0.5 if orientation == 6 else 2.0)


def test_a_tiff_that_pillow_turns_itself_is_turned_once(root):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture((20, 10)).transpose(Image.Transpose.ROTATE_90).save(root / "test" / "cat" / "0.tif", exif=exif)
    with Image.open(root / "test" / "cat" / "0.tif") as image:
        image.load()
        expected = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float() / 255
    data = opened(root)
    row = 1  # after 0.png
    assert torch.equal(pixels(data.test, row, tuple(expected.shape[1:])), expected)
    assert data.test.inputs.aspect(np.array([row])).item() == expected.shape[2] / expected.shape[1]


def test_transparent_pictures_are_laid_on_a_background(root):
    hidden = np.zeros((6, 6, 4), np.uint8)
    hidden[:, :, 0] = 200  # red, that transparency hides on the left
    hidden[:, 3:, 3] = 255
    Image.fromarray(hidden).save(root / "test" / "cat" / "0.png")
    for options, left in (
        ("", (1, 1, 1)),
        ("#ff8000", (1, 128 / 255, 0)),
        ("black", (0, 0, 0)),
    ):
        data = opened(root, options and f"?background={options}")
        seen = pixels(data.test, 0, (6, 6))
        assert seen[:, 0, 0].tolist() == pytest.approx(left)
        assert seen[:, 0, 5].tolist() == pytest.approx((200 / 255, 0, 0))
        assert "1 pictures (test 1) are transparent" in told(data, "transparent")
    dropped = opened(root, "?background=none")
    assert pixels(dropped.test, 0, (6, 6))[:, 0, 0].tolist() == pytest.approx((200 / 255, 0, 0))


def test_a_transparent_colour_of_a_palette_is_transparent(root):
    image = Image.fromarray(np.array([[0, 1], [1, 0]], np.uint8), "P")
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.save(root / "test" / "cat" / "0.png", transparency=0)
    seen = pixels(opened(root).test, 0, (2, 2))
    assert seen[:, 0, 0].tolist() == [1, 1, 1] and seen[:, 0, 1].tolist() == [0, 0, 1]


@pytest.mark.parametrize("option", ["exif=maybe", "background=nocolour", "max_broken=2", "class_order=x", "check=some"])
def test_options_out_of_range_are_refused(root, option):
    with pytest.raises(SpecError, match=option.partition("=")[0]):
        opened(root, f"?{option}")


# broken pictures


@pytest.fixture
def many(root):
    for i in range(200):
        picture((8, 8)).save(root / "train" / "cat" / f"more{i}.png")
    return root


def test_one_broken_picture_in_many_is_skipped_counted_and_named(many):
    (many / "train" / "cat" / "more7.png").write_bytes(b"\x89PNG\r\n\x1a\nno picture")
    data = opened(many)
    assert len(data.train) == 205
    assert "more7.png" in told(data, "1 of 206 pictures of train cannot be decoded and are skipped")
    assert data.train.inputs.read(np.arange(205), (8, 8), None).shape == (205, 3, 8, 8)


def test_a_picture_that_is_cut_short_behind_an_earlier_end_is_broken(many):
    """The end mark of a thumbnail, or of a file before it, is no end of the file."""
    path = many / "train" / "cat" / "more9.png"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] + b"IEND\xaeB`\x82" + whole[len(whole) // 2 : -40])
    assert "more9.png" in told(opened(many), "1 of 206 pictures of train cannot be decoded")


def test_many_broken_pictures_are_refused_unless_allowed(many):
    for i in range(4):
        (many / "train" / "cat" / f"more{i}.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"4 of 206 files in .*train cannot be decoded.*raise \?max_broken=0.01"):
        opened(many)
    assert len(opened(many, "?max_broken=0.05").train) == 202


def test_damage_that_shows_only_when_a_picture_is_used_is_said(many):
    path = many / "train" / "cat" / "more3.png"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    data = opened(many)
    row = int(np.flatnonzero(data.train.labels == 0)[0])
    with pytest.warns(BrokenPictureWarning, match=r"more3.png cannot be decoded.*\?check=all"):
        images = data.train.inputs.read(np.arange(len(data.train)), (8, 8), None)
    grey = [i for i in range(len(images)) if (images[i] == 128 / 255).all()]
    assert len(grey) == 1 and row <= grey[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        checked = opened(many, "?check=all")
        checked.train.inputs.read(np.arange(len(checked.train)), (8, 8), None)
    assert len(checked.train) == 205


# what a picture is known by


def test_a_picture_that_was_replaced_is_noticed(root):
    """Another content under the same path, size and time: 95.6% once was served from the store, true were 0.6%."""
    path = root / "test" / "cat" / "0.bmp"
    picture().save(path)
    before, state = opened(root), path.stat()
    picture().save(path)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert path.stat().st_size == state.st_size and path.stat().st_mtime_ns == state.st_mtime_ns
    after = opened(root)
    assert after.test.fingerprint != before.test.fingerprint and after.fingerprint != before.fingerprint
    assert after.train.fingerprint == before.train.fingerprint


def test_beyond_a_limit_files_are_known_by_their_end_and_a_sample_by_content(root, monkeypatch):
    monkeypatch.setattr("crossteach.data.files.WHOLE_FILES", 4)
    monkeypatch.setattr("crossteach.data.files.SAMPLE", 3)
    before = opened(root)
    assert "of them by their whole content" in told(before, "pictures of test")
    path = root / "test" / "dog" / "1.png"
    buffer = io.BytesIO()
    picture().save(buffer, "PNG")
    path.write_bytes(buffer.getvalue())
    assert opened(root).test.fingerprint != before.test.fingerprint


# what models are handed


TRAIN_STEP = """
import sys, timm, torch, torch.nn.functional as F, numpy as np
from crossteach.data import load_data
from crossteach.types import Preprocess
data = load_data("folder:" + sys.argv[1])
for name, side in (("fastvit_t8", 64), ("mobileone_s0", 64), ("gernet_s", 64)):
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False, num_classes=2)
    read = data.train.inputs.read(np.arange(6), (side, side), None)
    evaluated = data.train.inputs.evaluation(np.arange(6), Preprocess(size=(side, side)))
    for images in (read, evaluated):
        assert images.is_contiguous()
        F.cross_entropy(model(images), torch.from_numpy(data.train.labels)).backward()
    print(name, "trained", flush=True)
"""


def test_models_that_other_layouts_crash_train_on_what_is_read(root):
    """torch aborts the process on channels-last pixels: "double free or corruption"."""
    ended = subprocess.run([sys.executable, "-c", TRAIN_STEP, root], capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert ended.stdout.split("\n")[:3] == [f"{n} trained" for n in ("fastvit_t8", "mobileone_s0", "gernet_s")]


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "webp", "bmp", "tiff"])
def test_a_file_that_is_cut_short_is_found_when_the_data_are_opened(root, suffix):
    for share in (0.3, 0.6, 0.9):
        path = root / "train" / "dog" / f"x.{suffix}"
        picture((90, 60)).save(path)
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
        with pytest.raises(DataError, match=rf"1 of 7 files .*dog/x\.{suffix}"):
            opened(root)


def test_bytes_behind_the_end_are_no_damage(root):
    for suffix in ("jpg", "png", "gif"):
        path = root / "train" / "dog" / f"x.{suffix}"
        picture((90, 60)).save(path)
        path.write_bytes(path.read_bytes() + b"trailer of a camera")
    assert opened(root).notes == ()


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_are_handed_out_channels_first_in_memory(root, channels):
    train, size = opened(root, f"?channels={channels}").train, Preprocess((6, 8))
    batch = Views(0, 4, augmentation("crop")).batch(train, np.arange(6), np.ones(6, int))
    for images in (train.inputs.evaluation(np.arange(6), size), batch.images(size)):
        assert images.stride() == (channels * 48, 48, 8, 1)
