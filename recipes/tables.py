"""Every ordered pair of twelve models against the controls, and what it says of students, gate and ensemble.

    python recipes/study.py [--plan recipes/core.yaml] [--out runs/core]

Runs the plan with `crossteach.sweep` (what is whole is not run again), scouts the same models for the ensembles' gains,
and prints tables. The results stand in benchmarks/, the table of all runs as parquet beside them.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from scipy.stats import spearmanr

import crossteach

Row = dict[str, Any]


def by_method(summary: dict[str, Any]) -> list[str]:
    """Write each method, ungated and gated."""
    lines = [
        "| method | | runs | mean Δ | median Δ | worst Δ | success: mean, median, worst student | harm | "
        "significant harm | accepted | against control |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for method in summary["methods"]:
        for kind in ("ungated", "gated"):
            s = method[kind]
            claim = s["claim"]
            told = (
                f"{claim['estimate']:+.2f} ({claim['low']:+.2f} to {claim['high']:+.2f}) to `{claim['control']}`"
                if claim
                else "·"
            )
            taken = f"{s['coverage']:.0f}%" if kind == "gated" else "·"
            lines.append(
                f"| `{method['method']}` | {kind} | {s['runs']} | {s['mean_delta']:+.2f} | {s['median_delta']:+.2f} | "
                f"{s['worst_delta']:+.2f} | {s['success_mean']:.0f}%, {s['success_median']:.0f}%, "
                f"{s['success_worst']:.0f}% | {s['harm']:.1f}% | {s['significant_harm']:.1f}% | {taken} | {told} |"
            )
    return lines


def by_student(rows: list[Row], methods: list[str]) -> list[str]:
    """Write each student: its mean ungated delta and its success with each method."""
    students = sorted({r["student_name"] for r in rows}, key=lambda n: first(rows, n)["accuracy_before"])
    lines = [
        f"| student | family | parameters | accuracy | `xe` | {' | '.join(f'`{m}`' for m in methods)} |",
        "|---|---|---|---|---|" + "---|" * len(methods),
    ]
    for name in students:
        one, cells = first(rows, name), []
        for method in methods:
            deltas = deltas_of(rows, method, name)
            if deltas:
                success = 100 * np.mean(np.array(deltas) > 0)
                cells.append(f"{np.mean(deltas):+.2f}, worst {min(deltas):+.2f}, success {success:.0f}%")
            else:
                cells.append("·")
        plain = deltas_of(rows, "xe", name)
        lines.append(
            f"| {name} | {one['student_family']} | {one['student_params']:,} | {one['accuracy_before']:.2f}% | "
            f"{f'{plain[0]:+.2f}' if plain else '·'} | {' | '.join(cells)} |"
        )
    return lines


def first(rows: list[Row], student: str) -> Row:
    """Return any row of a student."""
    return next(r for r in rows if r["student_name"] == student)


def deltas_of(rows: list[Row], method: str, student: str) -> list[float]:
    """Return the ungated deltas of a method for a student."""
    return [r["ungated_transfer_delta"] for r in rows if r["method"] == method and r["student_name"] == student]


def influence(rows: list[Row], methods: list[str], resamples: int = 2000) -> list[str]:
    """Write how the ungated delta goes with properties of a pair: Spearman, with a bootstrap over students."""
    properties = {
        "teacher − student accuracy": lambda r: r["teacher_accuracy"] - r["accuracy_before"],
        "positive flips": lambda r: r["positive_flips"],
        "student's accuracy": lambda r: r["accuracy_before"],
        "student's parameters": lambda r: r["student_params"],
        "student is convolutional": lambda r: float(r["student_family"] == "convolutional"),
        "same family": lambda r: float(r["student_family"] == r["teacher_family"]),
    }
    lines = [f"| property | {' | '.join(f'`{m}`' for m in methods)} |", "|---|" + "---|" * len(methods)]
    for name, of in properties.items():
        cells = []
        for method in methods:
            mine = [r for r in rows if r["method"] == method]
            students = sorted({r["student"] for r in mine})
            grouped = {s: [r for r in mine if r["student"] == s] for s in students}
            rng, found = np.random.default_rng(0), []
            for _ in range(resamples):
                drawn = [r for s in rng.choice(students, len(students)) for r in grouped[s]]
                x = [of(r) for r in drawn]
                if len(set(x)) > 1:
                    found.append(spearmanr(x, [r["ungated_transfer_delta"] for r in drawn]).statistic)
            rho = spearmanr([of(r) for r in mine], [r["ungated_transfer_delta"] for r in mine]).statistic
            low, high = np.quantile(found, [0.025, 0.975]) if found else (np.nan, np.nan)
            cells.append(f"{rho:+.2f} ({low:+.2f} to {high:+.2f})")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def ensemble_share(rows: list[Row], methods: list[str], ceilings: dict[tuple[str, str], float]) -> list[str]:
    """Write how much of the two-model ensemble's gain, where it is a point or more, ended up in one model."""
    lines = []
    for method in methods:
        shares = []
        for r in rows:
            if r["method"] == method and r["teachers"]:
                gain = ceilings[r["student"], r["teachers"][0]] - r["accuracy_before"]
                if gain >= 1:
                    shares.append((100 * r["ungated_transfer_delta"] / gain, r["student_name"], r["teacher_name"]))
        best = sorted(shares, reverse=True)[:5]
        told = ", ".join(f"{student} from {teacher} {share:.0f}%" for share, student, teacher in best)
        mean = np.mean([share for share, *_ in shares]) if shares else np.nan
        lines.append(f"`{method}`: {mean:.1f}% on average over {len(shares)} pairs; best five: {told}.")
    return lines


