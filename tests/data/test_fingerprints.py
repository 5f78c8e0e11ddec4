"""What data are known by: their parts, and the code that makes their pixels."""

from dataclasses import replace

import digits
import numpy as np
import PIL
import pytest
from PIL import Image

import crossteach
from crossteach import Store, TransferConfig, load_data, load_model, transfer, with_settings
from crossteach.answers.check import require_label_space
from crossteach.answers.prediction import predict
from crossteach.data import pixels
from crossteach.errors import DataError, LabelSpaceError, RunFolderError, SpecError


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> digits.Digits:
    return digits.make(tmp_path_factory.mktemp("digits"))


def test_other_parts_make_other_data(task):
    """`dataclasses.replace` once kept the fingerprint."""
    data = load_data(task.data)
    fewer = replace(data, test=data.test.take(np.arange(100)))
    labelled = replace(data, train=replace(data.train, labels=None))
    grouped = replace(data, selection=replace(data.selection, group=np.arange(len(data.selection)) % 5))
    named = replace(data, classes=tuple("abcdefghij"))
    known = {d.fingerprint for d in (data, fewer, labelled, grouped, named)}
    assert len(known) == 5
    assert replace(data, spec="elsewhere").fingerprint == load_data(task.data).fingerprint == data.fingerprint


def test_another_test_split_is_not_given_the_result_of_the_first(task, tmp_path):
    data, store = load_data(task.data), Store(tmp_path / "store")
    config = with_settings(TransferConfig(), ["optim.epochs=1", "optim.lr=0.01", "views.count=1", "method=self"])
    transfer(load_model(task.student), [], data, tmp_path / "run", config, store)
    other = replace(data, test=data.test.take(np.arange(100)))
    with pytest.raises(RunFolderError, match=r"another configuration \(data.fingerprint was"):
        transfer(load_model(task.student), [], other, tmp_path / "run", config, store)


@pytest.mark.parametrize("change", ["our code", "Pillow"])
def test_another_version_of_what_makes_pixels_is_served_no_old_answer(task, tmp_path, monkeypatch, change):
    model, store = load_model(task.student), Store(tmp_path / "store")
    before = load_data(task.data)
    predict(model, before.test, store)
    known = sorted(store.folder.rglob("manifest.json"))
    predict(model, load_data(task.data).test, store)
    assert sorted(store.folder.rglob("manifest.json")) == known, "the same data are served from the store"
    if change == "our code":
        monkeypatch.setattr(pixels, "VERSION", pixels.VERSION + 1)
    else:
        monkeypatch.setattr(PIL, "__version__", "1000.0")
    predict(model, load_data(task.data).test, store)
    assert len(sorted(store.folder.rglob("manifest.json"))) == len(known) + 1


@pytest.mark.parametrize("spec", ["glyphs:/no/such/file.npz", "glyphs:x", "sklearn:digits@x.npz"])
def test_a_path_that_nothing_would_read_is_refused(spec):
    with pytest.raises(SpecError, match="names a file that nothing would read"):
        load_data(spec)


def save(task, tmp_path, **changes):
    with np.load(task.data.removeprefix("npz:")) as arrays:
        np.savez(tmp_path / "d.npz", **{**arrays, **changes})
    return f"npz:{tmp_path / 'd.npz'}"


def test_class_names_of_bytes_are_text(task, tmp_path):
    names = np.array(["null", *map(str, range(1, 10))])
    data = load_data(save(task, tmp_path, class_names=np.char.encode(names, "utf-8")))
    assert data.classes == tuple(names)


def test_class_names_of_objects_are_refused_with_what_to_do(task, tmp_path):
    names = np.array(["null", *map(str, range(1, 10))], dtype=object)
    with pytest.raises(DataError, match=r"'class_names' .* holds Python objects.*numpy.array\(names, dtype=str\)"):
        load_data(save(task, tmp_path, class_names=names))


def test_class_names_that_occur_twice_are_refused(task, tmp_path):
    names = np.array(["one", "one", *map(str, range(2, 10))])
    with pytest.raises(DataError, match=r"class names .* must differ, but 'one' occurs more than once"):
        load_data(save(task, tmp_path, class_names=names))


def test_classes_that_the_model_does_not_know_are_named(task, tmp_path):
    """An extra folder made one class too many, and the message blamed the model."""
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for name, count in (*((str(i), 3) for i in range(10)), ("leftovers", 1)):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(count):
                Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8)).save(tmp_path / split / name / f"{i}.png")
    data = load_data(f"folder:{tmp_path}?channels=1&selection_from=test")
    model = load_model(task.student)
    with pytest.raises(LabelSpaceError, match=r"10 classes but .* has 11, the smallest of them 'leftovers' \(2\)"):
        require_label_space(model, data)
    named = crossteach.from_module(model.module, model.preprocess, classes=tuple(map(str, range(10))))
    with pytest.raises(LabelSpaceError, match="11, of which the model does not know 'leftovers'"):
        require_label_space(named, data)
