"""A batch that several devices, or several passes, share teaches what it teaches whole."""

from dataclasses import replace

import digits
import numpy as np
import pytest
import torch

from crossteach import Store, TransferConfig, load_data, load_model, with_settings
from crossteach.answers.tutors import LiveTutors, fill_store
from crossteach.data.views import Views, augmentation
from crossteach.errors import ConfigError
from crossteach.transferring.crew import Alone
from crossteach.transferring.fitting import require_shared_batches
from crossteach.transferring.methods import METHODS
from crossteach.transferring.plan import AHEAD, TrainingPlan, _batches_ahead, batches
from crossteach.transferring.sources import Source
from crossteach.transferring.training import train
from crossteach.types import NO_LABEL, Split


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> digits.Digits:
    return digits.make(tmp_path_factory.mktemp("digits"))


def partly_labelled(split: Split, share: float) -> Split:
    labels = split.labels.copy()
    labels[np.random.default_rng(0).random(len(labels)) >= share] = NO_LABEL
    return replace(split, labels=labels)


def plan_of(task: digits.Digits, method: str, samples: int, pool: int = 0, labelled: float = 1.0) -> TrainingPlan:
    """Batches of 12, a quarter of each from a pool where there is one."""
    split = load_data(task.data).train
    tutors = LiveTutors([load_model(task.student), load_model(task.teacher)])
    views = Views(0, 2, augmentation("warp"))
    taught = partly_labelled(split.take(np.arange(samples)), labelled)
    sources = [Source(taught, views, 9 if pool else 12, tutors)]
    if pool:
        without = replace(split.take(np.arange(samples, samples + pool), "pool"), labels=None)
        sources.append(Source(without, views, 3, tutors))
    config = with_settings(TransferConfig(), ["optim.batch_size=12", "optim.epochs=2"])
    return TrainingPlan(METHODS[method], config, tuple(sources), 0.05, 2)


CASES = {
    "one source": {"method": "xe+dp", "samples": 31},
    "a last batch of one sample": {"method": "kl+dp", "samples": 25},
    "with a pool": {"method": "xe+dp", "samples": 40, "pool": 11},
    "labels alone, of some samples": {"method": "xe", "samples": 31, "labelled": 0.4},
    "some labels and a pool": {"method": "xe+dp", "samples": 31, "pool": 11, "labelled": 0.5},
}


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("size", [2, 5])
@pytest.mark.parametrize("case", CASES)
def test_the_gradients_of_all_shares_add_up_to_that_of_the_batch(task, case, size, accumulate):
    plan, student = plan_of(task, **CASES[case]), load_model(task.student)
    student.module.eval()
    ranks = [Alone(rank, size) for rank in range(size)]
    shared = zip(*(batches(plan, student, 0, crew=crew) for crew in ranks), strict=True)
    tried = 0
    for whole, parts in zip(batches(plan, student, 0), shared, strict=True):
        logits = student.logits(whole.images(student.preprocess))
        wanted = torch.autograd.grad(plan.loss.of(logits, whole.targets, whole.labels), student.module.parameters())
        loss = sum(
            part.weight * plan.loss.of(student.logits(part.images), part.targets, part.labels)
            for batch in parts
            for part in batch.parts(student.preprocess, accumulate, plan.loss)
        )
        found = torch.autograd.grad(loss, student.module.parameters())
        for a, b in zip(wanted, found, strict=True):
            assert torch.allclose(a, b, atol=1e-6)
        taught = sum(batch.shares.sum(1) for batch in parts)
        assert torch.allclose(taught, whole.shares.sum(1))
        assert sum(batch.from_pools for batch in parts) == whole.from_pools
        tried += 1
    assert tried == plan.steps_per_epoch


def test_every_sample_of_a_batch_is_of_one_device(task):
    plan, student = plan_of(task, "xe+dp", 26), load_model(task.student)
    ranks = [batches(plan, student, 0, crew=Alone(rank, 3)) for rank in range(3)]
    spare = []
    for whole, *parts in zip(batches(plan, student, 0), *ranks, strict=True):
        shown = np.concatenate([part.views[0].index for part in parts if not part.spare])
        assert shown.tolist() == whole.views[0].index.tolist()
        spare.append(sum(part.spare for part in parts))
    assert spare == [0, 0, 1], "two samples are left for three devices"


