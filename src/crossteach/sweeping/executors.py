"""Executors run tasks: what one is, and the one for processes on this machine; `ray_executor.py` has another."""

import contextlib
import os
import signal
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing import connection, get_context, parent_process, resource_tracker
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from ..errors import CrossteachError, ExecutorError, first_line

TERMINATION_SECONDS = 2.0
"""How long a worker may take to end before it is killed."""


@dataclass(frozen=True)
class Task:
    """A call that any process can make: function and argument can be pickled. Running it twice does no harm."""

    name: str
    function: Callable[[Any], Any]
    """At the top of a module."""
    argument: Any
    group: str = ""
    """Tasks of one group go to one worker as long as others have something to do: they share what it has loaded."""
    memory: int = 0
    """Bytes that it is expected to take."""


@dataclass(frozen=True)
class Ended:
    """The result of a task, or why it failed."""

    task: Task
    value: Any = None
    reason: str = ""
    """Why it failed, in one line; empty where it did not."""
    trace: str = ""
    """The traceback of an error that is not a CrossteachError."""
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    """What the user should know of how it ran; the same words for all tasks of which the same is true."""


@runtime_checkable
class Executor(Protocol):
    """Runs tasks, in any order and any number at once."""

    workers: int
    """How many run at the same time."""

    def run(self, tasks: Sequence[Task], started: Callable[[Task], None]) -> Iterator[Ended]:
        """Run every task once; yield each when it ends, in whatever order. A failed task does not stop the others.

        Args:
            tasks: Those of one group stand in the order in which they are wanted.
            started: Called when a task is handed to a worker.

        Raises:
            ExecutorError: If nothing is left that could run a task.
        """
        ...

    def close(self) -> None:
        """End everything that runs; what it was doing is lost."""
        ...


@dataclass
class _Worker:
    process: SpawnProcess
    pipe: connection.Connection
    ready: bool = False
    task: Task | None = None
    group: str | None = None
    since: float = 0.0


@dataclass
class LocalProcesses:
    """Worker processes on this machine, started when there is something to do, kept until `close`."""

    workers: int
    threads: int = 1
    """Of torch, in each worker."""
    _alive: list[_Worker] = field(default_factory=list)

    def run(self, tasks: Sequence[Task], started: Callable[[Task], None]) -> Iterator[Ended]:
        """Run the tasks; a worker that is killed is replaced, and its task has failed."""
        waiting: dict[str, deque[Task]] = {}
        for task in tasks:
            waiting.setdefault(task.group, deque()).append(task)
        while waiting or any(worker.task for worker in self._alive):
            for worker in [w for w in self._alive if w.ready and w.task is None and not w.process.is_alive()]:
                yield from self._replace_dead(worker)  # it was killed while it had nothing to do: nothing is lost
            wanted = sum(map(len, waiting.values())) + sum(worker.task is not None for worker in self._alive)
            while len(self._alive) < min(self.workers, wanted):
                self._alive.append(_start(self.threads))
            for worker in self._alive:
                if worker.ready and worker.task is None and (chosen := self._next(waiting, worker)) is not None:
                    worker.task, worker.group, worker.since = chosen, chosen.group, time.perf_counter()
                    started(chosen)
                    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # its end is seen below
                        worker.pipe.send(chosen)
            yield from self._ended()

    def _next(self, waiting: dict[str, deque[Task]], worker: _Worker) -> Task | None:
        """Go on with the worker's group; else take the longest one, best one that no other worker is on."""
        if not waiting:
            return None
        others = {other.group for other in self._alive if other is not worker and other.task}
        group = max(waiting, key=lambda g: (g == worker.group, g not in others, len(waiting[g])))
        task = waiting[group].popleft()
        if not waiting[group]:
            del waiting[group]
        return task

    def _ended(self) -> Iterator[Ended]:
        """Wait until a worker says something or dies."""
        watched: dict[Any, _Worker] = {}
        for worker in self._alive:
            watched[worker.pipe] = watched[worker.process.sentinel] = worker
        happened = {id(watched[w]): watched[w] for w in connection.wait(list(watched))}
        for worker in happened.values():
            try:
                reply = worker.pipe.recv() if worker.pipe.poll() else None
            except (EOFError, ConnectionResetError):
                reply = None
            if reply is None:
                if worker.process.is_alive():
                    worker.process.join(TERMINATION_SECONDS)
                yield from self._replace_dead(worker)
            elif not worker.ready:
                worker.ready = True
            else:
                assert worker.task is not None
                value, reason, trace = reply
                task, worker.task = worker.task, None
                yield Ended(task, value, reason, trace, time.perf_counter() - worker.since)

    def _replace_dead(self, worker: _Worker) -> Iterator[Ended]:
        code = worker.process.exitcode
        self._alive.remove(worker)
        _end([worker])
        if worker.task is not None:
            yield Ended(worker.task, reason=_cause_of_death(code), seconds=time.perf_counter() - worker.since)
        elif not worker.ready and not self._alive:
            raise ExecutorError(
                f"a worker process ended before it could work (exit code {code}); free memory, and in a script of your "
                'own call this under  if __name__ == "__main__":'
            )
        elif not worker.ready:
            self.workers = max(1, len(self._alive))  # memory or process limit: no more can start

    def close(self) -> None:
        """End every worker at once."""
        workers, self._alive = self._alive, []
        _end(workers)

    def __enter__(self) -> "LocalProcesses":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _end(workers: Sequence[_Worker]) -> None:
    for worker in workers:
        worker.process.terminate()
    for worker in workers:
        worker.process.join(TERMINATION_SECONDS)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
        worker.pipe.close()
        worker.process.close()


