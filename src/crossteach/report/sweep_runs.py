"""The finished jobs of a sweep, grouped as its page shows them: by method, student, family and pair."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .reading import Run, clean, damaged
from .tables import Tables

NAMED = ("job", "student", "student_name", "method", "verdict")
WORDS = (*NAMED, "teacher", "teacher_name", "student_family", "teacher_family")
NUMBERS = ("seed", "accuracy_before", "transfer_delta")
MAY_LACK = ("student_params", "teacher_params", "teacher_accuracy", "ungated_transfer_delta")

RETURNED, ENDED = "", "ungated_"
"""Prefixes of columns."""
SIDES = {RETURNED: "returned", ENDED: "end of training"}
OF_DELTAS = ("mean", "median", "worst", "success", "harm")
MEASURES = ("runs", "accepted", *(prefix + key for prefix in SIDES for key in OF_DELTAS))
KEPT = ("kept_original", "diverged")
HARM = -0.1
"""Points; docs/method.md."""
SIZES = ((0.25, "under ¼"), (0.5, "¼ to ½"), (2.0, "½ to 2"), (4.0, "2 to 4"), (np.inf, "over 4"))
"""Parameters of the teacher over those of the student: upper ends, and what they are called."""

Places = np.ndarray
"""Which rows."""
Group = dict[str, Any]


@dataclass(frozen=True)
class Matrix:
    """Mean deltas of one method, student by teacher; NaN where there is none."""

    prefix: str
    students: Sequence[str]
    teachers: Sequence[str]
    deltas: np.ndarray
    kept: np.ndarray
    """Where no run changed the student."""


@dataclass(frozen=True)
class Method:
    """A method of the sweep, as `sweep.json` summarises it."""

    name: str
    base: str
    slug: str
    """Of its files."""
    is_control: bool
    gated: dict[str, Any]
    ungated: dict[str, Any] | None

    def control(self, prefix: str) -> str | None:
        """Return the control that its claim stands against."""
        found = self.gated if prefix == RETURNED else self.ungated
        return clean(found["claim"]["control"]) if found and found["claim"] else None


class Runs:
    """Every finished job of a sweep, as columns."""

    def __init__(self, run: Run) -> None:
        """Read `results.parquet`.

        Raises:
            RunFolderError: If it is missing or damaged.
        """
        path = run.path / "results.parquet"
        found = run.columns(path.name, NUMBERS, MAY_LACK, WORDS)
        if found is None:
            raise damaged(path, "it is not there")
        for key in NAMED:
            if None in found[key].tolist():
                raise damaged(path, f"its column {key!r} has gaps")
        self._written = [key for key in found if key != "teachers"]
        found["accuracy_difference"] = found["teacher_accuracy"] - found["accuracy_before"]
        found["size"] = _sizes(found["student_params"], found["teacher_params"])
        self.columns = found
        self.names: dict[str, str] = {}
        """What each student and each teacher is called."""
        for who in ("student", "teacher"):
            named = zip(found[who].tolist(), found[f"{who}_name"].tolist(), strict=True)
            self.names |= {spec: name or spec for spec, name in named if spec is not None}
        self.students = list(dict.fromkeys(found["student"].tolist()))
        self.seeds = sorted({int(seed) for seed in found["seed"]})

    def __len__(self) -> int:
        return len(self.columns["job"])

    def of(self, method: str) -> Places:
        """Return the rows of a method."""
        return np.flatnonzero(self.columns["method"] == method)

    def taught(self, method: str) -> Places:
        """Return the rows of a method that have a teacher."""
        return np.array([i for i in self.of(method).tolist() if self.columns["teacher"][i] is not None], int)

    def groups(self, keys: Sequence[str], places: Places | None = None) -> dict[tuple[Any, ...], Places]:
        """Group rows by what they have in these columns, in the order they come; one with a gap is left out."""
        chosen = np.arange(len(self)) if places is None else places
        found: dict[tuple[Any, ...], list[int]] = {}
        values = zip(*(self.columns[key][chosen].tolist() for key in keys), strict=True)
        for place, value in zip(chosen.tolist(), values, strict=True):
            if None not in value:
                found.setdefault(value, []).append(place)
        return {value: np.array(rows) for value, rows in found.items()}

    def measure(self, places: Places) -> Group:
        """Summarise runs in one row; None for the end of training where lessons were gated one by one."""
        taken = self.columns["verdict"][places] == "accepted"
        row: Group = {"runs": len(places), "accepted": 100 * float(taken.mean())}
        for prefix in SIDES:
            deltas = self.columns[f"{prefix}transfer_delta"][places]
            deltas = deltas[np.isfinite(deltas)]
            row |= {prefix + key: None for key in OF_DELTAS}
            if len(deltas):
                shares = (100 * float((deltas > 0).mean()), 100 * float((deltas < HARM).mean()))
                sizes = (float(deltas.mean()), float(np.median(deltas)), float(deltas.min()))
                row |= {prefix + key: value for key, value in zip(OF_DELTAS, (*sizes, *shares), strict=True)}
        return row

    def measured(self, keys: Sequence[str], places: Places | None = None) -> list[Group]:
        """Return a row for each group: the values that its runs share, and their summary."""
        return [
            {**dict(zip(keys, value, strict=True)), **self.measure(rows)}
            for value, rows in self.groups(keys, places).items()
        ]

    def by_student(self) -> list[Group]:
        """Return a row for each student and method, those of one student side by side."""
        order = {spec: i for i, spec in enumerate(self.students)}
        rows = []
        for (spec, method), places in self.groups(("student", "method")).items():
            first, keys = places[0], ("student_family", "student_params", "accuracy_before")
            own = {key: _told(self.columns[key][first]) for key in keys}
            rows.append({"spec": spec, "student": self.names[spec], "method": method, **own, **self.measure(places)})
        return sorted(rows, key=lambda row: order[row["spec"]])

    def matrix(self, method: str, prefix: str) -> Matrix | None:
        """Return what each student gained from each teacher, the mean over seeds; None where nothing is known."""
        places, deltas = self.taught(method), self.columns[f"{prefix}transfer_delta"]
        pairs = self.groups(("student", "teacher"), places[np.isfinite(deltas[places])])
        if not pairs:
            return None
        learning, teaching = (dict.fromkeys(pair[i] for pair in pairs) for i in (0, 1))
        students = [spec for spec in self.students if spec in learning]
        teachers = [*(s for s in students if s in teaching), *(t for t in teaching if t not in learning)]
        row, column = ({spec: i for i, spec in enumerate(specs)} for specs in (students, teachers))
        values = np.full((len(students), len(teachers)), np.nan)
        kept = np.zeros(values.shape, bool)
        for (s, t), rows in pairs.items():
            values[row[s], column[t]] = deltas[rows].mean()
            kept[row[s], column[t]] = prefix == RETURNED and np.isin(self.columns["verdict"][rows], KEPT).all()
        return Matrix(prefix, students, teachers, values, kept)

    def means(self, method: str, prefix: str) -> dict[str, float]:
        """Return each student's mean delta, where it is known."""
        rows = self.measured(("student",), self.of(method))
        return {row["student"]: row[f"{prefix}mean"] for row in rows if row[f"{prefix}mean"] is not None}

    def write(self, tables: Tables) -> None:
        """Write every run, and every group that the page shows."""
        tables.write("runs", self._written, self._rows(self._written))
        own = ("student", "spec", "method", "student_family", "student_params", "accuracy_before")
        _write(tables, "students", own, self.by_student())
        pair = ("method", "student_name", "teacher_name", "student", "teacher")
        _write(tables, "pairs", pair, self.measured(pair))
        for name, keys in (("families", ("student_family", "teacher_family")), ("sizes", ("size",))):
            _write(tables, name, ("method", *keys), self.measured(("method", *keys)))

    def _rows(self, keys: Sequence[str]) -> Iterator[list[Any]]:
        listed = [self.columns[key].tolist() for key in keys]
        return ([_told(value) for value in row] for row in zip(*listed, strict=True))


def _sizes(student: np.ndarray, teacher: np.ndarray) -> np.ndarray:
    """Say how large each teacher is beside its student; None where that is not known."""
    known = (student > 0) & np.isfinite(teacher)
    ratio = np.where(known, teacher, 0.0) / np.where(known, student, 1.0)
    place = np.searchsorted([end for end, _ in SIZES[:-1]], ratio, side="right")
    return np.array([SIZES[p][1] if k else None for p, k in zip(place.tolist(), known.tolist(), strict=True)], object)


def _write(tables: Tables, name: str, keys: Sequence[str], rows: Sequence[Group]) -> None:
    heads = [*keys, *MEASURES]
    tables.write(name, heads, [[_told(row[head]) for head in heads] for row in rows])


def _told(value: Any) -> Any:
    """Return a value as a table holds it: a gap is empty."""
    return None if isinstance(value, float) and np.isnan(value) else value
