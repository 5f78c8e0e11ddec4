"""Cut a split: a seeded share of it, its tune and gate parts, a stratified sample."""

import numpy as np
from jaxtyping import Bool, Int

from ..errors import DataError
from ..types import NO_LABEL, Split

TRIES, NEAR_ENOUGH = 200, 0.005
"""Draws of groups from which the one nearest to the wanted share of samples is taken; how near ends the search."""


def stratified_cut(
    split: Split, share: float, seed: int = 0
) -> tuple[Int[np.ndarray, " cut"], Int[np.ndarray, " kept"]]:
    """Choose a seeded share of a split: whole groups where it has several, else the same share of each class.

    Of groups, the part that is cut off has its share of their number and, as nearly as their sizes allow, of samples.

    Raises:
        DataError: If there are too few samples or groups for two parts.
    """
    generator = np.random.default_rng(seed)
    code = np.zeros(len(split), np.int64) if split.group is None else np.unique(split.group, return_inverse=True)[1]
    sizes = np.bincount(code)
    if len(sizes) > 1:
        chosen = np.isin(code, _choose_groups(sizes, share, generator))
    else:
        chosen = _choose_samples(split, share, generator)
    if not chosen.any() or chosen.all():
        raise DataError(f"{len(split)} samples of the {split.name} split are too few to cut {share:.0%} off them")
    return np.flatnonzero(chosen), np.flatnonzero(~chosen)


def _choose_groups(sizes: Int[np.ndarray, " G"], share: float, generator: np.random.Generator) -> Int[np.ndarray, " g"]:
    wanted = min(max(round(share * len(sizes)), 1), len(sizes) - 1)
    best, nearest = np.arange(0), np.inf
    for _ in range(TRIES):
        drawn = generator.permutation(len(sizes))[:wanted]
        distance = abs(sizes[drawn].sum() / sizes.sum() - share)
        if distance < nearest:
            best, nearest = drawn, distance
        if nearest <= NEAR_ENOUGH:
            break
    return best


def _choose_samples(split: Split, share: float, generator: np.random.Generator) -> Bool[np.ndarray, " N"]:
    count = len(split)
    labels = _strata(split)
    order = np.lexsort((generator.random(count), labels))
    first = np.searchsorted(labels[order], labels[order])
    rank = np.arange(count) - first  # position of a sample within its class
    offset = generator.random(int(labels.max()) + 1)[labels[order]]
    chosen = np.zeros(count, bool)
    chosen[order] = np.floor((rank + 1) * share + offset) > np.floor(rank * share + offset)
    return chosen


def _strata(split: Split) -> Int[np.ndarray, " N"]:
    """Return the class of each sample; samples without a label are one more."""
    if split.labels is None:
        return np.zeros(len(split), np.int64)
    return np.where(split.labels == NO_LABEL, max(split.labels.max() + 1, 0), split.labels)


TUNE_SHARE = 0.25
"""Share of the selection split that tunes; the larger part is held for the gate, whose intervals need it."""


def tune_and_gate(selection: Split) -> tuple[Split, Split]:
    """Cut the selection split into the part that tunes (rate, temperatures) and the part that only the gate reads.

    Raises:
        DataError: If it has too few samples for both.
    """
    try:
        tuned, held = stratified_cut(selection, TUNE_SHARE)
    except DataError as error:
        raise DataError(
            f"{len(selection)} held-out samples are too few: a quarter of the samples that decide tunes the training, "
            "the rest tests its result; give more of them in a val split, or more in train to cut them from"
        ) from error
    return selection.take(tuned), selection.take(held)


def stratified_sample(split: Split, wanted: int, seed: int = 0) -> Int[np.ndarray, " n"]:
    """Choose so many samples, the classes in their shares (largest remainders)."""
    generator = np.random.default_rng(seed)
    labels = _strata(split)
    exact = np.bincount(labels) * wanted / len(split)
    quota = np.floor(exact + 1e-9).astype(int)
    order = np.argsort(-(exact - quota), kind="stable")
    quota[order[: wanted - quota.sum()]] += 1
    by_class = np.lexsort((generator.random(len(split)), labels))
    rank = np.arange(len(split)) - np.searchsorted(labels[by_class], labels[by_class])
    return np.sort(by_class[rank < quota[labels[by_class]]])
