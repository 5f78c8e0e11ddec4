"""Published models teach each other: file types and languages, students and teachers that nobody here has trained.

    python recipes/file_types.py --out runs/file_types              # weights and snippets, see there
    python recipes/languages_figures.py --out runs/languages        # weights and strings, see there
    python recipes/page_orientation.py --out runs/pages             # weights and crops of pages, see there
    python recipes/published_models.py [PART ...] [--methods NAME ...] [--out runs/published_models]
    python recipes/published_models.py --road PART                  # every step once, see published_road.py
    python recipes/published_models.py --best ROWS.parquet          # what all know together, see best_ensemble.py

Each part is a plan for `crossteach sweep`: what is whole is not run again. A model keeps its own classes; those that
others have too bear the same names. Nothing of the pools' labels is read. docs/published_models.md has the figures of
2026-11-27.
"""

import argparse
from pathlib import Path
from typing import Any

import best_ensemble
import numpy as np
import published_road
import pyarrow as pa
import pyarrow.parquet as pq
from page_orientation_models import spec as page
from study import chosen_parts, read_rows, run_part, write_rows

from crossteach.runs import read_json

FILE_TYPES = ("guesslang", "magika_05", "magika_10")
LANGUAGES = ("lid176", "py3langid")
PAGES = ("lcnet", "orinet")
STEPS = 1500
PAGE_SETTINGS = {"optim.steps": 100, "optim.batch_size": 32, "optim.probe_steps": 10}
PAGE_POOL = 2400
"""Crops of the pool: a core takes a second for a step of 32, and OriNet answers thirty a second."""
POOL = 12_000
"""Snippets of the pool: Magika answers a hundred a second on one core."""
RATES = ((1e-3, 1e-4), (1e-4, 1e-4), (3e-4, 3e-5), (3e-3, 3e-4), (3e-3, 3e-3))
"""Of guesslang, and of its tables, in place of what the probe finds."""
ADDED = ("ensemble", "rate", *best_ensemble.NUMBERS)
Row = dict[str, Any]


def method(name: str, label: str, **settings: Any) -> dict[str, Any]:
    """Write a method of a plan under a label of its own."""
    return {"method": name, "name": label, "settings": settings}


def file_type(model: str, place: Path) -> str:
    """Write the spec of a model of file types over the shared classes."""
    return f"py:recipes/file_types_models.py:{model}@{place / model}.safetensors?classes=recipes/file_types/{model}.csv"


def language(model: str, place: Path) -> str:
    """Write the spec of a language identifier over the shared classes."""
    return f"py:recipes/languages_models.py:{model}@{place / model}.safetensors?classes=recipes/languages/{model}.csv"


