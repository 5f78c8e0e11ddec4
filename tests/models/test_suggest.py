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
        ("answers.csv?outputs=logits", "predictions:answers.csv?outputs=logits"),
        ("answers.parquet", "predictions:answers.parquet"),
        ("theirs/answers.npz", "predictions:theirs/answers.npz"),
        ("theirs/net.onnx", "onnx:theirs/net.onnx"),
        ("microsoft/resnet-50?size=64", "hf:microsoft/resnet-50?size=64 or timm:resnet50?size=64"),
        ("google/vit-base-patch16-224", "hf:google/vit-base-patch16-224 or timm:vit_base_patch16_224"),
        ("ORG/my.model", "hf:ORG/my.model"),
        ("timm/resnet50.a1_in1k", "timm:hf-hub:timm/resnet50.a1_in1k"),
        ("hf-hub:timm/resnet50.a1_in1k", "timm:hf-hub:timm/resnet50.a1_in1k"),
        ("local-dir:my-run", "timm:local-dir:my-run"),
        ("laion/CLIP-ViT-B-32-laion2B-s34B-b79K", "clip:hf-hub:laion/CLIP-ViT-B-32-laion2B-s34B-b79K"),
        ("ViT-B-32/openai", "clip:ViT-B-32/openai"),
        ("saved/swin", "hf:saved/swin"),
        ("saved/timm", "timm:local-dir:saved/timm"),
        ("saved/clip", "clip:local-dir:saved/clip"),
    ],
)
def test_what_was_meant_is_said(text, meant, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "zoo.py").write_text("")
    (tmp_path / "my-run").mkdir()
    (tmp_path / "my-run" / "summary.json").write_text("{}")
    for file, content in (
        ("swin/config.json", '{"model_type": "swin"}'),
        ("timm/config.json", '{"architecture": "resnet18"}'),
        ("clip/open_clip_config.json", "{}"),
    ):
        (tmp_path / "saved" / file).parent.mkdir(parents=True)
        (tmp_path / "saved" / file).write_text(content)
    with pytest.raises(SpecError) as refused:
        load_model(text)
    assert str(refused.value) == f"unknown model {text!r}; did you mean {meant}?"


def test_weights_alone_say_what_they_lack_and_nonsense_gets_the_list(tmp_path, monkeypatch):
    """A path that is not there is no name on the hub, if its folder is."""
    with pytest.raises(SpecError, match=r"timm:NAME@w.safetensors, or py:FILE.py:FACTORY@w.safetensors$"):
        load_model("w.safetensors")
    (tmp_path / "models").mkdir()
    monkeypatch.chdir(tmp_path)
    for text in ("models/resnet-50", "qqqqqqqqqqqq", "", ":", "quux:what", "?a=b"):
        with pytest.raises(
            SpecError,
            match="expected one of clip:, demo:, export:, hf:, onnx:, predictions:, py:, run:, timm:, torchscript:, ",
        ):
            load_model(text)


def test_every_name_of_open_clip_is_known_as_one():
    open_clip = pytest.importorskip("open_clip")
    for name, pretrained in open_clip.list_pretrained():
        with pytest.raises(SpecError, match=rf"did you mean clip:{name}/{pretrained}\?$"):
            load_model(f"{name}/{pretrained}")


def test_the_model_that_is_suggested_opens():
    assert load_model("timm:resnet18?pretrained=false&num_classes=10").n_classes == 10
