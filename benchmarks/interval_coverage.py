"""How often intervals hold the truth, and how often tests find what is not there: one transfer, and a study of many.

    python benchmarks/interval_coverage.py [--times 2000]

Three tables, each with the procedure until November 2026 (before) and now. The nominal figures are 95% for intervals
and 5% for tests. INTERVALS_CPU_2026-11-26.md has the result.
"""

import argparse
from collections.abc import Iterator

import numpy as np
from scipy import stats

from crossteach.functional.statistics import mcnemar, paired_delta, sign_flip_test
from crossteach.functional.study import study_interval

MODELS, GROUPS = (3, 6, 12, 30), (4, 6, 30)
STUDIES = {
    "models differ": (1.0, 1.0, 0.0, 0.2, 0.5),
    "good students are good teachers": (1.0, None, 0.0, 0.2, 0.5),
    "samples differ": (0.3, 0.3, 1.0, 0.2, 0.5),
    "both differ": (1.0, 1.0, 1.0, 0.5, 1.0),
}
"""Standard deviations, in points: of students, teachers (None: each model's as a student), groups of samples, pairs,
and a pair in a group of 100 samples."""


def sizes_of(rng: np.random.Generator, count: int, uneven: bool, each: int = 100) -> np.ndarray:
    """Draw sizes of groups."""
    share = rng.dirichlet(np.full(count, 1.0)) if uneven else np.full(count, 1 / count)
    return np.maximum(5, (count * each * share).astype(int))


def transfer(rng: np.random.Generator, sizes: np.ndarray, spread: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw what was right before and after, and the groups: no change in truth, but groups that differ by `spread`."""
    group = np.repeat(np.arange(len(sizes)), sizes)
    delta = np.clip(rng.normal(0, spread, len(sizes)), -0.2, 0.2)[group]
    chance, churn = rng.random(len(group)), np.maximum(0.04, np.abs(delta))
    gained, lost = chance < (churn + delta) / 2, chance > 1 - (churn - delta) / 2
    before = np.where(gained, False, np.where(lost, True, rng.random(len(group)) < 0.8))
    return before, np.where(gained, True, np.where(lost, False, before)), group


def bootstrap_over_groups(before: np.ndarray, after: np.ndarray, group: np.ndarray, rng: np.random.Generator) -> bool:
    """Tell whether the interval of a transfer, as it was, held 0."""
    sizes, sums = np.bincount(group), np.bincount(group, weights=after * 1.0 - before)
    count = len(sizes)
    draws = rng.multinomial(count, np.full(count, 1 / count), 400)
    error = ((draws @ sums) / (draws @ sizes)).std() * np.sqrt(count / (count - 1))
    return bool(abs(sums.sum() / sizes.sum()) <= stats.t.ppf(0.975, count - 1) * error)


def one_transfer(times: int) -> Iterator[str]:
    """Write coverage of the interval of one transfer, and false positives of its test."""
    yield "| groups | sizes | deviation of groups | interval holds 0, %: before → now | p < 0.05, %: before → now |"
    yield "|---|---|---|---|---|"
    for count, each in ((4, 160), (6, 160), (10, 160), (40, 160), (200, 30)):
        for uneven in (False, True):
            for spread in (0.0, 0.03):
                rng, found = np.random.default_rng(count), np.zeros(4)
                for _ in range(times):
                    before, after, group = transfer(rng, sizes_of(rng, count, uneven, each), spread)
                    held = paired_delta(before, after, group)
                    gained, lost = int((~before & after).sum()), int((before & ~after).sum())
                    found += (
                        bootstrap_over_groups(before, after, group, rng),
                        held.low <= 0 <= held.high,
                        mcnemar(gained, lost) < 0.05,
                        sign_flip_test(before, after, group) < 0.05,
                    )
                old, new, old_test, new_test = 100 * found / times
                kind = "uneven" if uneven else "equal"
                yield (
                    f"| {count} x {each} | {kind} | {100 * spread:.0f} points | {old:.1f} → {new:.1f} | "
                    f"{old_test:.1f} → {new_test:.1f} |"
                )


def bootstrap_over_models(table: np.ndarray, rng: np.random.Generator) -> bool:
    """Tell whether the interval of a study, as it was, held 0: a bootstrap over students and teachers."""
    present, filled, count = np.isfinite(table).astype(float), np.nan_to_num(table), len(table)
    rows, columns = rng.multinomial(count, np.full(count, 1 / count), (2, 400)).astype(float)
    sums, counts = (((rows @ values) * columns).sum(1) for values in (filled, present))
    low, high = np.quantile(sums[counts > 0] / counts[counts > 0], [0.025, 0.975])
    return bool(low <= 0 <= high)


def studies(times: int) -> Iterator[str]:
    """Write coverage of the interval of a study: every ordered pair of some models, all on the same test samples."""
    yield f"| what varies | models | {' | '.join(f'{g} groups, {k}' for g in GROUPS for k in ('equal', 'uneven'))} |"
    yield "|---|---|" + "---|" * (2 * len(GROUPS))
    for name, (of_students, of_teachers, of_groups, of_pairs, noise) in STUDIES.items():
        for count in MODELS:
            cells = []
            for groups in GROUPS:
                for uneven in (False, True):
                    rng, held = np.random.default_rng(count), np.zeros(2)
                    draws = times if count < 30 else max(times // 4, 1)
                    for _ in range(draws):
                        sizes = sizes_of(rng, groups, uneven)
                        students = rng.normal(0, of_students, count)
                        teachers = students if of_teachers is None else rng.normal(0, of_teachers, count)
                        deltas = students[:, None, None] + teachers[:, None] + rng.normal(0, of_groups, groups)
                        deltas = deltas + rng.normal(0, of_pairs, (count, count, 1))
                        deltas += rng.normal(0, noise, (count, count, groups)) * np.sqrt(100 / sizes)
                        deltas[np.arange(count), np.arange(count)] = np.nan
                        table, by_group = deltas @ sizes / sizes.sum(), np.nanmean(deltas, (0, 1))
                        names = [str(i) for i in range(count)]
                        found = study_interval(table, names, names, by_group, sizes)
                        held += bootstrap_over_models(table, rng), found.low <= 0 <= found.high
                    cells.append("{:.1f} → {:.1f}".format(*100 * held / draws))
            yield f"| {name} | {count} | {' | '.join(cells)} |"


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description="Coverage of the intervals, level of the tests.")
    parser.add_argument("--times", type=int, default=2000, help="simulations a cell")
    arguments = parser.parse_args()
    for title, lines in (("One transfer", one_transfer), ("A study", studies)):
        print(f"\n{title}\n")
        for line in lines(arguments.times):
            print(line, flush=True)


if __name__ == "__main__":
    main()
