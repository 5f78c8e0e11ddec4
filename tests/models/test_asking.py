"""Asking a model leaves it, and the images of others, as they were."""

import digits
import pytest
import torch
from torch import nn

import crossteach
from crossteach import Preprocess, Store, TransferConfig, from_module, load_data, load_model, transfer, with_settings
from crossteach.answers.prediction import predict
from crossteach.errors import ModelError
from crossteach.models.asking import evaluation_mode
from crossteach.models.scoring import score

GREY = Preprocess(size=(8, 8), channels=1)


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> digits.Digits:
    return digits.make(tmp_path_factory.mktemp("digits"))


@pytest.fixture(scope="module")
def data(task):
    return load_data(task.data)


def learnt(task, name="convolutional"):
    return load_model(task.model(name)).module


class Counting(nn.Module):
    """Counts its calls in a buffer, and keeps what it saw last in another."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner
        self.register_buffer("calls", torch.zeros(1))
        self.register_buffer("last", torch.zeros(1))

    def forward(self, images):
        self.calls += 1
        self.last = images.mean().detach()[None]
        return self.inner(images)


class InPlace(nn.Module):
    """Normalises its input where it stands."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, images):
        return self.inner(images.sub_(0.5).mul_(2.0))


class Stubborn(nn.Module):
    """Keeps batch norm in train mode, whatever it is told."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def train(self, mode=True):
        super().train(mode)
        for part in self.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.training = True
        return self

    def forward(self, images):
        return self.inner(images)


class SelfWriting(nn.Module):
    """Changes its weights in a forward pass."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, images):
        with torch.no_grad():
            self.inner[1].weight.mul_(0.999)
        return self.inner(images)


