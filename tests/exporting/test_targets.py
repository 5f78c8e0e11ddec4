"""What an export is for: a stranger's process, without crossteach, runs the README's lines and gets the same logits."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from exports import RESNET, VIT, ask_alone
from PIL import Image

import crossteach
from crossteach import export_run
from crossteach.data.pixels import prepare
from crossteach.data.pool import read_pool

NORMALISED = "?channels=1&size=8&mean=0.3&std=0.4"


def opened(run: Path) -> crossteach.TrainableClassifier:
    return crossteach.load_model(f"run:{run}", trust=True)


def random_images(student: crossteach.TrainableClassifier, count: int = 5) -> torch.Tensor:
    shape = student.fixed_inputs().shape[1:]
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(3))


def picture(folder: Path) -> Path:
    """Draw a colour picture that is no square, in a folder of its own."""
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (6, 9, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((90, 60)).save(folder / "picture.png")
    return folder


@torch.no_grad()
def seen_by_crossteach(student: crossteach.TrainableClassifier, folder: Path) -> tuple[int, float]:
    """Return class and confidence of the picture, as crossteach reads and prepares it."""
    inputs = read_pool(f"folder:{folder}", 3).split.inputs
    probs = student.logits(inputs.evaluation(np.arange(1), student.preprocess)).softmax(1)[0]
    return int(probs.argmax()), float(probs.max())


@pytest.mark.parametrize(
    ("to", "spec", "ask"),
    [
        ("timm", RESNET, "model(images)"),
        ("timm", VIT, "model(images)"),
        ("hf", VIT, "model(pixel_values=images).logits"),
    ],
    ids=["timm-grey-resnet", "timm-vit", "hf-vit"],
)
def test_timm_and_transformers_open_it_with_the_same_logits_and_see_pictures_alike(teach, tmp_path, to, spec, ask):
    run, folder = teach(spec), tmp_path / "export"
    made = export_run(run, to, folder)
    student, pictures = opened(run), picture(tmp_path / "pictures")
    (folder / "picture.png").write_bytes((pictures / "picture.png").read_bytes())
    images = random_images(student)
    with torch.no_grad():
        expected = student.logits(images)
    answered, printed = ask_alone(folder, prepare(images, student.preprocess), ask)
    assert torch.equal(answered, expected)
    assert expected.std() > 0.01, "logits that say nothing cannot differ"
    name, confidence = printed.split()
    wanted, sure = seen_by_crossteach(student, pictures)
    assert name == str(wanted) and float(confidence) == pytest.approx(sure, abs=2e-3 if spec == RESNET else 1e-5)
    assert made["checked"] == {"fixed_inputs": 8, "largest_difference": 0.0, "samples": 0}


def test_the_description_for_timm_is_the_students_own(teach, tmp_path):
    export_run(teach(VIT), "timm", tmp_path / "export")
    config = json.loads((tmp_path / "export" / "config.json").read_text())
    described = config["pretrained_cfg"]
    assert config["architecture"] == "test_vit" and config["label_names"] == [str(n) for n in range(10)]
    assert described["mean"] == [0.4, 0.5, 0.6] and described["std"] == [0.3] * 3
    assert described["input_size"] == [3, 32, 32] and "license" not in described and "tag" not in described


def test_torch_opens_a_program_with_the_normalisation_inside_and_the_weights_alone(teach, task, tmp_path):
    run, folder = teach(task.model("convolutional", NORMALISED)), tmp_path / "export"
    made = export_run(run, "torch", folder, data=task.data, trust=True)
    assert made["checked"]["samples"] == 128
    student = opened(run)
    images = random_images(student)
    with torch.no_grad():
        expected = student.logits(images)
    ask = "torch.stack([model(images), torch.cat([model(x[None]) for x in images]), logits(images)])"
    answered, _ = ask_alone(folder, images, ask)
    for each in answered:
        torch.testing.assert_close(each, expected, rtol=0, atol=1e-5)
    assert crossteach.load_model(f"run:{folder}", trust=True).fingerprint == student.fingerprint


def test_onnxruntime_opens_a_file_with_the_normalisation_inside(teach, task, tmp_path):
    import onnx

    run, folder = teach(task.model("convolutional", NORMALISED)), tmp_path / "export"
    made = export_run(run, "onnx", folder, data=task.data, trust=True)
    assert 0 < made["checked"]["largest_difference"] < 1e-4
    student = opened(run)
    images = random_images(student)
    with torch.no_grad():
        expected = student.logits(images)
    asked = "torch.from_numpy(session.run(None, {'images': images.numpy()})[0])"
    answered, printed = ask_alone(folder, images, asked)
    torch.testing.assert_close(answered, expected, rtol=0, atol=1e-4)
    assert printed.strip() in {str(n) for n in range(10)}
    model = onnx.load(folder / "model.onnx")
    assert [each.version for each in model.opset_import if not each.domain] == [18]
    kept = {each.key: json.loads(each.value) for each in model.metadata_props}
    assert kept["classes"] == [str(n) for n in range(10)] and kept["preprocess"]["size"] == [8, 8]


@pytest.mark.parametrize("to", ["torch", "onnx"])
@pytest.mark.parametrize("spec", [VIT, "torchvision:squeezenet1_1?pretrained=false&num_classes=10&size=32"])
def test_torch_and_onnx_take_models_of_every_source(teach, task, tmp_path, to, spec):
    made = export_run(teach(spec), to, tmp_path / "export", data=task.data)
    assert made["checked"]["samples"] == 128 and made["checked"]["largest_difference"] < 1e-4
    assert made["input"] == [3, 32, 32]
