"""The command line as the tests call it: in this process, or as a process of its own."""

import os
import subprocess
import sys

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
