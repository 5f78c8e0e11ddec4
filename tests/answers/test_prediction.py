"""How many images a model is asked at once: by what one costs, by a setting, or by what memory holds."""

import digits
import pytest
import timm
import torch
from torch import nn

from crossteach import Preprocess, Store, TransferConfig, from_module, load_data, load_model, transfer, with_settings
from crossteach.answers.prediction import predict
from crossteach.errors import ModelError
from crossteach.models.scoring import BUDGET, CHUNK, batch_rows, score

GREY = Preprocess(size=(8, 8), channels=1)


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> digits.Digits:
    return digits.make(tmp_path_factory.mktemp("digits"))


def imagenet(name):
    torch.manual_seed(0)
    module = timm.create_model(name, pretrained=False).eval()
    return from_module(module, Preprocess(size=(224, 224), channels=3), name=name)


def test_the_batch_follows_from_what_an_image_costs(task):
    """Each batch once was padded to 128: one picture cost 5.6 s on an EfficientNet-Lite0."""
    small, rows = load_model(task.student), {}
    assert batch_rows(small, torch.rand(5, 1, 8, 8)) == CHUNK
    for name, cost in (("tf_efficientnet_lite0", 0.4e9), ("resnet18", 1.8e9)):
        rows[name] = batch_rows(imagenet(name), torch.rand(1, 3, 224, 224))
        assert BUDGET / cost / 8 <= rows[name] <= BUDGET / cost * 1.5 and rows[name] < CHUNK / 2
        assert rows[name] & (rows[name] - 1) == 0
    assert rows["resnet18"] < rows["tf_efficientnet_lite0"]


def test_answers_do_not_depend_on_the_batch_they_stand_in():
    model = imagenet("resnet18")
    images = torch.rand(11, 3, 224, 224, generator=torch.manual_seed(0))
    together = score(model, images)
    for start, stop in ((0, 1), (3, 10), (10, 11)):
        assert torch.equal(score(model, images[start:stop]), together[start:stop])


class Limited(nn.Module):
    """Runs out of memory above so many images at once."""

    def __init__(self, inner, most, asked):
        super().__init__()
        self.inner, self.most, self.asked = inner, most, asked

    def forward(self, images):
        self.asked.append(len(images))
        if len(images) > self.most:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory")
        return self.inner(images)


def test_the_batch_is_halved_when_memory_runs_out_and_that_is_said(task, tmp_path):
    asked: list[int] = []
    data, inner = load_data(task.data), load_model(task.model("dense")).module
    model = from_module(Limited(inner, 40, asked), GREY, name="large")
    found = predict(model, data.test, Store(tmp_path / "store"))
    assert asked[-1] == 32 and 128 in asked and 64 in asked
    assert "large: memory ran out at 64 images at once, so it is asked 32 at once" in model.notes
    expected = predict(from_module(inner, GREY, name="plain"), data.test, Store(tmp_path / "store"))
    assert torch.allclose(found.logits, expected.logits, atol=1e-5)
    other = from_module(Limited(inner, 40, asked), GREY, name="large again")
    config = with_settings(
        TransferConfig(), ["optim.epochs=1", "optim.lr=0.01", "views.count=1", "optim.batch_size=32"]
    )
    result = transfer(load_model(task.student), [other], data, tmp_path / "run", config, Store(tmp_path / "store"))
    assert any("memory ran out" in note for note in result.notes)


def test_a_model_too_large_for_one_image_is_one_line(task, tmp_path):
    data, inner = load_data(task.data), load_model(task.model("dense")).module
    model = from_module(Limited(inner, 200, []), GREY, name="huge")
    assert model.fingerprint
    model.module.most = 0
    with pytest.raises(
        ModelError, match=r"'module huge' needs more memory than its device has for one image"
    ) as caught:
        predict(model, data.test, Store(tmp_path / "store"))
    assert "--device cpu" in str(caught.value) and "\n" not in str(caught.value)


def test_the_batch_may_be_set(task, tmp_path):
    asked: list[int] = []
    data, inner = load_data(task.data), load_model(task.model("dense")).module
    model = from_module(Limited(inner, 200, asked), GREY, name="watched")
    asked.clear()
    quick = ["optim.epochs=1", "optim.lr=0.01", "views.count=1", "optim.batch_size=16", "scoring.batch=16"]
    config = with_settings(TransferConfig(), quick)
    transfer(load_model(task.student), [model], data, tmp_path / "run", config, Store(tmp_path / "store"))
    assert max(asked) == 16 and asked.count(16) > 40
