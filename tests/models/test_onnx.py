"""ONNX files: real exports answer as torch does, and what a graph takes and gives is found out, said or asked for."""

import builtins

import box_files
import numpy as np
import onnx
import pytest
import timm
import torch
from onnx import TensorProto, helper, numpy_helper

from crossteach import from_arrays, load_data, load_model
from crossteach.errors import MissingExtraError, ModelError, SpecError, WeightsError
from crossteach.models.scoring import batch_rows, score

WEIGHT = np.random.default_rng(0).normal(size=(48, 5))
"""Of graphs that look at 4x4 colour images."""


def by_hand(images: torch.Tensor) -> torch.Tensor:
    """What the graphs of `WEIGHT` answer to images whose numbers lie as they are flattened."""
    return images.flatten(1) @ torch.from_numpy(WEIGHT).float()


def graph(tmp_path, given=("n", 3, 4, 4), **more):
    return box_files.linear_graph(tmp_path / "linear.onnx", WEIGHT, given, **more)


@pytest.mark.parametrize("batch", [None, 1, 3])
@pytest.mark.parametrize("name", ["test_vit", "test_resnet"])
def test_an_exported_timm_model_answers_as_torch_does(tmp_path, name, batch):
    module = timm.create_model(name, pretrained=False, num_classes=7).eval()
    spec = box_files.to_onnx(module, tmp_path / "net.onnx", (3, 160, 160), batch)
    model, images = load_model(f"{spec}?mean=0.5&std=0.25"), torch.rand(5, 3, 160, 160)
    assert (model.n_classes, model.preprocess.size, model.preprocess.channels) == (7, (160, 160), 3)
    assert (model.batch, model.outputs, model.name) == (batch, "logits", "net")
    assert 0.9 < model.n_parameters / sum(p.numel() for p in module.parameters()) < 1.1
    assert batch_rows(model, images) == (batch or 32)
    with torch.no_grad():
        expected = module((images - 0.5) / 0.25)
    torch.testing.assert_close(score(model, images), expected, atol=1e-4, rtol=1e-4)
    assert torch.equal(score(model, images), score(model, images))


def test_an_exported_demo_model_scores_what_it_scores_in_torch(tmp_path):
    data, own = load_data("glyphs"), load_model("demo:convnet")
    mean, std = (",".join(map(str, values)) for values in (own.preprocess.mean, own.preprocess.std))
    spec = box_files.to_onnx(own.module, tmp_path / "convnet.onnx", (1, *own.preprocess.size))
    model = load_model(f"{spec}?mean={mean}&std={std}", like=data)
    images = data.test.inputs.read(np.arange(64), None, None)
    torch.testing.assert_close(score(model, images), score(own, images), atol=1e-4, rtol=1e-4)
    assert model.notes == ()
    assert model.fingerprint == load_model(f"{spec}?mean={mean}&std={std}").fingerprint
    assert model.fingerprint != load_model(spec).fingerprint


def test_bytes_with_channels_last_and_a_softmax(tmp_path):
    spec = graph(tmp_path, ("n", 4, 4, 3), type=TensorProto.UINT8, ends=["Softmax"])
    model, images = load_model(spec), torch.rand(6, 3, 4, 4)
    asked = (images * 255).round().permute(0, 2, 3, 1)
    expected = by_hand(asked).log_softmax(1).clamp(min=np.log(1e-30))
    torch.testing.assert_close(model.logits(images), expected, atol=1e-3, rtol=1e-4)
    assert (model.preprocess.size, model.preprocess.channels, model.outputs) == ((4, 4), 3, "probabilities")
    said = " ".join(model.notes)
    assert "nhwc" in said and "uint8" in said and "Softmax" in said and "not normalised" in said
    with pytest.raises(SpecError, match=r"takes whole numbers from 0 to 255 \(uint8\), so mean= means nothing"):
        load_model(f"{spec}?mean=0.5")


