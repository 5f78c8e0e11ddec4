"""Give a torch module published weights that have other names, in the order in which both list them."""

from collections.abc import Iterable

from torch import Tensor, nn


def fill(module: nn.Module, weights: Iterable[Tensor]) -> nn.Module:
    """Give a module weights in the order of its own, each of the right shape; whether they are right, its answers tell.

    Example:
        >>> import torch
        >>> fill(nn.Linear(2, 1), [torch.tensor([[1.0, 2.0]]), torch.tensor([3.0])])(torch.ones(2)).item()
        6.0
    """
    own = {name: value for name, value in module.state_dict().items() if not name.endswith("num_batches_tracked")}
    given = dict(zip(own, weights, strict=True))
    for name, value in own.items():
        if value.shape != given[name].shape:
            shapes = f"{list(value.shape)}, but the published weight there has {list(given[name].shape)}"
            raise SystemExit(f"{name} has the shape {shapes}")
    module.load_state_dict(given, strict=False)
    return module.eval()
