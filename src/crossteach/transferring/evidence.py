"""Evidence for or against a student that reads no label, and is not the objective of its training.

Three numbers on samples that no training has used, before and after: how often the student agrees with the ensemble of
itself and its teachers, how often it gives a sample and a view of it the same class, and its mean confidence. None of
them is accuracy; docs/method.md says how often they were wrong where labels could tell.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..data.views import Views
from ..functional.flips import percent
from ..models.scoring import score
from ..types import Split, TrainableClassifier

VIEW = 0
"""Which view of a sample a stable student is asked about."""
AT_ONCE = 1024


@dataclass(frozen=True)
class Evidence:
    """One student on held-out samples, no label read; all in %."""

    agreement: float
    """Samples that it gives the class that the ensemble of frozen student and teachers gives."""
    stability: float
    """Samples that it gives the same class plain and as a view."""
    confidence: float
    """Mean of its highest probability."""


def measure_evidence(
    student: TrainableClassifier,
    plain: Float[Tensor, "N C"],
    ensemble: Int[Tensor, " N"],
    split: Split,
    views: Views,
) -> Evidence:
    """Measure a student with the weights that it has now.

    Args:
        student: Answers views of the split.
        plain: Its logits on the plain samples.
        ensemble: The class that the ensemble gives each sample.
        split: Samples that no training has used.
        views: What the student was trained on: the same augmentation, of other samples.
    """
    preds = plain.argmax(1)
    parts = []
    for rows in np.array_split(np.arange(len(split)), range(AT_ONCE, len(split), AT_ONCE)):
        batch = views.batch(split, rows, np.full(len(rows), VIEW))
        parts.append(score(student, batch.images(student.preprocess), require_finite=False).argmax(1))
    return Evidence(
        agreement=percent(preds == ensemble),
        stability=percent(preds == torch.cat(parts)),
        confidence=100.0 * plain.softmax(1).amax(1).double().mean().item(),
    )


def speaks_for(before: Evidence, after: Evidence) -> bool:
    """Tell whether a student agrees more with the ensemble than before, and is no less stable under views.

    It is kept so that studies can count how often it is wrong; docs/method.md has the count.
    """
    return after.agreement > before.agreement and after.stability >= before.stability


def in_words(before: Evidence, after: Evidence) -> str:
    """Say what was found, and that it decides nothing."""
    text = (
        f"on held-out samples, without labels: agreement with the ensemble of student and teachers "
        f"{before.agreement:.1f}% before and {after.agreement:.1f}% after, the same answer to a view "
        f"{before.stability:.1f}% and {after.stability:.1f}%, mean confidence {before.confidence:.1f}% and "
        f"{after.confidence:.1f}%"
    )
    return f"{text}; where labels could tell, these numbers did not tell gains from losses: a few labels do"
