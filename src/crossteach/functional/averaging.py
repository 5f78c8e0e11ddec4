"""Averages of weights: the slow weights of MCL, and the straight path between old and new."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ..errors import ModelError

State = dict[str, Tensor]


def snapshot(module: nn.Module) -> State:
    """Copy a module's weights and buffers; the copy shares nothing with it."""
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def interpolate(old: Mapping[str, Tensor], new: Mapping[str, Tensor], alpha: float) -> State:
    """Return (1−alpha)·old + alpha·new; at 0 and 1 the ends, bit for bit.

    Integer buffers cannot be averaged and come from `new`, but for alpha = 0.

    Source: Wortsman et al., "Robust fine-tuning of zero-shot models" (CVPR 2022).
    """
    if alpha in (0.0, 1.0):
        return {name: value.clone() for name, value in (new if alpha else old).items()}
    return {
        name: torch.lerp(old[name], value, alpha) if value.is_floating_point() else value.clone()
        for name, value in new.items()
    }


def average(states: Sequence[Mapping[str, Tensor]]) -> State:
    """Return the mean of several weights of one architecture: a soup. Integer buffers come from the first.

    Raises:
        ModelError: If the weights are of different architectures.

    Source: Wortsman et al., "Model soups" (ICML 2022).
    """
    first = states[0]
    for number, other in enumerate(states[1:], 2):
        if {n: v.shape for n, v in first.items()} != {n: v.shape for n, v in other.items()}:
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


class SlowWeights:
    """Momentum weight interpolation: every `every` steps slow ← momentum·slow + (1−momentum)·current.

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
