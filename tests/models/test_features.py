import pathlib
import re
from dataclasses import replace

import digits
import pytest
import torch
from torch import nn

import crossteach
from crossteach.config import TransferConfig
from crossteach.errors import ConfigError, ModelError
from crossteach.models import load_model
from crossteach.models.features import Layer, count_features, features_of, find_layer, reading
from crossteach.settings import with_settings


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> digits.Digits:
    return digits.make(tmp_path_factory.mktemp("digits"))


IMAGES = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def test_penultimate_features_are_what_the_head_is_given(task):
    student = load_model(task.student)
    layer = find_layer(student, "auto", "contrast.student_layer")
    assert layer == Layer("6", of_input=True)
    assert count_features(student, layer, IMAGES, "contrast.student_layer") == 8 * 16
    features = features_of(student, layer, IMAGES)
    head = student.module.get_submodule("6")
    assert torch.allclose(head(features), student.logits(IMAGES))


def test_a_named_layer_is_averaged_over_places(task):
    student = load_model(task.student)
    layer = find_layer(student, "0", "contrast.student_layer")
    assert layer == Layer("0")
    features = features_of(student, layer, IMAGES)
    assert features.shape == (5, 8)
    mean, std = student.preprocess.mean, student.preprocess.std
    convolved = student.module.get_submodule("0")((IMAGES - mean[0]) / std[0])
    assert torch.allclose(features, convolved.mean((2, 3)), atol=1e-6)


def test_what_the_next_layer_changes_in_place_is_read_before(task):
    student = load_model(task.student)
    module = student.module
    module[2].inplace = True
    normed = module[1](module[0](torch.as_tensor(IMAGES - student.preprocess.mean[0]) / student.preprocess.std[0]))
    assert torch.allclose(features_of(student, Layer("1"), IMAGES), normed.mean((2, 3)), atol=1e-6)


