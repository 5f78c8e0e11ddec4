"""Ask a model for its logits: no gradient, evaluation mode, batches of one shape."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar
from weakref import WeakKeyDictionary

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..config import SCORING, ScoringConfig, ScoringPrecision
from ..data.pixels import pixel_code
from ..data.prefetch import prefetch
from ..errors import ModelError, first_line
from ..types import Classifier, Preprocess, Split
from .asking import evaluation_mode
from .cost import count_cost

CHUNK = 128
"""Most rows of a batch that is scored, and rows that are read at once."""
BUDGET = 1 << 34
"""Multiply-adds that a batch may cost on a CPU, about a third of a second on two cores."""
NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")
"""What torch says where memory runs out and no class of errors tells."""

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""Of `scoring.precision` and `optim.precision`."""

Images = Callable[[Preprocess], Float[Tensor, "n c h w"]]
"""Pixels or texts of some samples, as a model wants them; drawn once for all models that want the same."""
Chunk = TypeVar("Chunk")

_CHOSEN: WeakKeyDictionary[nn.Module, dict[tuple[int, ...], int]] = WeakKeyDictionary()
"""The batch of each module for images of each shape."""


class _OutOfMemoryError(Exception):
    """A batch does not fit into memory."""


@torch.no_grad()
def score(
    classifier: Classifier, images: Float[Tensor, "N c h w"], require_finite: bool = True
) -> Float[Tensor, "N C"]:
    """Return float32 logits on the CPU for images in [0, 1].

    All batches have one shape, and the last is padded. Kernels are chosen by shape, so one shape gives a sample the
    same bits whatever stands beside it. (Some BLAS kernels for very narrow dense layers of odd width look at a row's
    place too; the store's rounding to float16 hides all but a few of these last bits.)

    Args:
        classifier: Any model that answers.
        images: At least one; they are left as they are.
        require_finite: Whether NaN is an error; a student in training may diverge, which is no error of the user's.

    Raises:
        ModelError: If the model does not accept the images, changes its own weights, or answers NaN or infinity.
    """
    rows = batch_rows(classifier, images)
    while True:
        try:
            logits = _score(classifier, images, rows)
            break
        except _OutOfMemoryError:
            rows = _halve(classifier, images, rows)
    if require_finite and not logits.isfinite().all():
        bad = int((~logits.isfinite()).any(1).sum())
        raise ModelError(
            f"{classifier.spec!r} answers NaN or infinite logits on {bad} of {len(logits)} samples; "
            "check its weights and preprocessing"
        )
    return logits


def _score(classifier: Classifier, images: Float[Tensor, "N c h w"], rows: int) -> Float[Tensor, "N C"]:
    parts = []
    for chunk in torch.split(images, rows):
        padding = rows - len(chunk)
        own = torch.cat([chunk, chunk[:1].expand(padding, -1, -1, -1)]) if padding else chunk.clone()
        with evaluation_mode(classifier):  # anew for each batch: none sees what another one left in a buffer
            answered = _ask(classifier, own)[: len(chunk)]
            parts.append(answered.to("cpu", torch.float32, copy=True))  # a module may write into what it returned
    return torch.cat(parts)


def ask(
    classifier: Classifier,
    split: Split,
    index: Int[np.ndarray, " n"],
    images: Images,
) -> Float[Tensor, "n C"]:
    """Return what a model says of samples: by who they are where it is a table of answers, else by what it is shown.

    Args:
        classifier: Any model that answers.
        split: Holds the samples.
        index: Their positions in it.
        images: Their pixels or texts, as a model wants them; a table reads none.

    Returns:
        float32 on the CPU; a row of NaN where a table has no answer.

    Raises:
        ModelError: As `score`.
    """
    if (by_sample := getattr(classifier, "answers", None)) is not None:
        said: Tensor = by_sample(split, index)
        return said
    return score(classifier, images(classifier.preprocess))


def draw_for(classifiers: Iterable[Classifier], images: Images) -> None:
    """Draw what models will be asked about, so that it is there when they are; nothing for a table of answers."""
    for classifier in classifiers:
        if not answers_by_sample(classifier):
            images(classifier.preprocess)


def read_ahead(drawn: Iterable[Chunk], classifiers: Iterable[Classifier]) -> Iterable[Chunk]:
    """Let a thread draw the next chunks while models are asked, where a GPU would wait for them.

    Up to three are in memory then: the one that is asked about, one that is ready, and one that is being drawn. Models
    on a CPU want its cores for themselves: reading ahead took memory there and no time less.
    """
    return prefetch(drawn, 1) if any(classifier.device.type != "cpu" for classifier in classifiers) else drawn


def answers_by_sample(classifier: Classifier) -> bool:
    """Tell a table of answers, which looks at no pixel, from a model."""
    return getattr(classifier, "answers", None) is not None


