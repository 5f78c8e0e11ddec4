"""A torch module that classifies images: the one implementation behind `py:`, `timm:` and `run:`."""

import copy
import hashlib
import inspect
import json
import math
import re
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..data.pixels import prepare
from ..errors import ModelError, first_line
from ..files import make_folder, write_bytes, write_json
from ..types import Family, Preprocess
from .layers import family_of
from .weights import write_weights

ARCHITECTURE = "architecture.py"
"""The copy of a factory's source that is saved with its weights, so that the original may move or change."""

RELATIVE_IMPORT = re.compile(r"^\s*from\s+\.", re.MULTILINE)
"""What makes a source file unfit for a copy."""

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
    """What `run:` needs to build the module again: source, factory, arguments."""
    classes: tuple[str, ...] | None = None
    source: str = ""
    """The code that builds the module, where it is a file of the user's."""
    notes: tuple[str, ...] = ()

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
        for name, value in sorted(self.module.state_dict().items()):
            hashed.update(f"{name}{value.dtype}{list(value.shape)}".encode())
            hashed.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        built = {key: value for key, value in self.architecture.items() if key != "where"}  # its source is hashed
        described = {"preprocess": asdict(self.preprocess), "architecture": built}
        hashed.update(json.dumps(described, sort_keys=True, default=str).encode())
        hashed.update(self.source.encode())
        hashed.update(self._answers.encode())
        return hashed.hexdigest()

    @cached_property
    @torch.no_grad()
    def _answers(self) -> str:
        """Classes and spreads on fixed inputs, coarse enough to be the same on every machine."""
        height, width = self.preprocess.size or (32, 32)
        channels = self.preprocess.channels or len(self.preprocess.mean)
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
        target = make_folder(Path(folder))
        write_weights(self.module, target / "model.safetensors")
        description = {
            "name": self.name,
            "n_classes": self.n_classes,
            "classes": self.classes,
            "preprocess": asdict(self.preprocess),
            "architecture": self.architecture,
        }
        write_json(target / "model.json", description)
        if self.source and not RELATIVE_IMPORT.search(self.source):
            write_bytes(target / ARCHITECTURE, self.source.encode())

    def loading_code(self) -> str:
        """Return Python that loads the saved weights without crossteach."""
        built = self.architecture
        arguments = ", ".join(f"{key}={value!r}" for key, value in built["arguments"].items())
        if built["source"] == "timm":
            lines = ["import timm", f"module = timm.create_model({built['name']!r}, {arguments})".replace(", )", ")")]
        else:
            copied = self.source and not RELATIVE_IMPORT.search(self.source)
            where = Path(ARCHITECTURE if copied else built["where"]).stem
            lines = [f"from {where} import {built['factory']}", f"module = {built['factory']}({arguments})"]
        load = 'module.load_state_dict(safetensors.torch.load_file("model.safetensors"))'
        return "\n".join(["import safetensors.torch", *lines, load])


def count_classes(module: nn.Module, preprocess: Preprocess, channels: int, spec: str) -> int:
    """Ask a module how many classes it scores, by showing it one image.

    Raises:
        ModelError: If it does not accept the image or does not answer [N, C].
    """
    height, width = preprocess.size or (32, 32)
    blank = torch.zeros(1, preprocess.channels or channels, height, width)
    module.eval()
    try:
        with torch.no_grad():
            scores = module(prepare(blank, preprocess))
    except Exception as error:  # the user's code may raise anything
        raise ModelError(
            f"{spec!r} does not accept an image of {list(blank.shape[1:])} ({first_line(error)}); "
            "give ?channels= and ?size= as the model wants them"
        ) from error
    if not isinstance(scores, Tensor) or scores.ndim != 2:
        shape = list(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        raise ModelError(f"{spec!r} must answer logits [N, C] but answers {shape}")
    return int(scores.shape[1])


def source_of(builder: Any) -> str:
    """Return the source of a factory's module: changed code is another model."""
    try:
        return inspect.getsource(inspect.getmodule(builder) or builder)
    except (OSError, TypeError):
        return ""
