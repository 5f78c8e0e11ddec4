"""Tables of coloured cells: who taught whom, family by family, size by size."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from .sweep_runs import RETURNED, SIDES, SIZES, Group, Matrix, Method, Runs
from .words import points

SHOWN_FAMILIES = 12
CELLS = 12_000
"""Of all matrices in the page together: the others stand in the tables."""
PICTURED = 30
"""Models above which a matrix is a picture first."""


def full_colour(matrices: Iterable[Matrix]) -> float:
    """Return the delta that gets the full colour in all matrices: an outlier must not pale the rest."""
    sizes = [np.abs(matrix.deltas[np.isfinite(matrix.deltas)]) for matrix in matrices]
    return float(np.quantile(np.concatenate(sizes), 0.98, method="lower")) or 1.0 if sizes else 1.0


def heats(runs: Runs, matrices: Iterable[tuple[Method, Matrix]], full: float) -> Iterator[dict[str, Any]]:
    """Yield every matrix as rows of cells, up to `CELLS` cells in all; of the others no rows."""
    left = CELLS
    for method, matrix in matrices:
        fits = matrix.deltas.size <= left
        left -= matrix.deltas.size if fits else 0
        control = method.control(matrix.prefix)
        beside = runs.means(control, matrix.prefix) if control else {}
        yield {
            "method": method.name,
            "slug": method.slug,
            "side": SIDES[matrix.prefix],
            "teachers": [runs.names[spec] for spec in matrix.teachers],
            "control": control,
            "pictured": matrix.prefix == RETURNED and (not fits or max(matrix.deltas.shape) > PICTURED),
            "rows": [_heat_row(runs, matrix, i, beside, full) for i in range(len(matrix.students))] if fits else [],
            "means": np.nanmean(matrix.deltas, axis=0).tolist(),
        }


def _heat_row(runs: Runs, matrix: Matrix, i: int, beside: dict[str, float], full: float) -> dict[str, Any]:
    student = matrix.students[i]
    cells = []
    for spec, delta, kept in zip(matrix.teachers, matrix.deltas[i].tolist(), matrix.kept[i].tolist(), strict=True):
        if np.isnan(delta):
            cells.append(("·" if spec == student else "", "", ""))
            continue
        shade = 0.6 * min(1.0, abs(delta) / full)
        kind = "kept" if kept else "loss" if delta < 0 else ""
        cells.append((points(delta), kind, f"{shade:.2f}".lstrip("0") if shade >= 0.005 else ""))
    mean = float(np.nanmean(matrix.deltas[i]))
    return {"name": runs.names[student], "cells": cells, "mean": mean, "control": beside.get(student)}


def families(runs: Runs, method: Method) -> dict[str, Any] | None:
    """Return the measures of every pair of families; None where no family is known."""
    rows = runs.measured(("student_family", "teacher_family"), runs.taught(method.name))
    if not rows:
        return None
    full = max(abs(row["mean"]) for row in rows) or 1.0
    found = {(row["student_family"], row["teacher_family"]): shaded(row, full) for row in rows}
    names = []
    for key in ("student_family", "teacher_family"):
        counts: dict[str, int] = {}
        for row in rows:
            counts[row[key]] = counts.get(row[key], 0) + row["runs"]
        names.append(sorted(counts, key=lambda name: (-counts[name], name))[:SHOWN_FAMILIES])
    cells = [(name, [found.get((name, other)) for other in names[1]]) for name in names[0]]
    return {
        "method": method.name,
        "teachers": names[1],
        "rows": cells,
        "left_out": len(rows) - sum(cell is not None for _, row in cells for cell in row),
    }


def by_size(runs: Runs, methods: Sequence[Method]) -> dict[str, Any]:
    """Return, for each method, the measures by how large the teacher is beside the student."""
    groups = [(m.name, runs.measured(("size",), runs.taught(m.name))) for m in methods]
    full = max((abs(row["mean"]) for _, rows in groups for row in rows), default=0.0) or 1.0
    known = {row["size"] for _, rows in groups for row in rows}
    names = [name for _, name in SIZES if name in known]
    found = [(method, {row["size"]: shaded(row, full) for row in rows}) for method, rows in groups if rows]
    return {"names": names, "rows": [(method, [cells.get(name) for name in names]) for method, cells in found]}


def shaded(row: Group, full: float) -> dict[str, Any]:
    """Add the shade of its mean to a group."""
    return {**row, "shade": f"{0.6 * abs(row['mean']) / full:.2f}"}
