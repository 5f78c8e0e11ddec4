"""What a study says: tables of methods, students and conditions from its rows.

    python recipes/tables.py benchmarks/STUDY_CPU_2026-11-24.parquet [--parts core family ...]

The rows are those that recipes/study.py gathers, or the results.parquet of any sweep. Deltas are in points on the test
split. Intervals come from a two-way bootstrap over students and teachers.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from scipy.stats import spearmanr

from crossteach.functional.statistics import Interval, two_way_bootstrap
from crossteach.sweeping.study import AREAS, describe_methods
from crossteach.transferring.methods import DEFAULT_WITH_LABELS, DEFAULT_WITHOUT_LABELS

Row = dict[str, Any]

BASES = {
    **dict.fromkeys(("paper", "family", "objectives", "teachers", "core-kl"), "core"),
    "fashion-search": "fashion",
}
"""Parts on the data and the models of another, whose controls and defaults stand for theirs too."""

PUBLISHED = {
    "kl": (32.5, 32.5, 0.0, -0.30, -6.76),
    "xe-kl": (42.5, 42.3, 0.0, -0.02, -4.52),
    "cd": (0.0, 16.3, 0.0, -1.90, -84.0),
    "crd": (0.0, 16.8, 0.0, -0.82, -4.75),
    "xe-kl+mcl": (80.0, 60.8, 0.0, -6.45, -80.3),
    "kl+dp": (92.5, 73.8, 0.0, 0.32, -1.97),
    "kl+dp-unsupervised": (82.5, 69.0, 0.0, -0.06, -82.2),
}
"""The paper's success (median, mean, worst student), mean and worst delta: 20 ImageNet students x 20 teachers."""

DEFAULTS = (DEFAULT_WITH_LABELS, DEFAULT_WITHOUT_LABELS)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Write rows under their heads."""
    return [f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *rows)]


def by_method(rows: list[Row]) -> list[str]:
    """Write each method, ungated and gated."""
    lines = []
    for method in describe_methods(rows):
        for kind in ("ungated", "gated"):
            s = method[kind]
            if s is None:
                continue
            claim = s["claim"]
            found = Interval(claim["estimate"], claim["low"], claim["high"]) if claim else None
            told = f"{bounded(found, '+.2f')} to `{claim['control']}`" if found else "·"
            lines.append(
                [
                    *(f"`{method['method']}`", kind, str(s["runs"]), f"{s['mean_delta']:+.2f}"),
                    *(f"{s['median_delta']:+.2f}", f"{s['worst_delta']:+.2f}"),
                    f"{s['success_mean']:.0f}%, {s['success_median']:.0f}%, {s['success_worst']:.0f}%",
                    f"{s['harm']:.1f}% ({s['significant_harm']:.1f}%)",
                    f"{s['coverage']:.0f}%" if kind == "gated" else "·",
                    f"{s['selection_delta']:+.2f}" if s.get("selection_delta") is not None else "·",
                    told,
                ]
            )
    heads = ["method", "", "runs", "mean Δ", "median Δ", "worst Δ", "success: mean, median, worst student"]
    return table([*heads, "harm (significant)", "accepted", "Δ on selection", "against control"], lines)


MEASURES: dict[str, tuple[str, Callable[[float], float], str]] = {
    "mean Δ": ("transfer_delta", float, "+.2f"),
    "success, % of pairs": ("transfer_delta", lambda delta: 100.0 * (delta > 0), ".0f"),
    "harm, % of pairs": ("transfer_delta", lambda delta: 100.0 * (delta < -0.1), ".1f"),
    "gain, %": ("knowledge_gain", float, ".2f"),
    "loss, %": ("knowledge_loss", float, ".2f"),
    "transfer rate, %": ("transfer_rate", float, ".1f"),
}
"""What a row says: its column, what becomes of it, and how it is written."""


def with_intervals(rows: list[Row]) -> list[str]:
    """Write what was measured of each method, each with a two-way bootstrap over students and teachers."""
    lines = []
    students, teachers = models_of(rows)
    for method, mine in grouped(rows, "method"):
        for kind, prefix in (("ungated", "ungated_"), ("gated", "")):
            cells = []
            for column, change, form in MEASURES.values():
                values = matrix(mine, method, students, teachers, prefix + column)
                known = np.isfinite(values)
                values[known] = [change(value) for value in values[known]]
                found = two_way_bootstrap(values) if known.any() else None
                cells.append("·" if found is None else bounded(found, form))
            lines.append([f"`{method}`", kind, *cells])
    return table(["method", "", *MEASURES], lines)


def bounded(found: Interval, form: str) -> str:
    """Write an estimate and its bounds in a form of their own."""
    return f"{found.estimate:{form}} ({found.low:{form}} to {found.high:{form}})"


def models_of(rows: list[Row]) -> tuple[list[str], list[str]]:
    """List students and teachers."""
    return sorted({r["student"] for r in rows}), sorted({r["teacher"] for r in rows if r["teacher"]})


def beside_the_paper(rows: list[Row]) -> list[str]:
    """Write success as the paper measures it, beside the paper's own numbers."""
    lines = []
    for method in describe_methods(rows):
        s, name = method["ungated"], method["method"].removeprefix("paper: ")
        if s is None or method["control"]:
            continue
        theirs = PUBLISHED.get(name)
        lines.append(
            [
                f"`{method['method']}`",
                f"{s['success_median']:.1f}%, {s['success_mean']:.1f}%, {s['success_worst']:.1f}%",
                f"{s['mean_delta']:+.2f}, {s['worst_delta']:+.2f}",
                "{:.1f}%, {:.1f}%, {:.1f}%".format(*theirs[:3]) if theirs else "·",
                "{:+.2f}, {:+.2f}".format(*theirs[3:]) if theirs else "·",
            ]
        )
    heads = ["method", "ours, success: median, mean, worst student", "mean, worst Δ"]
    return table([*heads, "the paper's success", "the paper's mean, worst Δ"], lines)


