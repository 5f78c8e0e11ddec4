"""Scouting without labels: models compared by their answers, the teacher found, and questions worth their labels."""

import csv
import json

import digits
import numpy as np
import pytest
import torch
from commands import call

import crossteach
from crossteach.answers.prediction import predict
from crossteach.labels_file import NEITHER, written_id
from crossteach.scouting.unlabelled import ask_unlabelled


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return digits.make(tmp_path_factory.mktemp("digits"))


@pytest.fixture(scope="module")
def pool(task):
    arrays = np.load(task.folder / "digits.npz")
    np.savez(task.folder / "pool.npz", x=arrays["x_train"])
    return f"npz:{task.folder / 'pool.npz'}"


@pytest.fixture(scope="module")
def specs(task):
    return [task.model(name) for name in ("convolutional", "dense", "linear")]


def scout(specs, out, *more):
    return ["scout", *specs, "--out", out, "--embeddings", "none", "--quiet", *more]


def done(capsys, *arguments):
    code, out, error = call(capsys, *arguments)
    assert code == 0, error
    return json.loads(out)


def test_without_any_label_the_teacher_is_found_by_answers_alone(task, specs, pool, tmp_path, capsys):
    found = done(capsys, *scout(specs, tmp_path / "s", "--pool", pool, "--json"))
    assert found["positive_flips"] is None and found["ranking"] is None and found["pairs"] == []
    assert all(model["accuracy"] is None for model in found["models"])
    told = found["pool"]
    assert told["by"] == "ensemble" and told["pools"][0]["samples"] == 900
    data = crossteach.load_data(task.data)
    models = [crossteach.load_model(spec) for spec in specs]
    accuracy = [predict(model, data.test).accuracy for model in models]
    assert np.argsort(told["expected_accuracy"]).tolist() == np.argsort(accuracy).tolist()
    unlabelled = ask_unlabelled(models, crossteach.load_data(None, [pool]), crossteach.Store(), lambda *_: None)
    assert told["disagreement"][0][1] == pytest.approx(
        100 * (unlabelled.preds[0] != unlabelled.preds[1]).double().mean()
    )
    for row in told["ranking"]:
        gains = [teacher["expected_gain"] for teacher in row["teachers"]]
        assert gains == sorted(gains, reverse=True)
    assert call(capsys, "report", tmp_path / "s")[0] == 0
    html = (tmp_path / "s" / "report.html").read_text()
    assert "On samples without labels" in html and 'id="flips"' not in html and "--pool" in html


def test_labels_of_the_questions_say_what_labels_of_all_say(task, specs, pool, tmp_path, capsys):
    """With every question answered the estimate is that of all labels: where all agree nobody gains."""
    pool = f"{pool}?duplicates=keep"
    first = done(capsys, *scout(specs, tmp_path / "a", "--data", task.data, "--pool", pool, "--json"))
    assert first["pool"]["labelled"] is None and first["positive_flips"] is not None
    with (tmp_path / "a" / "questions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == first["pool"]["questions"] <= 200
    assert all((tmp_path / "a" / row["file"]).is_file() for row in rows)
    data = crossteach.load_data(task.data, [pool])
    truth = data.train
    models = [crossteach.load_model(spec) for spec in specs]
    unlabelled = ask_unlabelled(models, data, crossteach.Store(), lambda *_: None)
    pixels = unlabelled.pools[0].split
    known = {truth.inputs.read(np.array([row]), None, None).numpy().tobytes(): truth.labels[row] for row in range(900)}
    images = pixels.inputs.read(pixels.rows, None, None).numpy()
    labels = np.array([known[image[None].tobytes()] for image in images])
    samples = [written_id(sample) for sample in pixels.ids.tolist()]
    names = dict(zip(samples, (data.classes[c] for c in labels), strict=True))
    for row in rows:
        row["label"] = names[row["sample"]]
    with (tmp_path / "said.csv").open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=";")
        writer.writeheader()
        writer.writerows(rows)
    more = ("--data", task.data, "--pool", pool, "--labels", tmp_path / "said.csv", "--json")
    told = done(capsys, *scout(specs, tmp_path / "b", *more))["pool"]["labelled"]
    correct = (unlabelled.preds == torch.from_numpy(labels)).double()
    for s in range(3):
        for t in range(3):
            taught = unlabelled.right[t] > unlabelled.right[s]
            gained = 100 * ((correct[t] - correct[s]) * taught).mean().item()
            close = 1e-6 if len(rows) < 200 else 4 * told["error"][s][t] + 1e-6
            assert told["gain"][s][t] == pytest.approx(gained, abs=close)
    assert (told["answered"], told["asked"], told["skipped"]) == (len(rows), len(rows), 0)
    right = (correct[:, [samples.index(row["sample"]) for row in rows]] > 0).any(0)
    assert told["neither"] == int((~right).sum())
    call(capsys, "report", tmp_path / "b")
    assert f"by {len(rows)} labels" in (tmp_path / "b" / "report.html").read_text()


