import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from crossteach import load_model
from crossteach.errors import CrossteachError, ModelError, SpecError, WeightsError
from crossteach.models.layers import family_of
from crossteach.models.scoring import score

FACTORIES = """
import torch
from torch import nn

def dense(num_classes=10, width=8):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, num_classes))

def described(num_classes=3):
    module = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, num_classes))
    module.pretrained_cfg = {"input_size": (3, 16, 16), "mean": (0.1, 0.2, 0.3), "std": (1, 2, 4), "crop_pct": 0.875}
    module.classes = ["ant", "bee", "cat"]
    return module

def features(num_classes=3):
    return nn.AdaptiveAvgPool2d(2)

def number(num_classes=3):
    return 3

class Dense(nn.Sequential):
    def __init__(self, width=8):
        super().__init__(*dense(width=width))

net = dense()
"""
OPTIONS = "?channels=1&size=8"


@pytest.fixture
def zoo(tmp_path):
    (tmp_path / "zoo.py").write_text(FACTORIES)
    model = load_model(f"py:{tmp_path}/zoo.py:dense{OPTIONS}&pretrained=false")
    save_file(model.module.state_dict(), tmp_path / "dense.safetensors")
    torch.save({"state_dict": model.module.state_dict()}, tmp_path / "dense.pt")
    return tmp_path


def test_a_python_factory_gets_its_weights_and_arguments(zoo):
    model = load_model(f"py:{zoo}/zoo.py:dense@{zoo}/dense.safetensors{OPTIONS}")
    kept = load_file(zoo / "dense.safetensors")
    assert all(torch.equal(value, kept[name]) for name, value in model.module.state_dict().items())
    assert (model.n_classes, model.n_parameters, model.family) == (10, 64 * 8 + 8 + 8 * 10 + 10, "mlp")
    assert load_model(f"py:{zoo}/zoo.py:dense@{zoo}/dense.pt{OPTIONS}").fingerprint != ""
    random = f"py:{zoo}/zoo.py:dense{OPTIONS}&pretrained=false"
    assert load_model(random).fingerprint == load_model(random).fingerprint
    wide = load_model(f"py:{zoo}/zoo.py:dense{OPTIONS}&width=5&pretrained=false")
    assert wide.module[1].out_features == 5


