"""Which weights learn: all of them, a part, or low-rank adapters that are folded into the weights afterwards."""

import copy
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import MissingExtraError, ModelError
from ..functional.averaging import State, snapshot
from ..models.layers import find_head

ADAPTER = "crossteach"
"""Name of the adapters while they are there."""


@contextmanager
def learning(module: nn.Module, part: str, n_classes: int) -> Iterator[list[nn.Parameter]]:
    """Let only a part of a module learn: no gradient is computed for the rest, which is as before afterwards.

    Yields:
        The weights that learn; see `learning_weights`.
    """
    chosen = learning_weights(module, part, n_classes)
    inside = {id(p) for p in chosen}
    rest = [p for p in module.parameters() if p.requires_grad and id(p) not in inside]
    for parameter in rest:
        parameter.requires_grad_(False)
    try:
        yield chosen
    finally:
        for parameter in rest:
            parameter.requires_grad_(True)


def learning_weights(module: nn.Module, part: str, n_classes: int) -> list[nn.Parameter]:
    """Return the weights that a part names, of those that may be trained at all.

    Args:
        module: The student.
        part: `norm` (the layers whose type says Norm), `head` (the last layer that scores the classes), `last` (the
            head and the last block before it), anything else for all.
        n_classes: How many classes the head scores.

    Raises:
        ModelError: If the module has no such part.
    """
    layers = {
        "norm": lambda: [m for m in module.modules() if _is_norm(m)],
        "head": lambda: [head_of(module, n_classes)],
        "last": lambda: last_block(module, n_classes),
    }.get(part, lambda: [module])()
    found = {id(p): p for layer in layers for p in layer.parameters() if p.requires_grad}
    if not found:
        raise ModelError(f"optim.trains={part}: the student has no {part} layer with weights that may be trained")
    return list(found.values())


def head_of(module: nn.Module, n_classes: int) -> nn.Module:
    """Return the last layer whose weight has a row for each class.

    Raises:
        ModelError: If there is none.
    """
    head = find_head(module, n_classes)
    if head is None:
        raise ModelError(
            f"no layer of the student scores its {n_classes} classes, so its head is not known; use optim.trains=all"
        )
    return head


def last_block(module: nn.Module, n_classes: int) -> list[nn.Module]:
    """Return the head, the block before it, and what stands between them (a norm)."""
    head = head_of(module, n_classes)
    blocks = _chain(module, head)
    before = blocks[: next((i for i, b in enumerate(blocks) if b is head), 0)]
    chosen = [head]
    for block in reversed(_opened(before, head)):
        chosen.append(block)
        if not _is_norm(block):
            break
    return chosen


def _opened(blocks: list[nn.Module], head: nn.Module) -> list[nn.Module]:
    """Take apart what is alone before the head, and what is alone in it: a backbone is not its own last block."""
    while True:
        alone = [block for block in blocks if not _is_norm(block)]
        inside = _chain(alone[0], head) if len(alone) == 1 else []
        if not inside:
            return blocks
        place = next(i for i, block in enumerate(blocks) if block is alone[0])
        blocks = [*blocks[:place], *inside, *blocks[place + 1 :]]


def _is_norm(module: nn.Module) -> bool:
    """Tell whether a layer normalises; a block that also holds a convolution does not count."""
    return "norm" in type(module).__name__.lower() and not any(map(_has_weights, module.children()))


def _has_weights(module: nn.Module, recurse: bool = True) -> bool:
    """Tell whether a module has weights: of its own or, if `recurse`, of a layer in it."""
    return any(True for _ in module.parameters(recurse))


def _chain(module: nn.Module, head: nn.Module) -> list[nn.Module]:
    """List the blocks of a module in order: what a Sequential holds, and what stands beside the head."""
    blocks: list[nn.Module] = []
    for child in module.children():
        opened = isinstance(child, nn.Sequential | nn.ModuleList) or any(m is head for m in child.modules())
        if opened and child is not head:
            blocks += _chain(child, head)
        elif _has_weights(child):
            blocks.append(child)
    return blocks


@contextmanager
def adapted(module: nn.Module, rank: int) -> Iterator[list[nn.Parameter]]:
    """Put low-rank adapters on a module's dense and convolutional layers, and take them off again.

    Only the adapters learn meanwhile. Layers inside torch's own attention are left out: it reads their weights past
    the adapter.

    Yields:
        The weights of the adapters.

    Raises:
        MissingExtraError: Without peft.
        ModelError: If no layer takes an adapter.

    Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models" (ICLR 2022).
    """
    targets = adaptable_layers(module)
    peft = _peft()
    learnt = {name: p.requires_grad for name, p in module.named_parameters()}
    exactly = "|".join(re.escape(name) for name in targets)  # a list would match the ends of names
    config = peft.LoraConfig(r=rank, lora_alpha=rank, target_modules=exactly, init_lora_weights=True)
    peft.inject_adapter_in_model(config, module, ADAPTER)
    try:
        yield [p for p in module.parameters() if p.requires_grad]
    finally:
        _unwrap(module)
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(learnt[name])


def folded(module: nn.Module, state: Mapping[str, Tensor]) -> State:
    """Return the plain weights that an adapted module's state stands for."""
    plain = copy.deepcopy(module)
    plain.load_state_dict(dict(state))
    for layer in _adapters(plain).values():
        layer.merge(safe_merge=False)
    _unwrap(plain)
    return snapshot(plain)


def _peft() -> Any:
    try:
        import peft
    except ImportError:
        raise MissingExtraError("optim.trains=lora needs peft; pip install 'crossteach[peft]'") from None
    return peft


def adaptable_layers(module: nn.Module) -> list[str]:
    """Return the names of the layers that take an adapter.

    Raises:
        MissingExtraError: Without peft.
        ModelError: If no layer takes one.
    """
    _peft()  # whoever asks this is about to need it
    closed = [
        name for name, m in module.named_modules() if isinstance(m, nn.MultiheadAttention | nn.TransformerEncoderLayer)
    ]
    found = [
        name
        for name, layer in module.named_modules()
        if name and _is_plain(layer) and not any(name.startswith(f"{outer}.") or not outer for outer in closed)
    ]
    if not found:
        kinds = sorted({type(m).__name__ for m in module.modules() if _has_weights(m, recurse=False)})
        raise ModelError(
            f"adapters go on Linear and on Conv2d without groups or dilation, as torch has them, outside torch's own "
            f"attention; the student has only {', '.join(kinds)}; use optim.trains=all"
        )
    return found


def _is_plain(layer: nn.Module) -> bool:
    """Tell whether an adapter beside a layer is the same as one folded into its weights.

    Not so where the layer transforms its weights (weight standardisation, weight norm) or pads with what it sees; and
    an adapter's convolution has no dilation and no groups.
    """
    if layer._parameters.get("weight") is None:  # made by a hook, in every forward pass
        return False
    if type(layer) is nn.Conv2d:
        return layer.groups == 1 and layer.dilation == (1, 1) and layer.padding_mode == "zeros"
    return type(layer) is nn.Linear


def _adapters(module: nn.Module) -> dict[str, Any]:
    from peft.tuners.lora import LoraLayer

    return {name: layer for name, layer in module.named_modules() if isinstance(layer, LoraLayer)}


@torch.no_grad()
def _unwrap(module: nn.Module) -> None:
    """Put every adapted layer's own layer back in its place, and forget that there were adapters."""
    if hasattr(module, "peft_config"):
        del module.peft_config
    for name, layer in _adapters(module).items():
        module.set_submodule(name, layer.base_layer)
