"""What a user may have meant by a spec of data that is none."""

import difflib
from collections.abc import Collection
from pathlib import Path

from ..specs import Spec

NEAR = 0.75
"""How alike a word and a known one must be (difflib's ratio) to be taken for a slip of the keyboard."""
IDX = "-ubyte.gz"
"""Ends the names of the files of the MNIST family."""


def suggest_data(spec: Spec, schemes: Collection[str]) -> str:
    """Say which spec was probably meant, as the end of a message; else which there are.

    Example:
        >>> from crossteach.specs import parse_spec
        >>> suggest_data(parse_spec("my_data.npz?train_samples=10"), ["folder", "npz"])
        'did you mean npz:my_data.npz?train_samples=10?'
    """
    whole = spec.text.partition("?")[0]
    if meant := _meant(spec, whole, schemes):
        return f"did you mean {meant}{spec.text[len(whole) :]}?"
    return f"expected one of {', '.join(sorted(schemes))}, as in npz:FILE"


def _meant(spec: Spec, whole: str, schemes: Collection[str]) -> str | None:
    near = difflib.get_close_matches(spec.scheme.lower(), schemes, 1, NEAR)
    if near and (spec.rest or near[0] == "glyphs"):
        return f"{near[0]}:{whole.partition(':')[2]}" if spec.rest else near[0]
    if whole.lower().endswith(".npz"):
        return f"npz:{whole}"
    if whole and Path(whole).is_dir():
        return f"idx:{whole}" if any(Path(whole).glob(f"*{IDX}")) else f"folder:{whole}"
    return "sklearn:digits" if whole == "digits" else None
