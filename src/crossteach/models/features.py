"""What a model makes of images before it scores classes: where its features are, and how to read them on the way."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..errors import ModelError
from ..types import TrainableClassifier
from .asking import evaluation_mode
from .layers import find_head

AUTO = "auto"
"""The input of the head: the penultimate features."""
LISTED = 40
"""Layers that a message names."""


@dataclass(frozen=True)
class Layer:
    """A place in a module where features can be read."""

    name: str
    of_input: bool = False
    """Whether the features are what the layer is given; else what it returns."""


@dataclass
class Seen:
    """What a layer has shown in the last forward pass."""

    features: Float[Tensor, "N F"] | None = None
    """In float32, averaged over places or tokens where there are any; None before the layer is reached."""

    def keep(self, values: Any) -> None:
        """Take features from what a layer is given or returns, at once: the next layer may work in place.

        Raises:
            ModelError: If the values are no features.
        """
        if not isinstance(values, Tensor) or values.ndim not in (2, 3, 4) or not values.is_floating_point():
            what = list(values.shape) if isinstance(values, Tensor) else type(values).__name__
            raise ModelError(f"expected [N, F], [N, tokens, F] or [N, F, h, w], not {what}")
        values = values.float()
        mean = values.mean((2, 3)) if values.ndim == 4 else values.mean(1) if values.ndim == 3 else values.clone()
        self.features = mean


@contextmanager
def reading(module: nn.Module, layer: Layer) -> Iterator[Seen]:
    """Watch a layer of a module: every forward pass meanwhile leaves its features in what is yielded."""
    seen, place = Seen(), module.get_submodule(layer.name)

    def keep_input(_: nn.Module, given: tuple[Any, ...]) -> None:
        seen.keep(given[0] if given else None)

    def keep_output(_: nn.Module, __: tuple[Any, ...], returned: Any) -> None:
        seen.keep(returned)

    watching = (
        place.register_forward_pre_hook(keep_input) if layer.of_input else place.register_forward_hook(keep_output)
    )
    try:
        yield seen
    finally:
        watching.remove()


def find_layer(classifier: TrainableClassifier, name: str, setting: str) -> Layer:
    """Find where a model's features are: a layer by its name, or the input of the head (`auto`).

    Args:
        classifier: The model.
        name: As in `named_modules()`, or auto.
        setting: The key with which a user names the layer, for the message.

    Raises:
        ModelError: If there is no such layer, or no head; the message lists the layers.
    """
    modules = {key: module for key, module in classifier.module.named_modules() if key}
    if name in modules:
        return Layer(name)
    head = find_head(classifier.module, classifier.n_classes)
    place = next((key for key, module in modules.items() if module is head), None)
    if name == AUTO and place is not None:
        return Layer(place, of_input=True)
    problem = f"no layer scores its {classifier.n_classes} classes" if name == AUTO else f"it has no layer {name!r}"
    raise ModelError(
        f"the features of {classifier.spec!r} cannot be found: {problem}; {_one_of(classifier.module, setting)}"
    )


def _one_of(module: nn.Module, setting: str) -> str:
    names = [name for name, _ in module.named_modules() if name]
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return f"give {setting}=NAME, one of {', '.join(names[:LISTED]) or '(it has no layers)'}{more}"


@dataclass(frozen=True)
class FeaturePair:
    """Where the features of a student and of its teacher are, and how many there are of each."""

    student: Layer
    teacher: Layer
    widths: tuple[int, int]
    tutor: TrainableClassifier
    """The teacher itself: its features are not stored, so it is asked in every step."""


@torch.no_grad()
def features_of(
    classifier: TrainableClassifier, layer: Layer, images: Float[Tensor, "N c h w"]
) -> Float[Tensor, "N F"]:
    """Ask a model for its features, in evaluation mode and without gradient."""
    with evaluation_mode(classifier), reading(classifier.module, layer) as seen:
        classifier.logits(images)
    if seen.features is None:
        raise ModelError("it is not reached")
    return seen.features


@torch.no_grad()
def count_features(
    classifier: TrainableClassifier, layer: Layer, images: Float[Tensor, "N c h w"], setting: str
) -> int:
    """Return how many features a layer gives, by asking the model once.

    Raises:
        ModelError: If the layer gives none for each image; the message lists the layers.
    """
    try:
        features = features_of(classifier, layer, images)
    except ModelError as error:
        problem = str(error)
    else:
        if len(features) == len(images):
            return features.shape[1]
        problem = f"it gives {len(features)} rows for {len(images)} images"
    raise ModelError(
        f"layer {layer.name!r} of {classifier.spec!r} gives no features: {problem}; "
        f"{_one_of(classifier.module, setting)}"
    )
