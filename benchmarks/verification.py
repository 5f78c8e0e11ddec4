"""What n labels say of a change of accuracy: asked where two models differ, and asked of all samples.

    python benchmarks/verification.py

An old and a new model differ on D of 5,000 samples; of these the new one wins some and loses others. Labels of n of
those D, drawn at random, give the interval of `net_interval`; n labels of all samples give the Agresti-Min interval.
Width is the mean of 300 draws in points, coverage the share of intervals that hold the truth.
"""

import numpy as np

from crossteach.functional import Drawn, net_interval, paired_delta

SAMPLES, TIMES = 5000, 300
CASES = ((150, 60, 50), (150, 100, 30), (150, 20, 120), (150, 0, 0), (400, 180, 140))


def main() -> None:
    """Print the table."""
    print("| differ | new wins | old wins | labels | width where they differ | coverage | width of all samples |")
    print("|---|---|---|---|---|---|---|")
    rng = np.random.default_rng(0)
    for differing, wins, losses in CASES:
        values = np.zeros(differing, int)
        values[:wins], values[wins : wins + losses] = 1, -1
        everywhere = np.concatenate([values, np.zeros(SAMPLES - differing, int)])
        truth = 100 * values.sum() / SAMPLES
        for labels in (50, 100, 200):
            if labels > differing:
                continue
            widths, covered, usual = [], [], []
            for _ in range(TIMES):
                drawn = rng.permutation(values)[:labels]
                said = (drawn > 0).sum(), (drawn < 0).sum()
                found = net_interval(Drawn(SAMPLES, differing, labels, int(said[0]), int(said[1])))
                widths.append(found.high - found.low)
                covered.append(found.low - 1e-9 <= truth <= found.high + 1e-9)
                some = rng.choice(everywhere, labels, replace=False)
                plain = paired_delta(some < 0, some > 0)
                usual.append(plain.high - plain.low)
            print(
                f"| {differing} | {wins} | {losses} | {labels} | {np.mean(widths):.2f} | "
                f"{100 * np.mean(covered):.0f}% | {np.mean(usual):.1f} |"
            )


if __name__ == "__main__":
    main()
