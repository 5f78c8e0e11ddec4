"""Opening models leaves the rest of the process as it was, and finds what was asked for."""

import subprocess
import sys

import digits
import pytest
import torch

from crossteach import TransferConfig, load_data, load_model, transfer, with_settings
from crossteach.errors import CrossteachError, ModelError
from crossteach.models import random_copy
from crossteach.specs import escape

QUICK = ["optim.epochs=1", "optim.lr=0.01", "views.count=1", "method=kl+dp"]
NAMES = ["a@b", "a?b", "a&b=c", "a:b", "a b", "100%", "%40", "a?size=8", "@", "[1]*"]


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> digits.Digits:
    return digits.make(tmp_path_factory.mktemp("digits"))


def test_opening_a_model_seeds_no_gpu_and_leaves_the_generator_as_it_was(monkeypatch):
    seeded: list[object] = []
    for name in ("manual_seed", "manual_seed_all", "set_rng_state"):
        monkeypatch.setattr(torch.cuda, name, lambda *given: seeded.append(given))
    state = torch.get_rng_state()
    model = load_model("timm:resnet10t?pretrained=false&num_classes=3&size=32")
    random_copy(model)
    load_model("demo:mixer")
    assert not seeded
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", NAMES)
def test_a_run_in_any_folder_is_opened_and_resumed(task, tmp_path, name):
    data, config = load_data(task.data), with_settings(TransferConfig(), QUICK)
    student, teacher = load_model(task.student), load_model(task.teacher)
    done = [transfer(student, [teacher], data, tmp_path / name, config) for _ in range(2)]
    assert done[0].summary == done[1].summary
    opened = load_model(f"run:{escape(tmp_path / name)}")
    state = done[1].student.module.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in opened.module.state_dict().items())


@pytest.mark.parametrize("name", NAMES)
def test_factories_and_weights_in_any_folder_are_found(tmp_path, name):
    (tmp_path / name).mkdir()
    zoo, weights = tmp_path / name / "zoo.py", tmp_path / name / "w.safetensors"
    zoo.write_text(digits.SOURCE.read_text())
    random = load_model(f"py:{escape(zoo)}:dense?channels=1&size=8&pretrained=false")
    random.save(tmp_path / "saved")
    (tmp_path / "saved" / "model.safetensors").rename(weights)
    opened = load_model(f"py:{escape(zoo)}:dense@{escape(weights)}?channels=1&size=8")
    assert opened.fingerprint == random.fingerprint


def test_a_folder_with_an_at_is_not_the_folder_before_it(tmp_path):
    load_model("demo:convnet").save(tmp_path / "exp")
    with pytest.raises(ModelError, match="exp@mlp holds no saved student"):
        load_model(f"run:{tmp_path}/exp@mlp")
    load_model("demo:mlp").save(tmp_path / "exp@mlp")
    assert load_model(f"run:{tmp_path}/exp@mlp").fingerprint == load_model("demo:mlp").fingerprint


def test_a_path_that_was_cut_says_how_it_is_written(tmp_path):
    load_model("demo:mlp").save(tmp_path / "what?")
    for spec in (f"run:{tmp_path}/what?", f"run:{tmp_path}/what?now", f"run:{tmp_path}/what?no=w"):
        with pytest.raises(CrossteachError, match="%3F") as told:
            load_model(spec)
        assert "\n" not in str(told.value)


def test_the_lines_of_a_saved_student_score_as_it_does(task, tmp_path):
    options = "?channels=1&size=8&mean=0.3&std=0.4"
    model = load_model(task.model("convolutional", options))
    model.save(tmp_path)
    code = model.loading_code()
    assert "crossteach" not in code
    check = code + "\nassert not module.training and size == (8, 8) and mean == (0.3,) and std == (0.4,)\n"
    check += "torch.manual_seed(0)\nprint(logits(torch.rand(4, 1, 8, 8)).double().sum().item())\n"
    told = subprocess.run([sys.executable, "-c", check], cwd=tmp_path, capture_output=True, text=True, check=True)
    images = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert float(told.stdout) == pytest.approx(model.logits(images).double().sum().item(), abs=1e-4)
    assert "[N, 1, 8, 8]" in code


def test_a_model_opens_in_eval_mode(task):
    assert not any(part.training for part in load_model(task.student).module.modules())


def test_changed_code_is_read_anew_in_the_same_process(tmp_path):
    text = "from torch import nn\ndef net():\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 3))\n"
    spec = f"py:{tmp_path}/zoo.py:net?channels=1&size=8&pretrained=false"
    for classes in (3, 5):
        (tmp_path / "zoo.py").write_text(text.replace("3)", f"{classes})"))
        assert load_model(spec).n_classes == classes
