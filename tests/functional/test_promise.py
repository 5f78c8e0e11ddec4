"""What rules promise is what they keep: on folds that they have not learnt from."""

import numpy as np
import pytest
import torch
from loud import answers

from crossteach.functional import (
    RuleInputs,
    fit_judge,
    fit_temperature,
    learned,
    mixed_targets,
    promises,
    soft,
    targets,
)
from crossteach.functional.partition import calibrated
from crossteach.functional.promise import FOLDS, _folds, best_promise, fit_inputs, rules_of


def test_promises_meet_a_plain_loop_over_groups():
    tutors, labels = answers(900, (1.4, 0.8), (1.0, 3.0))
    group = np.arange(900) % 12
    found = promises(tutors, labels, ("loud",), group)
    folds = _folds(900, group)
    assert all(len(set(folds[group == g])) == 1 for g in range(12)), "no group stands in two folds"
    right = {name: [] for name in ("student", "teacher loud", "soft", "calibrated", "learned")}
    for fold in range(FOLDS):
        held, rest = torch.from_numpy(folds == fold), torch.from_numpy(folds != fold)
        temperatures = tuple(fit_temperature(t[rest], labels[rest]) for t in tutors)
        inputs = RuleInputs(temperatures=temperatures, judge=fit_judge(tutors[:, rest], labels[rest]))
        some = tutors[:, held]
        for name, chosen in {
            "student": some[0],
            "teacher loud": some[1],
            "soft": mixed_targets(some, soft(some)),
            "calibrated": targets(some, calibrated(some, None, inputs)),
            "learned": mixed_targets(some, learned(some, None, inputs)),
        }.items():
            right[name] += (chosen.argmax(1) == labels[held]).tolist()
    for name, each in right.items():
        assert found[name].accuracy == pytest.approx(100 * np.mean(each))
    assert found["student"].log_probability == pytest.approx(
        tutors[0].log_softmax(1).gather(1, labels[:, None]).double().mean().item()
    )


def test_the_best_promise_is_not_that_of_a_loud_weak_teacher():
    tutors, labels = answers(3000, (1.6, 0.7), (1.0, 5.0))
    found = promises(tutors, labels, ("loud",))
    assert best_promise(found) in ("learned", "student", "calibrated")
    assert found["learned"].accuracy > found["most confident"].accuracy + 2


def test_too_few_samples_promise_no_learned_rule():
    tutors, labels = answers(40, (1.0, 1.0), (1.0, 1.0))
    assert "learned" not in promises(tutors, labels, ("other",))


def test_a_rule_of_ones_own_is_asked_beside_the_others_and_given_what_was_learnt():
    tutors, labels = answers(600, (1.4, 0.8), (1.0, 3.0))
    seen = []

    def own(some, learnt):
        seen.append(learnt.temperatures)
        return some[1]

    found, plain = (promises(tutors, labels, ("loud",), more=more) for more in ({"own": own}, None))
    assert found["own"] == found["teacher loud"] and len(set(seen)) == FOLDS
    assert list(plain) == list(rules_of(("loud",))) and {**plain, "own": found["own"]} == found


def test_what_is_learnt_are_the_temperatures_and_the_judge_of_all_samples():
    tutors, labels = answers(300, (1.4, 0.8), (1.0, 3.0))
    found = fit_inputs(tutors, labels)
    assert found.temperatures == tuple(fit_temperature(tutor, labels) for tutor in tutors)
    assert torch.equal(found.judge(tutors), fit_judge(tutors, labels)(tutors))
    assert fit_inputs(tutors[:, :20], labels[:20], judged=False).judge is None
