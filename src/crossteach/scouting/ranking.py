"""Orders the teachers of a student by predicted gain, and marks those that add nothing to the ones before them."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..answers.compact import CompactPredictions
from ..functional.flips import percent
from .comparison import partitioned

ADDS_NOTHING = 0.1
"""Points that a teacher must add to the joint oracle of the student and the teachers chosen before it."""


@dataclass(frozen=True)
class RankedTeacher:
    """One teacher's place in a student's list."""

    teacher: str
    predicted_gain: float
    """Accuracy of the partition's targets − accuracy of the student on the tune part of the selection split, in points.

    It is what the student would gain if it learnt every target: a bound, not a forecast. docs/scout.md says how much of
    it students reached, and how well the order agreed with the gains of real transfers.
    """
    adds: float
    """What the teacher adds to the oracle of the student and the teachers above it, in points."""
    redundant: bool
    reason: str


def predicted_gain(student: CompactPredictions, teacher: CompactPredictions) -> float:
    """Return how far the partition's targets stand above the student, in points.

    The partition is the unsupervised one. The supervised one is right wherever either model is, so its targets would
    only repeat the positive flips.
    """
    accuracy = partitioned(student, teacher, "unsupervised").target_accuracy
    assert accuracy is not None
    return accuracy - student.accuracy


def rank_teachers(student: CompactPredictions, teachers: Sequence[CompactPredictions]) -> list[RankedTeacher]:
    """Order teachers by predicted gain, and mark those that add nothing to the ones above them.

    What a teacher adds is the share of samples that it has right and neither the student nor a teacher above has. (An
    order by what each adds would put a teacher with many flips and many confident errors first.)

    Args:
        student: On the labelled tune part of the selection split.
        teachers: On the same samples.
    """
    gains = {id(teacher): predicted_gain(student, teacher) for teacher in teachers}
    known = student.correct.clone()
    ranked: list[RankedTeacher] = []
    for teacher in sorted(teachers, key=lambda t: (-gains[id(t)], t.model)):
        flips, adds = percent(teacher.correct & ~student.correct), percent(teacher.correct & ~known)
        known |= teacher.correct
        gain, redundant = gains[id(teacher)], adds < ADDS_NOTHING
        reason = (
            f"right on {flips:.2f}% that the student has wrong; targets shared by confidence would be right on "
            f"{student.accuracy + gain:.2f}% ({gain:+.2f} points)"
        )
        if ranked:
            reason += f"; {adds:.2f}% are right here that neither the student nor a teacher above knows"
        ranked.append(RankedTeacher(teacher.model, gain, adds, redundant, reason))
    return ranked
