"""The whole study: which method teaches whom, against which control, on which data. One command, resumable.

    python recipes/study.py [PART ...] [--out runs/study]     # from the repository's root; no PART runs all, in order
    python recipes/tables.py runs/study/study.parquet         # the tables of what has been run so far

Each part is a plan for `crossteach sweep` in a folder of its own: what is whole is not run again.
After each part all rows are gathered in OUT/study.parquet. docs/study.md tells in ten minutes what was found,
docs/study/record.md in full. The rows of 2026-11-24 are in benchmarks/.
"""

import argparse
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from scipy.ndimage import gaussian_filter

import crossteach
from crossteach.data.cut import stratified_cut
from crossteach.files import write_bytes
from crossteach.settings import compatible
from crossteach.specs import escape
from crossteach.transferring.methods import DEFAULT_WITH_LABELS, DEFAULT_WITHOUT_LABELS
from crossteach.types import Split, Splits

ZOO = (
    *("mlp", "mixer", "resnet", "convnet", "convnet_wide", "convnet_plain", "convnet_small"),
    *("resnet_bn", "mlp_wide", "mixer_deep", "vit", "vit_deep"),
)
GLYPHS = {name: f"py:recipes/zoo.py:{name}@recipes/zoo/{name}.safetensors" for name in ZOO}
FASHION = {
    name: f"py:recipes/zoo.py:{name}@recipes/fashion/{name}.safetensors?num_classes=10"
    for name in ("mlp", "mlp_wide", "mixer", "resnet", "convnet", "convnet_plain")
}
"""Trained on all 60,000 images by `python -m crossteach.demo.train_checkpoints --zoo recipes/zoo.py --out
recipes/fashion --data idx:FOLDER?selection_from=test NAME ...`: with `--patience 3 --most-epochs 150` (convnet_plain
45) until validation stalled, then with `--tail --strength 0.5`."""

FASHION_DATA = "idx:/usr/share/datasets/fashion-mnist?selection_from=test&train_samples=12000"
"""Debian's package dataset-fashion-mnist. Half of the test images select, the other half reports."""

TWENTY = (
    *(("mlp", "convnet"), ("mlp", "resnet_bn"), ("mixer", "convnet_wide"), ("mixer", "mlp_wide")),
    *(("resnet", "convnet_plain"), ("resnet", "mixer_deep"), ("convnet", "convnet_small"), ("convnet", "vit")),
    *(("convnet_wide", "resnet_bn"), ("convnet_wide", "vit_deep"), ("convnet_plain", "mlp_wide")),
    *(("convnet_plain", "mixer"), ("convnet_small", "mixer_deep"), ("convnet_small", "resnet"), ("resnet_bn", "vit")),
    *(("resnet_bn", "convnet"), ("mlp_wide", "vit_deep"), ("mixer_deep", "mlp"), ("vit", "mixer")),
    ("vit_deep", "convnet_wide"),
)
"""Fixed pairs of student and teacher: every model is a student, and nearly every one a teacher."""

TEAMS = {
    "mlp": ("mixer", "convnet_plain", "resnet_bn", "vit_deep", "mlp_wide"),
    "mixer": ("mlp", "convnet_wide", "resnet", "vit", "convnet_small"),
    "resnet": ("convnet", "mixer_deep", "vit_deep", "mlp_wide", "convnet_plain"),
    "convnet": ("vit", "mixer", "resnet_bn", "convnet_plain", "mlp"),
    "resnet_bn": ("convnet_wide", "vit_deep", "mixer_deep", "resnet", "mlp_wide"),
    "vit": ("convnet_wide", "mixer", "resnet_bn", "convnet_small", "mlp_wide"),
}
"""Students with five teachers each, from several families."""

OURS = [DEFAULT_WITH_LABELS, DEFAULT_WITHOUT_LABELS]
CONTROLS = ["self", "xe"]
PAPER = dict(setting.split("=") for setting in compatible("paper") if not setting.startswith("method="))
"""What --compat paper sets beside the method; docs/method.md says how it differs from ours."""

FASHION_TWELVE = (
    *(("mlp", "resnet"), ("mlp", "convnet"), ("mlp_wide", "mixer"), ("mlp_wide", "convnet_plain")),
    *(("mixer", "mlp"), ("mixer", "convnet_plain"), ("resnet", "mlp_wide"), ("resnet", "convnet")),
    *(("convnet", "mixer"), ("convnet", "mlp_wide"), ("convnet_plain", "resnet"), ("convnet_plain", "mlp")),
)
"""Fixed pairs: every model is a student twice."""

Plan = dict[str, Any]


def pairs(named: Any, zoo: dict[str, str] = GLYPHS) -> list[list[Any]]:
    """Write pairs of names as pairs of specs."""
    return [[zoo[s], [zoo[x] for x in t] if isinstance(t, tuple) else zoo[t]] for s, t in named]


