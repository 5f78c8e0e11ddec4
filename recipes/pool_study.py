"""What a pool teaches: every ordered pair of the mid-size models, and all teachers at once. One command, resumable.

    python recipes/glyph_pool.py --fonts fonts --out runs/glyph_pool.npz    # its first lines say where the fonts are
    python recipes/dirty_pools.py --fonts fonts                             # for the parts that begin with dirty
    python recipes/filtered_pools.py                                        # for those that begin with filtered
    python recipes/pool_study.py [PART ...] [--out runs/pool_study]         # no PART runs all, in order
    python recipes/pool_tables.py runs/pool_study/pool_study.parquet

Each part is a plan for `crossteach sweep`: what is whole is not run again. The models (recipes/mid_zoo.py) were trained
on 2,634 labelled images, the pool holds 52,000 without labels. All runs are of one length in steps, so that patience
alone explains nothing: `seen` is the same default on the labelled images alone. The rows of 2026-11-26 are in
benchmarks/POOL_CPU_2026-11-26.parquet.
"""

import argparse
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from pool_study_data import BLIND, DATA, labelled, write_blind, write_labelled
from study import chosen_parts, read_rows, run_part, write_rows

from crossteach.runs import read_json

ZOO = ("mlp_b", "vit_a", "mix_a", "mlp_a", "cnn_a", "cnn_b", "res_a")
"""From the weakest to the strongest on the selection split."""
MODELS = {name: f"py:recipes/mid_zoo.py:{name}@recipes/mid_zoo/{name}.safetensors" for name in ZOO}
STEPS, TWICE, LONG = 1600, 3200, 6400
SEEN = {"pool.share": 0}
CLOTHES_POOL = "idx:/usr/share/datasets/fashion-mnist"
CLOTHES = f"{CLOTHES_POOL}?selection_from=test&train_samples=10000"
"""Debian's package dataset-fashion-mnist: 10,000 images teach with labels, the 50,000 others of train are the pool."""
CLOTHES_MODELS = {
    name: f"py:recipes/zoo.py:{name}@recipes/fashion_small/{name}.safetensors?num_classes=10"
    for name in ("mlp", "mlp_wide", "mixer", "resnet", "convnet", "convnet_plain")
}
"""Trained on these 10,000 images by `python -m crossteach.demo.train_checkpoints --zoo recipes/zoo.py --out
recipes/fashion_small --data CLOTHES NAME ...`: with `--patience 3 --most-epochs 60`, then with `--tail --strength
0.5`."""
CLOTHES_MID = {
    name: f"py:recipes/mid_zoo.py:{name}@recipes/fashion_mid/{name}.safetensors?num_classes=10" for name in ZOO
}
"""The same with `--zoo recipes/mid_zoo.py --out recipes/fashion_mid`: `--patience 3 --most-epochs 30`, then `--tail
--strength 0.5`."""
SIZES = (1000, 10000)
"""Images of the pool in the parts that set a rule or a control beside the default at smaller sizes."""
DIRTY = ("clean", "letters", "fashion", "noise", "unbalanced")
FILTERED = {
    **dict.fromkeys(("letters", "fashion", "noise"), ("agreement", "energy", "rarity", "balance")),
    "unbalanced": ("rarity", "balance"),
}
"""Dirty pools, and what recipes/filtered_pools.py has left of them by other filters than the default's."""
FIXED = ("kl", "kl+dp-unsupervised", "kl+ensemble")
"""Methods with a fixed rule."""
ADDED = ("ensemble", "promise_learned", "promise_student", "promise_best", "rate")
"""Columns beside those of a sweep."""
SOME = ("mlp_a", "mix_a", "cnn_a")
"""Students of the curves."""
SEARCHED = ("mlp_b", "mix_a")
"""Students on which other settings are tried."""
TRIES = {
    "temperature 2": {"partition.temperature": 2},
    "temperature 4": {"partition.temperature": 4},
    "adapters of rank 16": {"optim.trains": "lora:16"},
}
"""Settings that part `tries` sets, all teachers, twice as long."""
SHARES = (0.25, 0.5, 1)
"""Of the pool in a batch; the default is 0.75."""
MIXED = {"views.augmentation": "recipes/pool_tries.py:mixed"}
ROOM = ("head", "wide")
"""Where recipes/pool_tries.py gives the students SEARCHED more weights."""
PAIRS = (
    *(("mlp_b", "mlp_a"), ("mlp_b", "cnn_a"), ("mlp_a", "mlp_b"), ("mlp_a", "res_a"), ("vit_a", "mix_a")),
    *(("vit_a", "cnn_b"), ("mix_a", "mlp_b"), ("mix_a", "vit_a"), ("cnn_b", "mlp_a"), ("cnn_b", "res_a")),
    *(("res_a", "vit_a"), ("res_a", "cnn_a"), ("cnn_a", "cnn_b"), ("cnn_a", "mix_a")),
)
"""Every model is a student and a teacher twice, mostly of one stronger and one weaker."""
Row = dict[str, Any]


