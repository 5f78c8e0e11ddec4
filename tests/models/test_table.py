"""Tables of another team's answers: whose answers they are, what is made of them, and what is refused."""

import os
import pickle
from dataclasses import replace

import digits
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from crossteach import load_data, load_model, predict
from crossteach.answers.check import steadiness_problem
from crossteach.data.cut import tune_and_gate
from crossteach.errors import ModelError, SpecError
from crossteach.labels_file import written_id
from crossteach.models import MappedClassifier, random_copy
from crossteach.types import TrainableClassifier

CLASSES = [str(i) for i in range(10)]


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return digits.make(tmp_path_factory.mktemp("digits"))


@pytest.fixture(scope="module")
def data(task):
    return load_data(task.data)


@pytest.fixture(scope="module")
def said(task, data):
    """What a real model says of every split."""
    model = load_model(task.teacher)
    return {split.name: predict(model, split).logits for split in (data.train, data.selection, data.test)}


@pytest.fixture(scope="module")
def frame(data, said):
    parts = [data.train, data.selection, data.test]
    ids = np.concatenate([part.ids for part in parts])
    logits = torch.cat([said[part.name] for part in parts]).numpy()
    return pd.DataFrame({"id": ids, **{name: logits[:, k] for k, name in enumerate(CLASSES)}})


def write(frame, path):
    {".csv": lambda: frame.to_csv(path, index=False), ".parquet": lambda: frame.to_parquet(path)}[path.suffix]()
    return f"predictions:{path}"


def shuffled(frame):
    return frame.sample(frac=1, random_state=0)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_table_gives_back_what_was_written_into_it(data, said, frame, tmp_path, suffix):
    table = load_model(write(shuffled(frame), tmp_path / f"other{suffix}"), like=data)
    for split in (data.train, data.selection, data.test):
        assert torch.equal(predict(table, split).logits, said[split.name])
    part = data.test.take(np.array([5, 3, 200]))
    assert torch.equal(predict(table, part).logits, said["test"][[5, 3, 200]]), "of a part, in another order"
    assert table.notes == (f"the answers of other{suffix} are taken for logits",)


def test_ids_may_be_written_as_the_lists_of_questions_write_them(data, said, frame, tmp_path):
    written = frame.assign(id=[written_id(i) for i in frame.id])
    table = load_model(write(written, tmp_path / "q.csv"), like=data)
    assert torch.equal(predict(table, data.test).logits, said["test"])


def test_an_npz_is_keyed_by_ids_or_by_rows(data, said, frame, tmp_path):
    scores = frame[CLASSES].to_numpy()
    np.savez(tmp_path / "ids.npz", id=frame.id, answers=scores)
    np.savez(tmp_path / "rows.npz", val=said["selection"], train=said["train"], test=said["test"])
    for name in ("ids", "rows"):
        table = load_model(f"predictions:{tmp_path / name}.npz", like=data)
        assert torch.equal(predict(table, data.test).logits, said["test"])
        assert torch.equal(predict(table, data.selection).logits, said["selection"])


def test_rows_count_in_the_source_also_where_a_split_was_cut_from_train(task, said, tmp_path):
    arrays = dict(np.load(task.folder / "digits.npz"))
    both = {f"{key}_train": np.concatenate([arrays[f"{key}_train"], arrays[f"{key}_val"]]) for key in "xy"}
    kept = {key: value for key, value in arrays.items() if not key.endswith(("_train", "_val"))}
    np.savez(tmp_path / "data.npz", **kept, **both)
    data, model = load_data(f"npz:{tmp_path / 'data.npz'}"), load_model(task.teacher)
    assert len(data.selection) == 135, "cut from train"
    logits = torch.cat([said["train"], said["selection"]])
    rows = pd.DataFrame(logits.numpy(), columns=CLASSES)
    spec = write(rows.assign(split="train", row=range(len(rows))), tmp_path / "t.csv")
    table = load_model(spec, like=data)
    for split in (data.train, data.selection):
        torch.testing.assert_close(predict(table, split).logits, predict(model, split).logits)
    assert table.notes[-1] == "t answers 0 of 447 samples of test"
    spec = write(rows.iloc[:10].assign(split="val", row=range(10)), tmp_path / "v.csv")
    with pytest.raises(ModelError, match="which was cut from another split"):
        load_model(spec, like=data)