def plans(file_types: Path, languages: Path, pages: Path) -> dict[str, dict[str, Any]]:
    """List the parts, what costs least first."""
    found: dict[str, dict[str, Any]] = {}
    learned = [
        method("auto", "learned"),
        method("kl+dp-unsupervised", "most confident"),
        method("kl+ensemble", "ensemble"),
    ]
    shorter = method("auto", "learned, 300 steps", **{"optim.steps": STEPS // 5})
    others = [method("kl", "kl"), method("xe+dp", "seen", **{"pool.share": 0})]
    for size in ("", "_12"):
        models = [language(name, languages) for name in LANGUAGES]
        data = f"csv:{languages}/strings{size}.parquet"
        for name, student in zip(LANGUAGES, models, strict=True):
            found[f"languages{size}-{name}"] = {
                "data": data,
                "pools": [data],
                "pairs": [[student, next(other for other in models if other != student)]],
                "settings": {"optim.steps": STEPS},
                "methods": [*learned, *others],
            }
    student, others_of = language(LANGUAGES[0], languages), language(LANGUAGES[1], languages)
    black_box = f"predictions:{languages}/strings_cld3.npz"
    for name, teachers in (("cld3", black_box), ("all", [others_of, black_box])):
        found[f"languages-{LANGUAGES[0]}-{name}"] = {
            **found[f"languages-{LANGUAGES[0]}"],
            "pairs": [[student, teachers]],
            "methods": learned[:1],
        }
    for size, methods in (("", [learned[0], *others[::-1], *learned[1:]]), ("_100", [learned[0], others[1]])):
        for name in PAGES:
            found[f"pages{size}-{name}"] = {
                "data": f"npz:{pages}/pages.npz" + ("?train_samples=100" if size else ""),
                "pools": [f"npz:{pages}/pool.npz?samples={PAGE_POOL}"],
                "pairs": [[page(name, pages), page(next(other for other in PAGES if other != name), pages)]],
                "settings": PAGE_SETTINGS,
                "methods": methods,
            }
    for size in (200, 1000):
        for name in FILE_TYPES:
            models = [file_type(other, file_types) for other in FILE_TYPES if other != name]
            found[f"files_{size}-{name}"] = {
                "data": f"csv:{file_types}/snippets_{size}.parquet?text=text",
                "pools": [f"csv:{file_types}/pool_{size}.parquet?text=text&samples={POOL}"],
                "pairs": [[file_type(name, file_types), models], [file_type(name, file_types), models[0]]],
                "settings": {"optim.steps": STEPS if name == "guesslang" else STEPS // 5},
                "methods": [*learned, shorter] if name == "guesslang" else learned[:1],
            }
    part = found["files_1000-guesslang"]
    tries = [
        method(
            "auto", f"learned, 300 steps, rate {lr:g}, tables {tables:g}", **{"optim.lr": lr, "optim.table_lr": tables}
        )
        for lr, tables in RATES
    ]
    as_it_ended = {"optim.lr": 1e-3, "optim.table_lr": 1e-3, "gate.ask": False}
    tries.append(method("auto", "learned, 300 steps, as it ended", **as_it_ended))
    found["files_1000-guesslang-rates"] = {
        **part,
        "pairs": part["pairs"][:1],
        "settings": {"optim.steps": STEPS // 5},
        "methods": tries,
    }
    for name in ("even", "whole"):
        pool = f"{file_types}/pool_1000{'_even' if name == 'even' else ''}.parquet"
        found[f"files_1000-guesslang-{name}"] = {
            **part,
            "pools": [f"csv:{pool}?text=text"],
            "pairs": part["pairs"][:1],
            "methods": [shorter, learned[0]],
        }
    return found


PARTS = list(plans(Path(), Path(), Path()))


def chosen_methods(parser: argparse.ArgumentParser, plan: dict[str, Any], names: list[str] | None) -> dict[str, Any]:
    """Keep the methods of a plan that are asked for, by their names; end with one line if it lacks one."""
    methods = {row["name"]: row for row in plan["methods"]}
    unknown = [name for name in names or () if name not in methods]
    if unknown:
        parser.error(f"there is no method {unknown[0]!r} in this part; expected {', '.join(methods)}")
    return {**plan, "methods": [methods[name] for name in names or methods]}


def gather(out: Path, known: dict[str, dict[str, Any]]) -> Path:
    """Put the rows of all parts that have any into one table."""
    rows, schema = read_rows(out, PARTS)
    for row in rows:
        summary = read_json(out / row["part"] / "jobs" / row["job"] / "summary.json")
        row["ensemble"], row["rate"] = summary["ensemble_accuracy"], summary["training"].get("lr")
    return write(out / "published_models.parquet", rows, schema, known)


def write(path: Path, rows: list[Row], schema: pa.Schema, known: dict[str, dict[str, Any]]) -> Path:
    """Write rows with what student and teachers know together."""
    best_ensemble.add_best(rows, known)
    own = [field for field in schema if field.name not in (*ADDED, "best_ensemble")]
    return write_rows(path, rows, pa.schema([*own, pa.field("best_ensemble", pa.string())]), ADDED)


def table(path: Path) -> None:
    """Print what each run began with, what its teachers know, and what it gained; deltas in points on test."""
    shares = "ungated | of the best | returned | of the best"
    print(f"| part | teachers | method | before | mean | best ensemble | {shares} | 95% | verdict |\n|{'---|' * 12}")
    for row in pq.read_table(path).to_pylist():
        before, best, low, high = (
            row[k] for k in ("accuracy_before", "best_accuracy", "interval_low", "interval_high")
        )
        told = []
        for delta in (row["ungated_transfer_delta"], row["transfer_delta"]):
            told += [f"{delta:+.2f}", f"{100 * delta / (best - before):.0f}%" if best > before + 0.5 else "-"]
        print(
            f"| {row['part']} | {row['teacher_name']} | {row['method']} | {before:.1f} | {row['ensemble']:.1f} | "
            f"{best:.1f}, {row['best_ensemble']} | {' | '.join(told)} | {low:+.2f} to {high:+.2f} | {row['verdict']} |"
        )
    print(
        f"\nmean of the returned deltas {np.mean([r['transfer_delta'] for r in pq.read_table(path).to_pylist()]):+.2f}"
    )


def main() -> None:
    """Run what is not run yet, part by part, or print the table of what was run."""
    parser = argparse.ArgumentParser(description="Published models teach each other.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--out", type=Path, default=Path("runs/published_models"))
    parser.add_argument("--file-types", type=Path, default=Path("runs/file_types"))
    parser.add_argument("--languages", type=Path, default=Path("runs/languages"))
    parser.add_argument("--pages", type=Path, default=Path("runs/pages"))
    parser.add_argument("--methods", nargs="+", metavar="NAME", help="of a part's methods; all by default")
    parser.add_argument("--road", choices=PARTS, metavar="PART", help="walk every step once with a part's first pair")
    parser.add_argument("--best", type=Path, help="a file of rows: measure anew what all know together, and stop")
    parser.add_argument("--table", type=Path, help="a file of rows: print its table and stop")
    arguments = parser.parse_args()
    if arguments.table:
        table(arguments.table)
        return
    known = plans(arguments.file_types, arguments.languages, arguments.pages)
    if arguments.best:
        rows = pq.read_table(arguments.best)
        table(write(arguments.best, rows.to_pylist(), rows.schema, known))
        return
    if arguments.road:
        place = arguments.out / "road" / arguments.road
        published_road.tell(arguments.road, published_road.walk(known[arguments.road], place))
        return
    for part in chosen_parts(parser, arguments.parts, PARTS):
        run_part(part, chosen_methods(parser, known[part], arguments.methods), arguments.out)
        table(gather(arguments.out, known))


if __name__ == "__main__":
    main()
