"""Data that know a part of the models' classes: by name, by id, or not at all."""

from dataclasses import dataclass

import numpy as np
import pytest

from crossteach import from_arrays
from crossteach.data import load_data, pool_from
from crossteach.data.label_space import fit_label_space
from crossteach.data.pool import splits_of_pools
from crossteach.errors import LabelSpaceError

pytestmark = pytest.mark.usefixtures("unchecked")  # the stand-ins are no whole classifiers


@dataclass
class Knows:
    """As much of a classifier as is asked."""

    n_classes: int
    classes: tuple[str, ...] | None = None


ANIMALS = Knows(5, ("ant", "bee", "cat", "dog", "eel"))


def data(classes=None, n=3):
    rng = np.random.default_rng(0)
    parts = [(rng.random((30, 4, 4)).astype(np.float32), np.arange(30) % n) for _ in range(3)]
    return from_arrays(*parts, classes=classes)


def test_names_decide_where_the_data_name_their_classes():
    fitted = fit_label_space(data(["dog", "ant", "eel"]), [Knows(5), ANIMALS])
    assert fitted.classes == ANIMALS.classes
    for split in (fitted.train, fitted.selection, fitted.test):
        assert split.labels[:3].tolist() == [3, 0, 4]
    assert fitted.notes[-1].endswith("labels 3 of the models' 5 classes, found by name")


def test_ids_decide_where_they_are_only_numbered():
    fitted = fit_label_space(data(), [ANIMALS])
    assert fitted.classes == ANIMALS.classes and fitted.test.labels[:3].tolist() == [0, 1, 2]
    assert fitted.notes[-1].endswith("found by their ids")
    assert fit_label_space(data(), [Knows(5)]).classes == ("0", "1", "2", "3", "4")


def test_samples_without_a_label_keep_none():
    rng = np.random.default_rng(0)
    train = rng.random((30, 4, 4)).astype(np.float32), np.where(np.arange(30) % 2, -100, 1)
    rest = [(rng.random((30, 4, 4)).astype(np.float32), np.arange(30) % 2) for _ in range(2)]
    fitted = fit_label_space(from_arrays(train, *rest, classes=["eel", "cat"]), [ANIMALS])
    assert fitted.train.labels[:4].tolist() == [2, -100, 2, -100]


def test_a_pool_alone_takes_the_classes_of_the_models():
    alone = splits_of_pools([pool_from(np.random.default_rng(0).random((300, 4, 4)).astype(np.float32))])
    assert fit_label_space(alone, [ANIMALS]).classes == ANIMALS.classes
    assert fit_label_space(alone, [Knows(3)]).classes == ("0", "1", "2")


def test_data_that_know_all_classes_stay_as_they_are_where_no_name_says_otherwise():
    whole = data(["ant", "bee", "cat"])
    for models in ([Knows(3, ("ant", "bee", "cat"))], [Knows(3)], [Knows(3, ("ant", "bee", "fox"))]):
        assert fit_label_space(whole, models) is whole
    assert fit_label_space(whole, [Knows(4), Knows(5)]) is whole
    as_text = data(["0", "1", "10", "2"], 4)
    assert fit_label_space(as_text, [Knows(4)]) is as_text, "an order that the user asked for"


def test_the_models_own_list_orders_classes_that_it_names():
    whole = data(["ant", "bee", "cat"])
    fitted = fit_label_space(whole, [Knows(3), Knows(3, ("cat", "bee", "ant"))])
    assert fitted.classes == ("cat", "bee", "ant") and fitted.test.labels[:3].tolist() == [2, 1, 0]
    assert fitted.notes[-1].endswith("called and ordered as the models' own, found by name")
    numbered = fit_label_space(data(), [Knows(3, ("cat", "bee", "ant"))])
    assert numbered.classes == ("cat", "bee", "ant") and numbered.test.labels[:3].tolist() == [0, 1, 2]


def test_wordnet_ids_are_found_in_timms_list():
    from timm.data import ImageNetInfo

    listed = ImageNetInfo("imagenet-1k").label_names()
    some = ["n02123045", "n01440764", "n15075141"]
    for model in (Knows(1000), Knows(1000, tuple(f"class {i}" for i in range(1000)))):
        fitted = fit_label_space(data(some), [model])
        assert fitted.classes == (model.classes or tuple(listed))
        assert fitted.test.labels[:3].tolist() == [281, 0, 999], "tabby is 281, tench 0 and toilet tissue 999"
        assert fitted.notes[-1].endswith("labels 3 of the models' 1000 classes, found by WordNet id")
    with pytest.raises(LabelSpaceError, match="none is known by name"):
        fit_label_space(data(["n00000001", "n01440764"], 2), [Knows(1000)])
    with pytest.raises(LabelSpaceError, match="none is known by name"):
        fit_label_space(data(some), [Knows(999)])
    microsoft = ImageNetInfo("imagenet-22k-ms").label_names()
    assert fit_label_space(data(some), [Knows(21842)]).test.labels[0] == microsoft.index(some[0]) == 281
    assert microsoft != sorted(microsoft), "no alphabet tells that order"


def test_names_that_no_model_knows_are_refused():
    with pytest.raises(LabelSpaceError, match="none is called 'fox'"):
        fit_label_space(data(["ant", "fox", "cat"]), [ANIMALS])
    with pytest.raises(LabelSpaceError, match="none is known by name"):
        fit_label_space(data(["ant", "fox", "cat"]), [Knows(9)])


def test_glyphs_keep_their_classes():
    glyphs = load_data("glyphs")
    assert fit_label_space(glyphs, [Knows(100, glyphs.classes)]) is glyphs
