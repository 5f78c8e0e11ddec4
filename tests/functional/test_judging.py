"""A judge tells from answers alone who is right; its probabilities are those that scikit-learn's model gives."""

import numpy as np
import pytest
import torch
from loud import answers
from sklearn.linear_model import LogisticRegression

from crossteach.errors import ConfigError, DataError
from crossteach.functional import RuleInputs, fit_judge, learned, mixed_targets, targets, unsupervised
from crossteach.functional.judging import CLIP, SHRUNK, STRENGTH, _features


def accuracy(logits, labels):
    return (logits.argmax(1) == labels).double().mean().item()


def test_a_loud_weak_tutor_does_no_harm_and_knowledge_adds_up():
    tutors, labels = answers(8000, (1.6, 0.8), (1.0, 4.0))
    judge = fit_judge(tutors[:, :1500], labels[:1500])
    held, truth = tutors[:, 1500:], labels[1500:]
    by_judge = mixed_targets(held, learned(held, None, RuleInputs(judge=judge)))
    by_confidence = targets(held, unsupervised(held))
    alone = [accuracy(tutor, truth) for tutor in held]
    assert accuracy(by_confidence, truth) < max(alone) < accuracy(by_judge, truth)


def test_what_it_says_are_probabilities():
    tutors, labels = answers(12000, (1.2, 1.0, 0.6), (2.0, 1.0, 3.0))
    said = fit_judge(tutors[:, :4000], labels[:4000])(tutors[:, 4000:]).sigmoid()
    right = tutors[:, 4000:].argmax(2) == labels[4000:]
    for k in range(3):
        for low in np.arange(0, 1, 0.2):
            some = (said[k] >= low) & (said[k] < low + 0.2)
            if int(some.sum()) > 200:
                assert said[k][some].mean().item() == pytest.approx(right[k][some].double().mean().item(), abs=0.1)


def test_features_and_fit_meet_a_plain_loop():
    tutors, labels = answers(80, (1.2, 0.7, 0.9), (1.0, 2.0, 0.5), classes=4)
    judge = fit_judge(tutors, labels)
    preds, probs = tutors.argmax(2), tutors.softmax(2)
    for k in range(3):
        rows, right = [], []
        prior = (float((preds[k] == labels).sum()) + 1) / 82

        def record(j, n, own):
            mine = (preds[j] == preds[j, n]).nonzero()[:, 0].tolist()
            mine = [i for i in mine if i != n] if own else mine
            hits = sum(int(labels[i] == preds[j, i]) for i in mine)
            prior = (float((preds[j] == labels).sum()) + 1) / 82
            share = (hits + SHRUNK * prior) / (len(mine) + SHRUNK)
            return float(np.log(share / (1 - share)))

        odds = lambda p: float(np.clip(np.log(p / (1 - p)), -CLIP, CLIP))  # noqa: E731
        for n in range(80):
            first, second = probs[k, n].sort(descending=True).values[:2].tolist()
            others = [j for j in range(3) if j != k]
            rivals = [j for j in others if preds[j, n] != preds[k, n]]
            support = np.mean([float(probs[j, n, preds[k, n]]) for j in others])
            rival = max((odds(float(probs[j, n].max())) for j in rivals), default=-CLIP)
            rows.append(
                [
                    *(odds(first), np.log(first / second), float(-(probs[k, n] * probs[k, n].log()).sum())),
                    *(record(k, n, True), odds(support), (2 - len(rivals)) / 2, rival),
                    *(max((record(j, n, True) for j in rivals), default=-CLIP), odds(first) - rival),
                ]
            )
            right.append(bool(preds[k, n] == labels[n]))
        features = np.array(rows)
        even = (features - features.mean(0)) / np.maximum(features.std(0), 1e-3)
        model = LogisticRegression(C=STRENGTH, max_iter=1000).fit(even, right)
        assert judge.weights[k].numpy() == pytest.approx(model.coef_[0], abs=2e-3)
        assert prior > 0 and judge.bias[k].item() == pytest.approx(model.intercept_[0], abs=2e-3)
        whole = [record(k, n, False) for n in range(80)]
        assert judge.record[k][preds[k]].numpy() == pytest.approx(whole, abs=1e-4)


def test_one_tutor_and_one_that_is_always_right_are_judged_too():
    tutors, labels = answers(300, (1.2,), (1.0,))
    assert fit_judge(tutors, labels)(tutors).shape == (1, 300)
    sure = 9.0 * torch.eye(10)[labels][None]
    both = torch.cat([sure, tutors])
    weights = learned(both, None, RuleInputs(judge=fit_judge(both, labels)))
    assert weights.sum(0) == pytest.approx(torch.ones(300)) and bool((weights[0] > 0.5).double().mean() > 0.9)


def test_two_classes_and_certain_answers_give_finite_features():
    certain = torch.tensor([[[1e4, 0.0], [0.0, 1e4]], [[0.0, 1e4], [0.0, 0.0]]])
    assert bool(_features(certain, certain.argmax(2), torch.zeros(2, 2)).isfinite().all())


def test_too_few_samples_and_other_tutors_are_refused():
    tutors, labels = answers(40, (1.0, 1.0), (1.0, 1.0))
    with pytest.raises(DataError, match="learns from 50 labelled samples or more, not 40"):
        fit_judge(tutors, labels)
    tutors, labels = answers(60, (1.0, 1.0), (1.0, 1.0))
    judge = fit_judge(tutors, labels)
    with pytest.raises(ConfigError, match="needs a judge of these 3 tutors and one of 2 is given"):
        learned(tutors[[0, 1, 1]], None, RuleInputs(judge=judge))
    with pytest.raises(ConfigError, match="needs a judge of these 2 tutors and none is given"):
        learned(tutors)
