"""Whole transfers from teachers with other classes, on the digits."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import digits
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from torch import nn

from crossteach import Store, TransferConfig, from_module, load_data, load_model, scout, sweep, transfer, with_settings
from crossteach.cli import main
from crossteach.errors import ConfigError, LabelSpaceError, ModelError, RunFolderError
from crossteach.exporting.reading import command, read_story
from crossteach.report.words import scout_command, transfer_command
from crossteach.scouting.folder import open_scout

QUICK = ["optim.epochs=2", "optim.lr=0.01", "optim.batch_size=32", "views.count=2"]
ORDER = (3, 1, 4, 0, 5, 9, 2, 6, 8, 7)
LOW = (0, 1, 2, 3, 4)


class Columns(nn.Module):
    """A module that answers some of another one's classes, in any order."""

    def __init__(self, inner: nn.Module, columns: tuple[int, ...]) -> None:
        super().__init__()
        self.inner, self.columns = inner, list(columns)

    def forward(self, images):
        return self.inner(images)[:, self.columns]


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> digits.Digits:
    return digits.make(tmp_path_factory.mktemp("digits"))


def named(data):
    """The digits with names that do more than count."""
    return replace(data, classes=tuple(f"digit {i}" for i in range(10)))


def teacher_of(task, columns, names=False):
    model = load_model(task.teacher)
    classes = [f"digit {i}" for i in columns] if names else None
    return from_module(Columns(model.module, columns), model.preprocess, classes, name="columns")


def run(task, out: Path, teacher, *settings: str, **changes):
    config = with_settings(TransferConfig(), [*QUICK, *settings])
    data = changes.pop("data", None) or load_data(task.data)
    store = Store(out.parent / f"store-{out.name}")
    return transfer(load_model(task.student), [teacher], data, out, config, store, **changes)


def weights(out: Path) -> bytes:
    return (out / "student" / "model.safetensors").read_bytes()


