"""What the targets of an export have in common: what is exported, and how a target writes and opens it."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..models.asking import read_logits
from ..models.torch_classifier import TorchClassifier

Ask = Callable[[Tensor], Tensor]
"""Images [N, C, H, W] in [0, 1], of the size that the model takes, or texts [N, 1, 1, L], to logits [N, classes]."""


@dataclass(frozen=True)
class Exportable:
    """A student, and what its weights alone do not say."""

    student: TorchClassifier
    classes: tuple[str, ...]
    """In the order of the logits."""
    shape: tuple[int, int, int]
    """Channels, height and width of the images that it takes; of texts nothing reads it."""
    licence: str | None
    """Of what is exported, where it is known; see `licences.licence_of_all`."""

    @property
    def reads_text(self) -> bool:
        """Whether its model reads text, not images."""
        return self.student.preprocess.kind == "text"


def takes_images(student: TorchClassifier) -> bool:
    """Tell a model of images from one of text."""
    return student.preprocess.kind == "image"


@dataclass(frozen=True)
class Target:
    """One kind of export: functions that write it, open it again without crossteach's help, and say how it is used."""

    library: str
    """What opens it, as the hub calls it."""
    write: Callable[[Exportable, Path], None]
    open: Callable[[Exportable, Path], Ask]
    """The export as its library opens it; normalisation is added where the export does not hold it."""
    usage: Callable[[Exportable], str]
    """Python that opens the folder and scores images, or texts."""
    exact: bool
    """Whether its logits are the student's bit for bit; else they agree to rounding."""
    holds: str
    """What of the preprocessing it holds, in words."""
    fits: Callable[[TorchClassifier], bool] = takes_images
    """Whether a student can go there."""


class Normalised(nn.Module):
    """A model with its normalisation inside: images in [0, 1] to one tensor of logits."""

    mean: Tensor
    std: Tensor

    def __init__(self, student: TorchClassifier) -> None:
        super().__init__()
        self.model, self.n_classes = student.module, student.n_classes
        self.register_buffer("mean", torch.tensor(student.preprocess.mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(student.preprocess.std)[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Score images [N, C, H, W] in [0, 1]; they stay as they are."""
        return read_logits(self.model((images - self.mean) / self.std), self.n_classes)


@contextmanager
def quietly() -> Iterator[None]:
    """Keep warnings of exporters from the user: that a trace may miss something is settled by asking the export."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def example(what: Exportable) -> Float[Tensor, "2 c h w"]:
    """Return images to trace a model with: two, as a batch of one is a special case to a tracer."""
    return torch.rand(2, *what.shape, generator=torch.Generator().manual_seed(0))


def takes(what: Exportable) -> str:
    """Say in words what the model takes, and how images come to its size."""
    if what.reads_text:
        return "texts"
    preprocess, (channels, height, width) = what.student.preprocess, what.shape
    colour = "grey (one channel)" if channels == 1 else "RGB"
    cut = {
        "center": "the shorter side to {} and the centre cut out",
        "squash": "both sides to {}, and the centre cut out",
        "border": "the longer side to {}, on a ground in the colour of the mean",
    }[preprocess.crop_mode].format(f"the model's size / {preprocess.crop:.4g}" if preprocess.crop != 1 else "that size")
    resized = f"others are resized ({preprocess.interpolation}, antialiased), {cut}"
    return f"images that are {colour}, {height} by {width} pixels; {resized}"
