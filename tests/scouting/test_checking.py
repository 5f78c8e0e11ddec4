"""Planted faults: a check finds each, says what to do, and that repairs it. A sound model has none."""

import json
import re
import shlex
from dataclasses import replace

import digits
import numpy as np
import pytest
import torch
from commands import call
from torch import nn

from crossteach import (
    Preprocess,
    Store,
    TransferConfig,
    from_arrays,
    from_module,
    load_data,
    load_model,
    transfer,
    with_settings,
)
from crossteach.errors import LabelSpaceError, ModelError
from crossteach.models import MappedClassifier
from crossteach.models.asking import digest_of_state
from crossteach.models.torchvision import published_accuracy
from crossteach.scouting.checking import as_published, check_model
from crossteach.scouting.quick import quick_problem
from crossteach.scouting.variants import Variant, how_to_ask
from crossteach.specs import parse_spec
from crossteach.types import Predictions


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
    assert told["advice"] == f"type {shlex.quote(told['spec'])} in its place", (
        "an option that is given twice is refused"
    )
    mended = check_model(load_model(told["spec"]), data)
    assert mended["verdict"] == "ok" and mended["accuracy"] > found["accuracy"] + 3


def test_a_model_that_wants_pixels_of_0_to_255_is_told(task, data):
    class Scaled(nn.Module):
        def forward(self, x):
            return x / 255

    found = check_model(wrapped(task, before=[Scaled()]), data)
    told = finding(found, "preprocessing")
    assert "pixels of 0 to 255" in told["evidence"] and "std=(0.00392" in told["advice"]