@pytest.mark.parametrize("type", [TensorProto.FLOAT16, TensorProto.DOUBLE])
def test_other_floats_are_given_as_the_graph_wants_them(tmp_path, type):
    model, images = load_model(graph(tmp_path, type=type)), torch.rand(3, 3, 4, 4)
    torch.testing.assert_close(model.logits(images), by_hand(images), atol=5e-3, rtol=5e-3)


def test_a_size_that_is_not_declared_is_the_datas_own(tmp_path):
    module = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    model = load_model(box_files.to_onnx(module, tmp_path / "net.onnx", (1, 9, 9), any_size=True))
    assert model.preprocess.size is None and model.preprocess.channels == 1 and model.n_classes == 4
    images = torch.rand(3, 1, 13, 8)
    torch.testing.assert_close(model.logits(images), module(images).detach(), atol=1e-5, rtol=1e-4)
    assert "at the data's own size" in model.notes[-1]


def test_a_layout_that_no_shape_shows_is_found_by_asking_or_asked_for(tmp_path):
    spec = graph(tmp_path, ("n", None, None, None))  # both layouts flatten to the same 48 numbers
    with pytest.raises(ModelError, match=r"with channels first and last; give layout=nchw or layout=nhwc"):
        load_model(f"{spec}?size=4")
    images = torch.rand(2, 3, 4, 4)
    for layout, seen in (("nchw", images), ("nhwc", images.permute(0, 2, 3, 1))):
        model = load_model(f"{spec}?size=4&channels=3&layout={layout}")
        torch.testing.assert_close(model.logits(images), by_hand(seen), atol=1e-5, rtol=1e-4)
    conv = helper.make_node("Conv", ["pixels", "kernel"], ["places"])
    nodes = [conv, helper.make_node("GlobalAveragePool", ["places"], ["scores"])]
    kernel = numpy_helper.from_array(np.random.default_rng(1).normal(size=(5, 3, 2, 2)).astype(np.float32), "kernel")
    given = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [None] * 4)
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, [None, 5, 1, 1])
    made = helper.make_graph(nodes, "conv", [given], [scores], [kernel])
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "c.onnx")
    found = load_model(f"onnx:{tmp_path / 'c.onnx'}?size=6")
    assert found.notes[0] == "c takes channels before height and width (nchw), found by asking"
    assert (found.preprocess.channels, found.logits(torch.rand(2, 3, 6, 6)).shape) == (3, (2, 5))


def test_probabilities_without_a_softmax_at_the_end_are_told_by_asking(tmp_path):
    soft = np.abs(WEIGHT) / np.abs(WEIGHT).sum(1, keepdims=True) / 48
    spec = box_files.linear_graph(tmp_path / "l.onnx", soft, ("n", 3, 4, 4), ends=["Softmax", "Relu"])
    model, images = load_model(spec), torch.rand(3, 3, 4, 4)
    assert model.outputs == "probabilities" and any("sum to 1" in note for note in model.notes)
    expected = (images.flatten(1) @ torch.from_numpy(soft).float()).log_softmax(1)
    torch.testing.assert_close(model.logits(images), expected, atol=1e-5, rtol=1e-4)
    taken = load_model(f"{spec}?outputs=logits")
    torch.testing.assert_close(taken.logits(images), expected.exp(), atol=1e-5, rtol=1e-4)
    assert taken.fingerprint != model.fingerprint


def test_a_sigmoid_is_asked_about(tmp_path):
    spec = graph(tmp_path, ends=["Sigmoid"])
    with pytest.raises(ModelError, match=r"between 0 and 1 and do not sum to 1 \(a sigmoid\?\): give outputs="):
        load_model(spec)
    images = torch.rand(3, 3, 4, 4)
    shares = load_model(f"{spec}?outputs=probabilities").logits(images).softmax(1)
    expected = by_hand(images).sigmoid()
    torch.testing.assert_close(shares, expected / expected.sum(1, keepdim=True), atol=1e-5, rtol=1e-4)
    with pytest.raises(ModelError, match=r"which is no probability; give outputs=logits"):
        load_model(f"{graph(tmp_path)}?outputs=probabilities")