def test_paths_are_told_by_their_last_names(tmp_path):
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 6), ("test", 6)):
        for name in ("cat", "dog"):
            (tmp_path / "data" / split / name).mkdir(parents=True)
            for k in range(count):
                Image.fromarray(rng.integers(0, 255, (8, 8), np.uint8)).save(
                    tmp_path / "data" / split / name / f"{k}.png"
                )
    data = load_data(f"folder:{tmp_path / 'data'}")
    files = sorted((tmp_path / "data").rglob("*.png"))
    labels = [path.parent.name for path in files]
    spec = write(
        pd.DataFrame({"path": [path.relative_to(tmp_path) for path in files], "label": labels}).astype(str),
        tmp_path / "t.csv",
    )
    table = load_model(spec, like=data)
    for split in (data.train, data.selection, data.test):
        assert predict(table, split).accuracy == 100
    whole = pd.DataFrame({"path": map(str, files), "label": labels})
    assert torch.equal(
        predict(load_model(write(whole, tmp_path / "w.csv"), like=data), data.test).logits,
        predict(table, data.test).logits,
    )
    short = pd.DataFrame({"path": [path.name for path in files], "label": labels})
    with pytest.raises(ModelError, match=r"the path '0.png' of .* is that of 6 samples; write more of its folders"):
        load_model(write(short, tmp_path / "s.csv"), like=data)


def test_columns_may_stand_in_any_order_and_hold_probabilities(data, said, frame, tmp_path):
    probs = torch.from_numpy(frame[CLASSES].to_numpy().copy()).softmax(1).numpy()
    other = pd.DataFrame({"id": frame.id, **{name: probs[:, int(name)] for name in reversed(CLASSES)}})
    table = load_model(write(other, tmp_path / "p.parquet"), like=data)
    assert table.classes == tuple(CLASSES)
    torch.testing.assert_close(predict(table, data.test).logits.softmax(1), said["test"].softmax(1))
    assert table.notes == (
        "the answers of p.parquet are probabilities, as they are positive and sum to 1: their logarithms are taken",
    )


def test_a_table_of_other_classes_is_mapped_by_their_names(data, said, frame, tmp_path):
    from crossteach.scouting.matching import share_classes

    known = [f"digit {i}" for i in (7, 2, 5)]
    named = replace(data, classes=tuple(f"digit {i}" for i in range(10)))
    other = frame[["id", "7", "2", "5"]].set_axis(["id", *known], axis=1).iloc[:1000]
    (mapped,) = share_classes([load_model(write(other, tmp_path / "t.csv"), like=named)], named.classes)
    assert isinstance(mapped, MappedClassifier)
    answers = predict(mapped, named.selection)
    assert answers.answered.sum() == 100 and answers.logits[~answers.answered].isnan().all()
    torch.testing.assert_close(
        answers.logits[:100, [7, 2, 5]].softmax(1), said["selection"][:100, [7, 2, 5]].softmax(1), atol=1e-5, rtol=1e-4
    )


def test_partial_coverage_is_counted_and_accuracy_is_over_what_is_answered(data, frame, said, tmp_path):
    part = frame.copy()
    part.loc[part.index[:200], CLASSES] = np.nan  # empty cells say the same as no row
    part = part.drop(index=part.index[1000:1300])
    table = load_model(write(part, tmp_path / "t.csv"), like=data)
    assert table.notes[1:] == (
        "t answers 700 of 900 samples of train; the other tutors teach the rest",
        "t answers 150 of 450 samples of selection",
    )
    answers = predict(table, data.selection)
    assert answers.answered.sum() == 150 and (answers.preds == -1).sum() == 300
    right = (said["selection"].argmax(1) == torch.from_numpy(data.selection.labels))[answers.answered]
    assert answers.accuracy == pytest.approx(100 * right.double().mean().item())


