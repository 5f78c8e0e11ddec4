import json

import digits
import pytest
import torch

import crossteach
from crossteach.cli import main
from crossteach.data.cut import tune_and_gate
from crossteach.errors import ConfigError, MissingLabelsError, ModelError
from crossteach.functional.averaging import average, interpolate, snapshot
from crossteach.transferring import curriculum, lesson
from crossteach.transferring.curriculum import order_teachers
from crossteach.transferring.setup import open_setup

QUICK = ("optim.epochs=2", "optim.lr=0.02", "views.count=1", "gate.max_loss=100", "gate.alphas=0.5,1")


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> digits.Digits:
    return digits.make(tmp_path_factory.mktemp("digits"))


@pytest.fixture(scope="module")
def data(task):
    return crossteach.load_data(task.data)


@pytest.fixture(scope="module")
def models(task):
    return [crossteach.load_model(task.model(name)) for name in ("convolutional", "dense", "linear")]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return crossteach.Store(tmp_path_factory.mktemp("store"))


def config(*settings):
    return crossteach.with_settings(crossteach.TransferConfig(), [*QUICK, *settings])


def test_sequential_is_one_transfer_after_the_other(models, data, store, tmp_path):
    student, *teachers = models
    done = crossteach.transfer(student, teachers, data, tmp_path / "all", config("curriculum.order=sequential"), store)
    first = crossteach.transfer(student, teachers[:1], data, tmp_path / "first", config(), store)
    second = crossteach.transfer(first.student, teachers[1:], data, tmp_path / "second", config(), store)
    assert done.student.fingerprint == second.student.fingerprint
    lessons = done.summary["lessons"]
    assert [row["teacher"] for row in lessons] == ["dense", "linear"]
    assert [row["transfer_delta"] for row in lessons] == [x.summary["transfer_delta"] for x in (first, second)]
    assert sum(row["transfer_delta"] for row in lessons) == pytest.approx(done.summary["transfer_delta"])
    assert done.summary["teachers"] == ["dense", "linear"]
    assert done.summary["training"]["epochs"] == 4
    assert crossteach.load_model(f"run:{tmp_path / 'all'}").fingerprint == done.student.fingerprint


def test_a_lesson_that_does_not_help_is_dropped(models, data, store, tmp_path):
    """What a teacher that knows nothing has taught is refused by the gate, and the next one teaches the original."""
    student, _, good = models
    spec = f"py:{digits.SOURCE}:dense?pretrained=false&channels=1&size=8"
    asked = config("curriculum.order=sequential", "method=kl", "optim.lr=0.1", "optim.epochs=8", "force=true")
    done = crossteach.transfer(student, [crossteach.load_model(spec), good], data, tmp_path / "all", asked, store)
    rows = done.summary["lessons"]
    assert rows[0]["verdict"] in ("kept_original", "diverged")
    assert rows[0]["ungated_transfer_delta"] < 0 == rows[0]["transfer_delta"]
    assert rows[1]["accuracy_before"] == pytest.approx(done.summary["accuracy_before"])


def test_lessons_share_a_total_budget(models, data, store, tmp_path):
    student, *teachers = models
    asked = config("curriculum.order=sequential", "curriculum.budget=total", "optim.epochs=4")
    done = crossteach.transfer(student, teachers, data, tmp_path, asked, store)
    assert done.summary["training"]["epochs"] == 4
    kept = [json.loads((tmp_path / f"lesson-{k}" / "config.json").read_text())["config"] for k in (1, 2)]
    assert [k["optim"]["epochs"] for k in kept] == [2, 2]
    assert [k["views"]["first"] for k in kept] == [0, 2], "the second lesson goes on with the views of the budget"


@pytest.mark.parametrize(("epochs", "teachers", "shares"), [(8, 5, [2, 2, 2, 1, 1]), (3, 2, [2, 1]), (4, 4, [1] * 4)])
def test_a_total_budget_is_used_whole(epochs, teachers, shares):
    asked = config("curriculum.budget=total", f"optim.epochs={epochs}")
    assert curriculum.lesson_epochs(asked, teachers) == shares
    assert curriculum.lesson_epochs(config(f"optim.epochs={epochs}"), teachers) == [epochs] * teachers


def test_a_total_budget_that_does_not_reach_is_refused(models, data, store, tmp_path):
    student, *teachers = models
    asked = config("curriculum.order=soup", "curriculum.budget=total", "optim.epochs=1")
    with pytest.raises(ConfigError, match=r"optim\.epochs=1 among 2 teachers.* give optim\.epochs=2"):
        crossteach.transfer(student, teachers, data, tmp_path / "run", asked, store)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("how", ["uniform", "greedy"])