def test_one_of_several_outputs_is_chosen_by_shape_or_by_name(tmp_path):
    two = {"scores": ["n", 5], "flat": ["n", 48]}
    spec = graph(tmp_path, ends=["Softmax"], outputs={**two, "product": ["n", 5]})
    with pytest.raises(ModelError, match=r"several outputs that may score classes; give output=NAME, one of scores"):
        load_model(spec)
    images = torch.rand(2, 3, 4, 4)
    torch.testing.assert_close(load_model(f"{spec}?output=product").logits(images), by_hand(images))
    logits = load_model(f"{spec}?output=scores").logits(images)
    torch.testing.assert_close(logits, by_hand(images).log_softmax(1), atol=1e-5, rtol=1e-4)
    with pytest.raises(SpecError, match=r"must name one of its outputs \(scores .*\), not 'top'"):
        load_model(f"{spec}?output=top")
    spec = graph(tmp_path, outputs=two)
    with pytest.raises(ModelError, match="several outputs"):
        load_model(spec)
    arrays = np.random.default_rng(0).integers(0, 255, (20, 4, 4, 3), np.uint8), np.arange(20) % 5
    data = from_arrays(arrays, (255 - arrays[0], arrays[1]), classes=list("abcde"))
    model = load_model(spec, like=data)
    assert model.n_classes == 5 and "its output scores is read, not flat" in model.notes[0]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ('["a", "b", "c", "d", "e"]', "abcde"),
        ("{0: 'a', 1: 'b', 2: 'c', 10: 'e', 3: 'd'}", "abcde"),
        ("a, b,c ,d,e", "abcde"),
        ("a\nb\nc\nd\ne\n", "abcde"),
        ('["a", "b"]', None),
        ("__import__('os')", None),
        ("[" * 5000, None),
    ],
)
def test_class_names_are_read_from_metadata(tmp_path, text, names):
    model = load_model(graph(tmp_path, metadata={"names": text}))
    assert model.classes == (None if names is None else tuple(names))
    assert any("not used" in note for note in model.notes) == (names is None)


def test_a_graph_that_only_says_it_takes_any_number_is_asked_one_by_one(tmp_path):
    shape = numpy_helper.from_array(np.array([1, 48], np.int64), "shape")
    nodes = [helper.make_node("Reshape", ["pixels", "shape"], ["flat"])]
    nodes += [helper.make_node("MatMul", ["flat", "weight"], ["scores"])]
    given = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 3, 4, 4])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 5])
    weights = [shape, numpy_helper.from_array(WEIGHT.astype(np.float32), "weight")]
    made = helper.make_graph(nodes, "one", [given], [scores], weights)
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "1.onnx")
    model, images = load_model(f"onnx:{tmp_path / '1.onnx'}"), torch.rand(5, 3, 4, 4)
    assert model.batch == 1 and "1 takes 1 image at once, and no others" in model.notes
    torch.testing.assert_close(score(model, images), by_hand(images), atol=1e-5, rtol=1e-4)


def external(tmp_path, location):
    spec = graph(tmp_path)
    model = onnx.load(tmp_path / "linear.onnx")
    onnx.save(model, tmp_path / "linear.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    model = onnx.load(tmp_path / "linear.onnx", load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = location
    (tmp_path / "linear.onnx").write_bytes(model.SerializeToString())
    return spec


def test_weights_beside_the_model_are_read_and_part_of_its_fingerprint(tmp_path):
    spec = external(tmp_path, "weights.bin")
    model, images = load_model(spec), torch.rand(2, 3, 4, 4)
    torch.testing.assert_close(model.logits(images), by_hand(images))
    content = bytearray((tmp_path / "weights.bin").read_bytes())
    content[0] ^= 1  # the least bit of one number: no answer shows it
    (tmp_path / "weights.bin").write_bytes(content)
    assert load_model(spec).fingerprint != model.fingerprint


@pytest.mark.parametrize("location", ["../weights.bin", "/etc/passwd", "sub/weights.bin", ".."])
def test_weights_elsewhere_are_refused(tmp_path, location):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "weights.bin").write_bytes(WEIGHT.astype(np.float32).tobytes())
    with pytest.raises(WeightsError, match=r"expected the name of a file beside it|which is not beside it"):
        load_model(external(tmp_path, location))


