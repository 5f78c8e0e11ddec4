"""`--to onnx`: an ONNX file with the normalisation inside, for any number of images, checked by onnxruntime."""

import importlib.util
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ..errors import ExportError, MissingExtraError, first_line
from ..files import write_bytes
from ..models.asking import evaluation_mode
from .target import Ask, Exportable, Normalised, Target, example, quietly

FILE = "model.onnx"
OPSET = 18
"""Of ONNX; known to every onnxruntime since 1.14."""


def write(what: Exportable, folder: Path) -> None:
    """Write the file, with class names and preprocessing as JSON in its metadata.

    It is traced: torch's newer exporter needs onnxscript, and writes the same for a model without control flow. What a
    trace would miss shows when the file is asked in batches of other sizes.

    Raises:
        MissingExtraError: If onnx or onnxruntime is not installed.
        ExportError: If the model has operations that ONNX has not.
    """
    if missing := [name for name in ("onnx", "onnxruntime") if importlib.util.find_spec(name) is None]:
        raise MissingExtraError(f"--to onnx needs {' and '.join(missing)}; pip install 'crossteach[onnx]'")
    whole = Normalised(what.student)
    with evaluation_mode(whole), torch.no_grad(), quietly(), _without_output():
        try:
            torch.onnx.export(
                whole,
                (example(what),),
                folder / FILE,
                dynamo=False,
                opset_version=OPSET,
                input_names=["images"],
                output_names=["logits"],
                dynamic_axes={"images": {0: "batch"}, "logits": {0: "batch"}},
            )
        except Exception as error:  # tracing runs the model's own code, which may raise anything
            raise ExportError(
                f"torch cannot write {what.student.name!r} as ONNX ({first_line(error)}); try --to torch"
            ) from error
    _add_metadata(folder / FILE, what)


@contextmanager
def _without_output() -> Iterator[None]:
    """Keep torch from printing the whole graph of a model that it cannot write; its C++ does so past `sys.stdout`."""
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


def _add_metadata(path: Path, what: Exportable) -> None:
    """Check the file by ONNX's own rules, and add what a program has to know of the model."""
    import onnx

    onnx.checker.check_model(str(path), full_check=True)
    model = onnx.load(path)
    described: dict[str, Any] = {"classes": what.classes, "preprocess": asdict(what.student.preprocess)}
    for key, value in described.items():
        model.metadata_props.add(key=key, value=json.dumps(value))
    write_bytes(path, model.SerializeToString())


def open_folder(what: Exportable, folder: Path) -> Ask:
    """Open the file as a user of onnxruntime does."""
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / FILE, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0])


def usage(what: Exportable) -> str:
    """Return the lines that open it and score images."""
    channels, height, width = what.shape
    return f"""import json

import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession("{FILE}")
images = np.random.rand(1, {channels}, {height}, {width}).astype(np.float32)  # in [0, 1]; any number of them
(logits,) = session.run(["logits"], {{"images": images}})
classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])
print(classes[logits[0].argmax()])"""


TARGET = Target(
    library="onnx",
    write=write,
    open=open_folder,
    usage=usage,
    exact=False,
    holds=f"the normalisation: it takes pixels in [0, 1] (opset {OPSET}). Images are resized before",
)
