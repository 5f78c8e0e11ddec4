"""What becomes of the classes that neither pool nor labels show: half of the classes teach, the test has all.

    python recipes/absent_classes.py [--pairs STUDENT,TEACHER ... --methods NAME ... --out DIR]

Train, selection and the pool keep 50 of the 100 classes of the glyphs, drawn with a seed; the test split keeps all.
"""

import argparse
from importlib.resources import files
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

import crossteach
from crossteach.functional import paired_delta

PAIRS = ("demo:mlp,demo:convnet", "demo:resnet,demo:convnet", "demo:convnet,demo:resnet", "demo:mixer,demo:resnet")

parser = argparse.ArgumentParser(description="What becomes of classes that nobody shows.")
parser.add_argument("--pairs", nargs="+", default=PAIRS, metavar="STUDENT,TEACHER")
parser.add_argument("--methods", nargs="+", default=["auto", "kl+dp-unsupervised", "kl"])
parser.add_argument("--out", default="runs/absent_classes")
parser.add_argument("--set", action="append", default=[], dest="settings", metavar="KEY=VALUE")
arguments = parser.parse_args()

glyphs, fresh = (np.load(str(files("crossteach.demo") / f"{name}.npz")) for name in ("glyphs", "pool"))
shown = np.random.default_rng(0).permutation(100)[:50]


def part(arrays: np.lib.npyio.NpzFile, name: str, all_classes: bool = False) -> tuple[np.ndarray, ...]:
    """Return images, labels and groups of a split, of the shown classes or of all."""
    images, labels, groups = (arrays[f"{what}_{name}"] for what in ("x", "y", "group"))
    kept = np.isin(labels, shown) | all_classes
    return images[kept], labels[kept], groups[kept]


data = crossteach.from_arrays(
    part(glyphs, "train"),
    part(glyphs, "test", all_classes=True),
    part(glyphs, "val"),
    classes=glyphs["class_names"].tolist(),
    name="half of the glyphs",
)
images, _, groups = part(fresh, "train")
pool = crossteach.pool_from(images, "half of the pool", groups)

print("| student | teacher | method | shown classes | 95% | the other classes | 95% | returned |")
print("|---|---|---|---|---|---|---|---|")
for pair in arguments.pairs:
    student, teacher = (crossteach.load_model(spec, like=data) for spec in pair.split(","))
    for method in arguments.methods:
        config = crossteach.with_settings(crossteach.TransferConfig(), [f"method={method}", *arguments.settings])
        out = Path(arguments.out) / f"{student.name}-{teacher.name}-{method}"
        summary = crossteach.transfer(student, [teacher], data, out, config, pools=[pool]).summary
        table = pq.read_table(out / "samples.parquet").to_pydict()
        label, before, after = (np.array(table[key]) for key in ("label", "pred_before", "pred_ungated"))
        assert data.test.group is not None
        cells = []
        for rows in (np.isin(label, shown), ~np.isin(label, shown)):
            delta = paired_delta((before == label)[rows], (after == label)[rows], data.test.group[rows])
            begun = 100 * (before == label)[rows].mean()
            cells.append(f"{begun:.1f} {delta.estimate:+.2f} | {delta.low:+.2f} to {delta.high:+.2f}")
        verdict = f"{summary['transfer_delta']:+.2f}, {summary['gate']['verdict']}"
        print(
            f"| {student.name} | {teacher.name} | `{summary['method']}` | {' | '.join(cells)} | {verdict} |", flush=True
        )
