"""The types that every room of the house passes on."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from .errors import MissingLabelsError

Size = tuple[int, int]
"""Height and width in pixels."""

Family = Literal["convolutional", "transformer", "mlp", "other"]
Interpolation = Literal["bilinear", "bicubic", "nearest"]
SplitName = Literal["train", "selection", "test"]

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how many units are done, and how many there are."""


def no_progress(what: str, done: int, total: int) -> None:
    """Report nothing: the default `Progress`."""


@dataclass(frozen=True)
class Preprocess:
    """What a model wants done to pixels in [0, 1] before it sees them."""

    size: Size | None = None
    """Height and width of its input; None takes the data's own size."""
    channels: int | None = None
    """1 or 3; None takes the data's own channels."""
    mean: tuple[float, ...] = (0.0,)
    """Subtracted, one number or one per channel."""
    std: tuple[float, ...] = (1.0,)
    """Divided by, one number or one per channel."""
    interpolation: Interpolation = "bilinear"
    """How images of another size are resized."""
    crop: float = 1.0
    """Share of the shorter side that the central evaluation crop keeps."""


@runtime_checkable
class Inputs(Protocol):
    """Where the pixels of a split come from."""

    size: Size | None
    """Height and width where all images share them (arrays); None where they differ (files)."""
    channels: int
    """1 or 3."""
    fingerprint: str
    """Changes whenever a pixel may have changed."""

    def __len__(self) -> int: ...

    def read(
        self, rows: Int[np.ndarray, " n"], size: Size | None, boxes: Float[Tensor, "n 4"] | None
    ) -> Float[Tensor, "n c h w"]:
        """Read images as floats in [0, 1].

        Args:
            rows: Positions in the split.
            size: Height and width to deliver; None keeps the data's own.
            boxes: Left, top, right, bottom of a crop, as shares of width and height; None is the whole image.
        """
        ...

    def aspect(self, rows: Int[np.ndarray, " n"]) -> Float[Tensor, " n"]:
        """Width over height of each image."""
        ...


@dataclass(frozen=True)
class Split:
    """Samples with stable ids, their labels where there are any, and the groups they come from."""

    name: SplitName
    inputs: Inputs
    ids: Int[np.ndarray, " N"]
    """Stable for a sample whatever stands around it; views are keyed by it."""
    labels: Int[np.ndarray, " N"] | None = None
    """Class ids in [0, C); None where the split has no labels."""
    group: Int[np.ndarray, " N"] | None = None
    """What samples have in common (a font family, a patient): intervals are drawn over groups."""
    rows: Int[np.ndarray, " N"] | None = None
    """Which rows of `inputs` belong to this split; None is all of them."""

    def __len__(self) -> int:
        return len(self.ids)

    def input_rows(self, index: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
        """Translate positions in this split to rows of its inputs."""
        return index if self.rows is None else self.rows[index]

    def take(self, index: Int[np.ndarray, " n"], name: SplitName | None = None) -> "Split":
        """Return the samples at these positions, in this order, as a split of their own."""
        return Split(
            name=name or self.name,
            inputs=self.inputs,
            ids=self.ids[index],
            labels=None if self.labels is None else self.labels[index],
            group=None if self.group is None else self.group[index],
            rows=self.input_rows(index),
        )


@dataclass(frozen=True)
class Splits:
    """One data set: what a student trains on, what decides, and what reports."""

    spec: str
    classes: tuple[str, ...]
    train: Split
    selection: Split
    test: Split
    selection_seen: bool = False
    """Whether selection was cut from train, which pretrained models may have memorised."""
    fingerprint: str = ""
    notes: tuple[str, ...] = ()
    """What the user should know about this data, one sentence each."""
    augmentation: str = "auto"
    """The augmentation that suits this data, by name; a config overrides it."""


@runtime_checkable
class Classifier(Protocol):
    """Something that answers: enough to teach."""

    spec: str
    name: str
    preprocess: Preprocess
    classes: tuple[str, ...] | None
    """Class names, where the model knows them."""
    n_classes: int

    @property
    def n_parameters(self) -> int:
        """How many numbers it learnt; 0 where nobody knows."""
        ...

    @property
    def family(self) -> Family:
        """What mixes the positions of its input."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hash of its weights, its preprocessing, its code, and its answers on eight fixed inputs."""
        ...

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        ...

    def logits(self, images: Float[Tensor, "N c h w"]) -> Float[Tensor, "N C"]:
        """Score images given in [0, 1], at any size; resizing and normalising is the model's own business."""
        ...


@runtime_checkable
class TrainableClassifier(Classifier, Protocol):
    """A classifier whose weights are at hand: enough to learn."""

    module: nn.Module

    def clone(self) -> "TrainableClassifier":
        """Copy the model; no tensor is shared."""
        ...

    def save(self, folder: str) -> None:
        """Write weights and description so that `run:FOLDER` opens them again."""
        ...

    def loading_code(self) -> str:
        """Return Python that loads the saved weights without crossteach."""
        ...


@dataclass(frozen=True)
class Predictions:
    """What one model says about one split. All analysis starts here."""

    model: str
    logits: Float[Tensor, "N C"]
    """float32."""
    labels: Int[Tensor, " N"] | None
    ids: Int[np.ndarray, " N"]
    model_fingerprint: str
    data_fingerprint: str
    group: Int[np.ndarray, " N"] | None = None

    @property
    def n_classes(self) -> int:
        """How many classes the model scores."""
        return self.logits.shape[1]

    @property
    def preds(self) -> Int[Tensor, " N"]:
        """The class each sample is given."""
        return self.logits.argmax(dim=1)

    @property
    def correct(self) -> Bool[Tensor, " N"]:
        """Which samples are right."""
        if self.labels is None:
            raise MissingLabelsError("predictions without labels cannot be right or wrong; give a split with labels")
        return self.preds == self.labels

    @property
    def accuracy(self) -> float:
        """Share of samples that are right, in %."""
        return 100.0 * self.correct.double().mean().item()
