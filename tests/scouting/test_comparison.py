import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from crossteach.answers.compact import compact
from crossteach.functional import partition, target_logits
from crossteach.functional.flips import EXPERTISE_SHARES
from crossteach.functional.semantics import Closeness
from crossteach.scouting.comparison import describe_flips, describe_partitions, partitioned
from crossteach.scouting.ranking import ADDS_NOTHING, predicted_gain, rank_teachers
from crossteach.types import Predictions

NAMES = ("zero", "one", "two", "three")


def answered(logits, labels, model="m"):
    return Predictions(model, logits, labels, np.arange(len(logits)), model, "d")


def two(seed, n=50, c=4):
    """Draw scores of few values, so that many maxima and confidences are tied."""
    generator = torch.Generator().manual_seed(seed)
    a, b = (torch.randint(0, 3, (n, c), generator=generator).float() for _ in range(2))
    return a, b, torch.randint(0, c, (n,), generator=generator)


@given(seed=st.integers(0, 1000))
def test_partitions_are_those_that_train(seed):
    generator = torch.Generator().manual_seed(seed)  # confidences that are all but tied may round either way
    a, b = torch.randn(2, 50, 4, generator=generator)
    labels = torch.randint(0, 4, (50,), generator=generator)
    student, teacher = compact(answered(a, labels), 2.0), compact(answered(b, labels), 0.5)
    calibrated = torch.stack([a / 2.0, b / 0.5])
    rules = {
        "supervised": partition.supervised(torch.stack([a, b]), labels),
        "unsupervised": partition.unsupervised(torch.stack([a, b])),
        "calibrated": partition.unsupervised(calibrated),
    }
    for rule, tutor in rules.items():
        found = partitioned(student, teacher, rule)
        right = target_logits.targets(torch.stack([a, b]), tutor).argmax(1) == labels
        assert found.teacher_share == pytest.approx(100 * tutor.double().mean().item())
        assert found.target_accuracy == pytest.approx(100 * right.double().mean().item())
        one_knows = [i for i in range(len(labels)) if bool(student.correct[i]) != bool(teacher.correct[i])]
        wrong = [i for i in one_knows if not right[i]]
        expected = 100 * len(wrong) / len(one_knows) if one_knows else None
        assert found.wrong_choice == (expected if expected is None else pytest.approx(expected))


def test_without_labels_the_shares_are_still_known():
    a, b, labels = two(0)
    found = describe_partitions(compact(answered(a, None)), compact(answered(b, None)), calibrated=False)
    assert found["supervised"] is found["calibrated"] is None
    unsupervised = partitioned(compact(answered(a, labels)), compact(answered(b, labels)), "unsupervised")
    assert found["unsupervised"] == {
        "teacher_share": unsupervised.teacher_share,
        "target_accuracy": None,
        "wrong_choice": None,
    }


@given(seed=st.integers(0, 1000))
def test_a_pair_is_described_as_a_loop_would(seed):
    a, b, labels = two(seed)
    student, teacher = compact(answered(a, labels, "s")), compact(answered(b, labels, "t"))
    found = describe_flips(student, teacher, NAMES)
    rows = list(zip(student.preds.tolist(), teacher.preds.tolist(), labels.tolist(), strict=True))
    positive = [y for s, t, y in rows if t == y != s]
    negative = [y for s, t, y in rows if s == y != t]
    assert (found["positive_flips"], found["negative_flips"]) == (len(positive), len(negative))
    assert found["positive_flips_percent"] == pytest.approx(2 * len(positive))
    assert found["accuracy_difference"] == pytest.approx(2 * (len(positive) - len(negative)))
    assert found["uniform_entropy"] == pytest.approx(math.log(4))
    assert found["disagreement"] == pytest.approx(2 * sum(s != t for s, t, _ in rows))
    for row in found["disagreements"]:
        says = NAMES.index(row["student_says"]), NAMES.index(row["teacher_says"])
        labels_there = [y for s, t, y in rows if (s, t) == says]
        assert row["count"] == len(labels_there)
        assert (row["student_right"], row["teacher_right"]) == tuple(labels_there.count(c) for c in says)
    counts = [row["count"] for row in found["disagreements"]]
    assert counts == sorted(counts, reverse=True)
    assert sum(counts) == sum(s != t for s, t, _ in rows) or len(counts) == 10
    assert found["ceilings"]["oracle"] == pytest.approx(student.accuracy + found["positive_flips_percent"])
    for share in EXPERTISE_SHARES:
        area = found["expertise"][f"{share:g}"]
        held = sum(positive.count(NAMES.index(name)) for name in area)
        assert found["expertise_share"][f"{share:g}"] == pytest.approx(100 * held / len(positive) if positive else 0)
    assert found["similarity"] is found["wordnet"] is None


def test_closeness_is_told_for_every_area():
    a, b, labels = two(1)
    similarity = np.eye(4) * 0.5 + 0.5
    found = describe_flips(compact(answered(a, labels)), compact(answered(b, labels)), NAMES, Closeness(similarity))
    assert found["similarity"]["100"] == {"relative": pytest.approx(1.0), "p_value": pytest.approx(1.0)}
    assert found["wordnet"] is None


def right_on(rows, n=1000, sure=5.0):
    """Make a model that is right on these samples of class 0, with this much confidence, and unsure elsewhere."""
    logits = torch.zeros(n, 3)
    logits[:, 1] = 0.5
    logits[rows, 0] = sure
    return logits


def test_a_teacher_that_adds_nothing_is_redundant():
    labels = torch.zeros(1000, dtype=torch.long)
    student = compact(answered(right_on(range(500)), labels, "student"))
    teachers = {
        "wide": right_on(range(400, 800)),
        "inside wide": right_on(range(450, 700)),
        "elsewhere": right_on(range(790, 900)),
        "knows nothing": right_on([]),
    }
    ranked = rank_teachers(student, [compact(answered(logits, labels, name)) for name, logits in teachers.items()])
    adds = {r.teacher: r.adds for r in ranked}
    assert adds == pytest.approx({"wide": 30, "inside wide": 0, "elsewhere": 10, "knows nothing": 0})
    assert [r.teacher for r in ranked if not r.redundant] == ["wide", "elsewhere"]
    assert [r.teacher for r in ranked] == ["wide", "inside wide", "elsewhere", "knows nothing"]
    assert ranked[0].predicted_gain == pytest.approx(30)
    assert "30.00%" in ranked[0].reason and "80.00%" in ranked[0].reason
    assert ADDS_NOTHING == 0.1


def test_the_order_follows_the_targets_and_not_the_flips():
    """A teacher that is sure of its errors brings flips, and targets that are wrong."""
    labels = torch.zeros(1000, dtype=torch.long)
    student = compact(answered(right_on(range(500)), labels, "student"))
    loud = right_on(range(500, 800))
    loud[:500, 2] = 9.0  # surer than the student where the student is right
    modest = right_on(range(500, 600))
    ranked = rank_teachers(
        student, [compact(answered(loud, labels, "loud")), compact(answered(modest, labels, "modest"))]
    )
    assert [r.teacher for r in ranked] == ["modest", "loud"]
    assert predicted_gain(student, compact(answered(loud, labels))) == pytest.approx(-20)
    assert ranked[0].predicted_gain == pytest.approx(10)
    assert not ranked[0].redundant  # though the loud one knows all of it
