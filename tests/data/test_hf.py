"""Data sets of the `datasets` library: which columns and splits are read, and what is refused."""

import shutil
import sys

import datasets
import numpy as np
import pytest
from PIL import Image
from sources import make_datasets, write_folder

import crossteach
from crossteach.data.arrow import ArrowPictures
from crossteach.errors import DataError, MissingExtraError, SpecError

DIGITS = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    return make_datasets(write_folder(tmp_path_factory.mktemp("hf") / "pictures"))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Keep the library's cache out of the user's, and the hub away."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path / "cache"


@pytest.fixture
def saved(tmp_path):
    """Save splits, and return the spec that opens them."""

    def save(parts, name="saved"):
        made = parts if isinstance(parts, datasets.Dataset) else datasets.DatasetDict(parts)
        made.save_to_disk(tmp_path / name)
        return f"hf:{tmp_path / name}"

    return save


def told(data, words):
    (note,) = [note for note in data.notes if words in note]
    return note


def test_columns_are_found_by_type_and_by_name(sets, saved):
    parts = {name: part.rename_columns({"image": "photo", "label": "species"}) for name, part in sets.items()}
    data = crossteach.load_data(saved(parts))
    assert data.classes == ("cat", "dog", "eel") and len(data.test) == 12 and data.notes == ()
    two = {name: part.add_column("coarse", part["species"]) for name, part in parts.items()}
    two = {name: part.cast_column("coarse", part.features["species"]) for name, part in two.items()}
    spec = saved(two, "two")
    with pytest.raises(
        DataError, match=r"the columns species, coarse could be the label; .* name one by \?label=COLUMN"
    ):
        crossteach.load_data(spec)
    assert crossteach.load_data(f"{spec}?label=coarse").test.labels.tolist() == data.test.labels.tolist()
    with pytest.raises(DataError, match="has no column 'kind'; it has photo, species"):
        crossteach.load_data(f"{spec}?label=kind")
    with pytest.raises(
        DataError, match=r"no column is clearly the label; it has photo, row: name one by \?label=COLUMN"
    ):
        crossteach.load_data(saved({n: part.remove_columns("species") for n, part in parts.items()}, "bare"))
    with pytest.raises(
        DataError, match=r"must hold encoded pictures, not int64; name the column of pictures by .image="
    ):
        crossteach.load_data(f"{spec}?label=coarse&image=row")


def test_labels_may_be_numbers_words_or_missing(sets, saved):
    words = {name: part.cast_column("label", datasets.Value("string")) for name, part in sets.items()}
    assert crossteach.load_data(saved(words, "words")).classes == ("0", "1", "2")
    lines = {name: part.add_column("name", [f"n{row % 2}" for row in part["row"]]) for name, part in sets.items()}
    data = crossteach.load_data(f"{saved(lines, 'named')}?label=name&group=label")
    assert data.classes == ("n0", "n1") and data.test.group_names == ("0", "1", "2")
    gaps = sets["train"].map(lambda row: {"label": -1 if row["row"] < 2 else row["label"]})
    data = crossteach.load_data(saved({**sets, "train": gaps}, "gaps"))
    assert data.train.labels.tolist() == [-100, -100, 0, 0, 0] + [1] * 5 + [2] * 5
    hidden = sets["test"].map(lambda row: {"label": -1})
    data = crossteach.load_data(saved({**sets, "test": hidden}, "hidden"))
    assert data.test.labels is None and "test has no labels" in told(data, "test has no labels")
    data = crossteach.load_data(f"{saved({**sets, 'test': hidden}, 'again')}?test=validation&selection_from=test")
    assert len(data.test) == len(data.selection) == 6 and "the splits test of" in told(data, "are not read")


def test_several_labels_measurements_and_other_classes_are_refused(sets, saved):
    several = {n: part.add_column("tags", [[0, 1]] * len(part)) for n, part in sets.items()}
    with pytest.raises(DataError, match=r"column 'tags' of .* holds List, not one label a sample"):
        crossteach.load_data(f"{saved(several)}?label=tags")
    ages = {n: part.add_column("age", np.linspace(0, 1, len(part))) for n, part in sets.items()}
    with pytest.raises(DataError, match=r"the labels of .* are measurements, as .*, and no classes"):
        crossteach.load_data(f"{saved(ages, 'ages')}?label=age")
    other = sets["test"].cast_column("label", datasets.ClassLabel(names=["dog", "cat", "eel"]))
    with pytest.raises(
        DataError, match=r"train and test of .* name other classes in column 'label', or in another order"
    ):
        crossteach.load_data(saved({**sets, "test": other}, "other"))