def transferred(rows: list[Row]) -> list[str]:
    """Write gain, loss and transfer rate, and how the rate rises in the areas of expertise."""
    lines = []
    for method, mine in grouped(rows, "method"):
        kept = [r for r in mine if r["teacher"] and r["ungated_transfer_rate"] is not None]
        if not kept:
            continue
        areas = []
        for area in AREAS:
            known = [r for r in kept if r.get(f"ungated_transfer_rate_{area}") is not None]
            areas.append(f"{np.mean([r[f'ungated_transfer_rate_{area}'] for r in known]):.1f}%" if known else "·")
        means = [np.mean([r[f"ungated_{key}"] for r in kept]) for key in ("knowledge_gain", "knowledge_loss")]
        rate = np.mean([r["ungated_transfer_rate"] for r in kept])
        lines.append([f"`{method}`", *(f"{m:.2f}%" for m in means), f"{rate:.1f}%", *areas])
    return table(["method", "gain", "loss", "transfer rate", *(f"in the area of {a}%" for a in AREAS)], lines)


def by_student(rows: list[Row]) -> list[str]:
    """Write each student: mean, worst and success of the end of training with each method that has a teacher."""
    methods = [m for m, mine in grouped(rows, "method") if mine[0]["teacher"]]
    plain = [m for m, mine in grouped(rows, "method") if not mine[0]["teacher"]]
    lines = []
    for name, mine in sorted(grouped(rows, "student_name"), key=lambda item: item[1][0]["accuracy_before"]):
        cells = []
        for method in (*plain, *methods):
            deltas = ungated([r for r in mine if r["method"] == method])
            if len(deltas) > 1:
                cells.append(f"{np.mean(deltas):+.2f}, {min(deltas):+.2f}, {100 * np.mean(deltas > 0):.0f}%")
            else:
                cells.append(f"{deltas[0]:+.2f}" if len(deltas) else "·")
        one = mine[0]
        lines.append(
            [name, one["student_family"], f"{one['student_params']:,}", f"{one['accuracy_before']:.2f}%", *cells]
        )
    heads = ["student", "family", "parameters", "accuracy", *(f"`{m}`" for m in plain)]
    return table([*heads, *(f"`{m}`: mean, worst, success" for m in methods)], lines)


