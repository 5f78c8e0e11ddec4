"""What keeping a few logits of each answer costs in transfer delta: dense against the largest 5, 10 and 20.

    python benchmarks/topk.py [train pool] [--seeds 3] [--temperatures 1 2] [--out FOLDER]
    python benchmarks/topk.py pairs pairs-pool            # 1,024 classes: data and models by benchmarks/glyph_pairs.py

Students learn from a teacher with the default method on the embedded glyphs (100 classes): the demo's models on all of
train, and three mid-size models (recipes/mid_zoo) on 2,634 labelled samples with the other 10,540 as a pool without
labels. Of the 1,024 pairs of glyphs: three models of the same architectures on the 12,288 labelled samples that they
were trained on (`pairs`), or with 40,960 of other families as a pool (`pairs-pool`). All that differs between the runs
of a row is `store.keep`. Reported is the delta on test of the end of training (points; before the gate, which would
hide small differences), and how much lower or higher it is than with dense answers, paired by pair and seed. A whole
run is not run again: `--out` keeps them.
"""

import argparse
import statistics
import tempfile
from pathlib import Path

import crossteach
from crossteach.settings import with_settings

KEPT = ("dense", "20", "10", "5")
MID = "py:recipes/mid_zoo.py:{0}@recipes/mid_zoo/{0}.safetensors"
OF_PAIRS = "py:recipes/mid_zoo.py:{0}@runs/glyph_pairs/{0}.safetensors?num_classes=1024"
DRAWN = [
    (OF_PAIRS.format(s), OF_PAIRS.format(t)) for s, t in (("mix_a", "res_a"), ("res_a", "cnn_a"), ("cnn_a", "mix_a"))
]
PAIRS = {
    "train": [("demo:mlp", "demo:convnet"), ("demo:mixer", "demo:resnet"), ("demo:resnet", "demo:mixer")],
    "pairs": DRAWN,
    "pairs-pool": DRAWN,
    "pool": [(MID.format(s), MID.format(t)) for s, t in (("mlp_b", "res_a"), ("cnn_a", "mix_a"), ("cnn_b", "res_a"))],
}
DATA: dict[str, tuple[str, tuple[str, ...]]] = {
    "train": ("glyphs", ()),
    "pool": ("glyphs?train_samples=2634", ("glyphs",)),
    "pairs": ("npz:runs/glyph_pairs/pairs.npz", ()),
    "pairs-pool": ("npz:runs/glyph_pairs/pairs.npz", ("npz:runs/glyph_pairs/pool.npz",)),
}


def delta(pair: tuple[str, str], data: object, settings: list[str], out: Path, store: crossteach.Store) -> float:
    """Return the delta of the end of one training."""
    student, teacher = (crossteach.load_model(spec) for spec in pair)
    config = with_settings(crossteach.TransferConfig(), settings)
    return crossteach.transfer(student, [teacher], data, out, config, store).summary["ungated_transfer_delta"]


def main() -> None:
    parser = argparse.ArgumentParser(description="Transfer delta by what is kept of the tutors' answers.")
    parser.add_argument("where", nargs="*", choices=list(DATA), default=["train", "pool"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--temperatures", type=float, nargs="+", default=[1.0, 2.0])
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    print("| taught on | T | kept | mean delta | less dense, mean (smallest to largest) | runs |", flush=True)
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        out = arguments.out or Path(folder)
        store = crossteach.Store(out / "store")
        for where in arguments.where:
            data = crossteach.load_data(*DATA[where])
            for temperature in arguments.temperatures:
                found: dict[str, list[float]] = {}
                for keep in KEPT:
                    for number, pair in enumerate(PAIRS[where]):
                        for seed in range(arguments.seeds):
                            settings = [f"store.keep={keep}", f"seed={seed}", f"partition.temperature={temperature}"]
                            name = f"{where}-T{temperature:g}-{keep}-{number}-{seed}"
                            found.setdefault(keep, []).append(delta(pair, data, settings, out / name, store))
                    paired = [kept - dense for kept, dense in zip(found[keep], found["dense"], strict=True)]
                    spread = f"{statistics.mean(paired):+.2f} ({min(paired):+.2f} to {max(paired):+.2f})"
                    mean = f"{statistics.mean(found[keep]):+.2f}"
                    print(f"| {where} | {temperature:g} | {keep} | {mean} | {spread} | {len(paired)} |", flush=True)


if __name__ == "__main__":
    main()
