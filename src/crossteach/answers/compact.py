"""What comparing models needs of one model's answers: a few numbers a sample instead of a logit for every class.

Thirty models on 50,000 samples of 1000 classes are 6 GB of logits, and 30 MB of compact predictions. Every
pair is compared from these alone; only the mean-probability ensemble needs the logits again (`ensembles.py`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..errors import DataError, LabelSpaceError, MissingLabelsError
from ..types import NO_ANSWER, Predictions

ROWS = 4096
"""Samples that are reduced at once: the work stays in the cache's reach."""
TOP = 5


@dataclass(frozen=True)
class PredictedClasses:
    """The class that one model gives each sample of a split."""

    model: str
    n_classes: int
    preds: Int[Tensor, " N"]
    labels: Int[Tensor, " N"] | None
    knows: Bool[Tensor, " C"] | None = field(default=None, kw_only=True)
    """Which classes the model knows; None is all."""

    @property
    def answered(self) -> Bool[Tensor, " N"]:
        """Which samples the model has an answer to."""
        return self.preds != NO_ANSWER

    def known_of(self, classes: Int[Tensor, " N"]) -> Bool[Tensor, " N"]:
        """Mark the samples of these classes that the model knows."""
        return torch.ones_like(classes, dtype=torch.bool) if self.knows is None else self.knows[classes]

    @cached_property
    def correct(self) -> Bool[Tensor, " N"]:
        """Which samples are right."""
        if self.labels is None:
            raise MissingLabelsError("answers without labels cannot be right or wrong; give a split with labels")
        return self.preds == self.labels

    @property
    def accuracy(self) -> float:
        """Share that is right of the samples that it answers, in %."""
        return 100.0 * self.correct[self.answered].double().mean().item()


@dataclass(frozen=True)
class CompactPredictions(PredictedClasses):
    """One model's answers on one split, a few numbers a sample."""

    data_fingerprint: str
    confidence: Float[Tensor, " N"]
    """Log of the highest probability."""
    calibrated: Float[Tensor, " N"]
    """The same after the model's temperature; equal to `confidence` where none was fitted."""
    right: Float[Tensor, " N"] | None
    """Log-probability of the right class; None without labels."""
    within_top: Bool[Tensor, " N"] | None
    """Whether fewer than five classes score above the right one; None without labels."""


def compact(predictions: Predictions, temperature: float = 1.0) -> CompactPredictions:
    """Keep what comparisons need of a model's logits; where it has no answer, probabilities are 0.

    Args:
        predictions: Logits [N, C] and labels, if there are any.
        temperature: Divides the logits for `calibrated`; decide it on the selection split.
    """
    logits, labels = predictions.logits, predictions.labels
    preds = torch.empty(len(logits), dtype=torch.long)
    confidence, calibrated, right = (torch.empty(len(logits)) for _ in range(3))
    within_top = torch.empty(len(logits), dtype=torch.bool)
    for start in range(0, len(logits), ROWS):
        part = slice(start, start + ROWS)
        preds[part] = torch.from_numpy(logits[part].numpy().argmax(1))  # several times faster than torch's
        below = logits[part] - logits[part].amax(1, keepdim=True)
        if labels is not None:
            gap = below.gather(1, labels[part, None])
            wrong = gap[:, 0] < 0  # only their ranks take a look at every class
            within_top[part] = True
            within_top[part][wrong] = (below[wrong] > gap[wrong]).sum(1) < TOP
            right[part] = gap.squeeze(1)
        if temperature != 1.0:
            calibrated[part] = -(below / temperature).exp_().sum(1).log()
        confidence[part] = -below.exp_().sum(1).log()
    right += confidence
    nothing = ~predictions.answered
    if bool(nothing.any()):
        preds[nothing], within_top[nothing] = NO_ANSWER, False
        for values in (confidence, calibrated, right):
            values[nothing] = -math.inf
    return CompactPredictions(
        model=predictions.model,
        data_fingerprint=predictions.data_fingerprint,
        n_classes=logits.shape[1],
        preds=preds,
        confidence=confidence,
        calibrated=confidence if temperature == 1.0 else calibrated,
        labels=labels,
        right=right if labels is not None else None,
        within_top=within_top if labels is not None else None,
        knows=predictions.knows,
    )


def require_same_samples(models: Sequence[CompactPredictions]) -> None:
    """Raise if models answered different samples, the same in another order, or different classes.

    Raises:
        DataError: If data, order or labels differ.
        LabelSpaceError: If the number of classes differs.
    """
    first = models[0]
    for other in models[1:]:
        if other.n_classes != first.n_classes:
            raise LabelSpaceError(
                f"{first.model} scores {first.n_classes} classes but {other.model} scores {other.n_classes}; "
                "compare models with the same classes"
            )
        if first.labels is None or other.labels is None:
            same = first.labels is other.labels
        else:
            same = torch.equal(first.labels, other.labels)
        if first.data_fingerprint != other.data_fingerprint or len(first.preds) != len(other.preds) or not same:
            raise DataError(
                f"{first.model} and {other.model} answered other samples, or the same in another order; "
                "predict both on the same split"
            )
