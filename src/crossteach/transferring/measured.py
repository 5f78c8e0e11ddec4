"""What a transfer has changed, measured on the test split."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from ..functional.flips import change, percent, positive_flips, transfer_rate, transfer_rate_by_area
from ..functional.label_spaces import ensemble_probs, known_together
from ..functional.statistics import Interval, balanced_accuracy, paired_delta, sign_flip_test
from ..types import Predictions

AT_ONCE = 4096
"""Samples of all models that are averaged at once."""


@dataclass(frozen=True)
class TransferPredictions:
    """What the student, before and after, and its teachers predict on the test split."""

    before: Predictions
    """The student as it was."""
    after: Predictions
    """The student that is returned."""
    ungated: Predictions
    """The student at the end of training."""
    teachers: tuple[Predictions, ...]

    @property
    def positive_flips(self) -> Bool[Tensor, " N"]:
        """Mark the samples that a teacher has right and the student had wrong; there are labels."""
        assert self.before.labels is not None
        flips = torch.zeros_like(self.before.labels, dtype=torch.bool)
        for teacher in self.teachers:
            flips |= positive_flips(self.before.logits, teacher.logits, self.before.labels)
        return flips


NEEDS_LABELS = (
    *("accuracy", "balanced_accuracy", "transfer_delta", "knowledge_gain", "knowledge_loss", "retained"),
    *("transfer_rate", "transfer_rate_by_area", "p_value", "interval"),
)
"""What `measure` leaves empty where the test split has no labels."""


def measure(found: TransferPredictions, after: Predictions) -> dict[str, Any]:
    """Compare the student as it was with the student that is returned, or ended: all in % or points.

    Without labels only `changed` is known, the share of samples that are answered otherwise.
    """
    differs = {"changed": percent(found.before.preds != after.preds)}
    if found.before.labels is None:
        return {**dict.fromkeys(NEEDS_LABELS), **differs}
    return {**_compare(found, after, found.before.labels), **differs}


def _compare(found: TransferPredictions, after: Predictions, labels: Int[Tensor, " N"]) -> dict[str, Any]:
    before = found.before
    changed = change(before.logits, after.logits, labels)
    unchanged = torch.equal(before.logits, after.logits)  # the original came back: nothing about it is uncertain
    right, right_after = before.correct.numpy(), after.correct.numpy()
    compared = paired_delta(right, right_after, before.group)
    interval = Interval(0.0, 0.0, 0.0) if unchanged else compared
    flips = found.positive_flips
    return {
        "accuracy": changed.accuracy_after,
        "balanced_accuracy": balanced(after),
        "transfer_delta": changed.delta,
        "knowledge_gain": changed.gain,
        "knowledge_loss": changed.loss,
        "retained": changed.retained,
        "transfer_rate": transfer_rate(flips, after.logits, labels),
        "transfer_rate_by_area": {
            f"{share:g}": rate for share, rate in transfer_rate_by_area(flips, after.logits, labels).items()
        },
        "p_value": sign_flip_test(right, right_after, before.group),
        "interval": [interval.low, interval.high],
    }


def balanced(answers: Predictions) -> float | None:
    """Return the mean accuracy of the classes, in %; None without labels."""
    if answers.labels is None:
        return None
    return balanced_accuracy(answers.correct.numpy(), answers.labels.numpy())


def ensemble_accuracy(models: Sequence[Predictions]) -> float | None:
    """Return what the mean of the models' probabilities reaches, in %, at the cost of running all of them.

    It is not the best that they reach together: where one is far too sure of itself, or hardly sure at all, a teacher
    alone or the mean of calibrated probabilities may have more right.

    Where one does not know all classes, it has no part in samples that the first model takes for one of the others.
    None without labels, or where there is one model.
    """
    labels = models[0].labels
    if labels is None or len(models) < 2:
        return None
    known = known_together([m.knows for m in models])
    parts = zip(*(torch.split(m.logits, AT_ONCE) for m in models), strict=True)
    preds = torch.cat([ensemble_probs(torch.stack(part), known).argmax(1) for part in parts])
    return 100.0 * (preds == labels).double().mean().item()
