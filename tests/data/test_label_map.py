"""Label maps as people write them, and the one line that each wrong one gets."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossteach.data.label_map import Row, read_label_map, write_label_map
from crossteach.errors import LabelSpaceError

pytestmark = pytest.mark.usefixtures("unchecked")  # the stand-ins are no whole classifiers


@dataclass
class Knows:
    """As much of a classifier as is asked."""

    n_classes: int
    classes: tuple[str, ...] | None = None
    name: str = "pets"
    spec: str = "py:pets"


PETS = Knows(4, ("tabby", "beagle", "no", "007"))
OURS = ("cat", "dog", "crane", "crane", "~", 'a,"b"')


def read(tmp_path, text, suffix="csv"):
    path = tmp_path / f"map.{suffix}"
    path.write_text(text, encoding="utf-8")
    return read_label_map(path)


@pytest.mark.parametrize(
    ("suffix", "text"),
    [
        ("csv", 'teacher_class,student_class\ntabby,cat\nbeagle,dog\nno,\n007,"a,""b"""\n'),
        ("csv", "\ufeffteacher_class,student_class,teacher,found\n0,0,pets,same\n1,1,pets,\n007,5,py:pets,\n"),
        ("yaml", "tabby: cat\nbeagle: dog\nno:\n007: 'a,\"b\"'\n"),
        ("yml", "pets: {tabby: cat, beagle: 1, no: null, '007': 5}\nothers: {x: cat}\n"),
        ("json", '{"tabby": "cat", "beagle": "dog", "007": "5"}'),
    ],
)
def test_names_and_ids_are_found_as_they_are_written(tmp_path, suffix, text):
    assert read(tmp_path, text, suffix).belongs(PETS, OURS).tolist() == [0, 1, -1, 5]


def test_a_mapping_serves_as_well():
    assert read_label_map({"tabby": "cat", "beagle": 1, "no": None}).belongs(PETS, OURS).tolist() == [0, 1, -1, -1]
    assert read_label_map({"pets": {0: 0}, "b": {0: 1}}).belongs(Knows(3), ("x", "y")).tolist() == [0, -1, -1]
    with pytest.raises(LabelSpaceError, match=r"'tabby' belongs to 1\.5; give one class"):
        read_label_map({"tabby": 1.5})


def test_a_teachers_own_rows_are_read_before_those_of_all(tmp_path):
    read_map = read(tmp_path, "teacher_class,student_class,teacher\ntabby,cat,\ntabby,dog,pets\n")
    assert read_map.belongs(PETS, OURS).tolist() == [1, -1, -1, -1]
    assert read_map.belongs(Knows(2, ("tabby", "x"), "other", "py:other"), OURS).tolist() == [0, -1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("teacher_class,student_class\ntaby,cat\n", "line 2 of .*py:pets has no class 'taby'; did you mean 'tabby'"),
        ("teacher_class,student_class\ntabby,emu\n", "the student has no class 'emu'; its 6 classes are 'cat', 'dog'"),
        ("teacher_class,student_class\n4,cat\n", "has no class '4'"),
        ("teacher_class,student_class\ntabby,crane\n", "2 classes of the student are called 'crane' .ids 2, 3.; give"),
        ("teacher_class,student_class\ntabby,cat\ntabby,cat\n", "line 3 of .*'tabby' of 'py:pets' stands twice"),
        ("teacher_class,student_class\ntabby,cat\n0,dog\n", "stands for 'cat' and for 'dog'; it belongs to one class"),
        ("teacher_class,student_class\ntabby,\n", "maps no class of 'py:pets'"),
        ("teacher_class,student_class\n", "has no row"),
        ("tabby,cat\n", "has no column teacher_class; give a csv with the columns"),
        ("", "has no column teacher_class"),
        ('teacher_class,student_class\n"tabby,cat\n', "is no csv"),
    ],
)
def test_a_wrong_csv_gets_one_line(tmp_path, text, said):
    with pytest.raises(LabelSpaceError, match=said) as error:
        read(tmp_path, text).belongs(PETS, OURS)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[tabby, cat]", "is no mapping"),
        ("", "is no mapping"),
        ("tabby: [cat, dog]", "line 1 of .* one word, not a list; a teacher's class belongs to one class"),
        ("pets: {tabby: {cat: dog}}", "one word, not a list"),
        ("tabby: 'cat", "is not YAML"),
        ("tabby: cat\ntabby: dog\n", "line 2 of .*stands for 'cat' and for 'dog'"),
        ("!!python/object/apply:os.system ['touch gone']: cat", "one word, not a list"),
        ("[" * 5000, "is not YAML|is no mapping"),
    ],
)
def test_a_wrong_yaml_gets_one_line(tmp_path, text, said):
    with pytest.raises(LabelSpaceError, match=said) as error:
        read(tmp_path, text, "yaml").belongs(PETS, OURS)
    assert "\n" not in str(error.value)


def test_a_file_that_is_none_and_a_teacher_that_is_not_there(tmp_path):
    with pytest.raises(LabelSpaceError, match="cannot be read"):
        read_label_map(tmp_path / "absent.csv")
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(LabelSpaceError, match="cannot be read"):
        read_label_map(tmp_path / "bytes.csv")
    found = read(tmp_path, "teacher_class,student_class,teacher\n0,0,dogs\n")
    with pytest.raises(LabelSpaceError, match=r"line 2 of .*no teacher is called 'dogs'; there are pets"):
        found.require_teachers([("pets", "py:pets")])
    with pytest.raises(LabelSpaceError, match="its classes have no names: give ids from 0 to 2"):
        read_label_map({"tabby": 0}).belongs(Knows(3), OURS)


def test_what_is_written_is_read_back(tmp_path):
    rows = [Row(name, OURS[index], "pets") for name, index in (("tabby", 0), ("007", 5), ("no", 4))]
    write_label_map(tmp_path / "m.csv", rows, ["same name", "", "similarity 0.80"])
    assert read_label_map(tmp_path / "m.csv").belongs(PETS, OURS).tolist() == [0, -1, 4, 5]


GOOD = {
    "csv": b'teacher_class,student_class,teacher\ntabby,cat,pets\nbeagle,dog,\n"a,""b",0,\n',
    "yaml": b"pets:\n  tabby: cat\n  'no': ~\nbeagle: &d dog\nx: *d\n",
}


@given(data=st.data())
@settings(max_examples=300)
def test_whatever_stands_in_a_file_it_is_a_map_or_one_line(data):
    """Good files with bytes replaced, put in or taken out, and files of anything."""
    suffix = data.draw(st.sampled_from(sorted(GOOD)))
    content = bytearray(GOOD[suffix]) if data.draw(st.booleans()) else bytearray(data.draw(st.binary(max_size=80)))
    for _ in range(data.draw(st.integers(0, 6))):
        place = data.draw(st.integers(0, len(content)))
        content[place : place + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"map.{suffix}"
        path.write_bytes(content)
        said, found = "", None
        try:
            found = read_label_map(path).belongs(PETS, OURS)
        except LabelSpaceError as error:
            said = str(error)
        assert len(said.splitlines()) == 1 if found is None else found.max() >= 0
