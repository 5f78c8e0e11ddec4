"""Files that are whole or not there: written under a temporary name, then renamed."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import WriteError


def default_folder() -> Path:
    """Return `$CROSSTEACH_STORE`, or the folder for caches of this system."""
    if given := os.environ.get("CROSSTEACH_STORE"):
        return Path(given)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "crossteach"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "crossteach"


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


def write_bytes(path: Path, content: bytes) -> None:
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


def to_json(content: Any) -> str:
    """Return the one JSON text of some content."""
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path: Path, content: Any) -> None:
    """Write JSON whole or not at all."""
    write_bytes(path, to_json(content).encode())
