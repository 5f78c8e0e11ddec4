import gzip
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from crossteach.data import load_data
from crossteach.data.arrays import GLYPHS
from crossteach.data.cut import stratified_cut
from crossteach.errors import CrossteachError, DataError, SpecError
from crossteach.types import Split


def arrays(**changes):
    """Return the arrays of a small whole data set, with some changed or (None) left out."""
    rng = np.random.default_rng(0)
    parts = {"train": 60, "val": 30, "test": 40}
    whole = {f"x_{k}": rng.integers(0, 256, (n, 8, 9), dtype=np.uint8) for k, n in parts.items()}
    whole |= {f"y_{k}": np.arange(n) % 3 for k, n in parts.items()} | {"class_names": np.array(["a", "b", "c"])}
    return {key: value for key, value in {**whole, **changes}.items() if value is not None}


@pytest.fixture
def npz(tmp_path):
    def load(options="", **changes):
        np.savez(tmp_path / "d.npz", **arrays(**changes))
        return load_data(f"npz:{tmp_path / 'd.npz'}{options}")

    return load


@pytest.fixture
def folder(tmp_path):
    """Write two classes of two images in three splits; return the root."""
    rng = np.random.default_rng(0)
    for k, split in enumerate(("train", "valid", "test")):
        for label in "ab":
            (tmp_path / "images" / split / label).mkdir(parents=True)
            for i in range(2):
                pixels = rng.integers(0, 256, (12 + k, 16 + i, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "images" / split / label / f"{i}.png")
    return tmp_path / "images"


def pixels(split, size=None):
    return split.inputs.read(split.input_rows(np.arange(len(split))), size, None)


def refused(kind, *culprits):
    """Expect an error of exactly this class whose one line names the culprits."""
    pattern = "(?s)" + "".join(f"(?=.*{culprit})" for culprit in culprits)
    return pytest.raises(kind, match=pattern, check=lambda error: type(error) is kind and "\n" not in str(error))


def test_npz_is_read_as_it_was_written(npz):
    data, written = npz(), arrays()
    assert data.classes == ("a", "b", "c") and not data.selection_seen and data.notes == ()
    for split, key in ((data.train, "train"), (data.selection, "val"), (data.test, "test")):
        assert torch.equal(pixels(split), torch.from_numpy(written[f"x_{key}"])[:, None].float() / 255)
        assert split.labels.tolist() == written[f"y_{key}"].tolist()
        assert (split.inputs.size, split.inputs.channels) == ((8, 9), 1)
    ids = np.concatenate([data.train.ids, data.selection.ids, data.test.ids])
    assert len(set(ids.tolist())) == 130


def test_floats_and_bytes_are_the_same_pixels(npz):
    colour = np.random.default_rng(0).integers(0, 256, (60, 8, 9, 3), dtype=np.uint8)
    rng = np.random.default_rng(1)
    changes = {key: rng.integers(0, 256, (n, 8, 9, 3), np.uint8) for key, n in (("x_val", 30), ("x_test", 40))}
    of_bytes = npz(x_train=colour, **changes).train
    of_floats = npz(x_train=colour / 255, **changes).train
    assert torch.allclose(pixels(of_bytes), pixels(of_floats))
    assert torch.equal(pixels(of_bytes)[7, 2], torch.from_numpy(colour[7, :, :, 2]).float() / 255)


def test_labels_of_any_whole_type_are_read(npz):
    for kind in (np.int8, np.uint8, np.uint32):
        assert npz(y_train=(np.arange(60) % 3).astype(kind)).train.labels.dtype == np.int64


def test_what_may_be_missing(npz):
    assert npz(class_names=None).classes == ("0", "1", "2")
    assert npz(y_train=None).train.labels is None
    assert npz(y_val=None).selection.labels is None
    without = npz(y_train=np.arange(60) % 2)
    assert without.classes == ("a", "b", "c")
    assert any("1 of 3 classes have no sample in train, 'c'" in note for note in without.notes)


def test_missing_images_of_test_are_cut_and_said(npz):
    """Half of the validation, which no model has learned from; else a fifth of train."""
    data = npz(x_test=None, y_test=None)
    assert [len(s) for s in (data.train, data.selection, data.test)] == [60, 15, 15] and not data.selection_seen
    assert data.notes[0].startswith("there is no test split: 15 of 30 samples of selection were cut off")
    alone = npz(x_test=None, y_test=None, x_val=None, y_val=None)
    assert [len(s) for s in (alone.train, alone.selection, alone.test)] == [43, 5, 12] and alone.selection_seen
    assert np.bincount(alone.test.labels).tolist() == [4, 4, 4]
    assert alone.fingerprint == npz(x_test=None, y_test=None, x_val=None, y_val=None).fingerprint
    assert len(npz(x_train=None, y_train=None).train) == 0  # pools teach then


def test_the_fingerprint_sees_every_pixel_and_label(npz):
    before = npz().fingerprint
    assert npz().fingerprint == before
    assert npz(y_train=np.zeros(60, int)).fingerprint != before
    assert npz(class_names=np.array(["a", "b", "d"])).fingerprint != before
    assert npz(y_train=np.zeros(60, int)).train.fingerprint == npz().train.fingerprint
    changed = arrays()["x_train"].copy()
    changed[59, 7, 8] ^= 1
    assert npz(x_train=changed).fingerprint != before


def test_selection_is_a_stratified_tenth_of_train(npz):
    y = np.repeat([0, 1, 2], [300, 200, 100])
    rng = np.random.default_rng(1)
    changes = {"x_train": rng.integers(0, 256, (600, 4, 4), dtype=np.uint8), "y_train": rng.permutation(y)}
    data, again = npz(x_val=None, y_val=None, **changes), npz(x_val=None, y_val=None, **changes)
    assert data.selection_seen and "selection was cut from train" in data.notes[0]
    assert np.bincount(data.selection.labels).tolist() == [30, 20, 10]
    assert (len(data.train), len(data.test)) == (540, 40)
    assert set(data.selection.ids) | set(data.train.ids) == set(range(600))
    assert data.selection.ids.tolist() == again.selection.ids.tolist()
    expected = torch.from_numpy(changes["x_train"][data.selection.ids]).float()[:, None] / 255
    assert torch.equal(pixels(data.selection), expected)
    assert data.selection.labels.tolist() == changes["y_train"][data.selection.ids].tolist()


def test_selection_from_test_takes_half_of_it(npz):
    data = npz("?selection_from=test", x_val=None, y_val=None)
    assert not data.selection_seen and len(data.train) == 60
    assert np.abs(np.bincount(data.selection.labels) - np.bincount(data.test.labels)).max() <= 1
    assert len(data.selection) + len(data.test) == 40 and not set(data.selection.ids) & set(data.test.ids)


def test_groups_are_cut_whole(npz):
    group = np.array([f"font{i // 4}" for i in range(40)])
    data = npz("?selection_from=test", group_test=group)
    cut, kept = set(group[data.selection.ids % 2**40]), set(group[data.test.ids % 2**40])
    assert not cut & kept and cut | kept == set(group)
    assert len(data.selection) == len(data.test) == 20
    for split in (data.selection, data.test):
        names = group[split.ids % 2**40]
        assert (split.group[:, None] == split.group).tolist() == (names[:, None] == names).tolist()


def test_a_selection_that_is_cut_although_there_is_one_is_said(npz):
    assert any("x_val" in note or "selection" in note for note in npz("?selection_from=test").notes)


@pytest.mark.parametrize("n", [3, 10, 25, 59, 60, 1000])
def test_train_samples_is_a_stratified_draw_of_so_many(npz, n):
    y = np.repeat([0, 1, 2], [30, 20, 10])
    data, again = npz(f"?train_samples={n}", y_train=y), npz(f"?train_samples={n}", y_train=y)
    drawn = np.bincount(data.train.labels, minlength=3)
    assert np.abs(drawn - min(n, 60) / 60 * np.array([30, 20, 10])).max() < 1
    assert data.train.ids.tolist() == again.train.ids.tolist()
    assert (len(data.selection), len(data.test)) == (30, 40)
    assert len(data.train) == min(n, 60)


def test_train_labels_can_be_hidden(npz):
    data = npz("?train_labels=false", x_val=None, y_val=None)
    assert data.train.labels is None
    assert data.selection.labels is not None and data.test.labels is not None
    assert npz("?train_labels=true").train.labels is not None


def test_a_cut_needs_something_on_both_sides(unchecked):
    split = Split("train", None, np.arange(3), np.zeros(3, int), group=np.zeros(3, int))
    with refused(DataError, "train", "3", "10%"):
        stratified_cut(split, 0.1)


NAN = np.full((60, 8, 9), 0.5)
NAN[4, 2, 2] = NAN[9, 0, 0] = np.nan

BAD_ARRAYS = {
    "objects": ({"y_train": np.array([0, "a", None], dtype=object)}, ["d.npz", "pickle"]),
    "no train images": ({"x_train": None, "x_val": None}, ["x_train", "it has class_names, x_test"]),
    "fewer labels": ({"y_train": np.zeros(59, int)}, ["train", "60", "59"]),
    "fewer groups": ({"group_val": np.zeros(29, int)}, ["selection", "30", "29"]),
    "label below 0": ({"y_test": np.arange(40) % 3 - 1}, ["test", "0..2", "-1"]),
    "label above C": ({"y_train": np.arange(60) % 4}, ["train", "0..2", "3"]),
    "float labels": ({"y_val": np.zeros(30)}, ["y_val", "float64"]),
    "column of labels": ({"y_test": np.zeros((40, 1), int)}, ["test", r"\[40, 1\]|40.*1"]),
    "one-hot labels": ({"y_train": np.eye(3, dtype=int)[np.arange(60) % 3]}, ["train", r"\[60, 3\]|60.*3"]),
    "a single label": ({"y_train": np.int64(2)}, ["train"]),
    "empty": ({"x_train": np.zeros((0, 8, 9), np.uint8), "y_train": np.zeros(0, int)}, ["train", "empty"]),
    "NaN pixels": ({"x_train": NAN}, ["x_train", "NaN", "2 of 60"]),
    "pixels to 255": ({"x_val": np.full((30, 8, 9), 255.0)}, ["x_val", "255"]),
    "whole-number pixels": ({"x_val": np.zeros((30, 8, 9), int)}, ["x_val", "int64"]),
    "flat images": ({"x_train": np.zeros((60, 72), np.uint8)}, ["x_train", r"\[60, 72\]"]),
    "channels first": ({"x_train": np.zeros((60, 3, 8, 9), np.uint8)}, ["x_train", r"\[60, 3, 8, 9\]"]),
    "colour beside grey": ({"x_test": np.zeros((40, 8, 9, 3), np.uint8)}, ["test", "channels"]),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_arrays_that_do_not_fit_are_refused(npz, unchecked, case):
    changes, culprits = BAD_ARRAYS[case]
    with refused(DataError, *culprits):
        npz(**changes)


@pytest.mark.parametrize(
    ("options", "kind", "culprit"),
    [
        ("?bogus=1", SpecError, "bogus"),
        ("?train_labels=no", SpecError, "train_labels"),
        ("?train_samples=many", SpecError, "train_samples"),
        ("?train_samples=nan", SpecError, "train_samples"),
        ("?train_samples=0", DataError, "train_samples"),
        ("?selection_from=val", DataError, "selection_from"),
        ("?class_names=x,y", DataError, "must be 3 different names"),
        ("?class_names=x,y,x", DataError, "2 of them different"),
        ("?train_samples", SpecError, "KEY=VALUE"),
    ],
)
def test_options_out_of_range_are_refused(npz, options, kind, culprit):
    with refused(kind, culprit):
        npz(options)


def test_classes_may_be_named(npz):
    named = npz("?class_names=ankle boot,bag,coat")
    assert named.classes == ("ankle boot", "bag", "coat")
    assert named.fingerprint != npz().fingerprint
    assert named.test.fingerprint == npz().test.fingerprint  # what a model answers stays stored


def test_files_that_are_no_archive_are_refused(tmp_path):
    with refused(DataError, "missing.npz"):
        load_data(f"npz:{tmp_path}/missing.npz")
    np.savez(tmp_path / "whole.npz", **arrays())
    content, path = (tmp_path / "whole.npz").read_bytes(), tmp_path / "d.npz"
    damaged = bytearray(content)
    damaged[400] ^= 255
    for wrong in (content[:-100], content[: len(content) // 2], bytes(damaged), b"", b"no archive"):
        path.write_bytes(wrong)
        with refused(DataError, "d.npz"):
            load_data(f"npz:{path}")


def test_a_single_array_is_refused(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((4, 8, 8)))
    with refused(DataError, "x.npy", "single array"):
        load_data(f"npz:{tmp_path}/x.npy")


def test_a_path_may_hold_an_at_sign(tmp_path):
    (tmp_path / "me@home").mkdir()
    np.savez(tmp_path / "me@home" / "d.npz", **arrays())
    assert len(load_data(f"npz:{tmp_path}/me@home/d.npz").train) == 60


def test_unknown_sources_are_refused():
    for spec in ("images:x", "d.nz", ""):
        with refused(SpecError, "csv, folder, glyphs, hf, idx, npz, sklearn, wds"):
            load_data(spec)
    with refused(SpecError, "sklearn:digits"):
        load_data("sklearn:iris")


def test_folder_reads_files_in_class_folders(folder):
    data = load_data(f"folder:{folder}")
    assert data.classes == ("a", "b") and not data.selection_seen
    assert [len(s) for s in (data.train, data.selection, data.test)] == [4, 4, 4]
    assert data.train.labels.tolist() == [0, 0, 1, 1]
    assert data.train.inputs.size is None and data.train.inputs.channels == 3
    with Image.open(folder / "train" / "b" / "1.png") as image:
        assert data.train.inputs.aspect(np.array([3])).item() == pytest.approx(image.width / image.height)
        expected = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float() / 255
    assert torch.equal(data.train.inputs.read(np.array([3]), (12, 17), None)[0], expected)
    half = torch.tensor([[0.0, 0.0, 8 / 17, 1.0]])
    assert torch.equal(data.train.inputs.read(np.array([3]), (12, 8), half)[0], expected[:, :, :8])
    assert load_data(f"folder:{folder}?channels=1").train.inputs.read(np.array([3]), (4, 4), None).shape == (1, 1, 4, 4)


def test_ids_of_files_stay_when_others_come(folder):
    before = load_data(f"folder:{folder}").train
    shutil.copy(folder / "train" / "a" / "0.png", folder / "train" / "a" / "00.png")
    after = load_data(f"folder:{folder}").train
    assert set(before.ids) < set(after.ids) and len(after) == 5
    assert before.inputs.fingerprint != after.inputs.fingerprint


def test_files_outside_class_folders_are_unlabelled(folder):
    for path in sorted((folder / "train").rglob("*.png")):
        path.rename(folder / "train" / f"{path.parent.name}{path.name}")
    assert load_data(f"folder:{folder}").train.labels is None


def test_a_class_that_train_lacks_is_noted(folder):
    shutil.rmtree(folder / "train" / "b")
    assert "'b'" in load_data(f"folder:{folder}").notes[0]


@pytest.mark.parametrize(
    ("spoil", "culprits"),
    [
        (lambda f: shutil.rmtree(f), ["no folder"]),
        (lambda f: [shutil.rmtree(f / split) for split in ("train", "valid")], ["no train split"]),
        (lambda f: [p.unlink() for p in (f / "train").rglob("*.png")], ["train", "empty"]),
        (lambda f: (f / "train" / "a" / "0.png").rename(f / "train" / "0.png"), ["0.png"]),
    ],
)
def test_folders_that_do_not_fit_are_refused(folder, spoil, culprits):
    spoil(folder)
    with refused(DataError, *culprits):
        load_data(f"folder:{folder}")


@pytest.mark.parametrize("keep", [0, 20, 200])
@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_cannot_be_decoded_is_named(folder, keep, workers):
    broken = folder / "train" / "a" / "1.png"
    broken.write_bytes(broken.read_bytes()[:keep])
    with refused(DataError, "train/a/1.png", "1 of 4", r"\?max_broken"):
        load_data(f"folder:{folder}?workers={workers}")


@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_are_scaled_or_refused_but_never_clipped(folder, channels):
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    Image.fromarray(ramp).save(folder / "train" / "a" / "0.png")
    try:
        images = load_data(f"folder:{folder}?channels={channels}").train.inputs.read(np.arange(1), (16, 16), None)
    except CrossteachError:
        return
    assert torch.allclose(images[0, 0], torch.from_numpy(ramp / 65535).float(), atol=0.01)


@pytest.mark.parametrize("option", ["channels=2", "channels=red", "workers=-1", "workers=few", "size=8"])
def test_folder_options_out_of_range_are_refused(folder, option):
    with refused(SpecError, option.partition("=")[0]):
        load_data(f"folder:{folder}?{option}")


def write_idx(folder, zipped=True, **changes):
    """Write the four files of the MNIST family: 20 and 10 images of 4x5."""
    rng, suffix = np.random.default_rng(0), ".gz" if zipped else ""
    for stem, n in (("train", 20), ("t10k", 10)):
        images = bytes((0, 0, 8, 3)) + struct.pack(">3I", n, 4, 5) + rng.bytes(n * 20)
        labels = bytes((0, 0, 8, 1)) + struct.pack(">I", n) + bytes(i % 2 for i in range(n))
        for name, content in ((f"{stem}-images-idx3-ubyte", images), (f"{stem}-labels-idx1-ubyte", labels)):
            content = changes.get(name.replace("-", "_"), lambda content: content)(content)
            if content is not None:
                (folder / f"{name}{suffix}").write_bytes(gzip.compress(content) if zipped else content)
    return f"idx:{folder}"


@pytest.mark.parametrize("zipped", [True, False])
def test_idx_is_read_as_it_was_written(tmp_path, zipped):
    spec = write_idx(tmp_path, zipped)
    (tmp_path / "classes.txt").write_text("even\nodd\n")
    data = load_data(spec)
    assert data.classes == ("even", "odd") and data.selection_seen
    assert len(data.train) + len(data.selection) == 20 and len(data.test) == 10
    assert data.test.labels.tolist() == [i % 2 for i in range(10)]
    rng = np.random.default_rng(0)
    rng.bytes(400)
    written = np.frombuffer(rng.bytes(200), np.uint8).reshape(10, 1, 4, 5)
    assert torch.equal(pixels(data.test), torch.from_numpy(written.copy()).float() / 255)


@pytest.mark.parametrize(
    ("name", "change", "culprits"),
    [
        ("t10k_labels_idx1_ubyte", lambda content: None, ["t10k-labels-idx1-ubyte"]),
        ("train_images_idx3_ubyte", lambda content: content[:-1], ["train-images", "cut short"]),
        ("train_images_idx3_ubyte", lambda content: content[:7], ["train-images"]),
        ("train_images_idx3_ubyte", lambda content: b"\0\0\x0d\3" + content[4:], ["train-images", "uint8"]),
        ("t10k_labels_idx1_ubyte", lambda c: c[:7] + b"\x09" + c[8:-1], ["test", "10", "9"]),
    ],
)
def test_idx_files_that_do_not_fit_are_refused(tmp_path, name, change, culprits):
    with refused(DataError, *culprits):
        load_data(write_idx(tmp_path, **{name: change}))


def test_idx_without_its_test_files_is_cut(tmp_path):
    gone = {f"t10k_{what}_ubyte": lambda content: None for what in ("images_idx3", "labels_idx1")}
    data = load_data(write_idx(tmp_path, **gone))
    assert [len(s) for s in (data.train, data.selection, data.test)] == [14, 2, 4]
    assert "4 of 20 samples of train were cut off for it" in data.notes[0]


def test_idx_files_that_are_no_gzip_are_refused(tmp_path):
    spec = write_idx(tmp_path)
    path = tmp_path / "t10k-images-idx3-ubyte.gz"
    for wrong in (path.read_bytes()[:-20], b"no gzip"):
        path.write_bytes(wrong)
        with refused(DataError, "t10k-images"):
            load_data(spec)
    with refused(DataError, "nowhere"):
        load_data("idx:nowhere")


def fashion_mnist():
    """Return the folder of Debian's Fashion-MNIST, or None."""
    if shutil.which("dpkg") is None:
        return None
    listed = subprocess.run(["dpkg", "-L", "dataset-fashion-mnist"], capture_output=True, text=True, check=False)
    return next((Path(line).parent for line in listed.stdout.split("\n") if line.endswith("ubyte.gz")), None)


@pytest.mark.skipif(fashion_mnist() is None, reason="Debian's package dataset-fashion-mnist is not installed")
def test_fashion_mnist():
    data = load_data(f"idx:{fashion_mnist()}")
    assert len(data.train) + len(data.selection) == 60000 and len(data.test) == 10000
    assert data.test.inputs.size == (28, 28) and len(data.classes) == 10
    assert np.bincount(data.test.labels).tolist() == [1000] * 10
    assert np.bincount(data.selection.labels).tolist() == [600] * 10
    assert data.test.labels[:5].tolist() == [9, 2, 1, 1, 6]


def test_sklearn_digits():
    data = load_data("sklearn:digits")
    assert [len(s) for s in (data.train, data.selection, data.test)] == [1078, 360, 359]
    assert len(data.classes) == 10 and data.test.inputs.size == (8, 8) and not data.selection_seen
    assert pixels(data.test).max() == 1


def test_glyphs():
    data = load_data("glyphs")
    splits = {"train": data.train, "selection": data.selection, "test": data.test}
    assert len(data.classes) == len(set(data.classes)) == 100
    assert data.augmentation == "warp" and not data.selection_seen
    label_of, split_of = {}, {}
    with np.load(GLYPHS) as archive:
        names = {k: set(archive[f"group_{k}"].tolist()) for k in ("train", "val", "test")}
        assert [len(archive[f"x_{k}"]) for k in names] == [len(s) for s in splits.values()]
        for key in names:
            for image, label in zip(archive[f"x_{key}"], archive[f"y_{key}"].tolist(), strict=True):
                assert label_of.setdefault(image.tobytes(), label) == label
                assert split_of.setdefault(image.tobytes(), key) == key
    assert not names["train"] & names["test"] and not names["train"] & names["val"] and not names["val"] & names["test"]
    assert min(map(len, names.values())) >= 15
    for split in splits.values():
        assert split.inputs.size == (32, 32) and split.inputs.channels == 1
        assert len(split) > 6000 and np.bincount(split.labels, minlength=100).min() >= 40