def test_a_soup_is_the_mean_of_single_students(models, data, store, tmp_path, how):
    student, *teachers = models
    asked = config("curriculum.order=soup", f"curriculum.average={how}", "gate.alphas=1", "optim.epochs=10")
    done = crossteach.transfer(student, teachers, data, tmp_path, asked, store)
    singles = [crossteach.load_model(f"run:{tmp_path / f'lesson-{k}'}") for k in (1, 2)]
    verdicts = [row["verdict"] for row in done.summary["lessons"]]
    taken = [s for s, verdict in zip(singles, verdicts, strict=True) if verdict == "accepted"]
    assert taken
    note = next(note for note in done.notes if note.startswith("the soup is the mean of"))
    if done.summary["gate"]["verdict"] == "accepted" and (how == "uniform" or f"of {len(taken)} of 2" in note):
        expected = average([snapshot(s.module) for s in taken])
        assert all(torch.equal(value, expected[name]) for name, value in done.student.module.state_dict().items())
    assert done.summary["ungated"]["transfer_delta"] is not None


def test_greedy_leaves_out_what_lowers_the_tune_half(models, data, store, tmp_path):
    student = models[0]
    tune, _ = tune_and_gate(data.selection)
    setup = open_setup(student, models[1:], data, config(), store, lambda *_: None)
    good = snapshot(student.module)
    broken = {name: -value for name, value in good.items()}  # the mean of both is zero
    assert curriculum._greedy(setup, {"broken": broken, "good": good}, tune) == ["good"]
    assert curriculum._greedy(setup, {"a": good, "b": good}, tune) == ["a", "b"]


def test_an_average_is_a_mean_and_refuses_other_architectures(models):
    a, b = snapshot(models[0].module), {k: v + 1 for k, v in snapshot(models[0].module).items()}
    half, mean = interpolate(a, b, 0.5), average([a, b])
    for name, value in mean.items():
        expected = half[name] if value.is_floating_point() else a[name]
        assert torch.allclose(value, expected, atol=1e-6)
    with pytest.raises(ModelError, match="weights 1 and 3 of a soup are of different architectures"):
        average([a, b, snapshot(models[1].module)])


def test_teachers_are_put_in_order(models, data, store, task):
    student, *teachers = models
    tune, _ = tune_and_gate(data.selection)

    def names(sequence):
        asked = crossteach.CurriculumConfig(order="sequential", sequence=sequence)
        return [t.name for t in order_teachers(student, teachers, tune, asked, store)]

    accuracy = {t.name: crossteach.predict(t, tune, store).accuracy for t in teachers}
    ascending = sorted(accuracy, key=accuracy.get)
    assert (names("given"), names("ascending")) == (["dense", "linear"], ascending)
    assert names("descending") == ascending[::-1]
    assert sorted(names("scout")) == ["dense", "linear"]
    blind = crossteach.load_data(task.unlabelled).selection
    with pytest.raises(MissingLabelsError, match=r"curriculum\.sequence=scout needs labels"):
        order_teachers(student, teachers, blind, crossteach.CurriculumConfig(sequence="scout"), store)


@pytest.mark.parametrize("order", ["sequential", "soup"])
def test_an_interrupted_curriculum_goes_on_where_it_stopped(models, data, store, tmp_path, order, monkeypatch):
    student, *teachers = models
    asked = config(f"curriculum.order={order}", "optim.epochs=10")
    whole = crossteach.transfer(student, teachers, data, tmp_path / "whole", asked, store).summary
    assert whole["lessons"][0]["verdict"] == "accepted"  # so that lesson 2 teaches what lesson 1 has saved
    do, calls = lesson.teach, []

    keep = lesson._checkpoint

    def stop(*arguments):
        keep(*arguments)
        raise KeyboardInterrupt

    def stop_in_the_second(setup, run):
        calls.append(run.path.name)
        if len(calls) == 2:
            monkeypatch.setattr(lesson, "_checkpoint", stop)
        return do(setup, run)

    monkeypatch.setattr(curriculum, "teach", stop_in_the_second)
    with pytest.raises(KeyboardInterrupt):
        crossteach.transfer(student, teachers, data, tmp_path / "parts", asked, store)
    first = (tmp_path / "parts" / "lesson-1" / "summary.json").stat().st_mtime_ns
    monkeypatch.undo()
    resumed = crossteach.transfer(student, teachers, data, tmp_path / "parts", asked, store).summary
    assert (tmp_path / "parts" / "lesson-1" / "summary.json").stat().st_mtime_ns == first

    def timeless(summary):
        rows = [{**row, "seconds": 0} for row in summary["lessons"]]
        return {**summary, "seconds": 0, "lessons": rows}

    assert timeless(resumed) == timeless(whole)
    again = crossteach.transfer(student, teachers, data, tmp_path / "parts", asked, store)
    assert again.summary == resumed
    crossteach.transfer(student, teachers[:1], data, tmp_path / "parts", config(), store, overwrite=True)
    assert not list((tmp_path / "parts").glob("lesson-*"))


