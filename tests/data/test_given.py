"""Data that the caller holds: arrays and torch data sets."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

import crossteach
from crossteach.data import dataset
from crossteach.data.arrays import ArrayInputs
from crossteach.data.dataset import DatasetInputs
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


class Items(Dataset):
    """Whatever it is given; what can be called is called each time."""

    def __init__(self, items, classes=None):
        self.items, self.classes = items, classes

    def __len__(self):
        return len(self.items)

    def __getitem__(self, row):
        return self.items[row]() if callable(self.items[row]) else self.items[row]


class Stream(IterableDataset):
    def __iter__(self):
        return iter(())

    def __len__(self):
        return 3


def made(train, **changes):
    return crossteach.from_dataset(train, Pictures(16, 2), selection_from="test", classes=list("nesw"), **changes)


def test_grey_beside_colour_is_colour_and_transparency_lies_on_white():
    rng = np.random.default_rng(5)
    colour = [(Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)), 1) for _ in range(6)]
    hidden, palette = Image.new("RGBA", (8, 8), (255, 0, 0, 0)), Image.new("P", (8, 8))
    palette.info["transparency"] = 0
    items = [(Image.new("L", (8, 8), 51), 0), (hidden, 0), (palette, 0), (Image.new("LA", (8, 8), (0, 0)), 0)]
    shown = made(Items([*items, *colour])).train.inputs.read(np.arange(4), (8, 8), None)
    assert torch.equal(shown[0], torch.full((3, 8, 8), 0.2))
    assert torch.equal(shown[1:], torch.ones(3, 3, 8, 8))


def test_items_may_be_dictionaries():
    rng = np.random.default_rng(5)
    items = [{"img": Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8)), "label": i % 4} for i in range(12)]
    train = crossteach.from_dataset(Items(items), Items(items[::-1]), duplicates="keep").train
    assert train.inputs.channels == 1 and set(train.labels.tolist()) == {0, 1, 2, 3}


def test_labels_that_mean_other_classes_are_refused():
    one, other = Items(IMAGES["train"], ["cat", "dog"]), Items(IMAGES["test"], ["dog", "emu"])
    with pytest.raises(DataError, match=r"train and test of dataset name other classes \('cat' among them\)"):
        crossteach.from_dataset(one, other)
    with pytest.raises(DataError, match=r"train and test of dataset name other classes \('dog' among them\)"):
        crossteach.from_dataset(one, Items(IMAGES["test"], ["dog", "cat"]))
    assert crossteach.from_dataset(one, other, classes=["a", "b"]).classes == ("a", "b")


def raising():
    raise KeyError("no such file")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (raising, "item 11 of train of dataset cannot be read .*no such file"),
        (lambda: (IMAGES["train"][0], True), "gives bool as label 11"),
        (lambda: IMAGES["train"][0], "gives a label with 11 of 12 images"),
        (lambda: (np.zeros((8, 10, 3), np.int64), 0), "gives int64 as image 11; pixels must be uint8"),
        (
            lambda: (Image.new("F", (8, 8), 7.0), 0),
            "image 11 of train of dataset has floats from 7 to 7 as pixels, not in",
        ),
        (lambda: (np.random.default_rng().random((8, 10, 3)), 0), "another image each time it is asked for image 11"),
        (lambda: ("cat.png", 0), "gives str as image 11"),
    ],
)
def test_a_single_item_that_does_not_fit_is_found(unchecked, change, told):
    items = [(IMAGES["train"][i], i % 4) for i in range(11)]
    with pytest.raises(DataError, match=told) as caught:
        made(Items([*items, change]))
    assert "\n" not in str(caught.value)


def test_a_stream_has_no_items(unchecked):
    with pytest.raises(DataError, match="must be a data set with a length and items, not Stream"):
        made(Stream())


def test_what_is_not_kept_in_memory_is_the_same_pictures(monkeypatch):
    images = [(Image.fromarray(image), i % 4) for i, image in enumerate(IMAGES["train"])]
    kept = made(Items(images)).train
    monkeypatch.setattr(dataset, "IN_MEMORY", 0)
    asked = made(Items(images)).train
    assert isinstance(kept.inputs, ArrayInputs) and isinstance(asked.inputs, DatasetInputs)
    read = [inputs.read(np.arange(40), (8, 10), None) for inputs in (kept.inputs, asked.inputs)]
    assert torch.equal(*read) and [images.stride() for images in read] == [(240, 80, 10, 1)] * 2


class TestLoaders:
    """A DataLoader is read by its data set."""

    def test_a_loader_is_read_as_its_data_set(self):
        train, test = Pictures(24, 0), Pictures(12, 1)
        plain = crossteach.from_dataset(train, test, selection_from="test")
        weights = WeightedRandomSampler(torch.ones(24), 5)
        for loader in (DataLoader(train, 7, shuffle=True), DataLoader(train), DataLoader(train, sampler=weights)):
            data = crossteach.from_dataset(loader, DataLoader(test, 4), selection_from="test")
            assert data.fingerprint == plain.fingerprint and data.classes == Pictures.classes
            assert data.notes[:2] == (
                "train of dataset is a DataLoader: the 24 images of its data set are read; "
                "its order, batches and collate play no part",
                "test of dataset is a DataLoader: the 12 images of its data set are read; "
                "its order, batches and collate play no part",
            )

    def test_a_sampler_of_a_subset_chooses_that_subset(self):
        """Two loaders over one data set, each with its half: reading all in both would put test into train."""
        whole = Pictures(36, 0)
        halves = [DataLoader(whole, 5, sampler=SubsetRandomSampler(rows)) for rows in (range(24), range(24, 36))]
        data = crossteach.from_dataset(*halves, selection_from="test")
        subsets = crossteach.from_dataset(Subset(whole, range(24)), Subset(whole, range(24, 36)), selection_from="test")
        assert data.fingerprint == subsets.fingerprint and len(data.train) == 24
        assert data.classes == subsets.classes == Pictures.classes

    def test_loaders_that_draw_in_an_unknown_way_or_stream_are_refused(self):
        whole = Pictures(24, 0)
        with pytest.raises(DataError, match=r"train of dataset is a DataLoader that draws by list, so which images"):
            crossteach.from_dataset(DataLoader(whole, batch_sampler=[[0, 1], [2]]), whole)
        with pytest.raises(DataError, match="draws by list"):
            crossteach.from_dataset(DataLoader(whole, sampler=[1, 2]), whole)
        with pytest.raises(DataError, match="must be a data set with a length and items, not Endless"):
            crossteach.from_dataset(DataLoader(Endless()), whole)

    def test_a_loader_is_a_pool_too(self):
        pool = crossteach.pool_from(DataLoader(Pictures(24, 0), 5, shuffle=True), name="mine")
        assert pool.found == 24 and pool.split.labels is None
        assert pool.notes == (
            "mine is a DataLoader: the 24 images of its data set are read; its order, batches and collate play no part",
        )


class Endless(IterableDataset):
    def __iter__(self):
        return iter([])