def test_rows_of_other_samples_are_counted(data, frame, tmp_path):
    more = pd.concat([frame, frame.iloc[:7].assign(id=range(10**15, 10**15 + 7))])
    assert load_model(write(more, tmp_path / "t.csv"), like=data).notes[-1] == (
        "7 of 1,804 rows of t.csv are of no sample of these data"
    )


def test_a_label_alone_gets_the_probability_that_such_labels_are_right(data, frame, said, tmp_path):
    preds = frame[CLASSES].to_numpy().argmax(1)
    table = load_model(write(pd.DataFrame({"id": frame.id, "label": preds}), tmp_path / "t.csv"), like=data)
    tune = tune_and_gate(data.selection)[0]
    right = int((predict(load_model(write(frame, tmp_path / "s.csv"), like=data), tune).correct).sum())
    expected = (right + 1) / (len(tune) + 2)
    probs = predict(table, data.test).logits.softmax(1)
    assert torch.equal(probs.argmax(1), said["test"].argmax(1))
    torch.testing.assert_close(probs.amax(1), torch.full((447,), expected))
    torch.testing.assert_close(probs.amin(1), torch.full((447,), (1 - expected) / 9))
    assert f"{right} of {len(tune)} are right on the labelled tune part of selection" in table.notes[0]
    bare = replace(data, selection=replace(data.selection, labels=None))
    unmeasured = load_model(table.spec, like=bare)
    torch.testing.assert_close(predict(unmeasured, data.test).logits.softmax(1).amax(1), torch.full((447,), 0.9))
    assert unmeasured.fingerprint != table.fingerprint


def test_it_only_answers_and_is_the_same_model_however_often_it_is_opened(data, frame, tmp_path):
    spec = write(frame, tmp_path / "t.csv")
    table = load_model(spec, like=data)
    assert not isinstance(table, TrainableClassifier) and random_copy(table) is None
    assert table.fingerprint == load_model(spec, like=data).fingerprint
    assert table.to("meta") is table and table.device.type == "cpu"
    assert steadiness_problem(table, data) is None
    with pytest.raises(ModelError, match="a table of answers and cannot be shown anything"):
        table.logits(torch.zeros(2, 1, 8, 8))
    write(frame.assign(**{"3": 0.0}), tmp_path / "t.csv")
    assert load_model(spec, like=data).fingerprint != table.fingerprint


def _twice(frame):
    return pd.concat([frame, frame.iloc[:1]])


