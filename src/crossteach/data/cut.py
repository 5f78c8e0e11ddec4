"""Cut a split: a seeded share of it, its tune and gate parts, a stratified sample."""

import numpy as np
from jaxtyping import Int

from ..errors import DataError
from ..types import Split


def stratified_cut(
    split: Split, share: float, seed: int = 0
) -> tuple[Int[np.ndarray, " cut"], Int[np.ndarray, " kept"]]:
    """Choose a seeded share of a split: whole groups where it has groups, else the same share of each class."""
    generator = np.random.default_rng(seed)
    count = len(split)
    if split.group is not None and len(np.unique(split.group)) > 1:
        sizes = np.bincount(split.group)
        order = generator.permutation(len(sizes))
        before = np.cumsum(sizes[order]) - sizes[order]
        chosen = np.isin(split.group, order[before < share * count])
    else:
        labels = split.labels if split.labels is not None else np.zeros(count, np.int64)
        order = np.lexsort((generator.random(count), labels))
        first = np.searchsorted(labels[order], labels[order])
        rank = np.arange(count) - first  # position of a sample within its class
        chosen = np.zeros(count, bool)
        offset = generator.random(int(labels.max()) + 1)[labels[order]]
        chosen[order] = np.floor((rank + 1) * share + offset) > np.floor(rank * share + offset)
    if not chosen.any() or chosen.all():
        raise DataError(
            f"the {split.name} split has too few samples ({count}) or groups to cut {share:.0%} off it; "
            "give a selection split"
        )
    return np.flatnonzero(chosen), np.flatnonzero(~chosen)


TUNE_SHARE = 0.25
"""Share of the selection split that tunes; the larger part is held for the gate, whose intervals need it."""


def tune_and_gate(selection: Split) -> tuple[Split, Split]:
    """Cut the selection split into the part that tunes (rate, temperatures) and the part that only the gate reads."""
    tune, gate = (selection.take(rows) for rows in stratified_cut(selection, TUNE_SHARE))
    return tune, gate


def stratified_sample(split: Split, wanted: int, seed: int = 0) -> Int[np.ndarray, " n"]:
    """Choose so many samples, the classes in their shares (largest remainders)."""
    generator = np.random.default_rng(seed)
    labels = split.labels if split.labels is not None else np.zeros(len(split), np.int64)
    exact = np.bincount(labels) * wanted / len(split)
    quota = np.floor(exact + 1e-9).astype(int)
    order = np.argsort(-(exact - quota), kind="stable")
    quota[order[: wanted - quota.sum()]] += 1
    by_class = np.lexsort((generator.random(len(split)), labels))
    rank = np.arange(len(split)) - np.searchsorted(labels[by_class], labels[by_class])
    return np.sort(by_class[rank < quota[labels[by_class]]])
