import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from crossteach.errors import MissingLabelsError
from crossteach.functional import partition, target_logits

N, C = 50, 5


def logits(k, seed=0, n=N, c=C):
    """Draw logits that are multiples of 1/8, so that shifts are exact; a third of the rows repeat tutor 0."""
    generator = torch.Generator().manual_seed(seed)
    tutors = torch.randint(-40, 41, (k, n, c), generator=generator) / 8
    return torch.where(torch.rand(k, n, 1, generator=generator) < 1 / 3, tutors[:1], tutors)


def labels(seed=0, n=N, c=C):
    return torch.randint(0, c, (n,), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("k", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(3))
def test_partitions_agree_with_a_loop(k, seed):
    tutors, y = logits(k, seed), labels(seed)
    by_label, by_confidence = [], []
    for i, label in enumerate(y.tolist()):
        probs = [torch.softmax(tutors[t, i].double(), 0) for t in range(k)]
        of_label, highest = [p[label].item() for p in probs], [p.max().item() for p in probs]
        by_label.append(of_label.index(max(of_label)))  # the first of equals
        by_confidence.append(highest.index(max(highest)))
    assert partition.supervised(tutors, y).tolist() == by_label
    assert partition.unsupervised(tutors, None).tolist() == by_confidence
    assert partition.unsupervised(tutors, y).tolist() == by_confidence
    assert partition.teacher_only(tutors, None).tolist() == [k - 1] * N
    assert partition.frozen_student_only(tutors, None).tolist() == [0] * N


@given(seed=st.integers(0, 10_000), k=st.integers(1, 4), n=st.integers(0, 20), c=st.integers(1, 6))
def test_a_tie_goes_to_the_frozen_student(seed, k, n, c):
    frozen, y = logits(1, seed, n, c), labels(seed, n, c)
    tutors = frozen.expand(k, n, c)
    assert not partition.supervised(tutors, y).any()
    assert not partition.unsupervised(tutors).any()


@given(seed=st.integers(0, 10_000), k=st.integers(1, 4))
def test_a_constant_added_to_a_row_changes_nothing(seed, k):
    tutors, y = logits(k, seed), labels(seed)
    shifts = torch.randint(-64, 64, (k, N, 1), generator=torch.Generator().manual_seed(seed)).float()
    assert torch.equal(partition.supervised(tutors + shifts, y), partition.supervised(tutors, y))
    assert torch.equal(partition.unsupervised(tutors + shifts), partition.unsupervised(tutors))


def test_one_tutor_teaches_everything():
    only, y = logits(1), labels()
    for chosen in (partition.supervised(only, y), partition.unsupervised(only), partition.teacher_only(only)):
        assert torch.equal(target_logits.targets(only, chosen), only[0])


def test_a_tie_may_be_of_other_classes():
    assert partition.unsupervised(torch.tensor([[[0.0, 2.0]], [[2.0, 0.0]], [[2.0, 1.0]]])).tolist() == [0]


def test_probabilities_that_round_to_zero_are_still_told_apart():
    wrong = torch.tensor([[[0.0, 300.0]], [[0.0, 200.0]]])
    assert partition.supervised(wrong, torch.tensor([0])).tolist() == [1]


def test_targets_picks_rows():
    tutors, tutor = logits(3), labels(c=3)
    picked = target_logits.targets(tutors, tutor)
    assert picked.tolist() == [tutors[t, i].tolist() for i, t in enumerate(tutor.tolist())]


def test_label_targets_are_the_label_where_the_frozen_student_is_wrong():
    frozen, y = logits(1)[0], labels()
    right = frozen.argmax(1) == y
    assert right.any() and not right.all()
    target = target_logits.label_targets(frozen, y)
    assert torch.equal(target[right], frozen[right])
    one_hot = torch.nn.functional.one_hot(y, C).float()
    assert torch.equal(target.softmax(1)[~right], one_hot[~right])


def test_labels_are_missed_where_they_are_needed():
    with pytest.raises(MissingLabelsError, match="supervised"):
        partition.supervised(logits(2), None)
    with pytest.raises(MissingLabelsError, match=r"self\+labels"):
        target_logits.label_targets(logits(1)[0], None)
