"""What answers alone tell: against plain loops, and the draw against its own chances by simulation."""

import numpy as np
import pytest
import torch

from crossteach.functional import (
    DrawnQuestions,
    beliefs,
    draw_questions,
    expected_gains,
    gains_by_labels,
    worth_asking,
)


@pytest.fixture
def said():
    logits = torch.randn(4, 300, 5, generator=torch.Generator().manual_seed(0)) * 2
    return logits, logits.argmax(2), torch.rand(4, 300, generator=torch.Generator().manual_seed(1))


def test_beliefs_are_the_ensembles_probabilities(said):
    logits, preds, _ = said
    found, probs = beliefs(logits), logits.softmax(2)
    for k in range(4):
        for n in range(0, 300, 37):
            assert found[k, n] == pytest.approx(sum(probs[j, n, preds[k, n]].item() for j in range(4)) / 4, abs=1e-6)


def test_gains_and_worth_are_those_of_plain_loops(said):
    _, preds, right = said
    gains, worth = expected_gains(right, preds), worth_asking(right, preds)
    for s in range(4):
        for t in range(4):
            pairs = zip(right[s].tolist(), right[t].tolist(), (preds[s] != preds[t]).tolist(), strict=True)
            gained = [max(0.0, q - p) * differ for p, q, differ in pairs]
            assert gains[s, t].item() == pytest.approx(100 * sum(gained) / 300, abs=1e-3)
    for n in range(300):
        total = 0.0
        for a in range(4):
            for b in range(a):
                p, q = right[a, n].item(), right[b, n].item()
                scale = max(1.0, p + q)
                p, q = p / scale, q / scale
                total += (p + q - (p - q) ** 2) * bool(preds[a, n] != preds[b, n])
        assert worth[n].item() == pytest.approx(total, abs=1e-5)


def test_every_sample_is_drawn_by_its_chance_and_weighted_means_are_unbiased():
    worth = torch.rand(400, generator=torch.Generator().manual_seed(2)) ** 6
    worth[:100] = 0
    values, counts, sums = np.random.default_rng(0).normal(size=400), np.zeros(400), []
    for seed in range(2000):
        drawn = draw_questions(worth, 40, seed)
        assert len(np.unique(drawn.rows)) == len(drawn.rows) == 40
        counts[drawn.rows] += 1
        sums.append((drawn.weights * values[drawn.rows]).sum())
    chance = worth.sqrt().numpy()
    expected = np.minimum(1, 40 * chance / chance.sum())
    assert not counts[:100].any()
    assert np.abs(counts / 2000 - expected).max() < 0.05
    error = np.std(sums) / np.sqrt(len(sums))
    assert abs(np.mean(sums) - values[100:].sum()) < 4 * error


def test_a_sample_of_overwhelming_worth_is_certain_and_few_are_all_taken():
    worth = torch.tensor([0.0, 1e8, 1.0, 1.0, 1.0, 1.0])
    for seed in range(20):
        drawn = draw_questions(worth, 2, seed)
        assert 1 in drawn.rows and len(drawn.rows) == 2
        assert sorted(drawn.weights.tolist()) == pytest.approx([1.0, 4.0])
    everything = draw_questions(worth, 100)
    assert sorted(everything.rows.tolist()) == [1, 2, 3, 4, 5] and everything.weights.tolist() == [1.0] * 5
    assert len(draw_questions(torch.zeros(3), 5).rows) == 0


def test_the_first_ones_are_a_draw_by_the_same_chances():
    """Whoever labels few begins at the top: no sample may stand there more often than its chance says."""
    worth = torch.cat([torch.full((10,), 0.81), torch.full((90,), (11 / 90) ** 2)])
    first = np.zeros(100)
    for seed in range(6000):
        first[draw_questions(worth, 20, seed).rows[0]] += 1
    likely = first[:10].sum()  # expected: 9 of 20
    assert abs(likely / 6000 - 9 / 20) < 4 * (0.45 * 0.55 / 6000) ** 0.5


@pytest.fixture(scope="module")
def judged():
    """Three models on 600 samples, what is believed of them, which is not so, and the truth."""
    draw = torch.Generator().manual_seed(3)
    logits = torch.randn(3, 600, 4, generator=draw) * 2
    labels = (logits.mean(0) + torch.randn(600, 4, generator=draw) * 0.7).argmax(1)
    labels[::10] = -1  # shows none of the classes
    return beliefs(logits), logits.argmax(2), labels


