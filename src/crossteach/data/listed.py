"""What a table lists: `csv:FILE` and data frames, of pictures by their paths or of texts."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import SpecError
from ..specs import Spec
from ..types import SplitName, Splits
from .assemble import OPTIONS, RawSplit, assemble
from .encoded import PictureFiles, name_of
from .encoded_splits import LISTED_OPTIONS, Listed, class_ids, ids_of, listed_pool, listed_splits
from .look import shown
from .table import TABLE_OPTIONS, TablePart, cut_table, read_table, table_of_frame
from .texts import LONGEST, TextInputs

TEXT_OPTIONS = {*OPTIONS, "class_order", "longest"}
"""Options of tables that hold texts."""


def load_csv(spec: Spec) -> Splits:
    """Open `csv:FILE`: a table with the columns `path` or `text`, `label` and, optional, `split` and `group`.

    The file is csv with commas, semicolons or tabs, or parquet. A path is relative to the folder of the table, or
    absolute. A label is the name of a class or its id; an empty cell is none. `split` says train, val, test or pool;
    without it all rows are train and the other splits are cut off, by a fixed seed.

    Options, beside those of pictures and of all data:
        `path=COLUMN` or `text=COLUMN`, `label=COLUMN`, `split=COLUMN`, `group=COLUMN` name the columns; `split=` reads
        none. `longest=BYTES` cuts texts.
        `class_order=text|numbers` as for folders.

    Raises:
        SpecError: If an option is out of range.
        DataError: If the table cannot be read, too many pictures are missing or broken, or labels are no classes.
    """
    table = read_table(spec)
    if table.columns.kind == "text":
        spec.refuse_unknown(TEXT_OPTIONS | TABLE_OPTIONS)
        return text_splits(spec, *_without_pool(*cut_table(table)))
    spec.refuse_unknown(LISTED_OPTIONS | TABLE_OPTIONS)
    parts, notes = _without_pool(*cut_table(table))
    return _splits(spec, parts, notes, spec.path.parent)


def csv_pool(spec: Spec, channels: int | None) -> tuple[RawSplit, list[str]]:
    """Take what `csv:FILE` lists as a pool: its split `pool`, else train, else all; labels are not read.

    Raises:
        DataError: If the table cannot be read, or too many pictures are missing or broken.
    """
    table = read_table(spec, labelled=False)
    parts, notes = cut_table(table)
    if not {"pool", "train"} & set(parts):
        parts, notes = cut_table(replace(table, columns=replace(table.columns, split=None)))
    part = parts["pool"] if "pool" in parts else parts["train"]
    if table.columns.kind == "text":
        texts, said = text_pool(spec, part)
        return texts, [*notes, *said]
    pool, said = listed_pool(spec, _listed(part, spec.path.parent, shown(spec.path)), channels)
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
    spec.refuse_unknown(LISTED_OPTIONS | TEXT_OPTIONS)
    table = table_of_frame(frame, repr(spec.text), columns)
    if table.columns.kind == "text":
        spec.refuse_unknown(TEXT_OPTIONS)
        return text_splits(spec, *_without_pool(*cut_table(table)))
    spec.refuse_unknown(LISTED_OPTIONS)
    parts, notes = _without_pool(*cut_table(table))
    return _splits(spec, parts, notes, root)


def _splits(spec: Spec, parts: Mapping[SplitName, TablePart], notes: list[str], root: Path) -> Splits:
    where = {name: f"{name} of {spec.text!r}" for name in parts}
    return listed_splits(spec, {name: _listed(part, root, where[name]) for name, part in parts.items()}, notes)


def _without_pool(parts: dict[SplitName, TablePart], notes: list[str]) -> tuple[dict[SplitName, TablePart], list[str]]:
    """Leave out the rows of a split called pool: they teach where the table is given as a pool too."""
    left: dict[SplitName, TablePart] = {name: part for name, part in parts.items() if name != "pool"}
    if "pool" not in parts:
        return left, notes
    return left, [*notes, f"{len(parts['pool'].items)} rows are of the split pool and are read by --pool alone"]


def text_splits(
    spec: Spec, parts: Mapping[SplitName, TablePart], notes: Sequence[str] = (), classes: Sequence[str] | None = None
) -> Splits:
    """Make data of texts; a split that is missing is cut from the others.

    Args:
        spec: Names the data and carries the options of texts and of all data.
        parts: The splits.
        notes: What the source has to say.
        classes: The class names where the source knows their order; None orders the words of the labels.

    Raises:
        SpecError: If an option is out of range.
        DataError: If labels are no classes, or the parts do not fit.
    """
    classes, labels, ordered = class_ids(spec, {name: part.labels for name, part in parts.items()}, classes)
    raw: dict[SplitName, RawSplit] = {}
    for name, part in parts.items():
        inputs, said = _texts(spec, name, part)
        notes = [*notes, *said]
        raw[name] = RawSplit(inputs, labels[name], part.group)
    return assemble(spec, classes, raw, [*notes, *ordered])


def text_pool(spec: Spec, part: TablePart) -> tuple[RawSplit, list[str]]:
    """Take texts as a pool, without their labels."""
    inputs, notes = _texts(spec, "pool", part)
    return RawSplit(inputs, None, part.group), notes


def _texts(spec: Spec, name: SplitName, part: TablePart) -> tuple[TextInputs, list[str]]:
    """Take the texts of a split, and say how many are cut."""
    longest = spec.whole("longest", LONGEST)
    if longest < 1:
        raise SpecError(f"option longest of {spec.text!r} must be at least 1, not {longest}")
    inputs = TextInputs(part.items, f"{name} of {spec.text!r}", longest)
    cut = f"{inputs.cut} of {len(inputs)} texts of {name} are cut to {longest} bytes; ?longest=BYTES keeps more"
    return inputs, [cut] if inputs.cut else []


def _listed(part: TablePart, root: Path, where: str) -> Listed:
    paths = [root / item for item in part.items]
    return Listed(where, PictureFiles(paths), part.labels, ids_of(name_of(path, root) for path in paths), part.group)
