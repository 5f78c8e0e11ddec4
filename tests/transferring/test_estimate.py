"""The delta that a judge expects on test reads no label there, and comes near the true one."""

from dataclasses import replace

import digits
import pytest

from crossteach import TransferConfig, load_data, load_model, transfer, with_settings
from crossteach.answers.prediction import score_split
from crossteach.data.cut import tune_and_gate
from crossteach.functional.judging import fit_judge
from crossteach.transferring import estimate


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return digits.make(tmp_path_factory.mktemp("digits"))


def run(task, data, out, *settings):
    config = with_settings(TransferConfig(), ["optim.epochs=6", "optim.lr=0.03", "views.count=2", *settings])
    return transfer(load_model(task.student), [load_model(task.teacher)], data, out, config).summary


def test_it_reads_no_test_label_and_comes_near_what_labels_say(task, tmp_path):
    data = load_data(task.data)
    told = run(task, data, tmp_path / "told")
    hidden = run(task, replace(data, test=replace(data.test, labels=None)), tmp_path / "hidden")
    assert hidden["transfer_delta"] is None
    assert hidden["estimated_delta"] == told["estimated_delta"]
    assert told["estimated_delta"] == pytest.approx(told["ungated_transfer_delta"], abs=2)


def test_it_tells_a_student_that_was_ruined(task, tmp_path):
    """Plain distillation from a weaker model at a high rate."""
    config = with_settings(TransferConfig(), ["method=kl", "optim.epochs=4", "optim.lr=0.1", "optim.stop_below=0"])
    models = load_model(task.teacher), [load_model(task.student)]
    found = transfer(*models, load_data(task.data), tmp_path / "run", config).summary
    assert found["estimated_delta"] * found["ungated_transfer_delta"] > 0


def test_without_labels_on_the_selection_split_nothing_is_said(task, tmp_path):
    found = run(task, load_data(task.unlabelled), tmp_path / "run")
    assert found["estimated_delta"] is None


def test_of_a_large_tune_part_a_sample_is_judged_by(task, tmp_path, monkeypatch):
    """The logits of all models on all of it would not fit into memory: 25,000 samples of 1,000 classes are 100 MB each.

    `fit_judge` and `score_split` do what they always do; their arguments are looked at on the way.
    """
    stacked, scored = [], []

    def fitted(tutors, labels):
        stacked.append((tutors.shape[1], len(labels)))
        return fit_judge(tutors, labels)

    def counted(model, split):
        scored.append(len(split))
        return score_split(model, split)

    monkeypatch.setattr(estimate, "fit_judge", fitted)
    monkeypatch.setattr(estimate, "score_split", counted)
    data = load_data(task.data)
    whole = run(task, data, tmp_path / "whole")["estimated_delta"]
    monkeypatch.setattr(estimate, "MOST_FIT", 60)
    sampled = run(task, data, tmp_path / "sampled")["estimated_delta"]
    tune = len(tune_and_gate(data.selection)[0])
    assert stacked == [(tune, tune), (60, 60)] and scored == [tune, 60] and tune > 100
    assert sampled == pytest.approx(whole, abs=3)
