"""Is a model what its user thinks it is? In a transfer, in a scout, in a sweep."""

import json
import re

import digits
import numpy as np
import pytest
import torch
from commands import call
from safetensors.torch import load_file, save_file

import crossteach
from crossteach import Store, TransferConfig, load_data, load_model, predict, transfer, with_settings
from crossteach.answers.check import ASKED_AGAIN, chance_problem, lot_problem, name_weak, steadiness_problem
from crossteach.answers.compact import PredictedClasses, compact
from crossteach.errors import ModelError

QUICK = ["optim.epochs=1", "optim.lr=0.01", "optim.batch_size=64", "views.count=1"]
ODD = '''
import torch
from torch import nn
from small import dense

class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = dense()
    def forward(self, x):
        return self.net(x)

class Dropping(Own):
    def forward(self, x):
        return self.net(nn.functional.dropout(x, 0.2))

class Beside(Own):
    """Its answers depend on the images beside one, as with batch norm that is always in train mode."""
    def forward(self, x):
        return self.net(x - x.mean(0, keepdim=True))

class Unlike(Own):
    """Knows the classes in another order."""
    def forward(self, x):
        return self.net(x)[:, [3, 4, 5, 6, 7, 8, 9, 0, 1, 2]]

class Half(Own):
    """Sees the upper half of an image only."""
    def forward(self, x):
        return self.net(torch.cat([x[:, :, :3], 0 * x[:, :, 3:]], 2))

class Blind(Own):
    """Sees noise, the same for the same image."""
    def forward(self, x):
        return self.net(torch.sin(1e4 * x.sum((2, 3), keepdim=True) + torch.arange(64.0).view(1, 1, 8, 8) ** 2))

class Two(Own):
    """Answers two classes only."""
    def forward(self, x):
        return self.net(x) + torch.tensor([0.0] * 2 + [-1e6] * 8)
'''


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> digits.Digits:
    task = digits.make(tmp_path_factory.mktemp("digits"))
    (task.folder / "odd.py").write_text(ODD)
    save_file({f"net.{n}": v for n, v in load_file(task.folder / "dense.safetensors").items()}, task.folder / "o.st")
    (task.folder / "o.st").rename(task.folder / "odd.safetensors")
    return task


def odd(task, name, options="?channels=1&size=8"):
    return f"py:{task.folder}/odd.py:{name}@{task.folder}/odd.safetensors{options}"


def run(task, out, student, *teachers, settings=(), data=None):
    config = with_settings(TransferConfig(), [*QUICK, *settings])
    models = load_model(student), [load_model(spec) for spec in teachers]
    return transfer(*models, load_data(data or task.data), out, config)


