"""How often the gate takes weights that truly lose all that is allowed.

    python benchmarks/gate_level.py

Simulated: 3,000 held samples, four alphas with nested flips, a true delta of -0.3 points at each. The level says 10%.
Result (2026-11-23, 1,000 simulations a row, standard error about 1 point), flips in 2 to 5% and in 5 to 20% of the
samples: with bounds that hold for all alphas at once (the rule in use) 5.4 and 6.8%, with a 90% bound for each 17.2 and
22.3%.
"""

from dataclasses import replace

import numpy as np

from crossteach.config import GateConfig
from crossteach.transferring.gate import Held, decide

N, TIMES, CONFIG = 3000, 1000, GateConfig()


def simulate(rng: np.random.Generator, churn: tuple[float, ...]) -> Held:
    """Draw samples that are gained or lost from some alpha on, or never change."""
    gained = np.diff([(c - CONFIG.max_loss / 100) / 2 for c in churn], prepend=0)
    lost = np.diff([(c + CONFIG.max_loss / 100) / 2 for c in churn], prepend=0)
    k = len(churn)
    kind = rng.choice(2 * k + 1, N, p=[*gained, *lost, 1 - gained.sum() - lost.sum()])
    before = np.where(kind < 2 * k, kind >= k, rng.random(N) < 0.8)
    return Held(before, [np.where((kind < 2 * k) & (kind % k <= i), kind < k, before) for i in range(k)])


def main() -> None:
    """Simulate and print."""
    rng = np.random.default_rng(0)
    alone = replace(CONFIG, level=1 - len(CONFIG.alphas) * (1 - CONFIG.level))  # undoes the correction
    for churn in ((0.02, 0.03, 0.04, 0.05), (0.05, 0.1, 0.15, 0.2)):
        drawn = [simulate(rng, churn) for _ in range(TIMES)]
        taken = [sum(decide(held, config).verdict == "accepted" for held in drawn) for config in (CONFIG, alone)]
        print(f"churn {churn}: at once {taken[0] / TIMES:.1%}, each alone {taken[1] / TIMES:.1%}")


if __name__ == "__main__":
    main()
