"""Data specs to `Splits`: one file a source."""

from collections.abc import Callable

from ..errors import SpecError
from ..specs import Spec, parse_spec
from ..types import Splits
from .arrays import load_glyphs as load_glyphs
from .arrays import load_idx, load_npz, load_sklearn
from .folder import load_folder
from .given import from_arrays as from_arrays
from .given import from_dataset as from_dataset

SOURCES: dict[str, Callable[[Spec], Splits]] = {
    "glyphs": load_glyphs,
    "npz": load_npz,
    "folder": load_folder,
    "idx": load_idx,
    "sklearn": load_sklearn,
}


def load_data(spec: str) -> Splits:
    """Open a data set.

    Args:
        spec: `glyphs`, `npz:FILE`, `folder:PATH`, `idx:FOLDER` or `sklearn:digits`, with options after `?`:
            `selection_from=train|test`, `train_samples=N` (a stratified draw), `train_labels=false`.

    Returns:
        Train, selection and test splits with stable sample ids.

    Raises:
        SpecError: If the scheme is unknown.
        DataError: If the data cannot be read or do not fit together.
    """
    parsed = parse_spec(spec)
    if parsed.scheme not in SOURCES:
        raise SpecError(f"unknown data {spec!r}; expected one of {', '.join(sorted(SOURCES))}, as in npz:FILE")
    return SOURCES[parsed.scheme](parsed)
