"""Weights files: read safely, fitted exactly, checked for what is not finite."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ..errors import SpecError, WeightsError, first_line
from ..files import write_bytes
from ..specs import Spec

EXTRA = "_extra_state"
"""How torch names what a layer keeps beside tensors (`get_extra_state`)."""
STATES = ("state_dict", "model")
"""Where a checkpoint keeps the weights that are taken when none are named, the first that there is."""


def read_weights(path: Path) -> dict[str, Any]:
    """Read the weights of a file; see `read_checkpoint`."""
    return read_checkpoint(path)[0]


def read_checkpoint(path: Path, wanted: str | None = None) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Read a state dict from safetensors or from a torch file that holds tensors only.

    Args:
        path: The file.
        wanted: Which of several state dicts in it to take, as in `state_dict_ema`.

    Returns:
        The state, tensors and extra state of layers; and a note where the file held others.

    Raises:
        WeightsError: If the file is missing, damaged, a pickle that would run code, or has no such state dict.
    """
    if not path.is_file():
        raise WeightsError(f"no weights file {path}; expected .safetensors, or a .pt of tensors")
    if path.suffix == ".safetensors":
        if wanted is not None:
            raise WeightsError(f"{path} is one state dict, so ?weights={wanted} chooses nothing; drop it")
        try:
            return load_file(path), ()
        except (SafetensorError, OSError, ValueError) as error:
            raise WeightsError(f"{path} is not a whole safetensors file ({error})") from error
    return _choose(load_tensors(path), path, wanted)


def load_tensors(path: Path) -> Any:
    """Load a torch file that holds tensors and plain values; code in it is refused, not run.

    Raises:
        WeightsError: If it is damaged, or needs code.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).split("\n")[0]
        raise WeightsError(
            f"{path} is a pickle that needs more than tensors, and loading it could run code ({reason}); "
            "save its state_dict() as safetensors"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise WeightsError(f"{path} is not a whole torch file ({first_line(error)})") from error


def _choose(content: Any, path: Path, wanted: str | None) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Find the state dict in what a checkpoint holds."""
    if _is_state(content):
        if wanted is not None:
            raise WeightsError(f"{path} is one state dict, so ?weights={wanted} chooses nothing; drop it")
        return dict(content), ()
    found = _states(content)
    if not found:
        kind = type(content).__name__
        detail = f" with the keys {', '.join(map(str, list(content)[:5]))}" if isinstance(content, Mapping) else ""
        raise WeightsError(f"{path} must hold a state dict (names to tensors), not {kind}{detail}")
    if wanted is not None and wanted not in found:
        raise WeightsError(f"{path} has no state dict {wanted!r}; ?weights= may be {', '.join(found)}")
    taken = wanted or next((key for key in STATES if key in found), next(iter(found)))
    others = [key for key in found if key != taken]
    note = f"{path.name} holds several state dicts: {taken} is used; ?weights= chooses {' or '.join(others)}"
    return found[taken], (note,) if others and wanted is None else ()


def _is_state(value: Any) -> bool:
    """Tell whether something maps names to tensors, but for the extra state of layers."""
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        return False
    weights = [each for name, each in value.items() if not name.endswith(EXTRA)]
    return bool(weights) and all(isinstance(each, Tensor) for each in weights)


def _states(content: Any, prefix: str = "") -> dict[str, dict[str, Any]]:
    """Name every state dict in a checkpoint, two levels deep."""
    found: dict[str, dict[str, Any]] = {}
    for key, value in content.items() if isinstance(content, Mapping) else ():
        if _is_state(value):
            found[f"{prefix}{key}"] = dict(value)
        elif key in STATES and not prefix:
            found |= _states(value, f"{key}.")
    return found


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
    return notes + fit_weights(module, weights, spec.text)


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
    for what, names in (("another shape", shapes), ("missing", missing), ("left over", left_over)):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise WeightsError(
                f"weights of {source} do not fit {type(module).__name__}: {what}: {', '.join(names[:3])}{more}; "
                "give the weights of this architecture, or the architecture of these weights"
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


def tensors(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return what is weights and buffers of a state dict, without the extra state of layers."""
    return {name: value for name, value in state.items() if not name.endswith(EXTRA)}


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