def test_one_teacher_needs_no_order(models, data, store, tmp_path):
    one = crossteach.transfer(models[0], models[1:2], data, tmp_path / "x", config("curriculum.order=soup"), store)
    plain = crossteach.transfer(models[0], models[1:2], data, tmp_path / "y", config(), store)
    assert one.summary["ungated"] == plain.summary["ungated"]
    assert "lessons" not in one.summary
    control = crossteach.transfer(
        models[0], [], data, tmp_path / "z", config("curriculum.order=soup", "method=xe"), store
    )
    assert control.summary["training"]["taught"] == {"label": 2 * len(data.train)}


def test_what_does_not_fit_is_said_before_anything_is_written(models, data, task, store, tmp_path):
    asked = config("curriculum.order=sequential", "curriculum.sequence=scout", "method=kl+dp-unsupervised")
    with pytest.raises(MissingLabelsError, match=r"curriculum\.sequence=scout needs labels"):
        crossteach.transfer(models[0], models[1:], crossteach.load_data(task.unlabelled), tmp_path / "x", asked, store)
    with pytest.raises(ModelError, match="no norm layer"):
        crossteach.transfer(models[1], models[:1], data, tmp_path / "x", config("optim.trains=norm"), store)
    asked = config("optim.trains=lora", "method=kl+dp+mcl")
    with pytest.raises(ConfigError, match="does not go with averages of weights"):
        crossteach.transfer(models[0], models[1:2], data, tmp_path / "x", asked, store)
    with pytest.raises(ConfigError, match="is the same model as"):
        crossteach.transfer(models[0], [models[1], models[1].clone()], data, tmp_path / "x", config(), store)
    assert not (tmp_path / "x").exists()


def test_teachers_of_one_name_are_counted_apart(models, data, store, tmp_path):
    student, first, second = models[0], models[1].clone(), models[2].clone()
    first.name = second.name = "label"
    taught = crossteach.transfer(student, [first, second], data, tmp_path, config(), store).summary["training"][
        "taught"
    ]
    assert set(taught) == {"frozen student", "label#2", "label#3", "label"}
    assert sum(taught.values()) == 2 * len(data.train)
    for wrong in ("order=first", "sequence=random", "average=mean", "budget=none"):
        with pytest.raises(ConfigError, match=f"curriculum.{wrong.partition('=')[0]} must be one of"):
            config(f"curriculum.{wrong}")


def test_the_command_line_takes_an_order(task, tmp_path, capsys):
    given = [
        "transfer",
        "--student",
        task.student,
        "--teacher",
        task.teacher,
        "--teacher",
        task.model("linear"),
    ]
    given += ["--data", task.data, "--out", str(tmp_path / "x"), "--order", "sequential", "--quiet", "--json"]
    for text in QUICK:
        given += ["--set", text]
    with pytest.raises(SystemExit) as end:
        main(given)
    assert not end.value.code
    assert len(json.loads(capsys.readouterr().out)["lessons"]) == 2
    page = crossteach.write_report(tmp_path / "x").read_text()
    assert "One teacher after the other" in page
    rows = (tmp_path / "x" / "tables" / "lessons.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["teacher", "dense", "linear"]
    assert all(f"{place}. {name}" in page for place, name in ((1, "dense"), (2, "linear")))


@pytest.mark.parametrize("order", ["sequential", "soup"])
def test_without_labels_the_whole_says_what_speaks_for_it(task, models, store, tmp_path, order):
    student, *teachers = models
    asked = config(f"curriculum.order={order}")
    done = crossteach.transfer(student, teachers, crossteach.load_data(task.unlabelled), tmp_path, asked, store)
    gate = done.summary["gate"]
    assert gate["verdict"] == "unverified"
    assert "agreement with the ensemble" in gate["evidence"]
    assert gate["label_free"]["before"] != gate["label_free"]["after"]
    assert any("a greedy soup needs labels" in note for note in done.notes) is (order == "soup")


@pytest.mark.parametrize("order", ["sequential", "soup"])
def test_lessons_that_all_diverge_are_said_to(models, data, store, tmp_path, order):
    student, *teachers = models
    asked = config(f"curriculum.order={order}", "optim.lr=1e6", "optim.clip=1e6", "optim.warmup=0")
    done = crossteach.transfer(student, teachers, data, tmp_path, asked, store)
    assert done.summary["gate"]["verdict"] == "diverged"
    assert done.summary["transfer_delta"] == 0


def test_a_soup_of_trained_statistics_gets_its_own(models, data, store, tmp_path):
    """The mean of two students' batch-norm statistics is not what their mean weights make of the images."""
    student, *teachers = models
    learnt = ("optim.train_statistics=true", "gate.ask=false")
    asked = config("curriculum.order=soup", "curriculum.average=uniform", *learnt)
    done = crossteach.transfer(student, teachers, data, tmp_path, asked, store)
    singles = [crossteach.load_model(f"run:{tmp_path / f'lesson-{k}'}").module.state_dict() for k in (1, 2)]
    mean, soup = average(singles), done.student.module.state_dict()
    assert torch.equal(soup["0.weight"], mean["0.weight"])
    assert not torch.allclose(soup["1.running_mean"], mean["1.running_mean"], rtol=1e-3)
