"""A person's labels: a csv with the columns sample and label, as a page saves them or a list of questions has them."""

import csv
import io
from pathlib import Path

from ..errors import DataError, first_line


def read_labels_file(path: Path, like: str) -> list[tuple[str, str]]:
    """Read sample and label of each row, without the spaces around them; a row without a label has an empty one.

    Args:
        path: The file.
        like: What such a file is, for the message, as in `ask.csv of a run`.

    Raises:
        DataError: If it cannot be read, or lacks a column.
    """
    try:
        rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"))))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read ({first_line(error)}); give {like}, filled in") from error
    if not rows or not {"sample", "label"} <= set(rows[0]):
        raise DataError(f"{path} must be a csv with the columns sample and label, as {like}")
    return [((row["sample"] or "").strip(), (row["label"] or "").strip()) for row in rows]
