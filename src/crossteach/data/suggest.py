"""What a user may have meant by a spec of data that is none."""

from collections.abc import Collection
from pathlib import Path

from ..specs import Spec, nearest

IDX = "-ubyte.gz"
"""Ends the names of the files of the MNIST family."""


def suggest_data(spec: Spec, schemes: Collection[str]) -> str:
    """Say which spec was probably meant, as the end of a message; else which there are.

    Example:
        >>> from crossteach.specs import parse_spec
        >>> suggest_data(parse_spec("my_data.npz?train_samples=10"), ["folder", "npz"])
        'did you mean npz:my_data.npz?train_samples=10?'
    """
    if meant := _meant(spec, spec.named, schemes):
        return spec.instead(meant)
    return f"expected one of {', '.join(sorted(schemes))}, as in npz:FILE"


def _meant(spec: Spec, whole: str, schemes: Collection[str]) -> str | None:
    near = nearest(spec.scheme, schemes)
    if near and (spec.rest or near == "glyphs"):
        return f"{near}:{whole.partition(':')[2]}" if spec.rest else near
    if whole.lower().endswith(".npz"):
        return f"npz:{whole}"
    if whole and Path(whole).is_dir():
        return f"idx:{whole}" if any(Path(whole).glob(f"*{IDX}")) else f"folder:{whole}"
    return "sklearn:digits" if whole == "digits" else None
