"""torch's optimisers without torch's compiler.

torch wraps the methods of an optimiser so that its compiler leaves them out, and the first call of such a wrapper
imports the compiler (`torch._dynamo`): 1.7 s, a third of a small training. Nothing here compiles an optimiser, so the
methods under the wrappers are called. They compute the same.
"""

import inspect

import torch
from torch.optim import Optimizer


class _Uncompiled(Optimizer):
    """What all optimisers share, under its wrappers."""

    add_param_group = inspect.unwrap(Optimizer.add_param_group)
    zero_grad = inspect.unwrap(Optimizer.zero_grad)
    state_dict = inspect.unwrap(Optimizer.state_dict)
    load_state_dict = inspect.unwrap(Optimizer.load_state_dict)


class SGD(_Uncompiled, torch.optim.SGD):
    """`torch.optim.SGD`."""

    step = torch.no_grad()(inspect.unwrap(torch.optim.SGD.step))


class AdamW(_Uncompiled, torch.optim.AdamW):
    """`torch.optim.AdamW`."""

    step = torch.no_grad()(inspect.unwrap(torch.optim.AdamW.step))
