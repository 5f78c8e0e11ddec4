"""What a few labels say: the exact interval of a change of accuracy on a finite set of samples.

An old and a new model differ on D of N samples, and only there can one be better. Labels of n of these, drawn at
random, tell how many the new model wins and how many it loses. The interval is found by inverting exact tests of the
net number of wins; nothing is approximated but a grid over what is not asked about.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Int
from scipy import stats
from scipy.special import gammaln

from ..errors import ConfigError
from .statistics import Interval

NUISANCE = 5e-5
"""Probability of error that is spent on how many samples there are on which one of the two is right (Berger, Boos)."""
GRID = 33
"""Values of that number that are tried."""


@dataclass(frozen=True)
class Drawn:
    """A random draw, without replacement, of the samples on which two models differ."""

    samples: int
    """N: all samples."""
    differing: int
    """D: those on which the models differ."""
    labelled: int
    """n: those of them that have a label."""
    wins: int
    """Labelled ones that the new model has right and the old one wrong."""
    losses: int
    """Labelled ones that the old model has right and the new one wrong."""

    def __post_init__(self) -> None:
        if not 0 <= self.wins + self.losses <= self.labelled <= self.differing <= self.samples:
            raise ConfigError(
                f"of {self.samples} samples {self.differing} differ, {self.labelled} of these are labelled, with "
                f"{self.wins} wins and {self.losses} losses: each number must hold those after it"
            )


def net_interval(drawn: Drawn, level: float = 0.95) -> Interval:
    """Return the change of accuracy on all N samples, in points, with an interval that covers it at this level.

    Args:
        drawn: What the labels say.
        level: Of the two-sided interval.

    Example:
        >>> every = net_interval(Drawn(1000, 40, 40, 25, 10))
        >>> every.estimate, every.low, every.high
        (1.5, 1.5, 1.5)
        >>> few = net_interval(Drawn(1000, 40, 20, 13, 5))
        >>> round(few.estimate, 2), few.low <= 1.6 <= few.high
        (1.6, True)

    Source: Berger and Boos, "P values maximized over a confidence set for the nuisance parameter" (JASA 1994).
    """
    n, every = drawn.labelled, drawn.differing
    if not n:
        return Interval(0.0, -100.0 * every / drawn.samples, 100.0 * every / drawn.samples)
    points, error = 100.0 / drawn.samples, (1 - level) / 2
    net = drawn.wins - drawn.losses
    lowest, highest = net - (every - n), net + (every - n)  # were all the others lost, or won
    low = _smallest(lowest, highest, lambda d: _tail(drawn, d, net, above=True) > error)
    high = -_smallest(-highest, -lowest, lambda d: _tail(drawn, -d, net, above=False) > error)
    return Interval(points * net * every / n, points * low, points * high)


def _smallest(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """Return the smallest whole number in a range at which something holds that holds from there on."""
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low


def _tail(drawn: Drawn, net: int, seen: int, above: bool) -> float:
    """Return the largest probability of a net at least (or at most) as large as seen, were the true net this."""
    n, every = drawn.labelled, drawn.differing
    decided = drawn.wins + drawn.losses
    fewest, most = _decided_range(every, n, decided, NUISANCE)
    fewest = max(fewest, abs(net), decided)
    most = max(min(most, every - (n - decided)), fewest)
    tried = np.unique(np.linspace(fewest, most, GRID).round().astype(int))
    tried = np.unique(tried + ((tried + net) % 2))  # wins and losses are whole numbers
    tried = tried[(tried <= every) & (tried >= abs(net))]
    if not len(tried):
        return 0.0
    worst = max(_probability(every, n, int(m), (int(m) + net) // 2, seen, above) for m in tried)
    return min(1.0, worst + NUISANCE)


@lru_cache(maxsize=64)
def _decided_range(every: int, n: int, decided: int, error: float) -> tuple[int, int]:
    """Return the numbers of samples in all on which one model is right that such a draw does not rule out."""
    numbers = np.arange(decided, every - (n - decided) + 1)
    fits = (stats.hypergeom.sf(decided - 1, every, numbers, n) > error / 2) & (
        stats.hypergeom.cdf(decided, every, numbers, n) > error / 2
    )
    found = numbers[fits]
    return int(found.min()), int(found.max())


def _probability(every: int, n: int, decided: int, wins: int, seen: int, above: bool) -> float:
    """Return the probability that n draws have a net of at least, or at most, `seen`.

    Args:
        every: Samples that may be drawn.
        n: Draws.
        decided: Samples among them on which one model is right.
        wins: Those of these that the new model wins.
        seen: The net of the draws.
        above: At least, or at most.
    """
    count = np.arange(max(0, n - (every - decided)), min(n, decided) + 1)  # of the decided ones that are drawn
    won = np.arange(0, min(n, wins) + 1)
    lost = count[:, None] - won[None]
    possible = (lost >= 0) & (lost <= decided - wins)
    possible &= (won[None] - lost >= seen) if above else (won[None] - lost <= seen)
    of_losses = _choose(decided - wins, np.arange(min(n, decided - wins) + 1))
    logs = (
        _choose(wins, won)[None]
        + of_losses[np.where(possible, lost, 0)]
        + _choose(every - decided, n - count)[:, None]
        - _choose(every, np.array([n]))
    )
    return float(np.exp(logs[possible]).sum())


def _choose(of: int, some: Int[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
    """Return the logarithm of a binomial coefficient."""
    return np.asarray(gammaln(of + 1) - gammaln(some + 1) - gammaln(of - some + 1))
