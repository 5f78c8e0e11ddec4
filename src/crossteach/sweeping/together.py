"""One job as several processes, each on a device of its own: `transfer --devices N`, inside a worker of a sweep.

They are started by a process between them and the worker. It ends with the worker, however that was, and they end with
it: an orphan would hold the folder where the job runs again.
"""

import os
import tempfile
import threading
from collections.abc import Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from ..errors import CrossteachError, DevicesError, KilledProcessError
from ..transferring.launching import run_processes
from .executors import die_with_parent, no_interrupt, print_into

AGAIN = 3
"""How often processes are started again of which one was killed."""
SAID = "crossteach: "
"""How the line begins in which a process says what is wrong."""


def train_together(count: int, device: str, arguments: Sequence[str]) -> None:
    """Run a command line as so many processes; when one of them is killed, it goes on from its last checkpoint.

    Args:
        count: How many, 2 or more.
        device: cpu or cuda.
        arguments: What follows `crossteach`.

    Raises:
        CrossteachError: What the first of them says is wrong.
        DevicesError: If there are fewer GPUs, or one of them is killed again and again.
    """
    for _ in range(AGAIN + 1):
        killed, reason = _run_once(count, device, arguments)
        if not killed:
            break
    if reason:
        raise DevicesError(f"{reason} ({AGAIN + 1} times)") if killed else CrossteachError(reason)


def _run_once(count: int, device: str, arguments: Sequence[str]) -> tuple[bool, str]:
    """Return whether a process was killed, and what went wrong, if anything."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    with tempfile.NamedTemporaryFile(prefix="crossteach-", suffix=".log") as log:
        asked = (theirs, log.name, count, device, torch.get_num_threads(), [*arguments, "--device", device])
        process = context.Process(target=_launch, args=asked, name="crossteach devices")
        with no_interrupt():
            process.start()
        theirs.close()
        try:
            killed, reason = ours.recv()
        except EOFError:
            killed, reason = True, "the process that starts a job's processes was killed"
        process.join()
        if reason or process.exitcode == 0:
            return killed, reason
        lines = Path(log.name).read_text(errors="replace").splitlines()
    said = [line.removeprefix(SAID) for line in lines if line.startswith(SAID)]
    return False, (said or lines or ["a job's processes ended without a word"])[-1]


def _launch(pipe: Connection, log: str, count: int, device: str, threads: int, arguments: Sequence[str]) -> None:
    """Start the processes, wait for them, and say how that went."""
    print_into(log)
    threading.Thread(target=die_with_parent, daemon=True).start()
    os.environ["OMP_NUM_THREADS"] = str(threads)
    try:
        code = run_processes(count, device, [*arguments, "--devices", str(count)])
    except DevicesError as error:
        pipe.send((isinstance(error, KilledProcessError), str(error)))
        return
    pipe.send((False, ""))
    os._exit(code)