def test_it_computes_with_as_many_threads_as_torch_has(tmp_path):
    model, images = load_model(graph(tmp_path)), torch.rand(2, 3, 4, 4)
    opened = model.ask.session.current
    assert model.ask.session.current is opened
    torch.set_num_threads(2)
    try:
        assert model.ask.session.current.get_session_options().intra_op_num_threads == 2
        torch.testing.assert_close(model.logits(images), by_hand(images), atol=1e-5, rtol=1e-4)
    finally:
        torch.set_num_threads(1)


def test_what_is_wrong_is_said_in_one_line(tmp_path):
    (tmp_path / "no.onnx").write_bytes(b"hello")
    flat = box_files.linear_graph(tmp_path / "flat.onnx", WEIGHT, ("n", 48))
    four = box_files.linear_graph(tmp_path / "four.onnx", np.ones((64, 5)), ("n", 4, 4, 4))
    wrong = {
        "onnx:missing.onnx": (WeightsError, "no file missing.onnx"),
        f"onnx:{tmp_path / 'no.onnx'}": (WeightsError, "is not a whole ONNX file"),
        flat: (ModelError, r"must have one input of four axes.*its inputs: pixels \[n, 48\] tensor\(float\)"),
        four: (ModelError, r"takes images \[n, 4, 4, 4\]; expected 1 or 3 channels"),
        f"{graph(tmp_path)}?layout=nhwc": (ModelError, "4 channels, not 1 or 3"),
        f"{graph(tmp_path)}?layout=hwc": (SpecError, "must be nchw or nhwc, not 'hwc'"),
        f"{graph(tmp_path)}?outputs=odds": (SpecError, "must be logits or probabilities, not 'odds'"),
        f"{graph(tmp_path)}?batch=0": (SpecError, "must be 1 or more"),
        f"{graph(tmp_path)}?size=8": (ModelError, r"does not accept an image of \[3, 8, 8\].*layout= and batch="),
        f"{graph(tmp_path)}?num_classes=8": (SpecError, "which onnx: does not know"),
    }
    for spec, (error, says) in wrong.items():
        with pytest.raises(error, match=says) as refused:
            load_model(spec)
        assert "\n" not in str(refused.value)


def test_text_that_is_none_is_refused_without_noise(tmp_path, capfd):
    path = tmp_path / "linear.onnx"
    for word in (b"someword", b"pixels", b"Flatten"):
        spec = graph(tmp_path, metadata={"names": "someword"})
        path.write_bytes(path.read_bytes().replace(word, b"\xff" + word[1:]))
        with pytest.raises(WeightsError, match=r"no UTF-8 text|onnxruntime cannot open"):
            load_model(spec)
    assert capfd.readouterr() == ("", "")


def test_an_operator_of_its_own_is_refused(tmp_path):
    graph(tmp_path)
    model = onnx.load(tmp_path / "linear.onnx")
    model.graph.node[-1].domain, model.graph.node[-1].op_type = "someone.else", "Run"
    model.opset_import.append(helper.make_opsetid("someone.else", 1))
    (tmp_path / "linear.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(WeightsError, match=r"onnxruntime cannot open .*someone\.else"):
        load_model(f"onnx:{tmp_path / 'linear.onnx'}")


def test_a_missing_extra_is_one_line(tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **named):
        if name == "onnxruntime":
            raise ImportError(name)
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r"needs onnx and onnxruntime; pip install 'crossteach\[onnx\]'$"):
        load_model(graph(tmp_path))
