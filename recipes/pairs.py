"""Every ordered pair of some models, every method, against the controls: one table.

    python recipes/pairs.py demo:mlp demo:mixer demo:resnet demo:convnet --data glyphs --out runs/pairs

Each run keeps its folder, so an interrupted study goes on where it stopped. For more than a few models take `crossteach
sweep`; docs/study.md has the result for twelve. Deltas are in points on the test split. Intervals are over students and
teachers, not over test samples.
"""

import argparse
import json
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import permutations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from crossteach.transferring.methods import find_method

METHODS = ("self", "xe", "self+labels", "kl", "kl+dp", "kl+dp-unsupervised", "xe+dp")
"""What is run unless --methods says otherwise; any name of crossteach.METHODS may be given."""


class Job(NamedTuple):
    """One transfer."""

    method: str
    student: str
    teacher: str | None
    data: str
    out: Path
    settings: tuple[str, ...]


def jobs(models: Sequence[str], data: str, out: Path, methods: Sequence[str], settings: Sequence[str]) -> list[Job]:
    """List the transfers; a method that asks no teacher runs once a student."""
    listed = []
    for method in methods:
        pairs = list(permutations(models, 2)) if find_method(method).teachers else [(s, None) for s in models]
        for student, teacher in pairs:
            name = "-".join([method, *(f"{models.index(spec)}{slug(spec)}" for spec in (student, teacher) if spec)])
            listed.append(Job(method, student, teacher, data, out / name, tuple(settings)))
    return listed


def slug(spec: str) -> str:
    """Shorten a spec to what a folder may be called."""
    return "".join(c if c.isalnum() or c in "+-" else "_" for c in Path(spec.partition("?")[0]).name)


def run(job: Job) -> dict[str, Any]:
    """Do one transfer in a worker process, on one thread."""
    import torch

    import crossteach

    torch.set_num_threads(1)
    config = crossteach.with_settings(crossteach.TransferConfig(), [f"method={job.method}", *job.settings])
    data = crossteach.load_data(job.data)
    student = crossteach.load_model(job.student, like=data)
    teachers = [crossteach.load_model(job.teacher, like=data)] if job.teacher else []
    result = crossteach.transfer(student, teachers, data, job.out, config)
    return {**result.summary, "student": job.student, "teacher": job.teacher}


def study(
    models: Sequence[str],
    data: str,
    out: Path,
    methods: Sequence[str] = METHODS,
    settings: Sequence[str] = (),
    workers: int = 2,
) -> list[dict[str, Any]]:
    """Run what is not there yet and return every summary."""
    listed = jobs(models, data, out, methods, settings)
    results = []
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        for done, summary in enumerate(pool.map(run, listed), 1):
            results.append(summary)
            gate = summary["gate"]["verdict"]
            print(
                f"{done}/{len(listed)} {summary['method']}: {summary['student']} from {summary['teacher']}: "
                f"{summary['ungated_transfer_delta']:+.2f} ungated, {summary['transfer_delta']:+.2f} {gate}",
                flush=True,
            )
    (out / "results.json").write_text(json.dumps(results, indent=1))
    return results


