import json
import subprocess
import sys
from pathlib import Path

import digits
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import crossteach.transferring.lesson
from crossteach import Store, TransferConfig, load_data, load_model, transfer, with_settings
from crossteach.errors import ConfigError, LabelSpaceError, MissingLabelsError, ModelError, RunFolderError
from crossteach.settings import compatible
from crossteach.transferring.methods import METHODS
from crossteach.transferring.probe import Rates

QUICK = ["optim.epochs=2", "optim.lr=0.01", "optim.batch_size=32", "views.count=2"]


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> digits.Digits:
    return digits.make(tmp_path_factory.mktemp("digits"))


def run(task: digits.Digits, out: Path, settings: list[str] | None = None, **changes: object) -> object:
    config = with_settings(TransferConfig(), [*QUICK, *(settings or [])])
    data = load_data(str(changes.pop("data", task.data)))
    student = load_model(str(changes.pop("student", task.student)))
    teachers = changes.pop("teachers", [task.teacher])
    return transfer(student, [load_model(t) for t in teachers], data, out, config, **changes)  # type: ignore[arg-type]


def weights(out: Path) -> bytes:
    return (out / "student" / "model.safetensors").read_bytes()


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_the_store_and_live_tutors_train_the_same_bits(task, tmp_path):
    largest = ("store.keep=3", "partition.temperature=2")
    for number, settings in enumerate((["method=kl+dp"], ["method=xe+dp"], ["method=kl+dp", *largest])):
        ended = {}
        for live in ("true", "false"):
            out = tmp_path / f"{number}-{live}"
            asked = [*settings, "gate.ask=false", f"views.live={live}"]
            run(task, out, asked, store=Store(tmp_path / f"store-{live}"))
            ended[live] = weights(out)
        assert ended["true"] == ended["false"]
    assert weights(tmp_path / "0-true") != weights(tmp_path / "2-true")


def test_the_same_seed_gives_the_same_bits_and_another_does_not(task, tmp_path):
    losses = {}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run(task, tmp_path / name, [f"seed={seed}"], store=Store(tmp_path / f"store-{name}"))
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        losses[name] = [json.loads(line)["loss"] for line in lines]
    assert losses["a"] == losses["b"] != losses["c"]
    assert weights(tmp_path / "a") == weights(tmp_path / "b")


class StopHereError(Exception):
    pass


@pytest.mark.parametrize("settings", [["method=xe-kl+mcl"], ["optim.train_statistics=true"]])
def test_an_interrupted_run_resumes_to_the_same_bits(task, tmp_path, settings):
    settings = [*settings, "optim.epochs=4"]
    whole = run(task, tmp_path / "whole", settings)
    steps_an_epoch = 900 // 32 + 1

    def stop_in_third_epoch(what: str, done: int, total: int) -> None:
        if what == "training" and done > 2 * steps_an_epoch:
            raise StopHereError

    with pytest.raises(StopHereError):
        run(task, tmp_path / "cut", settings, progress=stop_in_third_epoch)
    assert (tmp_path / "cut" / "checkpoint.pt").is_file()
    assert not (tmp_path / "cut" / "summary.json").is_file()
    trained = []
    resumed = run(task, tmp_path / "cut", settings, progress=lambda what, done, total: trained.append((what, done)))
    assert min(done for what, done in trained if what == "training") > 2 * steps_an_epoch
    assert same(whole.student.module, resumed.student.module)
    assert weights(tmp_path / "whole") == weights(tmp_path / "cut")
    assert whole.summary["ungated"] == resumed.summary["ungated"]
    assert not (tmp_path / "cut" / "checkpoint.pt").exists()


def test_a_run_that_was_cut_after_training_is_not_trained_again(task, tmp_path, monkeypatch):
    def stop(*arguments: object) -> None:
        raise StopHereError

    whole = run(task, tmp_path / "whole", ["method=xe-kl+mcl"])
    with monkeypatch.context() as patched:
        patched.setattr(crossteach.transferring.lesson, "choose_weights", stop)
        with pytest.raises(StopHereError):
            run(task, tmp_path / "cut", ["method=xe-kl+mcl"])
    trained = []
    run(task, tmp_path / "cut", ["method=xe-kl+mcl"], progress=lambda what, done, total: trained.append(what))
    assert "training" not in trained
    assert weights(tmp_path / "whole") == weights(tmp_path / "cut")
    assert whole.summary["training"]["epochs"] == 2


