"""Two models side by side: what each knows that the other does not, and who would teach what."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from ..answers.compact import CompactPredictions
from ..functional.flips import EXPERTISE_SHARES, Flips, percent
from ..functional.semantics import Closeness

READ_BY = {"supervised": "right", "unsupervised": "confidence", "calibrated": "calibrated"}
"""What each partition reads of compact predictions: the tutor in whom it is higher teaches."""
READS_LABELS = ("supervised",)
"""Partitions that know the class of a sample by its label; the others take what the student answers for it."""
DISAGREEMENTS = 10
"""How many pairs of differing answers are listed."""


@dataclass(frozen=True)
class Partitioned:
    """Which samples of a transfer set each would teach under a partition, measured before anything is trained."""

    teacher_share: float
    """Samples that the teacher would teach, in %."""
    target_accuracy: float | None
    """How often the targets are right, in %: what a student that learnt all of them would reach here."""
    wrong_choice: float | None
    """Where exactly one of the two is right, how often the other one teaches, in %; 50 is guessing."""


def partitioned(student: CompactPredictions, teacher: CompactPredictions, rule: str) -> Partitioned:
    """Try a partition on plain samples that the student answers. A teacher teaches none whose class it does not know.

    Args:
        student: Of the student, which is the frozen student and so wins ties.
        teacher: Of the teacher on the same samples.
        rule: `supervised` (reads the right class), `unsupervised` or `calibrated` (read confidence).
    """
    taught = getattr(teacher, READ_BY[rule]) > getattr(student, READ_BY[rule])
    classes = student.labels if rule in READS_LABELS else student.preds
    taught = taught if classes is None else taught & teacher.known_of(classes)
    answered = student.answered
    share = percent(taught[answered])
    if student.labels is None:
        return Partitioned(share, None, None)
    right = torch.where(taught, teacher.correct, student.correct)[answered]
    decisive = (student.correct != teacher.correct)[answered]
    return Partitioned(share, percent(right), percent(~right[decisive]) if decisive.any() else None)


def flips_between(student: CompactPredictions, teacher: CompactPredictions) -> Flips:
    """Return what two models know of each other's mistakes, from compact predictions of the same labelled samples.

    Samples that one of them has no answer to are no flips.
    """
    assert student.labels is not None
    return Flips(
        positive=teacher.correct & ~student.correct & student.answered,
        negative=student.correct & ~teacher.correct & teacher.answered,
        labels=student.labels,
        n_classes=student.n_classes,
    )


def describe_flips(
    student: CompactPredictions,
    teacher: CompactPredictions,
    names: Sequence[str],
    text: Closeness | None = None,
    wordnet: Closeness | None = None,
) -> dict[str, Any]:
    """Describe as JSON what a teacher knows that a student does not: how much, in which classes, and where they differ.

    Args:
        student: Of the model that would learn.
        teacher: Of the one it would learn from, on the same labelled samples.
        names: Of the classes.
        text: How close class names are, where it is known.
        wordnet: How close classes stand in WordNet, where that is known.
    """
    flips, both = flips_between(student, teacher), student.answered & teacher.answered
    n, positive, negative = len(flips.labels), int(flips.positive.sum()), int(flips.negative.sum())
    areas = {f"{share:g}": flips.expertise(share) for share in EXPERTISE_SHARES}
    disagreement, rows = _disagreements(student, teacher, names)
    return {
        "positive_flips": positive,
        "negative_flips": negative,
        "positive_flips_percent": 100.0 * positive / max(n, 1),
        "negative_flips_percent": 100.0 * negative / max(n, 1),
        "accuracy_difference": percent(teacher.correct[both]) - percent(student.correct[both]),
        "entropy": flips.entropy,
        "uniform_entropy": torch.tensor(float(len(names))).log().item(),
        "expertise": {share: [names[c] for c in area.tolist()] for share, area in areas.items()},
        "expertise_share": {
            share: 100.0 * int(flips.by_class[area].sum()) / positive if positive else 0.0
            for share, area in areas.items()
        },
        "similarity": _similarity(areas, text),
        "wordnet": _similarity(areas, wordnet),
        "disagreement": disagreement,
        "disagreements": rows,
        "ceilings": {
            "mean_probability": None,
            "most_confident": partitioned(student, teacher, "unsupervised").target_accuracy,
            "oracle": percent(student.correct | teacher.correct),
        },
    }


def _disagreements(
    student: CompactPredictions, teacher: CompactPredictions, names: Sequence[str]
) -> tuple[float, list[dict[str, Any]]]:
    """Return how often the answers differ, in %, and the pairs of answers that do so most."""
    differ = (student.preds != teacher.preds) & student.answered & teacher.answered
    codes = student.preds[differ] * len(names) + teacher.preds[differ]
    assert student.labels is not None
    labels = student.labels[differ]
    found, counts = torch.unique(codes, return_counts=True)
    most = counts.argsort(descending=True, stable=True)[:DISAGREEMENTS]
    rows = []
    for code, count in zip(found[most].tolist(), counts[most].tolist(), strict=True):
        says = divmod(code, len(names))
        true = labels[codes == code]
        rows.append(
            {
                "student_says": names[says[0]],
                "teacher_says": names[says[1]],
                "count": count,
                "student_right": int((true == says[0]).sum()),
                "teacher_right": int((true == says[1]).sum()),
            }
        )
    return percent(differ), rows


def _similarity(areas: dict[str, Int[Tensor, " _"]], closeness: Closeness | None) -> dict[str, Any] | None:
    """Say how close the classes of each area are."""
    if closeness is None:
        return None
    found = closeness.of_each(list(areas.values()))
    return {share: asdict(similarity) for share, similarity in zip(areas, found, strict=True)}


def describe_partitions(student: CompactPredictions, teacher: CompactPredictions, calibrated: bool) -> dict[str, Any]:
    """Describe as JSON who would teach what on the transfer set, under each rule that has what it reads."""
    rules = {
        "supervised": student.labels is not None,
        "unsupervised": True,
        "calibrated": calibrated,
    }
    return {rule: asdict(partitioned(student, teacher, rule)) if fits else None for rule, fits in rules.items()}
