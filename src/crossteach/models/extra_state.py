"""What layers keep beside tensors (`get_extra_state`): kept with a model, but no weight of it.

Averages, the way from old to new weights, and checkpoints know tensors only. So a module that crossteach opens keeps
extra state out of its `state_dict`; a saved student has it in a file of its own.
"""

import io
import pickle
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import ModelError, first_line
from ..files import write_bytes
from .checkpoints import EXTRA, load_tensors

FILE = "extra_state.pt"


def extra_state(module: nn.Module) -> dict[str, Any]:
    """Return the extra state of every layer that keeps any, under the name that torch gives it."""
    return {
        f"{name}.{EXTRA}".lstrip("."): part.get_extra_state()
        for name, part in module.named_modules()
        if type(part).get_extra_state is not nn.Module.get_extra_state
    }


def set_aside(module: nn.Module, spec: str) -> None:
    """Keep extra state out of the module's state dict from now on; its layers keep what they have.

    Raises:
        ModelError: If it could not be saved with the student and read back without running code.
    """
    found = extra_state(module)
    if not found:
        return
    try:
        torch.load(io.BytesIO(_bytes(found)), weights_only=True)
    except (pickle.PickleError, AttributeError, TypeError, RuntimeError) as error:
        raise ModelError(
            f"{spec!r} has layers with extra state that cannot be saved as plain values "
            f"({first_line(error)}); let get_extra_state return tensors, numbers, words, lists or dicts of these"
        ) from error
    module.register_state_dict_post_hook(_leave_out)  # type: ignore[no-untyped-call]
    module.register_load_state_dict_post_hook(_forgive)  # type: ignore[no-untyped-call]


def write_extra_state(module: nn.Module, folder: Path) -> bool:
    """Write the extra state beside the weights; return whether there is any."""
    found = extra_state(module)
    if found:
        write_bytes(folder / FILE, _bytes(found))
    return bool(found)


def read_extra_state(folder: Path) -> dict[str, Any]:
    """Read what `write_extra_state` wrote; empty where nothing was."""
    content = load_tensors(folder / FILE) if (folder / FILE).is_file() else {}
    return dict(content) if isinstance(content, dict) else {}


def extra_bytes(module: nn.Module) -> bytes:
    """Return the extra state as bytes, for a fingerprint; none where there is none."""
    found = extra_state(module)
    return _bytes(found) if found else b""


def _bytes(state: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def _leave_out(module: nn.Module, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    for name in [n for n in state if n.startswith(prefix) and n.endswith(EXTRA)]:
        del state[name]


def _forgive(module: nn.Module, incompatible: Any) -> None:
    incompatible.missing_keys[:] = [name for name in incompatible.missing_keys if not name.endswith(EXTRA)]
