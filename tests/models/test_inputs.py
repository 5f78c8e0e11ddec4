"""Models that do not say what images they take."""

import numpy as np
import pytest
import torch
from torch import nn

from crossteach import load_data, load_model
from crossteach.errors import ModelError
from crossteach.models.asking import evaluation_mode
from crossteach.models.inputs import find_inputs
from crossteach.models.scoring import score
from crossteach.types import Preprocess

ZOO = """
import torch
from torch import nn

def dense(pixels=784):
    return nn.Sequential(nn.Flatten(), nn.Linear(pixels, 10))

def pooled(channels=3):
    return nn.Sequential(nn.Conv2d(channels, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))

def any_depth():
    class Mean(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = pooled(1)
        def forward(self, x):
            return self.inner(x.mean(1, keepdim=True))
    return Mean()

def all_convolutional():
    return nn.Sequential(nn.Conv2d(1, 10, 8), nn.Flatten())

def lazy():
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(10))

def half():
    return pooled().half()

def double():
    return pooled().double()
"""


@pytest.fixture
def spec(tmp_path):
    (tmp_path / "zoo.py").write_text(ZOO)
    return lambda name, options="": f"py:{tmp_path}/zoo.py:{name}?pretrained=false{options}"


def data(tmp_path, *shape):
    path, n = tmp_path / "data.npz", shape[0]
    images, labels = np.random.default_rng(0).integers(0, 256, shape, np.uint8), np.arange(n) % 10
    np.savez(
        path, **{f"{kind}_{part}": v for part in ("train", "val", "test") for kind, v in (("x", images), ("y", labels))}
    )
    return load_data(f"npz:{path}?duplicates=keep")


def test_a_model_of_another_size_than_32_opens_without_a_word_on_size(spec, tmp_path):
    splits = data(tmp_path, 40, 28, 28)
    for model in (load_model(spec("dense")), load_model(spec("dense"), like=splits)):
        assert model.n_classes == 10 and model.preprocess.size is None
        assert score(model, torch.rand(3, 1, 28, 28)).shape == (3, 10)
        assert len(model.fingerprint) == 32


def test_the_fingerprint_does_not_depend_on_the_data_that_a_model_is_opened_for(spec, tmp_path):
    for name in ("dense", "pooled"):
        alone, for_data = load_model(spec(name)), load_model(spec(name), like=data(tmp_path, 40, 28, 28))
        assert alone.fingerprint == for_data.fingerprint


def test_a_size_that_only_the_data_know_is_asked_of_them(spec, tmp_path):
    with pytest.raises(ModelError, match=r"any size from 8 to 384.*\?channels= and \?size="):
        load_model(spec("dense", "&pixels=1147"))
    splits = data(tmp_path, 40, 37, 31)
    assert load_model(spec("dense", "&pixels=1147"), like=splits).n_classes == 10


def test_classes_are_counted_on_the_datas_own_size(spec, tmp_path):
    assert load_model(spec("all_convolutional"), like=data(tmp_path, 40, 8, 8)).n_classes == 10


def test_a_size_that_does_not_fit_the_data_is_refused_with_the_one_that_fits(spec, tmp_path):
    with pytest.raises(
        ModelError, match=r"data's images of \[1, 20, 20\].*it takes \[1, 28, 28\]: give \?size=28"
    ) as told:
        load_model(spec("dense"), like=data(tmp_path, 40, 20, 20))
    assert "\n" not in str(told.value)
    model = load_model(spec("dense", "&size=28"), like=data(tmp_path, 40, 20, 20))
    assert score(model, torch.rand(2, 1, 20, 20)).shape == (2, 10)


def test_options_that_do_not_fit_are_refused_with_those_that_do(spec):
    with pytest.raises(ModelError, match=r"\[1, 16, 16\].*as \?channels=1&size=28"):
        load_model(spec("dense", "&channels=1&size=16"))
    with pytest.raises(ModelError, match=r"\[3, 64, 64\].*size and img_size together"):
        load_model("timm:vit_tiny_patch16_224?pretrained=false&size=64")


def test_the_img_size_of_a_timm_model_is_the_size_of_its_images():
    model = load_model("timm:vit_tiny_patch16_224?pretrained=false&img_size=64&num_classes=3")
    assert (model.preprocess.size, model.n_classes) == ((64, 64), 3)


