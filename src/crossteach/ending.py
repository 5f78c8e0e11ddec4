"""How a command ends: with one line on standard error, and the exit code that stands for it."""

import functools
import os
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeVar, cast

from .errors import CrossteachError, DevicesError, LostProcessError

Command = TypeVar("Command", bound=Callable[..., None])


def one_line_errors(command: Command) -> Command:
    """End a command with one line and the exit code that stands for it."""

    @functools.wraps(command)
    def guarded(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except CrossteachError as error:
            if not _is_said_elsewhere(error):
                _complain(str(error))
            _end(1)
        except KeyboardInterrupt:
            if not _is_spoken_for():
                _complain("interrupted; the same command goes on where it stopped")
            _end(130)

    return cast(Command, guarded)


def terminate(number: int, frame: FrameType | None) -> None:
    """Let a signal to end be Ctrl-C."""
    raise KeyboardInterrupt


def _is_said_elsewhere(error: CrossteachError) -> bool:
    """Tell whether another process says it: the first of several, or the one that started them all."""
    if isinstance(error, LostProcessError) and _is_spoken_for():
        return True
    return isinstance(error, DevicesError) and os.environ.get("RANK", "0") != "0"


def _is_spoken_for() -> bool:
    """Tell whether the process that has started this one, as one of several, says why they end."""
    if "LOCAL_RANK" not in os.environ:
        return False
    from .transferring.launching import is_started

    return is_started()


def _end(code: int) -> None:
    """End the command; one of several processes ends at once, for the others wait for it."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _complain(message: str) -> None:
    sys.stderr.write("crossteach: " + " ".join(message.split()) + "\n")
