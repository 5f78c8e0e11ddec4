"""Asks an export and its student the same images, and compares what they answer."""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..data import load_data
from ..data.pixels import prepare
from ..data.texts import FIXED, to_batch
from ..errors import DataError, ExportError
from ..models.asking import evaluation_mode, fixed_inputs
from ..models.torch_classifier import TorchClassifier
from ..types import Split
from .target import Ask

BATCHES = (1, 3)
"""How many images are asked before all of them are, at once: a size of the batch that was traced, or special, shows."""
TOLERANCE = 1e-4
"""Largest difference of two logits, in shares of the largest logit there is (at least 1), that rounding explains."""
SAMPLES = 128
"""Test samples of a user's data that are compared."""


def images_of(student: TorchClassifier, split: Split) -> Float[Tensor, "n c h w"]:
    """Return test samples: texts, or images in [0, 1] at the size and in the channels that the student takes.

    Raises:
        DataError: If the data are of the other kind.
    """
    if (reads := student.preprocess.kind) != split.inputs.kind:
        raise DataError(f"{student.name!r} reads {reads} but --data holds {split.inputs.kind}; give data of its kind")
    rows = split.input_rows(np.arange(min(SAMPLES, len(split))))
    if reads == "text":
        return split.inputs.evaluation(rows, student.preprocess)
    plain = replace(student.preprocess, mean=(0.0,), std=(1.0,))
    return prepare(split.inputs.evaluation(rows, student.preprocess), plain)


def test_split(spec: str) -> Split:
    """Open the test split of a user's data.

    Raises:
        DataError: If it is empty.
    """
    split = load_data(spec).test
    if not len(split):
        raise DataError(f"{spec!r} has no test samples to compare on; give data that have some, or leave --data away")
    return split


@torch.no_grad()
def largest_difference(student: TorchClassifier, ask: Ask, images: Float[Tensor, "n c h w"], exact: bool) -> float:
    """Compare an export with its student on the same batches.

    Args:
        student: The model that was exported.
        ask: The export, opened again.
        images: In [0, 1], at the size that the student takes.
        exact: Whether they must agree bit for bit.

    Returns:
        The largest difference of two logits.

    Raises:
        ExportError: If they differ by more than they may.
    """
    worst = 0.0
    with evaluation_mode(student):
        for batch in (*(images[:count] for count in BATCHES), images):
            expected, answered = student.logits(batch), ask(batch.clone())
            if answered.shape != expected.shape:
                raise ExportError(
                    f"the export answers {list(answered.shape)} where {student.name} answers {list(expected.shape)}; "
                    "nothing was written"
                )
            difference = (answered - expected).abs().max().item()
            allowed = 0.0 if exact else TOLERANCE * max(1.0, expected.abs().max().item())
            if not difference <= allowed:  # also where it is NaN
                raise ExportError(
                    f"the export answers otherwise than {student.name}: logits differ by {difference:.3g}, and "
                    f"{allowed:.3g} is allowed; nothing was written. Try another --to"
                )
            worst = max(worst, difference)
    return worst


def texts_of(student: TorchClassifier) -> Float[Tensor, "n 1 1 L"]:
    """Return the texts that every model is asked; of one that cuts them at a length also one that is cut."""
    longest = student.architecture.get("arguments", {}).get("max_length")
    return student.fixed_inputs() if longest is None else to_batch((*FIXED, b"text " * longest))


def fixed_images(shape: tuple[int, int, int]) -> Float[Tensor, "8 c h w"]:
    """Return the eight images that every model is asked, at this shape."""
    return fixed_inputs(shape[1:], shape[0])
