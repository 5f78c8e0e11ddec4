"""A person verifies: labels are asked where they say most, and decide which weights the run returns."""

import csv
import functools
import json
import shutil
from pathlib import Path

import digits
import numpy as np
import pyarrow.parquet as pq
import pytest
import text_models
import torch
from commands import call
from safetensors.torch import save_file

from crossteach import Store, TransferConfig, load_data, load_model, transfer, verify, with_settings
from crossteach.answers.prediction import predict
from crossteach.errors import ConfigError, DataError, RunFolderError
from crossteach.functional import Drawn, net_interval
from crossteach.labels_file import NEITHER, written_id
from crossteach.transferring.verification import Answers, conclude, read_differences

SETTINGS = ["optim.epochs=6", "optim.lr=0.05", "optim.batch_size=32", "views.count=1", "method=kl"]
GATE = {"level": 0.9, "max_loss": 0.3}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run without any label, and the labels of its test samples."""
    task = digits.make(tmp_path_factory.mktemp("digits"))
    arrays = dict(np.load(task.folder / "digits.npz"))
    truth = arrays.pop("y_test")
    for part in ("train", "val"):
        arrays.pop(f"y_{part}")
    np.savez(task.folder / "bare.npz", **arrays)
    out = task.folder / "run"
    data = load_data(f"npz:{task.folder / 'bare.npz'}")
    transfer(load_model(task.student), [load_model(task.teacher)], data, out, with_settings(TransferConfig(), SETTINGS))
    return task, out, truth


@pytest.fixture
def run(made, tmp_path):
    """A copy of the run that a test may change."""
    return Path(shutil.copytree(made[1], tmp_path / "run"))


def weights(folder):
    return (folder / "model.safetensors").read_bytes()


def answered(run, truth, count=None, write=written_id):
    """Answer the first samples of the draw with the truth."""
    found = read_differences(run)
    path = run.parent / "answers.csv"
    rows = found.order[:count]
    lines = [f"{write(found.ids[row].item())},{found.classes[truth[row]]}" for row in rows.tolist()]
    path.write_text("\n".join(["sample,label", *lines]) + "\n")
    return path


def test_all_labels_tell_the_change_exactly(made, run):
    _, _, truth = made
    found = read_differences(run)
    said = verify(run, labels=answered(run, truth))
    exact = 100 * ((found.new == truth).mean() - (found.old == truth).mean())
    assert (
        said["delta"]
        == pytest.approx(exact)
        == pytest.approx(said["interval"][0])
        == pytest.approx(said["interval"][1])
    )
    assert said["changed"] == pytest.approx(100 * (found.old != found.new).mean())
    assert said["verdict"] == ("accepted" if exact > 0 else "kept_original")
    assert json.loads((run / "verify.json").read_text()) == said


def test_the_verdict_decides_which_weights_the_run_returns(run):
    original, trained = weights(run / "original"), weights(run / "candidate")
    assert weights(run / "student") == trained != original
    found = read_differences(run)
    for wanted, expected, verdict in ((found.old, original, "kept_original"), (found.new, trained, "accepted")):
        assert verify(run, labels=answered(run, wanted))["verdict"] == verdict
        assert weights(run / "student") == expected
    opened, same = (load_model(f"run:{folder}", trust=True).module for folder in (run, run / "candidate"))
    assert all(torch.equal(a, b) for a, b in zip(opened.state_dict().values(), same.state_dict().values(), strict=True))


def test_a_point_on_the_way_that_the_gate_has_accepted_is_what_is_judged(made, tmp_path):
    task, _, _ = made
    arrays = dict(np.load(task.folder / "digits.npz"))
    arrays.pop("y_test")
    np.savez(tmp_path / "data.npz", **arrays)
    data, out = load_data(f"npz:{tmp_path / 'data.npz'}"), tmp_path / "run"
    config = with_settings(TransferConfig(), [*SETTINGS, "gate.alphas=0.5", "gate.max_loss=50"])
    summary = transfer(load_model(task.student), [load_model(task.teacher)], data, out, config).summary
    assert (summary["gate"]["verdict"], summary["gate"]["alpha"]) == ("accepted", 0.5)
    found, returned = read_differences(out), load_model(f"run:{out}", trust=True)
    assert np.array_equal(found.new, predict(returned, data.test, Store(tmp_path / "store")).preds.numpy())
    ended = pq.read_table(out / "samples.parquet")["pred_ungated"].to_numpy()
    assert not np.array_equal(found.new, ended)
    before = weights(out / "student")
    assert verify(out, labels=answered(out, found.new))["verdict"] == "accepted"
    assert weights(out / "student") == before == weights(out / "candidate") != weights(out / "original")


def test_few_labels_leave_it_open_and_say_how_many_would_tell(run):
    found = read_differences(run)
    truth = found.new.copy()
    truth[found.order[::3]] = found.old[found.order[::3]]
    before = weights(run / "student")
    said = verify(run, labels=answered(run, truth, 6))
    assert (said["verdict"], said["answered"], said["wins"], said["losses"]) == ("unverified", 6, 4, 2)
    assert weights(run / "student") == before
    assert said["labels_needed"] is None or 6 < said["labels_needed"] <= len(found.order)


def test_more_looks_cost_level_and_the_same_answers_are_one_look(made, run):
    _, _, truth = made
    first = verify(run, labels=answered(run, truth, 8))
    again = verify(run, labels=answered(run, truth, 8))
    assert first["interval"] == again["interval"] and len(again["looks"]) == 1
    more = verify(run, labels=answered(run, truth, 12))
    assert [look["answered"] for look in more["looks"]] == [8, 12]
    found, n = read_differences(run), 12
    drawn = Drawn(len(found.ids), len(found.order), n, more["wins"], more["losses"])
    assert more["interval"][0] == pytest.approx(net_interval(drawn, 1 - 0.05 / 4).low)


def test_skipped_samples_count_against_both(made):
    found = read_differences(made[1])
    names = [found.classes[found.new[row]] for row in found.order[:10]]
    whole, skipped = (conclude(found, Answers(tuple(labels)), 1, GATE) for labels in (names, [None, None, *names[2:]]))
    drawn = Drawn(len(found.ids), len(found.order), 10, 8, 2)
    assert (skipped["answered"], skipped["skipped"], skipped["wins"]) == (8, 2, 8)
    assert skipped["interval"][0] == pytest.approx(net_interval(drawn, 1 - 0.05 / 2).low)
    assert skipped["interval"][1] == whole["interval"][1]


def test_over_all_looks_together_a_worse_student_is_seldom_accepted(made):
    """Wins and losses that lose more than the gate may risk, looked at four times."""
    found = read_differences(made[1])
    rng, taken, times, every = np.random.default_rng(0), 0, 300, len(found.order)
    losses, seen = min(every, round(every / 2 + 0.006 * len(found.ids))), [every * part // 5 for part in (1, 2, 3, 4)]

    @functools.cache  # in which order the answers came decides nothing
    def accepts(part: int, old_right: int, answered: int) -> bool:
        right = np.arange(answered) < old_right
        says = np.where(right, found.old[found.order[:answered]], found.new[found.order[:answered]])
        said = Answers(tuple(found.classes[label] for label in says))
        return conclude(found, said, part, GATE)["verdict"] == "accepted"

    mixed = np.where(rng.permutation(every) < losses, found.old[found.order], found.new[found.order])
    said = Answers(tuple(found.classes[label] for label in mixed))
    assert (conclude(found, said, 1, GATE)["verdict"] == "accepted") == accepts(1, losses, every)

    for _ in range(times):
        right = rng.permutation(np.arange(every) < losses)  # the old one is right
        taken += any(accepts(part, int(right[:n].sum()), n) for part, n in enumerate(seen, 1))
    assert taken / times <= 0.1 + 2.6 * (0.09 / times) ** 0.5


def test_the_page_and_the_list_ask_about_a_draw(run):
    said, again = verify(run, ask=10), verify(run, ask=10)
    assert said == again and said["asked"] == min(10, said["differing"])
    with (run / "ask.csv").open() as file:
        rows = list(csv.DictReader(file))
    found = read_differences(run)
    assert [row["sample"] for row in rows] == [written_id(found.ids[row].item()) for row in found.order[:10]]
    assert all((run / row["file"]).is_file() and not row["label"] for row in rows)
    page = (run / "ask.html").read_text()
    assert page.count("data:image/png;base64,") == said["asked"] and "http" not in page


def test_labels_in_the_list_stay_where_more_or_fewer_are_asked_for(made, run):
    _, _, truth = made
    found = read_differences(run)
    verify(run, ask=6)
    with (run / "ask.csv").open() as file:
        rows = list(csv.DictReader(file))
    said = {row["sample"]: label for row, label in zip(rows, ("3", "", NEITHER, "", "4", "5"), strict=True) if label}
    lines = [f"{row['sample']};{row['file']};{said.get(row['sample'], '')}" for row in reversed(rows)]
    (run / "ask.csv").write_bytes("\r\n".join(["sample;file;label", *lines]).encode("utf-8-sig"))
    for wanted, asked in ((9, 9), (5, 6)):
        assert verify(run, ask=wanted)["asked"] == asked
        with (run / "ask.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert [row["sample"] for row in rows] == [written_id(found.ids[r].item()) for r in found.order[:asked]]
        assert {row["sample"]: row["label"] for row in rows if row["label"]} == said
    path = answered(run, truth, 3)
    (run / "ask.csv").write_text(path.read_text().replace(written_id(found.ids[found.order[0]].item()), "q1"))
    with pytest.raises(DataError, match="line 2: sample 'q1' is none of those that are asked about"):
        verify(run, ask=6)


def test_a_filled_list_keeps_a_run_from_being_overwritten(made, run):
    task, _, _ = made
    verify(run, ask=6)
    listed = run / "ask.csv"
    listed.write_text(listed.read_text().replace(",\n", ",neither\n"))
    before = listed.read_text()
    config = with_settings(TransferConfig(), [*SETTINGS[1:], "method=self"])
    data = load_data(f"npz:{task.folder / 'bare.npz'}")
    with pytest.raises(RunFolderError, match=r"holds labels that a person has filled in \(6\)"):
        transfer(load_model(task.student), [], data, run, config, overwrite=True)
    assert listed.read_text() == before and (run / "summary.json").is_file()


def test_old_ids_mean_the_same_and_neither_is_counted(made, run):
    _, _, truth = made
    first = verify(run, labels=answered(run, truth, 12))
    again = verify(run, labels=answered(run, truth, 12, str))
    assert again == first and first["neither"] == 12 - first["wins"] - first["losses"]
    path = answered(run, truth, 12)
    path.write_text("".join(line.partition(",")[0] + ",neither\n" for line in path.read_text().splitlines()[1:]))
    path.write_text("sample,label\n" + path.read_text())
    said = verify(run, labels=path)
    assert (said["neither"], said["wins"], said["losses"], said["delta"]) == (12, 0, 0, 0)


def test_a_class_called_neither_is_refused_before_anybody_labels(made, tmp_path):
    task, _, _ = made
    arrays = dict(np.load(task.folder / "bare.npz"))
    arrays["class_names"] = np.array(["neither", *"123456789"])
    np.savez(tmp_path / "odd.npz", **arrays)
    config = with_settings(TransferConfig(), ["method=kl", "optim.epochs=1", "optim.lr=0.05", "views.count=1"])
    models = load_model(task.student), [load_model(task.teacher)]
    transfer(*models, load_data(f"npz:{tmp_path / 'odd.npz'}"), tmp_path / "odd", config)
    with pytest.raises(DataError, match="a class is called 'neither'"):
        verify(tmp_path / "odd", ask=6)
    assert not (tmp_path / "odd" / "ask.csv").exists()


def test_the_command_asks_reads_and_says(made, run, capsys):
    _, _, truth = made
    code, out, _ = call(capsys, "verify", run, "--ask", 10)
    assert code == 0 and "differ on" in out and "ask.html" in out
    code, out, _ = call(capsys, "verify", run, "--labels", answered(run, truth), "--json")
    assert code == 0 and {"changed", "asked", "answered", "delta", "interval", "verdict"} <= set(json.loads(out))
    code, out, _ = call(capsys, "verify", run)
    assert code == 0 and "answers:" in out and "95% interval" in out and "times neither" in out


def test_wrong_files_and_folders_are_refused_in_one_line(made, run, tmp_path):
    task, _, truth = made
    path = answered(run, truth, 8)
    good = path.read_text()
    for text, told in (
        (good.replace("sample,label", "id,class"), "must be a csv with the columns sample and label"),
        (good + "12345678,1\n", "line 10: sample '12345678' is none of those"),
        (
            good.replace("\n", "\n0,1\n", 1).replace("0,1", good.splitlines()[1].split(",")[0] + ",cat"),
            "line 2: label 'cat' of sample q0",
        ),
        (good + good.splitlines()[1].split(",")[0] + ",neither\n", "line 10: .* has two labels"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=told):
            verify(run, labels=path)
    path.write_text("\n".join(good.splitlines()[:4]) + "\n")
    with pytest.raises(ConfigError, match="has 3 answers, and fewer than 5 decide nothing"):
        verify(run, labels=path)
    with pytest.raises(ConfigError, match="--ask must be at least 5, not 2"):
        verify(run, ask=2)
    with pytest.raises(DataError, match="cannot be read"):
        verify(run, labels=tmp_path / "none.csv")
    with pytest.raises(RunFolderError, match="holds no whole transfer"):
        verify(tmp_path)
    labelled = tmp_path / "labelled"
    transfer(
        load_model(task.student),
        [],
        load_data(task.data),
        labelled,
        with_settings(TransferConfig(), ["method=xe", "optim.epochs=1", "optim.lr=0.01"]),
    )
    with pytest.raises(RunFolderError, match=r"the test samples of .* have labels"):
        verify(labelled)


def test_students_that_answer_alike_leave_nothing_to_ask(made, tmp_path):
    task, _, _ = made
    out = tmp_path / "alike"
    settings = with_settings(TransferConfig(), ["method=self", "optim.epochs=1", "optim.lr=1e-6"])
    transfer(load_model(task.student), [], load_data(f"npz:{task.folder / 'bare.npz'}"), out, settings)
    with pytest.raises(ConfigError, match="answer alike on all"):
        verify(out, ask=10)


def test_data_that_have_changed_are_refused(made, run):
    other = load_data("sklearn:digits").test
    with pytest.raises(DataError, match="not those of"):
        verify(run, ask=10, data=other)


def test_data_without_a_train_split_are_opened_again_beside_their_pool(tmp_path):
    """A pool alone teaches, but the test samples are those of the data."""
    texts = [f"{word} {number}" for number in range(60) for word in ("up", "down")]
    splits = ["val", "val", "test", "test"] * 30
    labels = ["" if split == "test" else text.split()[0] for text, split in zip(texts, splits, strict=True)]
    rows = "".join(f"{row},{label},{split}\n" for row, label, split in zip(texts, labels, splits, strict=True))
    (tmp_path / "texts.csv").write_text(f"text,label,split\n{rows}")
    (tmp_path / "pool.csv").write_text("text\n" + "".join(f"{text} and so on\n" for text in texts))
    models = []
    for seed, name in enumerate("st"):
        torch.manual_seed(seed)
        save_file(text_models.Letters(2).state_dict(), tmp_path / f"{name}.safetensors")
        spec = f"py:{text_models.__file__}:letters@{tmp_path / name}.safetensors?n_classes=2"
        models.append(load_model(spec))
    data = load_data(f"csv:{tmp_path}/texts.csv", pools=[f"csv:{tmp_path}/pool.csv?duplicates=keep"])
    config = with_settings(TransferConfig(), [*SETTINGS, "optim.epochs=20", "force=true"])
    transfer(models[0], models[1:], data, tmp_path / "run", config)
    assert verify(tmp_path / "run", ask=5)["asked"] == 5
    told = json.loads((tmp_path / "run" / "config.json").read_text())
    assert told["data"]["spec"] == data.spec and told["pools"] == [data.pools[0].spec]
