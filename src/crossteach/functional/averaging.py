"""Averages of weights: the straight path between old and new ones, soups, and the slow weights of MCL."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ..errors import ModelError

State = dict[str, Tensor]


def snapshot(module: nn.Module) -> State:
    """Copy a module's weights and buffers; the copy shares no memory with it.

    Example:
        >>> snapshot(torch.nn.Linear(2, 1))["weight"].shape
        torch.Size([1, 2])
    """
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def interpolate(old: Mapping[str, Tensor], new: Mapping[str, Tensor], alpha: float) -> State:
    """Return (1−alpha)·old + alpha·new: `old` bit for bit at 0, `new` at 1.

    Integer buffers cannot be averaged and come from `new`, except at 0.

    Args:
        old: Weights and buffers by name, as `snapshot` returns them.
        new: The same of the same architecture.
        alpha: In [0, 1].

    Raises:
        ModelError: If the weights are of different architectures.

    Example:
        >>> interpolate({"w": torch.tensor([0.0])}, {"w": torch.tensor([2.0])}, 0.25)
        {'w': tensor([0.5000])}

    Source: Wortsman et al., "Robust fine-tuning of zero-shot models" (CVPR 2022).
    """
    if _shapes(old) != _shapes(new):
        raise ModelError("old and new weights are of different architectures; only those of one can be interpolated")
    if alpha in (0.0, 1.0):
        return {name: value.clone() for name, value in (new if alpha else old).items()}
    return {
        name: torch.lerp(old[name], value, alpha) if value.is_floating_point() else value.clone()
        for name, value in new.items()
    }


def average(states: Sequence[Mapping[str, Tensor]]) -> State:
    """Return the mean of several weights of one architecture: a soup. Integer buffers come from the first.

    Args:
        states: Weights and buffers by name, at least one of them.

    Raises:
        ModelError: If there are none, or they are of different architectures.

    Example:
        >>> average([{"w": torch.tensor([0.0])}, {"w": torch.tensor([2.0])}])
        {'w': tensor([1.])}

    Source: Wortsman et al., "Model soups" (ICML 2022).
    """
    if not states:
        raise ModelError("a soup needs the weights of one student or more, and none are given")
    first = states[0]
    for number, other in enumerate(states[1:], 2):
        if _shapes(first) != _shapes(other):
            raise ModelError(
                f"weights 1 and {number} of a soup are of different architectures; only students of one architecture, "
                "trained from the same start, can be averaged"
            )
    return {
        name: torch.stack([state[name].double() for state in states]).mean(0).to(value.dtype)
        if value.is_floating_point()
        else value.clone()
        for name, value in first.items()
    }


def _shapes(state: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in state.items()}


class SlowWeights:
    """Momentum weight interpolation: every `every` steps slow ← momentum·slow + (1−momentum)·current.

    `state` holds the slow weights and buffers by name.

    Args:
        module: Whose weights it starts from.
        momentum: τ in [0, 1); the closer to 1, the slower.
        every: Optimiser steps between two updates.

    Source: Stojanovski et al., "Momentum-based weight interpolation of strong zero-shot models" (2022); MCL.
    """

    def __init__(self, module: nn.Module, momentum: float, every: int) -> None:
        self.momentum, self.every = momentum, every
        self.state = snapshot(module)

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Move the slow weights after optimiser step number `step` (from 1), if it is their turn."""
        if step % self.every:
            return
        for name, value in module.state_dict().items():
            if value.is_floating_point():
                self.state[name].lerp_(value, 1 - self.momentum)
            else:
                self.state[name].copy_(value)
