"""What a user may have meant by a spec of data that is none."""

import re
from collections.abc import Collection
from pathlib import Path

from ..specs import Spec, names_repository, nearest

FILES = {".npz": "npz", ".csv": "csv", ".tsv": "csv", ".parquet": "csv", ".tar": "wds"}
"""What is read of files, by their suffix."""
FOLDERS = {"idx": ("*-ubyte.gz",), "hf": ("dataset_dict.json", "dataset_info.json", "*.parquet"), "wds": ("*.tar",)}
"""What is read of folders that hold such files; others are read as folders of pictures."""

WORD = re.compile(r"[\w-]+")
"""What a data set of the hub without an owner is called."""


def suggest_data(spec: Spec, schemes: Collection[str]) -> str:
    """Say which spec was probably meant, as the end of a message; else which there are.

    Example:
        >>> from crossteach.specs import parse_spec
        >>> suggest_data(parse_spec("my_data.npz?train_samples=10"), ["folder", "npz"])
        'did you mean npz:my_data.npz?train_samples=10?'
    """
    if meant := _meant(spec, spec.named, schemes):
        return spec.instead(meant)
    hub = f", or hf:{spec.text} for one of the hub" if WORD.fullmatch(spec.named) else ""
    return f"expected one of {', '.join(sorted(schemes))}, as in npz:FILE{hub}"


def _meant(spec: Spec, whole: str, schemes: Collection[str]) -> str | None:
    near = nearest(spec.scheme, schemes)
    if near and (spec.rest or near == "glyphs"):
        return f"{near}:{whole.partition(':')[2]}" if spec.rest else near
    scheme = FILES.get(Path(whole).suffix.lower()) if whole else None
    if scheme is not None:
        return f"{scheme}:{whole}"
    if whole and Path(whole).is_dir():
        return f"{next((s for s, names in FOLDERS.items() if _holds(Path(whole), names)), 'folder')}:{whole}"
    if names_repository(whole):
        return f"hf:{whole}"
    return "sklearn:digits" if whole == "digits" else None


def _holds(folder: Path, names: tuple[str, ...]) -> bool:
    return any(True for name in names for _ in folder.glob(name))