def test_channels_come_from_the_model(spec, tmp_path):
    model = load_model(spec("pooled"))
    assert model.preprocess.channels == 3
    assert any("takes 3 channels and no others" in note for note in model.notes)
    splits = data(tmp_path, 40, 12, 12)
    model = load_model(spec("pooled"), like=splits)
    assert score(model, splits.test.inputs.read(np.arange(4), None, None)).shape == (4, 10)
    assert len(model.fingerprint) == 32


def test_a_model_that_takes_grey_and_colour_gets_the_datas_own_channels(spec):
    assert load_model(spec("any_depth")).preprocess.channels is None


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("", "says nothing of its mean and std"),
        ("&channels=3", "says nothing of its mean and std"),
        ("&channels=3&size=32", "says nothing of its mean and std"),
        ("&mean=0.5", "says nothing of its std"),
        ("&std=0.5", "says nothing of its mean:"),
        ("&mean=0.5&std=0.5", None),
    ],
)
def test_some_options_do_not_silence_what_is_not_said(spec, options, says):
    notes = [note for note in load_model(spec("pooled", options)).notes if "says nothing" in note]
    assert says in notes[0] if says else not notes


def test_a_module_in_another_precision_is_cast_and_that_is_said(spec, tmp_path):
    for name, kind in (("half", "float16"), ("double", "float64")):
        model = load_model(spec(name))
        assert {p.dtype for p in model.module.parameters()} == {torch.float32}
        assert any(f"built in torch.{kind}: it is cast to torch.float32" in note for note in model.notes)
        model.save(tmp_path / name)
        assert load_model(f"run:{tmp_path / name}").fingerprint == model.fingerprint
        assert "module.float()" in model.loading_code()


def test_float32_weights_lose_nothing_in_a_module_built_in_half(spec, tmp_path):
    from safetensors.torch import load_file, save_file

    full = load_model(spec("pooled")).module.state_dict()
    save_file(full, tmp_path / "full.safetensors")
    model = load_model(spec("half").replace("?pretrained=false", f"@{tmp_path}/full.safetensors"))
    assert all(
        torch.equal(v, load_file(tmp_path / "full.safetensors")[k]) for k, v in model.module.state_dict().items()
    )


def test_lazy_layers_are_built_by_the_data_or_by_weights_or_refused_in_one_line(spec, tmp_path):
    with pytest.raises(ModelError, match=r"has lazy layers.*\?size= and \?channels="):
        load_model(spec("lazy"))
    splits = data(tmp_path, 40, 20, 20)
    assert load_model(spec("lazy"), like=splits).n_parameters == 400 * 10 + 10
    built = load_model(spec("lazy", "&channels=1&size=28"))
    assert built.n_parameters == 784 * 10 + 10
    torch.save(built.module.state_dict(), tmp_path / "lazy.pt")
    again = load_model(spec("lazy").replace("?pretrained=false", f"@{tmp_path}/lazy.pt"))
    assert torch.equal(again.module[1].weight, built.module[1].weight)
    again.save(tmp_path / "saved")
    assert load_model(f"run:{tmp_path / 'saved'}").fingerprint == again.fingerprint


class Counting(nn.Module):
    """Counts its calls in a buffer, replaces another, and keeps a part in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))
        self.register_buffer("last", torch.zeros(1), persistent=False)
        self.linear = nn.Linear(64, 3)
        self.norm = nn.BatchNorm1d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.last = x.sum()[None] + 1
        return self.norm(self.linear(x.flatten(1)))


def test_looking_for_inputs_leaves_modes_and_buffers_as_they_were():
    module = Counting().train()
    module.linear.eval()
    buffers = {name: (value, value.clone()) for name, value in module.named_buffers()}
    assert find_inputs(module, Preprocess(), "counting").n_classes == 3
    assert [module.training, module.linear.training, module.norm.training] == [True, False, True]
    for name, value in module.named_buffers():
        assert value is buffers[name][0] and torch.equal(value, buffers[name][1])


def test_modes_come_back_after_an_error():
    module = nn.Dropout().train()
    with pytest.raises(ZeroDivisionError), evaluation_mode(module):
        print(module.training / 0)
    assert module.training
