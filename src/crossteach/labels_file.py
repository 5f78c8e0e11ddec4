"""A person's labels: a csv with the columns sample and label, as a page saves them or a list of questions has them.

Spreadsheets write it with semicolons or tabs, a mark at its beginning and other line ends, and round long numbers.
"""

import codecs
import csv
import io
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from .errors import DataError, RunFolderError, first_line
from .specs import nearest

NEITHER = "neither"
"""Answers that no model is right: the sample shows a class that none of them gives, or no class at all."""
FEWEST = 5
"""Labels that can decide anything at all."""
QUESTIONS, ASK = "questions.csv", "ask.csv"
"""What a scout and a verification write for a person to fill in."""
DELIMITERS = ",;\t"
ROUNDED = re.compile(r"\d+([.,]\d+)?[eE]\+?\d+")
"""What a spreadsheet makes of a number with many digits."""


class FilledRow(NamedTuple):
    """A row that has a label."""

    line: int
    sample: str
    label: str


def written_id(sample: int) -> str:
    """Write the id of a sample as a text that spreadsheets leave alone: of a number they keep 15 digits.

    Example:
        >>> written_id(1234567890123456789)
        'q112210f47de98115'
    """
    return f"q{sample & (2**64 - 1):016x}"


def read_labels(path: Path, like: str, asked: Int[np.ndarray, " n"], classes: Sequence[str]) -> dict[int, str]:
    """Read what a person says of samples; rows without a label are left out.

    Args:
        path: The file. Its samples are ids as `written_id` writes them, or as plain numbers.
        like: What such a file is, for messages, as in `ask.csv of a run`.
        asked: Ids of the samples that may have a label.
        classes: Names that a label may have, beside `NEITHER`.

    Returns:
        The class, or `NEITHER`, of each sample that has a label, by its place in `asked`.

    Raises:
        DataError: If it cannot be read, is about other samples, has a label that is no class, or two for a sample.
    """
    require_free_word(classes)
    places = {form: k for k, sample in enumerate(asked.tolist()) for form in (str(sample), written_id(sample))}
    known = {**{name.strip(): name for name in classes}, **{name: name for name in classes}, NEITHER: NEITHER}
    given: dict[int, str] = {}
    for line, sample, label in filled_rows(path, like):
        place, said = places.get(sample.lower()), known.get(label, known.get(label.strip()))
        if place is None:
            raise DataError(f"{path}, line {line}: {_why_unknown(sample, asked, like)}")
        if said is None:
            meant = nearest(label, [*classes, NEITHER])
            hint = f"did you mean {meant!r}?" if meant else f"give a class name, or {NEITHER} where no model is right"
            raise DataError(f"{path}, line {line}: label {label!r} of sample {sample} is no class; {hint}")
        if given.setdefault(place, said) != said:
            raise DataError(
                f"{path}, line {line}: sample {sample} has two labels, {given[place]!r} and {said!r}; keep one"
            )
    return given


def require_free_word(classes: Sequence[str]) -> None:
    """Raise DataError if a class has the name that says of a sample that no model is right."""
    if NEITHER in classes:
        raise DataError(
            f"a class is called {NEITHER!r}, which as a label says that no model is right; rename the class"
        )


def filled_rows(path: Path, like: str) -> list[FilledRow]:
    """Read the rows of a csv that have a label, whichever of comma, semicolon and tab it is written with.

    Raises:
        DataError: If it cannot be read, or lacks a column.
    """
    try:
        content = path.read_bytes()
        wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = content.decode("utf-16" if wide else "utf-8-sig")
        for delimiter in DELIMITERS:
            lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
            header = [cell.strip() for cell in next(lines, [])]
            if {"sample", "label"} <= set(header):
                sample, label = header.index("sample"), header.index("label")  # the first: a model may bear the name
                rows = ((lines.line_num, [*row, *[""] * len(header)]) for row in lines)
                return [FilledRow(n, row[sample].strip(), row[label]) for n, row in rows if row[label].strip()]
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8; save it as CSV UTF-8") from error
    except (OSError, csv.Error) as error:
        raise DataError(f"{path} cannot be read ({first_line(error)}); give {like}, filled in") from error
    raise DataError(f"{path} must be a csv with the columns sample and label, as {like}")


def _why_unknown(sample: str, asked: Int[np.ndarray, " n"], like: str) -> str:
    near = sample.isdecimal() and any(math.isclose(int(sample), each, rel_tol=1e-13) for each in asked.tolist())
    if near or ROUNDED.fullmatch(sample):
        return (
            f"a spreadsheet has rounded sample {sample}; take the column sample from the file as it was written "
            "(the column file tells which row is which)"
        )
    return f"sample {sample!r} is none of those that are asked about; give {like}, filled in"


def require_unfilled(doomed: Iterable[Path]) -> None:
    """Refuse to lose what a person has filled in.

    Args:
        doomed: Files and folders that are about to be removed or replaced; some may not be there.

    Raises:
        RunFolderError: If a list of questions among them, or in one of these folders, has labels.
    """
    for path in doomed:
        for inside in [path] if path.is_file() else sorted(path.rglob("*.csv")):
            if inside.name in (QUESTIONS, ASK) and (count := _count_labels(inside)):
                raise RunFolderError(
                    f"{inside} holds labels that a person has filled in ({count}), and they would be lost; "
                    "move it elsewhere (--labels reads it there)"
                )


def _count_labels(path: Path) -> int:
    try:
        return len(filled_rows(path, path.name))
    except DataError as error:
        raise RunFolderError(f"{path} cannot be read as a list of labels, and may hold some; move it away") from error
