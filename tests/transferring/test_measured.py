from dataclasses import replace

import digits
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from pages import page, text
from sklearn.metrics import balanced_accuracy_score

import crossteach
from crossteach import Predictions, with_settings
from crossteach.scouting.folder import open_scout
from crossteach.transferring.measured import TransferPredictions, ensemble_accuracy, measure

N, C = 120, 6
LABELS = torch.randint(C, (N,), generator=torch.Generator().manual_seed(0))


def predictions(seed: int) -> Predictions:
    logits = torch.randn(N, C, generator=torch.Generator().manual_seed(seed))
    logits[torch.arange(N), LABELS] += 1.0
    return Predictions(f"model {seed}", logits, LABELS, np.arange(N), "", "")


@pytest.fixture
def found() -> TransferPredictions:
    before, after, ungated, *teachers = (predictions(seed) for seed in range(1, 6))
    return TransferPredictions(before, after, ungated, tuple(teachers))


def test_gains_and_losses_are_what_a_loop_counts(found):
    measured = measure(found, found.after)
    gained = lost = flips = reached = 0
    for i in range(N):
        was, now = (p.logits[i].argmax() == LABELS[i] for p in (found.before, found.after))
        knows = any(t.logits[i].argmax() == LABELS[i] for t in found.teachers)
        gained += int(now and not was)
        lost += int(was and not now)
        flips += int(knows and not was)
        reached += int(knows and not was and now)
    assert measured["knowledge_gain"] == pytest.approx(100 * gained / N)
    assert measured["knowledge_loss"] == pytest.approx(100 * lost / N)
    assert measured["transfer_delta"] == pytest.approx(100 * (gained - lost) / N)
    assert measured["transfer_rate"] == pytest.approx(100 * reached / flips)
    assert int(found.positive_flips.sum()) == flips
    low, high = measured["interval"]
    assert low < measured["transfer_delta"] < high


def test_an_original_that_came_back_is_certain(found):
    measured = measure(found, found.before)
    assert measured["transfer_delta"] == 0 and measured["interval"] == [0, 0] and measured["p_value"] == 1


def test_the_ensemble_is_the_mean_of_probabilities(found):
    models = [found.before, *found.teachers]
    mean = np.mean([p.logits.softmax(1).numpy() for p in models], axis=0)
    assert ensemble_accuracy(models) == pytest.approx(100 * float((mean.argmax(1) == LABELS.numpy()).mean()))


def test_no_teacher_has_no_positive_flips(found):
    alone = TransferPredictions(found.before, found.after, found.ungated, ())
    assert not alone.positive_flips.any()
    assert measure(alone, alone.after)["transfer_rate"] is None


def test_balanced_accuracy_stands_beside_accuracy_everywhere(tmp_path):
    """Of five digits the test split holds one in ten: the student's accuracy is then another than its balanced one."""
    (tmp_path / "task").mkdir()
    task = digits.make(tmp_path / "task")
    data = crossteach.load_data(task.data)
    labels = data.test.labels
    kept = np.flatnonzero((labels >= 5) | (np.arange(len(labels)) % 10 == 0))
    data = replace(data, test=data.test.take(kept))
    config = with_settings(crossteach.TransferConfig(), ["optim.epochs=1", "optim.lr=0.01", "gate.max_loss=100"])
    models = [crossteach.load_model(spec) for spec in (task.student, task.teacher)]
    run, scouted = tmp_path / "run", tmp_path / "scout"
    s = crossteach.transfer(models[0], [models[1]], data, run, config).summary
    ledger = pq.read_table(run / "samples.parquet").to_pydict()
    for when in ("before", "after"):
        expected = 100 * balanced_accuracy_score(ledger["label"], ledger[f"pred_{when}"])
        assert s[f"balanced_accuracy_{when}"] == pytest.approx(expected)
        assert abs(s[f"balanced_accuracy_{when}"] - s[f"accuracy_{when}"]) > 0.05
    expected = 100 * balanced_accuracy_score(ledger["label"], ledger["pred_ungated"])
    assert s["ungated"]["balanced_accuracy"] == pytest.approx(expected)
    rows = open_scout(models, data, scouted, embeddings="none")["models"]
    assert rows[0]["balanced_accuracy"] == pytest.approx(s["balanced_accuracy_before"])
    told = text(page(run))
    assert f"Balanced accuracy, % {s['balanced_accuracy_after']:.2f}" in told
    assert f"balanced {s['balanced_accuracy_before']:.2f} %" in told
    told = text(page(scouted))
    assert "Balanced, %" in told and f"{rows[1]['balanced_accuracy']:.2f}" in told
    bare = replace(data, test=replace(data.test, labels=None))
    s = crossteach.transfer(models[0], [models[1]], bare, tmp_path / "bare", config).summary
    assert s["balanced_accuracy_before"] is s["balanced_accuracy_after"] is s["ungated"]["balanced_accuracy"] is None