def _cause_of_death(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        cause = ": out of memory, or killed by hand" if name == "SIGKILL" else ""
        return f"its worker process was killed by {name}{cause}"
    return f"its worker process ended with exit code {code}"


def _start(threads: int) -> _Worker:
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, threads), name="crossteach worker", daemon=True)
    with no_interrupt():
        process.start()
    theirs.close()
    return _Worker(process, ours)


@contextlib.contextmanager
def no_interrupt() -> Iterator[None]:
    """Let a process that starts here never see Ctrl-C, which a terminal sends to all: its parent ends it."""
    resource_tracker.ensure_running()  # it unblocks the signal when it starts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def interrupts_wait() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM wait for the end of a block.

    What they raise in the middle of it may be lost: pyarrow imports pandas where that is installed, and goes on when
    the import fails, for whatever reason.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for first in came[:1]:
            signal.raise_signal(first)


def _work(pipe: connection.Connection, threads: int) -> None:
    """Run what comes through the pipe until it closes."""
    os.dup2(2, 1)  # standard output is the parent's: it may be one JSON document
    threading.Thread(target=die_with_parent, daemon=True).start()
    set_threads(threads)
    pipe.send("ready")
    while True:
        try:
            task: Task = pipe.recv()
        except EOFError:
            return
        pipe.send(call_task(task))


def set_threads(count: int) -> None:
    """Give torch so many threads, which take numbers below 1e-38 for 0: they inherit it where none has started yet."""
    import torch

    torch.set_flush_denormal(True)
    torch.set_num_threads(count)


def call_task(task: Task) -> tuple[Any, str, str]:
    """Return what a task returned, or why it failed."""
    try:
        return task.function(task.argument), "", ""
    except CrossteachError as error:
        return None, " ".join(str(error).split()), ""
    except Exception as error:  # models are their users' code and may raise anything: one failed task is only one
        return None, f"{type(error).__name__}: {first_line(error)}", traceback.format_exc()


def print_into(log: str) -> None:
    """Let a file take all that this process and those that it starts print."""
    file = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)


def die_with_parent() -> None:
    """End this process when its parent has ended, however that was: an orphan would write where a rerun writes."""
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_memory() -> int | None:
    """Return the bytes that may still be taken on this machine and in this control group; None if not known."""
    free: list[int] = []
    with contextlib.suppress(OSError, ValueError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        free += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    with contextlib.suppress(OSError, ValueError):  # "max" where there is no limit
        group = Path("/sys/fs/cgroup")
        taken = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())["anon"]
        free.append(int((group / "memory.max").read_text()) - int(taken))
    return max(0, min(free)) if free else None
