import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from crossteach.answers.compact import compact, require_same_samples
from crossteach.errors import DataError, LabelSpaceError, MissingLabelsError
from crossteach.functional.calibration import calibration_error, expected_calibration_error
from crossteach.types import Predictions


def predictions(seed, n=40, c=7, labels=True, shift=0, **changes):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, c, generator=generator) * 3
    y = (torch.arange(n) + shift) % c if labels else None
    facts = {"model": f"m{seed}", "ids": np.arange(n), "model_fingerprint": "m", "data_fingerprint": "d"}
    return Predictions(**{**facts, "logits": logits, "labels": y, **changes})


@given(seed=st.integers(0, 1000), n=st.integers(1, 30), temperature=st.sampled_from([0.5, 1.0, 3.0]))
def test_compact_predictions_agree_with_a_loop(seed, n, temperature):
    given_ = predictions(seed, n)
    found = compact(given_, temperature)
    for i, row in enumerate(given_.logits.tolist()):
        label = int(given_.labels[i])
        total = math.fsum(math.exp(z) for z in row)
        cooled = [z / temperature for z in row]
        assert found.preds[i] == row.index(max(row))
        assert found.confidence[i].item() == pytest.approx(max(row) - math.log(total), abs=1e-5)
        assert found.right[i].item() == pytest.approx(row[label] - math.log(total), abs=1e-4)
        by_temperature = max(cooled) - math.log(math.fsum(math.exp(z) for z in cooled))
        assert found.calibrated[i].item() == pytest.approx(by_temperature, abs=1e-4)
        assert bool(found.within_top[i]) == (sum(z > row[label] for z in row) < 5)
    assert found.accuracy == pytest.approx(given_.accuracy)
    exact = expected_calibration_error(given_.logits, given_.labels)
    assert calibration_error(found.confidence.exp(), found.correct) == pytest.approx(exact, abs=1e-5)


def test_many_samples_are_reduced_in_parts(monkeypatch):
    whole = compact(predictions(0, 40), 2.0)
    monkeypatch.setattr("crossteach.answers.compact.ROWS", 7)
    parts = compact(predictions(0, 40), 2.0)
    for name in ("preds", "confidence", "calibrated", "right", "within_top"):
        assert torch.equal(getattr(whole, name), getattr(parts, name))


def test_a_logit_beyond_what_exp_holds_breaks_nothing():
    logits = torch.tensor([[1e4, 0.0], [0.0, -1e4]])
    found = compact(replace(predictions(0, 2, 2), logits=logits))
    assert found.confidence.tolist() == [0.0, 0.0]
    assert found.right.tolist() == [0.0, -1e4]


def test_without_labels_there_is_confidence_and_nothing_else():
    found = compact(predictions(0, labels=False))
    assert found.right is found.within_top is None
    assert found.confidence.max() <= 0
    with pytest.raises(MissingLabelsError, match="labels"):
        found.correct  # noqa: B018


@pytest.mark.parametrize(
    ("other", "error", "message"),
    [
        ({"data_fingerprint": "e"}, DataError, "m1 and m2 answered other samples, or the same in another order"),
        ({"c": 7, "shift": 1}, DataError, "another order"),
        ({"labels": False}, DataError, "another order"),
        ({"n": 39}, DataError, "another order"),
        ({"c": 8}, LabelSpaceError, "m1 scores 7 classes but m2 scores 8"),
    ],
)
def test_answers_to_other_samples_are_refused(other, error, message):
    with pytest.raises(error, match=message):
        require_same_samples([compact(predictions(1)), compact(predictions(2, **other))])
    require_same_samples([compact(predictions(1)), compact(predictions(2))])
