"""The script that trains the shipped models: which weights it keeps."""

import numpy as np
import pytest
import torch

from crossteach.data import load_data
from crossteach.demo import train_checkpoints, zoo
from crossteach.demo.train_checkpoints import Pupil, end_unpicked, train
from crossteach.functional.averaging import snapshot
from crossteach.models import load_model


@pytest.fixture(scope="module")
def data():
    return load_data("glyphs?train_samples=300")


@pytest.fixture(autouse=True)
def a_short_tail(monkeypatch):
    monkeypatch.setattr(train_checkpoints, "TAIL", 2)


def same(one, other) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def test_training_keeps_the_epoch_that_was_best_on_the_selection_split(data, monkeypatch):
    pupil, seen = Pupil("mlp", data, 0, zoo, 1.0), []
    scores = iter((40.0, 60.0, 50.0))

    def learn(epoch: int) -> float:
        with torch.no_grad():
            for parameter in pupil.module.parameters():
                parameter += 1
        seen.append(snapshot(pupil.module))
        return next(scores)

    monkeypatch.setattr(pupil, "learn", learn)
    train(pupil, 3, patience=9)
    assert same(snapshot(pupil.module), seen[1])


def test_a_tail_goes_on_from_the_folder_and_keeps_its_end(data, tmp_path, monkeypatch):
    first = Pupil("mlp", data, 0, zoo, 1.0)
    first.write(tmp_path)
    pupil, rates, ends = Pupil("mlp", data, 1, zoo, 0.5), [], []
    step = pupil.optimiser.step
    monkeypatch.setattr(
        pupil.optimiser, "step", lambda: (rates.append(pupil.optimiser.param_groups[0]["lr"]), step())[1]
    )
    learn = pupil.learn
    scores = iter((60.0, 40.0))

    def worse_and_worse(*given) -> float:
        learn(*given)
        ends.append(snapshot(pupil.module))
        return next(scores)

    monkeypatch.setattr(pupil, "learn", worse_and_worse)
    end_unpicked(pupil, tmp_path)
    assert len(rates) == 2 * int(np.ceil(300 / train_checkpoints.BATCH))
    assert rates[0] == pytest.approx(zoo.RATES["mlp"] * train_checkpoints.TAIL_RATE)
    assert rates == sorted(rates, reverse=True) and rates[-1] < 0.1 * rates[0]
    assert same(snapshot(pupil.module), ends[-1])
    began = torch.cat([p.flatten() for p in first.module.parameters()])
    ended = torch.cat([p.flatten() for p in pupil.module.parameters()])
    assert 0 < (ended - began).abs().max() < 0.05, "the tail begins at the weights in the folder"


def test_what_is_written_opens_as_a_model(data, tmp_path):
    pupil = Pupil("mlp", data, 0, zoo, 1.0)
    pupil.write(tmp_path)
    opened = load_model(f"py:crossteach.demo.zoo:mlp@{tmp_path / 'mlp.safetensors'}")
    assert same(dict(opened.module.state_dict()), snapshot(pupil.module))
