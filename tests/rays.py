"""Ray clusters of real processes on this machine, started as users start them. Each node is a session of its own."""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from commands import session

import crossteach

HEAD, SECOND = "127.0.0.2", "127.0.0.3"
STARTED = "Ray runtime started"
CODE = (str(Path(crossteach.__file__).parents[1]), str(Path(__file__).parent))
"""What tasks import on a node."""


def running(leader: int, name: str = "") -> list[int]:
    """The processes of a session in which Ray runs a task whose name has this in it."""
    found = []
    for pid in session(leader):
        with contextlib.suppress(OSError):
            title = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
            if title.startswith("ray::") and name in title and "seed" in title:
                found.append(pid)
    return found


@contextlib.contextmanager
def short_folder() -> Iterator[Path]:
    """A folder whose name leaves room for the names of Ray's sockets, which end at 107 characters."""
    folder = Path(tempfile.mkdtemp(prefix="r", dir="/tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class Cluster:
    """A head node, and those that joined it; all ask for one token."""

    folder: Path
    token: str = field(default_factory=lambda: secrets.token_hex(32))
    address: str = ""
    nodes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        """What every process that belongs to it has in its environment."""
        return {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self.token,
            "RAY_TMPDIR": str(self.folder),
            "RAY_USAGE_STATS_ENABLED": "0",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join([*CODE, os.environ.get("PYTHONPATH", "")]),
        }

    def start_head(self, cpus: int) -> None:
        with socket.socket() as free:
            free.bind((HEAD, 0))
            port = free.getsockname()[1]
        self._start(
            cpus, "--head", "--num-gpus=2", f"--port={port}", f"--node-ip-address={HEAD}", "--include-dashboard=false"
        )
        self.address = f"{HEAD}:{port}"

    def add(self, cpus: int, before: Sequence[str] = (), **environment: str) -> subprocess.Popen[bytes]:
        """Start another node.

        Args:
            cpus: That it offers.
            before: A command that runs the one that starts it.
            environment: What else it has there.
        """
        joins = (f"--address={self.address}", f"--node-ip-address={SECOND}")
        return self._start(cpus, *joins, before=before, **environment)

    def _start(self, cpus: int, *more: str, before: Sequence[str] = (), **environment: str) -> subprocess.Popen[bytes]:
        ray = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", f"--num-cpus={cpus}", *more]
        log = self.folder / f"node{len(self.nodes)}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [*before, *ray, "--object-store-memory=80000000", "--disable-usage-stats"],
                env={**os.environ, **self.environment, **environment},
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        self.nodes.append(process)
        until = time.monotonic() + 90
        while STARTED not in log.read_text(errors="replace"):
            assert process.poll() is None and time.monotonic() < until, log.read_text(errors="replace")
            time.sleep(0.1)
        return process

    def kill(self, node: subprocess.Popen[bytes]) -> None:
        """End every process of a node at once, as a power cut does."""
        while living := session(node.pid):
            for pid in living:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
        node.wait()

    def close(self) -> None:
        for node in reversed(self.nodes):
            self.kill(node)


@contextlib.contextmanager
def cluster(cpus: int) -> Iterator[Cluster]:
    """A cluster of one node with so many CPUs."""
    with short_folder() as folder:
        made = Cluster(folder)
        try:
            made.start_head(cpus)
            yield made
        finally:
            made.close()


def visible(nothing: None) -> tuple[int, str | None]:
    """Say which process this is, and which GPUs it may see."""
    return os.getpid(), os.environ.get("CUDA_VISIBLE_DEVICES")


def threads(nothing: None) -> tuple[int, bool]:
    import torch

    return torch.get_num_threads(), torch.cuda.is_available()


def fill_by_chunks(asked: Any) -> int:
    """Answer a part of a pass, each chunk a block of its own in the store."""
    from crossteach.answers import logit_table
    from crossteach.sweeping.jobs import fill_answers

    logit_table.BLOCK_BYTES = 1
    return fill_answers(asked)
