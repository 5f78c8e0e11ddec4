"""What opening data has found out, kept for the next process that opens the same: what files hold, which are copies."""

import base64
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ..errors import WriteError

Fact = dict[str, Any]


@runtime_checkable
class Facts(Protocol):
    """Small facts under keys that hold everything they depend on: a `Store` is one."""

    def recall(self, key: dict[str, Any]) -> Fact | None:
        """Return the fact kept under a key, if there is one."""
        ...

    def remember(self, key: dict[str, Any], fact: Fact) -> None:
        """Keep a fact under a key."""
        ...


_KEPT: ContextVar[Facts | None] = ContextVar("_KEPT", default=None)


@contextmanager
def keeping(facts: Facts | None) -> Iterator[None]:
    """Let what is found out while the block runs be kept there, and taken from there."""
    before = _KEPT.set(facts)
    try:
        yield
    finally:
        _KEPT.reset(before)


def recall(key: dict[str, Any]) -> Fact | None:
    """Return the fact of a key, if one is kept."""
    kept = _KEPT.get()
    return None if kept is None else kept.recall(key)


def remember(key: dict[str, Any], fact: Fact) -> None:
    """Keep a fact, where that can be: data open without it, more slowly."""
    if (kept := _KEPT.get()) is not None:
        with suppress(WriteError):
            kept.remember(key, fact)


def pack(values: np.ndarray) -> str:
    """Return an array of numbers or truth values as a text that JSON takes.

    Example:
        >>> unpack(pack(np.array([3, 1, 2])), np.int64).tolist()
        [3, 1, 2]
    """
    return base64.b64encode(zlib.compress(np.ascontiguousarray(values).tobytes(), 1)).decode("ascii")


def unpack(text: str, kind: type) -> np.ndarray:
    """Return the array that `pack` was given, of its kind of number."""
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), kind)
