"""Data that the caller holds: arrays and torch data sets."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, TensorDataset

import crossteach
from crossteach.data.arrays import ArrayInputs
from crossteach.data.given import DatasetInputs
from crossteach.errors import DataError, SpecError

RNG = np.random.default_rng(0)
IMAGES = {part: RNG.integers(0, 256, (n, 8, 10, 3), np.uint8) for part, n in (("train", 40), ("val", 20), ("test", 24))}
LABELS = {part: np.arange(len(images)) % 4 for part, images in IMAGES.items()}


class Pictures(Dataset):
    """A data set of Pillow images of many sizes."""

    classes = ("north", "east", "south", "west")

    def __init__(self, count, first, change=lambda image, row: image, labels=True):
        self.change, self.labels = change, labels
        rng = np.random.default_rng(first)
        self.images = [rng.integers(0, 256, (8 + i % 3, 10 + i % 5, 3), np.uint8) for i in range(count)]

    def __len__(self):
        return len(self.images)

    def __getitem__(self, row):
        image = self.change(Image.fromarray(self.images[row]), row)
        return (image, row % 4) if self.labels else image


def test_arrays_make_the_data_that_their_npz_makes(tmp_path):
    np.savez(
        tmp_path / "d.npz",
        **{f"x_{part}": images for part, images in IMAGES.items()},
        **{f"y_{part}": labels for part, labels in LABELS.items()},
    )
    parts = [(IMAGES[part], LABELS[part]) for part in ("train", "test", "val")]
    given, read = crossteach.from_arrays(*parts), crossteach.load_data(f"npz:{tmp_path / 'd.npz'}")
    assert given.fingerprint == read.fingerprint and given.classes == read.classes == ("0", "1", "2", "3")


def test_tensors_have_their_channels_first_and_groups_are_kept():
    group = np.arange(40) // 8
    tensors = torch.from_numpy(IMAGES["train"]).permute(0, 3, 1, 2), torch.from_numpy(LABELS["train"]), group
    of_tensors = crossteach.from_arrays(tensors, (IMAGES["test"], LABELS["test"]), classes=list("abcd"), name="mine")
    of_arrays = crossteach.from_arrays((IMAGES["train"], LABELS["train"], group), (IMAGES["test"], LABELS["test"]))
    assert of_tensors.train.fingerprint == of_arrays.train.fingerprint
    assert of_tensors.classes == tuple("abcd") and len(np.unique(of_tensors.train.group)) >= 3
    assert of_tensors.selection_seen, "cut from train"


def test_labels_of_train_may_be_missing_and_options_are_those_of_a_spec():
    test = IMAGES["test"], LABELS["test"]
    data = crossteach.from_arrays((IMAGES["train"], None), test, selection_from="test", train_samples=10)
    assert data.train.labels is None and len(data.train) == 10 and len(data.selection) == len(data.test) == 12
    with pytest.raises(SpecError, match="'size'"):
        crossteach.from_arrays((IMAGES["train"], None), test, size=8)


@pytest.mark.parametrize(
    ("train", "test", "told"),
    [
        (IMAGES["train"], (IMAGES["test"], LABELS["test"]), r"train of arrays must be \(images, labels\)"),
        ((IMAGES["train"], LABELS["train"]), (IMAGES["test"],), "test of arrays must have labels"),
        ((IMAGES["train"], LABELS["train"][:5]), (IMAGES["test"], LABELS["test"]), "40 samples but 5 labels"),
        ((IMAGES["train"] * 1.0, LABELS["train"]), (IMAGES["test"], LABELS["test"]), "floats from 0 to 255"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_in_one_line(unchecked, train, test, told):
    with pytest.raises(DataError, match=told):
        crossteach.from_arrays(train, test)


def test_a_data_set_of_one_size_is_kept_in_memory():
    parts = {
        part: TensorDataset(torch.from_numpy(IMAGES[part]).permute(0, 3, 1, 2) / 255, torch.from_numpy(LABELS[part]))
        for part in IMAGES
    }
    data = crossteach.from_dataset(parts["train"], parts["test"], parts["val"])
    assert isinstance(data.train.inputs, ArrayInputs) and data.train.labels.tolist() == LABELS["train"].tolist()
    read = data.train.inputs.read(np.arange(40), None, None)
    assert torch.allclose(read, torch.from_numpy(IMAGES["train"]).permute(0, 3, 1, 2) / 255)


def test_pictures_of_many_sizes_are_asked_for_when_they_are_read(tmp_path):
    train, test = Pictures(20, 1), Pictures(16, 2)
    data = crossteach.from_dataset(train, test, selection_from="test")
    assert isinstance(data.train.inputs, DatasetInputs) and data.classes == Pictures.classes
    assert data.augmentation == "crop" and data.train.labels.tolist() == [i % 4 for i in range(20)]
    for i in range(4):
        folder = tmp_path / "train" / str(i)
        folder.mkdir(parents=True)
        Image.fromarray(train.images[i]).save(folder / "0.png")
        (tmp_path / "test" / str(i)).mkdir(parents=True)
        for k in range(4):
            Image.fromarray(test.images[4 * k + i]).save(tmp_path / "test" / str(i) / f"{k}.png")
    files = crossteach.load_data(f"folder:{tmp_path}?selection_from=test").train.inputs
    boxes = torch.tensor([[0.1, 0.2, 0.9, 0.8]] * 4)
    preprocess = crossteach.Preprocess((6, 6), 3, crop=0.9, interpolation="bicubic")
    rows = np.arange(4)
    assert torch.equal(data.train.inputs.read(rows, (7, 7), boxes), files.read(rows, (7, 7), boxes))
    assert torch.equal(data.train.inputs.evaluation(rows, preprocess), files.evaluation(rows, preprocess))
    assert torch.equal(data.train.inputs.aspect(rows), files.aspect(rows))


def test_a_data_set_without_labels_is_a_transfer_set_without_labels():
    data = crossteach.from_dataset(Pictures(20, 1, labels=False), Pictures(16, 2), selection_from="test")
    assert data.train.labels is None and data.test.labels is not None


def test_the_fingerprint_sees_another_picture():
    before = crossteach.from_dataset(Pictures(20, 1), Pictures(16, 2), selection_from="test")
    turned = Pictures(20, 1, lambda image, row: image.rotate(180) if row == 7 else image)
    after = crossteach.from_dataset(turned, Pictures(16, 2), selection_from="test")
    assert before.train.fingerprint != after.train.fingerprint and before.test.fingerprint == after.test.fingerprint


def noisy(image, row):
    return Image.fromarray(np.random.default_rng().integers(0, 256, (8, 8, 3), np.uint8))


@pytest.mark.parametrize(
    ("train", "told"),
    [
        (5, "must be a data set with a length and items, not int"),
        (TensorDataset(torch.zeros(0, 3, 8, 8)), "train of dataset is empty"),
        (Pictures(8, 1, noisy), "gives another image each time .* take its random transforms out"),
        (Pictures(8, 1, lambda image, row: image.width), "gives int as image 0"),
        (Pictures(8, 1, lambda image, row: np.asarray(image) / 100), r"values outside \[0, 1\] in image 0"),
        (TensorDataset(torch.rand(8, 3, 8, 8), torch.rand(8, 2)), "gives Tensor as label 0; it must be a class id"),
    ],
)
def test_data_sets_that_do_not_fit_are_refused_in_one_line(unchecked, train, told):
    with pytest.raises(DataError, match=told) as caught:
        crossteach.from_dataset(train, Pictures(16, 2), selection_from="test")
    assert "\n" not in str(caught.value)
