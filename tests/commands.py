"""The command line as the tests call it: in this process, or as a process of its own."""

import contextlib
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from crossteach.cli import main


def call(capsys, *arguments: object) -> tuple[int, str, str]:
    """Run the command line here; return exit code, standard output and standard error."""
    code = 0
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as end:
        code = int(end.code or 0)
    told = capsys.readouterr()
    return code, told.out, told.err


def start(*arguments: object, stderr: int = subprocess.PIPE, **changes: object) -> subprocess.Popen[str]:
    """Start the command line as a process of one thread, so that it computes the bits that `call` does."""
    command = [sys.executable, "-m", "crossteach.cli", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": stderr, "text": True}
    return subprocess.Popen(command, env=environment, **pipes, **changes)  # type: ignore[call-overload]


def draw_on_terminal(begin: Callable[[int], subprocess.Popen]) -> tuple[subprocess.Popen, str | bytes, bytes]:
    """Run a process whose standard error is a terminal.

    Args:
        begin: Starts it, with this file descriptor as its standard error.

    Returns:
        The process at its end, its standard output, and what it drew on the terminal.
    """
    ours, theirs = pty.openpty()
    process = begin(theirs)
    os.close(theirs)
    drawn = b""
    with contextlib.suppress(OSError):  # a terminal that the other end has closed reads as an error
        while part := os.read(ours, 4096):
            drawn += part
    os.close(ours)
    out, _ = process.communicate(timeout=120)
    return process, out, drawn


def session(leader: int) -> set[int]:
    """The living processes of a session."""
    living = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == leader and fields[0] != "Z":
            living.add(int(path.parent.name))
    return living
