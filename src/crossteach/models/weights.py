"""Weights are fitted to a module exactly, and checked for what is not finite."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ..errors import SpecError, WeightsError, first_line
from ..files import write_bytes
from ..specs import Spec
from .checkpoints import read_checkpoint, tensors, without_wrappers

SHOWN = 3
"""Names of tensors that a message shows."""


def weights_options(spec: Spec) -> set[str]:
    """Return the options that say which weights a model gets.

    Raises:
        SpecError: If they are said twice.
    """
    if spec.weights is None:
        return {"pretrained"}
    if "pretrained" in spec.options:
        raise SpecError(f"{spec.text!r} names its weights twice, by @ and by pretrained=; drop one of them")
    return {"weights"}


def load_weights(module: nn.Module, spec: Spec) -> tuple[str, ...]:
    """Load the file that a spec names, and the state dict in it that `?weights=` chooses; return what is to be said."""
    weights, notes = read_checkpoint(Path(spec.weights or ""), spec.options.get("weights"))
    weights, more = without_wrappers(weights, module.state_dict())
    return notes + more + fit_weights(module, weights, spec.text)


def fit_weights(module: nn.Module, weights: Mapping[str, Any], source: str) -> tuple[str, ...]:
    """Load weights that match the module tensor by tensor, names and shapes; never a part of them.

    A tensor that the module has under two names may stand in the file under one.

    Returns:
        A note where layers keep extra state that the file does not have.

    Raises:
        WeightsError: Naming the first tensors that are missing, left over or of another shape.
    """
    whole = module.state_dict()
    own, weights = tensors(whole), _tied(module, weights, source)
    extra, lacking = {n for n in whole if n not in own}, [n for n in whole if n not in own and n not in weights]
    optional = {name for name in own if name.endswith("num_batches_tracked")}
    missing = [name for name in own if name not in weights and name not in optional]
    left_over = [name for name in weights if name not in own and name not in extra]
    shapes = [
        f"{name} {list(weights[name].shape)} for {list(own[name].shape)}"
        for name in own
        if name in weights and not is_lazy(own[name]) and weights[name].shape != own[name].shape
    ]
    hollow = [f"{n} ({'meta' if v.is_meta else v.layout})" for n, v in tensors(weights).items() if _is_hollow(v)]
    problems = (("another shape", shapes), ("missing", missing), ("left over", left_over), ("without numbers", hollow))
    for what, names in problems:
        if names:
            raise WeightsError(
                f"weights of {source} do not fit {type(module).__name__}: {what}: {_first(names)} (the file has "
                f"{_first(list(tensors(weights)))}; the model has {_first(list(own))}); give the weights of this "
                "architecture, or the architecture of these weights"
            )
    require_finite(weights, source)
    try:
        module.load_state_dict(dict(weights), strict=not optional and not lacking)
    except Exception as error:  # a layer's own set_extra_state may raise anything
        raise WeightsError(
            f"weights of {source} do not load into {type(module).__name__} ({first_line(error)})"
        ) from error
    if not lacking:
        return ()
    return (f"{source}: {len(lacking)} layers keep extra state that the file lacks; it is as the factory made it",)


def _is_hollow(value: Any) -> bool:
    """Tell a tensor that does not hold a number for each of its places: sparse, or on no device."""
    return isinstance(value, Tensor) and not is_lazy(value) and (value.is_meta or value.layout != torch.strided)


def _first(names: Sequence[str]) -> str:
    """Show the first names, and say how many more there are."""
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _tied(module: nn.Module, weights: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Give every name of a shared tensor what the file has under one of them."""
    filled = dict(weights)
    for names in shared_names(module):
        known = [name for name in names if name in weights]
        for other in known[1:]:
            if not torch.equal(weights[known[0]], weights[other]):
                raise WeightsError(
                    f"weights of {source} differ between {known[0]} and {other}, which are one tensor in "
                    f"{type(module).__name__}; give weights that were tied, or an architecture that is not"
                )
        if known:
            filled |= dict.fromkeys(names, weights[known[0]])
    return filled


def shared_names(module: nn.Module) -> list[list[str]]:
    """List the names of every tensor that a module has under more than one."""
    groups: dict[tuple[Any, ...], list[str]] = {}
    for name, value in tensors(module.state_dict()).items():
        if not is_lazy(value) and value.numel() and value.data_ptr():
            key = (value.data_ptr(), value.dtype, tuple(value.shape), value.stride())
            groups.setdefault(key, []).append(name)
    return [names for names in groups.values() if len(names) > 1]


def needs_cast(value: Tensor) -> bool:
    """Tell a tensor of numbers that are not float32."""
    return not is_lazy(value) and value.is_floating_point() and value.dtype != torch.float32


def require_finite(weights: Mapping[str, Any], source: str) -> None:
    """Raise WeightsError if any number in the weights is NaN or infinite."""
    floats = {n: v for n, v in tensors(weights).items() if not is_lazy(v) and v.is_floating_point()}
    bad = [name for name, value in floats.items() if not value.isfinite().all()]
    if bad:
        raise WeightsError(f"weights of {source} hold NaN or infinite numbers in {len(bad)} tensors, first {bad[0]}")


def write_weights(module: nn.Module, path: Path) -> None:
    """Write a module's state dict as safetensors: the same weights give the same bytes."""
    state = tensors(module.state_dict())
    weights = {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
    write_bytes(path, save(weights))
