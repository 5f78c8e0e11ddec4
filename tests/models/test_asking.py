"""Asking a model leaves its weights, its buffers, its modes and everybody's images as they were."""

import os
import subprocess
import sys

import digits
import numpy as np
import pytest
import small
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import crossteach.settings
from crossteach import Store, TransferConfig, from_module, load_data, load_model, predict, transfer, with_settings
from crossteach.answers.tutors import LiveTutors, fill_store
from crossteach.data.views import Views, augmentation
from crossteach.errors import ModelError
from crossteach.models.asking import digest_of_state, evaluation_mode, read_logits, set_mode
from crossteach.models.scoring import score
from crossteach.types import Preprocess

GREY_8 = Preprocess(size=(8, 8), channels=1)
QUICK = ["optim.epochs=1", "optim.batch_size=64", "views.count=1"]
ODD = '''
import torch
from torch import nn
from small import convolutional, dense

class Own(nn.Module):
    """The convolutional model, and what a subclass does to it."""
    def __init__(self):
        super().__init__()
        self.net = convolutional()
    def forward(self, x):
        return self.net(x)

class InPlace(Own):
    def forward(self, x):
        return self.net(x.sub_(0.5).mul_(2).add_(1).div_(2))  # what the model was trained on, in place

class Counting(Own):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))
    def forward(self, x):
        self.calls += 1
        return self.net(x)

class AlwaysTraining(Own):
    def train(self, mode=True):
        super().train(mode)
        self.net[1].train()
        return self
    def eval(self):
        return self.train(False)

class InForward(Own):
    def forward(self, x):
        self.net[1].train()
        return self.net(x)

class CountingUnseen(Counting):
    def forward(self, x):
        self.calls.data += 1
        return self.net(x)

class NormalisingUnseen(Own):
    def forward(self, x):
        weight = self.net[6].weight
        weight.data = weight.data / weight.data.norm()
        return self.net(x)

class Moving(Own):
    def forward(self, x):
        with torch.no_grad():
            self.net[6].weight.mul_(0.5)
        return self.net(x)

class Dropping(Own):
    def forward(self, x):
        return self.net(torch.nn.functional.dropout(x, 0.3))

class BatchNormed(Own):
    def forward(self, x):
        return self.net((x - x.mean()) / x.std())
'''


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> digits.Digits:
    task = digits.make(tmp_path_factory.mktemp("digits"))
    (task.folder / "odd.py").write_text(ODD)
    state = {f"net.{name}": value for name, value in load_file(task.folder / "convolutional.safetensors").items()}
    save_file(state, task.folder / "odd.safetensors")
    save_file({**state, "calls": torch.zeros(1)}, task.folder / "counting.safetensors")
    return task


def odd(task, name, options="?channels=1&size=8"):
    weights = "counting" if "Counting" in name else "odd"
    return f"py:{task.folder}/odd.py:{name}@{task.folder}/{weights}.safetensors{options}"


def run(task, out, student, teacher, *settings):
    config = with_settings(TransferConfig(), [*QUICK, *settings])
    return transfer(load_model(student), [load_model(teacher)], load_data(task.data), out, config)


