"""torchvision's classifiers: built with their own preprocessing, from files, saved and opened again."""

import subprocess
import sys

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from safetensors.torch import save_file

from crossteach import load_data, load_model
from crossteach.data.views import plain_images
from crossteach.errors import ModelError, SpecError
from crossteach.models import random_copy

SMALL = "num_classes=7&size=32"


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "shufflenet_v2_x0_5"])
def test_a_file_of_torchvision_opens_and_a_student_goes_and_comes_back(name, tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(1)  # a random copy is drawn with another seed
        module = torchvision.models.get_model(name, weights=None, num_classes=7).eval()
    save_file(module.state_dict(), tmp_path / "w.safetensors")
    model = load_model(f"torchvision:{name}@{tmp_path / 'w.safetensors'}?{SMALL}")
    assert (model.n_classes, model.family, model.classes) == (7, "convolutional", None)
    images = torch.rand(3, 3, 32, 32)
    mean, std = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        expected = module((images - mean) / std)
        assert torch.allclose(model.logits(images), expected, atol=1e-5)
    model.save(tmp_path / "saved")
    again = load_model(f"run:{tmp_path / 'saved'}")
    assert again.fingerprint == model.fingerprint
    code = f"{model.loading_code()}\nassert logits(torch.zeros(1, 3, 32, 32)).shape == (1, 7)"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path / "saved", check=True)
    copy = random_copy(model)
    assert copy is not None and copy.fingerprint != model.fingerprint


def test_pictures_are_prepared_as_torchvision_prepares_them(tmp_path):
    """Resized, cut and scaled; the largest difference is that of rounding a pixel."""
    rng = np.random.default_rng(0)
    for folder in (tmp_path / part / kind for part in ("train", "test") for kind in ("a", "b")):
        folder.mkdir(parents=True)
        for number in range(8):
            smooth = Image.fromarray(rng.integers(256, size=(9, 12, 3), dtype=np.uint8))
            smooth.resize((400, 300), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    model = load_model("torchvision:resnet50?pretrained=false")
    assert model.preprocess.crop == pytest.approx(224 / 232) and model.preprocess.size == (224, 224)
    split = load_data(f"folder:{tmp_path}").train
    ours = plain_images(split, np.arange(2), model.preprocess)
    transforms = torchvision.models.ResNet50_Weights.IMAGENET1K_V2.transforms()
    mean, std = (torch.tensor(v)[:, None, None] for v in (transforms.mean, transforms.std))
    rows = split.input_rows(np.arange(2))
    for image, row in zip(ours, rows, strict=True):
        theirs = transforms(Image.open(split.inputs.names(np.array([row]))[0]).convert("RGB")) * std + mean
        assert (image - theirs).abs().max() < 1.5 / 255


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        ("torchvision:resnet5", SpecError, "no classifier 'resnet5'; near it: resnet50"),
        ("torchvision:fcn_resnet50", SpecError, "torchvision has no classifier"),
        ("torchvision:resnet50/V9", SpecError, "no weights 'V9' of resnet50; there are IMAGENET1K_V1, IMAGENET1K_V2"),
        ("torchvision:resnet18/IMAGENET1K_V1@w.pt", SpecError, "names its weights twice"),
        ("torchvision:resnet18?pretrained=false&progress=true", SpecError, "has the option 'progress'"),
        ("torchvision:resnet18?pretrained=false&depth=3", ModelError, "torchvision cannot create"),
        ("torchvision:", SpecError, "no classifier ''"),
    ],
)
def test_what_torchvision_does_not_have_is_one_line(text, error, says):
    with pytest.raises(error, match=says) as refused:
        load_model(text)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["inception_v3", "vit_b_32", "swin_t", "squeezenet1_0"])
def test_other_families_answer(name):
    """Fixed sizes, a helper head in train mode, a convolution as head."""
    model = load_model(f"torchvision:{name}?pretrained=false&num_classes=5")
    with torch.no_grad():
        assert model.logits(torch.rand(1, 3, *model.preprocess.size)).shape == (1, 5)


@pytest.mark.parametrize("named", ["inception_v3", "googlenet", "vit_b_16/IMAGENET1K_SWAG_E2E_V1"])
def test_a_student_of_published_weights_answers_the_same_when_it_is_opened_again(named, tmp_path, monkeypatch):
    """What weights set beside tensors is kept. The weights cannot be fetched here: random ones stand for them."""
    name = named.partition("/")[0]
    options = {"image_size": 384} if name.startswith("vit") else {"init_weights": False, "aux_logits": True}
    state = torchvision.models.get_model(name, weights=None, **options).state_dict()
    monkeypatch.setattr(torchvision.models._api.WeightsEnum, "get_state_dict", lambda *_, **__: state)
    model = load_model(f"torchvision:{named}")
    assert model.n_classes == 1000 and model.classes is not None
    model.save(tmp_path / "saved")
    again = load_model(f"run:{tmp_path / 'saved'}")
    images = torch.rand(1, 3, *model.preprocess.size)
    with torch.no_grad():
        assert torch.equal(again.logits(images), model.logits(images))
