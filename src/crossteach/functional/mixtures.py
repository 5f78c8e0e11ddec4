"""How much of a sample each tutor teaches: tutor logits to tutor weights. Tutor 0 is the frozen student.

`rules.py` says what all rules share.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ..errors import ConfigError
from .partition import on_positive_flips
from .rules import NO_INPUTS, RuleInputs, _of_knowing, _right, require_labels, who_knows


def flips_or_mean(
    tutors: Float[Tensor, "K N C"], labels: Int[Tensor, " N"] | None, inputs: RuleInputs = NO_INPUTS
) -> Float[Tensor, "K N"]:
    """Weigh the teacher alone on positive flips, the frozen student alone on negative flips, both alike elsewhere.

    With several teachers: where the frozen student is wrong, the most confident of the right teachers has all the
    weight; if all are wrong, all tutors weigh alike. Where the frozen student is right, all right tutors weigh alike.

    Args:
        tutors: Logits; tutor 0 is the frozen student.
        labels: True class ids.
        inputs: Which classes each tutor knows; nothing else is read.

    Raises:
        MissingLabelsError: Without labels.

    Example:
        >>> flips_or_mean(torch.tensor([[[2.0, 0.0]], [[0.0, 2.0]]]), torch.tensor([1]))
        tensor([[0.],
                [1.]])
    """
    labels = require_labels(labels, "the partition by flips")
    right, knows = _right(tutors, labels, inputs), who_knows(tutors, labels, inputs)
    teacher = on_positive_flips(tutors, labels, inputs)
    alike = (right | ~right[0] if knows is None else (right | ~right[0]) & knows).to(tutors.dtype)
    alone = F.one_hot(teacher, len(tutors)).T.to(tutors.dtype)
    return torch.where(teacher > 0, alone, alike / alike.sum(0))


def soft(
    tutors: Float[Tensor, "K N C"], labels: Int[Tensor, " N"] | None = None, inputs: RuleInputs = NO_INPUTS
) -> Float[Tensor, "K N"]:
    """Weigh each tutor by the odds p / (1−p) of its confidence p, its highest probability; no label is read.

    This stands between the hard choice, which ignores all tutors but one, and the ensemble, which ignores how sure
    each is. Weights of p itself would hardly differ from the ensemble, since most confidences are high. Odds above
    e^10000 count as e^10000.

    Args:
        tutors: Logits; tutor 0 is the frozen student.
        labels: Read only where a tutor does not know all classes.
        inputs: Which classes each tutor knows; nothing else is read.

    Example:
        >>> soft(torch.tensor([[[0.5, 0.5]], [[0.25, 0.75]]]).log())
        tensor([[0.2500],
                [0.7500]])
    """
    log_probs = tutors.log_softmax(-1)
    best = log_probs.max(-1, keepdim=True)
    others = log_probs.scatter(2, best.indices, -math.inf).logsumexp(-1)
    odds = (best.values.squeeze(-1) - others).clamp(max=1e4)
    return _of_knowing(odds, who_knows(tutors, labels, inputs)).softmax(0)


def learned(
    tutors: Float[Tensor, "K N C"], labels: Int[Tensor, " N"] | None = None, inputs: RuleInputs = NO_INPUTS
) -> Float[Tensor, "K N"]:
    """Weigh each tutor by the square root of its odds of being right, as a judge has learnt to tell them.

    A sure choice would follow every error of the judge; the root keeps the other tutors in the mean where it is not
    sure.

    Args:
        tutors: Logits; tutor 0 is the frozen student.
        labels: Read only where a tutor does not know all classes: the judge has read those of other samples.
        inputs: Its judge, who has learnt on the answers of the same tutors in the same order.

    Raises:
        ConfigError: Without a judge, or with one of other tutors.

    Source: ours; docs/method.md has the figures.
    """
    if inputs.judge is None or len(inputs.judge.bias) != len(tutors):
        known = "none" if inputs.judge is None else f"one of {len(inputs.judge.bias)}"
        raise ConfigError(
            f"the learned partition needs a judge of these {len(tutors)} tutors and {known} is given; learn one with "
            "fit_judge, and pass RuleInputs(judge=...)"
        )
    return _of_knowing(0.5 * inputs.judge(tutors), who_knows(tutors, labels, inputs)).softmax(0)


def uniform(
    tutors: Float[Tensor, "K N C"], labels: Int[Tensor, " N"] | None = None, inputs: RuleInputs = NO_INPUTS
) -> Float[Tensor, "K N"]:
    """Weigh all tutors alike that know the class: the mean-probability ensemble.

    Example:
        >>> uniform(torch.zeros(2, 1, 3))
        tensor([[0.5000],
                [0.5000]])
    """
    knows = who_knows(tutors, labels, inputs)
    return torch.full_like(tutors[..., 0], 1 / len(tutors)) if knows is None else knows / knows.sum(0)
