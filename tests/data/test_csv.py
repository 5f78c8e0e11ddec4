"""Tables that list pictures: what their columns mean, what is cut, and what is refused."""

import csv

import numpy as np
import pandas
import pyarrow
import pyarrow.parquet
import pytest
from sources import pictures_of, write_csv, write_folder

import crossteach
from crossteach.data import files
from crossteach.errors import DataError, SpecError


@pytest.fixture
def root(tmp_path):
    return write_folder(tmp_path / "pictures")


def write(path, *rows, separator=","):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=separator).writerows(rows)
    return f"csv:{path}"


def told(data, words):
    (note,) = [note for note in data.notes if words in note]
    return note


@pytest.mark.parametrize(("separator", "suffix"), [(";", "csv"), ("\t", "tsv"), (",", "txt")])
def test_separators_other_names_and_a_mark_of_utf_8_are_read(root, separator, suffix):
    path = write_csv(root / f"list.{suffix}", root, separator, header=(" file ", "species", "part"))
    path.write_bytes("\ufeff".encode() + path.read_bytes())
    data = crossteach.load_data(f"csv:{path}?path=file&label=species&split=part")
    assert data.test.fingerprint == crossteach.load_data(f"folder:{root}").test.fingerprint
    assert data.classes == ("cat", "dog", "eel") and data.notes == ()


def test_paths_may_be_absolute_and_identity_is_what_stands_below_the_table(root, tmp_path):
    rows = [(str(path), label, split) for split, label, path in pictures_of(root)]
    inside = crossteach.load_data(write(root / "list.csv", ("path", "label", "split"), *rows))
    assert inside.test.fingerprint == crossteach.load_data(f"folder:{root}").test.fingerprint
    (tmp_path / "elsewhere").mkdir()
    outside = crossteach.load_data(write(tmp_path / "elsewhere" / "list.csv", ("path", "label", "split"), *rows))
    assert outside.test.inputs.fingerprint == inside.test.inputs.fingerprint
    assert len(set(outside.test.ids.tolist()) | set(inside.test.ids.tolist())) == 24


def test_ids_stay_when_rows_come_in_another_order(root):
    data = crossteach.load_data(f"csv:{write_csv(root / 'list.csv', root)}")
    lines = (root / "list.csv").read_text().splitlines()
    (root / "turned.csv").write_text("\n".join([lines[0], *lines[:0:-1]]))
    turned = crossteach.load_data(f"csv:{root}/turned.csv")
    assert turned.train.ids.tolist() == data.train.ids[::-1].tolist()
    assert turned.train.labels.tolist() == data.train.labels[::-1].tolist()
    assert turned.train.fingerprint != data.train.fingerprint


def test_missing_splits_are_cut_with_a_seed_and_said(root):
    path = write_csv(root / "list.csv", root, header=("path", "label", "part"))
    data = crossteach.load_data(f"csv:{path}")
    assert (len(data.train), len(data.selection), len(data.test)) == (29, 3, 7) and data.selection_seen
    assert "7 of 39 samples of train were cut off for it" in told(data, "there is no test split")
    assert "selection was cut from train" in told(data, "selection was cut")
    assert sorted(np.bincount(data.test.labels).tolist()) == [2, 2, 3]
    again = crossteach.load_data(f"csv:{path}")
    assert again.fingerprint == data.fingerprint
    assert not set(data.train.ids) & set(data.test.ids) and not set(data.train.ids) & set(data.selection.ids)


def test_what_is_cut_from_train_counts_as_seen_however_it_is_cut(root):
    path = write_csv(root / "list.csv", root, header=("path", "label", "part"))
    data = crossteach.load_data(f"csv:{path}?selection_from=test")
    assert len(data.train) == 32 and len(data.selection) + len(data.test) == 7 and data.selection_seen