def variant(method: str, name: str, **settings: Any) -> Plan:
    """Name a method with settings of its own; a double underscore stands for a dot."""
    return {"method": method, "name": name, "settings": {k.replace("__", "."): v for k, v in settings.items()}}


def plans(data: Path) -> dict[str, Plan]:
    """List the parts, what matters most first. `data` holds the files that some of them need."""
    paper = [{"method": m, "name": f"paper: {m}", "settings": PAPER} for m in ("kl", "kl+dp", "xe")]
    features = {"optim__probe_rates": PAPER["optim.probe_rates"]}
    several = [
        variant(method, f"{method}, {order}", curriculum__order=order, curriculum__budget="total")
        for method in OURS
        for order in ("parallel", "sequential", "soup")
    ]
    glyphs = {"data": "glyphs", "models": list(GLYPHS.values())}
    twenty = {"data": "glyphs", "pairs": pairs(TWENTY)}
    ours = {**twenty, "methods": [*CONTROLS, *OURS]}
    return {
        "core": {**glyphs, "methods": [*CONTROLS, "self+labels", "wise-ft", *OURS]},
        "fashion": {
            "data": FASHION_DATA,
            "models": list(FASHION.values()),
            "methods": [*CONTROLS, "wise-ft", *OURS, "kl+dp", *paper],
        },
        "paper": {**glyphs, "methods": paper},
        "teachers": {"data": "glyphs", "pairs": pairs(TEAMS.items()), "methods": several},
        "shifted": {**ours, "data": f"npz:{data / 'shifted.npz'}"},
        "fresh": {**ours, "data": f"npz:{data / 'fresh.npz'}"},
        "small-10": {**ours, "data": "glyphs?train_samples=1317"},
        "small-1": {**ours, "data": "glyphs?train_samples=132"},
        "seeds": {**twenty, "pairs": pairs(TWENTY[::2]), "methods": OURS, "seeds": [1, 2]},
        "fashion-search": {
            "data": FASHION_DATA,
            "pairs": pairs(FASHION_TWELVE, FASHION),
            "methods": [
                *(variant(m, f"{m}, wide views", views__strength=1) for m in OURS),
                *(variant(m, f"{m}, narrow views", views__strength=0.25) for m in ("xe", *OURS)),
                *(variant(m, f"{m}, 24 epochs of 8 views", optim__epochs=24, views__count=8) for m in ("xe", *OURS)),
                *(variant(m, f"{m}, rate 0.001", optim__lr=0.001) for m in OURS),
                variant("kl+dp-unsupervised", "kl+dp-unsupervised, T 2", partition__temperature=2),
                *(variant("kl+dp-unsupervised", f"kl+dp-unsupervised, {p}", optim__trains=p) for p in ("last", "head")),
                *("kl+dp-soft", "kl+dp-unsupervised+mcl", "xe+dp+mcl"),
            ],
        },
        "family": {
            **twenty,
            "methods": [
                *("kl+dp", "kl+dp-soft", "kl+dp-calibrated", "kl+dp-flips", "kl+dp-not-negative", "kl+dp-flips-mean"),
                *("kl+ensemble", "kl+dp-random", "kl+dp-random-teacher"),
                variant("xe", "xe, wide views", views__strength=1),
                *(variant(m, f"{m}, wide views", views__strength=1) for m in OURS),
            ],
        },
        "objectives": {
            **twenty,
            "methods": [
                *("kl", "xe-kl", "xe-kl+mcl", "xe+dp+mcl", "kl+dp+mcl", "kl+dp-unsupervised+mcl"),
                {"method": "xe-kl+mcl", "name": "paper: xe-kl+mcl", "settings": PAPER},
                variant("cd", "cd", **features),
                variant("crd", "crd", **features),
            ],
        },
        "core-kl": {**glyphs, "methods": ["kl+dp"]},
    }


def write_npz(path: Path, data: Splits, parts: dict[str, tuple[Split, Callable[[np.ndarray], np.ndarray]]]) -> None:
    """Write splits as a file that `npz:` opens, each with a change of its pixels [N, h, w] in [0, 255]."""
    arrays: dict[str, np.ndarray] = {"class_names": np.array(data.classes)}
    for name, (split, change) in parts.items():
        assert split.labels is not None and split.group is not None
        rows = split.input_rows(np.arange(len(split)))
        pixels = 255 * split.inputs.read(rows, None, None)[:, 0].numpy()
        arrays[f"x_{name}"] = change(pixels).round().clip(0, 255).astype(np.uint8)
        arrays[f"y_{name}"], arrays[f"group_{name}"] = split.labels, split.group
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **arrays)


