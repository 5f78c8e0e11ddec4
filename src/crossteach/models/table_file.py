"""A table of answers on disk: csv, parquet or npz, read without running any code. Whose answers they are is not told.

Each answer is keyed by the id of a sample, by its path, or by the split and the row that it has in its source.
"""

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from ..data.label_words import word_of
from ..data.look import shown
from ..errors import ModelError, first_line

Key = Literal["id", "path", "row"]

WORDS = ("id", "path", "split", "label")
"""Columns that are read as text: a label may be 007."""
INDEX = "__index_level_"
"""What pandas calls the index of a frame that it writes as parquet: no column of the table."""
SPLITS = ("train", "val", "test", "pool")
EXPECTED = (
    "expected a column id, path, or split and row; and a column of numbers for each class, or one that is called label"
)


@dataclass(frozen=True)
class AnswerFile:
    """The answers of a file, in its order."""

    key: Key
    keys: Sequence[Any]
    """Ids or paths as they are written, or (split, row)."""
    classes: tuple[str, ...] | None
    """What the columns of scores are called, where they are."""
    scores: Float[np.ndarray, "M C"] | None
    labels: Sequence[str] | None
    """Where there are no scores; an empty one is no answer."""
    lengths: Mapping[str, int]
    """Of the splits that are given whole, row by row."""


def read_answer_file(path: Path, what: str) -> AnswerFile:
    """Read a table of answers.

    Args:
        path: `.npz`, `.parquet` or `.pq`; anything else is text with columns parted by commas, semicolons or tabs.
        what: Names it in messages.

    Raises:
        ModelError: If it is not there, is broken, or lacks what tells samples or answers.
    """
    if not path.is_file():
        raise ModelError(f"no file {shown(path)} for {what}; expected a table of answers: csv, parquet or npz")
    suffix = path.suffix.lower()
    if suffix == ".npz":
        return _of_arrays(_read_npz(path, what), what)
    return _of_columns(_read_parquet(path, what) if suffix in (".parquet", ".pq") else _read_text(path, what), what)


def _read_npz(path: Path, what: str) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise ModelError(
            f"the table of {what} is no npz of plain numbers and texts ({first_line(error)}); write it with np.savez, "
            "without objects"
        ) from error


def _read_parquet(path: Path, what: str) -> dict[str, Any]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            _require_different(file.schema_arrow.names, what)
            table = file.read()
    except (OSError, pyarrow.ArrowException) as error:
        raise ModelError(
            f"the table of {what} is no whole parquet file ({first_line(error)}); write it again"
        ) from error
    return {name: table.column(name) for name in table.column_names if not name.startswith(INDEX)}


def _read_text(path: Path, what: str) -> dict[str, Any]:
    import pyarrow
    from pyarrow import csv

    try:
        with path.open(encoding="utf-8-sig") as file:
            head = file.readline()
        table = csv.read_csv(
            path,
            parse_options=csv.ParseOptions(delimiter=max(",;\t", key=head.count)),
            convert_options=csv.ConvertOptions(column_types=dict.fromkeys(WORDS, pyarrow.string())),
        )
    except (OSError, UnicodeDecodeError, pyarrow.ArrowException) as error:
        raise ModelError(
            f"the table of {what} cannot be read ({first_line(error)}); write it as csv in UTF-8"
        ) from error
    _require_different(table.column_names, what)
    return {name.strip(): table.column(name) for name in table.column_names}


def _require_different(names: Sequence[str], what: str) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ModelError(f"the table of {what} has the column {shown(twice[0])!r} more than once; name each once")


def _of_columns(columns: dict[str, Any], what: str) -> AnswerFile:
    """Tell the columns apart by their names: those that say which sample, and the others, one for each class."""
    key, keys, used = _keys(columns, what)
    names = [name for name in columns if name not in {*used, "label"}]
    if not names:
        labels = [word_of(label) for label in columns["label"].to_pylist()] if "label" in columns else None
        if labels is None:
            raise ModelError(f"the table of {what} has no answers beside {', '.join(used)}; {EXPECTED}")
        return AnswerFile(key, keys, None, None, labels, {})
    scores = np.empty((len(keys), len(names)), np.float32)
    for place, name in enumerate(names):
        scores[:, place] = _numbers(columns[name], name, what)
    return AnswerFile(key, keys, tuple(names), scores, None, {})


