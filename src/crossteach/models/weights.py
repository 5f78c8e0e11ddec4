"""Weights files: read safely, fitted exactly, checked for what is not finite."""

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from ..errors import WeightsError, first_line
from ..files import write_bytes


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a state dict from safetensors or from a torch file that holds tensors only.

    Raises:
        WeightsError: If the file is missing, damaged, or a pickle that would run code.
    """
    if not path.is_file():
        raise WeightsError(f"no weights file {path}; expected .safetensors, or a .pt of tensors")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError, ValueError) as error:
            raise WeightsError(f"{path} is not a whole safetensors file ({error})") from error
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).split("\n")[0]
        raise WeightsError(
            f"{path} is a pickle that needs more than tensors, and loading it could run code ({reason}); "
            "save its state_dict() as safetensors"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise WeightsError(f"{path} is not a whole torch file ({first_line(error)})") from error
    if isinstance(content, Mapping):
        for key in ("state_dict", "model"):
            if isinstance(content.get(key), Mapping):
                content = content[key]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise WeightsError(f"{path} must hold a state dict (names to tensors), not {type(content).__name__}")
    return dict(content)


def fit_weights(module: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Load weights that match the module tensor by tensor, names and shapes; never a part of them.

    Raises:
        WeightsError: Naming the first tensors that are missing, left over or of another shape.
    """
    own = module.state_dict()
    optional = {name for name in own if name.endswith("num_batches_tracked")}
    missing = [name for name in own if name not in weights and name not in optional]
    left_over = [name for name in weights if name not in own]
    shapes = [
        f"{name} {list(weights[name].shape)} for {list(own[name].shape)}"
        for name in own
        if name in weights and weights[name].shape != own[name].shape
    ]
    for what, names in (("another shape", shapes), ("missing", missing), ("left over", left_over)):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise WeightsError(
                f"weights of {source} do not fit {type(module).__name__}: {what}: {', '.join(names[:3])}{more}; "
                "give the weights of this architecture, or the architecture of these weights"
            )
    require_finite(weights, source)
    module.load_state_dict(weights, strict=not optional)


def require_finite(weights: Mapping[str, Tensor], source: str) -> None:
    """Raise WeightsError if any number in the weights is NaN or infinite."""
    bad = [name for name, value in weights.items() if value.is_floating_point() and not value.isfinite().all()]
    if bad:
        raise WeightsError(f"weights of {source} hold NaN or infinite numbers in {len(bad)} tensors, first {bad[0]}")


def write_weights(module: nn.Module, path: Path) -> None:
    """Write a module's state dict as safetensors: the same weights give the same bytes."""
    weights = {name: value.detach().cpu().contiguous().clone() for name, value in module.state_dict().items()}
    write_bytes(path, save(weights))
