"""Tutors' answers on views: live and stored give the same bits; what nothing reads again can be removed."""

import threading

import digits
import numpy as np
import pytest
import torch

from crossteach import Store, load_data, load_model
from crossteach.answers import prediction, tutors
from crossteach.answers.prediction import predict
from crossteach.answers.tutors import (
    LOWEST,
    LiveTutors,
    below_maximum,
    count_missing,
    discard_views,
    fill_store,
    layout_for,
)
from crossteach.data.views import Views, augmentation, plain_images
from crossteach.models import TorchClassifier
from crossteach.models.scoring import read_ahead


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> digits.Digits:
    return digits.make(tmp_path_factory.mktemp("digits"))


@pytest.fixture
def models(task):
    return [load_model(task.student), load_model(task.teacher)]


def test_live_and_stored_tutors_give_the_same_bits(task, models, tmp_path):
    split = load_data(task.data).train.take(np.arange(150))
    views = Views(0, 3, augmentation("warp"))
    stored, live = fill_store(models, split, views, Store(tmp_path)), LiveTutors(models)
    index = np.array([3, 140, 77, 8])
    for numbers in ([0, 0, 0, 0], [2, 0, 1, 2]):
        batch = views.batch(split, index, np.array(numbers))
        assert torch.equal(stored.logits(batch), live.logits(batch))
    assert stored.names == live.names == (models[0].name, models[1].name)


def test_a_view_that_is_not_shown_is_not_asked_for(task, models, tmp_path):
    split, views, store = load_data(task.data).train, Views(0, 4, augmentation("warp")), Store(tmp_path)
    fill_store(models, split, views, store, shown=[1])
    assert count_missing(models[0], split, views, store) == {0: 900, 1: 0, 2: 900, 3: 900}
    seen: list[int] = []
    fill_store(models, split, views, store, lambda what, done, total: seen.append(total), shown=[1, 2])
    assert seen[-1] == 2 * len(split), "the view that is known is not asked for again"


def test_discarded_answers_are_missing_again(task, models, tmp_path):
    split, views, store = load_data(task.data).train, Views(0, 2, augmentation("warp")), Store(tmp_path)
    fill_store(models, split, views, store)
    discard_views(models[0], split, views, store)
    assert count_missing(models[0], split, views, store) == {0: 900, 1: 900}
    assert count_missing(models[1], split, views, store) == {0: 0, 1: 0}
    discard_views(models[0], split, views, store)


def test_halves_keep_the_softmax():
    logits = 30 * torch.randn(20, 7, generator=torch.Generator().manual_seed(0))
    kept = below_maximum(logits).half().float()
    assert torch.allclose(kept.softmax(1), logits.softmax(1), atol=2e-3)
    assert kept.max(1).values.eq(0).all()
    assert below_maximum(torch.tensor([[0.0, -1e9]])).half()[0, 1] == LOWEST


def test_the_largest_logits_are_kept_as_live_tutors_round_them(task, models, tmp_path):
    split = load_data(task.data).train.take(np.arange(300))
    views, store = Views(0, 2, augmentation("warp"), keep="3"), Store(tmp_path)
    layouts = [layout_for(model, split, views, store) for model in models]
    stored, live = fill_store(models, split, views, store, temperature=3.0), LiveTutors(models, layouts, 3.0)
    assert stored.kept == live.kept == ("top3", "top3")
    batch = views.batch(split, np.array([3, 140, 277, 8]), np.array([1, 0, 1, 1]))
    found = stored.logits(batch)
    assert torch.equal(found, live.logits(batch))
    dense = LiveTutors(models).logits(batch)
    assert torch.equal(found.topk(3).values, dense.topk(3).values) and not torch.equal(found, dense)
    assert count_missing(models[0], split, views, store) == {0: 0, 1: 0}
    assert count_missing(models[0], split, Views(0, 2, augmentation("warp")), store) == {0: 300, 1: 300}


def test_chunks_that_a_gpu_would_wait_for_are_drawn_by_a_thread_and_give_the_same_bits(
    task, models, tmp_path, monkeypatch
):
    data, views, drawing = load_data(task.data), Views(0, 2, augmentation("warp")), set[str]()
    expected = [predict(model, data.test, Store(tmp_path / "a")).logits for model in models]
    batch = views.batch(data.train, np.arange(300), np.arange(300) % 2)
    shown = fill_store(models, data.train, views, Store(tmp_path / "a")).logits(batch)

    def plain(*asked):
        drawing.add(threading.current_thread().name)
        return plain_images(*asked)

    def as_if_on_a_gpu(drawn, classifiers):
        with monkeypatch.context() as there:
            there.setattr(TorchClassifier, "device", torch.device("meta"))
            return read_ahead(drawn, classifiers)

    for module in (prediction, tutors):
        monkeypatch.setattr(module, "read_ahead", as_if_on_a_gpu)
    monkeypatch.setattr(prediction, "plain_images", plain)
    for model, logits in zip(models, expected, strict=True):
        assert torch.equal(predict(model, data.test, Store(tmp_path / "b")).logits, logits)
    assert drawing == {"prefetch"}
    assert torch.equal(fill_store(models, data.train, views, Store(tmp_path / "b")).logits(batch), shown)
    assert "prefetch" not in {thread.name for thread in threading.enumerate()}
