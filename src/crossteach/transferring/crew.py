"""Those who train one student together, one process a device: rank 0 leads and decides, the others train with it.

A launcher has started them (`--devices`, `accelerate launch`, `torchrun`). Only the leader writes, measures and
decides. It tells the others what it trains (see `following.py`); what it does alone they wait for.
"""

import atexit
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from importlib.util import find_spec
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn

from ..errors import DevicesError, LostProcessError, MissingExtraError

PATIENCE = timedelta(days=365)
"""How long a process waits for another: the leader may work alone for days, and a launcher ends all if one ends."""
TALKS_EVERY = 20
"""Steps between two messages of those who train together: each waits for the GPU."""
LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "Socket closed")
"""What gloo says where another process has ended, in a RuntimeError of no class of its own."""

UNREAD = {
    "ACCELERATE_MIXED_PRECISION": "optim.precision",
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "optim.accumulate",
}
"""What accelerate's configuration may say that settings of crossteach say."""

T = TypeVar("T")
Counts = tuple[Tensor | None, ...]


@runtime_checkable
class Crew(Protocol):
    """The processes that train one student together, as one of them sees them."""

    @property
    def rank(self) -> int:
        """Which of them this is; 0 leads."""
        ...

    @property
    def size(self) -> int:
        """How many they are."""
        ...

    @property
    def talks_every(self) -> int:
        """Steps of a training between two questions that the leader answers for all."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of them."""
        ...

    def tell(self, what: T) -> T:
        """Return what the leader says: its decision is everybody's. All must call it."""
        ...

    def collect(self, counts: Counts) -> Counts:
        """Give the leader the sums of all counts, and the others zeros, so that nothing counts twice."""
        ...

    def wait(self) -> None:
        """Wait until all have come here."""
        ...

    def leader_first(self) -> AbstractContextManager[None]:
        """Let the others do what is inside when the leader has done it: they find its answers in the store."""
        ...

    def wrapped(self, module: nn.Module) -> AbstractContextManager[nn.Module]:
        """Give a module whose backward pass averages the gradients of all; afterwards the module is as it was."""
        ...

    def apart(self, wrapped: nn.Module) -> AbstractContextManager[None]:
        """Keep gradients to this process while the block runs: more are added before they are averaged."""
        ...


@dataclass(frozen=True)
class Alone:
    """One process that trains alone: there is nobody to tell, to wait for or to share with."""

    rank: int = 0
    size: int = 1
    talks_every: int = 1
    notes: tuple[str, ...] = ()

    def tell(self, what: T) -> T:
        """Return what is said."""
        return what

    def collect(self, counts: Counts) -> Counts:
        """Return the counts."""
        return counts

    def wait(self) -> None:
        """Do nothing."""

    def leader_first(self) -> AbstractContextManager[None]:
        """Do nothing more."""
        return nullcontext()

    def wrapped(self, module: nn.Module) -> AbstractContextManager[nn.Module]:
        """Give the module itself."""
        return nullcontext(module)

    def apart(self, wrapped: nn.Module) -> AbstractContextManager[None]:
        """Do nothing more."""
        return nullcontext()


ALONE = Alone()


class Together:
    """One of several processes, each with a device of its own."""

    talks_every = TALKS_EVERY

    def __init__(self, accelerator: Any) -> None:
        import torch.distributed as dist

        self.rank, self.size = int(accelerator.process_index), int(accelerator.num_processes)
        self.device = torch.device(accelerator.device)
        self._accelerator, self._parent = accelerator, os.getppid()
        with finding_lost():
            self._group: Any = dist.new_group(backend="gloo", timeout=PATIENCE)  # words need no GPU

    @property
    def notes(self) -> tuple[str, ...]:
        """Say who shares the batches, and what of accelerate's configuration is not read."""
        shared = f"{self.size} processes on the CPU share each batch: no GPU is used"
        shared = shared if self.device.type == "cpu" else f"{self.size} GPUs share each batch"
        told = {name: os.environ.get(name, "no") for name in UNREAD}
        unread = (f"{k}={told[k]} is not read: {UNREAD[k]} says it" for k in UNREAD if told[k] not in ("no", "1"))
        return (shared, *unread)

    def tell(self, what: T) -> T:
        """Send what the leader says to all.

        Raises:
            LostProcessError: If another process has ended, the one that started them among them.
        """
        import torch.distributed as dist

        if os.getppid() != self._parent:
            raise LostProcessError("the process that started this run has ended, so all of it has; run it again")
        said = [what]
        with finding_lost():
            dist.broadcast_object_list(said, src=0, group=self._group)
        return said[0]

    def collect(self, counts: Counts) -> Counts:
        """Add up all counts in one message."""
        import torch.distributed as dist

        given = [count for count in counts if count is not None]
        if not given:
            return counts
        sums = torch.cat([count.detach().double().cpu().flatten() for count in given])
        with finding_lost():
            dist.reduce(sums, dst=0, group=self._group)
        own = sums if self.rank == 0 else torch.zeros_like(sums)
        parts = iter(torch.split(own, [count.numel() for count in given]))
        return tuple(None if c is None else next(parts).view(c.shape).to(c.dtype) for c in counts)

    def wait(self) -> None:
        """Wait until all have come here."""
        import torch.distributed as dist

        with finding_lost():
            dist.barrier(group=self._group)

    @contextmanager
    def leader_first(self) -> Iterator[None]:
        """Wait for the leader, or let the others go on when it is through."""
        if self.rank:
            self.tell(None)
        yield
        if not self.rank:
            self.tell(None)

    @contextmanager
    def wrapped(self, module: nn.Module) -> Iterator[nn.Module]:
        """Wrap a module in torch's DistributedDataParallel, as accelerate does."""
        yield self._accelerator.prepare_model(module)
        self._accelerator.free_memory()

    @contextmanager
    def apart(self, wrapped: nn.Module) -> Iterator[None]:
        """Let the backward passes inside send nothing."""
        with self._accelerator.no_sync(wrapped):
            yield


