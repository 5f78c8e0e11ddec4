"""`--to timm`: a folder in the format of timm's hub models, which `timm.create_model("local-dir:FOLDER")` loads."""

import inspect
import json
from pathlib import Path
from typing import Any

from ..data.pixels import prepare
from ..errors import ExportError, MissingExtraError, first_line
from ..files import write_json
from ..models.torch_classifier import TorchClassifier
from ..models.weights import write_weights
from .target import Ask, Exportable, Target, quietly

CONFIG, WEIGHTS = "config.json", "model.safetensors"
OF_ANOTHER = ("tag", "description", "origin_url", "paper_name", "paper_ids", "notes", "license")
"""What timm's description says of the published weights that the student no longer has."""


def from_timm(student: TorchClassifier) -> bool:
    """Tell a model that timm builds by its name."""
    return student.architecture.get("source") == "timm"


def write(what: Exportable, folder: Path) -> None:
    """Write weights and description.

    Raises:
        MissingExtraError: If timm is too old to be told the preprocessing.
        ExportError: If timm cannot describe the model.
    """
    write_json(folder / CONFIG, save(what, folder))


def save(what: Exportable, folder: Path) -> dict[str, Any]:
    """Let timm save the model, with the student's pixels and classes; return the description, without what is untrue.

    The weights are written once more, as everywhere in crossteach: whole, and the same bytes for the same weights.
    """
    from timm.models import save_for_hf

    if "data_config" not in inspect.signature(save_for_hf).parameters:
        raise MissingExtraError("--to timm and --to hf need a newer timm; pip install --upgrade timm")
    preprocess, channels = what.student.preprocess, what.shape[0]
    pixels = {
        "input_size": what.shape,
        "mean": _per_channel(preprocess.mean, channels),
        "std": _per_channel(preprocess.std, channels),
        "interpolation": preprocess.interpolation,
        "crop_pct": preprocess.crop,
        "crop_mode": preprocess.crop_mode,
    }
    try:
        save_for_hf(
            what.student.module,
            str(folder),
            model_config={"label_names": list(what.classes)},
            safe_serialization=True,
            data_config=pixels,
        )
    except (ValueError, RuntimeError) as error:  # an argument that is none for JSON; weights that are shared
        raise ExportError(f"timm cannot describe {what.student.name!r}: {first_line(error)}") from error
    config: dict[str, Any] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    write_weights(what.student.module, folder / WEIGHTS)
    described = config["pretrained_cfg"]
    config["pretrained_cfg"] = {key: value for key, value in described.items() if key not in OF_ANOTHER}
    if what.licence:
        config["pretrained_cfg"]["license"] = what.licence
    config.get("model_args", {}).pop("num_classes", None)  # transformers gives it too; timm reads it one level up
    return config


def _per_channel(numbers: tuple[float, ...], channels: int) -> tuple[float, ...]:
    return numbers * channels if len(numbers) == 1 else numbers


def open_folder(what: Exportable, folder: Path) -> Ask:
    """Open the folder as a user of timm does."""
    import timm

    with quietly():
        module = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    return lambda images: module(prepare(images, what.student.preprocess))


def usage(what: Exportable) -> str:
    """Return the lines that open it and score a picture."""
    mode = "L" if what.shape[0] == 1 else "RGB"
    return f"""import timm
import torch
from PIL import Image

model = timm.create_model("local-dir:FOLDER", pretrained=True).eval()  # on the hub: "hf-hub:ORG/NAME"
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
image = transform(Image.open("picture.png").convert("{mode}"))[None]
with torch.inference_mode():
    probs = model(image).softmax(1)[0]
print(model.pretrained_cfg["label_names"][probs.argmax()], probs.max().item())"""


TARGET = Target(
    library="timm",
    write=write,
    open=open_folder,
    usage=usage,
    exact=True,
    holds="the description of size, crop and normalisation from which timm makes its transform",
    fits=from_timm,
)