def test_splits_are_named_cut_or_left_out_and_said(sets, saved):
    data = crossteach.load_data(saved(sets["train"]))
    assert len(data.train) + len(data.selection) + len(data.test) == 15
    assert "3 of 15 samples of train were cut off for it" in told(data, "there is no test split")
    spec = saved({"learn": sets["train"], "check": sets["test"], "validation": sets["validation"]}, "named")
    with pytest.raises(DataError, match=r"has no train split; it has learn, check, validation: say which is which by"):
        crossteach.load_data(spec)
    data = crossteach.load_data(f"{spec}?train=learn&test=check")
    assert (len(data.train), len(data.selection), len(data.test)) == (15, 12, 12) and data.notes == ()
    with pytest.raises(DataError, match="has no split 'tset'; it has learn"):
        crossteach.load_data(f"{spec}?train=learn&test=tset")
    with pytest.raises(DataError, match="names one split twice"):
        crossteach.load_data(f"{spec}?train=learn&test=learn")
    with pytest.raises(SpecError, match="has the option 'split', which hf: does not know"):
        crossteach.load_data(f"{spec}?split=x")


def test_cells_without_a_picture_are_counted(sets, saved):
    cells = sets["test"].cast_column("image", datasets.Image(decode=False)).to_dict()
    cells["image"][0] = None
    cells["image"][1] = {"bytes": b"no picture", "path": "a.png"}
    broken = datasets.Dataset.from_dict(cells, features=sets["test"].features)
    spec = saved({**sets, "test": broken})
    with pytest.raises(
        DataError, match=r"2 of 12 files in test of .* cannot be decoded, row 0 of column 'image'.*the cell is empty"
    ):
        crossteach.load_data(spec)
    data = crossteach.load_data(f"{spec}?max_broken=0.2")
    assert len(data.test) == 10 and data.test.ids.tolist() == [(2 << 40) + row for row in range(2, 12)]


def test_an_edited_picture_makes_other_data_although_its_row_is_the_same(sets, saved):
    turned = sets["test"].map(lambda row: {"image": row["image"].rotate(180)})
    before, after = crossteach.load_data(saved(sets)), crossteach.load_data(saved({**sets, "test": turned}, "turned"))
    assert before.test.ids.tolist() == after.test.ids.tolist()
    assert before.test.fingerprint != after.test.fingerprint and before.train.fingerprint == after.train.fingerprint


def test_pictures_stay_in_the_file_until_they_are_read(tmp_path):
    """A column of 40 MB takes no memory of Arrow's when it is opened, and one picture's when one is read."""
    import pyarrow

    rng = np.random.default_rng(0)
    cells = [{"bytes": rng.bytes(200_000), "path": f"{i}.png"} for i in range(200)]
    made = datasets.Dataset.from_dict({"image": cells}, features=datasets.Features({"image": datasets.Image()}))
    made.save_to_disk(tmp_path / "big")
    third = cells[3]["bytes"]
    del made, cells
    before = pyarrow.total_allocated_bytes()
    opened = datasets.load_from_disk(str(tmp_path / "big"))
    column = opened.select_columns(["image"]).with_format("arrow")[:].column("image")
    pictures = ArrowPictures(column, "big")
    assert pictures.sizes().tolist() == [200_000] * 200
    some = pictures.take(np.array([7, 3])).take(np.array([1]))
    assert some.read(0) == third and some.tail(0, 9) == third[-9:] and some.name(0) == "row 3 of big (3.png)"
    assert pyarrow.total_allocated_bytes() - before < 2_000_000


