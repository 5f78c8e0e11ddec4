"""The loop on small real models: interruptions in the middle of an epoch, and batches that batch norm can take."""

import io
from dataclasses import fields

import digits
import pytest
import torch
from torch import nn

import crossteach
from crossteach import TransferConfig, load_data, load_model, with_settings
from crossteach.answers.tutors import LiveTutors
from crossteach.data.views import Views, augmentation
from crossteach.transferring import training
from crossteach.transferring.methods import METHODS
from crossteach.transferring.plan import TrainingPlan
from crossteach.transferring.sources import Source, batch_starts
from crossteach.transferring.state import TrainingState
from crossteach.transferring.training import set_mode, train


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> digits.Digits:
    return digits.make(tmp_path_factory.mktemp("digits"))


def plan_of(task: digits.Digits, method: str = "xe+dp", samples: int = 200, **settings: object) -> TrainingPlan:
    given = {"optim.batch_size": 32, "optim.epochs": 2, **settings}
    config = with_settings(TransferConfig(), [f"{key}={value}" for key, value in given.items()])
    train_split = load_data(task.data).train
    split = train_split.take(torch.arange(samples).numpy())
    tutors = LiveTutors([load_model(task.student), load_model(task.teacher)])
    views = Views(0, 2, augmentation("warp"))
    source = Source(split, views, 32, tutors, joins_last=config.optim.train_statistics)
    return TrainingPlan(METHODS[method], config, (source,), 0.02, config.optim.epochs)


class StopHereError(Exception):
    pass


@pytest.mark.parametrize("settings", [{}, {"optim.train_statistics": "true"}])
@pytest.mark.parametrize("cut", [1, 3, 7, 10])
def test_a_training_that_was_cut_inside_an_epoch_ends_as_if_it_had_not_been(task, monkeypatch, settings, cut):
    plan = plan_of(task, **settings)
    whole_student = load_model(task.student)
    whole = train(whole_student, plan)
    monkeypatch.setattr(training, "SAVE_EVERY", -1.0)
    kept: list[dict[str, object]] = []

    def save(state: TrainingState) -> None:
        buffer = io.BytesIO()
        torch.save({f.name: getattr(state, f.name) for f in fields(state)}, buffer)
        buffer.seek(0)
        kept.append(torch.load(buffer, weights_only=True))
        if state.step == cut:
            raise StopHereError

    with pytest.raises(StopHereError):
        train(load_model(task.student), plan, save=save)
    assert plan.steps_per_epoch == 7
    student = load_model(task.student)
    resumed = train(student, plan, TrainingState(**kept[-1]))
    for name, value in whole_student.module.state_dict().items():
        assert torch.equal(value, student.module.state_dict()[name]), name
    timeless = [[{**record, "seconds": 0} for record in state.records] for state in (whole, resumed)]
    assert timeless[0] == timeless[1]
    assert torch.equal(whole.taught, resumed.taught)


def test_a_checkpoint_is_made_inside_an_epoch_only_when_it_is_time(task):
    steps: list[int] = []
    train(load_model(task.student), plan_of(task), save=lambda state: steps.append(state.step))
    assert steps == [7, 14]


def test_batch_norm_in_train_mode_never_gets_a_single_sample(task):
    assert batch_starts(193, 32) == list(range(0, 193, 32))
    assert batch_starts(193, 32, train_statistics=True) == list(range(0, 192, 32))
    assert batch_starts(1, 32, train_statistics=True) == [0]
    plan = plan_of(task, samples=193, **{"optim.train_statistics": "true"})
    ended = train(load_model(task.student), plan)
    assert ended.taught.sum().item() == 2 * 193, "the sample that would stand alone is taught too"


def test_samples_are_taught_once_an_epoch(task):
    ended = train(load_model(task.student), plan_of(task, "kl+dp", samples=201))
    assert ended.taught.sum().item() == 2 * 201 and ended.taught[-1] == 0


class Stubborn(nn.Module):
    """A module that keeps its batch norm in train mode, whatever it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(3)

    def train(self, mode: bool = True) -> "Stubborn":
        super().train(mode)
        self.norm.train(True)
        return self


def test_numbers_below_1e_38_are_0_while_a_student_is_trained_and_not_after(task):
    def is_flushed() -> bool:
        return (torch.tensor(1e-30) * 1e-9).item() == 0.0

    torch.set_flush_denormal(False)
    try:
        seen = []
        train(load_model(task.student), plan_of(task, samples=32), save=lambda state: seen.append(is_flushed()))
        assert seen
        assert all(seen)
        assert not is_flushed()
    finally:
        torch.set_flush_denormal(False)


def test_every_part_takes_the_mode_it_is_put_in():
    module = Stubborn()
    set_mode(module, training=False)
    assert not any(part.training for part in module.modules())
    set_mode(module, training=True)
    assert all(part.training for part in module.modules())


def test_frozen_statistics_stay_whatever_the_module_does(task):
    model = load_model(task.student)
    norm = model.module[1]
    norm.train = lambda mode=True: setattr(norm, "training", True)
    model.module.eval()
    assert norm.training
    before = norm.running_mean.clone()
    train(model, plan_of(task))
    assert torch.equal(norm.running_mean, before)


def test_a_loop_of_ones_own_gets_the_losses_of_crossteach(task):
    """`TransferLoss` on the batches of a plan gives what the loop of crossteach computes, bit for bit."""
    from crossteach.transferring.plan import batches

    plan, student = plan_of(task), load_model(task.student)
    loss_of = crossteach.TransferLoss("xe+dp")
    own = train(load_model(task.student), plan_of(task, **{"optim.lr": 1e-9, "optim.epochs": 1}))
    losses = []
    with torch.no_grad():
        for batch in batches(plan, student, 0):
            frozen, teacher = plan.sources[0].tutors.logits(batch.views[0])
            logits = student.logits(batch.images(student.preprocess))
            losses.append(loss_of(logits, frozen, [teacher], batch.labels).loss)
    assert own.records[0]["loss"] == pytest.approx(torch.stack(losses).mean().item(), rel=0.2)
    first = next(iter(batches(plan, student, 0)))
    direct = plan.loss.of(student.logits(first.images(student.preprocess)), first.targets, first.labels)
    assert direct.item() == losses[0].item()
