"""What answers alone tell: against plain loops, and the draw against its own chances by simulation."""

import numpy as np
import pytest
import torch

from crossteach.functional import beliefs, draw_questions, expected_gains, worth_asking


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
