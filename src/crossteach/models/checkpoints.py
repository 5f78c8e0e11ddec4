"""Checkpoints as people have them: in one file or in shards, wrapped or prefixed. Nothing in them is run.

A torch file is read by torch's restricted unpickler: tensors, plain containers, and an argparse.Namespace, which
training scripts like to keep beside the weights.
"""

import argparse
import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..errors import WeightsError, first_line

EXTRA = "_extra_state"
"""How torch names what a layer keeps beside tensors (`get_extra_state`)."""
STATES = ("state_dict", "model", "model_state_dict", "net", "network", "weights", "module")
"""Where a checkpoint keeps the weights that are taken when none are named, the first that there is."""
AVERAGED = "ema"
"""In the name of a state dict of averaged weights: taken only where it is named, or the only one."""
WRAPPERS = ("module.", "_orig_mod.", "model.", "net.", "backbone.", "encoder.")
"""Prefixes that DataParallel, torch.compile and training frameworks put before every name."""
COUNTER = "n_averaged"
"""What torch's AveragedModel keeps beside the weights."""
INDEX = ".index.json"
"""Ends the name of a file that says in which shard each tensor is."""


def read_weights(path: Path) -> dict[str, Any]:
    """Read the weights of a file; see `read_checkpoint`."""
    return read_checkpoint(path)[0]


def read_checkpoint(path: Path, wanted: str | None = None) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Read a state dict from safetensors, from a torch file that holds tensors only, or from shards by their index.

    Args:
        path: The file, or the index of shards.
        wanted: Which of several state dicts in it to take, as in `state_dict_ema`.

    Returns:
        The state, tensors and extra state of layers; and a note where the file held others.

    Raises:
        WeightsError: If the file is missing, damaged, a pickle that would run code, or has no such state dict.
    """
    if not path.is_file():
        raise WeightsError(f"no weights file {path}; expected .safetensors, or a .pt of tensors")
    if path.name.endswith(INDEX):
        return _read_shards(path, wanted), ()
    if path.suffix == ".safetensors":
        if wanted is not None:
            raise WeightsError(f"{path} is one state dict, so ?weights={wanted} chooses nothing; drop it")
        try:
            return load_file(path), ()
        except (SafetensorError, OSError, ValueError) as error:
            raise WeightsError(f"{path} is not a whole safetensors file ({error})") from error
    return _choose(load_tensors(path), path, wanted)


def _read_shards(path: Path, wanted: str | None) -> dict[str, Any]:
    """Read every tensor that an index names, from the shard beside it that holds it."""
    if wanted is not None:
        raise WeightsError(f"{path} names one state dict, so ?weights={wanted} chooses nothing; drop it")
    try:
        places = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        shards = sorted(set(places.values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WeightsError(
            f"{path} is no index of shards (a weight_map of names to files): {first_line(error)}"
        ) from error
    weights: dict[str, Any] = {}
    for shard in shards:
        if not isinstance(shard, str) or Path(shard).name != shard or shard.endswith(INDEX):
            raise WeightsError(f"{path} names the shard {shard!r}; expected the name of a file beside it")
        weights |= read_weights(path.parent / shard)
    lost = [name for name in places if name not in weights]
    if lost:
        raise WeightsError(f"{path} says that {places[lost[0]]} holds {lost[0]!r}, and it does not; fetch it again")
    return weights


def load_tensors(path: Path) -> Any:
    """Load a torch file that holds tensors and plain values; code in it is refused, not run.

    Raises:
        WeightsError: If it is damaged, or needs code.
    """
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).split("\n")[0]
        raise WeightsError(
            f"{path} is a pickle that needs more than tensors, and loading it could run code ({reason}); "
            "save its state_dict() as safetensors"
        ) from error
    except Exception as error:  # a damaged pickle hands torch's own functions whatever stands in it
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
    plain = [key for key in found if AVERAGED not in key.lower()] or list(found)
    taken = wanted or next((key for key in STATES if key in plain), plain[0])
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


def tensors(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return what is weights and buffers of a state dict, without the extra state of layers."""
    return {name: value for name, value in state.items() if not name.endswith(EXTRA)}


def without_wrappers(weights: Mapping[str, Any], own: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Take prefixes off names where every name has them and the module knows more of the names without.

    Args:
        weights: Of a checkpoint.
        own: The module's state dict.

    Returns:
        The weights by their own names, and a note of what was taken off.
    """
    named = {name: value for name, value in weights.items() if name != COUNTER or name in own}

    def known(prefix: str) -> int:
        return sum(name.removeprefix(prefix) in own for name in named)

    prefix = found = ""
    while more := next((p for p in WRAPPERS if named and all(name.startswith(found + p) for name in named)), ""):
        found += more
        if known(found) > known(prefix):
            prefix = found
    if not prefix:
        return dict(weights), ()
    note = f"the prefix {prefix} was taken off the names of all weights"
    return {name.removeprefix(prefix): value for name, value in named.items()}, (note,)
