"""Sweep folders as `crossteach sweep` leaves them, of any size, without a model."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scouts

from crossteach.sweeping.study import SCHEMA, describe_methods, to_parquet

Row = dict[str, Any]
METHODS = ("self", "xe", "kl+dp", "kl+dp-unsupervised")
READ_LABELS = ("xe", "kl+dp")
FAMILIES = ("convolutional", "mlp", "transformer")
PLAN = "# a comment, with <b>markup</b>\ndata: npz:some data.npz\nmodels: [...]\n"


def write(
    folder: Path,
    n_models: int = 4,
    methods: Sequence[str] = METHODS,
    seeds: Sequence[int] = (0,),
    nasty: bool = False,
    failed: Sequence[tuple[str, str]] = (),
    change: Callable[[list[Row]], list[Row]] = lambda rows: rows,
) -> Path:
    """Draw what every job found, and write what a sweep makes of it.

    Args:
        change: Gets all rows and returns those that are written.
    """
    rng = np.random.default_rng(0)
    names = [scouts.NASTY[i] if nasty and i < 2 else f"model-{i:02}.a1_in1k" for i in range(n_models)]
    rows = []
    for s in range(n_models):
        for seed in seeds:
            for method in methods:
                alone = method in ("self", "xe")
                rows += [_row(rng, names, s, t, method, seed) for t in ([None] if alone else range(n_models)) if t != s]
    rows = change(rows)
    folder.mkdir(parents=True)
    listed = ("job", "student", "student_name", "teachers", "teacher_name", "method", "base_method", "control", "seed")
    (folder / "jobs.json").write_text(json.dumps([{key: row[key] for key in listed} for row in rows]))
    (folder / "plan.yaml").write_text(PLAN)
    (folder / "results.parquet").write_bytes(to_parquet(rows))
    models = [
        {
            "spec": f"py:zoo.py:m{i}",
            "name": names[i],
            "family": FAMILIES[i % 3],
            "params": _params(i),
            "fingerprint": f"{i:032x}",
        }
        for i in range(n_models)
    ]
    summary = {
        "data": "npz:some data.npz",
        "jobs": len(rows) + len(failed),
        "done": len(rows),
        "failed": [{"job": job, "reason": reason} for job, reason in failed],
        "models": models,
        "methods": describe_methods(rows),
        "notes": ["labels of <some> samples are missing"],
        "seconds": float(sum(row["seconds"] for row in rows)),
    }
    (folder / "sweep.json").write_text(json.dumps(summary, ensure_ascii=False, indent=1))
    return folder


def _params(i: int) -> int:
    return 5000 * (1 + i % 7) ** 2


def _row(rng: np.random.Generator, names: Sequence[str], s: int, t: int | None, method: str, seed: int) -> Row:
    gap = 0.0 if t is None else (t - s) / 2
    ungated = round(float(rng.normal(0.1 + 0.02 * gap if t is not None else 0.0, 0.2)), 4)
    taken = ungated > 0.05
    delta = ungated if taken else 0.0
    row: Row = dict.fromkeys(SCHEMA.names)
    row |= {
        "job": f"{method}-{s}-from-{t}-seed{seed}",
        "student": f"py:zoo.py:m{s}",
        "student_name": names[s],
        "teachers": [] if t is None else [f"py:zoo.py:m{t}"],
        "method": method,
        "base_method": method,
        "control": t is None,
        "reads_labels": method in READ_LABELS,
        "seed": seed,
        "student_family": FAMILIES[s % 3],
        "student_params": _params(s),
        "n_test": 2000,
        "accuracy_before": 80 + s / 2,
        "accuracy_after": 80 + s / 2 + delta,
        "verdict": "accepted" if taken else "kept_original",
        "alpha": 1.0 if taken else 0.0,
        "lr": 0.01,
        "epochs": 8,
        "seconds": 2.5,
        "diverged": False,
    }
    if t is not None:
        row |= {"teacher": f"py:zoo.py:m{t}", "teacher_name": names[t], "teacher_accuracy": 80 + t / 2}
        row |= {"teacher_family": FAMILIES[t % 3], "teacher_params": _params(t), "positive_flips": 5.0}
        row |= {"negative_flips": 4.0}
    for prefix, value in (("", delta), ("ungated_", ungated)):
        row |= {f"{prefix}transfer_delta": value, f"{prefix}p_value": 0.5}
        row |= {f"{prefix}interval_low": value - 0.3, f"{prefix}interval_high": value + 0.3}
    return row