def table(results: Sequence[dict[str, Any]], models: Sequence[str], gated: bool) -> list[str]:
    """Write one row of Markdown for each method."""
    from crossteach.functional.statistics import holm
    from crossteach.functional.study import study_interval, summarise_study

    rows = [
        "| method | runs | mean Δ | median Δ | worst Δ | success, mean student | success, worst student | harm | "
        "significant harm | Holm | accepted | against control |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    deltas = {m: matrix(results, models, m, gated) for m in dict.fromkeys(r["method"] for r in results)}
    for method, values in deltas.items():
        mine = [r for r in results if r["method"] == method]
        part = [r if gated else r["ungated"] for r in mine]
        s = summarise_study(
            [r["student"] for r in mine],
            [p["transfer_delta"] for p in part],
            [p["interval"][1] for p in part],
            [r["gate"]["verdict"] == "accepted" for r in mine],
        )
        control = best_control(deltas, method)
        claim = "·"
        if control is not None:
            found = study_interval(values - deltas[control], models, models)
            bounds = "no interval" if found.low is None else f"{found.low:+.2f} to {found.high:+.2f}"
            claim = f"{found.estimate:+.2f} ({bounds}) to {control}"
        small = holm([p["p_value"] for p in part]) < 0.05
        up = sum(bool(sure) and p["transfer_delta"] > 0 for sure, p in zip(small, part, strict=True))
        accepted = f"{s.coverage:.0f}%" if gated else "·"
        rows.append(
            f"| `{method}` | {s.runs} | {s.mean_delta:+.2f} | {s.median_delta:+.2f} | {s.worst_delta:+.2f} | "
            f"{s.success_mean:.0f}% | {s.success_worst:.0f}% | {s.harm:.0f}% | {s.significant_harm:.0f}% | "
            f"{up} up, {int(small.sum()) - up} down | {accepted} | {claim} |"
        )
    return rows


def matrix(results: Sequence[dict[str, Any]], models: Sequence[str], method: str, gated: bool) -> np.ndarray:
    """Put one method's deltas into a student x teacher table; one that asks no teacher fills its student's row."""
    values = np.full((len(models), len(models)), np.nan)
    for r in results:
        if r["method"] == method:
            delta = r["transfer_delta"] if gated else r["ungated_transfer_delta"]
            columns = [models.index(r["teacher"])] if r["teacher"] else list(range(len(models)))
            values[models.index(r["student"]), columns] = delta
    np.fill_diagonal(values, np.nan)
    return values


def best_control(deltas: dict[str, np.ndarray], method: str) -> str | None:
    """Choose the control with the highest mean among those that see the same labels."""
    if find_method(method).control:
        return None
    controls = [name for name in deltas if find_method(name).control]
    allowed = [name for name in controls if find_method(method).labels or not find_method(name).labels]
    return max(allowed, key=lambda c: float(np.nanmean(deltas[c])), default=None)


def on_selection(results: Sequence[dict[str, Any]]) -> list[str]:
    """Write each method's mean delta of the end of training on the gate part of the selection split."""
    rows = ["| method | mean Δ on selection |", "|---|---|"]
    for method in dict.fromkeys(r["method"] for r in results):
        ends = [
            r["gate"]["path"][-1]["delta"]["estimate"] for r in results if r["method"] == method if r["gate"]["path"]
        ]
        rows.append(f"| `{method}` | {np.mean(ends):+.2f} |" if ends else f"| `{method}` | · |")
    return rows


def by_gap(results: Sequence[dict[str, Any]]) -> list[str]:
    """Write the mean ungated delta apart for weaker and stronger teachers."""
    rows = ["| method | mean Δ, weaker teacher | mean Δ, stronger teacher |", "|---|---|---|"]
    for method in dict.fromkeys(r["method"] for r in results if r["teacher"]):
        mine = [r for r in results if r["method"] == method]
        means = []
        for stronger in (False, True):
            part = [
                r["ungated_transfer_delta"] for r in mine if (r["teacher_accuracy"] > r["accuracy_before"]) is stronger
            ]
            means.append(f"{np.mean(part):+.2f}" if part else "·")
        rows.append(f"| `{method}` | {means[0]} | {means[1]} |")
    return rows


def show(results: Sequence[dict[str, Any]], models: Sequence[str]) -> str:
    """Return the whole result as Markdown."""
    names = {r["student"]: r["accuracy_before"] for r in results}
    parts = [
        "Models: " + ", ".join(f"`{name}` {accuracy:.2f}%" for name, accuracy in names.items()) + ".",
        "### Ungated: the end of training",
        "\n".join(table(results, models, gated=False)),
        "### Gated: what is returned",
        "\n".join(table(results, models, gated=True)),
        "### Weaker and stronger teachers, ungated",
        "\n".join(by_gap(results)),
        "### The choice of a default: on the selection split",
        "\n".join(on_selection(results)),
    ]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Run the study and print its tables."""
    parser = argparse.ArgumentParser(description="Every ordered pair, every method, against the controls.")
    parser.add_argument("models", nargs="+", help="two or more model specs")
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="KEY=VALUE")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    results = study(
        arguments.models, arguments.data, arguments.out, arguments.methods, arguments.settings, arguments.workers
    )
    print(show(results, arguments.models))


if __name__ == "__main__":
    main()