@pytest.mark.parametrize("accumulate", [2, 5, 40])
def test_a_training_in_parts_ends_where_a_whole_one_ends(task, accumulate):
    plan = plan_of(task, "xe+dp", 31, pool=11, labelled=0.5)
    config = with_settings(plan.config, [f"optim.accumulate={accumulate}"])
    students = [load_model(task.student), load_model(task.student)]
    whole, parts = (train(s, p) for s, p in zip(students, (plan, replace(plan, config=config)), strict=True))
    for name, value in whole.weights.items():
        assert torch.allclose(value, parts.weights[name], atol=1e-5), name
    assert torch.equal(whole.taught, parts.taught)
    for one, other in zip(whole.records, parts.records, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)


@pytest.mark.parametrize(
    ("method", "settings", "devices", "said"),
    [
        ("cd", [], 2, "compares all samples of a batch with each other, and 2 devices would see parts of it"),
        ("crd", ["optim.accumulate=2"], 1, "and optim.accumulate=2 would see parts of it"),
        ("kl+dp", ["optim.train_statistics=true", "optim.accumulate=2"], 3, "3 devices and optim.accumulate=2"),
        ("cd", ["compute.compile=true"], 1, "reads features on the way"),
        ("kl+dp", ["compute.shard=true"], 1, "there is one; add --devices N"),
        ("xe-kl+mcl", ["compute.shard=true"], 2, "averages weights on the way"),
        ("kl+dp", ["compute.shard=true", "optim.trains=lora"], 2, "optim.trains=lora"),
        ("kl+dp", ["compute.shard=true", "compute.compile=true"], 2, "compute.compile=true"),
        ("kl+dp", ["compute.shard=true", "optim.precision=float16"], 2, "optim.precision=float16"),
    ],
)
def test_what_needs_the_whole_batch_is_refused(method, settings, devices, said):
    config = with_settings(TransferConfig(), settings)
    with pytest.raises(ConfigError, match=said):
        require_shared_batches(method, METHODS[method], config, devices)


def test_one_device_and_one_pass_may_do_all():
    config = with_settings(TransferConfig(), ["optim.train_statistics=true"])
    require_shared_batches("cd", METHODS["cd"], config, 1)


@pytest.mark.parametrize("method", ["xe+dp", "kl+dp-soft", "kl+dp-random"])
def test_targets_that_are_chosen_ahead_are_those_of_each_batch(task, tmp_path, monkeypatch, method):
    """Nine batches, some with samples of a pool and without labels; the last is shorter."""
    plan = plan_of(task, method, samples=70, pool=50, labelled=0.5)
    tutors = [load_model(task.student), load_model(task.teacher)]
    stored = [fill_store(tutors, source.split, source.views, Store(tmp_path)) for source in plan.sources]
    sources = tuple(replace(s, tutors=answers) for s, answers in zip(plan.sources, stored, strict=True))
    plan = replace(plan, sources=sources)
    assert _batches_ahead(plan) == (1 if method == "kl+dp-random" else AHEAD)
    ahead = list(batches(plan, tutors[0], 1))
    resumed = list(batches(plan, tutors[0], 1, first=3))
    monkeypatch.setattr("crossteach.transferring.plan.AHEAD", 1)
    alone = list(batches(plan, tutors[0], 1))
    assert len(ahead) == len(alone) == len(resumed) + 3 == plan.steps_per_epoch
    for one, other in zip(ahead[3:], resumed, strict=True):
        assert torch.equal(one.targets, other.targets) and torch.equal(one.shares, other.shares)
    for one, other in zip(ahead, alone, strict=True):
        torch.testing.assert_close(one.targets, other.targets)
        torch.testing.assert_close(one.shares, other.shares)
        assert torch.equal(one.labels, other.labels) and one.from_pools == other.from_pools
        assert torch.equal(one.images(tutors[0].preprocess), other.images(tutors[0].preprocess))


def test_no_batch_is_drawn_beyond_the_end_of_the_training(task, tmp_path):
    """The pool's second view, which would begin with the sixth of eight batches, was never asked about."""
    plan = plan_of(task, "xe+dp", samples=70, pool=15)
    plan = replace(plan, config=with_settings(plan.config, ["optim.steps=5"]))
    tutors = [load_model(task.student), load_model(task.teacher)]
    shown = [range(source.passes(plan.steps)) for source in plan.sources]
    stored = [
        fill_store(tutors, source.split, source.views, Store(tmp_path), shown=numbers)
        for source, numbers in zip(plan.sources, shown, strict=True)
    ]
    sources = tuple(replace(s, tutors=answers) for s, answers in zip(plan.sources, stored, strict=True))
    plan = replace(plan, sources=sources)
    assert [len(numbers) for numbers in shown] == [1, 1] and plan.steps_per_epoch == 8
    assert len(list(batches(plan, tutors[0], 0))) == 5 and len(list(batches(plan, tutors[0], 0, first=3))) == 2
    assert train(tutors[0], plan).step == 5
