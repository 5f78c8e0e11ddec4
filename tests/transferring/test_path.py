"""The path from old to new weights, on a small real student."""

from dataclasses import replace

import digits
import numpy as np
import pytest
import torch

from crossteach import Store, TransferConfig, load_data, load_model, with_settings
from crossteach.answers.prediction import score_split
from crossteach.data.cut import tune_and_gate
from crossteach.functional.averaging import interpolate, snapshot
from crossteach.transferring.path import MONITOR_SAMPLES, choose_weights, monitor_of
from crossteach.transferring.plan import TrainingPlan
from crossteach.transferring.setup import open_setup
from crossteach.transferring.state import TrainingState


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> digits.Digits:
    return digits.make(tmp_path_factory.mktemp("digits"))


def opened(task, tmp_path, *settings, data=None):
    config = with_settings(TransferConfig(), ["method=kl+dp-unsupervised", *settings])
    store = Store(tmp_path / "store")
    setup = open_setup(
        load_model(task.student),
        [load_model(task.teacher)],
        load_data(data or task.data),
        config,
        store,
        lambda *_: None,
    )
    plan = TrainingPlan(setup.method, config, setup.sources, 0.01, 1)
    return setup, plan, tune_and_gate(setup.data.selection)


def test_weights_that_ruin_the_student_are_not_taken(task, tmp_path):
    setup, plan, (_, gate) = opened(task, tmp_path)
    old = snapshot(setup.student.module)
    ruined = {name: torch.zeros_like(value) for name, value in old.items()}
    choice = choose_weights(setup, setup.student.clone(), TrainingState(weights=ruined), plan, gate)
    assert choice.verdict.verdict == "kept_original" and choice.verdict.alpha == 0
    assert all(torch.equal(value, old[name]) for name, value in choice.returned.items())
    assert all(torch.equal(value, ruined[name]) for name, value in choice.ended.items())


def test_a_point_that_passes_is_between_old_and_new(task, tmp_path):
    """Weights that answer better are taken; the point returned is the straight path at its alpha, bit for bit."""
    setup, plan, (_, gate) = opened(task, tmp_path, "gate.max_loss=100")
    good = snapshot(setup.student.module)
    spoilt = setup.student.clone()
    with torch.no_grad():
        spoilt.module[6].bias[3].add_(3.0)
    setup = open_setup(spoilt, list(setup.teachers), setup.data, setup.config, setup.store, lambda *_: None)
    choice = choose_weights(setup, spoilt.clone(), TrainingState(weights=good), plan, gate)
    assert choice.verdict.verdict == "accepted" and choice.verdict.alpha > 0
    expected = interpolate(snapshot(spoilt.module), good, choice.verdict.alpha)
    assert all(torch.equal(value, expected[name]) for name, value in choice.returned.items())


@pytest.mark.parametrize(("groups", "told"), [(None, None), (1, "1 group decides"), (5, "5 groups decide"), (60, None)])
def test_few_groups_are_counted_and_said(task, tmp_path, groups, told):
    setup, plan, (_, gate) = opened(task, tmp_path)
    gate = replace(gate, group=None if groups is None else np.arange(len(gate)) % groups)
    old = snapshot(setup.student.module)
    choice = choose_weights(setup, setup.student.clone(), TrainingState(weights=old), plan, gate)
    assert choice.verdict.groups == groups
    assert [told in note and "gate.unseen_group" in note for note in choice.notes] == [True] * (told is not None)


def test_a_training_that_diverged_keeps_the_original_and_notes_why(task, tmp_path):
    setup, plan, (_, gate) = opened(task, tmp_path)
    new = {name: torch.full_like(value, 7) for name, value in snapshot(setup.student.module).items()}
    trained = TrainingState(weights=new, diverged="the loss of epoch 1 is not finite")
    choice = choose_weights(setup, setup.student.clone(), trained, plan, gate)
    assert choice.verdict.verdict == "diverged"
    assert choice.notes == ("training stopped: the loss of epoch 1 is not finite; the original weights are kept",)
    old = snapshot(setup.student.module)
    assert all(torch.equal(value, old[name]) for name, value in choice.returned.items())


def test_a_monitor_needs_samples_to_mean_something(task, tmp_path):
    setup, _, (tune, _) = opened(task, tmp_path)
    monitor, notes = monitor_of(setup, setup.student, tune)
    assert monitor is not None and monitor.what == "accuracy" and not notes
    labels = torch.from_numpy(tune.labels)
    expected = 100 * (score_split(setup.student, tune).argmax(1) == labels).double().mean().item()
    assert monitor.measure() == pytest.approx(expected)
    few = tune.take(np.arange(MONITOR_SAMPLES - 1))
    monitor, (note,) = monitor_of(setup, setup.student, few)
    assert monitor is None and f"it would watch {MONITOR_SAMPLES - 1} samples" in note


def test_without_labels_agreement_is_monitored(task, tmp_path):
    setup, _, (tune, _) = opened(task, tmp_path, data=task.unlabelled)
    monitor, _ = monitor_of(setup, setup.student, tune)
    assert monitor is not None and monitor.what == "agreement"
    assert monitor.measure() == 100, "the student agrees with itself"
