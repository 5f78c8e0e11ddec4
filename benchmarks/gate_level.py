"""How often the gate takes weights that truly lose all that is allowed: by its rule, and by the best of four tests.

    python benchmarks/gate_level.py

Simulated: 3,000 samples a half, four alphas with nested flips, a true delta of -0.3 points at each. The level says 10%.
Result (2026-11-23, 1,000 simulations a row, standard error about 1 point), flips in 2 to 5% and in 5 to 20% of the
samples: by the rule in use 10.2 and 10.2%, by the best of four tests 19.6 and 19.9%.
"""

import numpy as np

from crossteach.config import GateConfig
from crossteach.gate import Half, decide

N, TIMES, CONFIG = 3000, 1000, GateConfig()


def simulate(rng: np.random.Generator, churn: tuple[float, ...]) -> Half:
    """Draw a half whose samples are gained or lost from some alpha on, or never change."""
    gained = np.diff([(c - CONFIG.max_loss / 100) / 2 for c in churn], prepend=0)
    lost = np.diff([(c + CONFIG.max_loss / 100) / 2 for c in churn], prepend=0)
    k = len(churn)
    kind = rng.choice(2 * k + 1, N, p=[*gained, *lost, 1 - gained.sum() - lost.sum()])
    before = np.where(kind < 2 * k, kind >= k, rng.random(N) < 0.8)
    return Half(before, [np.where((kind < 2 * k) & (kind % k <= i), kind < k, before) for i in range(k)])


def main() -> None:
    """Simulate and print."""
    rng = np.random.default_rng(0)
    for churn in ((0.02, 0.03, 0.04, 0.05), (0.05, 0.1, 0.15, 0.2)):
        one, any_of_four = 0, 0
        for _ in range(TIMES):
            result = decide(simulate(rng, churn), simulate(rng, churn), CONFIG)
            one += result.verdict == "accepted"
            any_of_four += any(s.delta.estimate > 0 and s.delta.low > -CONFIG.max_loss for s in result.path)
        print(f"churn {churn}: proposed alpha only {one / TIMES:.1%}, any of four {any_of_four / TIMES:.1%}")


if __name__ == "__main__":
    main()
