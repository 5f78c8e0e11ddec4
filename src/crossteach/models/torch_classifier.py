"""A torch module that classifies images: the one implementation behind `py:`, `timm:` and `run:`."""

import copy
import hashlib
import inspect
import json
import re
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..errors import ModelError, first_line
from ..files import make_folder, write_bytes, write_json
from ..types import Family, Preprocess
from .asking import digest_of_state, evaluation_mode, fixed_inputs, kind, prepare_for, read_logits
from .layers import family_of
from .weights import write_weights

ARCHITECTURE = "architecture.py"
"""The copy of a factory's source that is saved with its weights, so that the original may move or change."""

RELATIVE_IMPORT = re.compile(r"^\s*from\s+\.", re.MULTILINE)
"""What makes a source file unfit for a copy."""

PROJECTIONS = 2
"""Numbers of each fixed input's answer that a fingerprint keeps, beside its class and its spread."""


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
    scoring_batch: int | None = None
    """Images it is asked at once; None chooses by what one costs. See `scoring.batch_rows`."""

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
        returned = self.module(prepare_for(images, self.preprocess, self.device))
        try:
            scores = read_logits(returned, self.n_classes)
        except ModelError as error:
            raise ModelError(f"{self.spec!r}: {error}") from None
        if isinstance(returned, tuple | list):
            mode = "train" if self.module.training else "evaluation"
            said = f"{self.name} answers {kind(returned)} in {mode} mode: its first that scores the classes is taken"
            self.notes = self.notes if said in self.notes else (*self.notes, said)
        return scores

    @property
    def fingerprint(self) -> str:
        """Hash of weights, preprocessing, code and the answers on eight fixed inputs."""
        hashed = hashlib.blake2b(digest_size=16)
        hashed.update(digest_of_state(self.module).encode())
        built = {key: value for key, value in self.architecture.items() if key != "where"}  # its source is hashed
        described = {"preprocess": asdict(self.preprocess), "architecture": built}
        hashed.update(json.dumps(described, sort_keys=True, default=str).encode())
        hashed.update(self.source.encode())
        hashed.update(self._answers.encode())
        return hashed.hexdigest()

    @cached_property
    @torch.no_grad()
    def _answers(self) -> str:
        """What the model says on fixed inputs: asked whenever it is opened, so that changed code is another model.

        Of each answer the class, the spread to two digits, and two projections of the standardised logits to one
        decimal are kept. No rounding is both fine enough to see every change and coarse enough to be the same on every
        machine: this one sees a change of a few percent of the spread, and two machines whose logits differ by one in
        a million disagree about once in 3,000 models. They would ask again, no more.
        """
        with evaluation_mode(self.module):
            logits = self.logits(self.fixed_inputs()).double().cpu()
        spread = logits.std(dim=1, correction=0, keepdim=True)
        signs = torch.rand(logits.shape[1], PROJECTIONS, generator=torch.Generator().manual_seed(1)) < 0.5
        standard = (logits - logits.mean(1, keepdim=True)) / spread.clamp(min=1e-12)
        projected = standard @ (2.0 * signs.double() - 1) / logits.shape[1] ** 0.5
        numbers = [[round(value, 1) + 0.0 for value in row] for row in projected.tolist()]  # no minus zero
        return f"{logits.argmax(1).tolist()} {[f'{s:.2g}' for s in spread[:, 0].tolist()]} {numbers}"

    def fixed_inputs(self) -> Float[Tensor, "8 c h w"]:
        """Return images of a size that the model takes, the same on every machine and whenever it is opened."""
        size = self.preprocess.size or (32, 32)
        return fixed_inputs(size, self.preprocess.channels or len(self.preprocess.mean))

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
    try:
        with torch.no_grad(), evaluation_mode(module):
            returned = module(prepare_for(blank, preprocess, blank.device))
    except ModelError:
        raise
    except Exception as error:  # the user's code may raise anything
        raise ModelError(
            f"{spec!r} does not accept an image of {list(blank.shape[1:])} ({first_line(error)}); "
            "give ?channels= and ?size= as the model wants them"
        ) from error
    scores = returned if isinstance(returned, Tensor) else read_logits(returned)
    if scores.ndim != 2:
        raise ModelError(f"{spec!r} must answer logits [N, C] but answers {kind(returned)}")
    return int(scores.shape[1])


def source_of(builder: Any) -> str:
    """Return the source of a factory's module: changed code is another model."""
    try:
        return inspect.getsource(inspect.getmodule(builder) or builder)
    except (OSError, TypeError):
        return ""
