"""The recipe of the orientation of pages, without its downloads: weights by place, the sense of rotation, the crops."""

from pathlib import Path

import matplotlib
import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import crossteach

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def recipes(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "recipes")


@pytest.fixture
def graph():
    """A convolution without and one with a bias, batch norm, a factor that dropout left, and a matrix."""
    random = np.random.default_rng(0)
    shapes = {
        **{"kernel": (4, 3, 3, 3), "scale": (4,), "shift": (4,), "mean": (4,), "var": (4,)},
        **{"squeeze": (2, 4, 1, 1), "squeeze_bias": (1, 2, 1, 1), "factor": (1,), "matrix": (2, 5), "bias": (5,)},
    }
    given = {name: random.random(shape, np.float32) for name, shape in shapes.items()}
    made = [
        helper.make_node("Conv", ["x", "kernel"], ["conv"], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["conv", "scale", "shift", "mean", "var"], ["norm"]),
        helper.make_node("Relu", ["norm"], ["relu"]),
        helper.make_node("GlobalAveragePool", ["relu"], ["mean_of_all"]),
        helper.make_node("Conv", ["mean_of_all", "squeeze"], ["squeezed"]),
        helper.make_node("Add", ["squeezed", "squeeze_bias"], ["biased"]),
        helper.make_node("Mul", ["biased", "factor"], ["dropped"]),
        helper.make_node("Flatten", ["dropped"], ["flat"]),
        helper.make_node("MatMul", ["flat", "matrix"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["logits"]),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 5])]
    weights = [numpy_helper.from_array(value, name) for name, value in given.items()]
    built = helper.make_graph(made, "small", inputs, outputs, weights)
    return helper.make_model(built, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def small() -> torch.nn.Module:
    nn = torch.nn
    head = (nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 2, 1), nn.Flatten(), nn.Linear(2, 5))
    return nn.Sequential(nn.Conv2d(3, 4, 3, 1, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU(), *head)


def test_weights_that_are_matched_by_place_answer_as_the_graph(graph):
    from page_orientation import weights_in_order
    from weights_by_place import fill

    onnx.checker.check_model(graph)
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    module = fill(small(), weights_in_order(graph.graph))
    with torch.inference_mode():
        torch.testing.assert_close(module(images), torch.from_numpy(session.run(None, {"x": images.numpy()})[0]))
    other = torch.nn.Sequential(*small()[:-1], torch.nn.Linear(2, 6))
    with pytest.raises(SystemExit, match=r"6.weight has the shape \[6, 2\], but .* \[5, 2\]"):
        fill(other, weights_in_order(graph.graph))


def test_a_crop_is_upright_when_pillow_turns_it_by_its_class():
    from page_orientation_data import ANGLES, turned

    upright = Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 6), np.uint8))
    for label, angle in enumerate(ANGLES):
        shown = Image.fromarray(turned(upright, label))
        assert np.array_equal(np.asarray(shown.rotate(int(angle))), np.asarray(upright)), angle


def test_crops_are_those_of_their_part_and_the_pool_has_no_labels(tmp_path, monkeypatch):
    import page_orientation_data as data

    def said(name, out):
        rows = [
            {"text": f"The {word} of {name} {number}", "label": "en", "group": f"{name} {number}"}
            for number in range(200)
            for word in ("window", "folder")
        ]
        return pd.DataFrame([*rows, {"text": "ᚠᚢᚦ ᚱᚲ", "label": "xx", "group": "runes"}])

    monkeypatch.setattr(data, "messages", said)
    monkeypatch.setattr(data, "TEXTS", ("one", "two"))
    monkeypatch.setattr(data, "SAMPLES", {"train": 6, "val": 6, "test": 6, "pool": 9})
    font = (Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf").read_bytes()
    monkeypatch.setattr(data, "read_faces", lambda part, out: [[data.face(font)]])
    strings = data.read_strings(tmp_path)
    sides = {part: set(frame.group) for part, frame in strings.items()}
    assert set.union(*sides.values()) == {f"{name} {number}" for name in ("one", "two") for number in range(200)}
    assert sum(map(len, sides.values())) == 400, "a message stands on one side"
    data.make_data(tmp_path)
    splits = crossteach.load_data(f"npz:{tmp_path}/pages.npz", pools=[f"npz:{tmp_path}/pool.npz"])
    assert splits.classes == data.ANGLES and splits.augmentation == "warp", "a mirror would make a page another one"
    for part in (splits.train, splits.selection, splits.test):
        assert len(part) == 6 and len(set(part.group.tolist())) == 2, "four crops of a page"
    assert splits.pools[0].split.labels is None
    before = [(tmp_path / name).read_bytes() for name in ("pages.npz", "pool.npz")]
    for name in ("pages.npz", "pool.npz"):
        (tmp_path / name).unlink()
    data.make_data(tmp_path)
    with np.load(tmp_path / "pages.npz") as again:
        assert np.ptp(again["x_test"], axis=(1, 2)).min() > 20, "every crop shows something"
    assert before == [(tmp_path / name).read_bytes() for name in ("pages.npz", "pool.npz")]


def test_each_model_learns_from_the_other(tmp_path):
    from published_models import plans

    found = plans(tmp_path, tmp_path, tmp_path)
    for name, other in (("lcnet", "orinet"), ("orinet", "lcnet")):
        student, teacher = found[f"pages-{name}"]["pairs"][0]
        assert f"{name}.safetensors" in student and f"{other}.safetensors" in teacher