class Cosine(nn.Module):
    """Its own head: a row for each class, and no layer beside it."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(10, 64))

    def forward(self, x):
        return nn.functional.normalize(x.flatten(1), dim=1) @ nn.functional.normalize(self.weight, dim=1).T


def test_a_model_that_is_its_own_head_is_refused(task):
    model = replace(load_model(task.student), module=Cosine())
    with pytest.raises(ModelError, match="no layer scores its 10 classes"):
        find_layer(model, "auto", "contrast.student_layer")


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "resnet10t", "mixer_s32_224"])
def test_models_of_timm_show_their_features(name):
    sizes = {"vit_tiny_patch16_224": "&img_size=32", "mixer_s32_224": "&img_size=32"}
    model = load_model(f"timm:{name}?pretrained=false&num_classes=7&size=32{sizes.get(name, '')}")
    layer = find_layer(model, "auto", "contrast.student_layer")
    assert layer.of_input
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    width = model.module.get_submodule(layer.name).weight.shape[1]
    assert count_features(model, layer, images, "contrast.student_layer") == width
    tokens = {"vit_tiny_patch16_224": "blocks.1", "resnet10t": "layer2", "mixer_s32_224": "blocks.3"}[name]
    assert features_of(model, find_layer(model, tokens, ""), images).ndim == 2


def test_reading_leaves_nothing_behind(task):
    student = load_model(task.student)
    with reading(student.module, Layer("6", of_input=True)), reading(student.module, Layer("0")):
        student.logits(IMAGES)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in student.module.modules())


def headless(num_classes=10):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 2 * num_classes), nn.GLU())


def test_a_model_without_a_head_is_refused_with_its_layers(task):
    student = load_model(task.student)
    model = replace(student, module=headless())
    with pytest.raises(
        ModelError, match=r"no layer scores its 10 classes; give contrast.teacher_layer=NAME, one of 0, 1, 2"
    ):
        find_layer(model, "auto", "contrast.teacher_layer")
    with pytest.raises(
        ModelError, match=r"it has no layer '9'; give contrast.student_layer=NAME, one of 0, 1, 2, 3, 4, 5, 6"
    ):
        find_layer(student, "9", "contrast.student_layer")
    assert features_of(model, find_layer(model, "1", ""), IMAGES).shape == (5, 20)


class Odd(nn.Module):
    """Has a layer that is never asked, and one that answers with a pair."""

    def __init__(self):
        super().__init__()
        self.unused, self.pair, self.head = nn.Linear(3, 3), nn.LSTM(64, 6), nn.Linear(6, 10)

    def forward(self, x):
        return self.head(self.pair(x.flatten(1))[0])


@pytest.mark.parametrize(("name", "problem"), [("unused", "it is not reached"), ("pair", "not tuple")])
def test_a_layer_without_features_is_refused_with_the_layers(task, name, problem):
    model = replace(load_model(task.student), module=Odd())
    with pytest.raises(ModelError, match=f"layer '{name}' .* gives no features: .*{problem}.* unused, pair, head"):
        count_features(model, Layer(name), IMAGES, "contrast.student_layer")


def run(task, out, *settings, teachers=None):
    student = load_model(task.student)
    teachers = [load_model(task.teacher)] if teachers is None else teachers
    config = with_settings(TransferConfig(), ["optim.epochs=2", "optim.lr=0.01", *settings])
    return crossteach.transfer(student, teachers, crossteach.load_data(task.data), out, config)


def state(folder):
    return (folder / "student" / "model.safetensors").read_bytes()


class CutError(Exception):
    """Breaks a run off."""


@pytest.mark.parametrize("method", ["cd", "crd"])
def test_a_resumed_run_ends_as_if_it_had_not_been_cut(task, tmp_path, method, monkeypatch):
    """What the loss has learnt and remembers is kept with the student."""
    settings = (f"method={method}", "optim.epochs=3", "gate.ask=false", "contrast.negatives=300")
    whole = run(task, tmp_path / "whole", *settings)
    real, calls = crossteach.transferring.lesson._checkpoint, []

    def cut(*arguments):
        real(*arguments)
        calls.append(1)
        if len(calls) == 2:
            raise CutError

    with monkeypatch.context() as patched:
        patched.setattr(crossteach.transferring.lesson, "_checkpoint", cut)
        with pytest.raises(CutError):
            run(task, tmp_path / "cut", *settings)
    resumed = run(task, tmp_path / "cut", *settings)
    assert state(tmp_path / "whole") == state(tmp_path / "cut")
    assert whole.summary["ungated"] == resumed.summary["ungated"]


@pytest.mark.parametrize("trains", ["last", "lora:2"])
def test_a_part_of_the_student_may_learn_from_features(task, tmp_path, trains):
    result = run(task, tmp_path / "run", "method=crd", f"optim.trains={trains}", "gate.ask=false")
    before, after = (m.module.state_dict() for m in (load_model(task.student), result.student))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert {"0.weight", "6.weight"} & changed if trains == "lora:2" else "6.weight" in changed


def test_features_need_a_model_that_shows_them(task, tmp_path):
    teacher = load_model(task.teacher)

    class BlackBox:
        """Answers and shows nothing else."""

        def __init__(self):
            for name in ("spec", "name", "preprocess", "n_classes", "classes", "device", "fingerprint", "n_parameters"):
                setattr(self, name, getattr(teacher, name))
            self.family = teacher.family

        def logits(self, images):
            return teacher.logits(images)

    with pytest.raises(ModelError, match="shows its answers only, no features; use a method on answers, as kl"):
        run(task, tmp_path / "run", "method=crd", teachers=[BlackBox()])
    assert not (tmp_path / "run").exists()
    with pytest.raises(ModelError, match=re.escape("give contrast.teacher_layer=NAME, one of 0, 1, 2, 3")):
        run(task, tmp_path / "run", "method=cd", "contrast.teacher_layer=layer4")
    assert not pathlib.Path(tmp_path / "run").exists()


def test_every_teacher_has_a_rate_of_its_own(task, tmp_path, monkeypatch):
    """The probe of one teacher is no other teacher's, though no answer of either is a target."""
    found, real = [], crossteach.transferring.lesson.choose_rate

    def choose(*arguments, **named):
        found.append(arguments[5]["models"])
        return real(*arguments, **named)

    monkeypatch.setattr(crossteach.transferring.lesson, "choose_rate", choose)
    short = ("method=cd", "optim.lr=none", "optim.epochs=1", "optim.probe_steps=2")
    for name in ("dense", "linear"):
        run(task, tmp_path / name, *short, teachers=[load_model(task.model(name))])
    assert found[0][0] == found[1][0] and found[0][1] != found[1][1]


def test_settings_of_features_that_mean_nothing_are_refused(task, tmp_path):
    with pytest.raises(ConfigError, match=r"method 'kl' compares no features, so contrast\.\* means nothing"):
        run(task, tmp_path / "run", "method=kl", "contrast.width=64")
    with pytest.raises(ConfigError, match=r"method 'cd' teaches features, and optim\.trains=head changes none"):
        run(task, tmp_path / "run", "method=cd", "optim.trains=head")
    second = replace(load_model(task.model("linear")), module=headless())
    several = [load_model(task.teacher), second]  # it answers by lot, which is said first where nothing forces it
    with pytest.raises(ModelError, match="no layer scores its 10 classes"):
        run(task, tmp_path / "run", "method=cd", "curriculum.order=sequential", "force=true", teachers=several)
    assert not pathlib.Path(tmp_path / "run").exists()
