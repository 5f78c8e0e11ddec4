"""What n labels say of a change of accuracy: asked where two models differ, and asked of all samples.

    python benchmarks/verification.py                                        # invented counts
    python benchmarks/verification.py --jobs runs/pool_study/blind/jobs ...  # real students, of recipes/pool_study.py

An old and a new model differ on D of all test samples; of these the new one wins some and loses others. Labels of n of
those D, drawn at random, give the interval of `net_interval`; n labels of all samples give the Agresti-Min interval.
Width is the mean of 300 draws (25 of each real student) in points, coverage the share of intervals that hold the truth.
The verdict is what `verify` would say of the end of training: accepted where the estimate is above zero and the bound
excludes a loss of more than 0.1 points. Real students are judged as by the first of several looks.
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq
from jaxtyping import Int

from crossteach.functional import Drawn, net_interval, paired_delta

SAMPLES, TIMES, FEWER, MAX_LOSS = 5000, 300, 25, 0.1
CASES = ((150, 60, 50), (150, 100, 30), (150, 20, 120), (150, 0, 0), (400, 180, 140))
LABELS = (50, 100, 200)


class Told(NamedTuple):
    """What some labels say, over many draws."""

    width: float
    coverage: float
    accepted: float
    width_of_all: float


def ask(
    differing: Int[np.ndarray, " D"],
    samples: int,
    labels: int,
    rng: np.random.Generator,
    times: int = TIMES,
    error: float = 1,
) -> Told:
    """Draw labels again and again.

    Args:
        differing: 1 where the new model wins, -1 where it loses, else 0; where the two differ.
        samples: How many there are.
        labels: How many of the samples on which the two differ are asked about; and how many of all.
        rng: Draws.
        times: How often.
        error: The share of the error that the level allows; the first look of `verify` has a half.
    """
    everywhere = np.concatenate([differing, np.zeros(samples - len(differing), int)])
    truth = 100 * differing.sum() / samples
    found = []
    for _ in range(times):
        drawn = rng.permutation(differing)[:labels]
        said = Drawn(samples, len(differing), labels, int((drawn > 0).sum()), int((drawn < 0).sum()))
        interval, bound = net_interval(said, 1 - 0.05 * error), net_interval(said, 1 - 0.1 * error).low
        some = rng.choice(everywhere, labels, replace=False)
        plain = paired_delta(some < 0, some > 0)
        covered = interval.low - 1e-9 <= truth <= interval.high + 1e-9
        accepted = said.wins > said.losses and bound > -MAX_LOSS
        found.append((interval.high - interval.low, covered, accepted, plain.high - plain.low))
    return Told(*np.mean(found, axis=0).tolist())


def invented() -> None:
    """Print the table of invented counts."""
    print("| differ | new wins | old wins | labels | width where they differ | coverage | width of all samples |")
    print("|---|---|---|---|---|---|---|")
    rng = np.random.default_rng(0)
    for differing, wins, losses in CASES:
        values = np.zeros(differing, int)
        values[:wins], values[wins : wins + losses] = 1, -1
        for labels in (n for n in LABELS if n <= differing):
            told = ask(values, SAMPLES, labels, rng)
            print(
                f"| {differing} | {wins} | {losses} | {labels} | {told.width:.2f} | {100 * told.coverage:.0f}% | "
                f"{told.width_of_all:.1f} |"
            )


def measured(folders: list[Path], numbers: list[int]) -> None:
    """Print what labels would have said of the ends of training of some runs, whose labels are all known."""
    ledgers = [pq.read_table(path).to_pydict() for folder in folders for path in folder.glob("*/samples.parquet")]
    rng = np.random.default_rng(0)
    print("| labels | students | width: median, widest | coverage: mean, lowest | accepted | width of all samples |")
    print("|---|---|---|---|---|---|")
    for labels in numbers:
        found = []
        for ledger in ledgers:
            old, new, label = (np.array(ledger[name]) for name in ("pred_before", "pred_ungated", "label"))
            differing = ((new == label) * 1 - (old == label) * 1)[old != new]
            if len(differing) >= labels:
                found.append(ask(differing, len(label), labels, rng, FEWER, error=0.5))
        if not found:
            continue
        each = np.array(found)
        width, covered, accepted, of_all = each.T
        print(
            f"| {labels} | {len(found)} | {np.median(width):.2f}, {width.max():.2f} | {100 * covered.mean():.0f}%, "
            f"{100 * covered.min():.0f}% | {100 * accepted.mean():.0f}% | {np.median(of_all):.1f} |"
        )


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description="What a few labels say.")
    parser.add_argument("--jobs", nargs="+", type=Path, metavar="FOLDER", help="folders of runs, of a sweep")
    parser.add_argument("--labels", nargs="+", type=int, default=list(LABELS), help="how many, of real students")
    asked = parser.parse_args()
    if asked.jobs:
        measured(asked.jobs, asked.labels)
    else:
        invented()


if __name__ == "__main__":
    main()
