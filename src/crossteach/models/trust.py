"""Which files may run code: saved students that have it beside their weights, and programs that torch unpickles.

The architecture of a student from a `py:` model is Python, and opening the student runs it. Runs that this user made
are known: when a student is saved, the hash of its code goes into the user's store folder. Every other student needs
the user's word for it (`--trust`).
"""

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import TrustError, WriteError
from ..files import default_folder, make_folder, write_bytes

FOLDER = "trusted"
DEMO = Path(__file__).parent.parent / "demo"


def remember_code(source: str, architecture: Mapping[str, Any]) -> None:
    """Note that this user has saved a student with this code: it opens again without a question."""
    folder = default_folder() / FOLDER
    with suppress(WriteError):  # a store that cannot be written costs the user a --trust, not the run
        make_folder(folder)
        write_bytes(folder / _hash(source, architecture), b"")


def require_trust(path: Path, source: str, architecture: Mapping[str, Any], trust: bool) -> None:
    """Let the code of a saved student through, or refuse it; nothing of it has run yet.

    Args:
        path: The file with the code.
        source: Its text.
        architecture: Which function of it is called, and with what.
        trust: Whether the user vouches for it.

    Raises:
        TrustError: If this user has not saved this code, and does not vouch for it.
    """
    if trust or _is_known(source, architecture):
        return
    raise TrustError(
        f"{path} is Python that opening this student would run, and it is not from a run of yours (or was changed "
        "since); read it, then pass --trust (in a plan trust: true, in Python trust=True)"
    )


def require_word(path: Path, loader: str, trust: bool) -> None:
    """Let a file through that torch reads in a way that could run code hidden in it, or refuse it unread.

    Args:
        path: The file.
        loader: The function of torch that reads it.
        trust: Whether the user vouches for it.

    Raises:
        TrustError: If the user does not vouch for it.
    """
    if not trust:
        raise TrustError(
            f"{path} is read by {loader}, which could run code hidden in the file; if you know where it comes from, "
            "pass --trust (in a plan trust: true, in Python trust=True)"
        )


def _is_known(source: str, architecture: Mapping[str, Any]) -> bool:
    if (default_folder() / FOLDER / _hash(source, architecture)).is_file():
        return True
    ours = {path.stem for path in (DEMO / "checkpoints").glob("*.safetensors")}
    return architecture.get("factory") in ours and source == (DEMO / "zoo.py").read_text(encoding="utf-8")


def _hash(source: str, architecture: Mapping[str, Any]) -> str:
    """Hash everything that says what runs: the text, the function, its arguments."""
    called = {key: architecture.get(key) for key in ("factory", "arguments")}
    text = json.dumps([source, called], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