def influence(rows: list[Row], resamples: int = 2000) -> list[str]:
    """Write how the ungated delta goes with properties of a pair: Spearman, with a bootstrap over students."""
    properties = {
        "teacher − student accuracy": lambda r: r["teacher_accuracy"] - r["accuracy_before"],
        "positive flips": lambda r: r["positive_flips"],
        "student's accuracy": lambda r: r["accuracy_before"],
        "student's parameters": lambda r: r["student_params"],
        "student is convolutional": lambda r: float(r["student_family"] == "convolutional"),
        "same family": lambda r: float(r["student_family"] == r["teacher_family"]),
    }
    methods = [m for m, mine in grouped(rows, "method") if mine[0]["teacher"]]
    lines = []
    for name, of in properties.items():
        cells = []
        for method in methods:
            mine = [r for r in rows if r["method"] == method]
            of_student = dict(grouped(mine, "student"))
            rng, found = np.random.default_rng(0), []
            for _ in range(resamples):
                drawn = [r for s in rng.choice(list(of_student), len(of_student)) for r in of_student[s]]
                x = [of(r) for r in drawn]
                if len(set(x)) > 1:
                    found.append(spearmanr(x, ungated(drawn)).statistic)
            x = [of(r) for r in mine]
            rho = spearmanr(x, ungated(mine)).statistic if len(set(x)) > 1 else np.nan
            low, high = np.quantile(found, [0.025, 0.975]) if found else (np.nan, np.nan)
            cells.append(f"{rho:+.2f} ({low:+.2f} to {high:+.2f})")
        lines.append([name, *cells])
    return table(["property", *(f"`{m}`" for m in methods)], lines)


def ensemble_share(rows: list[Row]) -> list[str]:
    """Write how much of the ensemble's gain, where it is a point or more, ended up in one model."""
    lines = []
    for method, mine in grouped(rows, "method"):
        shares = []
        for r in mine:
            gain = (r.get("ensemble_accuracy") or 0) - max(r["accuracy_before"], 0)
            if r["teacher"] and gain >= 1 and r["ungated_transfer_delta"] is not None:
                shares.append((100 * r["ungated_transfer_delta"] / gain, r["student_name"], r["teacher_name"]))
        if shares:
            best = ", ".join(f"{s} from {t} {share:.0f}%" for share, s, t in sorted(shares, reverse=True)[:5])
            lines.append(
                f"- `{method}`: {np.mean([s for s, *_ in shares]):.1f}% on average over {len(shares)}; {best}."
            )
    return lines


def without_labels(rows: list[Row]) -> list[str]:
    """Write how often the label-free criterion would have been wrong about the end of training."""
    lines = []
    for method, mine in grouped(rows, "method"):
        known = [r for r in mine if r["teacher"] and r.get("label_free") is not None and len(ungated([r]))]
        if not known:
            continue
        taken, left = (ungated([r for r in known if r["label_free"] is side]) for side in (True, False))
        means = [f"{np.mean(deltas):+.2f}" if len(deltas) else "·" for deltas in (taken, left)]
        lines.append(
            f"- `{method}`: speaks for {len(taken)} of {len(known)} ends of training (mean Δ {means[0]}, the others "
            f"{means[1]}); {(taken < 0).sum()} of those lost accuracy on test; of the {len(left)} it speaks against, "
            f"{(left > 0).sum()} gained."
        )
    return lines