def _numbers(column: Any, name: str, what: str) -> np.ndarray:
    import pyarrow

    kind = column.type
    if not (pyarrow.types.is_floating(kind) or pyarrow.types.is_integer(kind) or pyarrow.types.is_null(kind)):
        raise ModelError(
            f"column {shown(name)!r} of the table of {what} holds {kind}, not the numbers of a class; {EXPECTED}"
        )
    return np.array(column.to_numpy(zero_copy_only=False) if not pyarrow.types.is_null(kind) else np.nan, np.float32)


def _keys(columns: Mapping[str, Any], what: str) -> tuple[Key, Sequence[Any], tuple[str, ...]]:
    for key in ("id", "path"):
        if key in columns:
            return key, [word_of(value) for value in columns[key].to_pylist()], (key,)
    if "split" not in columns or "row" not in columns:
        there = ", ".join(shown(name) for name in list(columns)[:8]) or "no column"
        raise ModelError(f"the table of {what} does not tell which samples it answers, it has {there}; {EXPECTED}")
    splits, rows = (columns[name].to_pylist() for name in ("split", "row"))
    wrong = next((row for row in rows if not isinstance(row, int) or row < 0), 0)
    if wrong != 0:
        raise ModelError(f"column row of the table of {what} must hold whole numbers from 0, not {wrong!r}")
    return "row", [(word_of(split), row) for split, row in zip(splits, rows, strict=True)], ("split", "row")


def _of_arrays(arrays: dict[str, np.ndarray], what: str) -> AnswerFile:
    """Take `id` or `path` beside `answers` or `label`, or an array for each split; and `classes`, if it is there."""
    named = arrays.pop("classes", None)
    if named is not None and named.ndim != 1:
        raise ModelError(f"classes of the npz of {what} must be a list of names, not {list(named.shape)}")
    classes = None if named is None else tuple(map(str, named.tolist()))
    by_split = {name: arrays[name] for name in SPLITS if name in arrays}
    if by_split:
        said = list(by_split.values())
        for part in said:
            _require_answers(part, what)
        if len({part.dtype.kind in "US" for part in said}) > 1:
            raise ModelError(
                f"the arrays of {what} hold numbers for some splits and texts for others; give one of them"
            )
        keys: Sequence[Any] = [(name, row) for name, part in by_split.items() for row in range(len(part))]
        if len({part.shape[1:] for part in said}) > 1:
            raise ModelError(
                f"the arrays of {what} have other shapes for other splits; give each [N, C], or labels [N]"
            )
        lengths = {name: len(part) for name, part in by_split.items()}
        return _answers_of("row", keys, np.concatenate(said), classes, lengths, what)
    key: Key | None = "id" if "id" in arrays else "path" if "path" in arrays else None
    answers = arrays.get("answers", arrays.get("label"))
    if key is None or answers is None or arrays[key].ndim != 1:
        there = ", ".join(map(shown, arrays)) or "nothing"
        raise ModelError(
            f"the npz of {what} holds {there}; expected id or path [N] with answers [N, C] or label [N], or arrays "
            f"that are called {', '.join(SPLITS)}"
        )
    _require_answers(answers, what)
    if len(arrays[key]) != len(answers):
        raise ModelError(f"the npz of {what} has {len(arrays[key])} of {key} but {len(answers)} answers; give each one")
    return _answers_of(key, [word_of(value) for value in arrays[key].tolist()], answers, classes, {}, what)


def _require_answers(said: np.ndarray, what: str) -> None:
    """Raise ModelError if an array holds neither scores nor labels."""
    scores = said.ndim == 2 and said.dtype.kind in "iuf" and said.shape[1]
    if not scores and not (said.ndim == 1 and said.dtype.kind in "iuUS"):
        raise ModelError(
            f"the answers of {what} must be numbers [N, C], or labels [N], not {said.dtype} {list(said.shape)}"
        )


def _answers_of(
    key: Key,
    keys: Sequence[Any],
    said: np.ndarray,
    classes: tuple[str, ...] | None,
    lengths: Mapping[str, int],
    what: str,
) -> AnswerFile:
    if said.ndim == 1 and said.dtype.kind in "iuUS":
        words = [word_of(value.decode() if isinstance(value, bytes) else value) for value in said.tolist()]
        return AnswerFile(key, keys, None, None, words, lengths)
    if classes is not None and len(classes) != said.shape[1]:
        raise ModelError(f"the npz of {what} names {len(classes)} classes but scores {said.shape[1]}; name each")
    return AnswerFile(key, keys, classes, said.astype(np.float32), None, lengths)
