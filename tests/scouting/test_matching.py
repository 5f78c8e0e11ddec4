"""Classes of other models: found by name or WordNet id, proposed by meaning, never guessed."""

import csv
from dataclasses import dataclass, field

import pytest

from crossteach.data.label_map import read_label_map
from crossteach.errors import LabelSpaceError
from crossteach.models.mapped import MappedClassifier
from crossteach.scouting.matching import match_classes, share_classes
from crossteach.scouting.wordnet import WordNet
from crossteach.types import Preprocess

pytestmark = pytest.mark.usefixtures("unchecked")  # the stand-ins are no whole classifiers


@dataclass
class Knows:
    """As much of a classifier as is asked."""

    n_classes: int
    classes: tuple[str, ...] | None = None
    name: str = "pets"
    spec: str = "py:pets"
    preprocess: Preprocess = field(default_factory=Preprocess)


OURS = ("ant", "bee", "cat")


def mapped(models, given=None, classes=OURS):
    found = share_classes(models, classes, given)
    return [m.belongs.tolist() if isinstance(m, MappedClassifier) else None for m in found]


@pytest.mark.parametrize(
    ("classes", "belongs"),
    [
        (("ant", "bee", "cat"), None),
        (("cat", "ant", "bee"), [2, 0, 1]),
        (("cat", "ant"), [2, 0]),
        (("dog", "cat", "bee", "ant"), [-1, 2, 1, 0]),
        (("dog", "cat"), [-1, 2]),
        (("dog", "emu"), None),
        (("cat", "cat", "bee"), [-1, -1, 1]),
    ],
    ids=["identical", "permuted", "subset", "superset", "overlap", "nothing", "a name twice"],
)
def test_equal_names_are_found(classes, belongs):
    assert mapped([Knows(len(classes), classes)]) == [belongs]


def test_models_and_data_without_names_stay_as_they_are():
    assert mapped([Knows(3), Knows(5)]) == [None, None]
    assert mapped([Knows(2, ("1", "2"))], classes=("0", "1", "2")) == [None], "numbers that only count"


def test_wordnet_ids_are_found_whatever_stands_behind_them():
    theirs, ours = ["n02123045 tabby", "n02084071", "dog"], ["n02084071_dog", "n02123045"]
    found, how = match_classes(theirs, ours)
    assert (found.tolist(), how) == ([1, 0, -1], "by WordNet ids")


def test_rows_without_a_teacher_are_about_those_with_other_classes():
    same, other, third = Knows(3, None, "same", "s"), Knows(2, None, "other", "o"), Knows(3, None, "third", "t")
    assert mapped([same, other], {0: "cat", 1: "ant"}) == [None, [2, 0]]
    assert mapped([same, other], {"same": {0: 1, 1: 0, 2: 2}, "other": {1: 0}}) == [[1, 0, 2], [-1, 0]]
    assert mapped([same], {0: 1, 1: 0, 2: 2}) == [[1, 0, 2]], "where none seems to, about all"
    assert mapped([same, third], {"same": {0: 1, 1: 0, 2: 2}}) == [[1, 0, 2], None]
    with pytest.raises(LabelSpaceError, match="no teacher is called 'cats'; there are same"):
        mapped([same], {"cats": {0: 1}})
    with pytest.raises(LabelSpaceError, match="is about no model that is there; drop it"):
        mapped([], {0: 1})


def test_a_proposal_says_why_and_is_never_taken_without_a_look(tmp_path):
    path = tmp_path / "map.csv"
    pets = Knows(5, ("tomcat", "bee", "submarine", "ants", "kitty"))
    with pytest.raises(LabelSpaceError, match=r"proposed in .*map.csv: [234] of 5 classes .* then pass --label-map"):
        share_classes([pets], OURS, f"propose:{path}")
    rows = {row["teacher_class"]: row for row in csv.DictReader(path.read_text().splitlines())}
    assert rows["bee"]["student_class"] == "bee" and rows["bee"]["found"] == "same name"
    assert rows["submarine"]["student_class"] == "" and "similarity" in rows["submarine"]["found"]
    assert rows["ants"]["student_class"] == "ant"
    assert read_label_map(path).belongs(pets, OURS)[[1, 2, 3]].tolist() == [1, -1, 0]
    with pytest.raises(LabelSpaceError, match="is there already"):
        share_classes([pets], OURS, f"propose:{path}")
    for models, said in (([Knows(3, OURS)], "no label map is needed"), ([Knows(2)], "those of 'py:pets' have none")):
        with pytest.raises(LabelSpaceError, match=said):
            share_classes(models, OURS, f"propose:{tmp_path / 'other.csv'}")


@pytest.mark.skipif(WordNet.find() is None, reason="no WordNet on this machine")
def test_a_kind_of_dog_is_proposed_for_dog(tmp_path):
    path, breeds = tmp_path / "map.csv", ("n02088364 beagle", "n02123045 tabby", "n02084071")
    with pytest.raises(LabelSpaceError, match="2 of 3 classes"):
        share_classes([Knows(3, breeds)], ("n02084071 dog", "n12345678"), f"propose:{path}")
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert [row["student_class"] for row in rows] == ["n02084071 dog", "", "n02084071 dog"]
    assert [row["found"] for row in rows][::2] == ["a kind of it in WordNet", "same WordNet id"]
