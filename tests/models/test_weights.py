"""What stands in files of weights."""

import pytest
import torch
from safetensors.torch import load_file, save_file, save_model
from torch import nn

from crossteach import TransferConfig, load_data, load_model, transfer, with_settings
from crossteach.errors import ModelError, SpecError, WeightsError
from crossteach.models.checkpoints import read_checkpoint
from crossteach.models.extra_state import extra_state
from crossteach.models.weights import fit_weights, shared_names

ZOO = """
import torch
from torch import nn

def dense(num_classes=10):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))

def tied():
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.Linear(64, 10))
    module[3].weight = module[1].weight
    return module

class Scaled(nn.Linear):
    '''Keeps its scale beside its tensors.'''
    scale = 1.0

    def get_extra_state(self):
        return {"scale": self.scale}

    def set_extra_state(self, state):
        self.scale = state["scale"]

    def forward(self, x):
        return super().forward(x) * self.scale

def scaled():
    return nn.Sequential(nn.Flatten(), Scaled(64, 10), nn.Dropout(0.1))

class Odd(Scaled):
    def get_extra_state(self):
        return print

def odd():
    return nn.Sequential(nn.Flatten(), Odd(64, 10))
"""
OPTIONS = "?channels=1&size=8&mean=0&std=1"


@pytest.fixture
def spec(tmp_path):
    (tmp_path / "zoo.py").write_text(ZOO)

    def make(name, file=None, options=""):
        at = f"@{tmp_path / file}" if file else ""
        return f"py:{tmp_path}/zoo.py:{name}{at}{OPTIONS}{'' if file else '&pretrained=false'}{options}"

    return make


def moved(state, by):
    return {name: value + by for name, value in state.items()}


@pytest.fixture
def states(spec, tmp_path):
    """A checkpoint with three state dicts, and what stands in them."""
    plain = dict(load_model(spec("dense")).module.state_dict())
    content = {"state_dict": plain, "state_dict_ema": moved(plain, 1), "epoch": 3, "optimizer": {"state": {}}}
    torch.save({**content, "model": {"state_dict": moved(plain, 2)}}, tmp_path / "three.pt")
    return plain


def test_a_checkpoint_with_several_state_dicts_says_which_is_used(spec, states):
    model = load_model(spec("dense", "three.pt"))
    assert torch.equal(model.module[1].bias, states["1.bias"])
    assert model.notes == (
        "three.pt holds several state dicts: state_dict is used; ?weights= chooses state_dict_ema or model.state_dict",
    )


def test_another_state_dict_is_taken_when_it_is_named(spec, states):
    for key, by in (("state_dict", 0), ("state_dict_ema", 1), ("model.state_dict", 2)):
        model = load_model(spec("dense", "three.pt", f"&weights={key}"))
        assert torch.equal(model.module[1].bias, states["1.bias"] + by)
        assert model.notes == ()
    with pytest.raises(WeightsError, match=r"no state dict 'swa'; .weights= may be state_dict, state_dict_ema, model"):
        load_model(spec("dense", "three.pt", "&weights=swa"))


def test_a_choice_among_one_is_refused(spec, tmp_path, states):
    save_file(states, tmp_path / "one.safetensors")
    torch.save(states, tmp_path / "one.pt")
    for file in ("one.safetensors", "one.pt"):
        with pytest.raises(WeightsError, match="chooses nothing; drop it"):
            load_model(spec("dense", file, "&weights=state_dict"))


def test_a_file_without_a_state_dict_shows_its_keys(spec, tmp_path):
    torch.save({"epoch": 3, "best": 0.5}, tmp_path / "none.pt")
    with pytest.raises(WeightsError, match="not dict with the keys epoch, best"):
        load_model(spec("dense", "none.pt"))


def test_a_file_that_leaves_out_tied_tensors_is_whole(spec, tmp_path):
    model = load_model(spec("tied"))
    assert shared_names(model.module) == [["1.weight", "3.weight"]]
    save_model(model.module, str(tmp_path / "tied.safetensors"))
    assert len(load_file(tmp_path / "tied.safetensors")) == 5
    again = load_model(spec("tied", "tied.safetensors"))
    assert again.fingerprint == model.fingerprint
    assert again.module[1].weight is again.module[3].weight
    again.save(tmp_path / "saved")
    assert load_model(f"run:{tmp_path / 'saved'}").fingerprint == model.fingerprint