def test_a_folder_of_class_folders_is_read_by_the_library(tmp_path):
    write_folder(tmp_path / "pictures", labels=("b", "a"))
    data = crossteach.load_data(f"hf:{tmp_path}/pictures")
    assert data.classes == ("a", "b") and len(data.selection) == 8
    shutil.rmtree(tmp_path / "pictures" / "test")
    shutil.rmtree(tmp_path / "pictures" / "val")
    data = crossteach.load_data(f"hf:{tmp_path}/pictures")
    assert len(data.train) + len(data.selection) + len(data.test) == 10


def test_a_name_is_read_from_the_cache_without_the_hub(sets, tmp_path, cache):
    """What the library leaves in its cache for ORG/NAME, opened where no hub can be reached."""
    for name, part in sets.items():
        (tmp_path / "birds").mkdir(exist_ok=True)
        part.to_parquet(tmp_path / "birds" / f"{name}.parquet")
    datasets.load_dataset(str(tmp_path / "birds"), cache_dir=cache)
    (built,) = cache.rglob("dataset_info.json")
    shutil.copytree(built.parent, cache / "org___birds" / "default" / "0.0.0" / ("a" * 40))
    data = crossteach.load_data("hf:org/birds")
    assert (len(data.train), len(data.selection), len(data.test)) == (15, 12, 12)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("org/nowhere", r"cannot be opened: no folder of this name, and the hub or its cache says .*org/nowhere"),
        ("no where/at all", "no folder no where/at all for .*, and no name of a data set as ORG/NAME"),
        ("{}/empty", "cannot be opened: the folder says .*"),
        ("{}/odd", "cannot be opened: the folder says .*"),
        ("{}/script", "cannot be opened: the folder says .*"),
    ],
)
def test_what_cannot_be_opened_is_said_in_one_line_and_no_code_runs(tmp_path, name, words):
    for folder, file, content in (
        ("empty", None, ""),
        ("odd", "state.json", "{no json"),
        ("script", "script.py", f"open({str(tmp_path / 'ran')!r}, 'w')"),
    ):
        (tmp_path / folder).mkdir()
        if file:
            (tmp_path / folder / file).write_text(content)
    with pytest.raises(DataError, match=words) as refused:
        crossteach.load_data(f"hf:{name.format(tmp_path)}")
    assert "\n" not in str(refused.value) and not (tmp_path / "ran").exists()


def test_without_the_library_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r"'hf:x' needs datasets; pip install 'crossteach\[hf\]'"):
        crossteach.load_data("hf:x")


def test_as_a_pool_its_train_split_is_read_or_the_one_that_is_named(sets, saved, tmp_path):
    write_folder(tmp_path / "pictures", labels=("a", "b"), size=(31, 9))
    data, spec = f"folder:{tmp_path}/pictures", saved(sets)
    assert len(crossteach.load_data(data, [spec]).pools[0].split) == 15
    assert len(crossteach.load_data(data, [f"{spec}?train=test"]).pools[0].split) == 12
    bare = {"unsupervised": sets["train"].select_columns(["image"])}
    assert len(crossteach.load_data(data, [saved(bare, "bare")]).pools[0].split) == 15
    with pytest.raises(DataError, match=r"has no split 'train'; it has a, b: name one by \?train=NAME"):
        crossteach.load_data(data, [saved({"a": sets["train"], "b": sets["test"]}, "ab")])


def test_the_library_shows_its_bars_again(sets, saved):
    spec = saved(sets)
    crossteach.load_data(spec)
    assert not datasets.utils.are_progress_bars_disabled()
    assert isinstance(sets["train"][0]["image"], Image.Image)


def test_a_damaged_file_is_refused_in_one_line(sets, saved, tmp_path):
    """Arrow reads cells outside its file, or ends the process, where nobody asks whether they fit."""
    spec = saved(sets)
    (path,) = (tmp_path / "saved" / "test").glob("*.arrow")
    content = path.read_bytes()
    at = content.index(sets["test"].with_format("arrow")[0].column("image")[0]["bytes"].as_buffer().to_pybytes())
    path.write_bytes(content[: at - 60] + b"\xff" * 8 + content[at - 52 :])
    with pytest.raises(DataError, match=r"column 'image' of .* is damaged \(.*\); fetch or write it again"):
        crossteach.load_data(spec)
