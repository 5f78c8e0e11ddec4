"""The types that all folders of the package share: data, models, and what a model predicts."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from .errors import MissingLabelsError

Size = tuple[int, int]
"""Height and width in pixels."""

Kind = Literal["image", "text"]
"""What a model reads, and what a split holds."""
Family = Literal["convolutional", "transformer", "mlp", "other"]
Interpolation = Literal["bilinear", "bicubic", "nearest", "lanczos", "box", "hamming"]
CropMode = Literal["center", "squash", "border"]
SplitName = Literal["train", "selection", "test", "pool"]

NO_LABEL = -100
"""Stands for the label of a sample that has none, as in torch's cross-entropy."""

NO_ANSWER = -1
"""Stands for the class that a model gives a sample which it has no answer to."""

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how many units are done, and how many there are."""


def no_progress(what: str, done: int, total: int) -> None:
    """Report nothing: the default `Progress`."""


@dataclass(frozen=True)
class Preprocess:
    """How images with pixels in [0, 1] are prepared for one model: size, crop and normalisation."""

    size: Size | None = None
    """Height and width of the model's input; None takes the data's own size."""
    channels: int | None = None
    """1 or 3; None takes the data's own channels."""
    mean: tuple[float, ...] = (0.0,)
    """Subtracted, one number or one per channel."""
    std: tuple[float, ...] = (1.0,)
    """Divided by, one number or one per channel."""
    interpolation: Interpolation = "bilinear"
    """How images of another size are resized."""
    crop: float = 1.0
    """Share of the resized sides that the central evaluation crop keeps; above 1 a margin is added."""
    crop_mode: CropMode = "center"
    """How an image of another shape is evaluated: `center` cuts the longer side, `squash` changes the shape, `border`
    adds margins in the colour of the mean."""
    kind: Kind = "image"
    """`text` is given to the model's own tokenizer; nothing of the above is done to it."""


@runtime_checkable
class Inputs(Protocol):
    """Where the pixels, or the texts, of a split come from."""

    kind: Kind
    """`text`: what is read is a batch of bytes, see `data.texts`."""
    size: Size | None
    """Height and width where all images share them (arrays); None where they differ (files)."""
    channels: int
    """1 or 3."""
    fingerprint: str
    """Changes whenever a pixel may have changed."""

    def __len__(self) -> int: ...

    def read(
        self,
        rows: Int[np.ndarray, " n"],
        size: Size | None,
        boxes: Float[Tensor, "n 4"] | None,
        interpolation: Interpolation = "bilinear",
    ) -> Float[Tensor, "n c h w"]:
        """Read images as floats in [0, 1], contiguous in memory.

        Args:
            rows: Positions in the split.
            size: Height and width to deliver; None keeps the data's own.
            boxes: Left, top, right, bottom of a crop, as shares of width and height; None is the whole image.
            interpolation: How image files are resized. Arrays are cut at their own size; models resize them.
        """
        ...

    def evaluation(self, rows: Int[np.ndarray, " n"], preprocess: Preprocess) -> Float[Tensor, "n c h w"]:
        """Read images as a model is evaluated on them: resized and cropped its own way, in [0, 1], contiguous."""
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
    """One number for each sample, the same in any order or subset; a sample's views depend on it."""
    labels: Int[np.ndarray, " N"] | None = None
    """Class ids in [0, C); `NO_LABEL` for a sample of train that has none, None where no sample has one."""
    group: Int[np.ndarray, " N"] | None = None
    """What samples have in common (a font family, a patient): intervals are drawn over groups."""
    rows: Int[np.ndarray, " N"] | None = None
    """Which rows of `inputs` belong to this split; None is all of them."""
    group_names: tuple[str, ...] = ()
    """What each group is called; `group` indexes them."""

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of its pixels, ids and order; labels and its name do not change what a model answers."""
        hashed = hashlib.blake2b(self.inputs.fingerprint.encode(), digest_size=16)
        hashed.update(np.ascontiguousarray(self.ids).tobytes())
        if self.rows is not None:
            hashed.update(np.ascontiguousarray(self.rows).tobytes())
        return hashed.hexdigest()

    def input_rows(self, index: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
        """Translate positions in this split to rows of its inputs."""
        return index if self.rows is None else self.rows[index]

    def labelled(self) -> "Split":
        """Return the samples that have a label; all of them where none has one, or each."""
        if self.labels is None or not bool((self.labels == NO_LABEL).any()):
            return self
        return self.take(np.flatnonzero(self.labels != NO_LABEL))

    def take(self, index: Int[np.ndarray, " n"], name: SplitName | None = None) -> "Split":
        """Return the samples at these positions, in this order, as a split of their own."""
        return Split(
            name=name or self.name,
            inputs=self.inputs,
            ids=self.ids[index],
            labels=None if self.labels is None else self.labels[index],
            group=None if self.group is None else self.group[index],
            rows=self.input_rows(index),
            group_names=self.group_names,
        )


@dataclass(frozen=True)
class Pool:
    """Fresh samples without labels: what tutors know goes over best on images that no model has seen."""

    spec: str
    split: Split
    """What is left of it; no labels are kept."""
    found: int
    """Samples that its source holds."""
    dropped: Mapping[str, int] = field(default_factory=dict)
    """How many were left out, by reason."""
    notes: tuple[str, ...] = ()
    """What the user should know of it, one sentence each."""


@dataclass(frozen=True)
class Splits:
    """One data set: train and the pools teach, selection decides, test reports."""

    spec: str
    classes: tuple[str, ...]
    train: Split
    selection: Split
    test: Split
    selection_seen: bool = False
    """Whether selection was cut from train, which pretrained models may have memorised."""
    notes: tuple[str, ...] = ()
    """What the user should know about this data, one sentence each."""
    augmentation: str = "auto"
    """The augmentation that suits this data, by name; a config overrides it."""
    pools: tuple[Pool, ...] = ()
    """Unlabelled samples that teach beside train, or instead of it."""

    @property
    def taught(self) -> tuple[Split, ...]:
        """What a student may be taught on: train, unless it is empty, and the pools."""
        return tuple(split for split in (self.train, *(pool.split for pool in self.pools)) if len(split))

    @property
    def opens_by(self) -> str | None:
        """The spec that opens the data beside their pools again; None where there are pools alone."""
        of_a_pool = bool(self.pools) and self.test.inputs is self.pools[0].split.inputs
        return None if of_a_pool else self.spec

    @property
    def has_train_labels(self) -> bool:
        """Whether any sample of train has a label."""
        return self.train.labels is not None and bool((self.train.labels != NO_LABEL).any())

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all that a result depends on: pixels, ids, order, labels, groups, class names, augmentation, pools.

        It is derived from the parts, so other parts make another fingerprint. The spec is only a name and not a part.
        """
        described = "\0".join((*self.classes, self.augmentation, str(self.selection_seen)))
        hashed = hashlib.blake2b(described.encode("utf-8", "surrogateescape"), digest_size=16)
        for split in (self.train, self.selection, self.test):
            hashed.update(f"{split.name}{split.fingerprint}".encode())
            for values in (split.labels, split.group):
                hashed.update(b"none" if values is None else np.ascontiguousarray(values).tobytes())
        for pool in self.pools:
            hashed.update(f"pool{pool.split.fingerprint}".encode())
        return hashed.hexdigest()


