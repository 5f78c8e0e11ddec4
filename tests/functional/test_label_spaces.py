"""Answers over other classes, and a teacher that knows a part of them: against plain loops."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from crossteach.answers.tutors import LOWEST, below_maximum
from crossteach.functional import (
    RuleInputs,
    ensemble_probs,
    keep_unknown,
    kl_divergence,
    map_logits,
    probability_outside,
    promises,
    uniform,
)
from crossteach.functional.judging import fit_judge
from crossteach.transferring.loss import TransferLoss
from crossteach.transferring.methods import METHODS

CLASSES = 5
ON_ANSWERS = [name for name, method in METHODS.items() if method.targets is not None and method.teachers]


def by_loop(logits, belongs, n_classes):
    """Sum probabilities one by one."""
    rows = []
    for answer in logits.double():
        probs = answer.softmax(0)
        own = [sum(float(p) for p, to in zip(probs, belongs, strict=True) if to == c) for c in range(n_classes)]
        outside = sum(float(p) for p, to in zip(probs, belongs, strict=True) if to < 0)
        unknown = [c for c in range(n_classes) if c not in belongs]
        shared = unknown or range(n_classes)
        rows.append([p + (outside / len(shared) if c in shared else 0.0) for c, p in enumerate(own)])
    return torch.tensor(rows)


@given(
    belongs=st.lists(st.integers(-1, CLASSES - 1), min_size=1, max_size=9).filter(lambda x: max(x) >= 0),
    spread=st.sampled_from([0.1, 3.0, 200.0, 1e5]),
)
def test_probabilities_are_added_up_where_they_belong(belongs, spread):
    logits = spread * torch.randn(4, len(belongs), generator=torch.Generator().manual_seed(0))
    mapped = map_logits(logits, torch.tensor(belongs), CLASSES)
    torch.testing.assert_close(mapped.softmax(1), by_loop(logits, belongs, CLASSES).float(), atol=1e-5, rtol=1e-4)
    outside = [float(row.double().softmax(0)[torch.tensor(belongs) < 0].sum()) for row in logits]
    torch.testing.assert_close(probability_outside(logits, torch.tensor(belongs)), torch.tensor(outside))
    half = below_maximum(mapped).half()
    assert mapped.isfinite().all() and half.isfinite().all() and (half > LOWEST).all()


def test_another_order_is_put_right_and_nothing_is_computed():
    logits = torch.randn(6, CLASSES)
    order = torch.randperm(CLASSES)
    assert torch.equal(map_logits(logits[:, order], order, CLASSES), logits)


def some_tutors(k=3, n=400):
    generator = torch.Generator().manual_seed(1)
    return 3 * torch.randn(k, n, CLASSES, generator=generator), torch.randint(CLASSES, (n,), generator=generator)


KNOWN = torch.tensor([[True] * CLASSES, [True, True, False, False, True], [False, True, True, False, False]])


def test_classes_that_a_tutor_does_not_know_keep_the_frozen_students_probabilities():
    tutors, _ = some_tutors(n=20)
    found = keep_unknown(tutors, KNOWN).softmax(2)
    probs = tutors.softmax(2)
    assert torch.equal(keep_unknown(tutors, KNOWN)[0], tutors[0])
    for k in (1, 2):
        for i in range(20):
            known = [c for c in range(CLASSES) if KNOWN[k, c]]
            left = sum(float(probs[0, i, c]) for c in known)
            own = sum(float(probs[k, i, c]) for c in known)
            wanted = [
                left * float(probs[k, i, c]) / own if c in known else float(probs[0, i, c]) for c in range(CLASSES)
            ]
            torch.testing.assert_close(found[k, i], torch.tensor(wanted))


def test_nothing_pulls_a_student_at_classes_that_its_teacher_does_not_know():
    tutors, _ = some_tutors(n=50)
    student = tutors[0].clone().requires_grad_()
    kl_divergence(student, keep_unknown(tutors, KNOWN)[1]).backward()
    pull = student.grad.abs()
    assert pull[:, ~KNOWN[1]].max() < 1e-7 < 1e-3 < pull[:, KNOWN[1]].max()


def loss_of(name, known, tutors, labels):
    judge = fit_judge(tutors, labels) if METHODS[name].judged else None
    heat = (1.0,) * len(tutors) if METHODS[name].calibrated else None
    loss = TransferLoss(name, temperatures=heat, judge=judge, known=known)
    chance = torch.rand(len(labels), generator=torch.Generator().manual_seed(2))
    return loss(torch.zeros_like(tutors[0]), tutors[0], list(tutors[1:]), labels, chance)


@pytest.mark.parametrize("name", ON_ANSWERS)
def test_no_method_gives_a_teacher_a_class_that_it_does_not_know(name):
    teachers = 1 if name.startswith(("kl", "xe-kl")) and not METHODS[name].frozen_student else 2
    tutors, labels = some_tutors(1 + teachers)
    known = KNOWN[: 1 + teachers]
    classes = labels if METHODS[name].labels else tutors[0].argmax(1)
    shares = loss_of(name, known, tutors, labels).shares
    assert (shares[1:-1][~known[1:, classes]] == 0).all()
    assert all(shares[k][known[k, classes]].sum() > 0 for k in range(1, 1 + teachers))
    torch.testing.assert_close(shares.sum(0), torch.ones(len(labels)))


@pytest.mark.parametrize("name", ON_ANSWERS)
def test_teachers_that_know_all_classes_teach_as_before_bit_for_bit(name):
    teachers = 1 if not METHODS[name].frozen_student else 2
    tutors, labels = some_tutors(1 + teachers)
    plain = loss_of(name, None, tutors, labels)
    told = loss_of(name, torch.ones_like(KNOWN[: 1 + teachers]), tutors, labels)
    assert torch.equal(plain.loss, told.loss) and torch.equal(plain.shares, told.shares)


def test_samples_without_a_label_are_of_the_class_that_the_frozen_student_answers():
    tutors, labels = some_tutors()
    none = torch.full_like(labels, -100)
    shares = loss_of("xe+dp", KNOWN, tutors, torch.where(torch.arange(len(labels)) % 2 == 0, labels, none)).shares
    classes = torch.where(torch.arange(len(labels)) % 2 == 0, labels, tutors[0].argmax(1))
    assert (shares[1:-1][~KNOWN[1:, classes]] == 0).all()


def test_the_ensemble_is_of_those_that_know():
    tutors, _ = some_tutors(n=30)
    classes, probs = tutors[0].argmax(1), keep_unknown(tutors, KNOWN).softmax(2)
    found = ensemble_probs(tutors, KNOWN)
    for i, c in enumerate(classes.tolist()):
        knowing = [k for k in range(3) if KNOWN[k, c]]
        torch.testing.assert_close(found[i], sum(probs[k, i] for k in knowing) / len(knowing))
    assert uniform(tutors, None, RuleInputs(known=KNOWN)).sum(0).allclose(torch.ones(30))


def test_what_a_rule_promises_of_a_partial_teacher_is_what_it_does_in_training():
    tutors, labels = some_tutors(2)
    known = KNOWN[:2]
    found = promises(tutors, labels, ("partial",), known=known)
    classes = tutors[0].argmax(1)
    taught = torch.where(known[1, classes][:, None], keep_unknown(tutors, known)[1], tutors[0])
    assert found["teacher partial"].accuracy == pytest.approx(100 * (taught.argmax(1) == labels).double().mean().item())
    assert math.isfinite(found["learned"].log_probability)
    plain, told = promises(tutors, labels, ("t",)), promises(tutors, labels, ("t",), known=torch.ones_like(known))
    assert plain == told


def test_a_method_without_a_frozen_student_asks_it_where_a_teacher_is_partial():
    assert TransferLoss("kl").method == METHODS["kl"]
    assert TransferLoss("kl", known=KNOWN[:2]).method == replace(METHODS["kl"], frozen_student=True)
