"""A teacher that knows only digits and capitals improves these classes of a student of 100, and harms no other.

    python recipes/label_maps.py [--student SPEC --methods NAME ... --epochs N --out DIR]

The teacher is trained here, from scratch, on the glyphs of 36 classes. Its classes are found in the student's by their
names; samples of the other 64 are the frozen student's.

Expected (the demo's MLP, one thread of a busy CPU, 2026-11-27; points on test at the end of training, in brackets 95%
intervals over type families; the teacher has 92.9% of its 36 classes right, the student 82.0%, and 85.1% of the other
64): `self` +0.08 (−0.14 to +0.30) on the 36 classes and −0.07 (−0.31 to +0.16) on the others; `kl` +0.08 (−1.33 to
+1.50) and +0.02 (−0.43 to +0.47); `kl+dp-unsupervised` +1.02 (+0.02 to +2.01) and −0.21 (−0.63 to +0.21); `kl+dp` +1.10
(+0.15 to +2.05) and −0.12 (−0.54 to +0.30); `kl+dp-learned` +0.68 (−0.01 to +1.36) and −0.09 (−0.49 to +0.30);
`xe+dp-learned`, the default here, +1.61 (+0.84 to +2.38) and +0.55 (+0.05 to +1.04), a part of it from the labels of
train. The gate returns +0.93 of the last and +0.05 of `kl+dp-learned`, and keeps the original of the others.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

import crossteach
from crossteach.demo import zoo
from crossteach.demo.train_checkpoints import Pupil, train
from crossteach.functional import paired_delta

parser = argparse.ArgumentParser(description="A teacher with a part of the student's classes.")
parser.add_argument("--student", default="demo:mlp")
parser.add_argument("--methods", nargs="+", default=["self", "kl", "kl+dp-unsupervised", "auto"])
parser.add_argument("--epochs", type=int, default=30, help="of the teacher's own training")
parser.add_argument("--out", default="runs/label_maps")
parser.add_argument("--set", action="append", default=[], dest="settings", metavar="KEY=VALUE")
arguments = parser.parse_args()

data = crossteach.load_data("glyphs", ["glyphs:pool"])
known = np.array([i for i, name in enumerate(data.classes) if name.isascii() and (name.isdigit() or name.isupper())])
number = {int(label): place for place, label in enumerate(known)}


def of_known(split: crossteach.Split) -> crossteach.Split:
    some = split.take(np.flatnonzero(np.isin(split.labels, known)))
    return replace(some, labels=np.array([number[int(label)] for label in some.labels]))


names = tuple(data.classes[i] for i in known)
parts = {key: of_known(getattr(data, key)) for key in ("train", "selection", "test")}
pupil = Pupil("convnet", replace(data, classes=names, pools=(), **parts), seed=1, architectures=zoo, strength=1.0)
train(pupil, arguments.epochs, patience=7)
teacher = crossteach.from_module(pupil.module, pupil.preprocess, classes=names, name="digits-and-capitals")
student = crossteach.load_model(arguments.student, like=data)

print("\n| method | its 36 classes | 95% | the other 64 | 95% | taught by the teacher | returned |")
print("|---|---|---|---|---|---|---|")
for method in arguments.methods:
    config = crossteach.with_settings(crossteach.TransferConfig(), [f"method={method}", *arguments.settings])
    teachers = [] if method == "self" else [teacher]
    out = Path(arguments.out) / method
    summary = crossteach.transfer(student, teachers, data, out, config).summary
    table = pq.read_table(out / "samples.parquet").to_pydict()
    label, before, after = (np.array(table[key]) for key in ("label", "pred_before", "pred_ungated"))
    cells = []
    for rows in (np.isin(label, known), ~np.isin(label, known)):
        group = None if data.test.group is None else data.test.group[rows]
        delta = paired_delta((before == label)[rows], (after == label)[rows], group)
        begun = 100 * (before == label)[rows].mean()
        cells.append(f"{begun:.2f} {delta.estimate:+.2f} | {delta.low:+.2f} to {delta.high:+.2f}")
    taught = summary["training"]["taught"]
    share = 100 * taught.get(teacher.name, 0) / sum(taught.values())
    verdict = f"{summary['transfer_delta']:+.2f}, {summary['gate']['verdict']}"
    print(f"| `{summary['method']}` | {' | '.join(cells)} | {share:.1f}% | {verdict} |", flush=True)
    for each in summary["label_maps"] or []:
        print(f"<!-- {each} -->")
