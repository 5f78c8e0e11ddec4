"""How rows are kept: what the largest logits and the sum of the others still say, against plain loops and scipy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logsumexp, softmax

from crossteach import Store
from crossteach.answers.layout import LOWEST, Layout, layout_of
from crossteach.errors import StoreError


def answers(rows=40, classes=30, spread=4.0, seed=0):
    logits = np.random.default_rng(seed).normal(size=(rows, classes)) * spread
    return (logits - logits.max(1, keepdims=True)).astype(np.float32)


def there_and_back(layout, logits):
    return layout.decode(layout.encode(logits))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_dense_rows_come_back_as_they_went(dtype):
    logits = answers().astype(dtype)
    found = there_and_back(Layout(dtype, 30), logits)
    assert found.dtype == dtype and np.array_equal(found, logits)


@given(st.integers(1, 29), st.integers(0, 50), st.floats(0.1, 20))
def test_at_temperature_one_the_largest_and_the_others_together_keep_their_probabilities(top, seed, spread):
    logits = answers(seed=seed, spread=spread)
    found = there_and_back(Layout(f"top{top}", 30), logits)
    assert np.array_equal(found.argmax(1), logits.argmax(1))
    for before, after in zip(logits.astype(np.float64), found.astype(np.float64), strict=True):
        largest = np.argsort(-before, kind="stable")[:top]
        others = np.setdiff1d(np.arange(30), largest)
        assert np.array_equal(after[largest], before[largest].astype(np.float16)), "bit for bit as float16 has them"
        assert logsumexp(after[others]) == pytest.approx(logsumexp(before[others]), abs=2e-4)
        assert np.ptp(after[others]) == 0
        assert softmax(after)[largest] == pytest.approx(softmax(before)[largest], abs=2e-3)


@pytest.mark.parametrize(
    ("temperature", "within"), [(1, 1e-3), (1.3, 0.03), (1.5, 0.03), (2, 1e-3), (3, 0.01), (4, 1e-3), (8, 0.01)]
)
def test_read_for_a_temperature_the_others_have_their_sum_at_it(temperature, within):
    logits, layout = answers(rows=200, classes=300), Layout("top20", 300)
    found = layout.decode(layout.encode(logits), temperature).astype(np.float64)
    errors = []
    for before, after in zip(logits.astype(np.float64), found, strict=True):
        largest = np.argsort(-before, kind="stable")[:20]
        others = np.setdiff1d(np.arange(300), largest)
        errors.append(abs(logsumexp(after[others] / temperature) - logsumexp(before[others] / temperature)))
        ratios = [softmax(each[largest] / temperature) for each in (before, after)]
        assert ratios[1] == pytest.approx(ratios[0], abs=2e-3), "the ratios among the largest are those that were"
        assert after[largest].min() >= after[others].max()
    assert np.mean(errors) < within


def test_read_for_a_temperature_below_one_the_others_are_nearer_than_at_one():
    logits, layout, off = answers(rows=200, classes=300), Layout("top20", 300), {}
    others = np.argsort(-logits, 1, kind="stable")[:, 20:]
    wanted = logsumexp(np.take_along_axis(logits, others, 1) / 0.7, axis=1)
    for temperature in (0.7, 1.0):
        found = np.take_along_axis(layout.decode(layout.encode(logits), temperature), others, 1)
        off[temperature] = np.abs(logsumexp(found / 0.7, axis=1) - wanted).mean()
    assert off[0.7] < off[1.0] / 2


def test_no_answer_stays_no_answer_and_what_float16_cannot_hold_is_clamped():
    logits = answers(rows=3)
    logits[1] = np.nan
    logits[2, 3:] = -1e9
    found = there_and_back(Layout("top5", 30), logits)
    assert np.isnan(found).all(1).tolist() == [False, True, False]
    assert found[2].min() < -59_000 and np.isfinite(found[2]).all() and (np.sort(found[2])[-5:-3] == LOWEST).all()


def test_more_classes_than_two_bytes_count():
    logits = answers(rows=2, classes=70_000)
    layout = Layout("top4", 70_000)
    assert layout.row_bytes == 3 * 4 + 4 * (4 + 2)
    assert np.array_equal(there_and_back(layout, logits).argmax(1), logits.argmax(1))


def test_auto_goes_by_classes_size_and_budget():
    assert layout_of("auto", 10**7, 100).dtype == "float16"
    assert layout_of("auto", 10_000, 1000).dtype == "float16"
    assert layout_of("auto", 10_000, 1000, budget=10**9).dtype == "top20"
    assert layout_of("auto", 1_281_167, 1000).dtype == "top20"
    assert layout_of("dense", 1_281_167, 1000).dtype == "float16"
    assert layout_of("7", 10, 10).dtype == "top7" and layout_of("10", 10, 10).dtype == "float16"
    assert layout_of("7", 10, 10, knows_all=False).dtype == "float16"


@pytest.mark.parametrize("dtype", ["int8", "top0", "top30", "top"])
def test_an_unknown_layout_is_one_line(dtype, tmp_path):
    with pytest.raises(StoreError, match="are kept as float32, float16, or topN with N below 30"):
        Store(tmp_path).table({}, 10, 30, dtype)
