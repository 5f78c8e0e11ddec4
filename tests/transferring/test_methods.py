"""What each method name means, in whole transfers on the digits."""

import json
from pathlib import Path

import digits
import numpy as np
import pytest
import torch
from scipy.stats import kstest
from typer.testing import CliRunner

import crossteach.transferring.lesson
from crossteach import Store, TransferConfig, from_arrays, load_data, load_model, pool_from, transfer, with_settings
from crossteach.cli import app
from crossteach.data import with_pools
from crossteach.data.cut import tune_and_gate
from crossteach.data.views import Views, augmentation, uniforms
from crossteach.errors import ConfigError, MissingLabelsError, ModelError
from crossteach.models import random_copy
from crossteach.report.words import METHODS as IN_WORDS
from crossteach.transferring.methods import METHODS, choose_method, find_method

QUICK = ["optim.epochs=2", "optim.lr=0.01", "optim.batch_size=32", "views.count=2"]
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> digits.Digits:
    return digits.make(tmp_path_factory.mktemp("digits"))


def run(task: digits.Digits, out: Path, *settings: str, **changes: object) -> object:
    config = with_settings(TransferConfig(), [*QUICK, *settings])
    data = load_data(str(changes.pop("data", task.data)))
    teachers = changes.pop("teachers", [task.teacher])
    models = [load_model(spec) for spec in (task.student, *teachers)]  # type: ignore[misc]
    return transfer(models[0], models[1:], data, out, config, **changes)  # type: ignore[arg-type]


def weights(out: Path) -> bytes:
    return (out / "student" / "model.safetensors").read_bytes()


def losses(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]


class StopHereError(Exception):
    pass


def stop_in_second_epoch(what: str, done: int, total: int) -> None:
    if what == "training" and done > 900 // 32 + 1:
        raise StopHereError


def test_every_method_is_told_of_everywhere():
    shown = CliRunner().invoke(app, ["transfer", "--help"], env={"COLUMNS": "200", "TERM": "dumb"}).output
    words = {word.strip(",.:;()") for word in shown.replace("│", " ").split()}
    page = (ROOT / "docs" / "method.md").read_text()
    for name in METHODS:
        assert name in words
        assert f"| `{name}` |" in page
        assert name in IN_WORDS
    assert "+mcl" in words
    assert set(IN_WORDS) == set(METHODS)


def images(selection, labels=True, pool=False):
    """Make data with so many labelled samples that decide."""
    rng = np.random.default_rng(0)
    pixels, classes = rng.random((selection + 60, 4, 4)).astype(np.float32), np.arange(selection + 60) % 2
    train, test = (pixels[:40], classes[:40] if labels else None), (pixels[40:60], classes[40:60])
    data = from_arrays(train, test, (pixels[60:], classes[60:]))
    return with_pools(data, [pool_from(rng.random((30, 4, 4)).astype(np.float32))]) if pool else data


@pytest.mark.parametrize(
    ("labels", "selection", "pool", "name"),
    [
        (True, 400, False, "xe+dp"),
        (False, 400, False, "kl+dp-unsupervised"),
        (True, 400, True, "xe+dp-learned"),
        (False, 400, True, "kl+dp-learned"),
        (False, 100, True, "kl+dp-unsupervised"),
    ],
)
def test_the_default_learns_who_is_right_where_a_pool_teaches_and_labels_tell(labels, selection, pool, name):
    assert choose_method("auto", images(selection, labels, pool), 0.75)[0] == name


def test_slow_weights_may_follow_any_name():
    for name, method in METHODS.items():
        if f"{name}+mcl" not in METHODS and not method.slow_weights:
            slow = find_method(f"{name}+mcl")
            assert slow.slow_weights and (slow.targets, slow.kl_weight) == (method.targets, method.kl_weight)
    assert find_method("xe-kl").kl_weight == 0.5 and find_method("xe-kl+mcl").kl_weight == 0.68
    for labels, name in ((True, "xe+dp+mcl"), (False, "kl+dp-unsupervised+mcl")):
        assert choose_method("auto+mcl", images(400, labels), 0.75)[0] == name
    for wrong in ("+mcl", "kl+mcl+mcl", "xe-kl+mcl+mcl", "mcl", "magic+mcl"):
        with pytest.raises(ConfigError, match=r"unknown method .*; \+mcl may follow"):
            find_method(wrong)


