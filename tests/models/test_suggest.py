"""A model spec that is none is answered with the one that was probably meant, and that one works."""

import pytest

from crossteach import load_model
from crossteach.errors import SpecError


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("resnet18", "timm:resnet18"),
        ("resnet18.a1_in1k", "timm:resnet18.a1_in1k"),
        ("ResNet-18?pretrained=false", "timm:resnet18?pretrained=false"),
        ("resnet18@w.pt", "timm:resnet18@w.pt"),
        ("tim:resnet18", "timm:resnet18"),
        ("Demo:convnet", "demo:convnet"),
        ("convnet", "demo:convnet"),
        ("zoo.py:small@small.pt", "py:zoo.py:small@small.pt"),
        ("zoo:small", "py:zoo:small"),
        ("zoo.py", "py:zoo.py:FACTORY"),
        ("my-run", "run:my-run"),
        ("net.onnx?size=8", "onnx:net.onnx?size=8"),
        ("onxx:net.onnx", "onnx:net.onnx"),
        ("net.pt2", "export:net.pt2"),
    ],
)
def test_what_was_meant_is_said(text, meant, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "zoo.py").write_text("")
    (tmp_path / "my-run").mkdir()
    (tmp_path / "my-run" / "summary.json").write_text("{}")
    with pytest.raises(SpecError) as refused:
        load_model(text)
    assert str(refused.value) == f"unknown model {text!r}; did you mean {meant}?"


def test_weights_alone_say_what_they_lack_and_nonsense_gets_the_list():
    with pytest.raises(SpecError, match=r"timm:NAME@w.safetensors, or py:FILE.py:FACTORY@w.safetensors$"):
        load_model("w.safetensors")
    for text in ("qqqqqqqqqqqq", "", ":", "quux:what", "?a=b"):
        with pytest.raises(
            SpecError,
            match="expected one of clip:, demo:, export:, hf:, onnx:, predictions:, py:, run:, timm:, torchscript:, ",
        ):
            load_model(text)


def test_the_model_that_is_suggested_opens():
    assert load_model("timm:resnet18?pretrained=false&num_classes=10").n_classes == 10
