"""A model that counts the classes in another order than the labels is caught, on every split that has labels."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from torch import nn

import crossteach
from crossteach import Store, load_data, load_model
from crossteach.answers.check import check_answers
from crossteach.answers.class_order import FEWEST_ASKED, class_order_problem, labelled_parts
from crossteach.errors import ModelError
from crossteach.scouting.checking import check_model
from crossteach.types import no_progress

LETTERS, SHOWN = "ABCDEFGHIJKL", {"train": 20, "val": 5, "test": 5}
NET = """
from torch import nn

def net(pool=2):
    return nn.Sequential(nn.AvgPool2d(pool), nn.Flatten(), nn.Linear((32 // pool) ** 2, 12))
"""


def agreement(right, n_classes=10, n=400, seed=0):
    """Labels, and classes that a model gives, with so many right in every class alike."""
    generator = np.random.default_rng(seed)
    labels = np.arange(n) % n_classes
    preds = np.where(generator.random(n) < right, labels, (labels + generator.integers(1, n_classes, n)) % n_classes)
    return torch.from_numpy(preds), labels


def test_an_order_is_told_from_chance():
    """Untrained models, models that err, and few samples show no other order; a permuted model does."""
    names = [str(i) for i in range(10)]
    for right in (0.1, 0.3, 0.6, 0.95):
        for seed in range(20):
            preds, labels = agreement(right, seed=seed)
            assert class_order_problem(preds, labels, "the labels", "m", names) is None
    order = torch.from_numpy(np.random.default_rng(1).permutation(10))
    for right in (0.6, 0.95):
        preds, labels = agreement(right)
        assert "another order" in class_order_problem(order[preds], labels, "the labels", "m", names).found
    preds, labels = agreement(0.95)
    swapped = preds.clone()
    swapped[preds == 3], swapped[preds == 5] = 5, 3
    found = class_order_problem(swapped, labels, "the labels", "m", names)
    assert found.found.endswith("another order: its 3 is 5 ('5'), its 5 is 3 ('3')")
    assert class_order_problem(swapped[:1], labels[:1], "the labels", "m", names) is None


def test_of_a_thousand_numbered_classes_two_samples_in_three_classes_tell_the_order():
    """Folders 0 to 999 that were once read as text: 0, 1, 10, 100, … No half of 700 samples finds that by itself."""
    names = [str(i) for i in range(1000)]
    as_text = sorted(names)
    labels = np.random.default_rng(0).permutation(1000)[:700]
    preds = torch.tensor([as_text.index(names[label]) for label in labels])
    found = class_order_problem(preds, labels, "the labels", "m", names, split="test")
    assert "on 100.0% with its classes in another order: its 2 is 10 ('10')" in found.found
    assert "of the test split" in found.found and found.advice.endswith("?class_order=text)")
    noise = torch.from_numpy(np.random.default_rng(1).integers(0, 1000, 700))
    assert class_order_problem(noise, labels, "the labels", "m", names) is None


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Twelve letters in folders 0 to 11, and two small models that were trained on them."""
    root, glyphs = tmp_path_factory.mktemp("numbered"), load_data("glyphs")
    ids = [glyphs.classes.index(letter) for letter in LETTERS]
    for split, count in SHOWN.items():
        part = glyphs.test if split == "test" else glyphs.selection if split == "val" else glyphs.train
        for number, label in enumerate(ids):
            rows = np.flatnonzero(part.labels == label)[:count]
            folder = root / "data" / split / str(number)
            folder.mkdir(parents=True)
            pixels = part.inputs.read(part.input_rows(rows), None, None)
            for k, image in enumerate((pixels * 255).round().byte().numpy()):
                Image.fromarray(image[0]).save(folder / f"{k}.png")
    rows = np.flatnonzero(np.isin(glyphs.train.labels, ids))
    images = glyphs.train.inputs.read(glyphs.train.input_rows(rows), None, None)
    labels = torch.tensor([ids.index(label) for label in glyphs.train.labels[rows]])
    (root / "net.py").write_text(NET)
    for pool in (2, 4):
        save_file(_trained(pool, images, labels), root / f"{pool}.safetensors")
    return root


def _trained(pool, images, labels):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.AvgPool2d(pool), nn.Flatten(), nn.Linear((32 // pool) ** 2, 12))
        optimiser = torch.optim.Adam(net.parameters(), 0.01)
        for _ in range(100):
            optimiser.zero_grad()
            F.cross_entropy(net(images), labels).backward()
            optimiser.step()
    return net.state_dict()


def models(folders):
    specs = [f"py:{folders}/net.py:net@{folders}/{k}.safetensors?pool={k}&channels=1&size=32" for k in (2, 4)]
    return [load_model(spec) for spec in specs]


def data(folders, options="", labelled=("train", "selection", "test")):
    opened = load_data(f"folder:{folders}/data?channels=1{options}")
    return replace(
        opened,
        **{
            name: replace(getattr(opened, name), labels=None)
            for name in ("train", "selection", "test")
            if name not in labelled
        },
    )


def test_class_folders_that_are_numbers_are_counted_as_numbers(folders, tmp_path):
    opened, (student, teacher) = data(folders), models(folders)
    assert opened.classes == tuple(map(str, range(12)))
    assert check_answers(student, [teacher], opened, Store(tmp_path), no_progress, force=False) == []
    found = check_model(student, opened)
    assert found["accuracy"] > 70 and found["verdict"] == "ok", found["findings"]


@pytest.mark.parametrize("split", ["train", "selection", "test"])
def test_an_order_that_no_model_has_is_caught_on_any_split_with_labels(folders, tmp_path, split):
    """Both models count 0, 1, 2, … and the data 0, 1, 10, 11, 2, …"""
    wrong, (student, teacher) = data(folders, "&class_order=text", (split,)), models(folders)
    assert wrong.classes[:4] == ("0", "1", "10", "11")
    said = (
        rf"agrees with the labels on .* of the {split} split, and on .* another order: .*class_order=numbers\), or go"
    )
    with pytest.raises(ModelError, match=said):
        check_answers(student, [teacher], wrong, Store(tmp_path), no_progress, force=False)
    notes = check_answers(student, [teacher], wrong, Store(tmp_path), no_progress, force=True)
    assert sum("another order" in note for note in notes) == 2
    found = crossteach.scout([student, teacher], wrong, Store(tmp_path), embeddings="none", ensembles=False)
    assert sum(f"of the {split} split" in note for note in found.summary["notes"]) == 2
    checked = check_model(student, wrong)
    (told,) = [finding for finding in checked["findings"] if finding["what"] == "classes in the data's order"]
    assert told["verdict"] == "suspicious" and f"the {split} split" in told["evidence"]
    assert "?class_order=numbers" in told["advice"] and "--force" not in told["advice"]


def test_without_any_label_another_order_shows_against_the_student(folders, tmp_path):
    (student, teacher), bare = models(folders), data(folders, labelled=())

    class Turned(nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module = module

        def forward(self, x):
            return self.module(x).roll(3, 1)

    turned = crossteach.from_module(Turned(teacher.module), teacher.preprocess)
    for first, second in ((student, turned), (turned, student)):
        with pytest.raises(ModelError, match=r"agrees with what the student says on .* its classes in another order"):
            check_answers(first, [second], bare, Store(tmp_path), no_progress, force=False)
    assert check_answers(student, [teacher], bare, Store(tmp_path), no_progress, force=False) == []


def test_a_part_of_each_labelled_split_is_asked_about():
    glyphs = load_data("glyphs")
    parts = labelled_parts(glyphs)
    assert [(part.name, len(part)) for part in parts] == [
        ("selection", len(glyphs.selection)),
        ("test", FEWEST_ASKED),
        ("train", FEWEST_ASKED),
    ]
    assert all(len(np.unique(part.labels)) == 100 for part in parts)
    cut = replace(glyphs, selection_seen=True)
    assert [part.name for part in labelled_parts(cut)] == ["selection", "test"], "its labels are those of train"
    bare = replace(cut, selection=replace(cut.selection, labels=None))
    assert [part.name for part in labelled_parts(bare)] == ["test", "train"]
