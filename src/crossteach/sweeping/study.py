"""Many transfers as one table, and what it says about each method."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float

from ..functional.statistics import holm
from ..functional.study import StudyInterval, study_interval, summarise_study

Row = dict[str, Any]
Samples = Mapping[str, np.ndarray]
"""Columns of `samples.parquet`; `group` only where samples have groups."""
SAMPLE_COLUMNS = ("id", "label", "group", "pred_before", "pred_after", "pred_ungated")
"""Those that a row is made of."""

MOST_GROUPS = 256
"""Groups of test samples that a row keeps; more are put together, and samples without groups make so many."""

AREAS = ("2", "5", "20", "50")
"""Areas of expertise whose transfer rates stand in the table: % of the positive flips that they hold at least."""

SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("job", "student", "student_name", "teacher", "teacher_name")),
        ("teachers", pa.list_(pa.string())),
        *((name, pa.string()) for name in ("method", "base_method")),
        ("control", pa.bool_()),
        ("reads_labels", pa.bool_()),
        ("seed", pa.int64()),
        *((name, pa.string()) for name in ("student_family", "teacher_family")),
        *((name, pa.int64()) for name in ("student_params", "teacher_params", "n_test")),
        *(
            (name, pa.float64())
            for name in ("accuracy_before", "accuracy_after", "teacher_accuracy", "ensemble_accuracy")
        ),
        *((name, pa.float64()) for name in ("positive_flips", "negative_flips")),
        *(
            (f"{prefix}{name}", pa.float64())
            for prefix in ("", "ungated_")
            for name in (
                *("transfer_delta", "knowledge_gain", "knowledge_loss", "transfer_rate"),
                *(f"transfer_rate_{area}" for area in AREAS),
                *("p_value", "interval_low", "interval_high"),
            )
        ),
        *((name, pa.list_(pa.int32())) for name in ("group_sizes", "group_net", "ungated_group_net")),
        ("verdict", pa.string()),
        ("alpha", pa.float64()),
        *((name, pa.float64()) for name in ("selection_delta", "ungated_selection_delta", "lr")),
        ("epochs", pa.int64()),
        ("seconds", pa.float64()),
        ("diverged", pa.bool_()),
        ("label_free", pa.bool_()),
    ]
)
"""Columns of `results.parquet`. Of several teachers: names joined by " + ", parameters added, accuracy and flips of the
best. `group_sizes`: test samples of each group; `group_net`: how many of them were gained − lost, for intervals over
many transfers. `label_free`: whether the criterion without labels speaks for the end of training. Everything else is in
% or points, as in summary.json; null where it does not apply."""


def read_row(job: Mapping[str, Any], summary: Mapping[str, Any], samples: Samples) -> Row:
    """Put one whole job into a row.

    Args:
        job: What was planned (`jobs.json`).
        summary: What came out (`summary.json`).
        samples: What each test sample was given (`samples.parquet`).
    """
    gate, training, path = summary["gate"], summary["training"], summary["gate"]["path"]
    teachers = job["teachers"]
    row = {
        **{key: value for key, value in job.items() if key in SCHEMA.names},
        "teacher": " + ".join(teachers) or None,
        "base_method": summary["method"],
        **{key: summary[key] for key in ("n_test", "accuracy_before", "accuracy_after", "seconds")},
        "ensemble_accuracy": summary.get("ensemble_accuracy"),  # null in runs of an earlier version
        **{key: _best(summary[key]) for key in ("teacher_accuracy", "positive_flips", "negative_flips")},
        "verdict": gate["verdict"],
        "alpha": gate["alpha"],
        "selection_delta": gate["selection_delta"],
        "ungated_selection_delta": path[-1]["delta"]["estimate"] if path and path[-1]["alpha"] == 1 else None,
        "lr": training.get("lr"),  # several lessons have a rate each
        "epochs": training["epochs"],
        "diverged": bool(training["diverged"]),
        "label_free": gate["label_free"] and gate["label_free"]["speaks_for"],
        **net_by_group(samples),
    }
    gated_by_lesson = "lessons" in summary  # several lessons have no end of training in common
    for prefix, found in (("", summary), *((("ungated_", summary["ungated"]),) if not gated_by_lesson else ())):
        for key in ("transfer_delta", "knowledge_gain", "knowledge_loss", "transfer_rate", "p_value"):
            row[prefix + key] = found[key]
        for area in AREAS:
            row[f"{prefix}transfer_rate_{area}"] = found["transfer_rate_by_area"].get(area)
        row[f"{prefix}interval_low"], row[f"{prefix}interval_high"] = found["interval"]
    return row


def net_by_group(samples: Samples) -> dict[str, list[int]]:
    """Count for each group of test samples how many were gained − lost: the variation that all transfers share."""
    label, before = samples["label"], samples["pred_before"]
    group = np.argsort(np.argsort(samples["id"])) if "group" not in samples else samples["group"]
    code = np.unique(group, return_inverse=True)[1] % MOST_GROUPS
    found = {"group_sizes": np.bincount(code)}
    for name, after in (("group_net", samples["pred_after"]), ("ungated_group_net", samples["pred_ungated"])):
        found[name] = np.bincount(code, weights=(after == label) * 1 - (before == label) * 1)
    return {name: counts.astype(int).tolist() for name, counts in found.items()}


def _best(value: float | list[float] | None) -> float | None:
    return max(value) if isinstance(value, list) else value


def to_parquet(rows: Sequence[Row]) -> bytes:
    """Write rows as a parquet file."""
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows), SCHEMA), buffer, compression="zstd")
    return buffer.getvalue()


def describe_methods(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Summarise each method, gated (what is returned) and ungated (the end of training).

    A method's `claim` is its mean difference to the best control that sees no more labels than it does, pair by pair,
    with an interval over students, teachers and test samples; docs/method.md says why. None for a control, or without
    one.
    There is no `ungated` where several lessons were gated one by one.
    """
    methods = list(dict.fromkeys(row["method"] for row in rows))
    students = sorted({row["student"] for row in rows})
    teachers = sorted({row["teacher"] for row in rows if row["teacher"] is not None})
    described = []
    for method in methods:
        mine = [row for row in rows if row["method"] == method]
        entry: dict[str, Any] = {
            "method": method,
            "base_method": mine[0]["base_method"],
            "control": mine[0]["control"],
            "reads_labels": mine[0]["reads_labels"],
        }
        for name, prefix in (("gated", ""), ("ungated", "ungated_")):
            known = [row for row in mine if row.get(f"{prefix}transfer_delta") is not None]
            entry[name] = None
            if known:
                claim = _claim(rows, known, prefix, students, teachers)
                entry[name] = {**_summarise(known, prefix), "claim": claim}
        described.append(entry)
    return described


