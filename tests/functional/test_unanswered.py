"""Tutors without an answer to some samples: as if they were not there, sample by sample."""

import math

import numpy as np
import pytest
import torch

from crossteach import functional
from crossteach.functional import (
    RuleInputs,
    ensemble_accuracies,
    ensemble_probs,
    fit_judge,
    keep_unknown,
    mixed_targets,
    mixtures,
    negative_flips,
    partition,
    positive_flips,
    promises,
    targets,
    who_knows,
)

N, C = 400, 6


@pytest.fixture
def drawn():
    """Four tutors; all but the frozen student lack a third of their answers."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(C, (N,), generator=generator)
    tutors = 2 * torch.randn(4, N, C, generator=generator) + 2 * torch.eye(C)[labels]
    silent = torch.rand(4, N, generator=generator) < 1 / 3
    silent[0] = False
    return tutors.masked_fill(silent[..., None], math.nan), labels, silent


CHOICES = ["supervised", "unsupervised", "on_positive_flips", "off_negative_flips", "calibrated"]
MIXTURES = ["soft", "uniform", "flips_or_mean"]


def alone(rule, tutors, labels, silent):
    """Ask a rule about each sample, of the tutors that answer it: the weight of each tutor."""
    weights = torch.zeros(tutors.shape[:2])
    for n in range(tutors.shape[1]):
        there = torch.nonzero(~silent[:, n])[:, 0]
        inputs = RuleInputs(temperatures=tuple(1.0 + k for k in there.tolist()))
        found = rule(tutors[there, n : n + 1], labels[n : n + 1], inputs)
        if found.dim() == 1:
            weights[there[found[0]], n] = 1
        else:
            weights[there, n] = found[:, 0]
    return weights


@pytest.mark.parametrize("name", [*CHOICES, *MIXTURES])
def test_a_rule_chooses_among_those_that_answer(drawn, name):
    tutors, labels, silent = drawn
    rule, inputs = getattr(functional, name), RuleInputs(temperatures=(1.0, 2.0, 3.0, 4.0))
    found, filled = rule(tutors, labels, inputs), keep_unknown(tutors, None)
    expected = alone(rule, tutors, labels, silent)
    if name in CHOICES:
        assert torch.equal(found, expected.argmax(0))
        assert targets(filled, found).isfinite().all()
    else:
        torch.testing.assert_close(found, expected)
        assert mixed_targets(filled, found).isfinite().all()


def test_where_the_teacher_is_silent_the_frozen_student_teaches(drawn):
    tutors, labels, silent = drawn
    assert torch.equal(partition.teacher_only(tutors), torch.where(silent[3], 0, 3))
    by_lot = partition.shuffled(tutors, labels, RuleInputs(chance=torch.rand(N)))
    assert not silent.gather(0, by_lot[None]).any()
    known = torch.ones(4, C, dtype=torch.bool)
    known[2, :3] = False
    assert torch.equal(who_knows(tutors, labels, RuleInputs(known=known)), ~silent & known[:, labels])
    assert who_knows(keep_unknown(tutors, None), labels, RuleInputs()) is None


def test_the_ensemble_is_of_those_that_answer(drawn):
    tutors, labels, silent = drawn
    expected = torch.stack([tutors[~silent[:, n], n].softmax(1).mean(0) for n in range(N)])
    torch.testing.assert_close(ensemble_probs(tutors), expected)
    found = ensemble_accuracies([(tutors, labels)], 4)
    for a in range(4):
        for b in range(4):
            right = 0
            for n in range(N):
                there = [k for k in (a, b) if not silent[k, n]]
                right += bool(there) and int(tutors[there, n].softmax(1).mean(0).argmax()) == int(labels[n])
            assert found.pairs[a, b] == pytest.approx(100 * right / N)
    assert found.together == pytest.approx(100 * (expected.argmax(1) == labels).double().mean().item())


def test_no_flip_is_counted_where_one_is_silent(drawn):
    tutors, labels, silent = drawn
    labels = torch.zeros_like(labels)  # argmax of NaN is class 0
    assert not positive_flips(tutors[0], tutors[1], labels)[silent[1]].any()
    assert not negative_flips(tutors[0], tutors[1], labels)[silent[1]].any()
    assert positive_flips(tutors[0], tutors[1], labels).any()


def test_a_judge_learns_about_a_tutor_from_what_it_answers(drawn):
    """A tutor that is always wrong where it answers is not taken for the student where it does not."""
    _, labels, silent = drawn
    student, wrong = 4 * torch.eye(C)[labels], 4 * torch.eye(C)[(labels + 1) % C]
    both = torch.stack([student, wrong.masked_fill(silent[1][:, None], math.nan)])
    judge = fit_judge(both, labels)
    assert judge(both).isfinite().all()
    assert judge(both)[1][~silent[1]].sigmoid().max() < 0.01
    assert (judge.record[1].sigmoid() < 0.05).all()
    weights = mixtures.learned(both, labels, RuleInputs(judge=judge))
    assert (weights[1][silent[1]] == 0).all()


def test_promises_are_finite_and_those_of_the_filled_answers(drawn):
    tutors, labels, silent = drawn
    found = promises(tutors, labels, ("a", "b", "c"))
    assert all(np.isfinite([p.accuracy, p.log_probability]).all() for p in found.values())
    alone = torch.where(silent[2], tutors[0].argmax(1), tutors[2].argmax(1)) == labels
    assert found["teacher b"].accuracy == pytest.approx(100 * alone.double().mean().item())
