"""`--to torch`: a program of `torch.export` with the normalisation inside, and the weights as a student has them.

A student that reads text has no such program, since its tokenizer is Python: it goes as its weights and its code.
"""

import io
from dataclasses import replace
from pathlib import Path

import torch

from ..errors import ExportError, first_line
from ..files import write_bytes
from ..models.asking import evaluation_mode
from ..models.run import open_saved
from ..models.saving import ARCHITECTURE
from ..models.torch_classifier import TorchClassifier
from .target import Ask, Exportable, Normalised, Target, example, quietly, takes_images

PROGRAM = "model.pt2"


def write(what: Exportable, folder: Path) -> None:
    """Write the program, if it reads images, and the weights as a saved student has them.

    Raises:
        ExportError: If torch cannot capture the model.
    """
    student = what.student
    if student.architecture.get("source") == "py":  # its code is copied; where it came from is nobody's business
        student = replace(student, architecture={**student.architecture, "where": ARCHITECTURE})
    student.save(folder)
    if what.reads_text:
        return
    whole = Normalised(what.student)
    batch = torch.export.Dim("batch", min=1)
    with evaluation_mode(whole), torch.no_grad(), quietly():
        try:
            program = torch.export.export(whole, (example(what),), dynamic_shapes=({0: batch},))
        except Exception as error:  # capturing runs the model's own code, which may raise anything
            raise ExportError(
                f"torch.export cannot capture {what.student.name!r} ({first_line(error)}); try --to onnx, which traces"
            ) from error
        content = io.BytesIO()
        torch.export.save(program, content)
    write_bytes(folder / PROGRAM, content.getvalue())


def open_folder(what: Exportable, folder: Path) -> Ask:
    """Open the program as a user of torch does; of a student that reads text build the module from the folder."""
    if what.reads_text:
        return open_saved(folder, what.student.spec).logits
    with quietly():
        module: Ask = torch.export.load(folder / PROGRAM).module()
    return module


def usage(what: Exportable) -> str:
    """Return the lines that open it and score images, and those that load the weights for more training."""
    if what.reads_text:
        return f'{what.student.loading_code()}\n\n\nprobs = logits([b"a text", b"another"]).softmax(1)'
    channels, height, width = what.shape
    return f"""import torch

model = torch.export.load("{PROGRAM}").module()
images = torch.rand(1, {channels}, {height}, {width})  # in [0, 1]; any number of them
logits = model(images)

# the weights as a module of your own, as for more training
{what.student.loading_code()}"""


def fits(student: TorchClassifier) -> bool:
    """Tell whether it reads images, or text by code that stands beside its weights."""
    return takes_images(student) or student.architecture.get("source") == "py"


TARGET = Target(
    library="pytorch",
    write=write,
    open=open_folder,
    usage=usage,
    exact=False,
    holds="the normalisation: it takes pixels in [0, 1]. Images are resized before",
    fits=fits,
)
