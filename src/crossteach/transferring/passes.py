"""How a student is asked in a training step: as it is, or compiled, rearranged in memory, on several devices.

Nothing of that stays: the module has its own names and layout again afterwards, and its weights are never wrapped.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..config import ComputeConfig
from ..errors import ModelError, first_line
from ..models.asking import ask, evaluation_mode, read_logits
from ..types import TrainableClassifier
from . import sharding
from .crew import Crew, finding_lost
from .plan import TrainingPlan

APART = 1e-2
"""By how much logits may move with another layout in memory, as a share of the largest: float32 moves them by 1e-5."""


def _nothing() -> None:
    """The student's module learns itself."""


@dataclass(frozen=True)
class Passes:
    """How a student is asked in a training step."""

    logits: Callable[[Float[Tensor, "n c h w"]], Float[Tensor, "n C"]]
    """Images in [0, 1], or texts, to logits with gradient."""
    apart: Callable[[], AbstractContextManager[None]] = nullcontext
    """Keeps gradients to this process while a block runs: more of the batch follows."""
    learner: nn.Module | None = None
    """The divided copy that learns in the place of the student's module, if there is one."""
    settle: Callable[[], None] = _nothing
    """Brings what was learnt into the student's module, before it is measured or saved."""


@contextmanager
def passes_of(student: TrainableClassifier, plan: TrainingPlan, crew: Crew) -> Iterator[Passes]:
    """Arrange how a student is asked while the block runs.

    Args:
        student: Its module is as it was afterwards, but for its weights.
        plan: Its settings (`compute.*`) say how.
        crew: Those who train it together.
    """
    compute = plan.config.compute
    with ExitStack() as stack:
        stack.enter_context(arranged(student, compute))
        if crew.size == 1 and not compute.compile:
            yield Passes(student.logits)
            return
        if crew.size > 1:
            stack.enter_context(finding_lost())
            stack.enter_context(_without_unreached(student, two_views(student, plan)))
        if compute.shard:
            yield _divided(student, crew)
            return
        asked: Any = stack.enter_context(_compiled(student)) if compute.compile else student.module
        wrapped = stack.enter_context(crew.wrapped(asked))
        yield Passes(_through(wrapped, student), partial(crew.apart, wrapped))


def _through(asked: Any, student: TrainableClassifier) -> Callable[[Float[Tensor, "n c h w"]], Float[Tensor, "n C"]]:
    """Ask what stands in the place of a student's module."""

    def logits(images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n C"]:
        return read_logits(ask(asked, student.prepared(images)), student.n_classes)

    return logits


def _divided(student: TrainableClassifier, crew: Crew) -> Passes:
    """Let a copy learn that is divided among all processes."""
    learner = sharding.sharded_copy(student.module, student.device, crew.size)
    return Passes(
        _through(learner, student),
        partial(sharding.apart, learner),
        learner,
        partial(sharding.take_weights, student.module, learner),
    )


def two_views(student: TrainableClassifier, plan: TrainingPlan) -> Float[Tensor, "n c h w"]:
    """Return two samples as a training shows them, or the one that there is."""
    source = plan.sources[0]
    rows = np.arange(min(2, len(source.split)))
    return source.views.batch(source.split, rows, np.zeros(len(rows), np.int64)).images(student.preprocess)


@contextmanager
def arranged(student: TrainableClassifier, compute: ComputeConfig) -> Iterator[None]:
    """Lay out a student's weights, and let it compute activations anew, as the settings say.

    Raises:
        ModelError: If it offers no such thing.
    """
    with ExitStack() as stack:
        if compute.checkpointing:
            stack.enter_context(_checkpointed(student))
        if compute.channels_last:
            stack.enter_context(_channels_last(student))
        yield


def require_arranged(student: TrainableClassifier, compute: ComputeConfig, images: Float[Tensor, "n c h w"]) -> None:
    """Ask a student about a few images as it is and as it would be trained.

    Raises:
        ModelError: If it cannot be arranged so, or then answers something else.
    """
    if not (compute.channels_last or compute.checkpointing):
        return
    with torch.no_grad(), evaluation_mode(student.module):
        before = student.logits(images)
        try:
            with arranged(student, compute):
                after = student.logits(images)
        except RuntimeError as error:
            raise ModelError(
                f"{student.spec!r} cannot answer as compute.* asks ({first_line(error)}); "
                "drop compute.channels_last or compute.checkpointing"
            ) from error
    apart = (after - before).abs().max().item()
    if not apart <= APART * max(1.0, before.abs().max().item()):
        raise ModelError(
            f"{student.spec!r} answers otherwise by {apart:.2g} if asked as compute.* says, as a model that reads "
            "its memory past its shape does; drop compute.channels_last or compute.checkpointing"
        )


@contextmanager
def _channels_last(student: TrainableClassifier) -> Iterator[None]:
    """Hold convolutional weights with channels last; activations follow them."""
    if not any(isinstance(layer, nn.Conv2d) for layer in student.module.modules()):
        raise ModelError(f"{student.spec!r} has no 2d convolution, which compute.channels_last is for; drop it")
    student.module.to(memory_format=torch.channels_last)
    try:
        yield
    finally:
        student.module.to(memory_format=torch.contiguous_format)


@contextmanager
def _checkpointed(student: TrainableClassifier) -> Iterator[None]:
    """Keep no activations inside the blocks of a model of timm or of transformers."""
    module, refused = student.module, "offers no activation checkpointing"
    if callable(switch := getattr(module, "set_grad_checkpointing", None)):
        try:
            switch(True)
        except AssertionError as error:  # timm's way to say so
            raise ModelError(f"{student.spec!r} {refused}; drop compute.checkpointing") from error
        try:
            yield
        finally:
            switch(False)
        return
    blocks = [part for part in module.modules() if _may_be_checkpointed(part)]
    if not blocks:
        raise ModelError(
            f"{student.spec!r} {refused} (timm's set_grad_checkpointing, transformers' "
            "GradientCheckpointingLayer); drop compute.checkpointing, or raise optim.accumulate"
        )
    from torch.utils.checkpoint import checkpoint

    for block in blocks:  # its own switch works in train mode only, and here dropout stays off
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)
    try:
        yield
    finally:
        for block in blocks:
            del block.forward


def _may_be_checkpointed(part: nn.Module) -> bool:
    """Tell a block of transformers that may be computed anew, by its class: no model of ours imports transformers."""
    return any(kind.__name__ == "GradientCheckpointingLayer" for kind in type(part).__mro__)


@contextmanager
def _compiled(student: TrainableClassifier) -> Iterator[Callable[..., Any]]:
    """Compile a student's passes, and say it in one line if that fails."""
    from torch._dynamo.exc import TorchDynamoException

    try:
        yield torch.compile(student.module)
    except TorchDynamoException as error:
        raise ModelError(
            f"{student.spec!r} cannot be compiled ({first_line(error)}); drop compute.compile, or see that a C++ "
            "compiler is there"
        ) from error
    finally:
        torch.compiler.reset()  # the next copy of the student is compiled for itself


@contextmanager
def _without_unreached(student: TrainableClassifier, images: Float[Tensor, "n c h w"]) -> Iterator[None]:
    """Take weights that no answer depends on out of the training: the others would wait for their gradients."""
    learning = [p for p in student.module.parameters() if p.requires_grad]
    with evaluation_mode(student.module), torch.enable_grad():
        student.logits(images).sum().backward()  # type: ignore[no-untyped-call]
    unreached = [p for p in learning if p.grad is None]
    for parameter in learning:
        parameter.grad = None
    for parameter in unreached:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in unreached:
            parameter.requires_grad_(True)