def join_crew(device: str = "auto") -> Crew:
    """Join the processes that a launcher has started together with this one; `ALONE` where there are none.

    Args:
        device: `auto` takes a GPU a process, or the CPU where there is none; `cpu`, `cuda`.

    Raises:
        MissingExtraError: Without accelerate.
        DevicesError: If there are fewer GPUs than processes, or accelerate was told to use FSDP.
    """
    if size_of_crew() == 1:
        return ALONE
    if os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true":
        raise DevicesError(
            "accelerate was told to use FSDP, and crossteach divides students itself; take FSDP out of accelerate's "
            "configuration, and add --set compute.shard=true"
        )
    local = int(os.environ.get("LOCAL_WORLD_SIZE", size_of_crew()))
    kind = require_devices(local, device)
    from accelerate import Accelerator
    from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs
    from torch.distributed import destroy_process_group

    backend = "gloo" if kind == "cpu" else "nccl"
    handlers = [
        InitProcessGroupKwargs(backend=backend, timeout=PATIENCE),
        DistributedDataParallelKwargs(gradient_as_bucket_view=True),
    ]
    with finding_lost():
        crew = Together(Accelerator(cpu=kind == "cpu", mixed_precision="no", kwargs_handlers=handlers))
    atexit.register(destroy_process_group)  # else its threads abort the process that ends
    return crew


def size_of_crew() -> int:
    """Return how many processes a launcher has started, this one among them."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def require_devices(count: int, device: str) -> str:
    """Return `cuda` or `cpu`: where so many processes of this machine find a device each.

    Raises:
        MissingExtraError: Without accelerate.
        DevicesError: If there are fewer GPUs, or one device is named for all.
    """
    if find_spec("accelerate") is None:
        raise MissingExtraError("several devices need accelerate; pip install 'crossteach[devices]'")
    if device not in ("auto", "cpu", "cuda"):
        raise DevicesError(f"--devices takes --device auto, cuda or cpu, not one device for all ({device!r})")
    gpus = torch.cuda.device_count() if device != "cpu" else 0
    if device == "cpu" or (device == "auto" and not gpus):
        return "cpu"
    if count > gpus:
        here = f"{gpus} GPUs are" if gpus > 1 else f"{gpus or 'no'} GPU is"
        raise DevicesError(f"{count} devices asked, {here} here; ask for as many, or use --device cpu")
    return "cuda"


@contextmanager
def finding_lost() -> Iterator[None]:
    """Turn what torch says when another process has ended into a LostProcessError of one line."""
    try:
        yield
    except RuntimeError as error:
        from torch.distributed import DistError

        if not isinstance(error, DistError) and not any(text in str(error) for text in LOST):
            raise
        raise LostProcessError(
            "another process of this run has ended, so all of it has; run the same command again: it goes on from its "
            "last checkpoint"
        ) from error


def own_share(count: int, crew: Crew) -> slice:
    """Return which samples of a batch a process takes: as many as the others, or one less or more.

    Example:
        >>> [own_share(5, Alone(rank, 2)) for rank in range(2)]
        [slice(0, 2, None), slice(2, 5, None)]
    """
    return slice(count * crew.rank // crew.size, count * (crew.rank + 1) // crew.size)
