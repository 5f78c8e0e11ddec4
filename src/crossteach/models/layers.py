"""What a module is made of: its family, and its head."""

from torch import nn

from ..types import Family


def family_of(module: nn.Module) -> Family:
    """Tell what mixes the positions of an image: attention, convolutions, or dense layers only.

    A convolution that only cuts patches (kernel no larger than its stride) mixes nothing.
    """
    names = [type(part).__name__.lower() for part in module.modules()]
    if any("attention" in name or name == "attn" for name in names):
        return "transformer"
    convolutions = (p for p in module.modules() if isinstance(p, nn.Conv1d | nn.Conv2d | nn.Conv3d))
    if any(any(k > s for k, s in zip(c.kernel_size, c.stride, strict=True)) for c in convolutions):
        return "convolutional"
    return "mlp" if any(isinstance(part, nn.Linear) for part in module.modules()) else "other"


def find_head(module: nn.Module, n_classes: int) -> nn.Module | None:
    """Return the last layer whose weight has a row for each class, if there is one."""
    weighted = ((m, getattr(m, "weight", None)) for m in module.modules())
    heads = [m for m, w in weighted if isinstance(w, nn.Parameter) and w.ndim > 1 and w.shape[0] == n_classes]
    return heads[-1] if heads else None
