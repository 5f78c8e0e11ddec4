"""The partition family beyond the paper's two rules, each against a plain loop."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from crossteach.errors import ConfigError, MissingLabelsError
from crossteach.functional import Judge, mixtures, partition, target_logits
from crossteach.functional.rules import RuleInputs
from crossteach.transferring.methods import METHODS

N, C = 60, 4
HARD = (
    partition.supervised,
    partition.unsupervised,
    partition.calibrated,
    partition.on_positive_flips,
    partition.off_negative_flips,
    partition.shuffled,
)
MIXED = (mixtures.soft, mixtures.uniform, mixtures.flips_or_mean, mixtures.learned)


def drawn(k, seed=0, n=N, c=C):
    """Draw logits, labels and what else may be given; a quarter of the rows repeat tutor 0."""
    generator = torch.Generator().manual_seed(seed)
    tutors = 2 * torch.randn(k, n, c, generator=generator)
    tutors = torch.where(torch.rand(k, n, 1, generator=generator) < 1 / 4, tutors[:1], tutors)
    labels = torch.randint(0, c, (n,), generator=generator)
    heat = tuple((0.5 + torch.rand(k, generator=generator)).tolist())
    return tutors, labels, RuleInputs(0.0, heat, torch.rand(n, generator=generator), some_judge(k, c))


def some_judge(k, c):
    """Make a judge of k tutors over c classes that believes whoever is sure."""
    read = 9 if k > 1 else 4
    weights = torch.zeros(k, read)
    weights[:, 0] = 0.3
    return Judge(weights, torch.zeros(k), torch.zeros(k, read), torch.ones(k, read), torch.zeros(k, c))


def probabilities(tutors, i):
    return [torch.softmax(t[i].double(), 0).tolist() for t in tutors]


def first_best(scores, among):
    """Return the first of those with the highest score."""
    return max(among, key=lambda k: (scores[k], -k))


@pytest.mark.parametrize("k", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("margin", [0.0, 0.1, 0.5])
def test_a_margin_agrees_with_a_loop(k, seed, margin):
    tutors, labels, told = drawn(k, seed)
    expected = {rule: [] for rule in (partition.supervised, partition.unsupervised, partition.calibrated)}
    for i, label in enumerate(labels.tolist()):
        plain = probabilities(tutors, i)
        cooled = probabilities([t / h for t, h in zip(tutors, told.temperatures, strict=True)], i)
        scores = ([p[label] for p in plain], [max(p) for p in plain], [max(p) for p in cooled])
        for rule, of_tutor in zip(expected, scores, strict=True):
            best = of_tutor.index(max(of_tutor))
            expected[rule].append(best if of_tutor[best] - of_tutor[0] > margin else 0)
    for rule, tutor in expected.items():
        assert rule(tutors, labels, RuleInputs(margin, told.temperatures)).tolist() == tutor


@given(seed=st.integers(0, 10_000), k=st.integers(1, 4))
def test_a_margin_of_nothing_is_the_papers_rule_and_a_wider_one_takes_from_the_teachers_only(seed, k):
    tutors, labels, told = drawn(k, seed)
    for rule in (partition.supervised, partition.unsupervised, partition.calibrated):
        chosen = [rule(tutors, labels, RuleInputs(margin, told.temperatures)) for margin in (0.0, 0.1, 0.3, 0.99)]
        for less, more in itertools.pairwise(chosen):
            assert torch.equal(more[more > 0], less[more > 0])
            assert not (more > 0)[less == 0].any()
    assert torch.equal(partition.supervised(tutors, labels, RuleInputs(0.0)), partition.supervised(tutors, labels))
    assert torch.equal(partition.unsupervised(tutors, None, RuleInputs(0.0)), partition.unsupervised(tutors))


def test_what_rounds_to_equal_probabilities_is_told_apart_without_a_margin():
    tutors = torch.tensor([[[0.0, 90.0]], [[0.0, 80.0]]])
    assert partition.supervised(tutors, torch.tensor([0]), RuleInputs(0.0)).tolist() == [1]
    assert partition.supervised(tutors, torch.tensor([0]), RuleInputs(1e-9)).tolist() == [0]


def test_temperatures_of_one_leave_the_unsupervised_rule():
    tutors, _, _ = drawn(3)
    assert torch.equal(partition.calibrated(tutors, None, RuleInputs(0.0, (1.0,) * 3)), partition.unsupervised(tutors))


@pytest.mark.parametrize("k", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(4))
def test_flips_agree_with_a_loop(k, seed):
    tutors, labels, _ = drawn(k, seed)
    on, off, mean = [], [], []
    for i, label in enumerate(labels.tolist()):
        scores = [p[label] for p in probabilities(tutors, i)]
        right = [t[i].argmax().item() == label for t in tutors]
        teachers = [j for j in range(1, k) if right[j]]
        positive = bool(teachers) and not right[0]
        on.append(first_best(scores, teachers) if positive else 0)
        if teachers:
            off.append(first_best(scores, teachers))
        else:
            off.append(0 if right[0] or k == 1 else first_best(scores, range(1, k)))
        if positive:
            weights = [float(j == on[-1]) for j in range(k)]
        else:
            taking_part = [right[j] or not right[0] for j in range(k)]
            weights = [taking_part[j] / sum(taking_part) for j in range(k)]
        mean.append(weights)
    assert partition.on_positive_flips(tutors, labels).tolist() == on
    assert partition.off_negative_flips(tutors, labels).tolist() == off
    assert torch.allclose(mixtures.flips_or_mean(tutors, labels), torch.tensor(mean).T)


def test_of_two_models_the_flips_say_it_all():
    wrong_right = {"student": [0, 0, 1, 1], "teacher": [0, 1, 0, 1]}  # is it right?
    answers = torch.tensor([wrong_right["student"], wrong_right["teacher"]])
    tutors = torch.nn.functional.one_hot(answers, 2).float() * 3
    labels = torch.ones(4, dtype=torch.long)
    assert partition.on_positive_flips(tutors, labels).tolist() == [0, 1, 0, 0]
    assert partition.off_negative_flips(tutors, labels).tolist() == [1, 1, 0, 1]
    assert mixtures.flips_or_mean(tutors, labels)[1].tolist() == [0.5, 1.0, 0.0, 0.5]


@pytest.mark.parametrize("k", [1, 2, 4])
def test_weights_and_their_targets_agree_with_a_loop(k):
    tutors, _, _ = drawn(k, 1)
    for rule in (mixtures.soft, mixtures.uniform):
        weights = rule(tutors, None)
        target = target_logits.mixed_targets(tutors, weights)
        for i in range(N):
            probs = probabilities(tutors, i)
            odds = [max(p) / (1 - max(p)) for p in probs]
            expected = [o / sum(odds) for o in odds] if rule is mixtures.soft else [1 / k] * k
            assert weights[:, i].tolist() == pytest.approx(expected, rel=1e-4)
            mean = [sum(w * p[c] for w, p in zip(expected, probs, strict=True)) for c in range(C)]
            assert target[i].softmax(0).tolist() == pytest.approx(mean, rel=1e-4)
            assert target[i].exp().tolist() == pytest.approx(mean, rel=1e-4)


@given(seed=st.integers(0, 10_000), k=st.integers(1, 4), n=st.integers(0, 20), c=st.integers(1, 6))
def test_weights_sum_to_one(seed, k, n, c):
    tutors, labels, told = drawn(k, seed, n, c)
    for scale in (1.0, 300.0, 30000.0):  # the last: odds that no float holds
        for rule in MIXED:
            weights = rule(scale * tutors, labels, told)
            assert weights.shape == (k, n) and (weights >= 0).all()
            assert torch.allclose(weights.sum(0), torch.ones(n), atol=1e-5)
            target = target_logits.mixed_targets(scale * tutors, weights)
            assert target.isfinite().all()


@given(seed=st.integers(0, 10_000), n=st.integers(0, 20), c=st.integers(1, 6))
def test_the_only_tutor_teaches_everything(seed, n, c):
    tutors, labels, told = drawn(1, seed, n, c)
    for rule in HARD:
        assert not rule(tutors, labels, told).any()
    for rule in MIXED:
        assert torch.equal(rule(tutors, labels, told), torch.ones(1, n))


def test_tutors_that_agree_leave_the_frozen_student_its_samples():
    tutors, labels, told = drawn(1)
    same, told = tutors.expand(3, -1, -1), replace(told, judge=some_judge(3, C))
    for rule in (partition.supervised, partition.unsupervised, partition.on_positive_flips, partition.shuffled):
        assert not rule(same, labels, told).any()
    for rule in MIXED:
        assert torch.allclose(rule(same, labels, told), torch.full((3, N), 1 / 3))


@given(seed=st.integers(0, 10_000), k=st.integers(1, 4), n=st.integers(0, 50), margin=st.sampled_from([0.0, 0.2]))
def test_a_lot_keeps_every_tutors_count(seed, k, n, margin):
    tutors, labels, told = drawn(k, seed, n)
    told = RuleInputs(margin, None, told.chance)
    by_lot, by_label = partition.shuffled(tutors, labels, told), partition.supervised(tutors, labels, told)
    assert torch.equal(by_lot.bincount(minlength=k), by_label.bincount(minlength=k))
    ranks = np.argsort(np.argsort(told.chance.numpy(), kind="stable"), kind="stable")
    assert by_lot.tolist() == [sorted(by_label.tolist())[rank] for rank in ranks]


def test_a_lot_belongs_to_its_sample_and_hardly_to_its_batch():
    tutors, labels, told = drawn(2, n=4000)
    whole = partition.shuffled(tutors, labels, told)
    order = torch.randperm(4000, generator=torch.Generator().manual_seed(1))
    moved = partition.shuffled(tutors[:, order], labels[order], RuleInputs(chance=told.chance[order]))
    assert torch.equal(moved, whole[order])
    parts = [
        partition.shuffled(tutors[:, rows], labels[rows], RuleInputs(chance=told.chance[rows]))
        for rows in order.split(128)
    ]
    assert (torch.cat(parts) == whole[order]).double().mean() > 0.93


def test_a_lot_looks_at_nobodys_knowledge():
    tutors, labels, told = drawn(2, n=4000)
    right = tutors[1].argmax(1) == labels
    by_lot, by_label = (rule(tutors, labels, told) for rule in (partition.shuffled, partition.supervised))
    assert abs(by_lot[right].double().mean() - by_lot[~right].double().mean()) < 0.05
    assert by_label[right].double().mean() - by_label[~right].double().mean() > 0.3


def test_without_labels_a_lot_keeps_the_counts_of_the_unsupervised_partition():
    tutors, _, told = drawn(3)
    dealt, real = partition.shuffled(tutors, None, told), partition.unsupervised(tutors)
    assert torch.equal(dealt.bincount(minlength=3), real.bincount(minlength=3)) and not torch.equal(dealt, real)


def test_labels_are_missed_where_they_are_needed():
    tutors, _, told = drawn(2)
    for rule in (
        partition.on_positive_flips,
        partition.off_negative_flips,
        mixtures.flips_or_mean,
    ):
        with pytest.raises(MissingLabelsError, match="needs labels"):
            rule(tutors, None, told)


def test_what_a_rule_needs_beside_labels_is_missed_in_one_line():
    tutors, labels, _ = drawn(3)
    for few in (None, (1.0, 2.0)):
        with pytest.raises(ConfigError, match="a temperature for each of the 3 tutors"):
            partition.calibrated(tutors, labels, RuleInputs(temperatures=few))
    with pytest.raises(ConfigError, match="needs a uniform number for each sample and none is given"):
        partition.shuffled(tutors, labels)


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.targets])
def test_a_method_reads_labels_only_if_it_says_so_and_counts_every_sample(name):
    method = METHODS[name]
    tutors, labels, told = drawn(2)
    target, shares = method.targets(tutors, labels, told)
    assert target.shape == (N, C) and shares.shape == (3, N)
    assert torch.allclose(shares.sum(0), torch.ones(N))
    assert name == "self+labels" or not shares[2].any()
    read = False
    try:
        unlabelled, _ = method.targets(tutors, None, told)
        assert torch.equal(unlabelled, target) or name == "kl+dp-random"
    except MissingLabelsError:
        read = True
    if name != "kl+dp-random":  # chance deals out what the real partition gives, and without labels that is another
        assert read == ((method.labels and method.kl_weight == 1.0) or name.startswith("xe+dp"))
    wide, _ = method.targets(tutors, labels, replace(told, margin=0.4))
    assert torch.equal(wide, target) != method.margin
    hot, _ = method.targets(tutors, labels, replace(told, temperatures=(1.0, 9.0)))
    assert torch.equal(hot, target) != method.calibrated
