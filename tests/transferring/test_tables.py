"""Whole transfers, a scout and a sweep with a table of answers as the teacher, on the digits."""

import json

import digits
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from crossteach import Store, TransferConfig, load_data, load_model, predict, scout, sweep, transfer, with_settings
from crossteach.cli import main
from crossteach.errors import ModelError

QUICK = ["optim.epochs=2", "optim.lr=0.01", "optim.batch_size=32", "views.count=2", "views.augmentation=none"]


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return digits.make(tmp_path_factory.mktemp("digits"))


@pytest.fixture(scope="module")
def data(task):
    """The digits, and the half of train that no label is read of as a pool."""
    arrays = dict(np.load(task.folder / "digits.npz"))
    np.savez(task.folder / "pool.npz", x=arrays["x_train"][450:])
    np.savez(task.folder / "half.npz", **{k: v[:450] if k in ("x_train", "y_train") else v for k, v in arrays.items()})
    return load_data(f"npz:{task.folder / 'half.npz'}", [f"npz:{task.folder / 'pool.npz'}?duplicates=exact"])


@pytest.fixture(scope="module")
def frame(task, data):
    model = load_model(task.teacher)
    parts = [data.train, data.selection, data.test, data.pools[0].split]
    logits = torch.cat([predict(model, part).logits for part in parts]).numpy()
    ids, names = np.concatenate([part.ids for part in parts]), np.repeat([p.name for p in parts], [*map(len, parts)])
    return pd.DataFrame({"id": ids, **{str(k): logits[:, k] for k in range(10)}}), names


def run(task, data, teachers, out, *settings):
    config = with_settings(TransferConfig(), [*QUICK, *settings])
    return transfer(load_model(task.student), teachers, data, out, config, Store(out.parent / f"store-{out.name}"))


def weights(out):
    return (out / "student" / "model.safetensors").read_bytes()


METHODS = ["xe+dp", "kl", "xe+dp-learned", "kl+dp-soft", "kl+dp-calibrated", "kl+ensemble", "kl+dp-flips-mean"]


@pytest.mark.parametrize(("method", "live"), [("xe+dp", "2"), ("kl", "0"), ("xe+dp-learned", "2")])
def test_a_table_of_a_models_answers_teaches_as_the_model_itself_bit_for_bit(task, data, frame, tmp_path, method, live):
    frame[0].sample(frac=1, random_state=1).to_parquet(tmp_path / "dense.parquet")
    table = load_model(f"predictions:{tmp_path / 'dense.parquet'}", like=data)
    settings = [f"method={method}", "gate.max_loss=100", f"views.count={live}"]
    by_model = run(task, data, [load_model(task.teacher)], tmp_path / "model", *settings)
    by_table = run(task, data, [table], tmp_path / "table", *settings)
    assert weights(tmp_path / "model") == weights(tmp_path / "table")
    assert by_table.summary["gate"]["verdict"] == "accepted"
    for key in ("teacher_accuracy", "ensemble_accuracy", "positive_flips", "promise", "training", "ungated"):
        assert by_model.summary[key] == by_table.summary[key], key
    both = [pq.read_table(tmp_path / name / "samples.parquet") for name in ("model", "table")]
    assert both[0].equals(both[1])


@pytest.fixture(scope="module")
def partial(task, data, frame):
    """A table that answers two thirds of everything."""
    table, path = frame[0].iloc[np.arange(len(frame[0])) % 3 > 0], task.folder / "partial.parquet"
    table.to_parquet(path)
    return f"predictions:{path}"