@runtime_checkable
class Classifier(Protocol):
    """A model that can teach: it returns logits for images. Its weights need not be at hand."""

    spec: str
    name: str
    preprocess: Preprocess
    classes: tuple[str, ...] | None
    """Class names, where the model knows them."""
    n_classes: int

    @property
    def n_parameters(self) -> int:
        """Number of trained parameters; 0 where it is not known."""
        ...

    @property
    def family(self) -> Family:
        """Its kind, by the layers that mix the positions of its input."""
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
        """Score images given in [0, 1], at any size; the model resizes and normalises them itself."""
        ...


@runtime_checkable
class TrainableClassifier(Classifier, Protocol):
    """A model that can learn: a classifier with its torch module."""

    module: nn.Module

    def prepared(self, images: Float[Tensor, "N c h w"]) -> Tensor | Mapping[str, Tensor]:
        """Bring images, or texts, to what the module takes; a mapping is given to it as named arguments."""
        ...

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
    """The logits of one model on every sample of one split. All analysis starts here."""

    model: str
    logits: Float[Tensor, "N C"]
    """float32."""
    labels: Int[Tensor, " N"] | None
    ids: Int[np.ndarray, " N"]
    model_fingerprint: str
    data_fingerprint: str
    group: Int[np.ndarray, " N"] | None = None
    knows: Bool[Tensor, " C"] | None = None
    """Which classes the model knows, where a label map gives it fewer than all."""

    @property
    def n_classes(self) -> int:
        """How many classes the model scores."""
        return self.logits.shape[1]

    @property
    def answered(self) -> Bool[Tensor, " N"]:
        """Which samples the model has an answer to: of the others its logits are NaN."""
        return ~self.logits[:, 0].isnan()

    @property
    def preds(self) -> Int[Tensor, " N"]:
        """The class each sample is given; `NO_ANSWER` where there is none."""
        return self.logits.argmax(dim=1).masked_fill(~self.answered, NO_ANSWER)

    @property
    def correct(self) -> Bool[Tensor, " N"]:
        """Which samples are right."""
        if self.labels is None:
            raise MissingLabelsError("predictions without labels cannot be right or wrong; give a split with labels")
        return self.preds == self.labels

    @property
    def accuracy(self) -> float:
        """Share that is right of the samples that it answers, in %."""
        return 100.0 * self.correct[self.answered].double().mean().item()
