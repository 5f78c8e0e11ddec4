"""What models' answers alone tell of them: who is probably right, who would gain from whom, and what to ask a person.

Where no sample has a label, the mean-probability ensemble stands in for it: what probability all models together give a
model's answer. It ranks well and measures badly (benchmarks/unlabelled.py), so its figures compare models, no more.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor


def beliefs(tutors: Float[Tensor, "K N C"]) -> Float[Tensor, "K N"]:
    """Return the probability that the mean-probability ensemble of all models gives each model's answer.

    Args:
        tutors: Logits.

    Example:
        >>> sure, unsure = torch.tensor([[9.0, 0.0]]), torch.tensor([[0.0, 1.0]])
        >>> beliefs(torch.stack([sure, unsure])).round(decimals=2)
        tensor([[0.6300],
                [0.3700]])
    """
    probs = tutors.softmax(2)
    return probs.mean(0).gather(1, probs.argmax(2).T).T


def expected_gains(right: Float[Tensor, "K N"], preds: Int[Tensor, "K N"]) -> Float[Tensor, "K K"]:
    """Return what each model would gain if another taught it wherever that is the likelier to be right, in points.

    It is the gain of the targets, not of a student: a bound, to compare teachers by.

    Args:
        right: How probably each model is right on each sample.
        preds: The classes that they give.

    Returns:
        Row student, column teacher; 0 on the diagonal.

    Example:
        >>> expected_gains(torch.tensor([[0.5, 0.75], [0.75, 0.5]]), torch.tensor([[0, 1], [1, 1]]))
        tensor([[ 0.0000, 12.5000],
                [ 0.0000,  0.0000]])
    """
    gains = torch.zeros(len(right), len(right), dtype=torch.float64, device=right.device)
    for student in range(len(right)):
        better = (right - right[student]).clamp(min=0) * (preds != preds[student])
        gains[student] = 100.0 * better.double().mean(1)
    return gains.to(right.dtype)


def worth_asking(right: Float[Tensor, "K N"], preds: Int[Tensor, "K N"]) -> Float[Tensor, " N"]:
    """Say how much a label of each sample would tell about who is better than whom.

    It is the variance of "a is right" − "b is right", summed over all pairs of models that answer differently; where
    all agree a label says nothing about them.

    Args:
        right: How probably each model is right on each sample.
        preds: The classes that they give.

    Example:
        >>> worth_asking(torch.tensor([[0.9, 0.5], [0.9, 0.5]]), torch.tensor([[0, 0], [0, 1]]))
        tensor([0., 1.])
    """
    worth = torch.zeros_like(right[0])
    for a in range(1, len(right)):
        for b in range(a):
            first, second = right[a], right[b]
            both = (first + second).clamp(min=1.0)  # of two that differ only one can be right
            spread = (first + second) / both - ((first - second) / both) ** 2
            worth += spread * (preds[a] != preds[b])
    return worth


@dataclass(frozen=True)
class DrawnQuestions:
    """Samples that a person is asked about, and how many samples each of them stands for."""

    rows: Int[np.ndarray, " n"]
    weights: Float[np.ndarray, " n"]


def draw_questions(worth: Float[Tensor, " N"], count: int, seed: int = 0) -> DrawnQuestions:
    """Draw samples by lot, those that tell more with a higher chance: as the square root of their worth.

    The chance of every sample is known (systematic sampling), so weighted means over the drawn ones are unbiased.
    Taking those of the highest worth would ask about the oddest samples only, and favour whoever is good at those.

    Args:
        worth: See `worth_asking`; a sample of worth 0 is never drawn.
        count: How many at most.
        seed: Of the draw.

    Returns:
        The samples in an order by lot: the first of them are a draw too, each standing for more samples.

    Example:
        >>> drawn = draw_questions(torch.tensor([0.0, 4.0, 1.0, 1.0]), 2)
        >>> 1 in drawn.rows, 0 in drawn.rows, drawn.weights.max().item()
        (True, False, 2.0)
    """
    rng = np.random.default_rng(seed)
    chance = worth.double().sqrt().cpu().numpy()
    possible = int((chance > 0).sum())
    if possible <= count:
        return DrawnQuestions(rng.permutation(np.flatnonzero(chance)), np.ones(possible))
    certain = np.zeros(len(chance), bool)
    while True:  # whoever's chance would exceed 1 is taken, and the rest is shared among the others
        left = np.where(certain, 0.0, chance)
        share = np.where(certain, 1.0, (count - certain.sum()) * left / left.sum())
        if not (share > 1).any():
            break
        certain |= share > 1
    order = rng.permutation(len(chance))
    marks = np.floor(share[order].cumsum() + rng.random())
    rows = order[np.diff(marks, prepend=0.0) > 0]
    return DrawnQuestions(rows, 1.0 / share[rows])
