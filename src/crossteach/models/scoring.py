"""Ask a model for its logits: no gradient, evaluation mode, batches of one shape."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..errors import ModelError, first_line
from ..types import Classifier

CHUNK = 128
"""Rows of every batch that is scored; shorter ones are padded. Kernels are chosen by shape, so one shape gives a sample
the same bits whatever stands beside it. (Some BLAS kernels for very narrow dense layers of odd width look at a row's
place too; the store's rounding to float16 hides all but a few of these last bits.)"""


@contextmanager
def evaluation_mode(classifier: Classifier) -> Iterator[None]:
    """Put a torch model into evaluation mode, and every part back into the mode it was in."""
    module = getattr(classifier, "module", None)
    training = [part for part in module.modules() if part.training] if isinstance(module, nn.Module) else []
    for part in training:
        part.training = False
    try:
        yield
    finally:
        for part in training:
            part.training = True


@torch.no_grad()
def score(
    classifier: Classifier, images: Float[Tensor, "N c h w"], require_finite: bool = True
) -> Float[Tensor, "N C"]:
    """Return float32 logits on the CPU for images in [0, 1].

    Args:
        classifier: Any model that answers.
        images: At least one.
        require_finite: Whether NaN is an error; a student in training may diverge, which is no error of the user's.

    Raises:
        ModelError: If the model does not accept the images, or answers NaN or infinity.
    """
    parts = []
    with evaluation_mode(classifier):
        for chunk in torch.split(images, CHUNK):
            padding = CHUNK - len(chunk)
            padded = torch.cat([chunk, chunk[:1].expand(padding, -1, -1, -1)]) if padding else chunk
            parts.append(_ask(classifier, padded)[: len(chunk)].float().cpu())
    logits = torch.cat(parts)
    if require_finite and not logits.isfinite().all():
        bad = int((~logits.isfinite()).any(1).sum())
        raise ModelError(
            f"{classifier.spec!r} answers NaN or infinite logits on {bad} of {len(logits)} samples; "
            "check its weights and preprocessing"
        )
    return logits


def provenance(classifier: Classifier, data_fingerprint: str) -> dict[str, str]:
    """Return what a model's answers on some data depend on: part of every key under which the store keeps them."""
    return {
        "model": classifier.fingerprint,
        "data": data_fingerprint,
        "device": classifier.device.type,
        "torch": str(torch.__version__),
    }


def _ask(classifier: Classifier, images: Float[Tensor, "N c h w"]) -> Float[Tensor, "N C"]:
    """Let a model answer, and say it in one line if it cannot."""
    try:
        return classifier.logits(images)
    except torch.OutOfMemoryError as error:
        raise ModelError(
            f"{classifier.spec!r} needs more memory than its device has for {len(images)} images; use --device cpu"
        ) from error
    except Exception as error:  # a user's module may raise anything
        raise ModelError(
            f"{classifier.spec!r} does not accept images of {list(images.shape[1:])} ({first_line(error)}); "
            "give ?size= and ?channels= as the model wants them"
        ) from error
