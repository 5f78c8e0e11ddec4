"""Starts the same command several times, one process a device, and ends all of them if one ends.

Torch's elastic agent does the work, as `torchrun` and `accelerate launch` do; what it would log is one line here.
"""

import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence

from ..errors import KilledProcessError
from .crew import require_devices

STARTED = "CROSSTEACH_STARTED"
"""Set in processes that were started here: the process that started them says why they ended."""
INTERRUPTED = 130
"""Exit code of a process that was interrupted."""


def is_started() -> bool:
    """Tell whether another process of crossteach has started this one, and speaks for it."""
    return STARTED in os.environ


def run_processes(count: int, device: str, arguments: Sequence[str]) -> int:
    """Run a command line as so many processes that train one student together.

    Args:
        count: How many, 2 or more: one a GPU, or all on the CPU where there is no GPU.
        device: As `--device` was given: auto, cuda or cpu.
        arguments: What follows `crossteach`.

    Returns:
        The exit code: 0, or 1 where a process has said what is wrong.

    Raises:
        DevicesError: If there are fewer GPUs.
        KilledProcessError: If a process was killed: it says which, and what to do.
        MissingExtraError: Without accelerate.
        KeyboardInterrupt: If it was interrupted; all processes have ended then.
    """
    import torch

    if require_devices(count, device) == "cpu":  # else each would take all threads
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, torch.get_num_threads() // count)))
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.disable(logging.CRITICAL)
    os.environ[STARTED] = "1"
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id=str(os.getpid()),
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        monitor_interval=0.1,
    )
    try:
        elastic_launch(config, sys.executable)("-m", "crossteach", *arguments)
    except SignalException:
        raise KeyboardInterrupt from None
    except ChildFailedError as error:
        return _say_who_was_killed({rank: failed.exitcode for rank, failed in error.failures.items()}, count)
    finally:
        del os.environ[STARTED]
    return 0


def _say_who_was_killed(codes: Mapping[int, int], count: int) -> int:
    """Return 1 where a process has said why it ended; raise where a signal ended it.

    The agent ends the others by SIGTERM: that says nothing, unless it is all there is.
    """
    killed = {rank: -code for rank, code in codes.items() if code < 0 and code != -signal.SIGTERM}
    said = [code for code in codes.values() if code > 0]
    if not killed and INTERRUPTED in said:
        raise KeyboardInterrupt
    if not killed and said:
        return 1
    rank, number = next(iter((killed or {rank: -code for rank, code in codes.items()}).items()))
    raise KilledProcessError(
        f"process {rank} of {count} was killed ({signal.Signals(number).name}), so all were ended; run the same "
        "command again: it goes on from its last checkpoint"
    )
