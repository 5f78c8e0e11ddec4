"""What the runs of recipes/pool_study.py say, from their rows or from their folders.

    python recipes/pool_tables.py ROWS.parquet [ROWS.parquet ...]                # each method
    python recipes/pool_tables.py ROWS.parquet ... --against "pool, kl" ...      # the others against these, paired
    python recipes/pool_tables.py --beyond runs/pool_study/teams [FOLDER ...]    # samples that no tutor had right

Deltas are in points, at the end of training; means with a 95% interval over students, teachers and test samples. The
share is of what the better of teacher and ensemble has above the student. A paired difference is that of two methods
on the same student and teachers; a second round counts from where its student began. Its standard errors are over
pairs, as if no two of them shared a model.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from scipy.stats import spearmanr
from tables import bounded, models_of

from crossteach.runs import read_json
from crossteach.sweeping.study import compare, mean_delta

TEST, SELECTION = "ungated_transfer_delta", "ungated_selection_delta"
ROUNDS = {"a second round, all taught teachers": "pool, all teachers"}
"""A method whose students another has taught before."""
Row = dict[str, Any]
Pair = tuple[int, str, str]
Deltas = dict[Pair, tuple[float, float]]


def by_method(paths: list[Path]) -> dict[str, list[Row]]:
    """Read rows, by the name of their method."""
    methods: defaultdict[str, list[Row]] = defaultdict(list)
    for path in paths:
        for row in pq.read_table(path).to_pylist():
            methods[row["method"]].append(row)
    return dict(methods)


def table(methods: dict[str, list[Row]]) -> None:
    """Print mean, median and worst of each method, and of stronger and weaker teachers; deltas in points on test."""
    heads = "| runs | method | teachers | mean, 95% | median | worst | gain | of the best | returned | worst | harm |"
    print(f"{heads}\n{'|---' * 11}|")
    for name, rows in methods.items():
        groups = {"all": rows}
        if rows[0]["teacher_accuracy"] is not None and not isinstance(rows[0]["teacher_accuracy"], list):
            stronger = [r["teacher_accuracy"] >= r["accuracy_before"] for r in rows]
            groups |= {
                "stronger": [r for r, s in zip(rows, stronger, strict=True) if s],
                "weaker": [r for r, s in zip(rows, stronger, strict=True) if not s],
            }
        for which, some in groups.items():
            if some:
                print(f"| {len(some)} | {name} | {which} | {' | '.join(figures(some))} |")

    promised = [row for rows in methods.values() for row in rows if row["promise_learned"] is not None]
    gains = [row["promise_learned"] - row["promise_student"] for row in promised]
    if len(set(gains)) < 2:
        return
    ranks = spearmanr(gains, [row[TEST] for row in promised]).statistic
    print(f"\nRank correlation of what the learned rule promises with the delta: {ranks:.2f} ({len(promised)} runs)")


def figures(rows: list[Row]) -> list[str]:
    """Write the figures of some runs."""
    ended, returned = (np.array([r[key] for r in rows]) for key in (TEST, "transfer_delta"))
    room = np.array([best(r) - r["accuracy_before"] for r in rows])
    share = f"{100 * ended[room > 0].sum() / room[room > 0].sum():.0f}%" if (room > 0).any() else "-"
    return [
        bounded(mean_delta(rows, "ungated_", *models_of(rows)), "+.2f"),
        *(f"{value:+.2f}" for value in (np.median(ended), ended.min())),
        f"{100 * (ended > 0).mean():.0f}%",
        share,
        *(f"{value:+.2f}" for value in (returned.mean(), returned.min())),
        f"{100 * (returned < -0.1).mean():.0f}%",
    ]


def best(row: Row) -> float:
    """Return what the better of the best teacher and the mean of all has right, in %."""
    return max(row["ensemble"] or row["accuracy_before"], row["teacher_accuracy"] or row["accuracy_before"])


def pair(row: Row) -> Pair:
    """Name test split, student and teachers; students with more room, and taught ones, as they were before."""
    student = row["student_name"].removesuffix("_head").removesuffix("_wide")
    teachers = row["teacher_name"] if len(row["teachers"]) == 1 else f"{len(row['teachers'])} teachers"
    return row["n_test"], student, teachers


def deltas(methods: dict[str, list[Row]], name: str) -> Deltas:
    """Return the deltas of a method on selection and test; after a second round, of both rounds together."""
    found = {pair(row): (row[SELECTION], row[TEST]) for row in methods[name]}
    if name not in ROUNDS:
        return found
    first = deltas(methods, ROUNDS[name])
    return {key: (first[key][0] + selected, first[key][1] + tested) for key, (selected, tested) in found.items()}


def against(methods: dict[str, list[Row]], base: str) -> Iterator[str]:
    """Write the paired difference of every other method to one, over the pairs that both have taught."""
    theirs = deltas(methods, base)
    for name, rows in methods.items():
        ours = deltas(methods, name)
        common = [key for key in ours if key in theirs] if name != base else []
        if len(common) < 2:
            continue
        apart = np.array([np.subtract(ours[key], theirs[key]) for key in common])
        means, errors = apart.mean(0), apart.std(0, ddof=1) / np.sqrt(len(apart))
        told = [f"{mean:+.2f} ({error:.2f})" for mean, error in zip(means, errors, strict=True)]
        same = {(r["student"], r["teacher"]) for r in rows} & {(r["student"], r["teacher"]) for r in methods[base]}
        line = f"{name} − {base}: selection {told[0]}, test {told[1]}, higher on test in {(apart[:, 1] > 0).sum()}"
        if len(same) == len(common):
            both = [[r for r in some if (r["student"], r["teacher"]) in same] for some in (rows, methods[base])]
            found = compare(*both, "ungated_", *models_of([*both[0], *both[1]]))
            line += f", 95% {bounded(found, '+.2f')}"
        yield f"{line}; {len(common)} pairs"


def beyond(folder: Path) -> str:
    """Count over the runs of a sweep what students have right that no tutor had, and wrong that all had right."""
    counts = np.zeros(6, int)
    for job in read_json(folder / "jobs.json"):
        ledger = pq.read_table(folder / "jobs" / job["job"] / "samples.parquet").to_pydict()
        label = np.array(ledger["label"])
        names = ("pred_before", *(f"pred_teacher_{place}" for place in range(len(job["teachers"]))))
        tutors = np.stack([np.array(ledger[name]) == label for name in names])
        taught = np.array(ledger["pred_ungated"]) == label
        none, every = ~tutors.any(0), tutors.all(0)
        gained, lost = taught & ~tutors[0], ~taught & tutors[0]
        counts += [each.sum() for each in (none, none & taught, gained, every, every & ~taught, lost)]
    none, found, gained, every, forgot, lost = counts.tolist()
    cells = [f"{none}", f"{found} ({found / max(none, 1):.1%})", f"{found / max(gained, 1):.0%}"]
    cells += [f"{every}", f"{forgot} ({forgot / max(every, 1):.2%})", f"{forgot / max(lost, 1):.0%}"]
    return f"| {folder.name} | {' | '.join(cells)} |"


def main() -> None:
    """Print what is asked for."""
    parser = argparse.ArgumentParser(description="What the runs of the pool study say.")
    parser.add_argument("rows", nargs="*", type=Path, metavar="ROWS.parquet")
    parser.add_argument("--against", nargs="+", default=[], metavar="METHOD", help="by the name in the table")
    parser.add_argument(
        "--beyond", nargs="+", type=Path, default=[], metavar="FOLDER", help="of a part that has been run"
    )
    arguments = parser.parse_args()
    methods = by_method(arguments.rows)
    unknown = [name for name in arguments.against if name not in methods]
    if unknown:
        parser.error(
            f"the rows have no method {unknown[0]!r}; expected one of {', '.join(methods) or 'none: name a file'}"
        )
    for base in arguments.against:
        print("\n".join(against(methods, base)))
    if arguments.beyond:
        print(
            "| part | no tutor right | the student is | of its gains | all right | the student is not | of its losses |"
        )
        print("|---|---|---|---|---|---|---|")
        print("\n".join(map(beyond, arguments.beyond)))
    if methods and not arguments.against:
        table(methods)


if __name__ == "__main__":
    main()