def test_tied_tensors_that_differ_in_the_file_are_refused(spec, tmp_path):
    state = {name: value.clone() for name, value in load_model(spec("tied")).module.state_dict().items()}
    state["3.weight"] += 1
    save_file(state, tmp_path / "untied.safetensors")
    with pytest.raises(WeightsError, match=r"differ between 1\.weight and 3\.weight, which are one tensor"):
        load_model(spec("tied", "untied.safetensors"))


def test_what_is_missing_is_still_missing(spec):
    module = load_model(spec("tied")).module
    with pytest.raises(WeightsError, match=r"missing: 1\.weight, 3\.weight"):
        fit_weights(module, {n: v for n, v in module.state_dict().items() if "weight" not in n or "4" in n}, "x")


@pytest.mark.parametrize("whole", [True, False])
def test_extra_state_comes_with_a_model_and_goes_with_its_student(spec, tmp_path, whole):
    module = load_model(spec("scaled")).module
    state = dict(module.state_dict())
    assert not any("extra" in name for name in state)
    torch.save(state | ({"1._extra_state": {"scale": 3.0}} if whole else {}), tmp_path / "scaled.pt")
    model = load_model(spec("scaled", "scaled.pt"))
    assert extra_state(model.module) == {"1._extra_state": {"scale": 3.0 if whole else 1.0}}
    assert any("extra state that the file lacks" in note for note in model.notes) is not whole
    assert extra_state(model.clone().module) == extra_state(model.module)
    assert (model.fingerprint == load_model(spec("scaled")).fingerprint) is not whole
    model.save(tmp_path / "saved")
    again = load_model(f"run:{tmp_path / 'saved'}")
    assert again.fingerprint == model.fingerprint
    assert again.module[1].scale == model.module[1].scale


def test_a_student_with_extra_state_is_taught_and_read_back(spec, tmp_path, monkeypatch):
    data = load_data("sklearn:digits?train_samples=200")
    torch.save({**load_model(spec("scaled")).module.state_dict(), "1._extra_state": {"scale": 3.0}}, tmp_path / "s.pt")
    student, teacher = load_model(spec("scaled", "s.pt")), load_model(spec("dense"))
    config = with_settings(
        TransferConfig(), ["optim.epochs=1", "optim.lr=0.01", "views.count=1", "force=true", "method=kl"]
    )
    done = [transfer(student, [teacher], data, tmp_path / "run", config) for _ in range(2)]
    assert done[0].summary == done[1].summary
    assert done[1].student.module[1].scale == 3.0
    monkeypatch.chdir(tmp_path / "run" / "student")
    monkeypatch.syspath_prepend(tmp_path / "run" / "student")
    scope: dict[str, object] = {}
    exec((tmp_path / "run" / "student" / "README.md").read_text().split("```")[1].removeprefix("python\n"), scope)
    images = torch.rand(4, 1, 8, 8)
    with torch.no_grad():
        assert torch.allclose(scope["logits"](images), done[0].student.logits(images), atol=1e-5)


def test_extra_state_that_is_code_is_refused_in_one_line(spec):
    with pytest.raises(ModelError, match="extra state that cannot be saved as plain values") as told:
        load_model(spec("odd"))
    assert "\n" not in str(told.value)


def test_an_ordered_state_dict_with_extra_state_is_read(tmp_path, spec):
    (tmp_path / "x").mkdir()
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    state = module.state_dict()
    state["2._extra_state"] = {"scale": 2.0}
    torch.save(state, tmp_path / "ordered.pt")
    assert set(read_checkpoint(tmp_path / "ordered.pt")[0]) == {"1.weight", "1.bias", "2._extra_state"}
    with pytest.raises(WeightsError, match=r"left over: 2\._extra_state"):
        load_model(spec("dense", "ordered.pt"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("demo:mixer@nothing.safetensors", "own weights"),
        ("demo:mixer?pretrained=false", "own weights"),
        ("demo:mixer?weights=ema", "one state dict"),
        ("py:{zoo}:dense@w.pt?pretrained=false", "names its weights twice"),
        ("timm:resnet18@w.pt?pretrained=true", "names its weights twice"),
        ("timm:resnet18?checkpoint_path=w.pt", "would read another file; name weights by @FILE"),
        ("timm:resnet18?pretrained=false&pretrained=true", "'pretrained' twice"),
    ],
)
def test_what_a_spec_cannot_use_is_refused(tmp_path, spec, text, says):
    spec("dense")
    with pytest.raises((SpecError, WeightsError), match=says):
        load_model(text.format(zoo=tmp_path / "zoo.py"))
