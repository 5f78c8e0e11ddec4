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
from ..models.asking import ask, evaluation_mode, read_logits
from ..models.layers import find_heads

ADAPTER = "crossteach"
"""Name of the adapters while they are there."""
MOST_OF_LAST = 0.5
"""Share of all weights that the last block may hold: what is more than half of a model is not the end of it."""
LEAST_OF_LAST = 1e-3
"""Share of all weights below which something is no block: a scale, position weights, a head that only training uses."""
FOLDED_APART = 1e-3
"""By how much logits may move when adapters are folded, as a share of the largest: float32 moves them by 1e-5."""


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
        part: `norm` (the layers whose type says Norm), `head` (every layer that scores the classes), `last` (the heads
            and the last block before them), anything else for all.
        n_classes: How many classes the head scores.

    Raises:
        ModelError: If the module has no such part, or if its last block is most of it.
    """
    layers = {
        "norm": lambda: [m for m in module.modules() if _is_norm(m)],
        "head": lambda: heads_of(module, n_classes),
        "last": lambda: last_block(module, n_classes),
    }.get(part, lambda: [module])()
    found = {id(p): p for layer in layers for p in layer.parameters() if p.requires_grad}
    if not found:
        raise ModelError(f"optim.trains={part}: the student has no {part} layer with weights that may be trained")
    return list(found.values())


def describe_part(module: nn.Module, part: str, n_classes: int, rank: int) -> list[str]:
    """Say which share of a model's weights learns, where it is not all of them: a note, or none."""
    if part == "all":
        return []
    every = _size(module)
    if part == "lora":
        layers = [module.get_submodule(name) for name in adaptable_layers(module)]
        added = sum(_adapter_size(layer, rank) for layer in layers)
        said = f"adapters of rank {rank} on {len(layers)} layers learn, {_share(added, every)} of the model's weights"
        shared = len(_shared_layers(module))
        left_out = f"; {shared} layers share weights with others and get none" if shared else ""
        return [f"optim.trains=lora: {said}{left_out}"]
    weights = learning_weights(module, part, n_classes)
    names = {id(p): name.rpartition(".")[0] for name, p in module.named_parameters()}
    layers_of = list(dict.fromkeys(names[id(p)] or "the module itself" for p in weights))
    shown = ", ".join(layers_of[-3:]) + (f" and {len(layers_of) - 3} more" if len(layers_of) > 3 else "")
    learnt = _share(sum(p.numel() for p in weights), every)
    return [f"optim.trains={part}: {learnt} of the model's weights learn ({shown})"]


def _share(some: int, every: int) -> str:
    return f"{100 * some / every:.2g}%" if some < every else "100%"


def _adapter_size(layer: nn.Module, rank: int) -> int:
    """Count the weights of an adapter: down to its rank, and up again."""
    weight = layer.weight
    assert isinstance(weight, nn.Parameter)
    return rank * (weight[0].numel() + len(weight))


def heads_of(module: nn.Module, n_classes: int) -> list[nn.Module]:
    """Return every layer that scores the classes, the last one last; see `find_heads`.

    Raises:
        ModelError: If there is none.
    """
    heads = find_heads(module, n_classes)
    if not heads:
        raise ModelError(
            f"no layer of the student scores its {n_classes} classes, so its head is not known; use optim.trains=all"
        )
    return heads


def last_block(module: nn.Module, n_classes: int) -> list[nn.Module]:
    """Return the heads, the block before them, and what stands between (a norm).

    A block that holds more than `MOST_OF_LAST` of all weights is taken apart, and its own last block is taken. What
    holds less than `LEAST_OF_LAST` is passed over: modules stand in the order of their definition, not of their use.

    Raises:
        ModelError: If one layer is more than that.
    """
    heads = heads_of(module, n_classes)
    blocks = _chain(module, heads)
    first = min((i for i, block in enumerate(blocks) if any(block is head for head in heads)), default=0)
    before, every = _opened(blocks[:first], heads), _size(module)
    chosen = heads[::-1]
    for block in reversed(before):
        if _is_norm(block):
            chosen.append(block)
        elif _size(block) >= LEAST_OF_LAST * every:
            return chosen + _end_of(block, heads, MOST_OF_LAST * every)
    return chosen


def _size(module: nn.Module) -> int:
    """Count the weights of a module."""
    return sum(p.numel() for p in module.parameters())