def test_without_test_half_of_the_held_out_samples_become_it(root):
    """No model has learned from these, whereas train may have been memorised."""
    path = write_csv(
        root / "list.csv",
        root,
        header=("path", "label", "was"),
        split=lambda split, *_: "train" if split == "train" else "val",
    )
    data = crossteach.load_data(f"csv:{path}")
    assert (len(data.train), len(data.selection), len(data.test)) == (15, 12, 12) and not data.selection_seen
    assert "12 of 24 samples of selection were cut off for it" in told(data, "there is no test split")


def test_groups_stay_together_where_parts_are_cut(root):
    path = write_csv(
        root / "list.csv", root, header=("path", "label", "was"), group=lambda split, label, path: path.stem[-1]
    )
    data = crossteach.load_data(f"csv:{path}")
    names = [{part.group_names[code] for code in part.group} for part in (data.train, data.selection, data.test)]
    assert sorted(name for part in names for name in part) == ["0", "1", "2", "3", "4"]
    assert crossteach.load_data(f"csv:{path}?group=").test.group is None


def test_empty_labels_are_no_labels(root):
    path = write_csv(
        root / "list.csv",
        root,
        header=("path", "was", "split"),
        label=lambda s, name, p: "" if p.stem == "00" else name,
    )
    data = crossteach.load_data(f"csv:{path}")
    assert (data.train.labels == -100).sum() == 3 and len(data.train) == 15
    assert len(data.test) == 9 and "3 of 12 samples of test have no label" in told(data, "samples of test")


@pytest.mark.parametrize("write_number", [str, "{}.0".format])
def test_ids_are_ordered_as_numbers_also_where_gaps_made_them_floats(root, write_number):
    """Pandas writes a column of whole numbers with gaps as 3.0."""
    code = {"cat": 10, "dog": 9, "eel": 2}
    path = write_csv(
        root / "list.csv", root, header=("path", "was", "split"), label=lambda s, name, p: write_number(code[name])
    )
    data = crossteach.load_data(f"csv:{path}")
    assert data.classes == ("2", "9", "10") and data.test.labels.tolist() == [2] * 4 + [1] * 4 + [0] * 4
    assert "are numbers and are ordered as numbers" in told(data, "ordered")
    assert crossteach.load_data(f"csv:{path}?class_order=text").classes == ("10", "2", "9")


def test_signs_are_classes_too(root):
    """The glyphs of the demo have classes called | and [."""
    sign = {"cat": "|", "dog": "[", "eel": "#"}
    path = write_csv(root / "list.csv", root, header=("path", "was", "split"), label=lambda s, name, p: sign[name])
    data = crossteach.load_data(f"csv:{path}")
    assert data.classes == ("#", "[", "|") and data.test.labels.tolist() == [2] * 4 + [1] * 4 + [0] * 4


def test_rows_that_repeat_are_taken_once_and_two_labels_for_one_picture_are_refused(root):
    path = write_csv(root / "list.csv", root)
    line = path.read_text().splitlines()[1]
    path.write_text(f"{path.read_text()}{line}\n{line}\n")
    data = crossteach.load_data(f"csv:{path}")
    assert len(data.train) == 15 and "2 of 17 rows of train repeat another" in told(data, "repeat")
    path.write_text(f"{path.read_text()}{line.replace(',cat,', ',dog,')}\n")
    with pytest.raises(DataError, match=r"gives train/cat/00.png the labels 'cat' and 'dog' \(rows 1 and 42\)"):
        crossteach.load_data(f"csv:{path}")


def test_a_few_missing_pictures_are_counted_and_many_refused(root):
    path = write_csv(root / "list.csv", root)
    (root / "train" / "cat" / "01.jpg").unlink()
    (root / "train" / "dog" / "01.jpg").write_bytes(b"no picture")
    (root / "train" / "eel" / "01.jpg").unlink()
    (root / "train" / "eel" / "01.jpg").mkdir()
    with pytest.raises(
        DataError, match=r"3 of 15 files in train of 'csv:.*' cannot be decoded, .*cat/01.jpg among .*no such file"
    ):
        crossteach.load_data(f"csv:{path}")
    data = crossteach.load_data(f"csv:{path}?max_broken=0.3")
    assert len(data.train) == 12 and data.train.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert "3 of 15 pictures of train cannot be decoded and are skipped" in told(data, "are skipped")


