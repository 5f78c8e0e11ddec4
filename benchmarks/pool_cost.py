"""Seconds of a whole transfer against the number of images in its pool, and against labelling these.

    python benchmarks/pool_cost.py --pool runs/glyph_pool.npz [--sizes 0 1000 ...] [--steps 1600] [--rounds 1]

mlp_a learns from cnn_a (recipes/mid_zoo.py) by the default settings: `crossteach transfer` from an empty store, with
its imports, the search of the pool for copies, each tutor's answers to both views, probe, training, gate and summary.
`--steps 0` passes eight times through the pool, so that its length grows with it. recipes/glyph_pool.py makes the
pool. A straight line through the sizes is printed, and how far the seconds lie from it.

docs/pool.md has results.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from crossteach.runs import read_json

sys.path.insert(0, str(Path(__file__).parents[1] / "recipes"))
from pool_study import MODELS
from pool_study_data import DATA


def transfer(pool: Path, size: int, steps: int) -> tuple[float, dict]:
    """Run one transfer; return its seconds, and its summary."""
    asked = ["--student", MODELS["mlp_a"], "--teacher", MODELS["cnn_a"], "--data", DATA]
    asked += ["--pool", f"npz:{pool}?samples={size}"] if size else []
    asked += ["--set", f"optim.steps={steps}"] if steps else []
    with tempfile.TemporaryDirectory() as folder:
        asked += ["--store", f"{folder}/store", "--out", f"{folder}/run"]
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "crossteach", "transfer", *asked], check=True, capture_output=True)
        return time.perf_counter() - started, read_json(Path(folder) / "run" / "summary.json")


def main() -> None:
    """Time and print."""
    parser = argparse.ArgumentParser(description="Seconds of a transfer against the pool's size.")
    parser.add_argument("--pool", type=Path, required=True)
    parser.add_argument("--sizes", type=int, nargs="+", default=[0, 1000, 3000, 10000, 30000, 55501])
    parser.add_argument("--steps", type=int, default=1600)
    parser.add_argument("--rounds", type=int, default=1)
    arguments = parser.parse_args()
    print("| images | of them used | steps | seconds | delta on test |\n|---|---|---|---|---|", flush=True)
    used, seconds = [], []
    for size in arguments.sizes:
        runs = [transfer(arguments.pool, size, arguments.steps) for _ in range(arguments.rounds)]
        took, summary = float(np.median([run[0] for run in runs])), runs[0][1]
        used.append(summary["pool"]["used"] if size else 0)
        seconds.append(took)
        cells = f"{size:,} | {used[-1]:,} | {summary['training']['steps']:,} | {took:.1f}"
        print(f"| {cells} | {summary['ungated_transfer_delta']:+.2f} |", flush=True)
    slope, start = np.polyfit(used, seconds, 1)
    apart = np.abs(np.array(seconds) - start - slope * np.array(used)).max()
    print(f"\n{start:.1f} s and {1000 * slope:.2f} s for each 1,000 images; at most {apart:.1f} s from this line")
    if most := max(used):
        print(f"labelling {most:,} images at two seconds each: {2 * most / 3600:.0f} hours of a person")


if __name__ == "__main__":
    main()
