"""The loops of recipes/own_loop.py on small real models, against the loop of crossteach on the same batches."""

import ast
import importlib.util
from pathlib import Path

import digits
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from crossteach import TransferConfig, load_data, load_model, with_settings
from crossteach.data.views import ViewBatch, Views, augmentation
from crossteach.transferring import training
from crossteach.transferring.methods import METHODS
from crossteach.transferring.plan import TrainingPlan, batches
from crossteach.transferring.sources import Source

RECIPE = Path(__file__).parent.parent / "recipes" / "own_loop.py"
SIZE, SAMPLES = 32, 200


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> digits.Digits:
    return digits.make(tmp_path_factory.mktemp("digits"))


@pytest.fixture(scope="module")
def recipe():
    spec = importlib.util.spec_from_file_location("own_loop", RECIPE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class ExactTutors:
    """Tutors whose answers are not rounded to float16, as those of a loop of one's own."""

    def __init__(self, classifiers):
        self.classifiers, self.names = classifiers, tuple(c.name for c in classifiers)

    @torch.no_grad()
    def logits(self, batch: ViewBatch) -> torch.Tensor:
        return torch.stack([c.logits(batch.images(c.preprocess)) for c in self.classifiers])


@pytest.fixture
def own(task, recipe, monkeypatch):
    """The losses of crossteach's own loop, and the batches it saw."""
    settings = ["optim.schedule=constant", "optim.warmup=0", "optim.clip=1e9", f"optim.batch_size={SIZE}"]
    config = with_settings(TransferConfig(), settings)
    student, teacher = load_model(task.student), load_model(task.teacher)
    split = load_data(task.data).train.take(np.arange(SAMPLES))
    views, tutors = Views(0, 1, augmentation("warp")), ExactTutors([student.clone(), teacher])
    plan = TrainingPlan(
        METHODS["xe+dp"], config, (Source(split, views, config.optim.batch_size, tutors),), recipe.RATE, 1
    )
    losses, compute = [], training._loss

    def record(*arguments):
        loss = compute(*arguments)
        losses.append(loss.item())
        return loss

    monkeypatch.setattr(training, "_loss", record)
    training.train(student, plan)
    shown = [(batch.images(student.preprocess), batch.labels) for batch in batches(plan, student, 0)]
    return losses, shown


def models(task):
    return load_model(task.student), [load_model(task.teacher)]


def test_a_plain_loop_gives_the_losses_of_crossteach(task, recipe, own):
    losses, shown = own
    assert recipe.plain_loop(*models(task), shown) == pytest.approx(losses, rel=1e-5)
    assert losses[0] != pytest.approx(losses[-1], rel=1e-3), "the student moves"


@pytest.mark.filterwarnings("ignore")  # what Lightning says of loggers and workers
def test_a_lightning_module_gives_the_losses_of_crossteach(task, recipe, own):
    losses, shown = own
    loader = DataLoader(shown, batch_size=None)
    assert recipe.fit_lightning(*models(task), loader) == pytest.approx(losses, rel=1e-5)


@pytest.mark.filterwarnings("ignore")  # what the Trainer says of its arguments
def test_a_trainer_of_transformers_gives_the_losses_of_crossteach(task, recipe, own):
    losses, shown = own
    data = TensorDataset(*(torch.cat(parts) for parts in zip(*shown, strict=True)))
    assert recipe.fit_transformers(*models(task), data, SIZE) == pytest.approx(losses, rel=1e-5)


def test_each_loop_is_short():
    parts = {node.name: node for node in ast.parse(RECIPE.read_text()).body if hasattr(node, "name")}
    for name in ("plain_loop", "LightningTransfer", "TransferTrainer"):
        assert parts[name].end_lineno - parts[name].lineno < 40
