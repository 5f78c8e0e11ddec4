"""What a page is made of."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .figures import Drawing


@dataclass(frozen=True)
class Page:
    """A template and what fills it."""

    template: str
    context: dict[str, Any]
    drawings: Sequence[Drawing]
    """Every figure becomes a file; the template says which stand in the page."""
