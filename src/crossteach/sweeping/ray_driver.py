"""The process of a sweep that talks to Ray.

It is a process of its own because Ray takes its driver over: it prints to standard output, replaces what signals do,
and ends the process when it loses its head node or finds no token.
"""

import math
import os
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any

from ..errors import first_line
from .executors import cores, die_with_parent, free_memory, print_into
from .jobs import TransferJob
from .ray_task import STARTED, Call, Reply, bring_home, run_call

OBJECT_STORE = 80 << 20
"""Bytes of shared memory for a Ray on this machine: what its tasks return is small, and containers have little."""
LOOK_SECONDS = 2.0
"""How often it is asked whether there are nodes left."""
AGAIN = 3
"""How often a task is begun again whose worker or node dies; so often does Ray itself."""
RETRIED = "ran again after a worker or a node of Ray died"


@dataclass(frozen=True)
class Needs:
    """The resources that Ray keeps for one task."""

    cpus: float = 1.0
    gpus: float = 0.0
    memory: int = 0
    """Bytes."""
    devices: int = 1
    """Processes that train one student together; each needs as many CPUs and GPUs."""

    def slots(self, resources: Mapping[str, float]) -> int:
        """Count the tasks that a node with these resources holds at once."""
        return min(math.floor(resources.get(name, 0) / wanted + 1e-9) for name, wanted in self._wanted().items())

    def _wanted(self) -> dict[str, float]:
        wanted = {"CPU": self.cpus * self.devices, "GPU": self.gpus * self.devices, "memory": float(self.memory)}
        return {name: amount for name, amount in wanted.items() if amount}

    def missing(self, nodes: Sequence[Mapping[str, float]]) -> str:
        """Return why no node could ever run a task, in one line; nothing where one could."""
        if any(self.slots(node) for node in nodes):
            return ""
        best = max(nodes, key=lambda node: [node.get(name, 0) for name in self._wanted()], default={})
        return (
            f"a job asks for {_in_words(self._wanted())}, and no node of this Ray has that: the best of {len(nodes)} "
            f"has {_in_words({name: best.get(name, 0) for name in ('CPU', 'GPU', 'memory')})}; ask for less (--cpus, "
            "--gpus, --memory), or start such a node first"
        )


def _in_words(resources: Mapping[str, float]) -> str:
    """Write resources down.

    Example:
        >>> _in_words({"CPU": 2.0, "memory": 3e9})
        '2 CPUs and 3.0 GB of memory'
    """
    words = [
        f"{amount / 1e9:.1f} GB of memory" if name == "memory" else f"{amount:g} {name}{'s' * (amount != 1)}"
        for name, amount in resources.items()
    ]
    return " and ".join([", ".join(words[:-1])] * (len(words) > 1) + words[-1:])


@dataclass(frozen=True)
class Refused:
    """Why Ray runs no tasks, in one line."""

    reason: str


def drive(pipe: Connection, address: str | None, needs: Needs, patience: float, log: str) -> None:
    """Connect to Ray, say what nodes there are, and run what comes through the pipe until it closes.

    Args:
        pipe: Gets a list of nodes, or Refused. For each list of calls that it brings, it then gets the index of a call
            that has begun, or (index, reply, seconds) of one that has ended, or Refused.
        address: Of a Ray that runs; None starts one on this machine, which ends with this process.
        needs: Of each call; a memory of 0 is what its task says.
        patience: Seconds without any node that could run a call before that is an error.
        log: The file that takes what Ray prints.
    """
    print_into(log)
    threading.Thread(target=die_with_parent, daemon=True).start()
    if address is None:
        _keep_to_ourselves()
    import ray
    from ray.exceptions import AuthenticationError

    try:
        _connect(address)
        nodes = _nodes()
    except AuthenticationError as error:  # what it says beyond its message is a page of advice
        pipe.send(Refused(error.message))
        return
    except Exception as error:  # Ray raises whatever its parts raise
        pipe.send(Refused(" ".join(str(error).split()) or type(error).__name__))
        return
    try:
        pipe.send(nodes)
        while True:
            pipe.send(_Flight(needs, patience, pipe.send).run(pipe.recv()))
    except (EOFError, BrokenPipeError):
        pass
    finally:
        ray.shutdown()


def _keep_to_ourselves() -> None:
    """Let nobody else on this machine send tasks to a Ray started here; Ray reads this when it is imported."""
    if "RAY_AUTH_MODE" not in os.environ:
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")


def _connect(address: str | None) -> None:
    import ray

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is not None:
        ray.init(address=address, **quiet)
        return
    memory = free_memory()
    here: dict[str, Any] = {"num_cpus": cores(), "object_store_memory": OBJECT_STORE, "include_dashboard": False}
    ray.init(address="local", **here, **({} if memory is None else {"_memory": memory}), **quiet)