def corrupted(pixels: np.ndarray) -> np.ndarray:
    """Blur a third of the images, add noise to another, and take contrast from the last."""
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 3, len(pixels))[:, None, None]
    blurred = gaussian_filter(pixels, sigma=(0, 1.2, 1.2))
    noisy = pixels + rng.normal(0, 60, pixels.shape)
    pale = pixels * 0.35 + 60
    return np.where(kind == 0, blurred, np.where(kind == 1, noisy, pale))


def prepare(folder: Path) -> None:
    """Write the data of the parts `fresh` and `shifted`, from the glyphs."""
    data = crossteach.load_data("glyphs")
    if not (folder / "fresh.npz").is_file():
        taught, held = (data.selection.take(rows) for rows in stratified_cut(data.selection, 0.5))
        same = (lambda pixels: pixels,)
        write_npz(
            folder / "fresh.npz", data, {"train": (taught, *same), "val": (held, *same), "test": (data.test, *same)}
        )
    if not (folder / "shifted.npz").is_file():
        splits = {"train": data.train, "val": data.selection, "test": data.test}
        write_npz(folder / "shifted.npz", data, {name: (split, corrupted) for name, split in splits.items()})


def elsewhere(folder: Path, rows: list[dict[str, Any]], test: Split) -> None:
    """Measure what was returned on another test split: its delta there, in points, is added to each row."""
    before: dict[str, float] = {}
    for row in rows:
        spec = row["student"]
        if spec not in before:
            before[spec] = crossteach.predict(crossteach.load_model(spec), test).accuracy
        after = crossteach.load_model(f"run:{escape(folder / 'jobs' / row['job'])}")
        row["delta_elsewhere"] = crossteach.predict(after, test).accuracy - before[spec]


def read_rows(out: Path, parts: Iterable[str]) -> tuple[list[dict[str, Any]], pa.Schema]:
    """Read the rows of all parts that have any, and what their columns are."""
    rows: list[dict[str, Any]] = []
    schema = None
    for part in parts:
        table = out / part / "results.parquet"
        if table.is_file():
            found = pq.read_table(table)
            schema = found.schema
            rows += [{"part": part, **row} for row in found.to_pylist()]
    assert schema is not None, "no part has been run"
    return rows, pa.schema([pa.field("part", pa.string()), *schema])


def write_rows(path: Path, rows: list[dict[str, Any]], schema: pa.Schema, added: Sequence[str]) -> Path:
    """Write rows to which columns of numbers were added."""
    whole = pa.schema([*schema, *(pa.field(name, pa.float64()) for name in added)])
    pq.write_table(pa.Table.from_pylist(rows, whole), path, compression="zstd")
    return path


def chosen_parts(parser: argparse.ArgumentParser, parts: Sequence[str], known: Sequence[str]) -> Sequence[str]:
    """Return the parts that are asked for, or all; end with one line if there is no such part."""
    unknown = [part for part in parts if part not in known]
    if unknown:
        parser.error(f"there is no part {unknown[0]}; expected {', '.join(known)}")
    return parts or known


def run_part(name: str, plan: Plan, out: Path) -> None:
    """Run the jobs of a part that are not whole."""
    path = out / "plans" / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, yaml.safe_dump(plan, sort_keys=False).encode())
    found = crossteach.sweep(path, out / name)
    print(f"{name}: {found['done']} of {found['jobs']} jobs are whole", flush=True)


def gather(out: Path, parts: list[str], data: Path) -> Path:
    """Put all rows of all parts that have any into one table."""
    rows, schema = read_rows(out, parts)
    shifted = [r for r in rows if r["part"] == "shifted"]
    taught = {(r["student"], r["teacher"], r["method"]) for r in shifted}
    clean = [r for r in rows if r["part"] == "core" and (r["student"], r["teacher"], r["method"]) in taught]
    if shifted:
        elsewhere(out / "core", clean, crossteach.load_data(f"npz:{data / 'shifted.npz'}").test)
        elsewhere(out / "shifted", shifted, crossteach.load_data("glyphs").test)
    return write_rows(out / "study.parquet", rows, schema, ["delta_elsewhere"])


def main() -> None:
    """Run what is not run yet, part by part."""
    parser = argparse.ArgumentParser(description="The whole study.")
    parser.add_argument("--out", type=Path, default=Path("runs/study"))
    known = list(plans(Path()))
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(known)}; all by default")
    arguments = parser.parse_args()
    asked = chosen_parts(parser, arguments.parts, known)
    data = arguments.out / "data"
    prepare(data)
    for part in asked:
        run_part(part, plans(data)[part], arguments.out)
        print(f"rows gathered in {gather(arguments.out, known, data)}", flush=True)


if __name__ == "__main__":
    main()