def test_a_function_a_class_and_a_module_are_the_same_model(zoo, tmp_path):
    files = f"@{zoo}/dense.safetensors{OPTIONS}"
    made = {name: load_model(f"py:{zoo}/zoo.py:{name}{files}") for name in ("dense", "Dense", "net")}
    images = torch.rand(3, 1, 8, 8)
    for name, model in made.items():
        assert torch.equal(score(model, images), score(made["dense"], images))
        model.save(tmp_path / name)
        again = load_model(f"run:{tmp_path / name}")
        assert again.fingerprint == model.fingerprint and torch.equal(score(again, images), score(model, images))
    ran = subprocess.run(
        [sys.executable, "-c", f"{made['net'].loading_code()}\nprint(logits(torch.zeros(1, 1, 8, 8)).shape)"],
        cwd=tmp_path / "net",
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stdout == "torch.Size([1, 10])\n", ran.stderr


def test_a_module_has_its_own_weights_and_is_never_written_to(zoo):
    spec = f"py:{zoo}/zoo.py:net{OPTIONS}"
    model, twin = load_model(spec), load_model(spec)
    assert any("its weights are those that" in note and "zoo.py gives it" in note for note in model.notes)
    before = [value.clone() for value in twin.module.state_dict().values()]
    with torch.no_grad():
        for value in model.module.parameters():
            value.add_(1)
    load_model(f"py:{zoo}/zoo.py:net@{zoo}/dense.safetensors{OPTIONS}")
    after = [list(each.module.state_dict().values()) for each in (twin, load_model(spec))]
    assert all(torch.equal(a, b) for values in after for a, b in zip(values, before, strict=True))
    assert model.module[1].weight.data_ptr() != twin.module[1].weight.data_ptr()
    with pytest.raises(SpecError, match="is a module and takes no options; drop width"):
        load_model(f"{spec}&width=3")


def test_a_module_may_describe_its_input_and_options_win(zoo):
    model = load_model(f"py:{zoo}/zoo.py:described?pretrained=false")
    assert model.preprocess.size == (16, 16)
    assert model.preprocess.crop == 0.875
    assert model.classes == ("ant", "bee", "cat")
    assert model.notes == ()
    other = load_model(f"py:{zoo}/zoo.py:described?pretrained=false&mean=0.5&size=20x24&interpolation=bicubic")
    assert (other.preprocess.mean, other.preprocess.size) == ((0.5,), (20, 24))
    assert other.preprocess.std == (1.0, 2.0, 4.0)


def test_a_model_that_says_nothing_gets_plain_pixels_and_a_note(tmp_path):
    (tmp_path / "plain.py").write_text(
        "from torch import nn\ndef pooled():\n"
        "    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))\n"
    )
    model = load_model(f"py:{tmp_path}/plain.py:pooled?pretrained=false")
    assert "pixels in [0, 1]" in model.notes[0]


def test_normalisation_is_each_models_own(zoo):
    plain = load_model(f"py:{zoo}/zoo.py:dense@{zoo}/dense.safetensors{OPTIONS}")
    scaled = load_model(f"py:{zoo}/zoo.py:dense@{zoo}/dense.safetensors{OPTIONS}&mean=0.5&std=0.25")
    images = torch.rand(5, 1, 8, 8)
    assert torch.allclose(score(scaled, images), score(plain, (images - 0.5) / 0.25))
    colour = images.expand(-1, 3, -1, -1)
    assert torch.allclose(score(plain, colour), score(plain, images), atol=1e-5)
    assert scaled.fingerprint != plain.fingerprint


def test_the_fingerprint_follows_weights_and_code(zoo):
    spec = f"py:{zoo}/zoo.py:dense@{zoo}/dense.safetensors{OPTIONS}"
    model = load_model(spec)
    assert load_model(spec).fingerprint == model.fingerprint
    changed = model.clone()
    with torch.no_grad():
        next(changed.module.parameters())[0, 0] += 1e-6
    assert changed.fingerprint != model.fingerprint


@pytest.mark.parametrize(
    ("name", "small"),
    [
        ("resnet18", "size=32"),
        ("vit_tiny_patch16_224", "size=32&img_size=32"),
        ("mixer_s32_224", "size=64&img_size=64"),
    ],
)
def test_timm_models_open_with_weights_from_a_file(tmp_path, name, small):
    random = load_model(f"timm:{name}?pretrained=false&num_classes=7&{small}")
    path = tmp_path / "w.safetensors"
    save_file({k: v.contiguous() for k, v in random.module.state_dict().items()}, path)
    model = load_model(f"timm:{name}@{path}?num_classes=7&crop=0.9&{small}")
    assert model.n_classes == 7
    assert model.preprocess.crop == 0.9
    assert model.family == {"resnet18": "convolutional", "vit_tiny_patch16_224": "transformer"}.get(name, "mlp")
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(score(model, images), score(random, images))
    with pytest.raises(WeightsError, match=r"another shape: (fc|head)\.weight \[7, \d+\] for \[9, \d+\]"):
        load_model(f"timm:{name}@{path}?num_classes=9&{small}")


def test_timm_reads_grey_models_and_wrong_names():
    assert load_model("timm:resnet18?pretrained=false&in_chans=1&size=32").preprocess.channels == 1
    with pytest.raises(SpecError, match="timm has no model 'resnet1888'"):
        load_model("timm:resnet1888")


def test_a_saved_model_opens_again(zoo, tmp_path):
    model = load_model(f"py:{zoo}/zoo.py:dense@{zoo}/dense.safetensors{OPTIONS}&mean=0.3")
    model.save(tmp_path / "saved")
    again = load_model(f"run:{tmp_path / 'saved'}")
    assert again.fingerprint == model.fingerprint
    assert again.preprocess == model.preprocess


def test_families():
    assert family_of(nn.Sequential(nn.Conv2d(3, 8, 16, stride=16), nn.Flatten(), nn.Linear(8, 2))) == "mlp"
    assert family_of(nn.Conv2d(3, 8, 3)) == "convolutional"
    assert family_of(nn.TransformerEncoderLayer(8, 2)) == "transformer"
    assert family_of(nn.Flatten()) == "other"


class Evil:
    def __reduce__(self):
        return (print, ("owned",))


def break_file(zoo, how):
    path = zoo / "broken.safetensors"
    weights = load_file(zoo / "dense.safetensors")
    name = next(iter(weights))
    match how:
        case "truncated":
            path.write_bytes((zoo / "dense.safetensors").read_bytes()[:100])
        case "nan":
            weights[name][0] = np.nan
        case "missing tensor":
            del weights[name]
        case "left over":
            weights["extra"] = torch.zeros(2)
        case "another shape":
            weights[name] = torch.zeros(2, 2)
    if how != "truncated":
        save_file(weights, path)
    return path


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("truncated", "not a whole safetensors file"),
        ("nan", "NaN or infinite numbers in 1 tensors"),
        ("missing tensor", "missing: "),
        ("left over", "left over: extra"),
        ("another shape", r"another shape: .* \[2, 2\] for"),
    ],
)
def test_broken_weights_are_named(zoo, how, says):
    with pytest.raises(WeightsError, match=says):
        load_model(f"py:{zoo}/zoo.py:dense@{break_file(zoo, how)}{OPTIONS}")


