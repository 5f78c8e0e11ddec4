"""Every source of models as student, as teacher, in a scout and in a check: docs/sources.md says what comes of it."""

import json
import re
from pathlib import Path

import box_files
import numpy as np
import pandas as pd
import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

import crossteach
from crossteach import Store, load_data, load_model, scout, transfer
from crossteach.errors import CrossteachError
from crossteach.scouting.checking import check_model

SHORT = crossteach.with_settings(
    crossteach.TransferConfig(), ["optim.steps=2", "optim.lr=0.01", "optim.batch_size=16", "force=true"]
)
CLASSES = ("red thing", "green thing", "blue thing")
SHAPE, SIZED = (3, 16, 16), "size=16&channels=3"
ZOO = """
import torch
from torch import nn

class Dense(nn.Sequential):
    def __init__(self, seed=0):
        torch.manual_seed(seed)
        super().__init__(nn.Flatten(), nn.Linear(768, 3))

def dense(seed=0):
    return Dense(seed)

net = dense(1)

def ask():
    return lambda images: images.mean((2, 3)) * 10
"""
PAGE = (Path(__file__).parent.parent / "docs" / "sources.md").read_text()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Write pictures of three colours, and a model for every source."""
    place = tmp_path_factory.mktemp("sources")
    rng, arrays = np.random.default_rng(0), {"class_names": np.array(CLASSES)}
    for part, count in (("train", 60), ("val", 60), ("test", 30)):
        labels = np.arange(count) % 3
        images = rng.integers(0, 120, (count, 16, 16, 3))
        images[np.arange(count), :, :, labels] += 90
        arrays |= {f"x_{part}": images.astype(np.uint8), f"y_{part}": labels}
    np.savez(place / "data.npz", **arrays)
    (place / "zoo.py").write_text(ZOO)
    for seed in (0, 1):
        module = load_model(f"py:{place}/zoo.py:dense?pretrained=false&seed={seed}&{SIZED}").module
        save_file(module.state_dict(), place / f"dense{seed}.safetensors")
    return place


def of_timm(place):
    return "timm:test_resnet?pretrained=false&num_classes=3&size=32"


def of_a_folder_of_timm(place):
    model = timm.create_model("test_resnet", num_classes=3)
    timm.models.save_for_hf(model, place / "timm", model_config={"num_classes": 3}, safe_serialization=True)
    return f"timm:local-dir:{place}/timm?size=32"


def of_torchvision(place):
    module = torchvision.models.get_model("shufflenet_v2_x0_5", weights=None, num_classes=3)
    save_file(module.state_dict(), place / "shufflenet.safetensors")
    return f"torchvision:shufflenet_v2_x0_5@{place}/shufflenet.safetensors?num_classes=3&size=32"


def of_transformers(place):
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.ViTConfig(**sizes, image_size=16, patch_size=8, id2label=dict(enumerate(CLASSES)))
    transformers.ViTForImageClassification(config).save_pretrained(place / "vit")
    transformers.ViTImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(place / "vit")
    return f"hf:{place}/vit"


def of_open_clip(place):
    open_clip = pytest.importorskip("open_clip")
    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 16, "layers": 1, "width": 16, "patch_size": 8, "head_width": 8},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    }
    (place / "clip").mkdir()
    state = {k: v.contiguous() for k, v in open_clip.CLIP(**config).state_dict().items()}
    save_file(state, place / "clip" / "open_clip_model.safetensors")
    (place / "clip" / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    return f"clip:local-dir:{place}/clip"


def of_a_table(place):
    data = load_data(f"npz:{place}/data.npz")
    ids = np.concatenate([split.ids for split in (data.train, data.selection, data.test)])
    labels = np.concatenate([split.labels for split in (data.train, data.selection, data.test)])
    pd.DataFrame({"id": ids, "label": np.array(CLASSES)[labels]}).to_csv(place / "answers.csv", index=False)
    return f"predictions:{place}/answers.csv"


def of_a_run(place):
    load_model(f"py:{place}/zoo.py:dense@{place}/dense1.safetensors?{SIZED}&mean=0.4").save(place / "student")
    return f"run:{place}/student"


def module(place):
    torch.manual_seed(2)
    return nn.Sequential(nn.Flatten(), nn.Linear(768, 3)).eval()


ROWS = {
    "`timm:NAME`": of_timm,
    "`timm:local-dir:FOLDER`": of_a_folder_of_timm,
    "`torchvision:NAME@FILE`": of_torchvision,
    "`hf:FOLDER`, image": of_transformers,
    "`clip:local-dir:FOLDER`": of_open_clip,
    "`py:FILE:FUNCTION@FILE`": lambda place: f"py:{place}/zoo.py:dense@{place}/dense1.safetensors?{SIZED}",
    "`py:FILE:CLASS@FILE`": lambda place: f"py:{place}/zoo.py:Dense@{place}/dense1.safetensors?{SIZED}&mean=0.1",
    "`py:FILE:MODULE`": lambda place: f"py:{place}/zoo.py:net?{SIZED}&mean=0.2",
    "`py:FILE:FUNCTION` that returns a function": lambda place: f"py:{place}/zoo.py:ask?{SIZED}",
    "`onnx:FILE`": lambda place: box_files.to_onnx(module(place), place / "net.onnx", SHAPE),
    "`torchscript:FILE`": lambda place: f"{box_files.to_torchscript(module(place), place / 'net.pt', SHAPE)}?{SIZED}",
    "`export:FILE`": lambda place: box_files.to_export(module(place), place / "net.pt2", SHAPE),
    "`predictions:FILE`": of_a_table,
    "`run:FOLDER`": of_a_run,
}
"""The first cell of a row of the table, and what writes such a model and returns its spec."""


def table():
    """Return the rows of the page that name this file, as their first cell and the four that say what comes of it."""
    rows = [line for line in PAGE.splitlines() if line.startswith("|") and Path(__file__).name in line]
    cells = [re.split(r"\s*\|\s*", row.strip("| ")) for row in rows]
    return {row[0]: row[1:5] for row in cells}


def works(attempt):
    """Say whether something is done, or refused; a refusal of several lines is neither."""
    try:
        attempt()
    except CrossteachError as error:
        return str(error) if "\n" in str(error) else "-"
    return "yes"


def test_the_page_lists_what_is_tried_here():
    assert list(table()) == list(ROWS)


@pytest.mark.parametrize("row", ROWS)
def test_a_source_does_what_its_row_says(row, place, tmp_path):
    data, spec = load_data(f"npz:{place}/data.npz"), ROWS[row](place)

    def model():
        return load_model(spec, trust=True, like=data)

    other = load_model(f"py:{place}/zoo.py:dense@{place}/dense0.safetensors?{SIZED}")
    store = Store(tmp_path / "store")
    attempts = (
        lambda: transfer(model(), [other], data, tmp_path / "learns", SHORT, store=store),
        lambda: transfer(other, [model()], data, tmp_path / "teaches", SHORT, store=store),
        lambda: scout([other, model()], data, store, embeddings="none", ensembles=False),
        lambda: check_model(model(), data),
    )
    assert [works(attempt) for attempt in attempts] == table()[row]
    summary = json.loads((tmp_path / "teaches" / "summary.json").read_text())
    assert summary["teachers"] and summary["n_test"] == 30