def method(name: str, label: str, **settings: Any) -> dict[str, Any]:
    """Write a method of a plan under a label of its own."""
    return {"method": name, "name": label, "settings": settings}


def plans(pool: str, dirty: Path, out: Path) -> dict[str, dict[str, Any]]:
    """List the parts, what matters most first; `dirty` is the folder of recipes/dirty_pools.py, `out` of the runs."""
    shared = {"data": DATA, "pools": [pool], "settings": {"optim.steps": STEPS}}
    pairs = {**shared, "pairs": [[MODELS[student], MODELS[teacher]] for student, teacher in PAIRS]}
    teams = {**shared, "pairs": [team(student) for student in ZOO]}
    some = {**shared, "pairs": [team(student) for student in SOME]}
    clothes = {"data": CLOTHES, "settings": {"optim.steps": STEPS}, "models": list(CLOTHES_MODELS.values())}
    clothes_mid = {
        "data": CLOTHES,
        "settings": {"optim.steps": STEPS},
        "pairs": [[CLOTHES_MID[student], CLOTHES_MID[teacher]] for student, teacher in PAIRS],
    }
    searched = {
        **shared,
        "pairs": [team(student) for student in SEARCHED],
        "settings": {"optim.steps": TWICE},
    }
    polluted = {
        "pairs": [[MODELS["mlp_a"], MODELS["cnn_a"]]],
        "seeds": [0, 1, 2],
        "methods": [
            method("kl+dp-learned", f"drop_below {share}", **{"pool.drop_below": share}) for share in (0, 0.05, 0.1)
        ],
    }
    return {
        "teams": {**teams, "methods": [method("auto", "pool, all teachers")]},
        "pairs": {**shared, "models": list(MODELS.values()), "methods": [method("auto", "pool")]},
        "long": {**teams, "methods": [method("auto", f"all teachers, {LONG} steps", **{"optim.steps": LONG})]},
        "twice": {**teams, "methods": [method("auto", f"all teachers, {TWICE} steps", **{"optim.steps": TWICE})]},
        "seen": {**pairs, "methods": [method("xe+dp", "seen", **SEEN)]},
        "rules": {
            **pairs,
            "methods": [method(name, f"pool, {name}") for name in FIXED],
        },
        "rules-all": {
            **shared,
            "pairs": [[MODELS[s], MODELS[t]] for s in ZOO for t in ZOO if s != t and (s, t) not in PAIRS],
            "methods": [method("kl+dp-unsupervised", "pool, kl+dp-unsupervised")],
        },
        "random": {**pairs, "methods": [method("kl+dp-random", "pool, tutors by chance")]},
        "labels": {
            "data": f"npz:{dirty / labelled()}",
            "settings": {"optim.steps": STEPS},
            "students": list(MODELS.values()),
            "methods": [
                method("xe", "xe, the pool's true labels"),
                method("xe", "xe, the pool's true labels, rate 0.03", **{"optim.lr": 0.03}),
            ],
        },
        **{
            f"labels-{size}": {
                "data": f"npz:{dirty / labelled(size)}",
                "settings": {"optim.steps": STEPS, "optim.lr": 0.03},
                "students": [MODELS[student] for student in SOME],
                "methods": [method("xe", f"xe, true labels of {size} pool images, rate 0.03")],
            }
            for size in SIZES
        },
        "blind": {
            **pairs,
            "data": f"npz:{dirty / BLIND}",
            "methods": [
                method("auto", "no labels"),
                method("auto", "no labels, margin 0.1", **{"partition.margin": 0.1}),
            ],
        },
        "shares": {
            **some,
            "methods": [method("auto", f"all teachers, share {share}", **{"pool.share": share}) for share in SHARES],
        },
        "fashion-mid-shares": {
            **clothes_mid,
            "pairs": clothes_mid["pairs"][::5],
            "pools": [CLOTHES_POOL],
            "methods": [method("auto", f"mid-size fashion, share {s}", **{"pool.share": s}) for s in SHARES],
        },
        "rounds": {
            **shared,
            "pairs": taught_teams(out),
            "methods": [method("auto", "a second round, all taught teachers")],
        },
        "controls": {
            **shared,
            "students": list(MODELS.values()),
            "methods": ["self", method("xe", "xe, seen", **SEEN)],
        },
        "rates": {
            **teams,
            "methods": [
                method("auto", f"all teachers, rate {rate}", **{"optim.lr": rate}) for rate in (0.003, 0.01, 0.03, 0.1)
            ],
        },
        **{
            f"pool-{size}": {
                **some,
                "pools": [f"{pool}?samples={size}"],
                "methods": [method("auto", f"{size} pool images, all teachers")],
            }
            for size in (1000, 3000, 10000, 30000)
        },
        **{
            f"rules-{size}": {
                **some,
                "pools": [f"{pool}?samples={size}"],
                "methods": [
                    *(method(name, f"{size} pool images, all teachers, {name}") for name in FIXED[1:]),
                    method("kl+dp-random", f"{size} pool images, all teachers, tutors by chance"),
                ],
            }
            for size in SIZES
        },
        **{
            f"one-{size}": {
                **some,
                "pools": [f"{pool}?samples={size}"],
                "pairs": [team(student, 1) for student in SOME],
                "methods": [method(name, f"{size} pool images, one teacher, {name}") for name in ("auto", "kl")],
            }
            for size in SIZES
        },
        **{
            f"self-{size}": {
                **shared,
                "pools": [f"{pool}?samples={size}"],
                "students": [MODELS[student] for student in SOME],
                "methods": [method("self", f"self, {size} pool images")],
            }
            for size in SIZES
        },
        "rules-teams": {
            **some,
            "methods": [
                *(method(name, f"pool, all teachers, {name}") for name in FIXED[1:]),
                method("kl+dp-random", "pool, all teachers, tutors by chance"),
            ],
        },
        "pool-0": {**some, "methods": [method("xe+dp", "no pool, all teachers", **SEEN)]},
        **{
            f"teachers-{count}": {
                **some,
                "pairs": [team(student, count) for student in SOME],
                "methods": [method("auto", f"pool, {count} teachers")],
            }
            for count in (1, 2, 4)
        },
        "fashion": {
            **clothes,
            "pools": [CLOTHES_POOL],
            "methods": [method("auto", "fashion, pool"), method("kl", "fashion, pool, kl")],
        },
        "fashion-seen": {**clothes, "methods": [method("xe+dp", "fashion, seen")]},
        "fashion-mid": {**clothes_mid, "pools": [CLOTHES_POOL], "methods": [method("auto", "mid-size fashion, pool")]},
        "fashion-mid-rules": {
            **clothes_mid,
            "pools": [CLOTHES_POOL],
            "methods": [method(name, f"mid-size fashion, pool, {name}") for name in FIXED],
        },
        "fashion-mid-seen": {**clothes_mid, "methods": [method("xe+dp", "mid-size fashion, seen")]},
        **{
            f"epochs-{count}": {
                **some,
                "settings": {"optim.epochs": count},
                "methods": [method("auto", f"all teachers, {count} epochs")],
            }
            for count in (8, 16, 32)
        },
        "tries": {**searched, "methods": [method("auto", f"twice as long, {name}", **TRIES[name]) for name in TRIES]},
        "mixing": {
            **searched,
            "trust": True,
            "methods": [
                method("auto", "twice as long, mixed images", **MIXED),
                method("auto", "twice as long, the pool alone, mixed images", **MIXED, **{"pool.share": 1}),
            ],
        },
        **{
            f"room-{where}": {
                **searched,
                "pairs": [roomy_team(student, where) for student in SEARCHED],
                "methods": [method("auto", f"twice as long, room ({where})")],
            }
            for where in ROOM
        },
        "search": {
            **searched,
            "methods": [
                method("auto", "twice as long"),
                method("auto", "twice as long, the pool alone", **{"pool.share": 1}),
                method("auto", "twice as long, 6 views", **{"pool.views": 6}),
                method("auto", "twice as long, wide views", **{"views.strength": 1}),
            ],
        },
        **{f"dirty-{kind}": {**shared, **polluted, "pools": [f"npz:{dirty / kind}.npz"]} for kind in DIRTY},
        **{
            f"filtered-{kind}-{name}": {
                **shared,
                **polluted,
                "pools": [f"npz:{dirty / f'{kind}-{name}'}.npz"],
                "methods": [method("kl+dp-learned", f"filter: {name}", **{"pool.drop_below": 0})],
            }
            for kind, names in FILTERED.items()
            for name in names
        },
    }


