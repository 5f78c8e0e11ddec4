import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import crossteach
from crossteach.data.pool import read_pool
from crossteach.errors import DataError, SpecError

ROWS = [
    ("guten Morgen, Welt", "de", "greeting", "train"),
    ("good morning", "en", "greeting", "train"),
    ("  gute Nacht ", "de", "night", "val"),
    ("good night", "en", "night", "val"),
    ("bis bald", "de", "soon", "test"),
    ("see you", "en", "", "test"),
    ("fresh text", "", "", "pool"),
    ("noch ein Text", "", "", "pool"),
]


def write_csv(path, rows=ROWS, header="text,label,group,split", separator=","):
    lines = [header.replace(",", separator)]
    lines += [separator.join(f'"{cell}"' for cell in row) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_parquet(path, rows=ROWS):
    names = ("text", "label", "group", "split")
    columns = dict(zip(names, zip(*rows, strict=True), strict=True))
    columns["text"] = [text.encode() for text in columns["text"]]
    columns["label"] = [label or None for label in columns["label"]]
    pq.write_table(pa.table({name: list(values) for name, values in columns.items()}), path)
    return path


@pytest.mark.parametrize("kind", ["csv", "semicolons", "parquet"])
def test_a_table_of_texts_opens_to_splits_and_a_pool(tmp_path, kind):
    path = tmp_path / ("t.parquet" if kind == "parquet" else "t.csv")
    write_parquet(path) if kind == "parquet" else write_csv(path, separator=";" if kind == "semicolons" else ",")
    data = crossteach.load_data(f"csv:{path}", [f"csv:{path}"])
    assert data.classes == ("de", "en")
    texts = {s.name: s.inputs.texts(s.input_rows(np.arange(len(s)))) for s in (data.train, data.test)}
    assert texts["train"] == [b"guten Morgen, Welt", b"good morning"]
    assert texts["test"] == [b"bis bald", b"see you"]
    assert data.selection.inputs.texts(data.selection.input_rows(np.arange(1))) == [b"  gute Nacht "]
    assert data.test.group_names == ("row 5", "soon")
    assert data.train.labels.tolist() == [0, 1]
    (pool,) = data.pools
    assert len(pool.split) == 2
    assert "2 rows are of the split pool and are read by --pool alone" in data.notes


def test_without_train_pools_alone_teach(tmp_path):
    path = write_csv(tmp_path / "t.csv", [row for row in ROWS if row[3] != "train"])
    data = crossteach.load_data(f"csv:{path}", [f"csv:{path}"])
    assert (len(data.train), len(data.taught)) == (0, 1)
    assert "there is no train split: pools alone teach" in data.notes


def test_equal_texts_with_other_labels_are_samples_of_their_own(tmp_path):
    rows = [("taxi", "de", "", "train"), ("taxi", "en", "", "train"), *ROWS[2:6]]
    assert len(crossteach.load_data(f"csv:{write_csv(tmp_path / 't.csv', rows)}").train) == 2


def test_another_column_and_a_length_are_named_by_options(tmp_path):
    path = write_csv(tmp_path / "t.csv", header="words,label,group,split")
    data = crossteach.load_data(f"csv:{path}?text=words&longest=4&duplicates=keep")
    assert data.test.inputs.size == (1, 4)
    assert any("of 2 texts of train are cut to 4 bytes" in note for note in data.notes)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ("?channels=1", SpecError, "has the option 'channels'"),
        ("?longest=0", SpecError, "longest of .* must be at least 1"),
        ("?text=nothing", DataError, "no column 'nothing'"),
        ("?path=nothing", DataError, "no column 'nothing'"),
    ],
)
def test_wrong_options_are_one_line(tmp_path, options, error, says):
    path = write_csv(tmp_path / "t.csv")
    with pytest.raises(error, match=says):
        crossteach.load_data(f"csv:{path}{options}")


def test_an_empty_text_is_refused(tmp_path):
    path = write_csv(tmp_path / "t.csv", [("", "de", "", "train"), *ROWS])
    with pytest.raises(DataError, match=r"1 rows of .* name no text, row 1 is the first"):
        crossteach.load_data(f"csv:{path}")


def test_a_pool_may_be_a_table_without_splits_or_labels(tmp_path):
    (tmp_path / "p.csv").write_text("text\none text\nanother\none text\n")
    pool = read_pool(f"csv:{tmp_path / 'p.csv'}")
    assert (pool.found, dict(pool.dropped)) == (3, {"repeated in the pool": 1})


def test_nothing_teaches_without_train_and_pool(tmp_path):
    from text_models import Letters

    path = write_csv(tmp_path / "t.csv", [row for row in ROWS if row[3] not in ("train", "pool")])
    data = crossteach.load_data(f"csv:{path}")
    models = [crossteach.from_module(Letters(2, ngram=n), name=str(n)) for n in (1, 2)]
    with pytest.raises(DataError, match="no train split and there is no pool, so nothing teaches; add --pool"):
        crossteach.transfer(models[0], models[1:], data, tmp_path / "run")


def test_a_frame_of_texts(tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(ROWS, columns=["text", "label", "group", "split"])
    data = crossteach.from_frame(frame, root=tmp_path)
    assert data.test.inputs.kind == "text"
    assert len(data.train) == 2
