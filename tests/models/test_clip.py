import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import crossteach
from crossteach.config import OptimConfig, TransferConfig
from crossteach.errors import ModelError, SpecError

open_clip = pytest.importorskip("open_clip")

CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 16, "layers": 1, "width": 16, "patch_size": 8, "head_width": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
CLASSES = ("red thing", "green_thing", "blue thing")
PREPROCESS = {"mean": [0.4, 0.5, 0.6], "std": [0.3, 0.3, 0.3]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    model = open_clip.CLIP(**CONFIG)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": CONFIG, "preprocess_cfg": PREPROCESS}))
    return folder


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 240)
    images = rng.random((240, 16, 16, 3)) * 0.4
    images[np.arange(240), :, :, labels] += 0.5
    parts = [(images[i : i + 80], labels[i : i + 80]) for i in (0, 80, 160)]
    return crossteach.from_arrays(*parts, classes=CLASSES)


def test_it_scores_as_open_clip_itself_does(folder, data):
    model = crossteach.load_model(f"clip:local-dir:{folder}", like=data)
    theirs = open_clip.create_model(f"local-dir:{folder}").eval()
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    names = ["red thing", "green thing", "blue thing"]
    prompts = ["a photo of a {}.", "a photo of the {}.", "a bad photo of a {}.", "a close-up photo of a {}."]
    prompts += ["a drawing of a {}.", "a photo of a small {}.", "a photo of a large {}."]
    images = data.test.inputs.read(np.arange(20), None, None)
    mean, std = (torch.tensor(PREPROCESS[key])[:, None, None] for key in ("mean", "std"))
    with torch.no_grad():
        embedded = torch.nn.functional.normalize(theirs.encode_image((images - mean) / std), dim=1)
        rows = []
        for name in names:
            each = theirs.encode_text(tokenizer([p.format(name) for p in prompts]), normalize=True)
            rows.append(torch.nn.functional.normalize(each.mean(0), dim=0))
        wanted = theirs.logit_scale.exp() * embedded @ torch.stack(rows).T
    said = crossteach.predict(model, data.test).logits[:20]
    torch.testing.assert_close(said, wanted, atol=1e-4, rtol=0)
    assert model.classes == data.classes


def test_it_learns_as_a_student_and_its_head_stays(folder, data, tmp_path):
    student = crossteach.load_model(f"clip:local-dir:{folder}?prompts=simple", like=data)
    head = student.module.head.clone()
    config = TransferConfig(method="xe", force=True, optim=OptimConfig(steps=60, lr=0.01))
    result = crossteach.transfer(student, [], data, out=tmp_path / "run", config=config)
    assert result.summary["ungated_transfer_delta"] > 10
    assert torch.equal(result.student.module.head, head)
    again = crossteach.load_model(f"run:{tmp_path / 'run'}", like=data)
    assert again.fingerprint == result.student.fingerprint


def test_published_weights_get_the_activation_that_they_were_trained_with(data, tmp_path, monkeypatch):
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIGS", dict(open_clip.factory._MODEL_CONFIGS))
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIG_PATHS", list(open_clip.factory._MODEL_CONFIG_PATHS))
    (tmp_path / "tiny-clip.json").write_text(json.dumps(CONFIG))
    open_clip.add_model_config(tmp_path / "tiny-clip.json")
    torch.manual_seed(0)
    theirs = open_clip.CLIP(**CONFIG, quick_gelu=True).eval()
    save_file({k: 3 * v.contiguous() for k, v in theirs.state_dict().items()}, tmp_path / "tiny.safetensors")
    tag = {"file": str(tmp_path / "tiny.safetensors"), "quick_gelu": True, **PREPROCESS}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny-clip", {"openai": tag})
    model = crossteach.load_model("clip:tiny-clip/openai?prompts=simple", like=data)
    assert any(isinstance(part, open_clip.transformer.QuickGELU) for part in model.module.modules())
    model.save(tmp_path / "student")
    again = crossteach.load_model(f"run:{tmp_path / 'student'}", like=data)
    said, expected = (crossteach.predict(each, data.test).logits for each in (again, model))
    assert torch.equal(said, expected)


def test_prompts_and_classes_come_from_files(folder, data, tmp_path):
    (tmp_path / "prompts.txt").write_text("a {} here\n\nthe {} there\n")
    (tmp_path / "classes.txt").write_text("ant\nbee\n")
    model = crossteach.load_model(
        f"clip:local-dir:{folder}?prompts={tmp_path}/prompts.txt&classes={tmp_path}/classes.txt"
    )
    assert model.n_classes == 2
    assert model.classes == ("ant", "bee")
    assert "'a ant here' and so on: 2 prompts each" in model.notes[0]


@pytest.mark.parametrize(
    ("spec", "error", "says"),
    [
        ("clip:local-dir:{folder}", SpecError, "needs the names of the classes, and there are none"),
        ("clip:ViT-B-32?classes={names}", SpecError, "names no weights; write clip:ViT-B-32/PRETRAINED"),
        ("clip:ViT-B-32/moon?classes={names}", ModelError, "open_clip cannot open"),
        ("clip:moon/laion2b?classes={names}", ModelError, "open_clip cannot open"),
        ("clip:local-dir:{folder}?classes={names}&prompts={names}", SpecError, "must hold {} once"),
        ("clip:local-dir:{folder}?classes=nowhere.txt", SpecError, "option classes of .* must name a text file"),
        ("clip:local-dir:{folder}?colour=red", SpecError, "has the option 'colour'"),
    ],
)
def test_wrong_specs_are_one_line(folder, tmp_path, spec, error, says):
    (tmp_path / "names.txt").write_text("ant\nbee\n")
    with pytest.raises(error, match=says) as raised:
        crossteach.load_model(spec.format(folder=folder, names=tmp_path / "names.txt"))
    assert "\n" not in str(raised.value)


def test_classes_that_are_only_numbered_make_no_prompts(folder):
    digits = crossteach.load_data("sklearn:digits")
    with pytest.raises(SpecError, match="needs the names of the classes, and there are '0' and so on"):
        crossteach.load_model(f"clip:local-dir:{folder}", like=digits)
