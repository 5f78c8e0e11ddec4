"""What each rule promises: how good the targets are that it gives labelled samples it has not learnt from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from . import mixtures, partition, target_logits
from .calibration import fit_temperature
from .judging import FEWEST, fit_judge
from .label_spaces import keep_unknown
from .rules import Mixture, Partition, RuleInputs
from .unanswered import answered

FOLDS = 5

Rule = Callable[[Float[Tensor, "K N C"], RuleInputs], Float[Tensor, "N C"]]
"""Tutor logits, and what was learnt on other samples, to target logits."""


def _by_choice(rule: Partition) -> Rule:
    def choose(tutors: Float[Tensor, "K N C"], inputs: RuleInputs) -> Float[Tensor, "N C"]:
        return target_logits.targets(keep_unknown(tutors, inputs.known), rule(tutors, None, inputs))

    return choose


def _by_mixture(rule: Mixture) -> Rule:
    def mix(tutors: Float[Tensor, "K N C"], inputs: RuleInputs) -> Float[Tensor, "N C"]:
        return target_logits.mixed_targets(keep_unknown(tutors, inputs.known), rule(tutors, None, inputs))

    return mix


RULES: dict[str, Rule] = {
    "student": lambda tutors, inputs: tutors[0],
    "most confident": _by_choice(partition.unsupervised),
    "calibrated": _by_choice(partition.calibrated),
    "soft": _by_mixture(mixtures.soft),
    "ensemble": _by_mixture(mixtures.uniform),
    "learned": _by_mixture(mixtures.learned),
}
"""Rules that read no label of the samples they are asked about; each teacher alone is one more."""


@dataclass(frozen=True)
class Promise:
    """How good the targets of one rule are."""

    accuracy: float
    """Of the targets, in %."""
    log_probability: float
    """Mean logarithm of the probability that they give the right class."""


def promises(
    tutors: Float[Tensor, "K N C"],
    labels: Int[Tensor, " N"],
    names: tuple[str, ...],
    group: Int[np.ndarray, " N"] | None = None,
    known: Bool[Tensor, "K C"] | None = None,
    more: Mapping[str, Rule] | None = None,
) -> dict[str, Promise]:
    """Say how good the targets of each rule are, by cross-validation: whole groups are left out where there are any.

    What a rule learns (temperatures, a judge) it learns on the other folds.

    Args:
        tutors: Logits on labelled samples; tutor 0 is the frozen student.
        labels: Class ids.
        names: Of the teachers.
        group: What samples have in common.
        known: Which classes each tutor knows; None is all. What none but the student knows stays with the student, as
            in training.
        more: Rules of your own, by name.

    Returns:
        A promise by the name of the rule, `learned` only where there are samples enough to learn from.

    Example:
        >>> labels = torch.arange(20) % 2
        >>> right, wrong = 3.0 * torch.eye(2)[labels], 5.0 * torch.eye(2)[1 - labels]
        >>> found = promises(torch.stack([right, wrong]), labels, ("wrong",))
        >>> found["student"].accuracy, found["most confident"].accuracy
        (100.0, 0.0)
    """
    rules = {**rules_of(names), **(more or {})}
    folds = _folds(len(labels), group)
    if min(int((folds != fold).sum()) for fold in np.unique(folds)) < FEWEST:
        del rules["learned"]
    log_probs = {name: torch.empty_like(tutors[0]) for name in rules}
    for fold in np.unique(folds):
        held, rest = torch.from_numpy(folds == fold), torch.from_numpy(folds != fold)
        learnt = fit_inputs(tutors[:, rest], labels[rest], known, judged="learned" in rules)
        for name, rule in rules.items():
            log_probs[name][held] = rule(tutors[:, held], learnt).log_softmax(1)
    return {name: _promise(values, labels) for name, values in log_probs.items()}


def rules_of(names: tuple[str, ...]) -> dict[str, Rule]:
    """Name the rules that promise something: those of `RULES`, and each teacher alone.

    Args:
        names: Of the teachers, in the order of the tutors.

    Example:
        >>> list(rules_of(("a",)))
        ['student', 'most confident', 'calibrated', 'soft', 'ensemble', 'learned', 'teacher a']
    """
    return {**RULES, **{f"teacher {name}": _alone(k) for k, name in enumerate(names, 1)}}


def fit_inputs(
    tutors: Float[Tensor, "K N C"],
    labels: Int[Tensor, " N"],
    known: Bool[Tensor, "K C"] | None = None,
    judged: bool = True,
) -> RuleInputs:
    """Learn what the rules read of other samples: a temperature of each tutor and, if asked for, a judge of all.

    Args:
        tutors: Logits on labelled samples; tutor 0 is the frozen student.
        labels: Class ids.
        known: Which classes each tutor knows; None is all.
        judged: Whether the rule `learned` is among them; it needs 50 samples.

    Example:
        >>> logits = torch.tensor([[[3.0, 0.0]]]).expand(1, 4, -1)
        >>> [round(t, 2) for t in fit_inputs(logits, torch.tensor([0, 0, 0, 1]), judged=False).temperatures]
        [2.73]
    """
    judge = fit_judge(tutors, labels) if judged else None
    return RuleInputs(temperatures=_temperatures(tutors, labels, known), judge=judge, known=known)


def _temperatures(
    tutors: Float[Tensor, "K N C"], labels: Int[Tensor, " N"], known: Bool[Tensor, "K C"] | None
) -> tuple[float, ...]:
    """Fit the temperature of each tutor on the samples that it knows and answers; it stays 1 where there is none."""
    knows = answered(tutors) if known is None else answered(tutors) & known[:, labels]
    return tuple(
        fit_temperature(tutor[rows], labels[rows]) if bool(rows.any()) else 1.0
        for tutor, rows in zip(tutors, knows, strict=True)
    )


def _alone(number: int) -> Rule:
    def one(tutors: Float[Tensor, "K N C"], inputs: RuleInputs) -> Float[Tensor, "N C"]:
        both = [0, number]
        known = None if inputs.known is None else inputs.known[both]
        return _by_choice(partition.teacher_only)(tutors[both], RuleInputs(known=known))

    return one


def _promise(log_probs: Float[Tensor, "N C"], labels: Int[Tensor, " N"]) -> Promise:
    right = (log_probs.argmax(1) == labels).double().mean().item()
    return Promise(100.0 * right, log_probs.gather(1, labels[:, None]).double().mean().item())


def _folds(count: int, group: Int[np.ndarray, " N"] | None) -> Int[np.ndarray, " N"]:
    """Return the fold of each sample: seeded, of about equal numbers of groups or of samples."""
    rng = np.random.default_rng(0)
    if group is None or len(np.unique(group)) < 2:
        return rng.permutation(count) % FOLDS
    names, code = np.unique(group, return_inverse=True)
    return (rng.permutation(len(names)) % FOLDS)[code]


def best_promise(found: Mapping[str, Promise]) -> str:
    """Return the rule that promises most: by the accuracy of its targets, then by their log-probability.

    Example:
        >>> best_promise({"student": Promise(90.0, -0.3), "soft": Promise(90.0, -0.2)})
        'soft'
    """
    return max(found, key=lambda name: (found[name].accuracy, found[name].log_probability))