def _summarise(mine: Sequence[Row], prefix: str) -> dict[str, Any]:
    deltas = [row[f"{prefix}transfer_delta"] for row in mine]
    summary = asdict(
        summarise_study(
            [row["student"] for row in mine],
            deltas,
            [row[f"{prefix}interval_high"] for row in mine],
            [row["verdict"] == "accepted" for row in mine],
        )
    )
    small = holm([row[f"{prefix}p_value"] for row in mine]) < 0.05
    up = sum(bool(sure) and delta > 0 for sure, delta in zip(small, deltas, strict=True))
    selected = [row["ungated_selection_delta"] for row in mine if row["ungated_selection_delta"] is not None]
    return {
        **summary,
        "significantly_up": up,
        "significantly_down": int(small.sum()) - up,
        **({"selection_delta": float(np.mean(selected)) if selected else None} if prefix else {}),
    }


def _claim(
    rows: Sequence[Row], mine: Sequence[Row], prefix: str, students: Sequence[str], teachers: Sequence[str]
) -> dict[str, Any] | None:
    if mine[0]["control"] or not teachers:
        return None
    seen = [r for r in rows if r.get(f"{prefix}transfer_delta") is not None]
    allowed = [r for r in seen if r["control"] and (mine[0]["reads_labels"] or not r["reads_labels"])]
    values, _ = _deltas(mine, prefix, students, teachers)
    controls = {
        name: _deltas([r for r in allowed if r["method"] == name], prefix, students, teachers)[0]
        for name in dict.fromkeys(r["method"] for r in allowed)
    }
    common = {name: np.isfinite(values) & np.isfinite(control) for name, control in controls.items()}
    controls = {name: control for name, control in controls.items() if common[name].any()}
    if not controls:
        return None
    best = max(controls, key=lambda name: float(controls[name][common[name]].mean()))
    found = compare(mine, [r for r in allowed if r["method"] == best], prefix, students, teachers)
    return {"control": best, **asdict(found), "over": list(found.over)}


