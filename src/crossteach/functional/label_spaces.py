"""Models that do not score the same classes: answers over one model's classes are brought to those of another."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .mixtures import uniform
from .rules import RuleInputs
from .target_logits import CERTAIN
from .unanswered import answered, fill_unanswered

NONE = -1
"""Of a class that belongs to none of the other model's."""


def map_logits(logits: Float[Tensor, "N T"], belongs: Int[Tensor, " T"], n_classes: int) -> Float[Tensor, "N C"]:
    """Return logits over other classes: the logarithm of the probability that falls into each of them.

    What lies outside (classes that belong to none) is shared evenly by the classes that no class belongs to, since the
    model says that it is something else. Where every class has one, it is spread evenly over all: that lowers the
    confidence. A class that gets nothing stands 10,000 below: its probability is 0, and the logit finite. Where each
    class is exactly one of the other model's, logits are put into the other order and nothing is computed.

    Args:
        logits: Of a model over its own T classes.
        belongs: Which of C classes each of them belongs to; −1 for none.
        n_classes: C.

    Example:
        >>> dogs_and_cat = torch.tensor([[0.2, 0.3, 0.5]]).log()
        >>> map_logits(dogs_and_cat, torch.tensor([1, 1, 0]), 2).softmax(1)
        tensor([[0.5000, 0.5000]])
        >>> map_logits(dogs_and_cat, torch.tensor([0, 0, -1]), 3).softmax(1)
        tensor([[0.5000, 0.2500, 0.2500]])
    """
    if torch.equal(belongs.sort().values, torch.arange(n_classes)):
        return logits[:, belongs.argsort()]
    log_probs = logits.double().log_softmax(1)
    grouped = _grouped(log_probs, belongs, n_classes)
    inside, outside = grouped[:, :n_classes], grouped[:, n_classes:]
    unknown = ~known_classes(belongs, n_classes)
    if bool(unknown.any()):
        inside[:, unknown] = outside - math.log(int(unknown.sum()))
    else:
        inside = torch.logaddexp(inside, outside - math.log(n_classes))
    return inside.clamp(min=-CERTAIN).float()


def probability_outside(logits: Float[Tensor, "N T"], belongs: Int[Tensor, " T"]) -> Float[Tensor, " N"]:
    """Return the probability that falls into classes that belong to none of the other model's.

    Example:
        >>> probability_outside(torch.tensor([[0.2, 0.3, 0.5]]).log(), torch.tensor([0, 0, -1]))
        tensor([0.5000])
    """
    return logits.softmax(1)[:, belongs == NONE].sum(1)


def known_classes(belongs: Int[Tensor, " T"], n_classes: int) -> Bool[Tensor, " C"]:
    """Mark the classes that a model knows: those that any of its own belongs to.

    Example:
        >>> known_classes(torch.tensor([2, -1, 2]), 3)
        tensor([False, False,  True])
    """
    known = torch.zeros(n_classes, dtype=torch.bool)
    known[belongs[belongs != NONE]] = True
    return known


def known_together(known: Sequence[Bool[Tensor, " C"] | None]) -> Bool[Tensor, "K C"] | None:
    """Put together what each of K models knows; None stands for all classes.

    Example:
        >>> known_together([None, torch.tensor([True, False])])
        tensor([[ True,  True],
                [ True, False]])
        >>> known_together([None, None])
    """
    some = next((row for row in known if row is not None), None)
    return None if some is None else torch.stack([torch.ones_like(some) if row is None else row for row in known])


def _grouped(log_probs: Float[Tensor, "N T"], belongs: Int[Tensor, " T"], n_classes: int) -> Float[Tensor, "N G"]:
    """Return the logarithm of the sum of each group's probabilities; the last group is what belongs to none."""
    group = torch.where(belongs == NONE, n_classes, belongs).expand(len(log_probs), -1)
    nothing = log_probs.new_full((len(log_probs), n_classes + 1), -math.inf)
    highest = nothing.scatter_reduce(1, group, log_probs, "amax")
    sums = torch.zeros_like(nothing).scatter_add_(1, group, (log_probs - highest.gather(1, group)).exp())
    return highest + sums.log()


def keep_unknown(tutors: Float[Tensor, "K N C"], known: Bool[Tensor, "K C"] | None) -> Float[Tensor, "K N C"]:
    """Let each tutor say of the classes that it does not know what the frozen student says of them.

    These keep the frozen student's probabilities. What that gives to the other classes all together is divided among
    them as the tutor divides it. So a student that is taught so is pulled nowhere between what its tutor knows and what
    it does not. A tutor that knows all classes keeps its logits, bit for bit. Where a tutor has no answer (a row of
    NaN), it says what the frozen student says.

    Args:
        tutors: Logits; tutor 0 is the frozen student.
        known: Which classes each tutor knows, at least one; None is all.

    Example:
        >>> tutors = torch.tensor([[[0.5, 0.25, 0.25]], [[0.1, 0.9, 0.0]]]).log()
        >>> keep_unknown(tutors, torch.tensor([[True, True, True], [True, True, False]]))[1].exp()
        tensor([[0.0750, 0.6750, 0.2500]])
    """
    tutors = fill_unanswered(tutors)
    if known is None:
        return tutors
    known = known.to(tutors.device)
    partly, unknown = ~known.all(1), ~known[:, None]
    log_probs = tutors.log_softmax(-1)
    own = log_probs.masked_fill(unknown, -math.inf)
    of_known = log_probs[:1].masked_fill(unknown, -math.inf).logsumexp(-1, keepdim=True)
    shared = torch.where(unknown, log_probs[:1], own - own.logsumexp(-1, keepdim=True) + of_known)
    return torch.where(partly[:, None, None], shared, tutors)


def keep_absent(
    frozen: Float[Tensor, "N C"], targets: Float[Tensor, "N C"], shown: Bool[Tensor, " C"]
) -> Float[Tensor, "N C"]:
    """Let targets say of the classes that no sample shows what the frozen student says of them.

    What it gives to the shown classes all together is divided among them as the target divides it.

    Args:
        frozen: Logits of the frozen student.
        targets: Logits of what is taught.
        shown: The classes of which there are samples, at least one.

    Example:
        >>> frozen, target = torch.tensor([[0.5, 0.25, 0.25]]).log(), torch.tensor([[0.1, 0.9, 0.0]]).log()
        >>> keep_absent(frozen, target, torch.tensor([True, True, False])).exp()
        tensor([[0.0750, 0.6750, 0.2500]])
    """
    known = torch.stack([torch.ones_like(shown), shown])
    return keep_unknown(torch.stack([frozen, targets]), known)[1]


def ensemble_probs(tutors: Float[Tensor, "K N C"], known: Bool[Tensor, "K C"] | None = None) -> Float[Tensor, "N C"]:
    """Return the mean probabilities of the tutors that have answered and know the class of a sample.

    The class is the one that the frozen student gives.

    Args:
        tutors: Logits; tutor 0 is the frozen student.
        known: Which classes each tutor knows; None is all.

    Example:
        >>> tutors = torch.tensor([[[0.8, 0.2]], [[0.6, 0.4]]]).log()
        >>> ensemble_probs(tutors)
        tensor([[0.7000, 0.3000]])
        >>> ensemble_probs(tutors, torch.tensor([[True, True], [False, True]]))
        tensor([[0.8000, 0.2000]])
    """
    probs = keep_unknown(tutors, known).softmax(2)
    if known is None and bool(answered(tutors).all()):
        return probs.mean(0)
    return (uniform(tutors, None, RuleInputs(known=known))[..., None] * probs).sum(0)
