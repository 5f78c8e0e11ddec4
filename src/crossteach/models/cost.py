"""How much one image costs a model, counted in one forward pass: the same on every machine."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..types import Classifier
from .asking import evaluation_mode

ELEMENT = 50
"""Multiply-adds that take as long as writing and reading one number that a layer returns."""


def count_cost(classifier: Classifier, image: Float[Tensor, "1 c h w"]) -> int:
    """Return the multiply-adds that an image costs, what its layers write counted in multiply-adds too.

    Layers are watched, not kernels, so what a module computes outside its layers is not counted.

    Args:
        classifier: A model with a module.
        image: In [0, 1].
    """
    module: nn.Module = classifier.module  # type: ignore[attr-defined]
    cost = 0

    def add(layer: nn.Module, _: Any, returned: Any) -> None:
        nonlocal cost
        first = next((r for r in returned if isinstance(r, Tensor)), None) if isinstance(returned, tuple) else returned
        if isinstance(first, Tensor) and first.numel():
            cost += _multiply_adds(layer, first)
            cost += 0 if _has_layers(layer) else ELEMENT * first.numel()

    watching = [layer.register_forward_hook(add) for layer in module.modules()]
    try:
        with torch.no_grad(), evaluation_mode(module):
            classifier.logits(image)
    finally:
        for watched in watching:
            watched.remove()
    return cost


def _multiply_adds(layer: nn.Module, returned: Tensor) -> int:
    """Count those of a layer's own weights: each number that is returned reads a row, or each place reads them all."""
    if isinstance(layer, nn.Embedding | nn.EmbeddingBag):  # looks up, and multiplies nothing
        return 0
    total = 0
    for name, weight in layer.named_parameters(recurse=False):
        if weight.ndim > 1:
            reads_rows = name == "weight" and weight.shape[0] in returned.shape
            total += returned.numel() * weight[0].numel() if reads_rows else _places(returned) * weight.numel()
    return total


def _places(returned: Tensor) -> int:
    return returned.numel() // returned.shape[-1] if returned.ndim else 1


def _has_layers(layer: nn.Module) -> bool:
    return any(True for _ in layer.children())
