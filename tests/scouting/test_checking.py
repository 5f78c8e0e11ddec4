"""Planted faults: a check finds each, says what to do, and that repairs it. A sound model has none."""

import json
from dataclasses import replace

import digits
import numpy as np
import pytest
import torch
from commands import call
from torch import nn

from crossteach import from_module, load_data, load_model
from crossteach.errors import LabelSpaceError
from crossteach.models.asking import digest_of_state
from crossteach.scouting.checking import check_model


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return digits.make(tmp_path_factory.mktemp("digits"))


@pytest.fixture(scope="module")
def data(task):
    return load_data(task.data)


def wrapped(task, *layers, before=()):
    """The student's module between other layers."""
    model = load_model(task.student)
    return from_module(nn.Sequential(*before, model.module, *layers), model.preprocess, name="planted")


def finding(found, what):
    (each,) = [f for f in found["findings"] if f["what"].startswith(what)]
    return each


def test_a_sound_model_is_ok_and_stays_as_it_is(task, data):
    model = load_model(task.student)
    before = digest_of_state(model.module)
    found = check_model(model, data)
    assert found["verdict"] == "ok", found["findings"]
    assert found["labelled"] and found["samples"] == 450
    assert found["accuracy"] > 80 and 0 <= found["ece_calibrated"] < 0.1 and found["temperature"] > 0
    assert digest_of_state(model.module) == before and not model.module.training


def test_the_preprocessing_that_would_be_better_is_said_as_it_is_typed(task, data):
    spec = f"{task.student}&mean=0.5&std=0.02"
    found = check_model(load_model(spec), data)
    told = finding(found, "preprocessing")
    assert told["verdict"] == found["verdict"] == "suspicious"
    options = told["advice"].split()[1]
    assert check_model(load_model(f"{task.student}&{options}"), data)["accuracy"] > found["accuracy"] + 3


def test_a_model_that_wants_pixels_of_0_to_255_is_told(task, data):
    class Scaled(nn.Module):
        def forward(self, x):
            return x / 255

    found = check_model(wrapped(task, before=[Scaled()]), data)
    told = finding(found, "preprocessing")
    assert "pixels of 0 to 255" in told["evidence"] and "std=0.003922" in told["advice"]


def test_channels_in_the_other_order_are_found():
    """Two classes, told by red against blue."""
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 2
    images = rng.random((400, 8, 8, 3)).astype(np.float32) * 0.3
    images[labels == 0, ..., 0] += 0.5
    images[labels == 1, ..., 2] += 0.5
    layer = nn.Conv2d(3, 2, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.0, 0, 5], [5, 0, 0]])[..., None, None])  # of blue before red
    model = from_module(nn.Sequential(layer, nn.AdaptiveAvgPool2d(1), nn.Flatten()), name="bgr")
    from crossteach import from_arrays

    data = from_arrays(
        train=(images[:200], labels[:200]),
        selection=(images[200:300], labels[200:300]),
        test=(images[300:], labels[300:]),
    )
    found = check_model(model, data)
    assert "blue before red" in finding(found, "preprocessing")["evidence"]
    assert found["verdict"] != "ok"


def test_classes_in_another_order_are_found(task, data):
    class Turned(nn.Module):
        def forward(self, x):
            return x.roll(3, 1)

    found = check_model(wrapped(task, Turned()), data)
    told = finding(found, "classes in")
    assert told["verdict"] == "suspicious" and "in another order" in told["evidence"] and "order" in told["advice"]
    assert finding(found, "better than chance")["verdict"] == "broken"


def test_probabilities_are_no_logits(task, data):
    found = check_model(wrapped(task, nn.Softmax(1)), data)
    assert finding(found, "answers are logits")["verdict"] == found["verdict"] == "suspicious"
    assert check_model(wrapped(task, nn.LogSoftmax(1)), data)["verdict"] == "ok"


def test_dropout_that_stays_on_is_unsteady(task, data):
    class Dropped(nn.Module):
        def forward(self, x):
            return nn.functional.dropout(x, 0.5, training=True)

    found = check_model(wrapped(task, Dropped()), data)
    assert finding(found, "asked twice")["verdict"] == "suspicious"


def test_a_model_that_counts_its_answers_is_as_it_was_afterwards(task, data):
    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("seen", torch.zeros(()))

        def forward(self, x):
            self.seen += 1
            return x

    model = wrapped(task, Counts())
    before = digest_of_state(model.module)
    assert check_model(model, data)["verdict"] == "ok"
    assert digest_of_state(model.module) == before


def test_an_untrained_head_one_class_and_nan_are_broken(task, data):
    untrained = check_model(load_model(task.student.partition("@")[0] + "?pretrained=false&channels=1&size=8"), data)
    assert finding(untrained, "better than chance")["verdict"] == "broken"

    class Constant(nn.Module):
        def forward(self, x):
            return x * 0 + torch.arange(10.0)

    assert finding(check_model(wrapped(task, Constant()), data), "answers vary")["verdict"] == "broken"

    class Root(nn.Module):
        def forward(self, x):
            return x.sqrt()

    found = check_model(wrapped(task, Root()), data)
    assert finding(found, "answers are finite")["verdict"] == found["verdict"] == "broken"
    assert found["accuracy"] is None


def test_without_labels_only_what_needs_none_is_looked_at(task, data):
    bare = replace(data, selection=replace(data.selection, labels=None), test=replace(data.test, labels=None))
    found = check_model(load_model(task.student), bare)
    assert found["verdict"] == "ok" and not found["labelled"] and found["accuracy"] is None
    assert {f["what"].split()[0] for f in found["findings"]} == {"asked", "answers"}


def test_the_command_prints_a_table_or_json_and_refuses_in_one_line(task, capsys):
    code, out, _ = call(capsys, "check", task.student, "--data", task.data)
    assert code == 0 and "Verdict: ok" in out
    code, out, _ = call(capsys, "check", f"{task.student}&mean=0.5&std=0.02", "--data", task.data, "--json", "--quiet")
    assert code == 0 and json.loads(out)["verdict"] == "suspicious"
    code, _, error = call(capsys, "check", task.model("dense", "?channels=1&size=8&num_classes=3"), "--data", task.data)
    assert code == 1 and error.count("\n") == 1
    with pytest.raises(LabelSpaceError):
        check_model(
            from_module(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), like=load_data(task.data)), load_data(task.data)
        )
