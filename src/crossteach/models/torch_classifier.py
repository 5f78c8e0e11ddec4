"""A torch module that classifies images: the one implementation behind `py:`, `timm:` and `run:`."""

import copy
import hashlib
import json
import math
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..data.pixels import prepare
from ..errors import ModelError
from ..types import Family, Preprocess
from . import saving
from .extra_state import extra_bytes
from .layers import family_of
from .weights import tensors

FIXED_INPUTS = 8
"""How many fixed inputs a fingerprint answers."""


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

    def __post_init__(self) -> None:
        self.module.eval()
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
        """Score images given in [0, 1]."""
        scores: Tensor = self.module(prepare(images.to(self.device), self.preprocess))
        return scores

    @property
    def fingerprint(self) -> str:
        """Hash of weights, preprocessing, code and the answers on eight fixed inputs."""
        hashed = hashlib.blake2b(digest_size=16)
        for name, value in sorted(tensors(self.module.state_dict()).items()):
            hashed.update(f"{name}{value.dtype}{list(value.shape)}".encode())
            hashed.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        built = {key: value for key, value in self.architecture.items() if key != "where"}  # its source is hashed
        described = {"preprocess": asdict(self.preprocess), "architecture": built}
        hashed.update(json.dumps(described, sort_keys=True, default=str).encode())
        hashed.update(self.source.encode() + extra_bytes(self.module))
        hashed.update(self._answers.encode())
        return hashed.hexdigest()

    @cached_property
    @torch.no_grad()
    def _answers(self) -> str:
        """Classes and spreads on fixed inputs, coarse enough to be the same on every machine."""
        known = self.shape or (len(self.preprocess.mean), 32, 32)
        channels, (height, width) = self.preprocess.channels or known[0], self.preprocess.size or known[1:]
        inputs = torch.rand(FIXED_INPUTS, channels, height, width, generator=torch.Generator().manual_seed(0))
        was_training = [m for m in self.module.modules() if m.training]
        self.module.eval()
        scores = self.logits(inputs).float().cpu()
        for part in was_training:
            part.training = True
        spread = [f"{s:.2g}" if math.isfinite(s) else "nan" for s in scores.std(dim=1).tolist()]
        return f"{scores.argmax(1).tolist()} {spread}"

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
