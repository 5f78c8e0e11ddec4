"""What a Ray task does on its node: it finds the sweep's folders there, runs a task, and says how that went.

Whether a node sees a folder is found out by looking: the sweep puts a small file with a name of its own into it, and
where that file is seen, the folder is shared. Where `--out` is not, a job runs in a folder of the node and its files go
back through Ray. Where the store is not, the node keeps answers in its own.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from ..config import PROCEDURE
from ..files import default_folder, is_held, make_folder, write_bytes
from .executors import Task, call_task, set_threads
from .jobs import TransferJob, TutorPass

LOCK_SECONDS = 120.0
"""How long a task that runs again waits for the lock of its folder: a file server may keep that of a dead node."""
SIGHT_SECONDS = 60.0
"""How long another machine may take to see a new file in a shared folder."""
STARTED: Literal["started"] = "started"
OUT_NOT_SHARED = "ran where the sweep's folder is not seen: their files came back through Ray"
STORE_NOT_SHARED = "ran where the store is not seen: such a node keeps the answers of tutors in its own"


def _installed() -> str:
    """Name what computes the results here: a release, and the version of its defaults and rules."""
    try:
        release = version("crossteach")
    except PackageNotFoundError:  # read from its source, without being installed
        release = "of no release"
    return f"{release} (procedure {PROCEDURE})"


INSTALLED = _installed()


@dataclass(frozen=True)
class Call:
    """A task on its way to a node."""

    task: Task
    beacon: str
    """The name of the file that stands in all folders of the sweep."""
    working: Path
    """Specs with relative paths are read from here."""
    threads: int
    """Of torch."""
    version: str = INSTALLED
    again: bool = False
    """Whether it was begun before, on a worker that died."""


@dataclass(frozen=True)
class Reply:
    """How a task went on its node."""

    value: Any = None
    reason: str = ""
    trace: str = ""
    notes: tuple[str, ...] = ()
    files: dict[str, bytes] | None = None
    """Those of a job whose folder the node does not see, by their path inside it."""


def folders_of(task: Task) -> list[Path]:
    """Return the folders through which a task and the sweep meet: the store, and the sweep's own."""
    work = task.argument
    if isinstance(work, TransferJob):
        return [work.place.store, work.out.parents[1]]
    return [work.place.store] if isinstance(work, TutorPass) else []


def run_call(call: Call) -> Iterator[Any]:
    """Say that a task has begun, then how it went; to be run as a Ray task that yields."""
    yield STARTED
    if call.version != INSTALLED:
        yield Reply(reason=f"its node has crossteach {INSTALLED}, the sweep {call.version}; install the same on both")
        return
    with suppress(OSError):  # the folder may not be there; then what is relative is not found, and that is said
        os.chdir(call.working)
    set_threads(call.threads)
    yield _run(call)


def _run(call: Call) -> Reply:
    task, notes = call.task, []
    seen = [(folder / call.beacon).is_file() for folder in folders_of(task)]
    if seen and not seen[0]:
        place = replace(task.argument.place, store=default_folder())
        task = replace(task, argument=replace(task.argument, place=place))
        notes.append(STORE_NOT_SHARED)
    if isinstance(task.argument, TransferJob):
        if not seen[1]:
            return _run_apart(task, [*notes, OUT_NOT_SHARED])
        if call.again:
            _await_lock(task.argument.out)
    return Reply(*call_task(task), notes=tuple(notes))


def _await_lock(out: Path) -> None:
    until = time.monotonic() + LOCK_SECONDS
    while out.is_dir() and is_held(out) and time.monotonic() < until:
        time.sleep(1)


def _run_apart(task: Task, notes: list[str]) -> Reply:
    """Run a job in a folder of this node and take its files along."""
    with tempfile.TemporaryDirectory(prefix="crossteach-") as folder:
        out = Path(folder) / task.argument.out.name
        value, reason, trace = call_task(replace(task, argument=replace(task.argument, out=out)))
        files = None
        if not reason:
            files = {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    return Reply(value, reason, trace, tuple(notes), files)


def bring_home(task: Task, reply: Reply) -> Reply:
    """Let the files of a job stand in its folder here: write those that came along, or wait until others are seen."""
    if reply.reason or not isinstance(task.argument, TransferJob):
        return reply
    out = task.argument.out
    if reply.files is not None:
        _place(out, reply.files)
    until = time.monotonic() + SIGHT_SECONDS
    while not (out / "summary.json").is_file():
        if time.monotonic() > until:
            return replace(
                reply, reason=f"its node says that it is whole, but {out} is not seen here; look at the share"
            )
        with suppress(OSError):  # opening the folders makes a network file system look again
            list(out.parent.iterdir()), list(out.iterdir())
        time.sleep(0.2)
    return replace(reply, files=None)


def _place(out: Path, files: dict[str, bytes]) -> None:
    """Write a folder whole or not at all."""
    make_folder(out.parent)
    with tempfile.TemporaryDirectory(prefix=".arriving-", dir=out.parent) as folder:
        arriving = Path(folder) / out.name
        for name, content in files.items():
            make_folder((arriving / name).parent)
            write_bytes(arriving / name, content)
        if out.exists():  # half done by an earlier sweep
            shutil.rmtree(out)
        arriving.rename(out)
