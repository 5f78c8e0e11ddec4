"""Pictures that a table lists: `csv:FILE`, and data frames."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..specs import Spec
from ..types import SplitName, Splits
from .assemble import RawSplit
from .encoded import PictureFiles, name_of
from .encoded_splits import LISTED_OPTIONS, Listed, ids_of, listed_pool, listed_splits
from .look import shown
from .table import TABLE_OPTIONS, TablePart, cut_table, read_table, table_of_frame


def load_csv(spec: Spec) -> Splits:
    """Open `csv:FILE`: a table with the columns `path`, `label` and, optional, `split` and `group`.

    The file is csv with commas, semicolons or tabs, or parquet. A path is relative to the folder of the table, or
    absolute. A label is the name of a class or its id; an empty cell is none. `split` says train, val or test; without
    it all rows are train and the other splits are cut off, by a fixed seed.

    Options, beside those of pictures and of all data:
        `path=COLUMN`, `label=COLUMN`, `split=COLUMN`, `group=COLUMN` name the columns; `split=` reads none.
        `class_order=text|numbers` as for folders.

    Raises:
        SpecError: If an option is out of range.
        DataError: If the table cannot be read, too many pictures are missing or broken, or labels are no classes.
    """
    spec.refuse_unknown(LISTED_OPTIONS | TABLE_OPTIONS)
    parts, notes = cut_table(read_table(spec))
    return _splits(spec, parts, notes, spec.path.parent)


def csv_pool(spec: Spec, channels: int | None) -> tuple[RawSplit, list[str]]:
    """Take the pictures of `csv:FILE` as a pool: those of train, or all if there are none; labels are not read.

    Raises:
        DataError: If the table cannot be read, or too many pictures are missing or broken.
    """
    table = read_table(spec, labelled=False)
    parts, notes = cut_table(table)
    if "train" not in parts:
        parts, notes = cut_table(replace(table, columns=replace(table.columns, split=None)))
    pool, said = listed_pool(spec, _listed(parts["train"], spec.path.parent, shown(spec.path)), channels)
    return pool, [*notes, *said]


def splits_of_frame(spec: Spec, frame: Any, root: Path, columns: Mapping[str, str]) -> Splits:
    """Make data of a data frame that lists pictures.

    Args:
        spec: Names the data and carries their options.
        frame: Has the columns of `load_csv`.
        root: What its paths are relative to.
        columns: What its columns are called, where they are called otherwise.

    Raises:
        SpecError: If an option is unknown or out of range.
        DataError: As `load_csv`.
    """
    spec.refuse_unknown(LISTED_OPTIONS)
    parts, notes = cut_table(table_of_frame(frame, repr(spec.text), columns))
    return _splits(spec, parts, notes, root)


def _splits(spec: Spec, parts: Mapping[SplitName, TablePart], notes: list[str], root: Path) -> Splits:
    where = {name: f"{name} of {spec.text!r}" for name in parts}
    return listed_splits(spec, {name: _listed(part, root, where[name]) for name, part in parts.items()}, notes)


def _listed(part: TablePart, root: Path, where: str) -> Listed:
    paths = [root / item for item in part.items]
    return Listed(where, PictureFiles(paths), part.labels, ids_of([name_of(path, root) for path in paths]), part.group)
