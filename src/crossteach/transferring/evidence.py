"""What speaks for a student where no label can: evidence that is not the training's own objective.

Three numbers on samples that nobody trained on, before and after: how often the student agrees with the ensemble of
itself and its teachers, how often it gives a sample and a view of it the same class, and how sure it is. None of them
is accuracy; docs/method.md says how often they were wrong where labels could tell.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..data.views import Views
from ..models.scoring import score
from ..types import Split, TrainableClassifier

VIEW = 0
"""Which view of a sample a stable student is asked about."""
AT_ONCE = 1024


@dataclass(frozen=True)
class Evidence:
    """One student on held-out samples, no label read; all in %."""

    agreement: float
    """Samples on which it says what the ensemble of frozen student and teachers says."""
    stability: float
    """Samples whose view it gives the same class."""
    confidence: float
    """Mean of its highest probability."""


def measure_evidence(
    student: TrainableClassifier,
    plain: Float[Tensor, "N C"],
    ensemble: Int[Tensor, " N"],
    split: Split,
    views: Views,
) -> Evidence:
    """Look at a student as it stands.

    Args:
        student: Answers views of the split.
        plain: Its logits on the plain samples.
        ensemble: What the ensemble says of each sample.
        split: Samples that nobody trained on.
        views: What the student was trained on: the same augmentation, of other samples.
    """
    preds = plain.argmax(1)
    parts = []
    for rows in np.array_split(np.arange(len(split)), range(AT_ONCE, len(split), AT_ONCE)):
        batch = views.batch(split, rows, np.full(len(rows), VIEW))
        parts.append(score(student, batch.images(student.preprocess), require_finite=False).argmax(1))
    return Evidence(
        agreement=_percent(preds == ensemble),
        stability=_percent(preds == torch.cat(parts)),
        confidence=100.0 * plain.softmax(1).amax(1).double().mean().item(),
    )


def speaks_for(before: Evidence, after: Evidence) -> bool:
    """Tell whether a student agrees more with the ensemble than before, and is no less stable under views."""
    return after.agreement > before.agreement and after.stability >= before.stability


def in_words(before: Evidence, after: Evidence) -> str:
    """Say what was found, and what it speaks for."""
    text = (
        f"on held-out samples, without labels: agreement with the ensemble of student and teachers "
        f"{before.agreement:.1f}% before and {after.agreement:.1f}% after, the same answer to a view "
        f"{before.stability:.1f}% and {after.stability:.1f}%, mean confidence {before.confidence:.1f}% and "
        f"{after.confidence:.1f}%"
    )
    return f"{text}; this speaks {'for' if speaks_for(before, after) else 'against'} the new weights"


def _percent(mask: Tensor) -> float:
    return 100.0 * mask.double().mean().item()
