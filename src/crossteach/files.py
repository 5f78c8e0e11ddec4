"""Files that are whole or not there, and folders that one process at a time may fill."""

import base64
import contextlib
import json
import os
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .errors import ConfigError, FolderInUseError, WriteError

fcntl: Any = import_module("fcntl") if find_spec("fcntl") else None
"""Locks of the operating system, where it has POSIX ones."""
LOCK = ".lock"
"""Held by the process that fills a folder. It names that process, and is removed when the work ends."""
PID_FILE = ".lock-pid"
"""Takes the place of the lock on file systems that have no locks."""
ADVICE = "wait for its end, or choose another --out"
PATIENCE = 1.0
"""Seconds that a process waits for a lock: a question whether it is held takes it for an instant."""


def default_folder() -> Path:
    """Return `$CROSSTEACH_STORE`, or the folder for caches of this system."""
    if given := os.environ.get("CROSSTEACH_STORE"):
        return Path(given)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "crossteach"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "crossteach"


def read_size(text: str) -> int:
    """Read a number of bytes, as people write it.

    Example:
        >>> read_size("1.5GB"), read_size("300 MiB"), read_size("0")
        (1500000000, 314572800, 0)

    Raises:
        ConfigError: If it is none.
    """
    units = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
    units |= {"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}
    number = text.strip().lower().rstrip("abcdefghijklmnopqrstuvwxyz ")
    unit = text.strip().lower()[len(number) :].strip()
    try:
        value = float(number) * units[unit]
        if not 0 <= value < 2**63:
            raise ValueError(value)
    except (KeyError, ValueError):
        raise ConfigError(f"a size must be a number of bytes as 500MB or 20GiB, not {text!r}") from None
    return int(value)


def write_size(count: float) -> str:
    """Write a number of bytes as people read it.

    Example:
        >>> write_size(9.4e9), write_size(830_000)
        ('9.4 GB', '0.8 MB')
    """
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def lacking_room(wanted: Iterable[tuple[Path, int]]) -> str | None:
    """Say which disk has less room than so many bytes in these folders take, which need not be there yet.

    Returns:
        As in "9.4 GB at /data and 2.1 GB are free"; None where there is room.
    """
    sizes: dict[int, int] = {}
    places: dict[int, Path] = {}
    for folder, size in wanted:
        there = next(p for p in (folder.resolve(), *folder.resolve().parents) if p.exists())
        disk = there.stat().st_dev
        sizes[disk], places[disk] = sizes.get(disk, 0) + size, there
    for disk, size in sizes.items():
        if size > (free := shutil.disk_usage(places[disk]).free):
            return f"{write_size(size)} at {places[disk]} and {write_size(free)} are free"
    return None


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the operating system says while `path` is written into a WriteError of one line."""
    try:
        yield
    except OSError as error:
        raise WriteError(
            f"cannot write {path}: {error.strerror or error}; give a folder that can be written, with space left, "
            "and run the same command again: it goes on where it stopped"
        ) from error


def make_folder(path: Path) -> Path:
    """Create a folder and those above it."""
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)
    return path


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    with writing(path):
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise


PICTURES = {".png": "image/png", ".jpg": "image/jpeg", ".svg": "image/svg+xml"}
"""Pictures that a page may hold, by their suffix."""


def picture_uri(path: Path) -> str:
    """Return a picture as the data URI that a page holds instead of a file."""
    return f"data:{PICTURES[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"


def to_utf8(text: str) -> bytes:
    r"""Encode text as UTF-8. Bytes of a file name that are not UTF-8 are escaped.

    In JSON the escape is one that JSON knows: a program that reads it gets the file name back.

    Example:
        >>> to_utf8("caf\udce9")
        b'caf\\udce9'
    """
    return text.encode("utf-8", "backslashreplace")


def to_json(content: Any) -> str:
    """Return the one JSON text of some content."""
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path: Path, content: Any) -> None:
    """Write JSON whole or not at all."""
    write_bytes(path, to_utf8(to_json(content)))


@contextmanager
def holding(folder: Path, advice: str = ADVICE) -> Iterator[None]:
    """Keep all others from filling a folder while the block runs.

    The lock is the operating system's: it also ends when the process is killed.

    Args:
        folder: Created where it is missing.
        advice: What the user can do when another process holds the folder.

    Raises:
        FolderInUseError: If another process holds it; the message names that process.
    """
    make_folder(folder)
    until = time.monotonic() + PATIENCE
    while (release := _take(folder)) is None:
        if time.monotonic() > until:
            raise _in_use(folder, advice)
        time.sleep(0.05)
    try:
        yield
    finally:
        release()


def hold_shared(path: Path) -> int:
    """Open a file, and let others see by `if_free` that it is in use until the descriptor that is returned is closed.

    Raises:
        FileNotFoundError: If there is no such file.
    """
    while True:
        file = os.open(path, os.O_RDONLY)
        if fcntl is None:
            return file
        try:
            fcntl.flock(file, fcntl.LOCK_SH)
            if os.path.samestat(os.fstat(file), path.stat()):
                return file
        except FileNotFoundError:  # removed by one that had it free until now
            os.close(file)
            raise
        except OSError:  # a file system without locks
            return file
        os.close(file)


@contextmanager
def if_free(path: Path) -> Iterator[bool]:
    """Tell whether no process holds a file by `hold_shared`; none can begin to while the block runs.

    A file system that knows no locks says that all are free; what may not be read is not.
    """
    if path.exists() and not os.access(path, os.R_OK):
        yield False
        return
    with path.open("rb") as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            except OSError:
                pass
        yield True


def require_free(folder: Path, advice: str = ADVICE) -> None:
    """Raise FolderInUseError if a process fills a folder, before work is done in vain."""
    if is_held(folder):
        raise _in_use(folder, advice)


def _in_use(folder: Path, advice: str) -> FolderInUseError:
    return FolderInUseError(f"{folder} is in use by {_holder(folder)}; {advice}")


def is_held(folder: Path) -> bool:
    """Return whether a process fills a folder; the folder is left as it is."""
    lock = folder / LOCK
    if fcntl is not None and lock.is_file() and os.access(lock, os.R_OK):
        with lock.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            except OSError:  # a file system without locks
                pass
    return (folder / PID_FILE).is_file() and not _has_ended(folder / PID_FILE)


def _take(folder: Path) -> Callable[[], None] | None:
    """Take a folder's lock and return what releases it; None where another process holds it."""
    if fcntl is None:
        return _take_pid_file(folder)
    path = folder / LOCK
    with writing(folder):
        file = path.open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        ours = os.path.samestat(os.fstat(file.fileno()), path.stat())
    except (BlockingIOError, FileNotFoundError):  # held, or removed by the one that held it until now
        file.close()
        return None
    except OSError:  # a file system without locks
        file.close()
        path.unlink(missing_ok=True)
        return _take_pid_file(folder)
    if not ours:
        file.close()
        return None
    with writing(folder):
        file.truncate(0)
        file.write(_this_process())
        file.flush()

    def release() -> None:
        with contextlib.suppress(OSError):  # the folder may be gone
            path.unlink()
        file.close()

    return release


def _take_pid_file(folder: Path) -> Callable[[], None] | None:
    """Hold a folder by a file that is there; one of a process that has ended is removed."""
    path = folder / PID_FILE
    if path.is_file() and _has_ended(path):
        path.unlink(missing_ok=True)
    try:
        with writing(folder), path.open("x") as file:
            file.write(_this_process())
    except WriteError as error:
        if isinstance(error.__cause__, FileExistsError):
            return None
        raise
    return lambda: path.unlink(missing_ok=True)


def _this_process() -> str:
    return json.dumps({"pid": os.getpid(), "host": socket.gethostname()})


def _read_holder(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # just taken or just released
        return {}
    return found if isinstance(found, dict) else {}


def _holder(folder: Path) -> str:
    """Name the process that holds a folder."""
    by_file = (folder / PID_FILE).is_file()
    found = _read_holder(folder / (PID_FILE if by_file else LOCK))
    name = f"process {found['pid']} on {found['host']}" if {"pid", "host"} <= found.keys() else "another process"
    return f"{name} (if that has ended, delete {folder / PID_FILE})" if by_file else name


def _has_ended(path: Path) -> bool:
    """Return whether the process that a file names has surely ended: it ran on this machine and is gone."""
    found = _read_holder(path)
    if found.get("host") != socket.gethostname() or os.name != "posix":
        return False
    try:
        os.kill(int(found["pid"]), 0)  # signal 0 only asks
    except ProcessLookupError:
        return True
    except (OSError, KeyError, ValueError, TypeError):
        return False
    return False