def whole(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(module, before):
    after = module.state_dict()
    return after.keys() == before.keys() and all(torch.equal(after[name], value) for name, value in before.items())


QUICK = ["optim.epochs=1", "optim.lr=0.01", "views.count=1", "optim.batch_size=64"]


@pytest.mark.parametrize("wrapper", [Counting, InPlace, Stubborn])
def test_opening_and_asking_leave_weights_and_buffers_bit_for_bit(task, data, tmp_path, wrapper):
    module = wrapper(learnt(task))
    before = whole(module)
    model = from_module(module, GREY, name="odd")
    assert same(module, before), "opened"
    fingerprint = model.fingerprint
    first = predict(model, data.test, Store(tmp_path / "store")).logits
    assert torch.equal(first, predict(model, data.test, Store(tmp_path / "other")).logits)
    assert same(module, before) and model.clone().fingerprint == fingerprint == model.fingerprint, "asked"


@pytest.mark.parametrize("wrapper", [Counting, Stubborn])
def test_an_original_that_is_kept_comes_back_bit_for_bit(task, data, tmp_path, wrapper):
    """The first promise of the README, for a module whose eval() is not one and for one that counts its calls."""
    module = wrapper(learnt(task))
    before = whole(module)
    student = from_module(module, GREY, name="odd")
    config = with_settings(TransferConfig(), [*QUICK, "optim.lr=5", "method=kl"])
    result = transfer(student, [load_model(task.teacher)], data, tmp_path / "run", config, Store(tmp_path / "store"))
    assert result.summary["gate"]["verdict"] in ("kept_original", "diverged")
    assert same(result.student.module, before) and same(module, before)


def test_a_saved_student_that_counts_its_calls_opens_again(task, data, tmp_path):
    """It once ended in a raw AssertionError of the store."""
    source = tmp_path / "counting.py"
    source.write_text(
        "import torch\nfrom torch import nn\n\n\nclass Net(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n"
        "        self.inner = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"
        "        self.register_buffer('calls', torch.zeros(1))\n\n"
        "    def forward(self, images):\n        self.calls += 1\n        return self.inner(images)\n\n\n"
        "def net():\n    return Net()\n"
    )
    module = Counting(learnt(task, "linear"))
    del module._buffers["last"]
    torch.save(dict(module.state_dict()), tmp_path / "net.pt")
    student = load_model(f"py:{source}:net@{tmp_path / 'net.pt'}?channels=1&size=8")
    store, config = Store(tmp_path / "store"), with_settings(TransferConfig(), [*QUICK, "method=kl+dp"])
    transfer(student, [load_model(task.teacher)], data, tmp_path / "run", config, store)
    saved = load_model(f"run:{tmp_path / 'run'}")
    assert saved.module.calls.item() == 0, "as in the file that the student came from"
    found = transfer(saved, [load_model(task.teacher)], data, tmp_path / "again", config, store)
    assert found.summary["n_test"] == len(data.test)


def test_a_module_that_writes_into_its_input_changes_no_one_elses(task, data, tmp_path):
    """The teacher once answered pixels that the student had normalised: right on 9% instead of 64."""
    plain = learnt(task)
    model, images = from_module(InPlace(plain), GREY), torch.rand(20, 1, 8, 8, generator=torch.manual_seed(0))
    kept = images.clone()
    expected = score(from_module(plain, Preprocess(size=(8, 8), channels=1, mean=(0.5,), std=(0.5,))), images)
    assert torch.allclose(score(model, images), expected, atol=1e-5)
    model.logits(images)
    assert torch.equal(images, kept)
    summaries = []
    for name, student in (("in place", InPlace(plain)), ("plain", plain)):
        preprocess = GREY if name == "in place" else Preprocess(size=(8, 8), channels=1, mean=(0.5,), std=(0.5,))
        config = with_settings(TransferConfig(), [*QUICK, "method=kl+dp-unsupervised", "force=true"])
        opened = from_module(student, preprocess, name="student")
        result = transfer(opened, [load_model(task.teacher)], data, tmp_path / name, config, Store(tmp_path / "s"))
        summaries.append(result.summary)
    for key in ("teacher_accuracy", "accuracy_before", "ungated_transfer_delta"):
        assert summaries[0][key] == pytest.approx(summaries[1][key], abs=0.3), key
    taught = [s["training"]["taught"] for s in summaries]
    assert taught[0]["dense"] == pytest.approx(taught[1]["dense"], abs=3)


def test_a_module_that_changes_its_own_weights_is_refused(task, data):
    with pytest.raises(ModelError, match="SelfWriting changes its own weights when it is asked"):
        predict(from_module(SelfWriting(learnt(task, "linear")), GREY), data.test)


def test_a_module_gets_its_mode_back_part_by_part(task):
    module = learnt(task).train()
    module[1].eval()
    flags = [part.training for part in module.modules()]
    model = from_module(module, GREY)
    assert [part.training for part in module.modules()] == flags, "wrapping a module does not flip it"
    score(model, torch.rand(3, 1, 8, 8))
    with evaluation_mode(module):
        assert not any(part.training for part in module.modules())
    assert [part.training for part in module.modules()] == flags


def test_opening_a_model_draws_no_random_number_of_the_callers(task):
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    load_model(task.student)
    assert torch.equal(torch.rand(3), expected)


class Auxiliary(nn.Module):
    """Answers a tuple in train mode, as Inception does."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.side = inner, nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

    def forward(self, images):
        return (self.inner(images), self.side(images)) if self.training else self.inner(images)


@pytest.mark.parametrize("settings", [["optim.train_statistics=true"], list(crossteach.config.compatible("paper"))])
def test_a_model_with_auxiliary_heads_is_trained_by_its_own(task, data, tmp_path, settings):
    student = from_module(Auxiliary(learnt(task)), GREY, name="auxiliary")
    config = with_settings(TransferConfig(), [*settings, *QUICK])
    result = transfer(student, [load_model(task.teacher)], data, tmp_path / "run", config, Store(tmp_path / "store"))
    (note,) = [n for n in result.notes if "tuple" in n]
    assert note == "auxiliary answers a tuple of 2 in train mode: its first that scores the classes is taken"
    assert result.summary["training"]["diverged"] == ""


def test_changed_code_is_another_model(tmp_path, data):
    """A function that the user's file imports changed, and 89.4% was served where the model now has 46.9%."""
    (tmp_path / "helper.py").write_text("def shift(images):\n    return images\n")
    (tmp_path / "zoo.py").write_text(
        "import sys\nsys.path.insert(0, __file__.rpartition('/')[0])\nimport helper\nfrom torch import nn\n\n\n"
        "class Net(nn.Sequential):\n    def forward(self, images):\n"
        "        return super().forward(helper.shift(images))\n\n\n"
        "def net():\n    return Net(nn.Flatten(), nn.Linear(64, 10))\n"
    )
    torch.save(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).state_dict(), tmp_path / "net.pt")
    spec = f"py:{tmp_path / 'zoo.py'}:net@{tmp_path / 'net.pt'}?channels=1&size=8"
    before = load_model(spec)
    known, store = before.fingerprint, Store(tmp_path / "store")
    answered = predict(before, data.test, store).logits
    before.module.forward.__globals__["helper"].shift = lambda images: images.flip(3)  # as after an edit and a restart
    after = load_model(spec)
    assert after.fingerprint != known
    assert not torch.equal(predict(after, data.test, store).logits, answered)
