"""Models that only answer: a file or a function without a torch module. They may teach and be scouted, not learn."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..code import source_of
from ..data.texts import fixed_texts, from_batch, to_batch
from ..errors import ModelError, SpecError
from ..specs import Spec
from ..types import Family, Preprocess, Splits
from .asking import describe_answers, fixed_inputs, prepare_for, read_logits, sum_to_one
from .inputs import HINT, find_inputs
from .scoring import CHUNK

Ask = Callable[[Any], Any]
"""Images as `Preprocess` prepares them, on the CPU, or a list of bytes where it reads text -> scores [n, C], as a
tensor, an array, or what holds `logits`."""
Outputs = Literal["logits", "probabilities"]

OPTIONS = {"batch", "outputs"}
"""Options of every spec of a black box."""
PIXELS = 1 << 20
"""In a batch that is scored: what an image costs a black box is not known, so its size decides how many are asked."""
LEAST = 1e-30
"""Probabilities below are taken for it: their logarithms stay finite."""


@dataclass
class BlackBox:
    """A function that scores images, what it wants done to pixels, and what tells it from another."""

    spec: str
    name: str
    ask: Ask
    identity: str
    """Hash of its file or code."""
    preprocess: Preprocess
    n_classes: int = 0
    """0 until it is asked."""
    classes: tuple[str, ...] | None = None
    outputs: Outputs | None = None
    """What it answers; None until it is asked. Of probabilities the logarithms are logits."""
    batch: int | None = None
    """How many images it takes at once, no more and no fewer; None where it takes any number."""
    n_parameters: int = 0
    family: Family = "other"
    notes: tuple[str, ...] = ()
    shape: tuple[int, int, int] | None = None
    """Channels, height and width of an image that it is known to answer, whatever data it is opened for."""
    scoring_batch: int | None = None
    """Images it is asked at once, where that is set; see `rows_at_once`."""
    n_bytes: int = 0
    """Of memory that it holds, as far as is known."""

    @property
    def device(self) -> torch.device:
        """The CPU, always."""
        return torch.device("cpu")

    def logits(self, images: Float[Tensor, "N c h w"]) -> Float[Tensor, "N C"]:
        """Score images given in [0, 1], or texts.

        Raises:
            ModelError: If its answer is not one row of scores for each of them.
        """
        is_text = self.preprocess.kind == "text"
        scores = self.scores(images if is_text else prepare_for(images, self.preprocess, self.device))
        return scores.clamp(min=LEAST).log() if self.outputs == "probabilities" else scores

    def scores(self, prepared: Float[Tensor, "N c H W"]) -> Float[Tensor, "N C"]:
        """Return what it answers to prepared images, asked in batches that it takes; the last one is filled up."""
        rows = self.batch or len(prepared)
        return torch.cat([self._scores(part, rows - len(part)) for part in torch.split(prepared, rows)])

    @torch.no_grad()
    def _scores(self, part: Float[Tensor, "n c H W"], padding: int) -> Float[Tensor, "n C"]:
        asked = torch.cat([part, part[:1].expand(padding, -1, -1, -1)]) if padding else part
        returned = self.ask(from_batch(asked) if self.preprocess.kind == "text" else asked)
        if isinstance(returned, np.ndarray):
            returned = torch.from_numpy(returned.astype(np.float32))
        try:
            scores = read_logits(returned, self.n_classes or None)
        except ModelError as error:
            raise ModelError(f"{self.spec!r}: {error}") from None
        if len(scores) != len(asked):
            raise ModelError(f"{self.spec!r} answers {len(scores)} rows of scores to {len(asked)} samples")
        return scores[: len(part)].detach().to("cpu", torch.float32)

    def rows_at_once(self, images: Float[Tensor, "N c h w"]) -> int:
        """Return how many images like these are asked at once where nobody sets it."""
        if self.batch:
            return self.batch
        height, width = self.preprocess.size or images.shape[-2:]
        return min(CHUNK, 1 << max(0, (PIXELS // (height * width)).bit_length() - 1))

    @property
    def fingerprint(self) -> str:
        """Hash of its file or code, its preprocessing, how it is asked, and its answers on eight fixed inputs."""
        described = [self.identity, asdict(self.preprocess), self.outputs, self.batch, self._answers]
        return hashlib.blake2b(json.dumps(described, sort_keys=True).encode(), digest_size=16).hexdigest()

    @cached_property
    def _answers(self) -> str:
        return describe_answers(self.logits(self.fixed_inputs()))

    def fixed_inputs(self) -> Float[Tensor, "8 c h w"]:
        """Return images of a size that it takes, or texts: the same everywhere and whenever it is opened."""
        if self.preprocess.kind == "text":
            return fixed_texts()
        known = self.shape or (len(self.preprocess.mean), 32, 32)
        return fixed_inputs(self.preprocess.size or known[1:], self.preprocess.channels or known[0])

    def to(self, device: torch.device | str) -> "BlackBox":
        """Return the model as it is: it answers on the CPU, and says so where another device is asked for."""
        said = f"{self.name} answers on the CPU: a black box is not moved to {device}"
        if torch.device(device).type != "cpu" and said not in self.notes:
            self.notes = (*self.notes, said)
        return self


class _Asked(nn.Module):
    """A black box as a module without weights, for what looks at modules."""

    def __init__(self, box: BlackBox) -> None:
        super().__init__()
        self._box = box
        self.tokenizer = to_batch
        """Of texts: the box itself makes texts of a batch again."""

    def forward(self, prepared: Tensor) -> Tensor:
        return self._box.scores(prepared)


def get_to_know(box: BlackBox, like: Splits | None = None, hint: str = HINT) -> BlackBox:
    """Ask a black box what is not known of it yet: images it takes, how many at once, classes, logits or not.

    Args:
        box: What is known stands in it; `n_classes` and `classes` are compared with what it answers.
        like: Data that it is for, where its preprocessing names no size.
        hint: What the user may do where it takes no image.

    Raises:
        ModelError: If it takes none, scores other classes than it was said to, or answers neither logits nor
            probabilities for certain.
    """
    taken = find_inputs(_Asked(box), box.preprocess, box.spec, like, hint)
    if box.n_classes not in (0, taken.n_classes):
        raise ModelError(f"{box.spec!r} was said to score {box.n_classes} classes but scores {taken.n_classes}")
    if box.classes is not None and len(box.classes) != taken.n_classes:
        raise ModelError(f"{box.spec!r} names {len(box.classes)} classes but scores {taken.n_classes}")
    preprocess = replace(box.preprocess, channels=taken.channels)
    known = replace(box, preprocess=preprocess, n_classes=taken.n_classes, shape=taken.shape)
    if known.batch is None and not _takes_two(known):
        known = replace(known, batch=1)
    if known.batch is not None:
        said = f"{known.name} takes {known.batch} {'image' if known.batch == 1 else 'images'} at once, and no others"
        known = replace(known, notes=(*known.notes, said))
    return _with_outputs(known)


def _takes_two(box: BlackBox) -> bool:
    """Tell whether two images are answered with two rows: a file may say that it takes any number, and not."""
    try:
        box.logits(box.fixed_inputs()[:2])
    except Exception:  # one image was answered, so this is about their number; a user's function may raise anything
        return False
    return True


def _with_outputs(box: BlackBox) -> BlackBox:
    """Find out whether logits or probabilities are answered, and say it; what was said of them is looked at."""
    answers = replace(box, outputs="logits").logits(box.fixed_inputs())
    low, high = answers.min().item(), answers.max().item()
    if box.outputs == "probabilities" and low < 0:
        raise ModelError(f"{box.spec!r} answers {low:.3g}, which is no probability; give outputs=logits")
    if box.outputs is not None:
        return box
    if sum_to_one(answers):
        said = f"the answers of {box.name} are positive and sum to 1: the logarithms of these probabilities are taken"
        return replace(box, outputs="probabilities", notes=(*box.notes, said))
    if low >= 0 and high <= 1:
        raise ModelError(
            f"the answers of {box.spec!r} lie between 0 and 1 and do not sum to 1 (a sigmoid?): give "
            "outputs=probabilities to take each as a share of their sum, or outputs=logits to take them as they are"
        )
    return replace(box, outputs="logits")


def read_options(spec: Spec) -> dict[str, Any]:
    """Read the options that every black box takes: `outputs` and `batch`.

    Raises:
        SpecError: If one is out of range.
    """
    outputs, batch = spec.options.get("outputs"), spec.whole("batch", 0)
    if outputs not in (None, "logits", "probabilities"):
        raise SpecError(f"option outputs of {spec.text!r} must be logits or probabilities, not {outputs!r}")
    if "batch" in spec.options and not batch:
        raise SpecError(f"option batch of {spec.text!r} must be 1 or more, not {spec.options['batch']!r}")
    return {"outputs": outputs, "batch": batch or None}


def hash_of(files: Sequence[Path]) -> str:
    """Hash the content of files, in their order."""
    hashed = hashlib.blake2b(digest_size=16)
    for path in files:
        with path.open("rb") as file:
            hashed.update(hashlib.file_digest(file, "sha256").digest())
    return hashed.hexdigest()


def box_callable(
    function: Callable[..., Any],
    n_classes: int | None,
    preprocess: Preprocess,
    classes: Sequence[str] | None,
    name: str,
    outputs: Outputs | None,
    like: Splits | None,
) -> BlackBox:
    """Describe a function of the caller's; see `from_callable`."""
    if isinstance(function, nn.Module):
        raise ModelError(f"from_callable was given the torch module {name}; from_module lets it learn as well")
    if not callable(function):
        raise ModelError(f"from_callable needs a function, not {type(function).__name__}; load_model reads specs")
    if outputs not in (None, "logits", "probabilities"):
        raise ModelError(f"outputs must be 'logits' or 'probabilities', not {outputs!r}")
    box = BlackBox(
        spec=f"function {name}",
        name=name,
        ask=function,
        identity=hashlib.blake2b(source_of(function).encode(), digest_size=16).hexdigest(),
        preprocess=preprocess,
        n_classes=n_classes or 0,
        classes=tuple(classes) if classes is not None else None,
        outputs=outputs,
    )
    return get_to_know(box, like, "give preprocess=Preprocess(size=…, channels=…) as it wants them")