def test_neither_the_given_student_nor_the_teachers_change(task, tmp_path):
    student, teacher = load_model(task.student), load_model(task.teacher)
    config = with_settings(TransferConfig(), [*QUICK, "optim.train_statistics=true", "method=xe+dp"])
    transfer(student, [teacher], load_data(task.data), tmp_path / "run", config)
    assert same(student.module, load_model(task.student).module)
    assert same(teacher.module, load_model(task.teacher).module)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_runs_and_its_summary_adds_up(task, tmp_path, method):
    teachers = [task.teacher] if METHODS[method].teachers else []
    result = run(task, tmp_path / "run", [f"method={method}", "gate.max_loss=100"], teachers=teachers)
    s = result.summary
    expected = "student teachers method n_test accuracy_before accuracy_after teacher_accuracy transfer_delta"
    expected += " knowledge_gain knowledge_loss positive_flips negative_flips transfer_rate p_value interval ungated"
    expected += " ungated_transfer_delta gate calibration seconds fingerprints"
    assert set(expected.split()) <= set(s)
    assert s["method"] == method
    assert s["transfer_delta"] == pytest.approx(s["accuracy_after"] - s["accuracy_before"])
    assert s["transfer_delta"] == pytest.approx(s["knowledge_gain"] - s["knowledge_loss"])
    assert s["ungated"]["transfer_delta"] == s["ungated_transfer_delta"]
    assert (s["ensemble_accuracy"] is None) == (not teachers)
    taught = sum(s["training"]["taught"].values())
    assert taught == pytest.approx(2 * 900, abs=0.1)
    json.dumps(s, allow_nan=False)
    ledger = pq.read_table(tmp_path / "run" / "samples.parquet").to_pydict()
    right = [a == b for a, b in zip(ledger["label"], ledger["pred_after"], strict=True)]
    assert 100 * sum(right) / len(right) == pytest.approx(s["accuracy_after"])


def test_the_ensemble_is_the_mean_of_probabilities(task, tmp_path):
    s = run(task, tmp_path / "run", ["method=kl"]).summary
    test = load_data(task.data).test
    student, teacher = (crossteach.predict(load_model(spec), test) for spec in (task.student, task.teacher))
    summed = student.logits.double().softmax(1) + teacher.logits.double().softmax(1)
    assert s["ensemble_accuracy"] == pytest.approx(100 * np.mean((summed.argmax(1) == student.labels).numpy()))


def test_a_student_that_teaches_itself_stays_what_it_is(task, tmp_path):
    s = run(task, tmp_path / "run", ["method=self", "optim.lr=0.03"], teachers=[]).summary
    assert abs(s["ungated_transfer_delta"]) <= 0.3
    assert s["training"]["taught"]["label"] == 0


def test_transfer_teaches(task, tmp_path):
    """A student that saw a third of the data learns from a teacher that saw more, without labels."""
    s = run(task, tmp_path / "run", ["method=kl+dp-unsupervised", "optim.epochs=8", "optim.lr=0.03"]).summary
    assert s["ungated_transfer_delta"] > 0
    assert s["training"]["taught"]["dense"] > 0
    assert s["training"]["taught"]["frozen student"] > 0


def test_the_gate_returns_the_original_bit_for_bit(task, tmp_path):
    random_teacher = task.model("linear").replace(f"@{task.folder}/linear.safetensors", "") + "&pretrained=false"
    settings = ["method=kl", "optim.epochs=1", "gate.alphas=1", "force=true"]  # a teacher at chance is refused
    result = run(task, tmp_path / "run", settings, teachers=[random_teacher])
    assert result.summary["ungated_transfer_delta"] < -0.1
    assert result.summary["gate"]["verdict"] == "kept_original"
    assert result.summary["transfer_delta"] == 0
    assert result.summary["interval"] == [0, 0]
    assert same(result.student.module, load_model(task.student).module)
    assert same(load_model(f"run:{tmp_path / 'run'}").module, load_model(task.student).module)


@pytest.mark.parametrize("lr", ["1e6", "1e38"])
def test_divergence_stops_the_run_and_keeps_the_original(task, tmp_path, lr):
    result = run(task, tmp_path / "run", [f"optim.lr={lr}", "method=xe", "optim.warmup=0"], teachers=[])
    assert result.summary["gate"]["verdict"] == "diverged"
    assert result.summary["transfer_delta"] == 0
    assert result.summary["training"]["diverged"]
    assert same(result.student.module, load_model(task.student).module)