def bits(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


# the images of others


@pytest.mark.parametrize("wanted", [GREY_8, Preprocess(), Preprocess((8, 8), 3), Preprocess((9, 9), 1, (0.2,))])
def test_a_module_that_writes_into_its_input_changes_no_image_of_others(wanted):
    class Greedy(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(1, 10)

        def forward(self, x):
            return self.linear(x.zero_().flatten(1).mean(1, keepdim=True))

    images = torch.rand(5, 1, 8, 8)
    before, model = images.clone(), from_module(Greedy(), wanted)
    score(model, images)
    model.logits(images)  # as in a loop of one's own
    with torch.no_grad():
        model.logits(images[:1])
    crossteach.models.features.features_of(model, crossteach.models.features.Layer("linear"), images)
    assert torch.equal(images, before)


def test_a_module_that_works_in_place_teaches_what_it_teaches_out_of_place(task, tmp_path):
    models = {name: load_model(odd(task, name)) for name in ("InPlace", "Own")}
    others = load_model(task.teacher)
    split, views = load_data(task.data).train.take(np.arange(150)), Views(0, 1, augmentation("warp"))
    batch = views.batch(split, np.arange(150), np.zeros(150, np.int64))
    alone = LiveTutors([others]).logits(batch)
    for tutors in ([models["InPlace"], others, models["InPlace"]], [models["Own"], others, models["Own"]]):
        for answers in (
            LiveTutors(tutors).logits(batch),
            fill_store(tutors, split, views, Store(tmp_path)).logits(batch),
        ):
            assert torch.equal(answers[1], alone[0])
            assert torch.equal(answers[0], answers[2])
    taught = [run(task, tmp_path / n, odd(task, n), task.teacher, "optim.lr=0.01").summary for n in models]
    assert taught[0]["training"]["taught"] == taught[1]["training"]["taught"]
    assert taught[0]["accuracy_after"] == pytest.approx(taught[1]["accuracy_after"], abs=0.5)


def test_losses_of_ones_own_loop_are_the_same_in_place_and_out_of_place(task):
    images, labels = torch.rand(16, 1, 8, 8), torch.arange(16) % 10
    teacher, loss_of, losses = load_model(task.teacher), crossteach.TransferLoss("xe+dp"), []
    for name in ("InPlace", "Own"):
        student = load_model(odd(task, name))
        logits = student.logits(images)  # the student first: it must not spoil what the teacher is shown
        loss, _ = loss_of(logits, logits.detach(), [teacher.logits(images)], labels)
        loss.backward()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_logits_that_a_module_keeps_and_overwrites_are_taken_before(task):
    class Reusing(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(64, 10)
            self.register_buffer("answer", torch.zeros(128, 10), persistent=False)

        def forward(self, x):
            return self.answer[: len(x)].copy_(self.linear(x.flatten(1)))

    model, images = from_module(Reusing(), GREY_8), torch.rand(300, 1, 8, 8)
    expected = model.module.linear(images.flatten(1))
    assert torch.allclose(score(model, images), expected, atol=1e-5)


# weights, buffers, modes


@pytest.mark.parametrize("name", ["Counting", "CountingUnseen", "AlwaysTraining", "InForward"])
def test_opening_fingerprinting_and_scoring_leave_weights_and_buffers_as_in_the_file(task, name):
    model = load_model(odd(task, name))
    kept = load_file(task.folder / f"{'counting' if 'Counting' in name else 'odd'}.safetensors")
    assert same(bits(model.module), kept)
    assert model.fingerprint == load_model(odd(task, name)).fingerprint
    score(model, torch.rand(40, 1, 8, 8))
    predict(model, load_data(task.data).test)
    model.to("cpu")
    assert same(bits(model.module), kept)
    assert not any(part.training for part in model.module.modules())


@pytest.mark.parametrize("name", ["Counting", "CountingUnseen", "AlwaysTraining", "InForward"])
def test_an_original_that_is_kept_is_the_file_bit_for_bit(task, tmp_path, name):
    settings = ["optim.lr=0.5", "optim.clip=100", f"force={str(name == 'InForward').lower()}"]
    done = run(task, tmp_path, odd(task, name), task.model("linear"), *settings)
    assert done.summary["gate"]["verdict"] in ("kept_original", "diverged")
    kept = load_file(task.folder / f"{'counting' if 'Counting' in name else 'odd'}.safetensors")
    assert same(load_file(tmp_path / "student" / "model.safetensors"), kept)
    assert same(bits(done.student.module), kept)


def test_a_saved_student_with_a_counter_is_opened_and_asked_again(task, tmp_path):
    done = run(task, tmp_path, odd(task, "Counting"), task.teacher, "optim.lr=0.01", "gate.max_loss=100")
    data, opened = load_data(task.data), load_model(f"run:{tmp_path}")
    first = predict(opened, data.test)
    assert torch.equal(first.logits, predict(opened, data.test).logits)
    assert first.accuracy == pytest.approx(done.summary["accuracy_after"])
    assert opened.fingerprint == done.student.fingerprint


@pytest.mark.parametrize("name", ["NormalisingUnseen", "Moving"])
def test_a_model_that_cannot_be_asked_without_changing_is_refused_in_one_line(task, name):
    with pytest.raises(ModelError, match="changes its own weights when it is asked") as told:
        load_model(odd(task, name))
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("name", ["NormalisingUnseen", "Moving"])
def test_a_module_of_the_callers_that_is_refused_is_given_back_as_it_was(name):
    scope: dict[str, type[nn.Module]] = {}
    exec(ODD, scope)
    module = scope[name]().train()
    before = bits(module)
    with pytest.raises(ModelError, match="changes its own weights"):
        from_module(module, GREY_8)
    assert same(bits(module), before) and module.training


def test_every_part_gets_the_mode_back_that_it_had_also_where_the_forward_pass_has_changed_it():
    scope: dict[str, type[nn.Module]] = {}
    exec(ODD, scope)
    module = scope["InForward"]().eval()
    with evaluation_mode(module):
        module(torch.rand(4, 1, 8, 8))
        assert module.net[1].training
    assert not any(part.training for part in module.modules())


def test_a_model_whose_own_eval_keeps_layers_in_train_mode_says_so_and_its_readme_loads_what_was_measured(
    task, tmp_path, monkeypatch
):
    model = load_model(odd(task, "AlwaysTraining"))
    assert any("its own eval() leaves 1 layers in train mode" in note for note in model.notes)
    assert not any("own eval()" in note for note in load_model(task.student).notes)
    model.save(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    scope: dict[str, object] = {}
    exec(model.loading_code(), scope)
    sys.modules.pop("architecture", None)
    images = torch.rand(7, 1, 8, 8)
    with torch.no_grad():
        assert torch.allclose(scope["logits"](images), score(model, images), atol=1e-5)


@pytest.mark.parametrize("name", ["levit_128s", "efficientformer_l1", "tiny_vit_5m_224"])
def test_a_model_that_keeps_position_biases_in_evaluation_mode_learns_and_is_asked_with_its_new_weights(name):
    import timm

    torch.manual_seed(0)
    module, images = timm.create_model(name, num_classes=3), torch.rand(2, 3, 224, 224)
    for _ in range(2):
        set_mode(module, training=False)
        module(images).sum().backward()  # the second pass would go back through the first one's graph
    with torch.no_grad(), evaluation_mode(module):
        module(images)
    with torch.no_grad():
        for key, parameter in module.named_parameters():
            parameter.add_(torch.randn_like(parameter) if "attention_biases" in key else 0)
    fresh = timm.create_model(name, num_classes=3)
    fresh.load_state_dict(module.state_dict())
    with torch.no_grad(), evaluation_mode(module), evaluation_mode(fresh):
        assert torch.equal(module(images), fresh(images))


def test_a_digest_sees_every_bit_and_the_class_of_what_it_reads():
    module = small.convolutional()
    before = digest_of_state(module)
    module[1].num_batches_tracked += 1
    assert digest_of_state(module) != before
    assert digest_of_state(small.dense()) != before


# what a module returns


def test_logits_are_found_in_what_real_models_return():
    import timm

    inception = timm.create_model("inception_v3", aux_logits=True, num_classes=7).train()
    returned = inception(torch.rand(2, 3, 299, 299))
    assert isinstance(returned, tuple)
    assert torch.equal(read_logits(returned, 7), returned[0])
    distilled = timm.create_model("deit_tiny_distilled_patch16_224", num_classes=7).train()
    distilled.set_distilled_training(True)
    pair = distilled(torch.rand(2, 3, 224, 224))
    assert torch.equal(read_logits(pair, 7), pair[0])
    scores = torch.rand(2, 7)
    assert torch.equal(read_logits((torch.rand(2, 5), scores), 7), scores), "features come first in some"
    assert torch.equal(read_logits({"logits": scores}), scores)
    for wrong in ((), {"features": scores}, torch.rand(2, 7, 1), "logits"):
        with pytest.raises(ModelError, match="must answer logits"):
            read_logits(wrong, 7)


AUXILIARY = """
from torch import nn
from small import convolutional

class Auxiliary(nn.Module):
    def __init__(self):
        super().__init__()
        self.net, self.aux = convolutional(), nn.Linear(64, 10)
    def forward(self, x):
        logits = self.net(x)
        return (logits, self.aux(x.flatten(1))) if self.training else logits
"""


@pytest.mark.parametrize("settings", [crossteach.settings.compatible("paper"), ("optim.train_statistics=true",)])
def test_a_model_that_answers_a_tuple_in_train_mode_is_trained_in_train_mode(task, tmp_path, settings):
    (tmp_path / "aux.py").write_text(AUXILIARY)
    student = f"py:{tmp_path}/aux.py:Auxiliary?pretrained=false&channels=1&size=8"
    done = run(task, tmp_path / "run", student, task.teacher, "force=true", *settings, "optim.lr=0.01")
    said = "answers a tuple of 2 in train mode: its first that scores the classes is taken"
    assert sum(said in note for note in done.notes) == 1
    assert done.summary["n_test"]


# stored answers and the code that made them


SERVED = """
import sys
from crossteach import Store, load_data, load_model, predict
model, data = load_model(sys.argv[1]), load_data(sys.argv[2])
print(model.fingerprint, predict(model, data.test, Store(sys.argv[3])).accuracy)
"""


def test_answers_of_a_function_that_has_changed_are_not_served_from_the_store(task, tmp_path):
    """The file of the factory stays as it is; a function that it imports does not."""
    (tmp_path / "zoo.py").write_text("import small, activations\n\n\nclass Net(small.nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.net = small.dense()\n"
        "    def forward(self, x):\n        return self.net(activations.prepared(x))\n")  # fmt: skip
    weights = {f"net.{name}": value for name, value in load_file(task.folder / "dense.safetensors").items()}
    save_file(weights, tmp_path / "net.safetensors")
    spec = f"py:{tmp_path}/zoo.py:Net@{tmp_path}/net.safetensors?channels=1&size=8"
    path = os.pathsep.join([str(tmp_path), str(digits.SOURCE.parent), os.environ.get("PYTHONPATH", "")])
    told = []
    for body in ("x", "x", "1 - x"):
        (tmp_path / "activations.py").write_text(f"def prepared(x):\n    return {body}\n")
        call = [sys.executable, "-B", "-c", SERVED, spec, task.data, str(tmp_path / "store")]
        done = subprocess.run(call, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}, check=True)
        told.append(done.stdout.split())
    assert told[0] == told[1]
    assert told[2][0] != told[0][0] and float(told[2][1]) < float(told[0][1]) - 20


def test_a_fingerprint_holds_the_answers_of_the_model(task):
    model = load_model(odd(task, "Own"))
    before = model.fingerprint
    model.module.net[2] = nn.Sigmoid()  # no weights, no source of the factory's
    assert model.clone().fingerprint != before


def test_opening_a_model_draws_no_random_number_of_the_callers(task):
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    crossteach.load_model(task.student)
    assert torch.equal(torch.rand(3), expected)