@pytest.mark.parametrize("method", ["kl+dp+mcl", "kl+dp-soft+mcl"])
def test_slow_weights_stand_between_the_old_and_the_trained_ones(task, tmp_path, method):
    plain = run(task, tmp_path / "plain", f"method={method.removesuffix('+mcl')}", "gate.max_loss=100")
    slow = run(task, tmp_path / "slow", f"method={method}", "gate.max_loss=100", "partition.slow_momentum=0.99")
    assert losses(tmp_path / "plain") == losses(tmp_path / "slow")  # only what is returned differs
    assert slow.summary["ungated"] != plain.summary["ungated"]
    fixed = run(task, tmp_path / "fixed", f"method={method}", "partition.slow_momentum=1")
    assert fixed.summary["ungated_transfer_delta"] == 0


def test_wise_ft_ends_with_the_average_bit_for_bit(task, tmp_path, monkeypatch):
    ended = {}
    for method in ("xe", "wise-ft"):
        measured = []
        with monkeypatch.context() as patched:
            real = crossteach.transferring.lesson.predict_after

            def keep(student, state, *rest, real=real, measured=measured):
                measured.append({name: value.clone() for name, value in state.items()})
                return real(student, state, *rest)

            patched.setattr(crossteach.transferring.lesson, "predict_after", keep)
            settings = (f"method={method}", "gate.alphas=1", "gate.max_loss=100")
            result = run(task, tmp_path / method, *settings, teachers=[])
        ended[method] = measured[0]
        assert result.summary["gate"]["path"][-1]["alpha"] == 1.0
    old = load_model(task.student).module.state_dict()
    assert losses(tmp_path / "xe") == losses(tmp_path / "wise-ft")
    for name, value in ended["wise-ft"].items():
        trained = ended["xe"][name]
        assert torch.equal(value, torch.lerp(old[name], trained, 0.5) if value.is_floating_point() else trained)
    assert any(not torch.equal(value, ended["xe"][name]) for name, value in ended["wise-ft"].items())
    if result.summary["gate"]["verdict"] == "accepted":
        returned = load_model(f"run:{tmp_path / 'wise-ft'}").module.state_dict()
        assert all(torch.equal(value, ended["wise-ft"][name]) for name, value in returned.items())


def test_wise_ft_is_judged_on_its_average_by_probe_and_records(task, tmp_path):
    settings = ("optim.lr=none", "optim.probe_steps=20", "optim.probe_rates=0.01,0.3", "optim.clip=100")
    store, found = Store(tmp_path / "store"), {}
    for method in ("xe", "wise-ft"):
        run(task, tmp_path / method, f"method={method}", *settings, teachers=[], store=store)
        facts = [json.loads(path.read_text()) for path in store.folder.glob("*/*/fact.json")]
        probes = [fact["objectives"] for fact in facts if "objectives" in fact]
        found[method] = next(objectives for objectives in probes if objectives not in found.values())
    assert found["wise-ft"]["0.3"] < found["xe"]["0.3"]  # half of a step too far is not as far


def test_a_random_teacher_is_never_the_pretrained_one(task, tmp_path):
    teacher = load_model(task.teacher)
    method = "method=kl+dp-random-teacher"
    s = run(task, tmp_path / "run", method, store=Store(tmp_path / "store")).summary
    expected = random_copy(teacher)
    assert s["fingerprints"]["teachers"] == [expected.fingerprint] != [teacher.fingerprint]
    assert s["teachers"] == ["random dense"]
    assert s["teacher_accuracy"] < 40
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["teachers"][0]["spec"] == task.teacher  # so that the command can be repeated
    live = run(task, tmp_path / "live", method, "views.live=true").summary
    assert live["training"]["taught"] == s["training"]["taught"]
    known = run(task, tmp_path / "known", "method=kl+dp", store=Store(tmp_path / "store")).summary
    assert known["training"]["taught"]["dense"] > 2 * s["training"]["taught"]["random dense"]


