"""Are the classes of an area of expertise close in meaning? Relative similarity, and a permutation test.

An area is a set of classes. It is close where its classes are more similar to each other than all classes are on
average. The p-value says how often a random set of as many classes is at least as close. Definition: Roth et al.,
"Fantastic Gains" (ICLR 2024), section 3: areas of expertise are semantically related.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ..errors import DataError

AREAS_AT_ONCE = 1024
"""Areas that share one matrix product."""

DRAWN_AT_ONCE = 16
"""Classes that a random order grows by in one step; those before them are added as whole rows."""

ORDERS_AT_ONCE = 256
"""Random orders that grow together: a megabyte of running sums where there are 1000 classes."""

SAME = 1e-6
"""Two means are tied within this share of the largest similarity: sums of one set differ in their last bits."""


def cosine_similarity(embeddings: Float[np.ndarray, "C d"]) -> Float[np.ndarray, "C C"]:
    """Return the cosine of every pair of rows, in [−1, 1].

    Args:
        embeddings: A vector of d numbers for each class.

    Raises:
        DataError: If a row is zero or not finite: it has no direction.

    Example:
        >>> cosine_similarity(np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]])).round(2)
        array([[1.  , 0.  , 0.71],
               [0.  , 1.  , 0.71],
               [0.71, 0.71, 1.  ]])
    """
    rows = embeddings.astype(np.float64)
    largest = np.abs(rows).max(axis=1, initial=0.0, keepdims=True)
    wrong = np.flatnonzero(~np.isfinite(largest[:, 0]) | (largest[:, 0] == 0))
    if len(wrong):
        raise DataError(
            f"embeddings must be finite and not zero, but {len(wrong)} of {len(rows)} rows are not; "
            f"the first is row {wrong[0]}"
        )
    rows /= largest  # the squares of very large or very small numbers would leave the range
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return np.clip(rows @ rows.T, -1.0, 1.0)


@dataclass(frozen=True)
class AreaSimilarity:
    """How close the classes of one area are to each other."""

    relative: float | None
    """Mean similarity of the pairs in the area over that of all pairs of classes.

    None where the area has fewer than two classes, and where the mean over all pairs is not positive, as with
    embeddings that were centred: a ratio to zero or less says nothing. The p-value needs no ratio and is there.
    """
    p_value: float | None
    """Chance that a random area of this size is at least as close; None where it has fewer than two classes."""


@dataclass(frozen=True, eq=False)
class Closeness:
    """Tells how close areas are, by one similarity of all classes; build it once and ask it often.

    The p-value is one-sided: (1 + random areas of this size at least as close) / (1 + `permutations`). The first
    classes of a random order are a random area, whatever their number, so one set of random orders serves areas of
    every size: O(C²) an order, and a table of [C, permutations] numbers, made when the first area is asked for.

    Raises:
        DataError: If the similarity is not square, symmetric and finite.

    Example:
        >>> similarity = np.array([[1.0, 0.9, 0.1], [0.9, 1.0, 0.2], [0.1, 0.2, 1.0]])
        >>> Closeness(similarity).of(torch.tensor([0, 1])).relative
        2.25

    Source: Phipson and Smyth, "Permutation p-values should never be zero" (2010), for the ones in the p-value.
    """

    similarity: Float[np.ndarray, "C C"]
    """Of every pair of classes; the diagonal is not read."""
    permutations: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        shape = self.similarity.shape
        if len(shape) != 2 or shape[0] != shape[1]:
            raise DataError(f"a similarity of classes must be square, [C, C], not {list(shape)}")
        if not np.isfinite(self.similarity).all():
            raise DataError("a similarity of classes must be finite, but there are NaN or infinite entries")
        if np.abs(self.similarity - self.similarity.T).max(initial=0.0) > self._tie:
            raise DataError("a similarity of classes must be symmetric, but it is not; give (S + S.T) / 2")

    @property
    def n_classes(self) -> int:
        """How many classes there are."""
        return len(self.similarity)

    @cached_property
    def overall(self) -> float:
        """Mean similarity of all pairs of classes; NaN where there are fewer than two."""
        off_diagonal = self.similarity.sum(dtype=np.float64) - np.trace(self.similarity, dtype=np.float64)
        pairs = self.n_classes * (self.n_classes - 1)
        return float(off_diagonal / pairs) if pairs else float("nan")

    def of(self, area: Int[np.ndarray, " _"] | Int[Tensor, " _"]) -> AreaSimilarity:
        """Return how close the classes of one area are; see `of_each`."""
        return self.of_each([area])[0]

    def of_prefixes(
        self, order: Int[np.ndarray, " k"] | Int[Tensor, " k"], sizes: Sequence[int]
    ) -> list[AreaSimilarity]:
        """Return how close nested areas are: the first `sizes[i]` classes of one order; see `of_each`."""
        if sizes and not 0 <= min(sizes) <= max(sizes) <= len(order):
            raise DataError(f"areas of {', '.join(map(str, sizes))} classes asked for, of an order of {len(order)}")
        return self.of_each([order[:size] for size in sizes])

    def of_each(self, areas: Sequence[Int[np.ndarray, " _"] | Int[Tensor, " _"]]) -> list[AreaSimilarity]:
        """Return how close each area is; 5000 areas of 1000 classes take less than a second.

        Args:
            areas: Class ids in [0, C), each at most once in an area, in any order.

        Raises:
            DataError: If an area names a class that is not there, or one twice.
        """
        found = []
        for start in range(0, len(areas), AREAS_AT_ONCE):
            chunk = [np.asarray(area) for area in areas[start : start + AREAS_AT_ONCE]]
            inside = np.zeros((len(chunk), self.n_classes), np.float32)
            for row, area in zip(inside, chunk, strict=True):
                self._mark(row, area)
            sums = np.einsum("nc,nc->n", inside @ self._centred, inside, dtype=np.float64)
            found += [self._judge(float(total), len(area)) for total, area in zip(sums, chunk, strict=True)]
        return found

    def _mark(self, row: Float[np.ndarray, " C"], area: Int[np.ndarray, " k"]) -> None:
        """Set the classes of an area to 1."""
        if len(area) and not 0 <= area.min() <= area.max() < self.n_classes:
            raise DataError(
                f"an area names the classes {area.min()} to {area.max()}, but there are {self.n_classes}, numbered "
                "from 0"
            )
        row[area] = 1
        if np.count_nonzero(row) < len(area):
            raise DataError(f"an area of {len(area)} classes names some of them twice")

    def _judge(self, total: float, size: int) -> AreaSimilarity:
        """Judge an area by the sum of its centred similarities, each pair counted twice."""
        if size < 2:
            return AreaSimilarity(None, None)
        above = total / (size * (size - 1))
        as_close = int((self._random_areas[size - 1] >= above - self._tie).sum())
        relative = 1 + above / self.overall if self.overall > 0 else None
        return AreaSimilarity(relative, (1 + as_close) / (1 + self.permutations))

    @cached_property
    def _tie(self) -> float:
        return SAME * float(np.abs(self.similarity).max(initial=0.0))

    @cached_property
    def _centred(self) -> Float[np.ndarray, "C C"]:
        """Similarity minus the mean over all pairs, 0 on the diagonal: small numbers keep their digits in float32."""
        centred = (self.similarity - self.overall).astype(np.float32)
        np.fill_diagonal(centred, 0)
        return centred

    @cached_property
    def _random_areas(self) -> Float[np.ndarray, "C permutations"]:
        """Mean centred similarity of the first 1, 2, … C classes of random orders."""
        orders = np.tile(np.arange(self.n_classes), (self.permutations, 1))
        np.random.default_rng(self.seed).permuted(orders, axis=1, out=orders)
        centred = torch.from_numpy(self._centred)
        means = [mean_of_prefixes(centred, chunk) for chunk in torch.split(torch.from_numpy(orders), ORDERS_AT_ONCE)]
        return torch.cat(means).T.contiguous().numpy()


def mean_of_prefixes(similarity: Float[Tensor, "C C"], orders: Int[Tensor, "n k"]) -> Float[Tensor, "n k"]:
    """Return the mean similarity of the pairs among the first 1, 2, … k classes of each order; 0 for one class.

    Args:
        similarity: Symmetric, 0 on the diagonal.
        orders: Class ids, each at most once in an order.
    """
    to_drawn = torch.zeros(len(orders), len(similarity))  # similarity of each class to those drawn so far, summed
    gained = []
    for drawn in torch.split(orders, DRAWN_AT_ONCE, dim=1):
        among = similarity[drawn[:, :, None], drawn[:, None, :]].tril(-1).sum(2)
        gained.append(to_drawn.gather(1, drawn) + among)
        to_drawn += F.embedding_bag(drawn, similarity, mode="sum")
    sums = torch.cat(gained, dim=1).double().cumsum(1)
    size = torch.arange(1, orders.shape[1] + 1, dtype=torch.double)
    return (sums / (size * (size - 1) / 2).clamp(min=1)).float()
