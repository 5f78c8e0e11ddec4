"""Optimisers without the compiler: what torch's own compute, and nothing of torch._dynamo."""

import subprocess
import sys
from copy import deepcopy

import pytest
import torch
from torch import nn

from crossteach.transferring import optimisers


@pytest.mark.parametrize("name", ["SGD", "AdamW"])
def test_they_compute_what_those_of_torch_compute(name):
    torch.manual_seed(0)
    ours, theirs = (nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3)) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    settings = {"lr": 0.1, "weight_decay": 0.01, **({"momentum": 0.9} if name == "SGD" else {})}
    own = getattr(optimisers, name)([{"params": [p]} for p in ours.parameters()], **settings)
    given = getattr(torch.optim, name)([{"params": [p]} for p in theirs.parameters()], **settings)
    for count in range(10):
        for module, optimiser in ((ours, own), (theirs, given)):
            module(torch.arange(10.0).view(2, 5)).square().sum().backward()
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        if count == 4:  # state goes from one to the other
            own.load_state_dict(deepcopy(given.state_dict()))
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(p, q)
        assert p.grad is None


def test_a_step_does_not_import_the_compiler():
    steps = """
import sys, torch
from crossteach.transferring.optimisers import SGD, AdamW
weight = torch.nn.Parameter(torch.ones(3))
for kind in (SGD, AdamW):
    weight.grad = torch.ones(3)
    optimiser = kind([weight], lr=0.1)
    optimiser.step()
    optimiser.zero_grad()
    optimiser.load_state_dict(optimiser.state_dict())
print("torch._dynamo" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", steps], capture_output=True, text=True, check=True).stdout == "False\n"