def test_a_teacher_whose_architecture_comes_with_its_weights_has_no_random_copy(task, tmp_path):
    (tmp_path / "fixed.py").write_text(
        "import torch\nfrom torch import nn\n\n\ndef fixed():\n"
        "    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"
        "    nn.init.constant_(module[1].weight, 0.5)\n    nn.init.constant_(module[1].bias, 0.1)\n    return module\n"
    )
    fixed = f"py:{tmp_path}/fixed.py:fixed?channels=1&size=8&pretrained=false"
    with pytest.raises(ModelError, match=r"no randomly initialised copy of .*fixed.*built anew, it has the same"):
        run(task, tmp_path / "run", "method=kl+dp-random-teacher", teachers=[fixed])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("method", ["kl+dp", "kl", "self", "kl+dp-random-teacher"])
def test_a_teacher_that_is_the_student_is_refused(task, tmp_path, method):
    with pytest.raises(ConfigError, match=r"is the student itself .*use --method self") as error:
        run(task, tmp_path / "run", f"method={method}", teachers=[task.student])
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_a_lot_belongs_to_seed_sample_and_view(task):
    train = load_data(task.data).train
    views = Views(0, 2, augmentation("none"))
    rows, first = np.arange(900), np.zeros(900, np.int64)
    lots = views.batch(train, rows, first).chance(0)
    assert torch.equal(views.batch(train, rows[::-1].copy(), first).chance(0), lots.flip(0))
    assert torch.equal(views.batch(train, rows[500:], first[500:]).chance(0), lots[500:])
    others = (views.batch(train, rows, first + 1).chance(0), views.batch(train, rows, first).chance(1))
    for other in (*others, uniforms(0, train.ids, first, 1)[:, 0]):  # the last: what the pixels are drawn from
        assert abs(torch.corrcoef(torch.stack([lots, other]))[0, 1]) < 0.1
    assert kstest(lots.numpy(), "uniform").pvalue > 0.01


def test_a_lot_keeps_the_share_and_its_bits(task, tmp_path):
    settings = ("method=kl+dp-random", "gate.max_loss=100")
    whole = run(task, tmp_path / "whole", *settings).summary
    supervised = run(task, tmp_path / "supervised", "method=kl+dp").summary
    assert whole["training"]["taught"] == supervised["training"]["taught"]
    assert losses(tmp_path / "whole") != losses(tmp_path / "supervised")
    with pytest.raises(StopHereError):
        run(task, tmp_path / "cut", *settings, progress=stop_in_second_epoch)
    resumed = run(task, tmp_path / "cut", *settings).summary
    assert weights(tmp_path / "whole") == weights(tmp_path / "cut")
    assert whole["ungated"] == resumed["ungated"]
    run(task, tmp_path / "live", *settings, "views.live=true")
    assert losses(tmp_path / "live") == losses(tmp_path / "whole")


def test_temperatures_come_from_the_tune_part_and_survive_a_stop(task, tmp_path):
    from crossteach import predict
    from crossteach.functional.calibration import fit_temperature

    method = "method=kl+dp-calibrated"
    s = run(task, tmp_path / "whole", method).summary
    data = load_data(task.data)
    tune, _ = tune_and_gate(data.selection)
    expected = {}
    for name, spec in (("frozen student", task.student), ("dense", task.teacher)):
        answered = predict(load_model(spec), tune)
        expected[name] = fit_temperature(answered.logits, answered.labels)
    assert s["training"]["temperatures"] == expected
    assert len(set(expected.values())) == 2
    with pytest.raises(StopHereError):
        run(task, tmp_path / "cut", method, progress=stop_in_second_epoch)
    again = run(task, tmp_path / "cut", method).summary
    assert again["training"] == s["training"]
    assert weights(tmp_path / "whole") == weights(tmp_path / "cut")
    plain = run(task, tmp_path / "plain", "method=kl+dp-unsupervised").summary
    assert plain["training"]["temperatures"] is None
    assert plain["training"]["taught"] != s["training"]["taught"]