@pytest.mark.parametrize("method", METHODS)
def test_what_a_table_does_not_answer_the_others_teach(task, data, partial, tmp_path, method):
    table = load_model(partial, like=data)
    found = run(task, data, [table], tmp_path / "run", f"method={method}", "optim.epochs=1")
    summary = json.loads((tmp_path / "run" / "summary.json").read_text(), parse_constant=pytest.fail)  # no NaN
    taught = summary["training"]["taught"]
    assert 0 < taught["partial"] <= 0.7 * sum(taught.values())
    if method == "kl":
        share = taught["partial"] / sum(taught.values())
        assert share == pytest.approx(2 / 3, abs=0.02)
    assert any(note.startswith("partial answers 300 of 450 samples of train") for note in found.notes)
    assert any("samples of the pool" in note for note in found.notes)
    losses = [json.loads(line)["loss"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert np.isfinite(losses).all()
    said = predict(table, data.test)
    assert summary["teacher_accuracy"] == pytest.approx(said.accuracy)
    assert 90 < summary["teacher_accuracy"] < 100


def test_a_partial_table_beside_a_model(task, data, partial, tmp_path):
    teachers = [load_model(partial, like=data), load_model(task.model("linear"))]
    found = run(task, data, teachers, tmp_path / "run", "method=kl+ensemble", "curriculum.order=parallel").summary
    taught, total = found["training"]["taught"], sum(found["training"]["taught"].values())
    assert taught["partial"] / total == pytest.approx(2 / 9, abs=0.01), "a third of two thirds"
    assert taught["linear"] / total == pytest.approx(2 / 9 + 1 / 6, abs=0.01), "and a half of the rest"


def test_a_table_without_answers_on_test_has_no_accuracy(task, data, frame, tmp_path):
    table, names = frame
    table[names != "test"].to_parquet(tmp_path / "t.parquet")
    found = run(task, data, [load_model(f"predictions:{tmp_path / 't.parquet'}", like=data)], tmp_path / "run").summary
    assert found["teacher_accuracy"] is None and found["positive_flips"] == 0
    assert found["accuracy_after"] > 0


def test_it_cannot_learn_and_shows_no_features(task, data, partial, tmp_path):
    with pytest.raises(ModelError, match="only answers: its weights are not at hand"):
        transfer(load_model(partial, like=data), [load_model(task.teacher)], data, tmp_path / "run")
    with pytest.raises(ModelError, match="shows its answers only, no features"):
        run(task, data, [load_model(partial, like=data)], tmp_path / "cd", "method=cd", "pool.share=0")


def test_a_scout_counts_what_it_answers(task, data, partial):
    models = [load_model(task.student), load_model(partial, like=data), load_model(task.teacher)]
    found = scout(models, data, embeddings="none").summary
    json.dumps(found, allow_nan=False)
    whole, part, same = found["models"]
    said = predict(models[1], data.test)
    assert (whole["answered"], part["answered"]) == (447, int(said.answered.sum())) and part["answered"] < 300
    assert part["accuracy"] == part["accuracy_known"] == pytest.approx(said.accuracy)
    assert part["images_per_second"] is None
    flips = np.array(found["positive_flips"])
    assert flips[1, 2] == flips[2, 1] == 0, "the table and the model that wrote it differ nowhere"
    student, teacher = (predict(models[k], data.test).correct for k in (0, 2))
    assert flips[0, 1] == pytest.approx(100 * (teacher & ~student & said.answered).double().mean().item())
    pairs = {(pair["student"], pair["teacher"]): pair for pair in found["pairs"]}
    partition = pairs["convolutional", "partial"]["partition"]["unsupervised"]
    assert 0 < partition["teacher_share"] < 67 and partition["target_accuracy"] > 80
    ensemble = pairs["partial", "dense"]["ceilings"]["mean_probability"]
    assert ensemble == pytest.approx(same["accuracy"]), "where it is silent the other answers alone"
    assert pairs["convolutional", "partial"]["accuracy_difference"] == pytest.approx(
        100 * (teacher.double() - student.double())[said.answered].mean().item()
    )
    assert sum(note.startswith("partial answers") for note in found["notes"]) == 4
    (pool,) = found["pool"]["pools"]
    assert pool["asked"] + pool["dropped"]["without an answer of every model"] == len(data.pools[0].split)


def test_a_scout_needs_answers_on_test(task, data, frame, tmp_path):
    table, names = frame
    table[names != "test"].to_parquet(tmp_path / "t.parquet")
    with pytest.raises(ModelError, match="answers no sample of test, on which a scout compares"):
        scout([load_model(task.student), load_model(f"predictions:{tmp_path / 't.parquet'}", like=data)], data)


def test_the_command_line_and_a_sweep_take_a_table(task, frame, tmp_path, capsys):
    table, names = frame
    table[names != "pool"].to_csv(tmp_path / "other.csv", index=False)
    spec, half = f"predictions:{tmp_path / 'other.csv'}", f"npz:{task.folder / 'half.npz'}"
    with pytest.raises(SystemExit) as stopped:
        main(["check", spec, "--data", half])
    assert stopped.value.code == 1 and "it looks at no pixel" in capsys.readouterr().err
    settings = [word for setting in QUICK for word in ("--set", setting)]
    out = ["--out", str(tmp_path / "run"), "--json", "--quiet"]
    with pytest.raises(SystemExit) as stopped:
        main(["transfer", "--student", task.student, "--teacher", spec, "--data", half, *settings, *out])
    assert stopped.value.code == 0
    assert json.loads(capsys.readouterr().out)["teachers"]
    plan = {"data": half, "students": [task.student], "teachers": [spec], "methods": ["kl+dp"]}
    plan["settings"] = dict(setting.split("=") for setting in QUICK)
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(plan))
    found = sweep(tmp_path / "plan.yaml", tmp_path / "sweep", Store(tmp_path / "store"))
    assert found["done"] == 1 and not found["failed"]
