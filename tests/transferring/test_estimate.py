"""The delta that a judge expects on test reads no label there, and comes near the true one."""

from dataclasses import replace

import digits
import pytest

from crossteach import TransferConfig, load_data, load_model, transfer, with_settings


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
