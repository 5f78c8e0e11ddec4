"""What a pool teaches: every ordered pair of the mid-size models, and all teachers at once. One command, resumable.

    python recipes/glyph_pool.py --fonts fonts --out runs/glyph_pool.npz    # its first lines say where the fonts are
    python recipes/dirty_pools.py --fonts fonts                             # for the parts that begin with dirty
    python recipes/pool_study.py [PART ...] [--out runs/pool_study]         # no PART runs all, in order
    python recipes/pool_study.py --table runs/pool_study/pool_study.parquet

Each part is a plan for `crossteach sweep`: what is whole is not run again. The models (recipes/mid_zoo.py) were trained
on 2,634 labelled images, the pool holds 52,000 without labels. All runs are of one length in steps, so that patience
alone explains nothing: `seen` is the same default on the labelled images alone. The rows of 2026-11-26 are in
benchmarks/POOL_CPU_2026-11-26.parquet.
"""

import argparse
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from scipy.stats import spearmanr
from study import chosen_parts, read_rows, run_part, write_rows

from crossteach.runs import read_json

ZOO = ("mlp_b", "mlp_a", "vit_a", "mix_a", "cnn_b", "res_a", "cnn_a")
MODELS = {name: f"py:recipes/mid_zoo.py:{name}@recipes/mid_zoo/{name}.safetensors" for name in ZOO}
DATA, STEPS = "glyphs?train_samples=2634", 1600
SEEN = {"pool.share": 0}
DIRTY = ("clean", "letters", "fashion", "noise", "unbalanced")
ADDED = ("ensemble", "promise_learned", "promise_student", "promise_best", "rate")
"""Columns beside those of a sweep."""
Row = dict[str, Any]


def method(name: str, label: str, **settings: Any) -> dict[str, Any]:
    """Write a method of a plan under a label of its own."""
    return {"method": name, "name": label, "settings": settings}


def plans(pool: str, dirty: Path) -> dict[str, dict[str, Any]]:
    """List the parts, what matters most first; `dirty` is the folder of recipes/dirty_pools.py."""
    shared = {"data": DATA, "pools": [pool], "settings": {"optim.steps": STEPS}}
    polluted = {
        "pairs": [[MODELS["mlp_a"], MODELS["cnn_a"]]],
        "seeds": [0, 1, 2],
        "methods": [
            method("kl+dp-learned", f"drop_below {share}", **{"pool.drop_below": share}) for share in (0, 0.05, 0.1)
        ],
    }
    teams = [[MODELS[student], [MODELS[name] for name in ZOO if name != student]] for student in ZOO]
    return {
        "pairs": {**shared, "models": list(MODELS.values()), "methods": [method("auto", "pool")]},
        "seen": {**shared, "models": list(MODELS.values()), "methods": [method("xe+dp", "seen", **SEEN)]},
        "teams": {**shared, "pairs": teams, "methods": [method("auto", "pool, all teachers")]},
        "rules": {
            **shared,
            "models": list(MODELS.values()),
            "methods": [method(name, f"pool, {name}") for name in ("kl", "kl+dp-unsupervised", "kl+ensemble")],
        },
        "controls": {
            **shared,
            "students": list(MODELS.values()),
            "methods": ["self", method("xe", "xe, seen", **SEEN)],
        },
        **{f"dirty-{kind}": {**shared, **polluted, "pools": [f"npz:{dirty / kind}.npz"]} for kind in DIRTY},
    }


def gather(out: Path, parts: list[str]) -> Path:
    """Put the rows of all parts that have any into one table, with the promise and the ensemble of each run."""
    rows, schema = read_rows(out, parts)
    for row in rows:
        summary = read_json(out / row["part"] / "jobs" / row["job"] / "summary.json")
        promised = {name: each["accuracy"] for name, each in (summary["promise"] or {"rules": {}})["rules"].items()}
        row["ensemble"], row["rate"] = summary["ensemble_accuracy"], summary["training"].get("lr")
        row["promise_learned"], row["promise_student"] = promised.get("learned"), promised.get("student")
        row["promise_best"] = max(promised.values(), default=None)
    return write_rows(out / "pool_study.parquet", rows, schema, ADDED)


def table(path: Path) -> None:
    """Print mean, median and worst of each method, and of stronger and weaker teachers; deltas in points on test."""
    methods: defaultdict[str, list[Row]] = defaultdict(list)
    for row in pq.read_table(path).to_pylist():
        methods[row["method"]].append(row)
    print("| runs | method | teachers | mean | median | worst | gain | of the ensemble | returned | worst | harm |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
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
    ranks = spearmanr(gains, [row["ungated_transfer_delta"] for row in promised]).statistic
    print(f"\nRank correlation of what the learned rule promises with the delta: {ranks:.2f} ({len(promised)} runs)")


def figures(rows: list[Row]) -> list[str]:
    """Write the figures of some runs."""
    ended, returned = (np.array([r[key] for r in rows]) for key in ("ungated_transfer_delta", "transfer_delta"))
    room = np.array([(r["ensemble"] or r["accuracy_before"]) - r["accuracy_before"] for r in rows])
    share = f"{100 * ended[room > 0].sum() / room[room > 0].sum():.0f}%" if (room > 0).any() else "-"
    return [
        *(f"{value:+.2f}" for value in (ended.mean(), np.median(ended), ended.min())),
        f"{100 * (ended > 0).mean():.0f}%",
        share,
        *(f"{value:+.2f}" for value in (returned.mean(), returned.min())),
        f"{100 * (returned < -0.1).mean():.0f}%",
    ]


def main() -> None:
    """Run what is not run yet, part by part, or print the table of what was run."""
    parser = argparse.ArgumentParser(description="What a pool teaches.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(plans('', Path()))}; all by default")
    parser.add_argument("--out", type=Path, default=Path("runs/pool_study"))
    parser.add_argument("--pool", default="npz:runs/glyph_pool.npz")
    parser.add_argument("--dirty", type=Path, default=Path("runs/dirty"))
    parser.add_argument("--table", type=Path, help="a file of rows: print its table and stop")
    arguments = parser.parse_args()
    if arguments.table:
        table(arguments.table)
        return
    known = plans(arguments.pool, arguments.dirty)
    asked = chosen_parts(parser, arguments.parts, list(known))
    for part in asked:
        run_part(part, known[part], arguments.out)
        print(f"rows gathered in {gather(arguments.out, list(known))}", flush=True)


if __name__ == "__main__":
    main()
