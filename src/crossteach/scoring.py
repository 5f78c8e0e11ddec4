"""Ask a model for its logits: no gradient, evaluation mode, batches of one shape."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .errors import ModelError
from .types import Classifier

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
def score(classifier: Classifier, images: Float[Tensor, "N c h w"]) -> Float[Tensor, "N C"]:
    """Return float32 logits on the CPU for images in [0, 1].

    Raises:
        ModelError: If the model answers NaN or infinity.
    """
    parts = []
    with evaluation_mode(classifier):
        for chunk in torch.split(images, CHUNK):
            padding = CHUNK - len(chunk)
            padded = torch.cat([chunk, chunk[:1].expand(padding, -1, -1, -1)]) if padding else chunk
            parts.append(classifier.logits(padded)[: len(chunk)].float().cpu())
    logits = torch.cat(parts)
    if not logits.isfinite().all():
        bad = int((~logits.isfinite()).any(1).sum())
        raise ModelError(
            f"{classifier.spec!r} answers NaN or infinite logits on {bad} of {len(logits)} samples; "
            "check its weights and preprocessing"
        )
    return logits