def against(rows: list[Row], method: str, others: Sequence[str]) -> list[str]:
    """Write the paired difference of one method to others, over the pairs they share, ungated."""
    students, teachers = models_of(rows)
    values = matrix(rows, method, students, teachers)
    lines = []
    for other in others:
        difference = values - matrix(rows, other, students, teachers)
        if np.isfinite(difference).any():
            found = two_way_bootstrap(difference)
            lines.append(f"- `{method}` − `{other}`: {bounded(found, '+.2f')}")
    return lines


def matrix(
    rows: list[Row],
    method: str,
    students: list[str],
    teachers: list[str],
    column: str = "ungated_transfer_delta",
) -> np.ndarray:
    """Put what a method's rows say into a table of students x teachers; a control fills its student's row."""
    values = np.full((len(students), len(teachers)), np.nan)
    for r in rows:
        if r["method"] == method and r[column] is not None:
            columns = [teachers.index(r["teacher"])] if r["teacher"] else slice(None)
            values[students.index(r["student"]), columns] = r[column]
    return values


def beside(rows: list[Row], base: list[Row]) -> list[Row]:
    """Put before a part's rows those that another has of the same pairs, and of the controls of its students."""
    pairs, students = {(r["student"], r["teacher"]) for r in rows}, {r["student"] for r in rows}
    own = {r["method"] for r in rows}
    same = [r for r in base if (r["student"], r["teacher"]) in pairs or (not r["teacher"] and r["student"] in students)]
    return [*(r for r in same if r["method"] not in own and not r["method"].startswith("paper: ")), *rows]


def several(rows: list[Row], core: list[Row]) -> list[str]:
    """Write, for each student of five teachers, what is returned in each order, beside single teachers and ensemble."""
    orders = [m for m, mine in grouped(rows, "method") if mine[0]["teacher"]]
    lines = []
    for name, mine in grouped(rows, "student_name"):
        cells = []
        for method in orders:
            found = [r["transfer_delta"] for r in mine if r["method"] == method]
            cells.append(f"{found[0]:+.2f}" if found else "·")
        one = next(r for r in mine if r["teacher"])
        alone = []
        for method in DEFAULTS:
            deltas = [
                r["transfer_delta"]
                for r in core
                if r["method"] == method and r["student"] == one["student"] and r["teacher"] in one["teachers"]
            ]
            alone.append(f"{np.mean(deltas):+.2f}, {max(deltas):+.2f}" if deltas else "·")
        ensemble = one.get("ensemble_accuracy")
        gain = "·" if ensemble is None else f"{ensemble - one['accuracy_before']:+.2f}"
        lines.append([name, *cells, *alone, gain])
    heads = ["student", *(f"`{m}`" for m in orders), *(f"one teacher, `{m}`: mean, best" for m in DEFAULTS)]
    means = []
    for method in orders:
        deltas = [r["transfer_delta"] for r in rows if r["method"] == method]
        means.append(f"{np.mean(deltas):+.2f}")
    lines.append(["**mean**", *means, "", "", ""])
    return table([*heads, "ensemble of all six"], lines)


def over_seeds(rows: list[Row]) -> list[str]:
    """Write how much the delta of one pair varies from seed to seed."""
    lines = []
    for method, mine in grouped(rows, "method"):
        spreads = []
        for _, same in grouped([{**r, "pair": (r["student"], r["teacher"])} for r in mine], "pair"):
            deltas = ungated(same)
            if len(deltas) > 1:
                spreads.append(np.std(deltas, ddof=1))
        means = [f"{np.mean(ungated(s)):+.2f}" for _, s in sorted(grouped(mine, "seed"))]
        if spreads:
            lines.append([f"`{method}`", " / ".join(means), f"{np.mean(spreads):.2f}", f"{max(spreads):.2f}"])
    return table(["method", "mean Δ by seed", "spread over seeds, mean pair", "largest"], lines)


