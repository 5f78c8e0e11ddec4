"""A person's labels come back from spreadsheets, and are never lost."""

import csv
import io

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossteach.errors import DataError, RunFolderError
from crossteach.labels_file import NEITHER, filled_rows, read_labels, require_unfilled, written_id

ASKED = np.array([8234567890123456789, 1234567890123456789, 7, 5555555555555555555, 42])
CLASSES = ("Größe", 'one, "two"; three', "two\nlines", " padded ", "1")
LIKE = "questions.csv of a scout"
SAID = {0: CLASSES[0], 1: CLASSES[1], 2: CLASSES[2], 3: NEITHER}


def table(delimiter=",", end="\n", quoting=csv.QUOTE_MINIMAL, write=written_id):
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, lineterminator=end, quoting=quoting)
    writer.writerow(("sample", "file", "label", "label"))
    for place, sample in enumerate(ASKED.tolist()):
        writer.writerow((write(sample), f"pictures/{place}.png", SAID.get(place, ""), "a model's answer"))
    return text.getvalue()


def read(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding) if isinstance(text, str) else text)
    return read_labels(path, LIKE, ASKED, CLASSES)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
@pytest.mark.parametrize("write", [written_id, str])
def test_however_a_spreadsheet_writes_it_it_is_read(tmp_path, encoding, delimiter, end, quoting, write):
    assert read(tmp_path / "l.csv", table(delimiter, end, quoting, write), encoding) == SAID


def test_another_program_reads_and_writes_it(tmp_path):
    frame = pd.read_csv(io.StringIO(table()))
    assert frame["sample"].tolist() == [written_id(sample) for sample in ASKED.tolist()]
    assert read(tmp_path / "l.csv", frame.to_csv(index=False, sep=";")) == SAID


@given(st.lists(st.integers(-(2**63), 2**63 - 1), unique=True, min_size=1, max_size=20))
def test_an_id_is_a_text_that_no_other_sample_has(samples):
    written = [written_id(sample) for sample in samples]
    assert len(set(written)) == len(samples)
    for text in written:
        assert len(text) == 17 and not text.isdecimal()
        with pytest.raises(ValueError, match="could not convert"):
            float(text)


def test_capitals_and_spaces_around_are_no_matter(tmp_path):
    text = f" sample , label \n {written_id(7).upper()} , 1 \n,,\n\n42,padded\n"
    assert read(tmp_path / "l.csv", text) == {2: "1", 4: " padded "}


@pytest.mark.parametrize(
    "rounded",
    [
        f"{1234567890123456789:.5e}".upper(),  # 1.23457E+18
        f"{1234567890123456789:.5e}".replace(".", ","),
        "1.23456789012346E+018",
        "1234567890123450000",  # a spreadsheet that shows all digits
        str(int(float(1234567890123456789))),
        repr(float(1234567890123456789)),
    ],
)
@pytest.mark.parametrize("delimiter", [",", ";"])
def test_a_rounded_id_is_told(tmp_path, rounded, delimiter):
    text = f"sample{delimiter}label\n42{delimiter}1\n"
    text += (f'"{rounded}"' if delimiter in rounded else rounded) + f"{delimiter}1\n"
    with pytest.raises(DataError, match="line 3: a spreadsheet has rounded sample") as error:
        read(tmp_path / "l.csv", text)
    assert rounded in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("sample,label\n43,1\n", "line 2: sample '43' is none of those that are asked about; give questions.csv"),
        ("sample,label\n,1\n", "line 2: sample '' is none of those"),
        ("sample,label\n42,2\n", "line 2: label '2' of sample 42 is no class; give a class name, or neither"),
        ("sample,label\n42,GRÖßE\n", "did you mean 'Größe'?"),
        ("sample,label\n42,Neither\n", "did you mean 'neither'?"),
        (f"sample,label\n42,1\n7,1\n{written_id(42)},neither\n", "line 4: .* has two labels, '1' and 'neither'"),
        ("sample,name\n42,1\n", "must be a csv with the columns sample and label"),
        ("", "must be a csv with the columns"),
        ("sample;label\n42;Größe\n".encode("cp1252"), "is not UTF-8; save it as CSV UTF-8"),
    ],
)
def test_what_cannot_be_meant_is_one_line(tmp_path, text, says):
    with pytest.raises(DataError, match=says) as error:
        read(tmp_path / "l.csv", text)
    assert str(tmp_path / "l.csv") in str(error.value) and "\n" not in str(error.value)


def test_the_same_label_twice_is_one_and_no_label_at_all_is_none(tmp_path):
    assert read(tmp_path / "l.csv", f"sample,label\n42,1\n42,\n{written_id(42)},1\n") == {4: "1"}
    assert read(tmp_path / "l.csv", "sample,label\n42,\n1.2E+18, \n") == {}


def test_a_class_may_not_have_the_name_that_means_none_of_them(tmp_path):
    (tmp_path / "l.csv").write_text("sample,label\n42,neither\n")
    with pytest.raises(DataError, match="a class is called 'neither'"):
        read_labels(tmp_path / "l.csv", LIKE, ASKED, ("either", NEITHER))


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(DataError, match=r"cannot be read .*; give questions.csv of a scout, filled in"):
        filled_rows(tmp_path / "no.csv", LIKE)


@pytest.mark.parametrize("name", ["questions.csv", "ask.csv"])
def test_filled_lists_are_not_lost(tmp_path, name):
    path = tmp_path / "jobs" / "a" / name
    path.parent.mkdir(parents=True)
    (path.parent / "mine.csv").write_text("sample,label\n1,cat\n")
    doomed = [tmp_path / "jobs", path, tmp_path / "missing", tmp_path / "missing" / name]
    require_unfilled(doomed)
    path.write_text("sample;label\n1; \n2;\n")
    require_unfilled(doomed)
    for text, says in (("sample;label\n1;cat\n2;\n3;dog\n", r"filled in \(2\)"), ("\x00PK", "may hold some")):
        path.write_text(text)
        for each in (tmp_path / "jobs", path):
            with pytest.raises(RunFolderError, match=says) as error:
                require_unfilled([each])
            assert str(path) in str(error.value) and "move it" in str(error.value)
