"""Is a model what its user thinks it is? Its answers tell: steady, in the data's order, and above chance."""

from dataclasses import replace

import digits
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import crossteach
from crossteach import Preprocess, Store, TransferConfig, from_module, load_data, load_model, transfer, with_settings
from crossteach.answers.check import name_weak, steadiness_problem
from crossteach.answers.prediction import predict
from crossteach.errors import LabelSpaceError, ModelError

GREY = Preprocess(size=(8, 8), channels=1)
QUICK = ["optim.epochs=1", "optim.lr=0.01", "views.count=1", "optim.batch_size=64"]
SHIFT = [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> digits.Digits:
    return digits.make(tmp_path_factory.mktemp("digits"))


@pytest.fixture(scope="module")
def data(task):
    return load_data(task.data)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("store"))


class Changed(nn.Module):
    """A module whose answers are changed on the way out."""

    def __init__(self, inner, change):
        super().__init__()
        self.inner, self.change = inner, change

    def forward(self, images):
        return self.change(self.inner(images))


def changed(task, change, name="changed", model="dense"):
    return from_module(Changed(load_model(task.model(model)).module, change), GREY, name=name)


def run(student, teachers, data, tmp_path, store, *settings):
    config = with_settings(TransferConfig(), [*QUICK, *settings])
    return transfer(student, teachers, data, tmp_path / "run", config, store)


def dropping(logits):
    return F.dropout(logits, 0.5, training=True)  # always on, whatever the mode


def of_batch(logits):
    return logits - logits.mean(0)


@pytest.mark.parametrize("role", ["student", "teacher"])
@pytest.mark.parametrize(("change", "how"), [(dropping, "from pass to pass"), (of_batch, "with the images that stand")])
def test_answers_that_differ_are_refused_and_said_with_force(task, data, tmp_path, store, role, change, how):
    """Functional dropout that is always on once taught without a word."""
    odd, plain = changed(task, change), load_model(task.student)
    student, teachers = (odd, [plain]) if role == "student" else (plain, [odd])
    with pytest.raises(ModelError, match=f"'module changed' differ {how}") as caught:
        run(student, teachers, data, tmp_path, store)
    assert "\n" not in str(caught.value) and not (tmp_path / "run").exists()
    notes = run(student, teachers, data, tmp_path, store, "force=true").notes
    assert sum(f"--force: the answers of 'module changed' differ {how}" in note for note in notes) == 1


def test_a_scout_refuses_answers_that_differ(task, data, store):
    with pytest.raises(ModelError, match="'module changed' differ from pass to pass"):
        crossteach.scout([changed(task, dropping), load_model(task.student)], data, store, embeddings="none")


def test_steady_models_have_no_problem(task, data):
    for name in ("convolutional", "dense", "linear"):
        assert steadiness_problem(load_model(task.model(name)), data) == ""


@pytest.mark.parametrize("role", ["student", "teacher"])
def test_another_order_of_classes_is_refused_for_student_and_teacher_alike(task, data, tmp_path, store, role):
    """A teacher in another order (10.8% where it truly has 57.1) once taught without a word."""
    odd, plain = changed(task, lambda logits: logits[:, SHIFT], "shifted"), load_model(task.student)
    student, teachers = (odd, [plain]) if role == "student" else (plain, [odd])
    with pytest.raises(ModelError, match=r"'module shifted' agrees with the labels on .* in another order: its 0 is 1"):
        run(student, teachers, data, tmp_path, store)
    notes = run(student, teachers, data, tmp_path, store, "force=true").notes
    assert any("--force: 'module shifted' agrees with the labels" in note for note in notes)


def test_without_labels_another_order_is_told_by_what_the_student_says(task, tmp_path, store):
    unlabelled = load_data(task.unlabelled)
    odd = changed(task, lambda logits: logits[:, SHIFT], "shifted")
    with pytest.raises(ModelError, match="'module shifted' agrees with what the student says"):
        run(load_model(task.student), [odd], unlabelled, tmp_path, store)


def test_names_in_another_order_are_refused_for_both(task, data, tmp_path, store):
    module, names = load_model(task.model("dense")).module, tuple("1023456789")
    odd, plain = from_module(module, GREY, classes=names, name="named"), load_model(task.student)
    for student, teachers in ((odd, [plain]), (plain, [odd])):
        with pytest.raises(LabelSpaceError, match=r"class 0 of 'module named' is '1' but in .* it is '0'"):
            run(student, teachers, data, tmp_path, store)


def test_a_teacher_at_chance_is_named_with_its_accuracy(task, data, tmp_path, store):
    torch.manual_seed(3)
    poor = from_module(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), GREY, name="untrained")
    result = run(load_model(task.student), [poor], data, tmp_path, store)
    (note,) = [n for n in result.notes if "teacher untrained" in n]
    accuracy = predict(poor, data.selection, store).accuracy
    assert f"the teacher untrained has {accuracy:.1f}% right on the selection split" in note
    assert "near what always answering one class has right" in note and "far below the" in note


def test_a_teacher_far_below_the_student_is_named(task, data, tmp_path, store):
    module = load_model(task.model("convolutional")).module
    wrong = from_module(module, replace(GREY, mean=(3.0,), std=(0.05,)), name="misread")
    notes = run(load_model(task.student), [wrong], data, tmp_path, store, "force=true").notes
    assert any("the teacher misread has" in note and "check its mean, std, size" in note for note in notes)


def test_a_student_that_knows_two_of_ten_classes_does_not_pass_for_better_than_chance(task, data, tmp_path, store):
    def two(logits):
        return logits - 100 * (torch.arange(10) >= 2).float()

    with pytest.raises(ModelError, match=r"right, all of them in 2 of 10 classes"):
        run(changed(task, two, "two"), [load_model(task.student)], data, tmp_path, store)


def test_models_of_like_strength_are_not_named(task, data, store):
    answered = [predict(load_model(task.model(name)), data.selection, store) for name in ("dense", "linear")]
    assert name_weak(["student", "teacher"], answered) == []
    unlabelled = [replace(said, labels=None) for said in answered]
    assert name_weak(["student", "teacher"], unlabelled) == []


def test_the_order_is_not_doubted_where_it_is_right(task, data, tmp_path, store):
    notes = run(load_model(task.student), [load_model(task.teacher)], data, tmp_path, store).notes
    assert not [note for note in notes if "order" in note or "--force" in note]
    assert np.isfinite(predict(load_model(task.student), data.test, store).accuracy)