def on_both(rows: list[Row]) -> list[str]:
    """Write what was returned on the test split of the own data and on the other, clean or corrupted."""
    lines = []
    for part, whole in grouped(rows, "part"):
        for method, mine in grouped([r for r in whole if r.get("delta_elsewhere") is not None], "method"):
            here, there = (np.array([r[key] for r in mine]) for key in ("transfer_delta", "delta_elsewhere"))
            lines.append(
                [
                    *(part, f"`{method}`", str(len(mine)), f"{here.mean():+.2f}, {here.min():+.2f}"),
                    f"{there.mean():+.2f}, {there.min():+.2f}",
                ]
            )
    return table(["taught on", "method", "runs", "gated Δ there: mean, worst", "on the other test: mean, worst"], lines)


def grouped(rows: list[Row], key: str) -> list[tuple[Any, list[Row]]]:
    """Group rows by a column, in the order of first appearance."""
    found: dict[Any, list[Row]] = {}
    for row in rows:
        found.setdefault(row[key], []).append(row)
    return list(found.items())


def ungated(rows: list[Row]) -> np.ndarray:
    """Return the deltas of the ends of training."""
    deltas = [r["ungated_transfer_delta"] for r in rows]
    return np.array([d for d in deltas if d is not None], float)


def sections(parts: dict[str, list[Row]]) -> Iterator[tuple[str, list[str]]]:
    """Yield every table that the parts can fill."""
    core = parts.get("core") or next(iter(parts.values()))
    for part, rows in parts.items():
        base = parts.get(BASES.get(part, ""), [])
        yield f"{part}: methods", by_method(beside(rows, base))
    partition = parts.get("core-kl", [])
    twenty = [] if partition else [r for r in parts.get("family", []) if r["method"] == "kl+dp"]
    twenty += [r for r in parts.get("objectives", []) if r["method"].removeprefix("paper: ") in PUBLISHED]
    yield "Beside the paper", beside_the_paper([*core, *partition, *parts.get("paper", []), *twenty])
    yield "With intervals", with_intervals([*core, *partition, *parts.get("paper", [])])
    yield "Transfer rate in the areas of expertise, ungated", transferred([*core, *partition])
    yield "Students, ungated", by_student([*core, *partition])
    yield "What the delta goes with (Spearman, bootstrap over students)", influence(core)
    yield "How much of the ensemble's gain is in one model", ensemble_share(core)
    yield "The criterion without labels", without_labels(core)
    for part in ("paper", "family", "objectives", "fashion", "fashion-search"):
        rows = beside(parts.get(part, []), parts.get(BASES.get(part, ""), []))
        for method in DEFAULTS if rows else ():
            others = [m for m, _ in grouped(rows, "method") if m != method]
            yield f"{part}: `{method}` against every other, same pairs, ungated", against(rows, method, others)
    if "teachers" in parts:
        yield "Five teachers, what is returned", several(parts["teachers"], core)
    if "seeds" in parts:
        chosen = {(r["student"], r["teacher"]) for r in parts["seeds"]}
        first = [r for r in core if (r["student"], r["teacher"]) in chosen]
        yield "Three seeds", over_seeds(first + parts["seeds"])
    if "shifted" in parts:
        yield "Clean and corrupted", on_both(core + parts["shifted"])


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="Tables of a study.")
    parser.add_argument("results", type=Path, nargs="+", help="study.parquet, or the results.parquet of a sweep")
    parser.add_argument("--parts", nargs="+", help="only these")
    arguments = parser.parse_args()
    rows = [row for path in arguments.results for row in pq.read_table(path).to_pylist()]
    parts = dict(grouped([{"part": "results", **row} for row in rows], "part"))
    chosen = {part: found for part, found in parts.items() if not arguments.parts or part in arguments.parts}
    for title, lines in sections(chosen):
        print(f"## {title}\n\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
