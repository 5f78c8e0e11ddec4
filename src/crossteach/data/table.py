"""Tables that list samples: a csv, tsv or parquet file, or a data frame. What the cells name is not read here.

A column holds the samples (paths of pictures, or texts), others their labels, splits and groups. `read_table` takes
these columns from a file and `table_of_frame` from a frame; `cut_table` parts them by split.
"""

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError, first_line
from ..specs import Spec
from ..types import Kind, SplitName
from .assemble import split_of
from .label_words import LabelWords, collect_words, word_of
from .look import shown

TABLE_OPTIONS = {"path", "text", "label", "split", "group"}
"""Options that name the columns of a table."""
FIELD = 1 << 24
"""Characters that a cell may have."""


@dataclass(frozen=True)
class Columns:
    """Which columns of a table are read; None for one that it lacks."""

    item: str
    """Names the samples, or holds them."""
    label: str | None
    split: str | None
    group: str | None
    kind: Kind = "image"
    """`text`: the cells hold the samples themselves."""

    @property
    def named(self) -> list[str]:
        """The columns that are there, each once."""
        return list(dict.fromkeys(name for name in (self.item, self.label, self.split, self.group) if name is not None))


@dataclass(frozen=True)
class Table:
    """The columns of a table, as words: an empty word is an empty cell."""

    what: str
    """Names it in messages."""
    columns: Columns
    cells: Mapping[str, Sequence[Any]]


@dataclass(frozen=True)
class TablePart:
    """The samples of one split, in the order of the table."""

    items: list[Any]
    """Paths; of text strings, or bytes where a parquet file holds them."""
    labels: LabelWords | None
    group: np.ndarray | None


def choose_columns(options: Mapping[str, str], header: Sequence[str], what: str, labelled: bool) -> Columns:
    """Find the columns that a table is read by.

    Args:
        options: Names of columns, by `path` or `text`, `label`, `split` and `group`; an empty name says that there is
            none. Without one a column has the name of its purpose; split and group may be absent then.
        header: The columns that there are.
        what: Names the table in messages.
        labelled: Whether labels are read.

    Raises:
        DataError: If a column that is needed or named is not there, or is there twice.
    """
    has_text = "text" in options or ("path" not in options and "path" not in header and "text" in header)
    item = "text" if has_text else "path"

    def find(key: str, needed: bool) -> str | None:
        name = options.get(key, key)
        if not name and key != item:
            return None
        if name in header:
            if header.count(name) > 1:
                raise DataError(f"{what} has the column {shown(name)!r} {header.count(name)} times; rename the others")
            return name
        if not needed and key not in options:
            return None
        there = ", ".join(shown(column) for column in header[:20]) or "none"
        raise DataError(f"{what} has no column {shown(name)!r}; it has {there}: name one by ?{key}=COLUMN")

    found = find(item, True)
    assert found is not None
    return Columns(
        found,
        find("label", True) if labelled else None,
        find("split", False),
        find("group", False),
        "text" if has_text else "image",
    )


def read_table(spec: Spec, labelled: bool = True) -> Table:
    """Read the columns of a file that are needed.

    Args:
        spec: Names the file: parquet by its suffix, else text with columns parted by commas, semicolons or tabs.
        labelled: Whether labels are read.

    Raises:
        DataError: If there is no such file, it is no table, or a column is not there.
    """
    path, what = spec.path, shown(spec.path)
    if not path.is_file():
        raise DataError(f"no file {what} for {spec.text!r}; expected a table with the columns path (or text) and label")

    def choose(header: Sequence[str]) -> Columns:
        return choose_columns(spec.options, header, what, labelled)

    read = _read_parquet if path.suffix.lower() in (".parquet", ".pq") else _read_text
    try:
        return read(path, choose)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        hint = "save it as UTF-8" if isinstance(error, UnicodeDecodeError) else "write it again"
        raise DataError(f"{what} cannot be read ({first_line(error)}); {hint}") from error


def table_of_frame(frame: Any, what: str, options: Mapping[str, str]) -> Table:
    """Take the columns of a data frame: of pandas, polars, or another that has `columns` and gives them by name.

    Raises:
        DataError: If it is no frame, or lacks a column.
    """
    header = getattr(frame, "columns", None)
    if header is None or not hasattr(frame, "__getitem__"):
        raise DataError(f"{what} must be a data frame with columns, not {type(frame).__name__}")
    columns = choose_columns(options, list(map(str, header)), what, labelled=True)
    return Table(what, columns, {name: _words(columns, name, frame[name].to_list()) for name in columns.named})