def compare(
    mine: Sequence[Row], others: Sequence[Row], prefix: str, students: Sequence[str], teachers: Sequence[str]
) -> StudyInterval:
    """Return the mean difference of two methods over the pairs that both have taught, with its interval.

    Args:
        mine: Rows of the method.
        others: Rows of what it stands against.
        prefix: `` for what is returned, `ungated_` for the end of training.
        students: Names of all students.
        teachers: Names of all teachers.

    Raises:
        ValueError: If no pair is common to both.
    """
    return _mean_of([(1.0, mine), (-1.0, others)], prefix, students, teachers)


def mean_delta(rows: Sequence[Row], prefix: str, students: Sequence[str], teachers: Sequence[str]) -> StudyInterval:
    """Return the mean delta of a method over its pairs, with its interval.

    Args:
        rows: Rows of the method.
        prefix: `` for what is returned, `ungated_` for the end of training.
        students: Names of all students.
        teachers: Names of all teachers; without any, each student is a pair of its own.

    Raises:
        ValueError: If there is no row.
    """
    return _mean_of([(1.0, rows)], prefix, students, teachers or [""])


def _mean_of(
    signed: Sequence[tuple[float, Sequence[Row]]], prefix: str, students: Sequence[str], teachers: Sequence[str]
) -> StudyInterval:
    """Return the mean over the pairs that all have of a signed sum of methods, with its interval."""
    tables = [(sign, rows, *_deltas(rows, prefix, students, teachers)) for sign, rows in signed]
    values = np.sum([sign * deltas for sign, _, deltas, _ in tables], axis=0)
    common = np.isfinite(values) / max(np.isfinite(values).sum(), 1)
    parts = [
        (sign * (common / np.maximum(counts, 1))[_place(row, students, teachers)].sum(), row.get(f"{prefix}group_net"))
        for sign, rows, _, counts in tables
        for row in rows
    ]
    sizes = [row.get("group_sizes") for _, rows in signed for row in rows]
    if any(size is None or size != sizes[0] for size in sizes) or any(net is None for _, net in parts):
        return study_interval(values, students, teachers)  # rows of an earlier version, or of several test sets
    by_group = 100.0 * sum(weight * np.array(net) for weight, net in parts) / np.array(sizes[0])
    return study_interval(values, students, teachers, by_group, np.array(sizes[0]))


def _place(row: Row, students: Sequence[str], teachers: Sequence[str]) -> tuple[int, list[int]]:
    """Return the cells of a row in a student x teacher table; a control fills its student's row."""
    columns = [teachers.index(row["teacher"])] if row["teacher"] is not None else list(range(len(teachers)))
    return students.index(row["student"]), columns


def _deltas(
    rows: Sequence[Row], prefix: str, students: Sequence[str], teachers: Sequence[str]
) -> tuple[Float[np.ndarray, "S T"], Float[np.ndarray, "S T"]]:
    """Return each pair's delta, the mean over its rows (seeds), NaN where there are none; and how many rows it has."""
    sums, counts = np.zeros((2, len(students), len(teachers)))
    for row in rows:
        place = _place(row, students, teachers)
        sums[place] += row[f"{prefix}transfer_delta"]
        counts[place] += 1
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan), counts