def _end_of(block: nn.Module, heads: list[nn.Module], most: float) -> list[nn.Module]:
    """Return a block, or the last block in it where it is too large, and the norms after that."""
    if (size := _size(block)) <= most:
        return [block]
    inside = _chain(block, heads)
    if not inside:
        raise ModelError(
            f"optim.trains=last: the last block before the head is one {type(block).__name__} with {size:,} weights, "
            f"more than {MOST_OF_LAST:.0%} of the model; use head, lora or all"
        )
    chosen: list[nn.Module] = []
    for part in reversed(inside):
        if not _is_norm(part):
            return [*chosen, *_end_of(part, heads, most)]
        chosen.append(part)
    return chosen


def _opened(blocks: list[nn.Module], heads: list[nn.Module]) -> list[nn.Module]:
    """Take apart what is alone before the head, and what is alone in it: a backbone is not its own last block."""
    while True:
        alone = [block for block in blocks if not _is_norm(block)]
        inside = _chain(alone[0], heads) if len(alone) == 1 else []
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


def _chain(module: nn.Module, heads: list[nn.Module]) -> list[nn.Module]:
    """List the blocks of a module in order: what a Sequential holds, and what stands beside a head."""
    blocks: list[nn.Module] = []
    for child in module.children():
        is_head = any(child is head for head in heads)
        opened = isinstance(child, nn.Sequential | nn.ModuleList)
        opened = opened or any(part is head for part in child.modules() for head in heads)
        if opened and not is_head:
            blocks += _chain(child, heads)
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


@torch.no_grad()
def folded(module: nn.Module, state: Mapping[str, Tensor], inputs: Tensor | Mapping[str, Tensor]) -> State:
    """Return the plain weights that an adapted module's state stands for.

    Args:
        module: With its adapters on; left as it is.
        state: Of the module with adapters.
        inputs: A few inputs as the module reads them: its answers are compared before and after.

    Raises:
        ModelError: If the plain weights answer otherwise than the adapters did.
    """
    plain = copy.deepcopy(module)
    plain.load_state_dict(dict(state))
    adapted_logits = _answer(plain, inputs)
    for layer in _adapters(plain).values():
        layer.merge(safe_merge=False)
    _unwrap(plain)
    logits = _answer(plain, inputs)
    apart = (logits - adapted_logits).abs().max().item()
    if apart > FOLDED_APART * max(1.0, adapted_logits.abs().max().item()):  # NaN, of a training that diverged, passes
        raise ModelError(
            f"folding the adapters into the weights moved the logits by {apart:.2g}, so the student would not be the "
            "one that was trained; use another optim.trains, and report this model"
        )
    return snapshot(plain)


def _answer(module: nn.Module, inputs: Tensor | Mapping[str, Tensor]) -> Tensor:
    own = inputs.clone() if isinstance(inputs, Tensor) else {key: value.clone() for key, value in inputs.items()}
    with evaluation_mode(module):
        return read_logits(ask(module, own)).float()


def _peft() -> Any:
    try:
        import peft
    except ImportError:
        raise MissingExtraError("optim.trains=lora needs peft; pip install 'crossteach[peft]'") from None
    return peft


def adaptable_layers(module: nn.Module) -> list[str]:
    """Return the names of the layers that take an adapter; a layer that shares its weights takes none.

    Raises:
        MissingExtraError: Without peft.
        ModelError: If no layer takes one.
    """
    _peft()
    closed = [
        name for name, m in module.named_modules() if isinstance(m, nn.MultiheadAttention | nn.TransformerEncoderLayer)
    ]
    shared = _shared_layers(module)
    found = [
        name
        for name, layer in module.named_modules()
        if name
        and _is_plain(layer)
        and not any(layer is other for other in shared)
        and not any(name.startswith(f"{outer}.") or not outer for outer in closed)
    ]
    if not found:
        kinds = sorted({type(m).__name__ for m in module.modules() if _has_weights(m, recurse=False)})
        raise ModelError(
            f"adapters go on Linear and on Conv2d without groups or dilation, as torch has them, that share no weights "
            f"and stand outside torch's own attention; the student has only {', '.join(kinds)}; use optim.trains=all"
        )
    return found


def _shared_layers(module: nn.Module) -> list[nn.Module]:
    """Return the layers that would take an adapter, stand in several places, or share a weight with another layer.

    The weight of all places would take what the adapter of one has learnt.
    """
    places = [layer for _, layer in module.named_modules(remove_duplicate=False)]
    owners: dict[int, int] = {}
    for layer in places:
        for parameter in layer.parameters(recurse=False):
            owners[id(parameter)] = owners.get(id(parameter), 0) + 1
    plain = {id(layer): layer for layer in places if _is_plain(layer)}
    return [m for m in plain.values() if any(owners[id(p)] > 1 for p in m.parameters(recurse=False))]


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