def test_temperatures_need_labels_on_selection_and_none_on_the_transfer_set(task, tmp_path):
    with pytest.raises(MissingLabelsError, match="labels of the selection split, which has none") as error:
        run(task, tmp_path / "run", "method=kl+dp-calibrated", data=task.unlabelled)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()
    data = f"{task.data}?train_labels=false"
    s = run(task, tmp_path / "run", "method=kl+dp-calibrated", data=data).summary
    assert set(s["training"]["temperatures"]) == {"frozen student", "dense"}


@pytest.mark.parametrize("method", ["kl+dp-soft", "kl+ensemble", "kl", "kl+dp-unsupervised"])
def test_what_reads_no_label_runs_and_probes_without_any(task, tmp_path, method):
    settings = (f"method={method}", "optim.lr=none", "optim.probe_rates=0.003,0.01", "optim.probe_steps=3")
    s = run(task, tmp_path / "run", *settings, data=task.unlabelled).summary
    assert s["gate"]["verdict"] == "unverified"
    assert s["training"]["lr"] in (0.003, 0.01)


def test_a_probe_is_not_remembered_for_another_margin_or_objective(task, tmp_path):
    store, settings = (
        Store(tmp_path / "store"),
        ("optim.lr=none", "optim.probe_rates=0.003,0.01", "optim.probe_steps=2"),
    )
    for number, given in enumerate(("", "partition.margin=0.2", "partition.top_classes=2", "method=kl+dp-calibrated")):
        run(task, tmp_path / str(number), *settings, *filter(None, [given]), store=store)
        facts = [json.loads(path.read_text()) for path in store.folder.glob("*/*/fact.json")]
        assert sum("objectives" in fact for fact in facts) == number + 1


def test_a_margin_takes_samples_from_the_teacher(task, tmp_path):
    taught = []
    for margin in ("0", "0.1", "0.5"):
        s = run(task, tmp_path / margin, f"partition.margin={margin}").summary
        taught.append(s["training"]["taught"]["dense"])
    assert taught[0] > taught[1] > taught[2]


def test_the_largest_classes_are_taught_and_all_of_them_are_plain_kl(task, tmp_path):
    for name, settings in (("plain", []), ("all", ["partition.top_classes=10"]), ("two", ["partition.top_classes=2"])):
        run(task, tmp_path / name, *settings)
    assert losses(tmp_path / "all") == losses(tmp_path / "plain")
    assert all(two < full for two, full in zip(losses(tmp_path / "two"), losses(tmp_path / "plain"), strict=True))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (["method=kl", "partition.margin=0.1"], "'kl' knows no margin"),
        (["method=kl+dp-soft", "partition.margin=0.1"], "'kl\\+dp-soft' knows no margin"),
        (["method=kl+dp", "partition.margin=1"], r"margin must lie in \[0, 1\), not 1"),
        (["method=xe", "partition.top_classes=2"], "'xe' has no KL term"),
        (["method=kl", "partition.top_classes=11"], "top_classes=11 exceeds the 10 classes"),
        (["method=kl+dp-calibrated", "partition.kl_weight=0.5"], "reads no labels"),
    ],
)
def test_settings_that_mean_nothing_are_refused(unchecked, task, tmp_path, settings, says):
    with pytest.raises(ConfigError, match=says) as error:
        run(task, tmp_path / "run", *settings)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "method", ["kl+dp-flips", "kl+dp-flips-mean", "kl+dp-calibrated", "kl+ensemble", "kl+dp-random"]
)
def test_many_teachers_share_the_samples(task, tmp_path, method):
    s = run(task, tmp_path / "run", f"method={method}", teachers=[task.teacher, task.model("linear")]).summary
    taught = s["training"]["taught"]
    assert all(taught[name] > 0 for name in ("frozen student", "dense", "linear"))
    assert sum(taught.values()) == pytest.approx(2 * 900, abs=0.1)
