"""What a command opens: device, models, data, store, other processes, Ray. Each imports what it needs when asked."""

import os
import sys
from collections.abc import Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import ConfigError, DevicesError

if TYPE_CHECKING:
    from .answers.store import Store
    from .models import Opened
    from .sweeping.ray_executor import RayTasks
    from .transferring.crew import Crew
    from .types import Progress, Splits

GIVEN: ContextVar[Sequence[str]] = ContextVar("GIVEN")
"""The command line as it was typed: several processes are started with the same."""


def require_no_ray(**given: object) -> None:
    """Raise ConfigError if options were given that only Ray reads."""
    if named := [f"--{name}" for name, value in given.items() if value is not None]:
        raise ConfigError(f"{named[0]} is about jobs on Ray; add --executor ray, or leave it out")


def ray_tasks(
    address: str | None, cpus: float | None, gpus: float | None, memory: str | None, devices: int, report: "Progress"
) -> "RayTasks":
    """Connect to a Ray that is there, or start one here, to run jobs of so many resources and processes each."""
    from .answers.stored import read_size
    from .sweeping.ray_executor import RayTasks

    what = f"connecting to Ray at {address}" if address else "starting Ray"
    size = None if memory is None else read_size(memory)
    report(what, 0, 1)
    tasks = RayTasks(address, 1.0 if cpus is None else cpus, gpus or 0.0, size, devices=devices)
    report(what, 1, 1)
    return tasks


def looked_at(tasks: "RayTasks | None") -> int | None:
    """Say how many jobs Ray would run at once, and leave it."""
    if tasks is None:
        return None
    tasks.close()
    return tasks.workers


def join_crew(devices: int | None, device: str) -> "Crew":
    """Join the processes that a launcher has started with this one, or start so many and end with them."""
    from .transferring.crew import join_crew, size_of_crew

    size = size_of_crew()
    if size == 1 and (devices or 1) > 1:
        from .transferring.launching import run_processes

        sys.exit(run_processes(devices or 1, device, GIVEN.get()))
    if size > 1 and devices not in (None, size):
        raise DevicesError(f"--devices {devices} asked, but the launcher has started {size} processes; drop --devices")
    return join_crew(device)


def device_of(name: str) -> str:
    """Return a device that this machine has; raise ConfigError if it has none of that name.

    All of this process takes numbers below 1e-38 for 0 from here on.
    """
    import torch

    torch.set_flush_denormal(True)  # before torch starts its threads: they inherit it, and `train` sets only its own
    if name in ("auto", "cuda") and torch.cuda.is_available() and "LOCAL_RANK" in os.environ:
        return f"cuda:{os.environ['LOCAL_RANK']}"  # one of several processes, each with a GPU of its own
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"--device must be auto, cpu or a device of this machine, not {name!r} ({reason})") from None
    return name


def open_model(spec: str, device: str, data: "Splits", trust: bool) -> "Opened":
    """Open a model for these data on a device."""
    from .models import load_model

    return load_model(spec, trust, data).to(device_of(device))


def open_data(
    spec: str | None,
    pools: Sequence[str] | None = None,
    report: "Progress | None" = None,
    store: "Store | None" = None,
) -> "Splits":
    """Open data and pools; a store keeps what that takes long to find out."""
    from .data import load_data
    from .types import no_progress

    return load_data(spec, pools or (), report or no_progress, store)


def open_store(folder: Path | None) -> "Store":
    """Open the store of a folder, or the user's own."""
    from .answers.store import Store

    return Store(folder)