def _nodes() -> list[dict[str, float]]:
    """Return the resources of each node that lives."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


@dataclass
class _Flying:
    index: int
    call: Call
    deaths: int = 0
    since: float | None = None
    runs: bool = False


class _Flight:
    """Calls on their way to nodes and back. All are handed to Ray at once: it queues them, and may grow a cluster."""

    def __init__(self, needs: Needs, patience: float, send: Callable[[Any], None]) -> None:
        import ray

        self._needs, self._patience, self._send = needs, patience, send
        # A process cannot change its GPU, and Ray gives the next task another: each task on a GPU has its own process.
        self._remote = ray.remote(max_calls=1)(run_call) if needs.gpus else ray.remote(run_call)
        self._flying: dict[Any, _Flying] = {}

    def run(self, calls: Sequence[Call]) -> Refused | None:
        """Run calls until all have ended, or nothing is left that could run one."""
        import ray

        for each in {self._needs_of(call) for call in calls}:
            if problem := each.missing(_nodes()):
                return Refused(problem)
        for index, call in enumerate(calls):
            self._submit(_Flying(index, call))
        lonely_since: float | None = None
        while self._flying:
            ready, _ = ray.wait(list(self._flying), num_returns=1, timeout=LOOK_SECONDS)
            for stream in ready:
                self._hear(stream)
            if ready or any(f.runs for f in self._flying.values()) or not self._lonely():
                lonely_since = None
                continue
            lonely_since = lonely_since or time.monotonic()
            if time.monotonic() - lonely_since > self._patience:
                return Refused(
                    f"for {self._patience:g} seconds Ray has had no node that could run a job; start one, and the same "
                    "command goes on"
                )
        return None

    def _needs_of(self, call: Call) -> Needs:
        devices = call.task.argument.devices if isinstance(call.task.argument, TransferJob) else 1
        return replace(self._needs, memory=self._needs.memory or devices * call.task.memory, devices=devices)

    def _lonely(self) -> bool:
        wanted = {self._needs_of(f.call) for f in self._flying.values()}
        return not any(each.slots(node) for each in wanted for node in _nodes())

    def _submit(self, flying: _Flying) -> None:
        needs = self._needs_of(flying.call)
        memory = {"memory": needs.memory} if needs.memory else {}
        asked = self._remote.options(
            name=flying.call.task.name,
            num_cpus=needs.cpus * needs.devices,
            num_gpus=needs.gpus * needs.devices,
            max_retries=0,
            **memory,
        )
        self._flying[asked.remote(flying.call)] = flying

    def _hear(self, stream: Any) -> None:
        """Take what a call says next: that it has begun, its reply, or that its worker died."""
        import ray
        from ray.exceptions import (
            LocalRayletDiedError,
            NodeDiedError,
            ObjectLostError,
            OutOfMemoryError,
            RayError,
            WorkerCrashedError,
        )

        deaths = (WorkerCrashedError, NodeDiedError, OutOfMemoryError, LocalRayletDiedError, ObjectLostError)
        flying = self._flying[stream]
        try:
            said = ray.get(next(stream))
        except deaths as error:
            said = self._after_death(flying, first_line(error))
        except RayError as error:  # the node cannot run crossteach at all; a traceback ends with what happened
            last = str(error).strip().splitlines()[-1:] or [type(error).__name__]
            said = Reply(reason=f"its node could not begin it ({last[0]}); look at the log of Ray")
        if said == STARTED:
            flying.runs = True
            self._begin(flying)
            return
        del self._flying[stream]
        if isinstance(said, Reply):
            self._end(flying, said)
        else:
            self._submit(said)

    def _after_death(self, flying: _Flying, cause: str) -> Reply | _Flying:
        """Say what becomes of a call whose worker or node died: it begins again, or has failed."""
        deaths = flying.deaths + 1
        if deaths > AGAIN:
            return Reply(reason=f"its worker or node died {deaths} times, at last: {cause}")
        return replace(flying, call=replace(flying.call, again=True), deaths=deaths, runs=False)

    def _begin(self, flying: _Flying) -> None:
        if flying.since is None:
            flying.since = time.monotonic()
            self._send(flying.index)

    def _end(self, flying: _Flying, reply: Reply) -> None:
        self._begin(flying)
        assert flying.since is not None
        if flying.deaths and not reply.reason:
            reply = replace(reply, notes=(*reply.notes, RETRIED))
        reply = bring_home(flying.call.task, reply)
        self._send((flying.index, reply, time.monotonic() - flying.since))
