import math
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from crossteach.errors import DataError, LabelSpaceError, MissingLabelsError
from crossteach.functional import flips as knowledge
from crossteach.types import Predictions

N, C = 60, 4


def scores(seed, n=N, c=C):
    """Draw scores of few values, so that many maxima are tied."""
    return torch.randint(0, 3, (n, c), generator=torch.Generator().manual_seed(seed)).float()


def labels(seed, n=N, c=C):
    return torch.randint(0, c, (n,), generator=torch.Generator().manual_seed(seed))


def first_best(row):
    values = row.tolist()
    return values.index(max(values))


def is_right(logits, y):
    return [first_best(row) == label for row, label in zip(logits, y.tolist(), strict=True)]


def predictions(logits, y, **changes):
    facts = {"model": "m", "ids": np.arange(len(logits)), "model_fingerprint": "m", "data_fingerprint": "d"}
    return Predictions(**{**facts, "logits": logits, "labels": y, **changes})


@pytest.mark.parametrize("seed", range(5))
def test_flips_agree_with_a_loop(seed):
    student, teacher, y = scores(seed), scores(seed + 100), labels(seed)
    s, t = is_right(student, y), is_right(teacher, y)
    positive = [b and not a for a, b in zip(s, t, strict=True)]
    negative = [a and not b for a, b in zip(s, t, strict=True)]
    found = knowledge.flips(predictions(student, y), predictions(teacher, y))
    assert found.positive.tolist() == positive
    assert found.negative.tolist() == negative
    assert found.complementary_knowledge == pytest.approx(100 * sum(positive) / N)
    by_class = [sum(p for p, label in zip(positive, y.tolist(), strict=True) if label == c) for c in range(C)]
    assert found.by_class.tolist() == by_class
    shares = [k / sum(by_class) for k in by_class if k]
    assert found.entropy == pytest.approx(-sum(k * math.log(k) for k in shares))
    assert found.expertise(50.0).tolist() == knowledge.expertise_area(torch.tensor(by_class), 50.0).tolist()
    correct = torch.tensor([s, t])
    matrix = knowledge.flip_matrix(correct)
    for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
        assert matrix[i, j].item() == pytest.approx(knowledge.percent(~correct[i] & correct[j]))


@given(seed=st.integers(0, 10_000), n=st.integers(1, 40), c=st.integers(1, 6))
def test_laws_of_flips(seed, n, c):
    student, teacher, y = scores(seed, n, c), scores(seed + 1, n, c), labels(seed, n, c)
    assert not knowledge.positive_flips(student, student, y).any()
    positive = knowledge.positive_flips(student, teacher, y)
    assert torch.equal(positive, knowledge.negative_flips(teacher, student, y))
    assert torch.equal(positive, knowledge.positive_flips(student * 3 - 1, teacher / 2, y))
    counts = knowledge.flips_by_class(positive, y, c)
    assert knowledge.flip_entropy(counts) <= math.log(c) + 1e-12
    assert knowledge.flip_entropy(torch.full((c,), 7)) == pytest.approx(math.log(c))


@given(st.lists(st.integers(0, 12), min_size=1, max_size=6), st.sampled_from([1, 2, 5, 20, 50, 75, 99, 100]))
def test_area_of_expertise_is_the_smallest_set_that_holds_the_share(counts, share):
    area = knowledge.expertise_area(torch.tensor(counts), float(share)).tolist()
    total = sum(counts)
    if total == 0:
        assert area == []
        return

    def holds(classes):
        return 100 * sum(counts[c] for c in classes) >= share * total

    smallest = next(k for k in range(len(counts) + 1) if any(map(holds, combinations(range(len(counts)), k))))
    assert len(area) == smallest and holds(area)
    assert area == sorted(range(len(counts)), key=lambda c: (-counts[c], c))[:smallest]
    if share == 100:
        assert sum(counts[c] for c in area) == total


@given(seed=st.integers(0, 10_000), n=st.integers(1, 40))
def test_change_agrees_with_a_loop(seed, n):
    before, after, y = scores(seed, n), scores(seed + 1, n), labels(seed, n)
    was, now = is_right(before, y), is_right(after, y)
    gained = sum(b and not a for a, b in zip(was, now, strict=True))
    lost = sum(a and not b for a, b in zip(was, now, strict=True))
    found = knowledge.change(before, after, y)
    assert found.n == n
    assert found.gain == pytest.approx(100 * gained / n) and found.loss == pytest.approx(100 * lost / n)
    assert found.delta == pytest.approx(found.accuracy_after - found.accuracy_before)
    assert found.accuracy_before == pytest.approx(100 * sum(was) / n)
    assert found.retained == pytest.approx(100 * (sum(was) - lost) / sum(was) if any(was) else 100)
    assert knowledge.change(before, before, y).delta == 0


@pytest.mark.parametrize("seed", range(5))
def test_transfer_rate_agrees_with_a_loop(seed):
    student, teacher, after, y = scores(seed), scores(seed + 100), scores(seed + 200), labels(seed)
    flips, now = knowledge.positive_flips(student, teacher, y), is_right(after, y)
    kept = [now[i] for i in range(N) if flips[i]]
    assert knowledge.transfer_rate(flips, after, y) == pytest.approx(100 * sum(kept) / len(kept))
    rates = knowledge.transfer_rate_by_area(flips, after, y)
    assert tuple(rates) == knowledge.EXPERTISE_SHARES
    counts = [sum(bool(flips[i]) for i in range(N) if y[i] == c) for c in range(C)]
    for share, rate in rates.items():
        area, ranked = [], sorted(range(C), key=lambda c: (-counts[c], c))
        while sum(counts[c] for c in area) * 100 < share * sum(counts):
            area.append(ranked.pop(0))
        inside = [now[i] for i in range(N) if flips[i] and y[i] in area]
        assert rate == pytest.approx(100 * sum(inside) / len(inside))


def test_nothing_to_transfer_has_no_rate():
    none = torch.zeros(N, dtype=torch.bool)
    assert knowledge.transfer_rate(none, scores(0), labels(0)) is None
    assert set(knowledge.transfer_rate_by_area(none, scores(0), labels(0)).values()) == {None}


def test_no_samples_give_zero_and_no_error():
    nothing, y = scores(0, n=0), labels(0, n=0)
    found = knowledge.flips(predictions(nothing, y), predictions(nothing, y))
    assert found.complementary_knowledge == found.entropy == 0.0
    assert found.by_class.tolist() == [0] * C and found.expertise(100.0).tolist() == []
    assert knowledge.flip_matrix(torch.zeros(2, 0, dtype=torch.bool)).tolist() == [[0, 0], [0, 0]]
    changed = knowledge.change(nothing, nothing, y)
    assert (changed.n, changed.delta, changed.retained) == (0, 0.0, 100.0)


def test_flips_refuse_what_cannot_be_compared(unchecked):
    student, y = predictions(scores(0), labels(0)), labels(0)
    with pytest.raises(DataError, match="other samples"):
        knowledge.flips(student, predictions(scores(1), y, data_fingerprint="e"))
    with pytest.raises(MissingLabelsError, match="labels"):
        knowledge.flips(predictions(scores(0), None), predictions(scores(1), None))
    with pytest.raises(LabelSpaceError, match=r"\[60, 4\] and \[60, 5\]"):
        knowledge.flips(student, predictions(scores(1, c=5), y))


def test_a_change_between_other_samples_is_refused(unchecked):
    with pytest.raises(LabelSpaceError, match="old and new weights must score the same samples and classes"):
        knowledge.change(scores(0), scores(1, N - 1), labels(0))