def cut_table(table: Table) -> tuple[dict[SplitName, TablePart], list[str]]:
    """Part a table by its splits: all is train where it names none.

    A row that names a picture twice in a split is taken once; of texts every row is a sample.

    Returns:
        The splits that have samples, and what the user should know.

    Raises:
        DataError: If the table is empty, a cell of samples is, a split is unknown, or a sample has two labels.
    """
    columns, cells = table.columns, table.cells
    items = cells[columns.item]
    if not items:
        raise DataError(f"{table.what} has no row below its header; it needs at least one")
    if not all(items):
        empty = [row for row, item in enumerate(items, 1) if not item]
        raise DataError(f"{len(empty)} rows of {table.what} name no {columns.item}, row {empty[0]} is the first")
    rows: dict[SplitName, list[int]] = {}
    names = _read_splits(table)
    for row in range(len(items)):
        rows.setdefault(names[row] if names else "train", []).append(row)
    parts: dict[SplitName, TablePart] = {}
    notes = []
    for name, chosen in rows.items():
        kept = chosen if columns.kind == "text" else _without_repeats(table, chosen)
        parts[name] = _part(table, kept)
        if len(kept) < len(chosen):
            notes.append(f"{len(chosen) - len(kept)} of {len(chosen)} rows of {name} repeat another and are taken once")
    return parts, notes


def _read_splits(table: Table) -> list[SplitName] | None:
    if table.columns.split is None:
        return None
    words = table.cells[table.columns.split]
    pool: SplitName = "pool"
    splits = {word: pool if word.lower() == pool else split_of(word) for word in set(words)}
    unknown = sorted(word for word, split in splits.items() if split is None)
    if unknown:
        row = words.index(unknown[0]) + 1
        raise DataError(
            f"column {shown(table.columns.split)!r} of {table.what} must say train, val, test or pool, but row "
            f"{row} has {shown(unknown[0])!r}; change it, or give ?split= to read no splits"
        )
    return [split for word in words if (split := splits[word]) is not None]


def _without_repeats(table: Table, rows: Sequence[int]) -> list[int]:
    """Return the rows of a split that name another sample than those before them.

    Raises:
        DataError: If two rows name one sample with different labels.
    """
    items, label = table.cells[table.columns.item], table.columns.label
    words = None if label is None else table.cells[label]
    first: dict[str, int] = {}
    for row in rows:
        before = first.setdefault(items[row], row)
        if words is not None and words[row] != words[before]:
            raise DataError(
                f"{table.what} gives {shown(items[row])} the labels {shown(words[before])!r} and {shown(words[row])!r} "
                f"(rows {before + 1} and {row + 1}); crossteach teaches classifiers with one class a sample"
            )
    return list(first.values())


def _part(table: Table, rows: Sequence[int]) -> TablePart:
    def column(name: str | None) -> list[Any] | None:
        return None if name is None else [table.cells[name][row] for row in rows]

    items, labels, group = (column(name) for name in (table.columns.item, table.columns.label, table.columns.group))
    assert items is not None
    if group is not None:  # a sample without a group is one of its own
        group = [name or f"row {row}" for name, row in zip(group, rows, strict=True)]
    return TablePart(
        items, None if labels is None else collect_words(labels), None if group is None else np.array(group, str)
    )


def _read_text(path: Path, choose: Callable[[Sequence[str]], Columns]) -> Table:
    with _long_fields(), path.open(encoding="utf-8-sig", newline="") as file:
        head = file.readline()
        file.seek(0)
        reader = csv.reader(file, delimiter=max(",;\t", key=head.count), strict=True)
        header = [name.strip() for name in next(reader, [])]
        columns = choose(header)
        places = [header.index(name) for name in columns.named]
        cells: list[list[str]] = [[] for _ in places]
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                raise DataError(
                    f"line {reader.line_num} of {shown(path)} has {len(row)} cells but the header {len(header)}; write "
                    'a cell that holds the separator in quotes ("a, b")'
                )
            for column, place in zip(cells, places, strict=True):
                column.append(row[place])
    by_name = zip(columns.named, cells, strict=True)
    return Table(shown(path), columns, {name: _words(columns, name, column) for name, column in by_name})


@contextmanager
def _long_fields() -> Iterator[None]:
    """Let cells be long: texts are."""
    before = csv.field_size_limit(FIELD)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _read_parquet(path: Path, choose: Callable[[Sequence[str]], Columns]) -> Table:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            columns = choose(file.schema_arrow.names)
            table = file.read(columns=columns.named)
        cells = {name: _words(columns, name, table.column(name).to_pylist()) for name in columns.named}
    except pyarrow.ArrowException as error:
        raise DataError(f"{shown(path)} is no whole parquet file ({first_line(error)}); write it again") from error
    return Table(shown(path), columns, cells)


def _words(columns: Columns, name: str, values: Iterable[Any]) -> list[Any]:
    """Write the cells of a column as words; what names or holds a sample stays as it is."""
    if name != columns.item:
        return [word_of(value) for value in values]
    if columns.kind == "text":
        return [
            "" if value is None or value != value else value if isinstance(value, bytes) else str(value)
            for value in values
        ]
    return ["" if value is None or value != value else str(value).strip() for value in values]
