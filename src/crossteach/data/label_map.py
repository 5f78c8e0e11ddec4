"""A label map: which class of the student each class of a teacher belongs to, as a file or a mapping says it."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from jaxtyping import Int

from ..errors import LabelSpaceError, first_line
from ..files import write_bytes
from ..functional.label_spaces import NONE
from ..specs import nearest
from ..types import Classifier

COLUMNS = ("teacher_class", "student_class")
TEACHER = "teacher"
"""A third column, or the outer keys of YAML: which teacher a row is about, by its name or its spec."""
LIKE = "a csv with the columns teacher_class,student_class (and teacher), or YAML as in {tabby: cat, beagle: dog}"
SHOWN = 5
"""Classes that a message names."""


@dataclass(frozen=True)
class Row:
    """One class of a teacher, and the class of the student that it belongs to."""

    teacher_class: str
    student_class: str
    """Empty where it belongs to none."""
    teacher: str = ""
    """Empty where the row is about any teacher that does not score the student's classes."""
    line: int = 0
    """Of the file; 0 where there is none."""


@dataclass(frozen=True)
class LabelMap:
    """The rows of a label map. Classes are names, or ids where a model has no such name."""

    source: str
    """The file, for messages."""
    rows: tuple[Row, ...]
    file: str | None = None
    """None where it is a mapping of the caller's."""

    @property
    def is_general(self) -> bool:
        """Whether any row names no teacher."""
        return any(not row.teacher for row in self.rows)

    def require_teachers(self, teachers: Sequence[tuple[str, str]]) -> None:
        """Raise LabelSpaceError if a row names a teacher that is not among these, given by name and spec."""
        known = {word for teacher in teachers for word in teacher}
        for row in self.rows:
            if row.teacher and row.teacher not in known:
                names = ", ".join(name for name, _ in teachers) or "none"
                raise self._error(row, f"no teacher is called {row.teacher!r}; there are {names}")

    def names(self, teacher: Classifier) -> bool:
        """Tell whether rows are about this teacher by name."""
        return any(row.teacher in (teacher.name, teacher.spec) for row in self.rows if row.teacher)

    def belongs(self, teacher: Classifier, classes: Sequence[str]) -> Int[np.ndarray, " T"]:
        """Return the student's class of each class of a teacher, −1 for none: of those too that no row names.

        Args:
            teacher: Its own rows are read where there are any, else those that name no teacher.
            classes: Of the student.

        Raises:
            LabelSpaceError: If a class is unknown, stands twice, or none is mapped.
        """
        own = (teacher.name, teacher.spec) if self.names(teacher) else ("",)
        theirs, ours = _Names(teacher.classes, teacher.n_classes), _Names(classes, len(classes))
        found = np.full(teacher.n_classes, NONE)
        seen: dict[int, Row] = {}
        for row in self.rows:
            if row.teacher not in own:
                continue
            source = self._find(row, row.teacher_class, theirs, teacher.spec)
            target = self._find(row, row.student_class, ours, "the student") if row.student_class else NONE
            if source in seen:
                other = seen[source].student_class
                twice = "twice" if other == row.student_class else f"for {other!r} and for {row.student_class!r}"
                raise self._error(
                    row, f"class {row.teacher_class!r} of {teacher.spec!r} stands {twice}; it belongs to one class"
                )
            seen[source], found[source] = row, target
        if (found == NONE).all():
            raise LabelSpaceError(
                f"the label map {self.source} maps no class of {teacher.spec!r}; give {LIKE}, one row a class"
            )
        return found

    def _find(self, row: Row, text: str, names: "_Names", whose: str) -> int:
        found = names.find(text)
        if len(found) == 1:
            return found[0]
        if found:
            ids = ", ".join(map(str, found[:SHOWN]))
            raise self._error(row, f"{len(found)} classes of {whose} are called {text!r} (ids {ids}); give the id")
        raise self._error(row, f"{whose} has no class {text!r}; {names.hint(text)}")

    def _error(self, row: Row, what: str) -> LabelSpaceError:
        where = f"line {row.line} of " if row.line else ""
        return LabelSpaceError(f"{where}the label map {self.source}: {what}")