def pictures_of(draw, count=400, classes=2):
    """Images that a function draws from labels, which take turns, and random numbers."""
    labels, rng = np.arange(count) % classes, np.random.default_rng(0)
    images = draw(labels, rng).astype(np.float32)
    images = (images + rng.normal(0, 0.01, images.shape).astype(np.float32)).clip(0, 1)  # no two are equal
    third = [slice(start, start + count // 4) for start in (0, count // 4)] + [slice(count // 2, count)]
    train, selection, test = ((images[part], labels[part]) for part in third)
    return from_arrays(train=train, selection=selection, test=test)


class Brighter(nn.Module):
    """Answers class 1 if pixels of a part are brighter than a level; some take images of one size only."""

    def __init__(self, level=0.5, part=(slice(None), slice(None)), side=None):
        super().__init__()
        self.scale, self.level, self.part, self.side = nn.Parameter(torch.tensor(20.0)), level, part, side

    def forward(self, x):
        if self.side is not None and x.shape[-2:] != (self.side, self.side):
            raise ValueError("another size")
        told = self.scale * (x[:, :, *self.part].mean((1, 2, 3)) - self.level)
        return torch.stack([-told, told], 1)


def one_of_four(labels, rng):
    """The signal is in the pixels that nearest resizing takes; the others of each block even it out."""
    images = np.empty((len(labels), 16, 16, 1))
    signal = np.where(labels, 0.8, 0.2)[:, None, None, None]
    images[:] = 0.5 + (0.5 - signal) / 3
    images[:, 1::2, 1::2] = signal
    return images


def at_the_sides(labels, rng):
    """Wide images, told by their left and right ends, which a central square leaves out."""
    images = rng.random((len(labels), 16, 32, 1))
    images[:, :, :4] = images[:, :, -4:] = np.where(labels, 0.9, 0.1)[:, None, None, None]
    return images


def at_the_border(labels, rng):
    """Told by a thin frame, which a crop cuts off."""
    images = rng.random((len(labels), 32, 32, 1))
    frame = np.ones((32, 32), bool)
    frame[2:-2, 2:-2] = False
    images[:, frame] = np.where(labels, 0.95, 0.05)[:, None, None]
    return images


def green_or_red(labels, rng):
    """As bright in the mean of the channels; as grey, green is the brighter."""
    images = np.zeros((len(labels), 8, 8, 3))
    images[labels == 1, ..., 1] = images[labels == 0, ..., 0] = 0.6
    return images


def stripes(labels, rng):
    """Stripes of two pixels or of four: at another size they are of others."""
    rows = np.where(labels[:, None], np.arange(16) // 2 % 2, np.arange(16) % 2).astype(float)
    return rows[:, :, None, None].repeat(16, 2)


class Wide(Brighter):
    """Answers class 1 if pixels differ from the next but one more than from the next."""

    def forward(self, x):
        near, far = ((x[:, :, lag:] - x[:, :, :-lag]).abs().mean((1, 2, 3)) for lag in (1, 2))
        return torch.stack([near - far, far - near], 1) * self.scale


EDGES = (slice(None), slice(0, 1))
PREPROCESSINGS = {
    "interpolation": (one_of_four, Brighter(), {"size": (8, 8)}, "nearest resizing", "interpolation='nearest'"),
    "crop mode": (
        at_the_sides,
        Brighter(part=EDGES, side=16),
        {"size": (16, 16)},
        "crop mode squash",
        "crop_mode='squash'",
    ),
    "crop": (at_the_border, Brighter(part=EDGES, side=28), {"size": (28, 28), "crop": 0.875}, "crop of 1", "crop=1.0"),
    "channels": (green_or_red, Brighter(0.25), {}, "grey images", "channels=1"),
    "size": (stripes, Wide(), {"size": (12, 12)}, "images of 1", "size=(1"),
}


@pytest.mark.parametrize("fault", PREPROCESSINGS)
def test_what_a_model_was_not_trained_with_is_found_and_mended_by_what_is_said(fault):
    draw, module, wrong, evidence, option = PREPROCESSINGS[fault]
    data = pictures_of(draw)
    found = check_model(from_module(module, Preprocess(**wrong), name="planted"), data)
    told = finding(found, "preprocessing")
    assert told["verdict"] == "suspicious" and evidence in told["evidence"] and option in told["advice"]
    right = eval(told["advice"].removeprefix("give preprocess="), {"Preprocess": Preprocess})
    mended = check_model(from_module(module, right, name="mended"), data)
    assert mended["accuracy"] == 100 and mended["verdict"] == "ok", mended["findings"]


def test_the_spec_to_type_replaces_every_option_that_is_wrong():
    """All that can be wrong of one spec, and the model says itself what is right."""
    own = "timm:test_resnet?pretrained=false"
    wrong = f"{own}&size=96&crop_mode=squash&crop=0.5&mean=0,0,0&interpolation=nearest"
    model, right = load_model(wrong), load_model(own).preprocess
    spec = how_to_ask(model, Variant("as the model itself names it", right))[1]
    assert load_model(spec).preprocess == right
    grey = replace(right, channels=1, mean=(0.5,), std=(0.25,))
    options = parse_spec(how_to_ask(model, Variant("grey", grey))[1]).options
    assert options["channels"] == "1" and options["crop_mode"] == right.crop_mode and options["mean"] == "0.5"


def red_or_blue(labels, rng):
    """Two classes, told by red against blue."""
    images = rng.random((len(labels), 8, 8, 3)) * 0.3
    images[labels == 0, ..., 0] += 0.5
    images[labels == 1, ..., 2] += 0.5
    return images


def reads_red(place):
    """Answer class 0 where the channel at this place is brighter than the one at the other end."""
    layer = nn.Conv2d(3, 2, 1)
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[0, place], layer.weight[1, 2 - place] = 5, 5
    name = "rgb" if place == 0 else "bgr"
    return from_module(nn.Sequential(layer, nn.AdaptiveAvgPool2d(1), nn.Flatten()), name=name)


def test_channels_in_the_other_order_are_found():
    model = reads_red(2)
    found = check_model(model, pictures_of(red_or_blue))
    told = finding(found, "preprocessing")
    assert "blue before red" in told["evidence"] and "images.flip(1)" in told["advice"] and told["spec"] is None
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


def test_batch_statistics_that_evaluation_does_not_switch_off_are_unsteady_and_change_buffers(task, data):
    class Always(nn.BatchNorm2d):
        def forward(self, x):
            return nn.functional.batch_norm(x, self.running_mean, self.running_var, training=True)

    found = check_model(wrapped(task, before=[Always(1)]), data)
    told = finding(found, "asked twice")
    assert told["verdict"] == "suspicious" and "with the images that stand beside one" in told["evidence"]
    assert "running_mean and 1 more" in finding(found, "a pass leaves")["evidence"]


def test_a_pass_that_changes_a_buffer_is_said_and_the_buffer_is_as_it_was_afterwards(task, data):
    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("seen", torch.zeros(()))

        def forward(self, x):
            self.seen += 1
            return x

    model = wrapped(task, Counts())
    before = digest_of_state(model.module)
    found = check_model(model, data)
    told = finding(found, "a pass leaves")
    assert told["verdict"] == found["verdict"] == "suspicious" and "it changes 1.seen" in told["evidence"]
    assert digest_of_state(model.module) == before


def test_a_pass_that_changes_weights_is_broken(task, data):
    """Not of one image, so that it can be opened."""

    class Drifts(nn.Linear):
        def forward(self, x):
            if len(x) > 1:
                self.weight.data += 1e-3
            return super().forward(x)

    found = check_model(wrapped(task, Drifts(10, 10)), data)
    assert found["verdict"] == "broken"
    told = finding(found, "a pass leaves")
    assert told["verdict"] == "broken" and "it changes 1.weight" in told["evidence"]


def untrained(task):
    return load_model(task.student.partition("@")[0] + "?pretrained=false&channels=1&size=8")


def test_an_untrained_head_one_class_and_nan_are_broken(task, data):
    found = check_model(untrained(task), data)
    assert finding(found, "better than chance")["verdict"] == found["verdict"] == "broken"

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


def test_an_untrained_head_shows_without_labels_too(task, data):
    told = finding(check_model(untrained(task), bare(data)), "the head looks trained")
    assert told["verdict"] == "suspicious" and "give trained weights" in told["advice"]
    told = finding(check_model(load_model(task.student), bare(data)), "the head looks trained")
    assert told["verdict"] == "ok" and re.search(r"tell \d\d\.\d% .* random weights \d\.\d%", told["evidence"])
    fresh = nn.Linear(10, 10)
    torch.nn.init.normal_(fresh.weight, std=0.01)
    assert finding(check_model(wrapped(task, fresh), bare(data)), "the head")["verdict"] == "suspicious"


def test_too_few_samples_are_suspicious_and_not_broken(task, data):
    few = replace(data, selection=data.selection.take(np.arange(5)))
    found = check_model(untrained(task), few)
    told = finding(found, "better than chance")
    assert told["verdict"] == found["verdict"] == "suspicious" and told["evidence"].endswith("too few samples to tell")
    assert "--force" not in json.dumps(found["findings"])


def test_the_split_that_was_asked_is_named(task, data):
    assert "of the selection split" in finding(check_model(load_model(task.student), data), "better")["evidence"]
    only = replace(data, selection=replace(data.selection, labels=None))
    found = check_model(load_model(task.student), only)
    assert found["split"] == "test" and "of the test split" in finding(found, "better")["evidence"]


def test_the_published_accuracy_is_compared_where_it_stands_beside_the_weights(task):
    assert published_accuracy("torchvision:resnet18") == (69.758, "ImageNet-1K")
    for other in ("torchvision:resnet18@mine.pt", "torchvision:resnet18?pretrained=false", "timm:resnet18", "module m"):
        assert published_accuracy(other) is None
    model = replace(load_model(task.student), spec="torchvision:resnet18")
    labels = torch.arange(200) % 10
    for right, verdict in ((140, "ok"), (60, "suspicious")):
        logits = torch.eye(10)[torch.where(torch.arange(200) < right, labels, (labels + 1) % 10)]
        told = as_published(model, Predictions("m", logits, labels, np.arange(200), "", ""))
        assert told.verdict == verdict and told.evidence.endswith("0% here, 69.8% published on ImageNet-1K")


def bare(data):
    """The same data without a label."""
    return replace(data, **{name: replace(getattr(data, name), labels=None) for name in ("train", "selection", "test")})


def test_without_labels_only_what_needs_none_is_looked_at(task, data):
    found = check_model(load_model(task.student), bare(data))
    assert found["verdict"] == "ok" and not found["labelled"] and found["accuracy"] is None
    assert {f["what"].split()[0] for f in found["findings"]} == {"asked", "a", "answers", "the"}


def test_the_command_prints_a_table_or_json_and_refuses_in_one_line(task, capsys):
    code, out, _ = call(capsys, "check", f"{task.student}&mean=0.5&std=0.02", "--data", task.data, "--json", "--quiet")
    assert code == 0 and json.loads(out)["verdict"] == "suspicious"
    code, out, _ = call(capsys, "check", f"{task.student}&mean=0.5&std=0.02", "--data", task.data, "--quiet")
    (line,) = [line for line in out.splitlines() if line.startswith("Type in its place: ")]
    typed = shlex.split(line)[4]
    code, out, _ = call(capsys, "check", typed, "--data", task.data, "--quiet")
    assert code == 0 and "Verdict: ok" in out
    code, _, error = call(capsys, "check", task.model("dense", "?channels=1&size=8&num_classes=3"), "--data", task.data)
    assert code == 1 and error.count("\n") == 1
    with pytest.raises(LabelSpaceError):
        check_model(
            from_module(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), like=load_data(task.data)), load_data(task.data)
        )


# before every transfer


@pytest.fixture
def quick(tmp_path):
    """Ask what a transfer asks each of its models."""
    return lambda model, data: quick_problem(model, data, Store(tmp_path / "store"))


def test_sound_models_have_no_problem(task, data, quick):
    for spec in (task.student, task.teacher):
        assert quick(load_model(spec), data) is None and quick(load_model(spec), bare(data)) is None
    assert quick(reads_red(0), pictures_of(red_or_blue)) is None


def red_green_or_yellow(labels, rng):
    """Three classes, of which no other order makes up for blue before red."""
    images = rng.random((len(labels), 8, 8, 3)) * 0.3
    images[labels != 1, ..., 0] += 0.6
    images[labels != 0, ..., 1] += 0.6
    return images


def reads_yellow(order):
    """Answer by red and green, which stand first and second in RGB."""
    layer = nn.Conv2d(3, 3, 1)
    weight = torch.tensor([[1.0, -1, 0], [-1, 1, 0], [2, 2, 0]])
    with torch.no_grad():
        layer.weight.copy_((weight if order == "rgb" else weight.flip(1))[..., None, None])
        layer.bias.copy_(torch.tensor([0.0, 0, -2.4]))
    return from_module(nn.Sequential(layer, nn.AdaptiveAvgPool2d(1), nn.Flatten()), name=order)


@pytest.mark.parametrize("role", ["student", "teacher"])
def test_a_transfer_refuses_channels_in_the_other_order(tmp_path, role):
    colours = pictures_of(red_green_or_yellow, classes=3)
    config = with_settings(TransferConfig(), ["optim.epochs=1", "optim.lr=0.01", "views.count=1"])
    right, wrong = reads_yellow("rgb"), reads_yellow("bgr")
    models = (wrong, [right]) if role == "student" else (right, [wrong])
    with pytest.raises(
        ModelError, match=r"'module bgr' has .* and 100.0% with blue before red; turn the channels over"
    ):
        transfer(*models, colours, tmp_path / "run", config, store=Store(tmp_path / "store"))


def test_what_a_model_names_itself_is_tried_where_it_is_asked_otherwise(quick):
    draw, module, wrong, _, _ = PREPROCESSINGS["crop"]
    module.pretrained_cfg = {"input_size": (1, 28, 28), "crop_pct": 1.0}
    data = pictures_of(draw)
    found = quick(from_module(module, Preprocess(**wrong), name="planted"), data)
    assert "and 100.0% with the size, crop and normalisation that the model itself names" in found.found
    right = eval(found.advice.removeprefix("give preprocess="), {"Preprocess": Preprocess})
    assert quick(from_module(module, right, name="mended"), data) is None
    module.pretrained_cfg = {"input_size": (1, 20, 20), "crop_pct": 1.0}  # it takes no such images
    assert quick(from_module(module, right, name="mended"), data) is None


def test_a_head_that_looks_untrained_is_found_without_labels(task, data, quick):
    found = quick(untrained(task), bare(data))
    assert re.search(r" looks untrained: its answers tell \d\.\d% of what they could$", found.found)
    fresh = nn.Linear(10, 10)
    torch.nn.init.normal_(fresh.weight, std=0.01)
    assert quick(wrapped(task, fresh), bare(data)).advice == "give trained weights"
    same = data.selection.take(np.flatnonzero(data.selection.labels == 3))
    assert quick(load_model(task.student), bare(replace(data, selection=same))) is None, (
        "all of one class, and it knows"
    )


def test_a_model_that_knows_a_part_of_the_classes_is_asked_about_these(task, data, quick):
    """The even digits alone; another normalisation is found for it as for any."""
    belongs = np.where(np.arange(10) % 2, -1, np.arange(10))
    for options, is_sound in (("", True), ("&mean=0.5&std=0.02", False)):
        model = MappedClassifier(load_model(f"{task.student}{options}"), belongs, data.classes)
        found = quick(model, data)
        assert (found is None) == is_sound
    few = int((data.selection.labels % 2 == 0).sum())
    assert f"right on {min(few, 200)} samples" in found.found and "another normalisation" in found.found
