"""`--to hf`: a folder that transformers opens by `AutoModelForImageClassification.from_pretrained(FOLDER)`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..data.pixels import prepare
from ..errors import MissingExtraError
from ..files import write_json
from . import timm
from .target import Ask, Exportable, Target, quietly


def write_wrapped(what: Exportable, folder: Path) -> None:
    """Write a model of timm for the class by which transformers wraps it; timm opens this folder too."""
    wrapped = {"model_type": "timm_wrapper", "architectures": ["TimmWrapperForImageClassification"]}
    write_json(folder / timm.CONFIG, timm.save(what, folder) | wrapped)


WRITERS: dict[str, Callable[[Exportable, Path], None]] = {"timm": write_wrapped}
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
        from transformers import AutoModelForImageClassification
    except ImportError:
        raise MissingExtraError("--to hf needs transformers; pip install 'crossteach[hf]'") from None
    with quietly(), _without_bars():
        model = AutoModelForImageClassification.from_pretrained(folder, local_files_only=True).eval()
    return lambda images: model(pixel_values=prepare(images, what.student.preprocess)).logits


@contextmanager
def _without_bars() -> Iterator[None]:
    """Keep transformers from drawing bars and from telling of its loading; afterwards it does as before."""
    from transformers.utils import logging

    drawn, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if drawn:
            logging.enable_progress_bar()


def usage(what: Exportable) -> str:
    """Return the lines that open it and score a picture."""
    mode = "L" if what.shape[0] == 1 else "RGB"
    return f"""import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageClassification

processor = AutoImageProcessor.from_pretrained("FOLDER")  # on the hub: "ORG/NAME"
model = AutoModelForImageClassification.from_pretrained("FOLDER").eval()
image = processor(Image.open("picture.png").convert("{mode}"))["pixel_values"]
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
