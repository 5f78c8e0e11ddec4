"""The report's data as CSV: all rows, where the page shows only the most important ones."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..files import make_folder, write_bytes


class Tables:
    """The CSV files of one report."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "tables"
        self.files: list[Path] = []

    def write(self, name: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Write rows under their headings."""
        buffer = io.StringIO(newline="")
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
        path = make_folder(self.folder) / f"{name}.csv"
        write_bytes(path, buffer.getvalue().encode("utf-8", "replace"))
        self.files.append(path)
