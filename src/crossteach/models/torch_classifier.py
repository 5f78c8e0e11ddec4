"""A torch module that classifies images: the one implementation behind `py:`, `timm:` and `run:`."""

import copy
import hashlib
import inspect
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..data.pixels import prepare
from ..errors import ModelError, SpecError, first_line
from ..files import make_folder, write_bytes, write_json
from ..specs import Spec
from ..types import Family, Interpolation, Preprocess
from .weights import write_weights

PREPROCESS_OPTIONS = {"size", "channels", "mean", "std", "interpolation", "crop"}
"""Model options that every source takes."""

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


def family_of(module: nn.Module) -> Family:
    """Tell what mixes the positions of an image: attention, convolutions, or dense layers only.

    A convolution that only cuts patches (kernel no larger than its stride) mixes nothing.
    """
    names = [type(part).__name__.lower() for part in module.modules()]
    if any("attention" in name or name == "attn" for name in names):
        return "transformer"
    convolutions = (p for p in module.modules() if isinstance(p, nn.Conv1d | nn.Conv2d | nn.Conv3d))
    if any(any(k > s for k, s in zip(c.kernel_size, c.stride, strict=True)) for c in convolutions):
        return "convolutional"
    return "mlp" if any(isinstance(part, nn.Linear) for part in module.modules()) else "other"


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


def read_preprocess(spec: Spec, default: Preprocess) -> Preprocess:
    """Put the options of a spec over a model's own preprocessing.

    Raises:
        SpecError: If an option is out of range.
    """
    options = spec.options
    changes: dict[str, Any] = {}
    if "size" in options:
        sides = [int(s) for s in options["size"].split("x")] if _is_size(options["size"]) else []
        if not sides:
            raise SpecError(f"option size of {spec.text!r} must be PIXELS or HEIGHTxWIDTH, not {options['size']!r}")
        changes["size"] = (sides[0], sides[-1])
    if "channels" in options:
        if options["channels"] not in ("1", "3"):
            raise SpecError(f"option channels of {spec.text!r} must be 1 or 3, not {options['channels']!r}")
        changes["channels"] = int(options["channels"])
    for key in ("mean", "std"):
        if key in options:
            try:
                changes[key] = tuple(float(number) for number in options[key].split(","))
            except ValueError:
                raise SpecError(f"option {key} of {spec.text!r} must be numbers, not {options[key]!r}") from None
    if "std" in changes and min(changes["std"]) <= 0:
        raise SpecError(f"option std of {spec.text!r} must be above 0, not {options['std']!r}")
    if "interpolation" in options:
        changes["interpolation"] = read_interpolation(spec, options["interpolation"])
    if "crop" in options:
        changes["crop"] = spec.number("crop", 1.0)
        if not 0 < changes["crop"] <= 1:
            raise SpecError(f"option crop of {spec.text!r} must lie in (0, 1], not {options['crop']!r}")
    return replace(default, **changes)


def _is_size(text: str) -> bool:
    sides = text.split("x")
    return len(sides) in (1, 2) and all(side.isdigit() and int(side) > 0 for side in sides)


def read_interpolation(spec: Spec, word: str) -> Interpolation:
    """Read the name of an interpolation."""
    match word:
        case "bilinear" | "bicubic" | "nearest":
            return word
    raise SpecError(f"option interpolation of {spec.text!r} must be bilinear, bicubic or nearest, not {word!r}")


def from_pretrained_cfg(cfg: Mapping[str, Any]) -> Preprocess:
    """Read timm's description of a model's input (`pretrained_cfg`)."""
    channels, height, width = (int(n) for n in cfg.get("input_size", (3, 224, 224)))
    interpolation = cfg.get("interpolation", "bilinear")
    return Preprocess(
        size=(height, width),
        channels=channels,
        mean=tuple(float(m) for m in cfg.get("mean", (0.0,))),
        std=tuple(float(s) for s in cfg.get("std", (1.0,))),
        interpolation=interpolation if interpolation in ("bilinear", "bicubic", "nearest") else "bicubic",
        crop=float(cfg.get("crop_pct") or 1.0),
    )


def source_of(builder: Any) -> str:
    """Return the source of a factory's module: changed code is another model."""
    try:
        return inspect.getsource(inspect.getmodule(builder) or builder)
    except (OSError, TypeError):
        return ""