def test_an_edited_picture_makes_other_data(root):
    path = write_csv(root / "list.csv", root)
    before = crossteach.load_data(f"csv:{path}")
    picture = root / "test" / "cat" / "00.png"
    picture.write_bytes((root / "train" / "cat" / "00.png").read_bytes()[:-20] + picture.read_bytes()[-20:])
    assert crossteach.load_data(f"csv:{path}?max_broken=0.5").test.fingerprint != before.test.fingerprint


def test_missing_pictures_are_found_in_data_too_large_to_read_whole(root, monkeypatch):
    monkeypatch.setattr(files, "WHOLE_FILES", 5)
    monkeypatch.setattr(files, "SAMPLE", 4)
    path = write_csv(root / "list.csv", root)
    for label in ("cat", "dog", "eel"):
        (root / "train" / label / "01.jpg").unlink()
    with pytest.raises(DataError, match="3 of 15 files in train"):
        crossteach.load_data(f"csv:{path}")


P, L, S = "train/cat/00.png", "train/dog/00.png", "train/eel/00.png"
ONE = ("path", "label")


@pytest.mark.parametrize(
    ("rows", "options", "words"),
    [
        ([("file", "label"), (P, "a")], "", r"has no column 'path'; it has file, label: name one by \?path=COLUMN"),
        ([("path", "class"), (P, "a")], "", r"has no column 'label'; it has path, class: name one by \?label=COLUMN"),
        ([ONE, (P, "a")], "?split=part", r"has no column 'part'; it has path, label: name one by \?split=COLUMN"),
        ([ONE, (P, "a")], "?group=patient", "has no column 'patient'"),
        ([("path", "label", "label"), (P, "a", "b")], "", "has the column 'label' 2 times"),
        ([ONE], "", "has no row below its header"),
        ([], "", "has no column 'path'; it has none"),
        ([ONE, (P, "a", "b")], "", r"line 2 of .*list.csv has 3 cells but the header 2; write a cell that holds"),
        ([ONE, ("", "a"), (P, "a")], "", "1 rows of .*list.csv name no path, row 1 is the first"),
        (
            [(*ONE, "split"), (P, "a", "train"), (L, "b", "dev")],
            "",
            r"must say train, val, test or pool, but row 2 has 'dev'",
        ),
        ([(*ONE, "split"), (P, "a", "test")], "", "has no train split; give one"),
        ([ONE, (P, "a|b"), (L, "b")], "", r"several labels for one sample, as 'a\|b'; .* one label"),
        ([ONE, (P, "['a', 'b']"), (L, "b")], "", "several labels for one sample"),
        ([ONE, (P, "0.5"), (L, "1.25"), (S, "3")], "", "are measurements, as 0.5, and no classes; .*not regression"),
        ([ONE, (P, "a"), (L, "b")], "", "samples of the train split are too few"),
        ([ONE, (P, "a"), ("a\0b.png", "b")], "", "line contains NUL|1 of 2 files .* cannot be decoded"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(root, rows, options, words):
    with pytest.raises(DataError, match=words) as refused:
        crossteach.load_data(write(root / "list.csv", *rows) + options)
    assert "\n" not in str(refused.value)


def test_other_options_and_files_are_refused_in_one_line(root, tmp_path):
    path = write_csv(root / "list.csv", root)
    with pytest.raises(SpecError, match="has the option 'size', which csv: does not know"):
        crossteach.load_data(f"csv:{path}?size=3")
    with pytest.raises(
        DataError, match=r"no file .*nowhere.csv for .*; expected a table with the columns path \(or text\) and label"
    ):
        crossteach.load_data(f"csv:{tmp_path}/nowhere.csv")
    path.write_bytes(path.read_text().encode("utf-16"))
    with pytest.raises(DataError, match=r"list.csv cannot be read \(.*utf-8.*\); save it as UTF-8"):
        crossteach.load_data(f"csv:{path}")
    (root / "list.parquet").write_bytes(b"PAR1 no table")
    with pytest.raises(DataError, match=r"list.parquet is no whole parquet file .*; write it again"):
        crossteach.load_data(f"csv:{root}/list.parquet")


def test_a_device_is_not_read_as_a_picture(root):
    """/dev/zero never ends."""
    with pytest.raises(DataError, match=r"1 of 2 files in train of .*/dev/zero among them .no such file"):
        crossteach.load_data(write(root / "list.csv", ONE, (P, "a"), ("/dev/zero", "b")))


def test_lists_of_labels_in_parquet_and_measurements_in_frames_are_refused(root):
    rows = [(path.relative_to(root).as_posix(), [label, "x"]) for _, label, path in pictures_of(root)]
    table = pyarrow.table({"path": [path for path, _ in rows], "label": [labels for _, labels in rows]})
    pyarrow.parquet.write_table(table, root / "list.parquet")
    with pytest.raises(DataError, match=r"several labels for one sample, as 'cat\|x'"):
        crossteach.load_data(f"csv:{root}/list.parquet")
    frame = pandas.DataFrame({"path": [path for path, _ in rows], "label": np.linspace(0, 1, len(rows))})
    with pytest.raises(DataError, match="the labels of 'ages' are measurements"):
        crossteach.from_frame(frame, root, "ages")


def test_a_frame_is_read_as_its_csv(root):
    path = write_csv(root / "list.csv", root, header=("file", "kind", "part"), group=lambda s, label, p: f"g{p.stem}")
    frame = pandas.read_csv(path).astype({"kind": "category"})
    frame.loc[0, "kind"] = np.nan
    data = crossteach.from_frame(frame, root, path="file", label="kind", split="part", channels=1, train_samples=12)
    assert data.classes == ("cat", "dog", "eel") and data.train.inputs.channels == 1 and len(data.train) == 12
    read = crossteach.load_data(f"csv:{path}?path=file&label=kind&split=part&channels=1")
    assert data.test.fingerprint == read.test.fingerprint and data.test.group_names == ("g00", "g01", "g02", "g03")
    assert crossteach.from_frame(frame, root, path="file", label="kind", split="part", group="").test.group is None
    with pytest.raises(DataError, match="'frame' has no column 'path'; it has file, kind, part, group"):
        crossteach.from_frame(frame, root)
    with pytest.raises(SpecError, match="has the option 'path_column'"):
        crossteach.from_frame(frame, root, path_column="file")
    with pytest.raises(DataError, match="'frame' must be a data frame with columns, not dict"):
        crossteach.from_frame({"path": []}, root)


def test_a_pool_needs_only_paths_and_takes_train_where_splits_are_named(root, tmp_path):
    data = f"folder:{root}"
    fresh = write_folder(tmp_path / "fresh", labels=("x",), size=(21, 9))
    rows = [(path.relative_to(fresh).as_posix(),) for _, _, path in pictures_of(fresh)]
    (pool,) = crossteach.load_data(data, [write(fresh / "bare.csv", ("path",), *rows)]).pools
    assert len(pool.split) == 13 and pool.split.labels is None and pool.split.group is None
    (pool,) = crossteach.load_data(data, [f"csv:{write_csv(fresh / 'list.csv', fresh)}"]).pools
    assert len(pool.split) == 5
    with pytest.raises(SpecError, match="has the option 'label'"):
        crossteach.load_data(data, [f"csv:{fresh}/list.csv?label=x"])
    path = write_csv(fresh / "held.csv", fresh, header=("path", "label", "was"), split=lambda *_: "test")
    (pool,) = crossteach.load_data(data, [f"csv:{path}"]).pools
    assert len(pool.split) == 13