class _Names:
    """The classes of a model, found by name or id."""

    def __init__(self, names: Sequence[str] | None, count: int) -> None:
        self._names, self._count = names, count
        self._ids: dict[str, list[int]] = {}
        for index, name in enumerate(names or ()):
            self._ids.setdefault(name, []).append(index)

    def find(self, text: str) -> list[int]:
        """Return the classes that a text stands for: a name first, else an id."""
        if text in self._ids:
            return self._ids[text]
        if text.isascii() and text.isdecimal() and len(text) < 10 and int(text) < self._count:
            return [int(text)]
        return []

    def hint(self, text: str) -> str:
        """Say what could have been meant."""
        if self._names is None:
            return f"its classes have no names: give ids from 0 to {self._count - 1}"
        if meant := nearest(text, self._names):
            return f"did you mean {meant!r}?"
        return f"its {self._count} classes are {', '.join(map(repr, self._names[:SHOWN]))}, …; ids serve too"


def read_label_map(given: "str | Path | Mapping[Any, object] | LabelMap") -> LabelMap:
    """Read a label map: a csv or YAML file, or a mapping of the same content.

    Args:
        given: A file, or `{teacher class: student class or None}`, or `{teacher: {…}}` for several teachers.

    Raises:
        LabelSpaceError: If it cannot be read, or is no map.
    """
    if isinstance(given, LabelMap):
        return given
    if isinstance(given, Mapping):
        return LabelMap("that is given", tuple(_rows_of_mapping(given)))
    path = Path(given)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise LabelSpaceError(f"the label map {path} cannot be read ({first_line(error)}); give {LIKE}") from error
    read = _rows_of_yaml if path.suffix.lower() in (".yaml", ".yml", ".json") else _rows_of_csv
    rows = read(text, path)
    if not rows:
        raise LabelSpaceError(f"the label map {path} has no row; give {LIKE}, one row a class")
    return LabelMap(str(path), tuple(rows), str(path))


def write_label_map(path: Path, rows: Sequence[Row], notes: Sequence[str]) -> None:
    """Write a csv that `read_label_map` reads, each row with a note for whoever looks at it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((*COLUMNS, TEACHER, "found"))
    for row, note in zip(rows, notes, strict=True):
        writer.writerow((row.teacher_class, row.student_class, row.teacher, note))
    write_bytes(path, text.getvalue().encode("utf-8", "surrogateescape"))


def _rows_of_csv(text: str, path: Path) -> list[Row]:
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            raise LabelSpaceError(f"the label map {path} has no column {missing[0]}; give {LIKE}")
        rows = []
        for row in reader:
            theirs, ours, teacher = ((row.get(name) or "") for name in (*COLUMNS, TEACHER))
            rows.append(Row(theirs, ours, teacher, reader.line_num))
        return rows
    except csv.Error as error:
        raise LabelSpaceError(f"the label map {path} is no csv ({first_line(error)}); give {LIKE}") from error


def _rows_of_yaml(text: str, path: Path) -> list[Row]:
    """Read classes as they are written: `no` and `012` are names."""
    try:
        root = yaml.compose(text, yaml.SafeLoader)
        if not isinstance(root, yaml.MappingNode):
            raise LabelSpaceError(f"the label map {path} is no mapping; give {LIKE}")
        rows = []
        for key, value in root.value:
            inner = value.value if isinstance(value, yaml.MappingNode) else [(key, value)]
            teacher = _word(key, path) if isinstance(value, yaml.MappingNode) else ""
            rows += [Row(_word(k, path), _word(v, path), teacher, k.start_mark.line + 1) for k, v in inner]
        return rows
    except (yaml.YAMLError, RecursionError) as error:
        raise LabelSpaceError(f"the label map {path} is not YAML ({first_line(error)}); give {LIKE}") from error


def _word(node: yaml.Node, path: Path) -> str:
    if not isinstance(node, yaml.ScalarNode):
        raise LabelSpaceError(
            f"line {node.start_mark.line + 1} of the label map {path}: a class is one word, not a list; a teacher's "
            "class belongs to one class of the student"
        )
    return "" if node.tag == "tag:yaml.org,2002:null" else str(node.value)


def _rows_of_mapping(given: Mapping[Any, object]) -> list[Row]:
    rows = []
    for key, value in given.items():
        inner = value.items() if isinstance(value, Mapping) else [(key, value)]
        teacher = str(key) if isinstance(value, Mapping) else ""
        for theirs, ours in inner:
            if isinstance(ours, str | int | np.integer) or ours is None:
                rows.append(Row(str(theirs), "" if ours is None else str(ours), teacher))
            else:
                raise LabelSpaceError(
                    f"a label map is {{teacher class: student class}}, and {theirs!r} belongs to {ours!r}; give one "
                    "class, or None"
                )
    return rows
