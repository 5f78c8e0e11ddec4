"""Divides a student among devices while it trains (torch's FSDP2), for students whose training fits none of them.

A copy learns in shards: each device holds its part of the weights, the gradients and the optimiser's state, and gathers
one block at a time. The student's own module stays whole: it takes what was learnt at the end of each epoch, to be
measured and saved, so that its names, its checkpoints and everything after the training are what they always are.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from ..errors import ModelError, first_line
from ..models.asking import set_mode


def sharded_copy(module: nn.Module, device: torch.device, processes: int) -> nn.Module:
    """Copy a module, and divide the copy among all processes, block by block.

    Args:
        module: Left as it is. Its blocks are what its outermost Sequentials and ModuleLists hold.
        device: Where it is.
        processes: How many there are.

    Raises:
        ModelError: If torch cannot divide it, as where two blocks share a weight.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (processes,))
    learner = copy.deepcopy(module)
    set_mode(learner, training=False)
    try:
        for block in _blocks(learner):
            fully_shard(block, mesh=mesh)
        fully_shard(learner, mesh=mesh)
    except (NotImplementedError, RuntimeError, ValueError) as error:
        raise ModelError(
            f"{type(module).__name__} cannot be divided among devices ({first_line(error)}); drop compute.shard"
        ) from error
    return learner


def _blocks(module: nn.Module) -> list[nn.Module]:
    """List what the outermost Sequentials and ModuleLists inside a module hold, if it has weights."""
    found = []
    for child in module.children():
        if isinstance(module, nn.Sequential | nn.ModuleList):
            found += [child] if any(True for _ in child.parameters()) else []
        else:
            found += _blocks(child)
    return found


@torch.no_grad()
def take_weights(module: nn.Module, learner: nn.Module) -> None:
    """Gather what a divided copy has learnt into the whole module, one weight at a time. All processes must call it."""
    from torch.distributed.tensor import DTensor

    own = module.state_dict()
    for name, value in learner.state_dict().items():
        own[name].copy_(value.full_tensor() if isinstance(value, DTensor) else value)


@contextmanager
def apart(learner: nn.Module) -> Iterator[None]:
    """Let the backward passes inside average no gradients."""
    learner.set_requires_gradient_sync(False)  # type: ignore[operator]
    try:
        yield
    finally:
        learner.set_requires_gradient_sync(True)  # type: ignore[operator]


def gathered_optimiser(learner: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """Return the whole state of an optimiser of a divided copy, by the names of its weights; empty but on rank 0."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict

    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    return dict(get_optimizer_state_dict(learner, optimiser, options=options))


def divide_optimiser(learner: nn.Module, optimiser: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Give an optimiser of a divided copy its part of a whole state, which every process has."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_optimizer_state_dict

    set_optimizer_state_dict(learner, optimiser, state, options=StateDictOptions(full_state_dict=True))


def learning_parts(learner: nn.Module) -> list[nn.Parameter]:
    """Return the weights of a divided copy that learn."""
    return [parameter for parameter in learner.parameters() if parameter.requires_grad]
