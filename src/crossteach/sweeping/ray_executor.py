"""An executor on Ray: tasks run on this machine or on a cluster, and those whose worker or node dies run again."""

import contextlib
import math
import os
import re
import secrets
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from ..errors import ConfigError, ExecutorError, MissingExtraError
from ..files import make_folder, write_bytes
from .executors import Ended, Task, no_interrupt
from .ray_driver import Needs, Refused, drive
from .ray_task import Call, folders_of

KNOCK_SECONDS = 5.0
"""How long a head node may take to accept a connection."""
CONNECT_SECONDS = 15.0
"""How long it may take to speak Ray."""
START_SECONDS = 120.0
"""How long a Ray on this machine may take to start."""
END_SECONDS = 10.0
"""How long it may take to end before it is killed."""
TOKEN_REFUSED = "InvalidAuthToken"
"""In what Ray prints while it tries again and again with a token that is refused."""
LOG_HEAD = re.compile(r"^\[.*?\] *(\S+:\d+: )?")
"""Time, process and place in the source, at the start of a line that Ray prints."""
TOKEN_ADVICE = "set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH to a file with the cluster's token"


class RayTasks:
    """Ray tasks, on a Ray of this machine that ends with `close`, or on a cluster that runs already.

    Args:
        address: `HOST:PORT` of the head node, or `auto` for the cluster that this machine is a node of. None takes
            `$RAY_ADDRESS`, as Ray does, or else starts a Ray on this machine.
        cpus: Of each task; torch takes as many threads.
        gpus: Of each task; less than 1 shares a GPU.
        memory: Bytes of each task; None takes what the sweep expects.
        patience: Seconds without any node that could run a task before that is an error.
        devices: Processes that train one student together, each with these CPUs and GPUs, all on one node.

    Raises:
        MissingExtraError: If Ray is not installed.
        ConfigError: If the address or the resources cannot be meant.
        ExecutorError: If nothing answers at the address, the token is refused, or no node has the resources.
    """

    workers: int
    device: str
    """Of the tasks."""

    def __init__(
        self,
        address: str | None = None,
        cpus: float = 1.0,
        gpus: float = 0.0,
        memory: int | None = None,
        patience: float = 300.0,
        devices: int = 1,
    ) -> None:
        if find_spec("ray") is None:
            raise MissingExtraError("--executor ray needs Ray; pip install 'crossteach[ray]'")
        needs = _needs(cpus, gpus, memory, devices)
        self._threads, self.device = max(1, int(cpus)), "cuda" if gpus else "cpu"
        self._address = _reachable(address)
        self._beacon = f".sweep-{secrets.token_hex(8)}"
        self._lit: set[Path] = set()
        log, path = tempfile.mkstemp(prefix="crossteach-ray-", suffix=".log")
        os.close(log)
        self._log = Path(path)
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        asked = (theirs, self._address, needs, patience, path)
        self._process = context.Process(target=drive, args=asked, name="crossteach on Ray", daemon=True)
        try:
            with no_interrupt():
                self._process.start()
            theirs.close()
            nodes = self._connected()
            if problem := needs.missing(nodes):
                raise ExecutorError(problem)
        except BaseException:
            if self._address is not None and self._process.is_alive():
                self._process.kill()  # it has begun nothing, and while Ray connects it hears no signal
            self.close()
            raise
        self.workers = sum(needs.slots(node) for node in nodes)

    def run(self, tasks: Sequence[Task], started: Callable[[Task], None]) -> Iterator[Ended]:
        """Run the tasks wherever Ray finds room; one whose worker or node dies runs again, a few times."""
        for folder in {folder for task in tasks for folder in folders_of(task)} - self._lit:
            make_folder(folder)
            write_bytes(folder / self._beacon, b"")
            self._lit.add(folder)
        self._pipe.send([Call(task, self._beacon, Path.cwd(), self._threads) for task in tasks])
        while (said := self._hear()) is not None:
            if isinstance(said, int):
                started(tasks[said])
                continue
            index, reply, seconds = said
            yield Ended(tasks[index], reply.value, reply.reason, reply.trace, seconds, reply.notes)

    def close(self) -> None:
        """End all tasks, and the Ray of this machine."""
        self._pipe.close()
        if self._process.pid is not None:
            self._process.terminate()
            self._process.join(END_SECONDS)
            if self._process.is_alive():
                self._process.kill()
                self._process.join()
        for path in (self._log, *(folder / self._beacon for folder in self._lit)):
            with contextlib.suppress(OSError):  # the folder may be gone
                path.unlink()
        self._lit.clear()

    def _hear(self) -> Any:
        """Return what the driver says next.

        Raises:
            ExecutorError: If it says that nothing is left to run tasks, or has ended.
        """
        try:
            said = self._pipe.recv()
        except (EOFError, ConnectionResetError):
            said = Refused(f"the connection to Ray was lost{self._last_words()}; what is done is kept, run it again")
        if isinstance(said, Refused):
            raise ExecutorError(said.reason)
        return said

    def _connected(self) -> list[dict[str, float]]:
        """Wait until the driver is connected; return the resources of each node."""
        where = "on this machine" if self._address is None else f"at {self._address}"
        seconds = START_SECONDS if self._address is None else CONNECT_SECONDS
        until = time.monotonic() + seconds
        while not self._pipe.poll(0.1):
            if TOKEN_REFUSED in self._log.read_text(errors="replace"):
                gave = os.environ.get("RAY_AUTH_MODE", "").lower() == "token" and self._address is not None
                raise ExecutorError(
                    f"Ray {where} {'refuses the token' if gave else 'asks for a token'}; {TOKEN_ADVICE}"
                )
            if time.monotonic() > until:
                raise ExecutorError(
                    f"Ray {where} does not answer within {seconds:g} seconds{self._last_words()}; is it the port of "
                    "the head node (6379 unless it was started with another)?"
                )
        try:
            nodes: list[dict[str, float]] = self._hear()
        except ExecutorError as error:
            advice = f"; {TOKEN_ADVICE}" if "token" in str(error).lower() else ""
            raise ExecutorError(f"Ray {where} cannot be used: {_short(str(error))}{advice}") from error
        return nodes

    def _last_words(self) -> str:
        lines = [line for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        return f" ({_short(LOG_HEAD.sub('', lines[-1]))})" if lines else ""


def _short(text: str, most: int = 160) -> str:
    text = text.removesuffix(".")
    return text if len(text) <= most else text[:most] + " …"


def _needs(cpus: float, gpus: float, memory: int | None, devices: int) -> Needs:
    """Check the resources of a task."""
    if not 0 < cpus < math.inf:
        raise ConfigError(f"--cpus must be a number above 0, not {cpus:g}")
    if not 0 <= gpus < math.inf or (gpus > 1 and gpus != int(gpus)):
        raise ConfigError(f"--gpus must be a share of one GPU, as 0.5, or a whole number of them, not {gpus:g}")
    if memory is not None and memory <= 0:
        raise ConfigError(f"--memory must be a size above 0, not {memory}")
    if devices > 1 and gpus not in (0, 1):
        raise ConfigError(
            f"--devices {devices} gives each process a GPU of its own, or none: --gpus 1 or 0, not {gpus:g}"
        )
    if devices > 1 and find_spec("accelerate") is None:
        raise MissingExtraError("several devices need accelerate; pip install 'crossteach[devices]'")
    return Needs(cpus, gpus, memory or 0, devices)


def _reachable(address: str | None) -> str | None:
    """Knock at the head node: Ray itself would wait for minutes."""
    if address in (None, "auto"):
        address = os.environ.get("RAY_ADDRESS") or address
    if address in (None, "auto"):
        return address
    host, colon, port = address.rpartition(":")
    if "://" in address or not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise ConfigError(
            f"--address must be HOST:PORT of Ray's head node, as 10.0.0.1:6379, or auto, not {address!r}; from a "
            "machine that is no node of the cluster use  ray job submit"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), KNOCK_SECONDS).close()
    except OSError as error:
        raise ExecutorError(
            f"nothing answers at {address} ({error.strerror or error}); start Ray there (ray start --head), or correct "
            "--address"
        ) from error
    return address
