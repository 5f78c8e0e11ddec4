"""The same pictures make the same data, whatever holds them: folders, tables, tars, data sets, frames."""

import shutil

import numpy as np
import pandas
import pytest
import timm
import torch
from sources import make_datasets, write_csv, write_folder, write_tars

import crossteach
from crossteach.data import files
from crossteach.errors import DataError
from crossteach.types import Preprocess

NAMES = ("train", "selection", "test")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("same") / "pictures")


@pytest.fixture(scope="module")
def specs(root):
    """Every source of the same pictures."""
    above = root.parent
    write_csv(root / "list.csv", root)
    frame = pandas.read_csv(root / "list.csv")
    frame.to_parquet(root / "list.parquet")
    write_tars(above / "shards", root)
    tars = write_tars(above / "of_json", root, as_json=True)
    shutil.copytree(root, above / "bare", ignore=shutil.ignore_patterns("list.*"))
    sets = make_datasets(root)
    sets.save_to_disk(above / "saved")
    (above / "rows").mkdir()
    for name, part in sets.items():
        part.to_parquet(above / "rows" / f"{name}-00000-of-00001.parquet")
    return {
        "csv": f"csv:{root}/list.csv",
        "parquet": f"csv:{root}/list.parquet",
        "wds": f"wds:{above}/shards",
        "wds json": f"wds:{tars}/train-{{000..002}}.tar?val={tars}/val-*.tar&test={tars}/test-00*.tar",
        "saved": f"hf:{above}/saved",
        "rows": f"hf:{above}/rows",
        "imagefolder": f"hf:{above}/bare",
        "folder": f"folder:{root}",
    }


@pytest.fixture(scope="module")
def opened(root, specs):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasets.config.HF_DATASETS_CACHE", root.parent / "cache")
        found = {name: crossteach.load_data(spec) for name, spec in specs.items()}
    return {**found, "frame": crossteach.from_frame(pandas.read_csv(root / "list.csv"), root)}


def test_they_hold_the_same_pixels_labels_and_order(opened):
    folder = opened["folder"]
    assert [len(split) for split in (folder.train, folder.selection, folder.test)] == [15, 12, 12]
    for name, data in opened.items():
        assert data.classes == ("cat", "dog", "eel") and data.notes == () and not data.selection_seen, name
        for split in NAMES:
            mine, theirs = getattr(data, split), getattr(folder, split)
            assert mine.inputs.fingerprint == theirs.inputs.fingerprint, (name, split)
            assert mine.labels.tolist() == theirs.labels.tolist(), (name, split)
            assert mine.group is None and len(set(mine.ids.tolist())) == len(mine), (name, split)


def test_a_table_in_the_folder_itself_is_the_same_data(opened):
    """Its paths are those below the folder: answers that are stored serve both."""
    for name in ("csv", "parquet", "frame"):
        assert opened[name].test.fingerprint == opened["folder"].test.fingerprint


def test_every_model_answers_them_alike_to_the_last_bit(opened):
    torch.manual_seed(0)
    model = crossteach.from_module(timm.create_model("test_vit", num_classes=3), Preprocess(size=(160, 160), crop=0.9))
    rows = np.arange(12)
    wanted = model.logits(opened["folder"].test.inputs.evaluation(rows, model.preprocess))
    boxes = torch.tensor([[0.1, 0.2, 0.8, 0.9]]).expand(12, 4)
    for name, data in opened.items():
        inputs = data.test.inputs
        assert torch.equal(model.logits(inputs.evaluation(rows, model.preprocess)), wanted), name
        assert torch.equal(inputs.read(rows, (8, 8), boxes), opened["folder"].test.inputs.read(rows, (8, 8), boxes))
        assert torch.equal(inputs.aspect(rows), opened["folder"].test.inputs.aspect(rows))


def test_data_too_large_to_read_whole_are_known_alike(specs, monkeypatch, tmp_path):
    monkeypatch.setattr(files, "WHOLE_FILES", 5)
    monkeypatch.setattr(files, "SAMPLE", 4)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    known = {name: crossteach.load_data(spec) for name, spec in specs.items()}
    assert len({data.test.inputs.fingerprint for data in known.values()}) == 1
    for data in known.values():
        assert len([note for note in data.notes if "are known by size and end, 4 of them by their whole" in note]) == 3


def test_as_pools_they_are_the_same_too(opened, root, tmp_path):
    fresh = write_folder(tmp_path / "fresh", labels=("x", "y"), size=(20, 11))
    make_datasets(fresh, labels=("x", "y")).save_to_disk(tmp_path / "saved")
    write_csv(fresh / "list.csv", fresh)
    specs = [f"csv:{fresh}/list.csv", f"wds:{write_tars(tmp_path / 'tars', fresh)}", f"hf:{tmp_path}/saved"]
    pools = [crossteach.load_data(f"folder:{root}", [spec]).pools[0] for spec in (f"folder:{fresh}/train", *specs)]
    for pool in pools:
        assert pool.split.ids.tolist() == pools[0].split.ids.tolist() and len(pool.split) == 10
        assert pool.split.labels is None and pool.split.inputs.channels == 3 and not pool.notes
    with pytest.raises(DataError, match=r"nothing is left of the pool 'hf:.*: of 15 images 15 in train"):
        crossteach.load_data(f"folder:{root}", [f"hf:{root.parent}/saved"])