REFUSED = {
    "no file": (None, "", "no file .* expected a table of answers"),
    "no key": (lambda f: f.drop(columns="id"), "", "does not tell which samples it answers, it has 0, 1"),
    "no answers": (lambda f: f[["id"]], "", "has no answers beside id"),
    "words": (lambda f: f.assign(**{"3": "yes"}), "", "column '3' .* holds .*string, not the numbers of a class"),
    "twice": (_twice, "", "answers a sample twice, in its rows 1 and 1798"),
    "a gap": (lambda f: f.assign(**{"3": [np.nan, *f["3"][1:]]}), "", "row 1 of .* has an empty or infinite cell"),
    "infinite": (lambda f: f.assign(**{"3": np.inf}), "", "row 1 of .* has an empty or infinite cell"),
    "all empty": (lambda f: f.assign(**dict.fromkeys(CLASSES, np.nan)), "", "holds no answer: all cells are empty"),
    "sigmoids": (lambda f: f.assign(**dict.fromkeys(CLASSES, 0.5)), "", "lie between 0 and 1 and do not sum to 1"),
    "negative": (lambda f: f, "?outputs=probabilities", "which is no probability; give outputs=logits"),
    "outputs": (lambda f: f, "?outputs=odds", "must be logits or probabilities"),
    "an option": (lambda f: f, "?size=8", "the option 'size', which predictions: does not know"),
    "others": (
        lambda f: f.assign(id=range(10**15, 10**15 + len(f))),
        "",
        "answers no sample of these data; look whether its ids",
    ),
    "train only": (lambda f: f.iloc[:900], "", "answers no sample of selection, by which a teacher is judged"),
    "no train": (lambda f: f.iloc[900:], "", "answers no sample of train or a pool, so it has nothing to teach"),
    "label": (lambda f: f[["id"]].assign(label="emu"), "", "has the label 'emu', which is no class of the data"),
    "path": (lambda f: f.rename(columns={"id": "path"}), "", "names paths, and samples of train have none"),
    "split": (lambda f: f.rename(columns={"id": "row"}).assign(split="dev"), "", "names the split 'dev'"),
    "row": (lambda f: f.assign(split="test", row=range(len(f))).drop(columns="id"), "", "has row 447 of test, which"),
    "half a row": (lambda f: f.assign(split="test", row=0.5).drop(columns="id"), "", "whole numbers from 0, not 0.5"),
    "no pool": (lambda f: f.assign(split="pool", row=0).drop(columns="id"), "", "these data have none; drop them"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_wrong_is_one_line(data, frame, tmp_path, case):
    change, options, message = REFUSED[case]
    path = tmp_path / "t.csv"
    if change is not None:
        change(frame).to_csv(path, index=False)
    with pytest.raises((ModelError, SpecError), match=message) as raised:
        load_model(f"predictions:{path}{options}", like=data)
    assert "\n" not in str(raised.value)


def test_broken_files_and_tables_without_data_are_one_line(data, frame, tmp_path):
    with pytest.raises(ModelError, match="answers for samples of certain data"):
        load_model(write(frame, tmp_path / "t.csv"))
    for name, content in (("t.csv", b"\xff\xfe\x00"), ("t.parquet", b"PAR1 no"), ("t.npz", b"PK no"), ("e.csv", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelError, match=r"table of .* (cannot be read|is no)"):
            load_model(f"predictions:{tmp_path / name}", like=data)
    (tmp_path / "t.csv").write_text("id,a,a\n1,2,3\n")
    with pytest.raises(ModelError, match="has the column 'a' more than once"):
        load_model(f"predictions:{tmp_path / 't.csv'}", like=data)
    for arrays, message in (
        ({"val": np.zeros((3, 10))}, "has 3 rows for val, but its source has 450"),
        ({"scores": np.zeros((3, 10))}, "the npz of .* holds scores; expected id or path"),
        ({"id": np.arange(2), "answers": np.zeros((3, 10))}, "has 2 of id but 3 answers"),
        (
            {"id": np.arange(3), "answers": np.zeros((3, 10, 2))},
            r"must be numbers \[N, C\], or labels \[N\], not float",
        ),
        ({"id": np.arange(3), "answers": np.zeros((3, 10)), "classes": np.array(["a"])}, "names 1 classes but scores"),
        ({"id": np.arange(3), "answers": np.zeros((3, 10)), "classes": np.array("ab")}, r"a list of names, not \[\]"),
        ({"val": np.array(3.0)}, r"must be numbers \[N, C\], or labels \[N\], not float64 \[\]"),
        ({"id": np.arange(3), "label": np.array("cat")}, r"labels \[N\], not <U3 \[\]"),
        ({"val": np.zeros((450, 10), "M8[s]")}, r"not datetime64\[s\] \[450, 10\]"),
        ({"val": np.zeros((450, 10), [("a", "i4")])}, r"not \[\('a', '<i4'\)\] \[450, 10\]"),
        ({"val": np.zeros(450, int), "test": np.array(["1"] * 447)}, "numbers for some splits and texts for others"),
        ({"train": np.zeros((900, 10)), "val": np.zeros((0, 10))}, "has 0 rows for val, but its source has 450"),
    ):
        np.savez(tmp_path / "t.npz", **arrays)
        with pytest.raises(ModelError, match=message):
            load_model(f"predictions:{tmp_path / 't.npz'}", like=data)


class _Runs:
    def __reduce__(self):
        return os.mkdir, ("ran",)


def test_no_code_in_a_file_is_run(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez(tmp_path / "t.npz", id=np.arange(1), answers=np.array([_Runs()], object))
    for name, content in (("p.npz", pickle.dumps(_Runs())), ("t.npz", None)):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelError, match="is no npz of plain numbers and texts"):
            load_model(f"predictions:{tmp_path / name}", like=data)
    assert not (tmp_path / "ran").exists()