def test_without_labels_the_result_is_unverified_and_says_what_it_knows(task, tmp_path):
    s = run(task, tmp_path / "run", ["optim.lr=none", "optim.probe_steps=3"], data=task.unlabelled).summary
    assert s["method"] == "kl+dp-unsupervised"
    assert s["gate"]["verdict"] == "unverified"
    assert "agreement with the ensemble" in s["gate"]["evidence"]
    assert any(note.startswith("no label tells a strong teacher from a weak one") for note in s["notes"])
    assert s["gate"]["selection_delta"] is None


def test_a_ruined_student_is_noticed_without_labels(task, tmp_path):
    """What accuracy would tell with labels, agreement with the ensemble tells without."""
    asked = ["optim.lr=20", "optim.epochs=3", "optim.warmup=0"]
    stopped = run(task, tmp_path / "run", asked, data=task.unlabelled)
    assert stopped.summary["gate"]["verdict"] == "diverged"
    assert "agreement fell from" in stopped.summary["training"]["diverged"]
    assert same(stopped.student.module, load_model(task.student).module)
    went_on = run(task, tmp_path / "on", [*asked, "optim.stop_below=0"], data=task.unlabelled)
    assert went_on.summary["gate"]["verdict"] == "unverified"


def test_a_student_that_learns_much_is_not_taken_for_ruined(task, tmp_path):
    """Sure of much that is wrong, it ends far from what it was and from the ensemble, but near its teacher."""
    student = load_model(task.model("linear"))
    head = student.module[1]
    with torch.no_grad():
        mistaken = [1, 2, 3, 4, 5, 6, 0, 7, 8, 9]
        head.weight.copy_(4 * head.weight[mistaken])
        head.bias.copy_(4 * head.bias[mistaken])
    save_file(student.module.state_dict(), tmp_path / "mistaken.safetensors")
    spec = f"py:{digits.SOURCE}:linear@{tmp_path / 'mistaken.safetensors'}?channels=1&size=8"
    data = load_data(task.unlabelled)
    asked = ["method=kl", "optim.lr=0.5", "optim.epochs=8", "views.count=1", "optim.clip=100", "force=true"]
    asked += ["partition.keep_absent=false"]  # it never gives a class that its teacher gives
    teachers = [load_model(task.student)]
    run_of = transfer(load_model(spec), teachers, data, tmp_path / "run", with_settings(TransferConfig(), asked))
    assert run_of.summary["gate"]["verdict"] == "unverified"
    assert run_of.summary["accuracy_before"] < 50 < run_of.summary["accuracy_after"]


def test_the_probe_knows_which_views_it_was_shown(task, tmp_path, monkeypatch):
    keys = []
    probe = lambda *given: (keys.append(given[5]), Rates(0.01, None, {}))[1]  # noqa: E731
    monkeypatch.setattr(crossteach.transferring.lesson, "choose_rate", probe)
    for first in (0, 1):
        run(task, tmp_path / str(first), ["optim.lr=none", f"views.first={first}", "views.count=2"])
    assert keys[0] != keys[1]
    assert "first view" not in keys[0], "rates that are stored are found again"


def test_labels_that_are_missing_are_asked_for(task, tmp_path):
    for method in ("kl+dp", "xe", "self+labels"):
        with pytest.raises(MissingLabelsError, match="needs labels"):
            run(task, tmp_path / "run", [f"method={method}"], data=task.unlabelled)
    assert not (tmp_path / "run").exists()


def test_a_gate_that_looks_at_classes_needs_labels(task, tmp_path):
    for asked in ("gate.measure=balanced", "gate.class_max_loss=5"):
        with pytest.raises(MissingLabelsError, match=f"{asked} .* the selection split has no labels"):
            run(task, tmp_path / "run", [asked], data=task.unlabelled)
    assert not (tmp_path / "run").exists()


def test_many_teachers_share_the_samples(task, tmp_path):
    s = run(task, tmp_path / "run", teachers=[task.teacher, task.model("linear")]).summary
    assert s["teachers"] == ["dense", "linear"]
    assert len(s["teacher_accuracy"]) == len(s["positive_flips"]) == 2
    assert all(s["training"]["taught"][name] > 0 for name in ("frozen student", "dense", "linear"))


