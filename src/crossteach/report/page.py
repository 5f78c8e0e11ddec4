"""A page before it is written: its template, its data and its figures."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .figures import Drawing


@dataclass(frozen=True)
class Page:
    """A template, and the data and figures that it shows."""

    template: str
    context: dict[str, Any]
    drawings: Sequence[Drawing]
    """Every figure becomes a file; the template says which stand in the page."""
