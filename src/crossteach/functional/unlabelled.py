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

    def answered(self, places: Int[np.ndarray, " m"]) -> "DrawnQuestions":
        """Return those at these places: of an order by lot they are a draw too, each standing for more samples."""
        return DrawnQuestions(self.rows[places], self.weights[places] * len(self.rows) / len(places))


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
    rows = rng.permutation(order[np.diff(marks, prepend=0.0) > 0])  # likely ones stand further apart in `order`
    return DrawnQuestions(rows, 1.0 / share[rows])


@dataclass(frozen=True)
class GainsByLabels:
    """What each model would gain of another by the labels of a few samples, in points: row student, column teacher."""

    gains: Float[Tensor, "K K"]
    errors: Float[Tensor, "K K"]
    """Standard errors: of the draw, so they are 0 where every sample that could be drawn has a label."""


def gains_by_labels(
    right: Float[Tensor, "K N"], preds: Int[Tensor, "K N"], answered: DrawnQuestions, labels: Int[Tensor, " n"]
) -> GainsByLabels:
    """Correct `expected_gains` by the labels of a few samples.

    On the samples that have a label what was expected is compared with what is so, and the difference, weighted by how
    many samples each stands for, is added (the difference estimator). So the gains are unbiased whatever `right` is
    worth, and the better it tells, the smaller is their error. A sample of worth 0 is never drawn: it is taken as
    expected.

    Args:
        right: How probably each model is right on each sample.
        preds: The classes that they give.
        answered: A draw of `draw_questions` with a label for each.
        labels: The classes of the samples, another number where they show none.

    Example:
        >>> right, preds = torch.tensor([[0.5, 0.5], [0.8, 0.8]]), torch.tensor([[0, 0], [1, 1]])
        >>> every = draw_questions(worth_asking(right, preds), 2)
        >>> found = gains_by_labels(right, preds, every, torch.tensor([1, 1]))
        >>> found.gains, found.errors.max()
        (tensor([[  0., 100.],
                [  0.,   0.]], dtype=torch.float64), tensor(0., dtype=torch.float64))

    Source: Särndal, Swensson and Wretman, "Model Assisted Survey Sampling" (1992), section 6.3; the error is Deville's,
    as in Matei and Tillé, "Evaluation of variance approximations and estimators in maximum entropy sampling with
    unequal probability and fixed sample size" (Journal of Official Statistics 21, 2005).
    """
    rows, weights = torch.from_numpy(answered.rows), torch.from_numpy(answered.weights)
    beliefs, said = right.double()[:, rows], preds[:, rows]
    correct = (said == labels).double()
    ahead = (beliefs - beliefs[:, None]).clamp(min=0)  # K K n: by how much the teacher is the likelier to be right
    change = (correct - correct[:, None]) * (ahead > 0)
    surprise = weights * (change - ahead * (said != said[:, None]))
    points = 100.0 / preds.shape[1]
    gains = expected_gains(right.double(), preds) + points * surprise.sum(2)
    return GainsByLabels(gains, points * _variance_of_sum(surprise, 1 / weights).sqrt())


def _variance_of_sum(values: Float[Tensor, "K K n"], chance: Float[Tensor, " n"]) -> Float[Tensor, "K K"]:
    """Return the variance of a sum over a draw of fixed size, of values that are divided by their chance already."""
    by_lot = (1 - chance).clamp(min=0)  # whoever is drawn for certain adds nothing
    if not (by_lot > 0).any():
        return torch.zeros_like(values[..., 0])
    share = by_lot / by_lot.sum()
    alone = (by_lot > 0).sum() == 1  # one cannot tell its spread
    centre = 0.0 if alone else (share * values).sum(2, keepdim=True)
    return (by_lot * (values - centre) ** 2).sum(2) / (1.0 if alone else 1 - (share**2).sum())
