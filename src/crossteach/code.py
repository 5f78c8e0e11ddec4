"""A user's own Python: a function in `FILE.py`, or in a module that can be imported.

A file is compiled from its text, never imported: Python's cache of compiled files may be older than the file. The same
text in the same place runs once.
"""

import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

from .errors import CrossteachError, first_line

TEXT = "__crossteach_text__"
"""Where a module keeps the text that it was made of."""


@dataclass(frozen=True)
class Code:
    """Python that has been read and not run yet."""

    where: str
    """FILE.py, or the name of a module."""
    text: str
    """Of the file; "" for a module, which Python finds itself."""
    asked: str
    """What asks for it, at the head of messages."""
    error: type[CrossteachError]
    """What is raised where it cannot be run."""

    @property
    def hash(self) -> str:
        """Hash of the text."""
        return hashlib.blake2b(self.text.encode(), digest_size=8).hexdigest()

    @cached_property
    def module(self) -> ModuleType:
        """What the code makes when it runs.

        Raises:
            CrossteachError: Of the kind `error`, if the code fails.
        """
        try:
            return _run(Path(self.where), self.text) if is_file(self.where) else importlib.import_module(self.where)
        except (Exception, SystemExit) as error:  # the user's code may raise anything
            did = "run" if is_file(self.where) else "imported"
            reason = f"{type(error).__name__}: {first_line(error)}"
            raise self.error(f"{self.asked}: {self.where} cannot be {did} ({reason})") from error

    def function(self, name: str) -> Callable[..., Any]:
        """Run the code and return one of its functions.

        Raises:
            CrossteachError: Of the kind `error`, if there is none of that name.
        """
        found = getattr(self.module, name, None)
        if not callable(found):
            raise self.error(f"{self.asked}: {self.where} has no function {name!r}")
        function: Callable[..., Any] = found
        return function


def is_file(where: str) -> bool:
    """Tell a file from the name of a module."""
    return where.endswith(".py")


def read_code(where: str, asked: str, error: type[CrossteachError]) -> Code:
    """Read a file of Python, or name a module; nothing runs yet.

    Args:
        where: FILE.py, or the name of a module.
        asked: What asks for it, at the head of messages.
        error: What to raise where it cannot be read or run.

    Raises:
        CrossteachError: Of the kind `error`, if there is no such file.
    """
    if not is_file(where):
        return Code(where, "", asked, error)
    try:
        return Code(where, importlib.util.decode_source(Path(where).read_bytes()), asked, error)
    except OSError as problem:
        raise error(f"{asked}: {where} cannot be read ({problem.strerror or problem})") from problem
    except (SyntaxError, UnicodeDecodeError) as problem:
        raise error(f"{asked}: {where} is not a text of Python ({first_line(problem)})") from problem


def source_of(function: Callable[..., Any] | ModuleType) -> str:
    """Return the text of the module that defines a function, or of a module; "" where there is none."""
    module = inspect.getmodule(function)
    text: str | None = getattr(module, TEXT, None)
    if text is not None:
        return text
    try:
        return inspect.getsource(module or function)
    except (OSError, TypeError):
        return ""


def _run(path: Path, text: str) -> ModuleType:
    """Run a text as a module, or take the module that the same text has made before."""
    place = path.resolve()
    name = "crossteach_user_" + hashlib.blake2b(f"{place}\0{text}".encode(), digest_size=8).hexdigest()
    if name not in sys.modules:
        module = ModuleType(name)
        module.__file__, module.__package__ = str(place), ""
        setattr(module, TEXT, text)
        sys.modules[name] = module  # dataclasses and pickles of the user's module look it up there
        try:
            exec(compile(text, str(place), "exec", dont_inherit=True), module.__dict__)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]