REFUSED = {
    "Dropping": r"the answers of '.*Dropping.*' differ from pass to pass, by .*; switch it off, or go on with --force",
    "Beside": r"the answers of '.*Beside.*' differ with the images that stand beside one, by .*; switch it off",
    "Unlike": r"agrees with the labels on [\d.]+% .* and on 9\d\.\d% with its classes in another order: its 0 is 3 ",
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("role", ["student", "teacher"])
def test_a_model_that_is_not_what_it_should_be_is_refused_in_one_line_in_either_role(task, tmp_path, name, role):
    models = (odd(task, name), task.student) if role == "student" else (task.student, odd(task, name))
    with pytest.raises(ModelError, match=REFUSED[name]) as told:
        run(task, tmp_path / "run", *models)
    assert "\n" not in str(told.value)
    assert not (tmp_path / "run").exists()
    done = run(task, tmp_path / "run", *models, settings=["force=true"])
    said = [note for note in done.notes if note.startswith("--force: ")]
    assert any(f":{name}@" in note for note in said) and not any("--force (in a sweep" in note for note in said)


def test_models_that_are_what_they_should_be_are_not_named(task, tmp_path):
    notes = run(task, tmp_path / "run", task.student, task.teacher, task.model("linear")).notes
    assert all("says nothing of its mean" in note for note in notes)
    data = load_data(task.data)
    for spec in (task.student, task.teacher, odd(task, "Own")):
        assert steadiness_problem(load_model(spec), data) is None


@pytest.mark.parametrize("rows", [1, 2, 4, 8, 16, 128])
def test_answers_that_depend_on_the_batch_are_found_in_batches_of_any_size(task, rows):
    """In a batch of one nothing stands beside an image."""
    model, data = load_model(odd(task, "Beside")), load_data(task.data)
    model.scoring_batch = rows
    assert bool(steadiness_problem(model, data)) == (rows > 1)
    for size in (2, 4, 8):
        first = [set(range(start, start + size)) for start in range(0, 8, size)]
        again = [set(ASKED_AGAIN[start : start + size]) for start in range(0, len(ASKED_AGAIN), size)]
        assert not any(part in first for part in again)


def test_real_models_are_steady(task):
    data = load_data(task.data)
    for name in ("resnet18", "vit_tiny_patch16_224", "tf_efficientnet_lite0", "levit_128s"):
        size = 224 if name == "levit_128s" else 64
        sized = "&img_size=64" if "vit_tiny" in name else ""
        model = load_model(f"timm:{name}?pretrained=false&num_classes=10&size={size}{sized}")
        assert steadiness_problem(model, data) is None


@pytest.mark.parametrize("role", ["student", "teacher"])
def test_a_model_that_is_normalised_otherwise_than_it_was_trained_is_refused_with_the_spec_to_type(
    task, tmp_path, capsys, role
):
    wrong = f"{task.student}&mean=0.5&std=0.1" if role == "student" else f"{task.teacher}&mean=0.5&std=0.1"
    models = (wrong, task.teacher) if role == "student" else (task.student, wrong)
    with pytest.raises(
        ModelError, match=r"% right on 200 samples of the selection split, and .* normalisation"
    ) as told:
        run(task, tmp_path / "run", *models)
    typed = re.search(r"; type '(.*)' in its place, or go on with --force", str(told.value))[1]
    right = (typed, task.teacher) if role == "student" else (task.student, typed)
    assert not any("normalisation" in note for note in run(task, tmp_path / "run", *right).notes)
    done = run(task, tmp_path / "forced", *models, settings=["force=true"])
    assert any(note.startswith("--force: ") and "another normalisation" in note for note in done.notes)
    if role == "teacher":
        asked = ["sweep", plan(tmp_path / "plan.yaml", task, wrong), "--out", tmp_path / "out", "--dry-run"]
        code, _, said = call(capsys, *asked, "--store", tmp_path / "s")
        assert code == 1 and "another normalisation" in said


# weak models


def test_a_teacher_that_is_near_chance_or_far_below_is_named_with_its_accuracy(task, tmp_path):
    wrong = odd(task, "Half")
    done = run(task, tmp_path / "run", task.student, wrong, task.teacher)
    accuracy = predict(load_model(wrong), load_data(task.data).selection).accuracy
    assert accuracy < 50
    named = [note for note in done.notes if "right on the selection split" in note]
    assert len(named) == 1
    assert named[0].startswith(f"the teacher odd has {accuracy:.1f}% right on the selection split, ")
    assert "check its mean, std, size and the order of classes" in named[0]
    assert done.summary["notes"] == list(done.notes)


def test_a_student_that_knows_two_classes_of_ten_is_refused(task, tmp_path):
    with pytest.raises(ModelError, match=r"has \d+ of 450 right, all of them in 2 of 10 classes; check its mean"):
        run(task, tmp_path / "run", odd(task, "Two"), task.teacher)
    done = run(task, tmp_path / "run", odd(task, "Two"), task.teacher, settings=["force=true"])
    assert any("all of them in 2 of 10 classes" in note for note in done.notes)


def said(right, n_classes=10, n=400, seed=0):
    """Predictions with so many right, in every class alike."""
    generator = np.random.default_rng(seed)
    labels = np.arange(n) % n_classes
    preds = np.where(generator.random(n) < right, labels, (labels + generator.integers(1, n_classes, n)) % n_classes)
    return PredictedClasses("m", n_classes, torch.from_numpy(preds), torch.from_numpy(labels))


def test_who_is_named_weak():
    strong, fair, poor, chance = said(0.9), said(0.75), said(0.4), said(0.1)
    assert name_weak(["a", "b"], [strong, fair]) == []
    assert name_weak(["a", "b"], [poor, poor]) == [], "none is far below another"
    (named,) = name_weak(["a", "b", "c"], [strong, poor, fair])
    assert (
        named.startswith(f"the b has {poor.accuracy:.1f}% right")
        and f"far below the {strong.accuracy:.1f}% of the a" in named
    )
    (named,) = name_weak(["a", "b"], [strong, chance])
    assert "near what always answering one class has right (10.0%)" in named and "far below" in named
    unlabelled = PredictedClasses("m", 10, chance.preds, None)
    assert name_weak(["a", "b"], [unlabelled, unlabelled]) == []


def test_names_and_orders_are_the_same_from_whole_and_from_compact_predictions(task):
    data = load_data(task.data)
    whole = [predict(load_model(spec), data.selection) for spec in (task.student, odd(task, "Two"))]
    assert name_weak(["a", "b"], whole) == name_weak(["a", "b"], [compact(each) for each in whole]) != []


@pytest.mark.parametrize(
    ("answers", "is_chance"),
    [
        (said(0.1), True),
        (said(0.2), False),
        (said(0.1, n=40), False),  # nobody can tell
        (said(0.06, n_classes=100, n=2000), False),
        (said(0.01, n_classes=100, n=2000), True),
    ],
)
def test_a_teacher_is_at_chance_when_its_answers_have_nothing_to_do_with_the_labels(answers, is_chance):
    assert (lot_problem(answers, "m") is not None) == is_chance


def test_a_teacher_of_few_or_uneven_classes_is_no_lottery():
    """Right in three of ten classes only; and with less right than always answering the common class has."""
    labels = torch.arange(500) % 10
    few = PredictedClasses("m", 10, torch.where(labels < 3, labels, labels * 0), labels)
    assert lot_problem(few, "m") is None and chance_problem(few, "m") is not None
    uneven = (torch.arange(500) % 10 == 0).long()
    balanced = PredictedClasses("m", 2, torch.where(torch.arange(500) % 6 == 1, 1 - uneven, uneven), uneven)
    assert balanced.accuracy < 90 and lot_problem(balanced, "m") is None
    constant = PredictedClasses("m", 2, torch.zeros(500, dtype=torch.long), uneven)
    assert "has 450 of 500 right, no more than its answers dealt out by lot (90.0%)" in lot_problem(constant, "m").found
    alone = PredictedClasses("m", 2, torch.zeros(500, dtype=torch.long), torch.zeros(500, dtype=torch.long))
    assert lot_problem(alone, "m") is None, "of one class nobody can tell"


def test_a_teacher_is_judged_on_the_classes_that_it_knows():
    labels, knows = torch.arange(5000) % 10, torch.arange(10) < 2
    random = torch.from_numpy(np.random.default_rng(0).integers(0, 2, 5000))
    for preds, is_chance in ((torch.where(labels < 2, labels, random), False), (random, True)):
        answers = PredictedClasses("m", 10, preds, labels, knows=knows)
        assert (lot_problem(answers, "m") is not None) == is_chance
    assert lot_problem(PredictedClasses("m", 10, random, None), "m") is None


def test_a_teacher_at_chance_is_refused_in_a_transfer_and_in_a_sweep(task, tmp_path, capsys):
    blind = odd(task, "Blind")
    words = rf"{re.escape(blind)}' has \d+ of 450 right, no more than its answers dealt out by lot \(\d+\.\d%\); check"
    with pytest.raises(ModelError, match=words):
        run(task, tmp_path / "run", task.student, blind)
    assert not (tmp_path / "run").exists()
    done = run(task, tmp_path / "run", task.student, blind, settings=["force=true"])
    assert any(note.startswith("--force: ") and "dealt out by lot" in note for note in done.notes)
    asked = ["sweep", plan(tmp_path / "plan.yaml", task, blind), "--out", tmp_path / "out", "--dry-run"]
    code, _, said = call(capsys, *asked, "--store", tmp_path / "s")
    assert code == 1 and "dealt out by lot" in said


# the same in a scout and in a sweep


def test_a_scout_names_weak_models_and_other_orders(task, tmp_path, capsys):
    data, unlike = load_data(task.data), odd(task, "Unlike")
    models = [load_model(spec) for spec in (task.student, task.teacher, unlike)]
    notes = crossteach.scout(models, data, Store(tmp_path / "s"), embeddings="none").summary["notes"]
    assert any(f"{unlike!r} agrees with the labels on" in note and "another order" in note for note in notes)
    assert any(note.startswith("the model odd has ") and "far below the" in note for note in notes)
    asked = ("scout", task.student, unlike, "--data", task.data, "--out", tmp_path / "o", "--embeddings", "none")
    code, told, _ = call(capsys, *asked, "--store", tmp_path / "s")
    assert code == 0 and "Note: the model odd has" in " ".join(told.split())


def test_a_scout_refuses_an_unsteady_model_unless_it_is_forced(task, tmp_path, capsys):
    asked = ["scout", task.student, odd(task, "Dropping"), "--data", task.data, "--out", tmp_path / "o", "--json"]
    asked += ["--embeddings", "none", "--store", tmp_path / "s"]
    code, _, told = call(capsys, *asked)
    assert code == 1 and "differ from pass to pass" in told
    code, told, _ = call(capsys, *asked, "--force")
    notes = json.loads(told)["notes"]
    assert code == 0
    assert any(note.startswith("--force: the answers of") and "differ from pass to pass" in note for note in notes)


def plan(path, task, teacher, **settings):
    """Write a plan of one job."""
    given = {"optim.epochs": 1, "optim.lr": 0.01, "views.count": 1, **settings}
    models = f"students: [{json.dumps(task.student)}]\nteachers: [{json.dumps(teacher)}]\n"
    path.write_text(f"data: {task.data}\n{models}methods: [kl+dp]\nsettings: {json.dumps(given)}\n")
    return path


@pytest.mark.parametrize("name", ["Dropping", "Unlike"])
def test_a_sweep_refuses_such_a_teacher_before_any_job_runs(task, tmp_path, capsys, name):
    asked = ["sweep", plan(tmp_path / "plan.yaml", task, odd(task, name)), "--out", tmp_path / "out"]
    asked += ["--dry-run", "--store", tmp_path / "s", "--json"]
    code, _, told = call(capsys, *asked)
    assert code == 1 and re.search(REFUSED[name], told)
    plan(tmp_path / "plan.yaml", task, odd(task, name), force=True)
    code, told, _ = call(capsys, *asked)
    assert code == 0 and any(note.startswith("--force: ") for note in json.loads(told)["notes"])


def test_a_sweep_names_weak_models_in_its_summary(task, tmp_path, capsys):
    wrong = odd(task, "Half")
    asked = ["sweep", plan(tmp_path / "plan.yaml", task, wrong), "--out", tmp_path / "out", "--store", tmp_path / "s"]
    code, told, _ = call(capsys, *asked, "--json")
    notes = [note for note in json.loads(told)["notes"] if "selection split" in note]
    assert code == 0 and [note.startswith("the model odd has ") for note in notes] == [True]