def test_image_files_teach_the_same_with_any_number_of_workers(task, tmp_path):
    with np.load(task.folder / "digits.npz") as archive:
        for split in ("train", "val", "test"):
            for i, (pixels, label) in enumerate(zip(archive[f"x_{split}"], archive[f"y_{split}"], strict=True)):
                folder = tmp_path / "images" / split / str(label)
                folder.mkdir(parents=True, exist_ok=True)
                if i < 200:
                    Image.fromarray(pixels).save(folder / f"{i}.png")
    for workers in (0, 3):
        data = f"folder:{tmp_path / 'images'}?channels=1&workers={workers}"
        s = run(task, tmp_path / f"run{workers}", ["method=kl"], data=data, store=Store(tmp_path / f"store{workers}"))
        assert s.summary["accuracy_before"] > 90
    lines = [(tmp_path / f"run{workers}" / "metrics.jsonl").read_text().splitlines() for workers in (0, 3)]
    losses = [[json.loads(line)["loss"] for line in part] for part in lines]
    assert losses[0] == losses[1]


def test_the_probe_takes_a_rate_of_its_own_and_remembers_it(task, tmp_path):
    store, seen = Store(tmp_path / "store"), []
    settings = ["optim.lr=none", "optim.probe_rates=0.003,1000", "optim.probe_steps=5"]
    for name in ("a", "b"):
        result = run(task, tmp_path / name, settings, store=store, progress=lambda what, done, total: seen.append(what))
        assert result.summary["training"]["lr"] == 0.003
    assert seen.count("trying rates") == 2
    assert weights(tmp_path / "a") == weights(tmp_path / "b")


def test_a_time_budget_takes_epochs_away(task, tmp_path):
    result = run(task, tmp_path / "run", ["optim.epochs=100000", "time_budget=0.02"])
    assert 1 <= result.summary["training"]["epochs"] < 100000
    assert any("--time-budget" in note for note in result.notes)


def test_trained_statistics_change_and_frozen_ones_do_not(task, tmp_path):
    before = load_model(task.student).module[1].running_mean
    for train, name in (("true", "trained"), ("false", "frozen")):
        result = run(task, tmp_path / name, [f"optim.train_statistics={train}", "gate.max_loss=100", "method=xe"])
        if result.summary["gate"]["verdict"] == "accepted":
            assert torch.equal(result.student.module[1].running_mean, before) == (train == "false")


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_mixed_precision_trains(task, tmp_path, precision):
    s = run(task, tmp_path / "run", [f"optim.precision={precision}", "optim.epochs=4"]).summary
    assert s["gate"]["verdict"] != "diverged"
    assert s["ungated_transfer_delta"] > -3


def test_fresh_views_run_the_tutors_live(task, tmp_path):
    store = Store(tmp_path / "store")
    s = run(task, tmp_path / "run", ["views.count=0"], store=store).summary
    assert s["gate"]["verdict"] in ("accepted", "kept_original")
    stored = [json.loads(path.read_text())["kind"] for path in store.folder.glob("*/*/manifest.json")]
    assert set(stored) == {"predictions"}


def test_a_whole_run_is_read_and_another_configuration_refused(task, tmp_path):
    first = run(task, tmp_path / "run")
    seen = []
    again = run(task, tmp_path / "run", progress=lambda what, done, total: seen.append(what))
    assert again.summary == first.summary
    assert "training" not in seen
    assert same(first.student.module, again.student.module)
    with pytest.raises(RunFolderError, match=r"seed was 0, is 5"):
        run(task, tmp_path / "run", ["seed=5"])
    assert run(task, tmp_path / "run", ["seed=5"], overwrite=True).summary["training"]["epochs"] == 2


def test_corrected_labels_make_another_run(task, tmp_path):
    with np.load(task.folder / "digits.npz") as archive:
        arrays = {key: archive[key] for key in archive.files}
    np.savez(tmp_path / "data.npz", **arrays)
    run(task, tmp_path / "run", data=f"npz:{tmp_path / 'data.npz'}")
    np.savez(tmp_path / "data.npz", **{**arrays, "y_test": np.roll(arrays["y_test"], 1)})
    with pytest.raises(RunFolderError, match=r"data\.fingerprint was"):
        run(task, tmp_path / "run", data=f"npz:{tmp_path / 'data.npz'}")


def test_a_student_that_was_trained_on_is_another_model(task, tmp_path):
    student, data, store = load_model(task.student), load_data(task.data), Store(tmp_path / "store")
    before = crossteach.predict(student, data.test, store).accuracy
    with torch.no_grad():
        student.module[6].weight.zero_()
    assert crossteach.predict(student, data.test, store).accuracy < before - 50