def without_labels(out: Path, rows: list[Row], methods: list[str]) -> list[str]:
    """Write how often the label-free criterion would have been wrong about the end of training."""
    lines = []
    for method in methods:
        found = []
        for r in rows:
            if r["method"] == method:
                summary = json.loads((out / "jobs" / r["job"] / "summary.json").read_text())
                found.append((summary["gate"]["label_free"]["speaks_for"], r["ungated_transfer_delta"]))
        taken = [delta for speaks, delta in found if speaks]
        left = [delta for speaks, delta in found if not speaks]
        lost = sum(delta < 0 for delta in taken)
        missed = sum(delta > 0 for delta in left)
        lines.append(
            f"`{method}`: it speaks for {len(taken)} of {len(found)} ends of training (mean Δ "
            f"{np.mean(taken) if taken else 0:+.2f}, the others {np.mean(left) if left else 0:+.2f}); {lost} of those "
            f"lost accuracy on test, and of the {len(left)} it speaks against {missed} gained."
        )
    return lines


def main() -> None:
    """Run what is not run yet, and print the tables."""
    parser = argparse.ArgumentParser(description="All pairs of twelve models against the controls.")
    parser.add_argument("--plan", default=str(Path(__file__).parent / "core.yaml"))
    parser.add_argument("--out", type=Path, default=Path("runs/core"))
    arguments = parser.parse_args()
    summary = crossteach.sweep(arguments.plan, arguments.out)
    rows = pq.read_table(arguments.out / "results.parquet").to_pylist()
    methods = [m["method"] for m in summary["methods"] if not m["control"]]
    specs = [m["spec"] for m in summary["models"]]
    models = [crossteach.load_model(spec) for spec in specs]
    found = crossteach.scout(models, crossteach.load_data(summary["data"]), embeddings="none").summary
    spec_of = dict(zip((m["name"] for m in found["models"]), specs, strict=True))
    ceilings = {
        (spec_of[p["student"]], spec_of[p["teacher"]]): p["ceilings"]["mean_probability"] for p in found["pairs"]
    }
    parts = {
        "Methods": by_method(summary),
        "Students, ungated": by_student(rows, methods),
        "What the delta goes with (Spearman, bootstrap over students)": influence(rows, methods),
        "How much of the ensemble's gain is in one model": ensemble_share(rows, methods, ceilings),
        "The criterion without labels": without_labels(arguments.out, rows, methods),
    }
    for title, lines in parts.items():
        print(f"## {title}\n\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