def lines(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("method", ["xe+dp", "kl"])
def test_a_permuted_teacher_with_a_map_equals_the_unpermuted_one_bit_for_bit(task, tmp_path, method):
    settings = [f"method={method}", "gate.max_loss=100"]
    plain = run(task, tmp_path / "plain", load_model(task.teacher), *settings)
    permuted = teacher_of(task, ORDER)
    mapped = run(task, tmp_path / "mapped", permuted, *settings, label_map=dict(enumerate(ORDER)))
    assert weights(tmp_path / "plain") == weights(tmp_path / "mapped")
    assert lines(tmp_path / "plain") == lines(tmp_path / "mapped")
    same = ("accuracy_after", "teacher_accuracy", "ensemble_accuracy", "positive_flips", "ungated", "promise")
    for key in same[:-1]:
        assert plain.summary[key] == mapped.summary[key]
    assert list(plain.summary["promise"]["rules"].values()) == list(mapped.summary["promise"]["rules"].values())
    assert plain.summary["label_maps"] is None and mapped.summary["label_maps"][0]["known"] == 10


def test_the_commands_that_repeat_a_run_and_a_scout_name_the_file_of_the_map(task, tmp_path):
    (tmp_path / "map.csv").write_text(
        "teacher_class,student_class\n" + "".join(f"{own},{their}\n" for own, their in enumerate(LOW))
    )
    teacher, given = teacher_of(task, LOW), {"label_map": tmp_path / "map.csv"}
    run(task, tmp_path / "run", teacher, "optim.epochs=1", "force=true", **given)
    again = transfer_command(json.loads((tmp_path / "run" / "config.json").read_text()), "again").split()
    assert again[again.index("--label-map") + 1] == str(tmp_path / "map.csv")
    on_card = command(read_story(tmp_path / "run"), tmp_path / "run").split()
    assert on_card[on_card.index("--label-map") + 1] == "map.csv"
    models = [load_model(task.student), teacher]
    open_scout(models, load_data(task.data), tmp_path / "scout", Store(tmp_path / "store"), **given)
    again = scout_command(json.loads((tmp_path / "scout" / "config.json").read_text()), "again").split()
    assert again.count("--label-map") == 1 and again[again.index("--label-map") + 1] == str(tmp_path / "map.csv")


def test_without_a_map_a_permuted_teacher_is_refused_or_found_by_its_names(task, tmp_path):
    with pytest.raises(ModelError, match="with its classes in another order: its 0 is 3"):
        run(task, tmp_path / "refused", teacher_of(task, ORDER))
    found = run(task, tmp_path / "named", teacher_of(task, ORDER, names=True), data=named(load_data(task.data)))
    assert "10 of the 10 classes of columns stand for 10 of 10, by equal names" in found.notes


def test_a_student_without_names_shares_the_order_of_its_teachers_names_where_its_answers_say_so(task, tmp_path):
    """Folders come in the order of their names, and both models count otherwise."""
    data = load_data(task.data)
    place = np.argsort(ORDER)
    parts = {name: getattr(data, name) for name in ("train", "selection", "test")}
    parts = {name: replace(split, labels=place[split.labels]) for name, split in parts.items()}
    shuffled = replace(data, classes=tuple(f"digit {i}" for i in ORDER), **parts)
    found = run(task, tmp_path / "run", teacher_of(task, tuple(range(10)), names=True), data=shuffled)
    assert found.summary["label_maps"] is None and found.summary["accuracy_before"] > 80


def changed(out: Path):
    """Return what is right before and after training, by sample, and the labels."""
    table = pq.read_table(out / "samples.parquet").to_pydict()
    label, before, after = (np.array(table[key]) for key in ("label", "pred_before", "pred_ungated"))
    return before == label, after == label, label


@pytest.mark.parametrize("method", ["kl", "kl+dp-unsupervised", "kl+dp-learned", "xe+dp"])
def test_a_teacher_of_some_classes_teaches_these_alone(task, tmp_path, method):
    found = run(task, tmp_path / "run", teacher_of(task, LOW), f"method={method}", label_map={i: i for i in LOW})
    taught = found.summary["training"]["taught"]
    assert taught["columns"] > 0 and taught["frozen student"] > 0.4 * sum(taught.values())
    assert found.summary["label_maps"][0] == {
        **{
            "model": "columns",
            "classes": 5,
            "used": 5,
            "known": 5,
            "how": "by the label map that is given",
            "outside": 0.0,
        },
        "accuracy_known": pytest.approx(97, abs=3),
    }
    assert found.summary["teacher_accuracy"] < 55
    before, after, label = changed(tmp_path / "run")
    others = label > 4
    assert after[others].mean() >= before[others].mean() - 0.02
    assert not any("far below" in note for note in found.notes), "it is measured on what it knows"


def test_many_of_its_classes_may_be_one_of_the_students(task, tmp_path):
    """The student tells even from odd; its teacher knows ten digits, and two of them are none of its classes."""
    data = load_data(task.data)
    parts = {
        key: replace(split, labels=split.labels % 2)
        for key in ("train", "selection", "test")
        if (split := getattr(data, key)) is not None
    }
    data = replace(data, classes=("even", "odd"), **parts)
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    x, y = (
        data.train.inputs.read(data.train.input_rows(np.arange(len(data.train))), None, None),
        torch.from_numpy(data.train.labels),
    )
    optimiser = torch.optim.Adam(module.parameters(), 0.01)
    for _ in range(15):
        optimiser.zero_grad()
        nn.functional.cross_entropy(module(x), y).backward()
        optimiser.step()
    student, teacher = from_module(module, name="parity"), load_model(task.teacher)
    with pytest.raises(LabelSpaceError, match="give a teacher a --label-map"):
        transfer(student, [teacher], data, tmp_path / "refused")
    given = {i: ("even", "odd")[i % 2] if i < 8 else None for i in range(10)}
    config = with_settings(TransferConfig(), [*QUICK, "method=kl+dp-unsupervised", "optim.lr=0.03"])
    found = transfer(student, [teacher], data, tmp_path / "run", config, label_map=given).summary
    assert found["label_maps"][0]["used"] == 8 and found["label_maps"][0]["known"] == 2
    assert 10 < found["label_maps"][0]["outside"] < 30, "two of ten digits"
    assert found["teacher_accuracy"] > 85 and found["ungated_transfer_delta"] > 0


def test_what_compares_features_is_refused_where_a_teacher_is_partial(task, tmp_path):
    with pytest.raises(ConfigError, match="not told apart by class"):
        run(task, tmp_path / "cd", teacher_of(task, LOW), "method=cd", label_map={i: i for i in LOW})


def test_another_map_is_another_run(task, tmp_path):
    teacher, config = teacher_of(task, LOW), with_settings(TransferConfig(), [*QUICK, "method=kl"])
    student, data = load_model(task.student), load_data(task.data)
    transfer(student, [teacher], data, tmp_path / "run", config, label_map={i: i for i in LOW})
    again = transfer(student, [teacher], data, tmp_path / "run", config, label_map={i: i for i in LOW})
    assert again.summary["label_maps"][0]["known"] == 5
    with pytest.raises(RunFolderError):
        transfer(student, [teacher], data, tmp_path / "run", config, label_map={i: i for i in LOW[:4]})


def test_a_scout_measures_a_partial_model_on_all_samples_and_on_those_it_knows(task):
    student, teacher = load_model(task.student), teacher_of(task, LOW)
    found = scout([student, teacher], load_data(task.data), embeddings="none", label_map={i: i for i in LOW}).summary
    whole, part = found["models"]
    assert (whole["known_classes"], part["known_classes"]) == (10, 5)
    assert whole["accuracy_known"] == whole["accuracy"]
    assert part["accuracy"] < 55 < 90 < part["accuracy_known"]
    (pair,) = (pair for pair in found["pairs"] if pair["teacher"] == "columns")
    assert pair["partition"]["unsupervised"]["teacher_share"] < 55
    assert any("5 of the 5 classes of columns" in note for note in found["notes"])


@pytest.fixture
def half(task, tmp_path):
    """A model of five digits, in a file of its own."""
    from safetensors.torch import load_file, save_file

    state = load_file(task.folder / "dense.safetensors")
    last = max(state, key=lambda key: (key.endswith("weight"), key)).removesuffix(".weight")
    part = {k: v[list(LOW)].contiguous() if k.startswith(f"{last}.") else v for k, v in state.items()}
    save_file(part, tmp_path / "half.safetensors")
    (tmp_path / "map.csv").write_text("teacher_class,student_class\n" + "".join(f"{i},{i}\n" for i in LOW))
    return f"py:{digits.SOURCE}:dense@{tmp_path / 'half.safetensors'}?channels=1&size=8&num_classes=5"


def test_the_command_line_takes_a_map(task, half, tmp_path, capsys):
    shared = ["--student", task.student, "--teacher", half, "--data", task.data, "--out", str(tmp_path / "run")]
    shared += [word for setting in QUICK for word in ("--set", setting)]
    with pytest.raises(SystemExit) as stopped:
        main(["transfer", *shared])
    assert stopped.value.code == 1 and "give a teacher a --label-map" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        main(["transfer", *shared, "--label-map", str(tmp_path / "map.csv"), "--json", "--quiet"])
    assert stopped.value.code == 0
    assert json.loads(capsys.readouterr().out)["label_maps"][0]["known"] == 5


def test_a_sweep_takes_a_map_in_its_plan(task, half, tmp_path):
    plan = {
        **{"data": task.data, "students": [task.student], "teachers": [half, task.teacher], "methods": ["kl+dp"]},
        **{"settings": dict(setting.split("=") for setting in QUICK), "label_map": str(tmp_path / "map.csv")},
    }
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(plan))
    found = sweep(tmp_path / "plan.yaml", tmp_path / "sweep", Store(tmp_path / "store"))
    assert found["done"] == 2 and not found["failed"]
    assert any("5 of the 5 classes of half" in note for note in found["notes"])
    summaries = [json.loads(path.read_text()) for path in sorted(tmp_path.glob("sweep/jobs/*/summary.json"))]
    assert sorted(each["label_maps"] is None for each in summaries) == [False, True]
    for text, said in (
        ("teacher_class,student_class\n0,11\n", "the student has no class '11'"),
        ("teacher_class,student_class,teacher\n0,0,\n0,0,emu\n", "no teacher is called 'emu'"),
        (f'teacher_class,student_class,teacher\n0,0,\n0,0,"{task.student}"\n', "which is a student of the plan"),
        ("nothing\n", "label_map: .*has no column teacher_class"),
    ):
        (tmp_path / "map.csv").write_text(text)
        with pytest.raises(LabelSpaceError, match=said):
            sweep(tmp_path / "plan.yaml", tmp_path / "other", Store(tmp_path / "store"))


def test_a_proposal_from_the_command_line_is_written_and_nothing_is_taught(task, tmp_path):
    teacher, data = teacher_of(task, (7, 2), names=True), named(load_data(task.data))
    with pytest.raises(LabelSpaceError, match="look at each, then pass --label-map"):
        run(task, tmp_path / "run", teacher, data=data, label_map=f"propose:{tmp_path / 'map.csv'}")
    rows = list(csv.DictReader((tmp_path / "map.csv").read_text().splitlines()))
    assert [row["student_class"] for row in rows] == ["digit 7", "digit 2"]
    assert not (tmp_path / "run").exists()