def test_wrong_input_is_one_line(task, specs, pool, tmp_path, capsys):
    def refused(*arguments, says):
        code, _, error = call(capsys, *arguments)
        assert code == 1 and says in error and error.count("\n") == 1

    few = specs[:2]
    refused(*scout(few, tmp_path / "a"), says="neither data nor a pool is given")
    refused(*scout(few, tmp_path / "b", "--pool", pool, "--controls"), says="--controls are measured on test labels")
    answers = tmp_path / "answers.csv"
    answers.write_text("sample,label\n1,3\n")
    refused(*scout(few, tmp_path / "c", "--data", task.data, "--labels", answers), says="add --pool")
    refused(
        *scout(few, tmp_path / "d", "--pool", pool, "--labels", answers),
        says="line 2: sample '1' is none of those that are asked",
    )
    answers.write_text("sample,label\n1,\n")
    refused(
        *scout(few, tmp_path / "e", "--pool", pool, "--labels", answers),
        says="has 0 labels, and fewer than 5 decide nothing",
    )
    answers.write_text("name\n1\n")
    refused(*scout(few, tmp_path / "f", "--pool", pool, "--labels", answers), says="columns sample and label")
    refused(*scout(few, tmp_path / "g", "--pool", pool, "--labels", tmp_path / "no.csv"), says="cannot be read")
    refused(*scout(few, tmp_path, "--pool", pool, "--labels", answers), says="give another folder as --out")


def fill(path, count, label="3"):
    """Answer the first questions, as a spreadsheet would."""
    with path.open() as file:
        rows = list(csv.DictReader(file))
    for row in rows[:count]:
        row["label"] = label
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=";")
        writer.writeheader()
        writer.writerows(rows)
    return rows


def test_skipped_and_impossible_samples_are_counted_and_old_ids_are_read(specs, pool, tmp_path, capsys):
    done(capsys, *scout(specs, tmp_path / "a", "--pool", pool, "--json"))
    rows = fill(tmp_path / "a" / "questions.csv", 0)
    lines = [f"{int(row['sample'][1:], 16)},{NEITHER if k % 2 else row['label']}" for k, row in enumerate(rows[:20])]
    (tmp_path / "said.csv").write_text("\n".join(["sample,label", *lines, lines[1]]) + "\n")
    more = ("--pool", pool, "--labels", tmp_path / "said.csv")
    told = done(capsys, *scout(specs, tmp_path / "b", *more, "--json"))["pool"]["labelled"]
    assert (told["asked"], told["answered"], told["skipped"], told["neither"]) == (len(rows), 10, 10, 10)
    _, shown, _ = call(capsys, *scout(specs, tmp_path / "b", *more))
    assert "by 10 labels (no model is right: 10; skipped: 10)" in " ".join(shown.split())
    call(capsys, "report", tmp_path / "b")
    assert "(no model is right: 10; skipped: 10)" in (tmp_path / "b" / "report.html").read_text()


def test_an_image_of_two_pools_is_one_sample_and_one_question(task, specs, tmp_path, capsys):
    images = np.load(task.folder / "digits.npz")["x_train"]
    np.savez(task.folder / "first.npz", x=images[:300])
    np.savez(task.folder / "second.npz", x=images[100:500])
    np.savez(task.folder / "third.npz", x=images[:50])
    pools = [f"npz:{task.folder / name}.npz?duplicates=keep" for name in ("first", "second", "third")]
    given = ("--data", task.data, *(f"--pool={pool}" for pool in pools))
    found = done(capsys, *scout(specs, tmp_path / "a", *given, "--json"))["pool"]
    split = crossteach.load_data(task.data, pools).pools
    together = {sample for pool in split for sample in pool.split.ids.tolist()}
    assert sum(len(pool.split) for pool in split) > len(together) == sum(pool["asked"] for pool in found["pools"])
    again = [pool["dropped"].get("in an earlier pool", 0) for pool in found["pools"]]
    assert again[0] == 0 < again[1] and len(again) == 2, "nothing is left of the third"
    with (tmp_path / "a" / "questions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len({row["sample"] for row in rows}) == len(rows) == found["questions"]
    assert all((tmp_path / "a" / row["file"]).is_file() for row in rows)


def test_labels_that_a_person_has_filled_in_are_not_overwritten(specs, pool, tmp_path, capsys):
    out, few = tmp_path / "s", specs[:2]
    done(capsys, *scout(specs, out, "--pool", pool, "--json"))
    fill(out / "questions.csv", 7)
    labelled = (out / "questions.csv").read_bytes()
    other = tmp_path / "other.csv"
    other.write_bytes(labelled)
    before = sorted(path for path in out.rglob("*"))
    for more in ((), ("--labels", other)):
        code, _, error = call(capsys, *scout(few, out, "--pool", pool, "--overwrite", *more))
        assert code == 1 and error.count("\n") == 1
        assert (
            f"{out / 'questions.csv'} holds labels that a person has filled in (7)" in error
            and "move it elsewhere" in error
        )
    assert (out / "questions.csv").read_bytes() == labelled and sorted(out.rglob("*")) == before
    (out / "scout.json").unlink()  # as of a scout that was stopped just before its end
    code, _, error = call(capsys, *scout(specs, out, "--pool", pool))
    assert code == 1 and "filled in (7)" in error and (out / "questions.csv").read_bytes() == labelled


def test_nothing_is_left_of_the_questions_of_other_models(task, specs, pool, tmp_path, capsys):
    out = tmp_path / "s"
    done(capsys, *scout(specs, out, "--pool", pool, "--json"))
    (out / "pool-of-mine").mkdir()
    assert (out / "questions.csv").is_file() and (out / "pool-1").is_dir()
    done(capsys, *scout(specs, out, "--data", task.data, "--overwrite", "--json"))
    assert not (out / "questions.csv").exists() and not (out / "pool-1").exists()
    assert (out / "pool-of-mine").is_dir()
