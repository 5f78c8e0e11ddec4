"""How often the gate takes weights that truly lose more than is allowed, and how often weights that truly gain.

    python benchmarks/gate_level.py [--times 2000]

Simulated are 3,000 held samples and four alphas, each with the same true delta: none may be taken more often than the
level says, 10%. The rows of groups draw groups, then samples in them; the truth is the mean over all groups that there
could be, not over those that were drawn. `before` is the rule until November 2026: a bootstrap over groups, times
Student's t. GATE_LEVEL_CPU_2026-11-26.md has the result.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy import stats

from crossteach.config import GateConfig
from crossteach.transferring.gate import Held, choose_alpha

N, CONFIG = 3000, GateConfig()
FEW, MANY = (0.02, 0.03, 0.04, 0.05), (0.05, 0.1, 0.15, 0.2)
"""Share of samples that change at each alpha."""

GROUPS = (2, 3, 5, 10, 20, 40, 80)
HARM: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "10% of groups lose 4 points": lambda rng, count: np.where(rng.random(count) < 0.1, -4.0, 0.0),
    "10% lose 4, the others gain 0.1": lambda rng, count: np.where(rng.random(count) < 0.1, -4.0, 0.11),
    "5% lose 8, the others gain 0.1": lambda rng, count: np.where(rng.random(count) < 0.05, -8.0, 0.1),
    "normal, mean -0.3, deviation 1": lambda rng, count: rng.normal(-0.3, 1.0, count),
    "normal, mean -0.3, deviation 3": lambda rng, count: rng.normal(-0.3, 3.0, count),
}
"""True deltas of groups whose mean is −0.3 points or less."""
GAIN: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    f"normal, mean {mean:+.1f}, deviation 0.5": lambda rng, count, mean=mean: rng.normal(mean, 0.5, count)
    for mean in (0.3, 0.5, 1.0, 2.0)
}


def simulate(rng: np.random.Generator, churn: tuple[float, ...]) -> Held:
    """Draw samples without groups that are gained or lost from some alpha on, or never change; −0.3 points in truth."""
    gained = np.diff([(c - CONFIG.max_loss / 100) / 2 for c in churn], prepend=0)
    lost = np.diff([(c + CONFIG.max_loss / 100) / 2 for c in churn], prepend=0)
    k = len(churn)
    kind = rng.choice(2 * k + 1, N, p=[*gained, *lost, 1 - gained.sum() - lost.sum()])
    before = np.where(kind < 2 * k, kind >= k, rng.random(N) < 0.8)
    return Held(before, [np.where((kind < 2 * k) & (kind % k <= i), kind < k, before) for i in range(k)])


def simulate_groups(rng: np.random.Generator, deltas: np.ndarray, uneven: bool) -> Held:
    """Draw samples in groups with these true deltas, the same at each alpha; what changes grows with alpha."""
    count = len(deltas)
    share = rng.dirichlet(np.full(count, 0.5)) if uneven else np.full(count, 1 / count)
    group = np.repeat(np.arange(count), np.maximum(5, (N * share).astype(int)))
    delta = deltas[group] / 100
    churn = np.maximum(0.02, np.abs(delta) + 0.005)
    chance, later = rng.random((2, len(group)))
    step = np.floor(later * 100).astype(int)  # 0, 1 and 2 of 100: changes at the next alphas, as often right as wrong
    right = rng.random(len(group)) < 0.5
    gained, lost = chance < (churn + delta) / 2, chance > 1 - (churn - delta) / 2
    before = np.where(gained, False, np.where(lost, True, np.where(step < 3, right, rng.random(len(group)) < 0.8)))
    first = np.where(gained, True, np.where(lost, False, before))
    unchanged = ~gained & ~lost
    return Held(before, [np.where(unchanged & (step < k), ~before, first) for k in range(len(CONFIG.alphas))], group)


def taken_before(held: Held, rng: np.random.Generator) -> bool:
    """Ask the gate as it was: a bootstrap over groups for each alpha."""
    assert held.group is not None
    sizes = np.bincount(held.group)
    level = 1 - (1 - CONFIG.level) / len(CONFIG.alphas)
    draws = rng.multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), 400)
    for after in held.along:
        sums = np.bincount(held.group, weights=after * 1.0 - held.before)
        estimate = 100 * sums.sum() / len(held.before)
        error = (100 * (draws @ sums) / (draws @ sizes)).std() * np.sqrt(len(sizes) / (len(sizes) - 1))
        if estimate > 0 and estimate - stats.t.ppf(level, len(sizes) - 1) * error > -CONFIG.max_loss:
            return True
    return False


def row(name: str, of: Callable[[np.random.Generator, int], np.ndarray], times: int, uneven: bool) -> str:
    """Simulate one kind of groups at every count; a cell is before → now, in %."""
    cells = []
    for count in GROUPS:
        rng = np.random.default_rng(count)
        drawn = [simulate_groups(rng, of(rng, count), uneven) for _ in range(times)]
        now = sum(choose_alpha(held, CONFIG).verdict == "accepted" for held in drawn)
        before = sum(taken_before(held, rng) for held in drawn)
        cells.append(f"{100 * before / times:.1f} → {100 * now / times:.1f}")
    return f"| {name} | {'uneven' if uneven else 'equal'} | {' | '.join(cells)} |"


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description="The level and the power of the gate.")
    parser.add_argument("--times", type=int, default=2000, help="simulations a cell")
    parser.add_argument("--samples-only", action="store_true", help="leave the groups out")
    arguments = parser.parse_args()
    times = arguments.times
    rng = np.random.default_rng(0)
    alone = replace(CONFIG, level=1 - len(CONFIG.alphas) * (1 - CONFIG.level))  # undoes the correction
    for churn in (FEW, MANY):
        drawn = [simulate(rng, churn) for _ in range(times)]
        taken = [sum(choose_alpha(held, config).verdict == "accepted" for held in drawn) for config in (CONFIG, alone)]
        print(f"churn {churn}: at once {taken[0] / times:.1%}, each alone {taken[1] / times:.1%}")
    if arguments.samples_only:
        return
    for title, kinds in (("harm that is taken", HARM), ("gains that are taken", GAIN)):
        print(f"\n| {title}, % before → now | sizes | {' | '.join(f'{count} groups' for count in GROUPS)} |")
        print("|---|---|" + "---|" * len(GROUPS))
        for name, of in kinds.items():
            for uneven in (False, True):
                print(row(name, of, times, uneven), flush=True)


if __name__ == "__main__":
    main()