def test_a_pickle_with_code_is_refused_and_does_not_run(zoo, capsys):
    torch.save({"state_dict": Evil()}, zoo / "evil.pt")
    with pytest.raises(WeightsError, match="could run code"):
        load_model(f"py:{zoo}/zoo.py:dense@{zoo}/evil.pt{OPTIONS}")
    assert "owned" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("spec", "error", "says"),
    [
        ("magic:wand", SpecError, "unknown model"),
        ("py:{zoo}/zoo.py:dense?channels=1&size=8", SpecError, "names no weights"),
        ("py:{zoo}/zoo.py:dense@{zoo}/none.safetensors?channels=1&size=8", WeightsError, "no weights file"),
        ("py:{zoo}/none.py:dense?pretrained=false", SpecError, "cannot be read"),
        ("py:no.such.module:dense?pretrained=false", SpecError, "cannot be imported"),
        ("py:{zoo}/zoo.py:nothing?pretrained=false", SpecError, "has no function 'nothing'"),
        ("py:{zoo}/zoo.py:dense?pretrained=false&depth=3", ModelError, "factory of .* failed"),
        ("py:{zoo}/zoo.py:dense?pretrained=false&channels=3&size=8", ModelError, "does not accept an image"),
        ("py:{zoo}/zoo.py:features?pretrained=false&size=8", ModelError, r"must answer logits \[N, C\]"),
        ("py:{zoo}/zoo.py:number?pretrained=false&size=8", ModelError, "must return a torch module"),
        ("py:{zoo}/zoo.py:described?pretrained=false&std=0", SpecError, "above 0"),
        ("py:{zoo}/zoo.py:described?pretrained=false&mean=dark", SpecError, "must be numbers"),
        ("py:{zoo}/zoo.py:described?pretrained=false&size=big", SpecError, "HEIGHTxWIDTH"),
        ("py:{zoo}/zoo.py:described?pretrained=false&crop=2", SpecError, r"\(0, 1\]"),
        ("py:{zoo}/zoo.py:described?pretrained=false&channels=2", SpecError, "1 or 3"),
        ("py:{zoo}/zoo.py:described?pretrained=maybe", SpecError, "true or false"),
        ("run:{zoo}", ModelError, "no saved student"),
        ("demo:giant", SpecError, "no demo model"),
        ("timm:resnet18?size", SpecError, "KEY=VALUE"),
    ],
)
def test_wrong_specs_are_named(zoo, spec, error, says):
    with pytest.raises(error, match=says) as caught:
        load_model(spec.format(zoo=zoo))
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, CrossteachError)


def write_timm_folder(folder, **changes):
    """Save a model as timm's own script for the hub does."""
    torch.manual_seed(3)
    model = timm.create_model("test_vit", num_classes=3, **changes)
    config = {"architecture": "test_vit", "num_classes": 3, "num_features": model.num_features}
    cfg = {"input_size": [3, 160, 160], "mean": [0.4, 0.4, 0.4], "std": [0.3, 0.3, 0.3], "crop_pct": 0.9}
    folder.mkdir()
    (folder / "config.json").write_text(
        json.dumps({**config, "model_args": changes, "pretrained_cfg": cfg, "label_names": ["a", "b", "c"]})
    )
    save_file(model.state_dict(), folder / "model.safetensors")
    return model


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ({"mean": [[0.4]]}, "TypeError"),
        ({"std": [0.3, 0.0, 0.3]}, "its std is"),
        ({"std": "x"}, "could not convert"),
        ({"input_size": [3, 10**6, 160]}, "its size is"),
        ({"crop_pct": float("nan")}, "its crop is"),
    ],
)
def test_a_folder_of_timm_that_describes_no_input_is_refused_in_one_line(tmp_path, said, says):
    write_timm_folder(tmp_path / "mine")
    path = tmp_path / "mine" / "config.json"
    config = json.loads(path.read_text())
    config["pretrained_cfg"] |= said
    path.write_text(json.dumps(config))
    with pytest.raises(ModelError, match=f"does not say how images are brought to the model .*{says}"):
        load_model(f"timm:local-dir:{tmp_path / 'mine'}")


def test_timm_opens_a_folder_as_its_hub_holds_them_and_the_student_needs_it_no_more(tmp_path):
    theirs = write_timm_folder(tmp_path / "mine", class_token=False, global_pool="avg").eval()
    opened = load_model(f"timm:local-dir:{tmp_path / 'mine'}")
    assert (opened.name, opened.classes) == ("mine", ("a", "b", "c"))
    assert (opened.preprocess.mean, opened.preprocess.crop) == ((0.4,) * 3, 0.9)
    images = torch.rand(2, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(opened.logits(images), theirs((images - 0.4) / 0.3), atol=1e-4, rtol=0)
    opened.save(tmp_path / "run" / "student")
    shutil.rmtree(tmp_path / "mine")
    again = load_model(f"run:{tmp_path / 'run'}")
    assert again.fingerprint == opened.fingerprint


@pytest.mark.parametrize("name", ["local-dir:nowhere", "hf-hub:nobody/nothing", "moon:here"])
def test_what_timm_does_not_find_elsewhere_is_one_line(name):
    with pytest.raises(ModelError, match="timm cannot create") as raised:
        load_model(f"timm:{name}")
    assert "\n" not in str(raised.value)
