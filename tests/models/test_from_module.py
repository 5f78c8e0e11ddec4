"""Modules of the caller's own."""

from dataclasses import replace
from pathlib import Path

import digits
import pytest
import small
import torch
from safetensors.torch import load_file
from torch import nn

import crossteach
from crossteach import from_module, load_data, transfer, with_settings
from crossteach.errors import ModelError
from crossteach.models import TorchClassifier, random_copy
from crossteach.models.scoring import score
from crossteach.types import Preprocess

GREY_8 = Preprocess(size=(8, 8), channels=1)
QUICK = ["optim.epochs=2", "optim.lr=0.01", "optim.batch_size=32", "views.count=2", "gate.max_loss=100"]


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> digits.Digits:
    return digits.make(tmp_path_factory.mktemp("digits"))


def module(task: digits.Digits, name: str) -> nn.Module:
    built: nn.Module = getattr(small, name)()
    built.load_state_dict(load_file(task.folder / f"{name}.safetensors"))
    return built


def test_a_classifier_of_a_module_leaves_the_mode_of_every_part():
    net = small.convolutional().train()
    net[1].eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    modes = [part.training for part in net.modules()]
    model = from_module(net, GREY_8, classes=[str(i) for i in range(10)], name="mine")
    assert model.module is net and (model.name, model.n_classes) == ("mine", 10)
    assert model.classes == tuple(map(str, range(10)))
    score(model, torch.rand(3, 1, 8, 8))
    assert [part.training for part in net.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_a_module_says_what_it_cannot_do(unchecked):
    with pytest.raises(ModelError, match=r"must answer logits \[N, C\]"):
        from_module(nn.Conv2d(1, 3, 1))
    with pytest.raises(ModelError, match="needs a torch module, not str; load_model reads specs"):
        from_module("demo:mixer")
    with pytest.raises(ModelError, match=r"in torch\.float16; give it in float32"):
        from_module(small.dense().half(), GREY_8)
    with pytest.raises(ModelError, match="names 2 classes but scores 10"):
        from_module(small.dense(), GREY_8, classes=["a", "b"])


def test_a_transfer_to_a_module_ends_and_is_read_back(task, tmp_path):
    data = load_data(task.data)
    student, teacher = (from_module(module(task, name), name=name, like=data) for name in ("convolutional", "dense"))
    config = with_settings(crossteach.TransferConfig(), QUICK)
    done = transfer(student, [teacher], data, tmp_path / "run", config)
    again = transfer(student, [teacher], data, tmp_path / "run", config)
    states = done.student.module.state_dict(), again.student.module.state_dict()
    assert all(torch.equal(a, b) for a, b in zip(*(s.values() for s in states), strict=True))
    assert any(
        not torch.equal(a, b) for a, b in zip(states[0].values(), student.module.state_dict().values(), strict=True)
    )
    assert done.summary == again.summary
    text = (tmp_path / "run" / "student" / "README.md").read_text()
    assert "your own Sequential" in text


def test_the_lines_of_the_readme_load_into_the_users_module(task, tmp_path, monkeypatch):
    model = from_module(module(task, "convolutional"), Preprocess((8, 8), 1, (0.3,), (0.4,)))
    model.save(tmp_path / "saved")
    code = model.loading_code().replace("module = ...", "module = small.convolutional()")
    monkeypatch.chdir(tmp_path / "saved")
    scope: dict[str, object] = {"small": small}
    exec(code, scope)
    images = torch.rand(4, 1, 8, 8)
    model.module.eval()
    with torch.no_grad():
        assert torch.allclose(scope["logits"](images), model.logits(images), atol=1e-5)


def test_a_classifier_without_an_architecture_is_a_student_like_another(task, tmp_path):
    data, net = load_data(task.data), module(task, "convolutional")
    student = TorchClassifier("mine", "mine", net, GREY_8, 10, {})
    config = with_settings(crossteach.TransferConfig(), [*QUICK, "method=self"])
    done = [transfer(student, [], data, tmp_path / "run", config).summary for _ in range(2)]
    assert done[0] == done[1]


def test_a_module_has_no_random_copy():
    assert random_copy(from_module(small.dense(), GREY_8)) is None


def test_modules_of_other_weights_or_code_are_others():
    dense = small.dense()
    same, other = from_module(dense, GREY_8), from_module(small.dense(), GREY_8)
    assert same.fingerprint == from_module(dense, GREY_8, name="b").fingerprint != other.fingerprint
    assert Path(small.__file__).is_file()


def test_the_lines_of_the_readme_say_how_images_are_resized():
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    for changes, says in (
        ({"crop": 0.875}, "resized (bilinear), keeping their shape, to the size / 0.875, and the centre cut out"),
        ({"crop_mode": "squash", "interpolation": "bicubic"}, "resized (bicubic), changing their shape."),
        ({"crop_mode": "border"}, "whole, on the colour of mean."),
    ):
        assert says in from_module(net, replace(GREY_8, **changes)).loading_code()
