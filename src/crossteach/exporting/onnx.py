"""`--to onnx`: an ONNX file for any number of images, with the normalisation inside, checked by onnxruntime.

Of a student of transformers that reads text it takes the tokens of any number of texts, of any length; the tokenizer
stands beside it.
"""

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
from torch import Tensor, nn

from ..errors import ExportError, MissingExtraError, first_line
from ..files import write_bytes
from ..models.asking import evaluation_mode, read_logits
from ..models.torch_classifier import TorchClassifier
from .target import Ask, Exportable, Normalised, Target, example, quietly, takes_images
from .tokens import asking_arguments, open_tokenizer, tokenizer_of

FILE = "model.onnx"
OPSET = 18
"""Of ONNX; known to every onnxruntime since 1.14."""


class _OfTokens(nn.Module):
    """A model of text that takes its tokens one after the other, as a tracer gives them."""

    def __init__(self, student: TorchClassifier, names: list[str]) -> None:
        super().__init__()
        self.model, self.n_classes, self.names = student.module, student.n_classes, names

    def forward(self, *tokens: Tensor) -> Tensor:
        """Score texts: tensors [N, L], a name each."""
        return read_logits(self.model(**dict(zip(self.names, tokens, strict=True))), self.n_classes)


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
    whole, inputs, open_axes = _of_texts(what) if what.reads_text else _of_images(what)
    with evaluation_mode(whole), torch.no_grad(), quietly(), _without_output():
        try:
            torch.onnx.export(
                whole,
                tuple(inputs.values()),
                folder / FILE,
                dynamo=False,
                opset_version=OPSET,
                input_names=list(inputs),
                output_names=["logits"],
                dynamic_axes={**dict.fromkeys(inputs, open_axes), "logits": {0: "batch"}},
            )
        except Exception as error:  # tracing runs the model's own code, which may raise anything
            raise ExportError(
                f"torch cannot write {what.student.name!r} as ONNX ({first_line(error)}); try --to "
                f"{'hf' if what.reads_text else 'torch'}"
            ) from error
    _add_metadata(folder / FILE, what)
    if what.reads_text:
        tokenizer_of(what).save(folder)


def _of_images(what: Exportable) -> tuple[nn.Module, dict[str, Tensor], dict[int, str]]:
    """Return what is traced, its inputs by their names, and those of their axes that stay open."""
    return Normalised(what.student), {"images": example(what)}, {0: "batch"}


def _of_texts(what: Exportable) -> tuple[nn.Module, dict[str, Tensor], dict[int, str]]:
    """The same of a model of text: two texts, the shorter one padded, so that the mask takes part in the trace."""
    tokens = dict(tokenizer_of(what)([b"a text of several words", b"a text"]))
    return _OfTokens(what.student, list(tokens)), tokens, {0: "batch", 1: "length"}


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
    described: dict[str, Any] = {"classes": what.classes}
    if what.reads_text:
        described["tokenizer"] = tokenizer_of(what).settings
    else:
        described["preprocess"] = asdict(what.student.preprocess)
    for key, value in described.items():
        model.metadata_props.add(key=key, value=json.dumps(value))
    write_bytes(path, model.SerializeToString())


def open_folder(what: Exportable, folder: Path) -> Ask:
    """Open the file as a user of onnxruntime does."""
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / FILE, providers=["CPUExecutionProvider"])
    if what.reads_text:
        tokens_of = open_tokenizer(what, folder)
        return lambda texts: torch.from_numpy(
            session.run(["logits"], {name: each.numpy() for name, each in tokens_of(texts).items()})[0]
        )
    return lambda images: torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0])


def usage(what: Exportable) -> str:
    """Return the lines that open it and score images, or texts."""
    if what.reads_text:
        return f"""import json

import onnxruntime
from transformers import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(".")
session = onnxruntime.InferenceSession("{FILE}")
tokens = tokenizer(["a text", "another"], {asking_arguments(what, "np")})
(logits,) = session.run(["logits"], dict(tokens))
classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])
print(classes[logits[0].argmax()])"""
    channels, height, width = what.shape
    return f"""import json

import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession("{FILE}")
images = np.random.rand(1, {channels}, {height}, {width}).astype(np.float32)  # in [0, 1]; any number of them
(logits,) = session.run(["logits"], {{"images": images}})
classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])
print(classes[logits[0].argmax()])"""


def fits(student: TorchClassifier) -> bool:
    """Tell whether it reads images, or text by a tokenizer that other programs have."""
    return takes_images(student) or student.architecture.get("source") == "hf"


TARGET = Target(
    library="onnx",
    write=write,
    open=open_folder,
    usage=usage,
    exact=False,
    holds=f"the normalisation: it takes pixels in [0, 1] (opset {OPSET}). Images are resized before",
    fits=fits,
)
