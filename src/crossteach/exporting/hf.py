"""`--to hf`: a folder that transformers opens by `from_pretrained(FOLDER)`, with its image processor or tokenizer."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..data.pixels import prepare
from ..errors import ExportError, MissingExtraError
from ..files import write_json
from ..models.hf import RESAMPLING, quiet_transformers
from . import timm
from .target import Ask, Exportable, Target, quietly
from .tokens import asking_arguments, open_tokenizer, tokenizer_of


def write_wrapped(what: Exportable, folder: Path) -> None:
    """Write a model of timm for the class by which transformers wraps it; timm opens this folder too."""
    wrapped = {"model_type": "timm_wrapper", "architectures": ["TimmWrapperForImageClassification"]}
    write_json(folder / timm.CONFIG, timm.save(what, folder) | wrapped)


def write_own(what: Exportable, folder: Path) -> None:
    """Let a model of transformers save itself, with its tokenizer, or with a processor that does what crossteach does.

    Raises:
        ExportError: If no processor of transformers does that.
    """
    module: Any = what.student.module
    processor = None if what.reads_text else processor_of(what)
    config, before = module.config, (module.config.id2label, module.config.label2id)
    config.id2label = dict(enumerate(what.classes))
    config.label2id = {name: number for number, name in config.id2label.items()}
    try:
        with quiet_transformers():
            module.save_pretrained(folder)
    finally:
        config.id2label, config.label2id = before
    if processor is None:
        tokenizer_of(what).save(folder)
    else:
        write_json(folder / "preprocessor_config.json", processor)


def processor_of(what: Exportable) -> dict[str, Any]:
    """Describe how images come to a student as an image processor of transformers reads it."""
    preprocess, (channels, height, width) = what.student.preprocess, what.shape
    if channels != 3 or preprocess.crop_mode == "border" or preprocess.crop > 1:
        raise ExportError(
            f"no image processor of transformers brings images to {what.student.name!r} as it takes them (grey, or "
            "with a border); try --to torch or --to onnx"
        )
    if preprocess.crop_mode == "squash":
        size = {"height": round(height / preprocess.crop), "width": round(width / preprocess.crop)}
    else:
        size = {"shortest_edge": round(min(height, width) / preprocess.crop)}
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": size,
        "resample": next(number for number, word in RESAMPLING.items() if word == preprocess.interpolation),
        "do_center_crop": True,
        "crop_size": {"height": height, "width": width},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": _per_channel(preprocess.mean),
        "image_std": _per_channel(preprocess.std),
    }


def _per_channel(numbers: tuple[float, ...]) -> list[float]:
    return list(numbers * 3 if len(numbers) == 1 else numbers)


WRITERS: dict[str, Callable[[Exportable, Path], None]] = {"hf": write_own, "timm": write_wrapped}
"""By the source of a student's architecture: what writes it so that transformers opens it."""


def write(what: Exportable, folder: Path) -> None:
    """Write the folder."""
    WRITERS[what.student.architecture["source"]](what, folder)


def open_folder(what: Exportable, folder: Path) -> Ask:
    """Open the folder as a user of transformers does.

    Raises:
        MissingExtraError: If transformers is not installed.
    """
    try:
        from transformers import AutoModelForImageClassification, AutoModelForSequenceClassification
    except ImportError:
        raise MissingExtraError("--to hf needs transformers; pip install 'crossteach[hf]'") from None
    with quietly(), quiet_transformers():
        if what.reads_text:
            reader = AutoModelForSequenceClassification.from_pretrained(folder, local_files_only=True).eval()
            tokens_of = open_tokenizer(what, folder)
            return lambda texts: reader(**tokens_of(texts)).logits
        model = AutoModelForImageClassification.from_pretrained(folder, local_files_only=True).eval()
    return lambda images: model(pixel_values=prepare(images, what.student.preprocess)).logits


def usage(what: Exportable) -> str:
    """Return the lines that open it and score a picture, or a text."""
    if what.reads_text:
        return f"""import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("FOLDER")  # on the hub: "ORG/NAME"
model = AutoModelForSequenceClassification.from_pretrained("FOLDER").eval()
tokens = tokenizer(["a text"], {asking_arguments(what, "pt")})
with torch.inference_mode():
    probs = model(**tokens).logits.softmax(1)[0]
print(model.config.id2label[probs.argmax().item()], probs.max().item())"""
    mode = "L" if what.shape[0] == 1 else "RGB"
    return f"""import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageClassification

processor = AutoImageProcessor.from_pretrained("FOLDER")  # on the hub: "ORG/NAME"
model = AutoModelForImageClassification.from_pretrained("FOLDER").eval()
image = processor(Image.open("picture.png").convert("{mode}"), return_tensors="pt")["pixel_values"]
with torch.inference_mode():
    probs = model(image).logits.softmax(1)[0]
print(model.config.id2label[probs.argmax().item()], probs.max().item())"""


TARGET = Target(
    library="transformers",
    write=write,
    open=open_folder,
    usage=usage,
    exact=True,
    holds="the description of size, crop and normalisation from which transformers makes its image processor",
    fits=lambda student: student.architecture.get("source") in WRITERS,
)