def taught_teams(out: Path) -> list[list[Any]]:
    """Write the students that the part `teams` has taught as teams of each other; none before it has run."""
    rows = out / "teams" / "results.parquet"
    jobs = {row["student"]: row["job"] for row in pq.read_table(rows).to_pylist()} if rows.is_file() else {}
    specs = [f"run:{out / 'teams' / 'jobs' / jobs[MODELS[name]]}" for name in ZOO if MODELS[name] in jobs]
    return [[student, [other for other in reversed(specs) if other != student]] for student in specs]


def team(student: str, count: int = len(ZOO)) -> list[Any]:
    """Write a student with its strongest teachers, all others by default."""
    others = [name for name in reversed(ZOO) if name != student]
    return [MODELS[student], [MODELS[name] for name in others[:count]]]


def roomy_team(student: str, where: str) -> list[Any]:
    """Write a student of recipes/pool_tries.py with all teachers."""
    name = f"{student}_{where}"
    return [f"py:recipes/pool_tries.py:{name}@runs/wider/{name}.safetensors", team(student)[1]]


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


PARTS = list(plans("", Path(), Path()))


def main() -> None:
    """Run what is not run yet, part by part."""
    parser = argparse.ArgumentParser(description="What a pool teaches.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--out", type=Path, default=Path("runs/pool_study"))
    parser.add_argument("--pool", default="npz:runs/glyph_pool.npz")
    parser.add_argument("--dirty", type=Path, default=Path("runs/dirty"))
    arguments = parser.parse_args()
    for part in chosen_parts(parser, arguments.parts, PARTS):
        if part.startswith("labels"):
            size = int(part.removeprefix("labels-")) if part != "labels" else None
            if not (arguments.dirty / labelled(size)).is_file():
                write_labelled(arguments.pool, arguments.dirty / labelled(size), size)
        if part == "blind" and not (arguments.dirty / BLIND).is_file():
            write_blind(arguments.dirty / BLIND)
        run_part(part, plans(arguments.pool, arguments.dirty, arguments.out)[part], arguments.out)
        print(f"rows gathered in {gather(arguments.out, PARTS)}", flush=True)


if __name__ == "__main__":
    main()