def test_settings_that_mean_nothing_are_refused(task, tmp_path):
    both = [task.teacher, task.model("linear")]
    for settings, teachers, says in (
        (["method=kl"], both, "takes one teacher, not 2"),
        (["method=xe", "partition.kl_weight=0.5"], [], "has no KL term"),
        (["method=kl+dp-unsupervised", "partition.kl_weight=0.5"], both, "reads no labels"),
    ):
        with pytest.raises(ConfigError, match=says):
            run(task, tmp_path / "run", settings, teachers=teachers)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("return images[:, :, :4]", "must return images like those"),
        ("return images / 0", "must return images like those"),
        ("return images + nothing", "fails: name 'nothing' is not defined"),
    ],
)
def test_a_wrong_augmentation_is_found_before_anything_is_written(task, tmp_path, body, says):
    (tmp_path / "own.py").write_text(f"def own(images, uniforms):\n    {body}\n")
    run(task, tmp_path / "run")
    kept = (tmp_path / "run" / "summary.json").read_bytes()
    with pytest.raises(ConfigError, match=says):
        run(task, tmp_path / "run", [f"views.augmentation={tmp_path}/own.py:own"], overwrite=True)
    assert (tmp_path / "run" / "summary.json").read_bytes() == kept


def test_a_foreign_folder_is_left_alone(task, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(RunFolderError, match=r"thesis\.tex"):
        run(task, tmp_path, overwrite=True)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_a_saved_student_loads_without_crossteach(task, tmp_path):
    result = run(task, tmp_path / "run", ["gate.max_loss=100"])
    text = (tmp_path / "run" / "student" / "README.md").read_text()
    code = text.split("```python\n")[1].split("```")[0]
    assert "crossteach" not in code
    check = code + "import sys\nx = torch.full((2, 1, 8, 8), 0.5)\n"
    check += "assert not any(m.startswith('crossteach') for m in sys.modules)\nprint(logits(x).double().sum().item())\n"
    told = subprocess.run(
        [sys.executable, "-c", check],
        cwd=tmp_path / "run" / "student",
        env={"PYTHONPATH": str(digits.SOURCE.parent), "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    with torch.no_grad():
        here = result.student.module(torch.full((2, 1, 8, 8), 0.5)).double().sum().item()
    assert float(told.stdout) == pytest.approx(here, abs=1e-4)


def test_what_does_not_fit_is_refused(task, tmp_path):
    other = f"py:{digits.SOURCE}:dense?num_classes=7&pretrained=false&channels=1&size=8"
    with pytest.raises(LabelSpaceError, match=r"scores 7 classes but .* has 10"):
        run(task, tmp_path / "run", teachers=[other])
    with pytest.raises(ConfigError, match="needs a teacher"):
        run(task, tmp_path / "run", teachers=[])
    with pytest.raises(ConfigError, match="unknown method"):
        run(task, tmp_path / "run", ["method=magic"])
    with pytest.raises(ModelError, match="no more than always answering one class"):
        run(task, tmp_path / "run", student=f"py:{digits.SOURCE}:dense?pretrained=false&channels=1&size=8")
    assert not (tmp_path / "run").exists()


def test_public_names_are_there_and_stay_functions(task):
    for name in crossteach.__all__:
        assert getattr(crossteach, name) is not None
    assert callable(crossteach.transfer)
    assert callable(crossteach.predict)
    assert callable(crossteach.flips)
    answers = crossteach.predict(load_model(task.student), load_data(task.data).test)
    others = crossteach.predict(load_model(task.teacher), load_data(task.data).test)
    found = crossteach.flips(answers, others)
    assert 0 < found.complementary_knowledge < 100


def test_the_papers_recipe_returns_the_end_of_training(task, tmp_path):
    """Constant rate, statistics in train mode, decay, no gate: and what --set says after it counts."""
    assert "method=kl+dp" in compatible("paper")
    settings = [*compatible("paper"), "method=kl", "optim.lr=0.02", "optim.epochs=2", "views.count=1"]
    result = run(task, tmp_path / "run", settings)
    s = result.summary
    assert s["gate"]["verdict"] == "unverified"
    assert s["transfer_delta"] == s["ungated_transfer_delta"]
    assert s["gate"]["selection_delta"] == s["gate"]["path"][-1]["delta"]["estimate"]
    rates = [json.loads(line)["lr"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert rates == [0.02, 0.02]
    old = crossteach.load_model(task.student).module.state_dict()
    assert not torch.equal(old["1.running_mean"], result.student.module.state_dict()["1.running_mean"])
    with pytest.raises(ConfigError, match="--compat must be one of paper, not 'ours'"):
        compatible("ours")
