"""A torch module that classifies images: the one implementation behind `py:`, `timm:` and `run:`."""

import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..config import ScoringPrecision
from ..data.texts import fixed_texts
from ..errors import ModelError
from ..types import Family, Preprocess
from . import saving
from .asking import (
    ask,
    describe_answers,
    digest_of_state,
    evaluation_mode,
    fixed_inputs,
    kind,
    prepare_for,
    read_logits,
    tokenized,
)
from .extra_state import extra_bytes
from .layers import family_of


@dataclass
class TorchClassifier:
    """A module, what it wants done to pixels, and where it came from."""

    spec: str
    name: str
    module: nn.Module
    preprocess: Preprocess
    n_classes: int
    architecture: dict[str, Any]
    """What `run:` needs to build the module again: source, factory, arguments; empty for a caller's own module."""
    classes: tuple[str, ...] | None = None
    source: str = ""
    """The code that builds the module, where it is a file of the user's."""
    notes: tuple[str, ...] = ()
    shape: tuple[int, int, int] | None = None
    """Channels, height and width of an image that the module is known to answer, whatever data it is opened for."""
    scoring_batch: int | None = None
    """Images it is asked at once; None chooses by what one costs. See `scoring.batch_rows`."""
    scoring_precision: ScoringPrecision = "float32"
    """In which it is asked, where its answers are wanted and not its gradients."""

    def __post_init__(self) -> None:
        if not self.n_parameters:
            raise ModelError(f"{self.spec!r} has no parameters; a model that learns and teaches needs weights")
        if self.classes is not None and len(self.classes) != self.n_classes:
            raise ModelError(f"{self.spec!r} names {len(self.classes)} classes but scores {self.n_classes}")

    @property
    def n_parameters(self) -> int:
        """How many numbers the module learns."""
        return sum(p.numel() for p in self.module.parameters())

    @property
    def family(self) -> Family:
        """What mixes its positions."""
        return family_of(self.module)

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return next(self.module.parameters()).device

    def logits(self, images: Float[Tensor, "N c h w"]) -> Float[Tensor, "N C"]:
        """Score images given in [0, 1]; they stay as they are, whatever the module does to its input.

        Raises:
            ModelError: If the module returns no logits.
        """
        returned = ask(self.module, self.prepared(images))
        try:
            scores = read_logits(returned, self.n_classes)
        except ModelError as error:
            raise ModelError(f"{self.spec!r}: {error}") from None
        if isinstance(returned, tuple | list):
            mode = "train" if self.module.training else "evaluation"
            said = f"{self.name} answers {kind(returned)} in {mode} mode: its first that scores the classes is taken"
            self.notes = self.notes if said in self.notes else (*self.notes, said)
        return scores

    def prepared(self, images: Float[Tensor, "N c h w"]) -> Tensor | Mapping[str, Tensor]:
        """Bring images, or texts, to what the module takes; a mapping is given to it as named arguments."""
        if self.preprocess.kind == "text":
            return tokenized(self.module, images, self.device)
        return prepare_for(images, self.preprocess, self.device)

    @property
    def fingerprint(self) -> str:
        """Hash of weights, preprocessing, code and the answers on eight fixed inputs."""
        hashed = hashlib.blake2b(digest_size=16)
        hashed.update(digest_of_state(self.module).encode())
        built = {key: value for key, value in self.architecture.items() if key != "where"}  # its source is hashed
        described = {"preprocess": asdict(self.preprocess), "architecture": built}
        hashed.update(json.dumps(described, sort_keys=True, default=str).encode())
        hashed.update(self.source.encode() + extra_bytes(self.module))
        hashed.update(self._answers.encode())
        return hashed.hexdigest()

    @cached_property
    @torch.no_grad()
    def _answers(self) -> str:
        """What the model says on fixed inputs: asked whenever it is opened, so that changed code is another model."""
        with evaluation_mode(self.module):
            return describe_answers(self.logits(self.fixed_inputs()))

    def fixed_inputs(self) -> Float[Tensor, "8 c h w"]:
        """Return images of a size that the model takes, or texts: the same everywhere and whenever it is opened."""
        if self.preprocess.kind == "text":
            return fixed_texts()
        known = self.shape or (len(self.preprocess.mean), 32, 32)
        return fixed_inputs(self.preprocess.size or known[1:], self.preprocess.channels or known[0])

    def clone(self) -> "TorchClassifier":
        """Copy the model; no tensor is shared."""
        return replace(self, module=copy.deepcopy(self.module))

    def to(self, device: torch.device | str) -> "TorchClassifier":
        """Move the module to a device, in place, and return the model."""
        self._answers  # noqa: B018  taken on the device it was loaded on, then kept
        self.module.to(device)
        return self

    def save(self, folder: str | Path) -> None:
        """Write `model.safetensors` and `model.json`, so that `run:FOLDER` opens them again."""
        saving.save(self, Path(folder))

    def loading_code(self) -> str:
        """Return Python that loads the saved weights without crossteach."""
        return saving.loading_code(self)