def true_gains(right, preds, labels):
    gains = np.zeros((3, 3))
    for s in range(3):
        for t in range(3):
            for n in range(right.shape[1]):
                if right[t, n] > right[s, n]:
                    gains[s, t] += (int(preds[t, n] == labels[n]) - int(preds[s, n] == labels[n])) / right.shape[1]
    return 100 * gains


def test_labels_of_all_questions_tell_the_truth_without_an_error(judged):
    right, preds, labels = judged
    every = draw_questions(worth_asking(right, preds), 600)
    found = gains_by_labels(right, preds, every, labels[every.rows])
    assert found.gains.numpy() == pytest.approx(true_gains(*judged), abs=1e-9)
    assert not found.errors.any()


def test_gains_and_errors_by_labels_are_those_of_plain_loops(judged):
    right, preds, labels = judged
    drawn = draw_questions(worth_asking(right, preds), 80, 1).answered(np.arange(30))
    found, chances = gains_by_labels(right, preds, drawn, labels[drawn.rows]), 1 / drawn.weights
    for s, t in ((0, 1), (1, 0), (2, 1)):
        expected = [max(0.0, (right[t, n] - right[s, n]).item()) * (preds[s, n] != preds[t, n]) for n in range(600)]
        values = []
        for row, chance in zip(drawn.rows.tolist(), chances, strict=True):
            seen = int(preds[t, row] == labels[row]) - int(preds[s, row] == labels[row])
            values.append((seen * (right[t, row] > right[s, row]) - expected[row]).item() / chance)
        assert found.gains[s, t] == pytest.approx((sum(expected) + sum(values)).item() / 6, abs=1e-4)
        left = [1 - chance for chance in chances]
        centre = sum(a * v for a, v in zip(left, values, strict=True)) / sum(left)
        spread = sum(a * (v - centre) ** 2 for a, v in zip(left, values, strict=True))
        factor = 1 - sum((a / sum(left)) ** 2 for a in left)
        assert found.errors[s, t] == pytest.approx((spread / factor) ** 0.5 / 6, rel=1e-4)


@pytest.mark.parametrize(("asked", "told"), [(100, 100), (100, 40), (400, 200), (10_000, 150)])
def test_gains_by_labels_are_unbiased_and_their_errors_right(judged, asked, told):
    """Over many draws, labelled whole or from the top: by simulation."""
    right, preds, labels = judged
    truth, worth, times = true_gains(*judged), worth_asking(right, preds), 400
    found, plain = [], []
    for seed in range(times):
        few = draw_questions(worth, asked, seed).answered(np.arange(told))
        found.append(gains_by_labels(right, preds, few, labels[few.rows]))
        nothing = torch.zeros_like(right) + right.argsort(0).argsort(0) * 1e-9  # only the order is believed
        plain.append(gains_by_labels(nothing, preds, few, labels[few.rows]).gains)
    gains, errors = (torch.stack([getattr(f, key) for f in found]).numpy() for key in ("gains", "errors"))
    off = ~np.eye(3, dtype=bool)
    spread = gains.std(0)[off]
    assert (np.abs(gains.mean(0)[off] - truth[off]) < 4 * spread / times**0.5).all()
    assert errors.mean(0)[off] == pytest.approx(spread, rel=0.15)
    covered = (np.abs(gains - truth) <= 1.96 * errors).mean(0)[off]
    assert covered.min() > 0.95 - 4 * (0.0475 / times) ** 0.5 and covered.mean() < 0.98
    assert spread.mean() < torch.stack(plain).numpy().std(0)[off].mean(), "what is expected takes error away"


def test_a_single_sample_that_is_drawn_by_lot_has_the_error_of_its_own_size():
    right, preds = torch.tensor([[0.2] * 4, [0.5] * 4]), torch.tensor([[0] * 4, [1] * 4])
    one = DrawnQuestions(np.array([2]), np.array([4.0]))
    found = gains_by_labels(right, preds, one, torch.tensor([1]))
    assert found.gains[0, 1] == pytest.approx(30 + 25 * 4 * 0.7, abs=1e-4)
    assert found.errors[0, 1] == pytest.approx(25 * 4 * 0.7 * 0.75**0.5, abs=1e-4)