def batch_rows(classifier: Classifier, images: Float[Tensor, "N c h w"]) -> int:
    """Return how many images of this shape a model is asked at once.

    It is what `scoring.batch` says, else what a black box says of itself, else a power of two up to `CHUNK`: as many
    as cost `BUDGET` on a CPU, where a padded batch costs what a full one does, and `CHUNK` on any other device.
    """
    given = set_batch(classifier)
    module = getattr(classifier, "module", None)
    if given is not None:
        return given
    if (own := getattr(classifier, "rows_at_once", None)) is not None:
        rows: int = own(images)
        return rows
    if not isinstance(module, nn.Module) or images.device.type != "cpu" or _is_elsewhere(module):
        return CHUNK
    known, shape = _CHOSEN.setdefault(module, {}), tuple(images.shape[1:])
    if shape not in known:
        known[shape] = _choose_rows(classifier, images[:1].clone())
    return known[shape]


def set_batch(classifier: Classifier) -> int | None:
    """Return the batch that was set for a model, or that is left since memory ran out; None where it is chosen."""
    given: int | None = getattr(classifier, "scoring_batch", None)
    return given


def ask_as(classifiers: Sequence[Classifier], scoring: ScoringConfig) -> None:
    """Set how models are asked, in place: how many images at once, and in which precision those of torch.

    Raises:
        ModelError: If a model does not let its batch be set.
    """
    for classifier in classifiers:
        if hasattr(classifier, "scoring_batch"):
            classifier.scoring_batch = scoring.batch
        elif scoring.batch is not None:
            raise ModelError(f"{classifier.spec!r} does not let its batch be set; drop scoring.batch={scoring.batch}")
        if hasattr(classifier, "scoring_precision"):
            classifier.scoring_precision = scoring.precision


def _precision(classifier: Classifier) -> ScoringPrecision:
    """Return in which precision a model is asked: a black box computes as it likes."""
    precision: ScoringPrecision = getattr(classifier, "scoring_precision", "float32")
    return precision


def _is_elsewhere(module: nn.Module) -> bool:
    return any(parameter.device.type != "cpu" for parameter in module.parameters())


def _choose_rows(classifier: Classifier, image: Float[Tensor, "1 c h w"]) -> int:
    """Return the largest power of two of images that a batch may hold."""
    try:
        cost = count_cost(classifier, image)
    except Exception:  # a user's module may raise anything, and may take no single image: the batch itself will tell
        return CHUNK
    return min(CHUNK, 1 << max(0, (BUDGET // max(1, cost)).bit_length() - 1))


def _halve(classifier: Classifier, images: Float[Tensor, "N c h w"], rows: int) -> int:
    """Go on with half the batch from now on, and let the model say so."""
    if rows == 1:
        raise ModelError(
            f"{classifier.spec!r} needs more memory than its device has for one image of {list(images.shape[1:])}; "
            "use --device cpu, a smaller ?size=, or a machine with more memory"
        ) from None
    if hasattr(classifier, "scoring_batch"):
        classifier.scoring_batch = rows // 2
    if hasattr(classifier, "notes"):
        said = f"{classifier.name}: memory ran out at {rows} images at once, so it is asked {rows // 2} at once"
        classifier.notes = (*classifier.notes, said)
    return rows // 2


def _autocast(classifier: Classifier) -> AbstractContextManager[object]:
    precision = _precision(classifier)
    return nullcontext() if precision == "float32" else torch.autocast(classifier.device.type, DTYPES[precision])


def provenance(classifier: Classifier, data_fingerprint: str) -> dict[str, str]:
    """Return what a model's answers on some data depend on: part of every key under which the store keeps them.

    How many images are asked at once follows from model and data, unless it was set or memory ran out.
    """
    batch, precision = set_batch(classifier), _precision(classifier)
    return {
        "model": classifier.fingerprint,
        "data": data_fingerprint,
        "device": classifier.device.type,
        "torch": str(torch.__version__),
        "scoring": str(SCORING),
        "pixels": pixel_code(),
        **({} if batch is None else {"batch": str(batch)}),
        **({} if precision == "float32" else {"precision": precision}),
    }


def _ask(classifier: Classifier, images: Float[Tensor, "N c h w"]) -> Float[Tensor, "N C"]:
    """Let a model answer, and say it in one line if it cannot."""
    try:
        with _autocast(classifier):
            return classifier.logits(images)
    except ModelError:
        raise
    except Exception as error:  # a user's module may raise anything
        if isinstance(error, torch.OutOfMemoryError | MemoryError) or any(text in str(error) for text in NO_MEMORY):
            raise _OutOfMemoryError from error
        if classifier.preprocess.kind == "text":
            raise ModelError(
                f"{classifier.spec!r} does not accept texts ({first_line(error)}); its tokenizer must return what its "
                "forward pass takes"
            ) from error
        raise ModelError(
            f"{classifier.spec!r} does not accept images of {list(images.shape[1:])} ({first_line(error)}); "
            "give ?size= and ?channels= as the model wants them"
        ) from error
