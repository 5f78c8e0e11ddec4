from dataclasses import replace

import digits
import pytest
import torch
import torch.nn.functional as F

import crossteach
from crossteach import Store, TransferConfig, load_data, load_model, with_settings
from crossteach.answers.prediction import score_split
from crossteach.answers.tutors import LiveTutors
from crossteach.data.views import Views, augmentation
from crossteach.functional.averaging import snapshot
from crossteach.functional.calibration import fit_temperature
from crossteach.transferring.methods import METHODS
from crossteach.transferring.plan import TrainingPlan
from crossteach.transferring.probe import BORNE, calibrated_cross_entropy, choose_rate
from crossteach.transferring.sources import Source
from crossteach.transferring.state import Optimisation, tables_of
from crossteach.transferring.training import train


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> digits.Digits:
    return digits.make(tmp_path_factory.mktemp("digits"))


@pytest.fixture
def plan(task):
    settings = ["optim.probe_rates=0.003,0.3,1000", "optim.probe_steps=4", "optim.batch_size=64"]
    config = with_settings(TransferConfig(), settings)
    tutors = LiveTutors([load_model(task.student), load_model(task.teacher)])
    views = Views(0, 1, augmentation("warp"))
    return TrainingPlan(
        METHODS["kl+dp"], config, (Source(load_data(task.data).train, views, config.optim.batch_size, tutors),), 0.1, 1
    )


def test_the_best_rate_is_taken_and_the_student_is_left_alone(task, plan, tmp_path):
    student, tune = load_model(task.student), load_data(task.data).selection
    before, asked = snapshot(student.module), []

    def answers(copy):
        asked.append(copy)
        return score_split(copy, tune)

    objective = calibrated_cross_entropy(torch.from_numpy(tune.labels))
    store = Store(tmp_path)
    rate, tables, objectives = choose_rate(student, plan, answers, objective, store, {"run": "a"})
    assert rate == float(min(objectives, key=objectives.get)) and tables is None
    assert set(objectives) == {"0.003", "0.3", "1000"}
    assert objectives["1000"] > objectives["0.003"]
    assert all(torch.equal(value, before[name]) for name, value in student.module.state_dict().items())
    count = len(asked)
    assert choose_rate(student, plan, answers, objective, store, {"run": "a"}) == (rate, None, objectives)
    assert len(asked) == count, "a rate that is known is not probed again"
    choose_rate(student, plan, answers, objective, store, {"run": "b"})
    assert len(asked) == 2 * count


def test_where_a_pool_teaches_the_highest_rate_that_is_borne_is_taken(task, plan):
    """0.3 ends far above where the student began, 0.003 and 0.01 near it; 0.001 is not even tried."""
    fresh = replace(plan, sources=tuple(replace(s, split=replace(s.split, name="pool")) for s in plan.sources))
    config = with_settings(plan.config, ["optim.probe_rates=0.001,0.003,1000", "pool.probe_rate=0.01"])
    fresh = replace(fresh, config=config)
    tune = load_data(task.data).selection
    objective = calibrated_cross_entropy(torch.from_numpy(tune.labels))
    rate, _, objectives = choose_rate(load_model(task.student), fresh, lambda copy: score_split(copy, tune), objective)
    assert rate == 0.01 and set(objectives) == {"0.01", "1000"}
    start = objective(score_split(load_model(task.student), tune))
    assert objectives["0.01"] <= BORNE * start < objectives["1000"]
    hopeless = replace(fresh, config=with_settings(config, ["optim.probe_rates=900,1000", "pool.probe_rate=none"]))
    rate, _, objectives = choose_rate(
        load_model(task.student), hopeless, lambda copy: score_split(copy, tune), objective
    )
    assert rate == 900 and len(objectives) == 2, "where none is borne the lowest is taken"


@pytest.mark.parametrize(("scale", "taken"), [(0.002, 0.01), (0.5, 0.003)])
def test_a_student_that_is_perfect_where_it_is_judged_bears_a_rate_too(task, plan, scale, taken):
    """0.01 makes the objective ten times what it was: of next to nothing that is little, of 0.5 it is ruin."""
    fresh = replace(plan, sources=tuple(replace(s, split=replace(s.split, name="pool")) for s in plan.sources))
    config = with_settings(plan.config, ["optim.probe_rates=0.003,0.01", "pool.probe_rate=none"])
    asked = iter([1.0, 10.0, 1.1])
    rate, _, objectives = choose_rate(
        load_model(task.student),
        replace(fresh, config=config),
        lambda _: torch.zeros(3, 10),
        lambda _: scale * next(asked),
    )
    assert rate == taken
    assert objectives["0.01"] > BORNE * scale, "relative to where it began, the rate is not borne in either case"


def fresh_rates(plan, student, settings, ends):
    """Choose rates for a student that a pool teaches; `ends` is what the tune part says, first of the start."""
    fresh = replace(plan, sources=tuple(replace(s, split=replace(s.split, name="pool")) for s in plan.sources))
    asked = iter(ends)
    config = with_settings(plan.config, ["pool.probe_rate=none", *settings])
    found = choose_rate(student, replace(fresh, config=config), lambda _: torch.zeros(3, 10), lambda _: next(asked))
    assert next(asked, None) is None, "all that was foreseen has been tried, and nothing else"
    return found


def test_a_rate_that_makes_the_student_better_at_once_is_raised_while_it_ends_better(task, plan):
    """It began at 1.0: 0.01 ends at 0.9, three times that at 0.8, nine times at 0.85: better than the start alone."""
    rates = ["optim.probe_rates=0.003,0.01"]
    rate, tables, objectives = fresh_rates(plan, load_model(task.student), rates, [1.0, 0.9, 0.8, 0.85])
    assert rate == pytest.approx(0.03) and tables is None
    assert list(objectives.values()) == [0.9, 0.8, 0.85]
    assert fresh_rates(plan, load_model(task.student), rates, [1.0, 0.9, 0.9]).lr == 0.01, "no better is no reason"
    assert fresh_rates(plan, load_model(task.student), rates, [1.0, 1.1]).lr == 0.01, "it has been moved enough"


class WithTable(torch.nn.Module):
    """Pixels as words: each is looked up in a table beside a dense layer."""

    def __init__(self, rows: int = 1000):
        super().__init__()
        self.table, self.dense = torch.nn.EmbeddingBag(rows, 4), torch.nn.Linear(4, 10)

    def forward(self, images):
        return self.dense(self.table((images.flatten(1) * 255).long()))


def with_table(task, rows: int = 1000):
    return crossteach.from_module(WithTable(rows), like=load_data(task.data))


def test_tables_have_a_rate_of_their_own_the_last_but_one_before_the_best(task, plan):
    adamw = ["optim.optimiser=adamw", "optim.probe_rates=0.0003,0.001"]
    found = fresh_rates(plan, with_table(task), adamw, [1.0, 0.9, 0.8, 0.7, 0.6, 0.65])
    assert found.lr == 0.001 and found.table_lr == pytest.approx(0.009), "0.027 ended best"
    assert list(found.objectives) == ["0.001", *(f"tables at {rate:g}" for rate in (0.003, 0.009, 0.027, 0.081))]
    assert fresh_rates(plan, with_table(task), adamw, [1.0, 0.9, 0.8, 0.9]).table_lr == 0.001
    assert fresh_rates(plan, with_table(task), adamw, [1.0, 0.9, 0.95]).table_lr == 0.001, "never below the others"
    assert fresh_rates(plan, with_table(task, 999), adamw, [1.0, 0.9]).table_lr is None, "letters are no table"
    given = fresh_rates(replace(plan, table_lr=0.1), with_table(task), adamw, [1.0, 0.9])
    assert given.table_lr == 0.1, "what is given is not looked for"


@pytest.mark.parametrize("table_lr", [None, 0.3])
def test_a_step_moves_tables_by_their_rate_and_other_weights_by_theirs(task, plan, table_lr):
    """The first step of AdamW is the rate itself, whatever the gradient."""
    student = with_table(task)
    before = snapshot(student.module)
    settings = ["optim.optimiser=adamw", "optim.warmup=0", "optim.clip=1e9", "optim.batch_size=64"]
    config = with_settings(TransferConfig(), settings)
    train(student, replace(plan, config=config, method=METHODS["xe"], lr=0.01, table_lr=table_lr, max_steps=1))
    moved = {name: (value - before[name]).abs().max().item() for name, value in student.module.state_dict().items()}
    assert moved["dense.weight"] == pytest.approx(0.01, rel=1e-3)
    assert moved["table.weight"] == pytest.approx(table_lr or 0.01, rel=1e-3)


def test_adamw_hardly_moves_a_weight_that_has_hardly_a_gradient(task, plan):
    """At torch's own floor a gradient of 1e-7 would move it by nine tenths of the rate."""
    student = with_table(task)
    bias, before = student.module.dense.bias, student.module.dense.bias.detach().clone()
    config = with_settings(TransferConfig(), ["optim.optimiser=adamw", "optim.clip=1e9"])
    optimisation = Optimisation(student, replace(plan, config=config, lr=0.01), list(student.module.parameters()))
    optimisation.add((bias * torch.logspace(-8, 1, 10)).sum())
    optimisation.step(0.01, 0)
    moved = (before - bias.detach()) / 0.01
    torch.testing.assert_close(moved[[0, 1, 2, 3, 9]], torch.tensor([0.01, 0.09, 0.5, 0.91, 1.0]), atol=0.01, rtol=0)


def test_a_table_that_is_also_the_head_is_no_table():
    tied = torch.nn.ModuleDict({"words": torch.nn.Embedding(2000, 4), "head": torch.nn.Linear(4, 2000, bias=False)})
    assert tables_of(tied) == [tied["words"].weight]
    tied["head"].weight = tied["words"].weight
    assert tables_of(tied) == []


def test_text_is_taught_by_adamw_and_images_by_sgd(plan):
    assert plan.optimiser == "sgd" and plan.probe_rates == (0.003, 0.3, 1000)
    split = crossteach.from_texts((["a", "b"], [0, 1]), (["c", "d"], [0, 1]), (["e", "f"], [0, 1])).train
    text = replace(
        plan, sources=tuple(replace(source, split=split) for source in plan.sources), config=TransferConfig()
    )
    assert text.optimiser == "adamw" and text.probe_rates == (0.0001, 0.0003, 0.001)
    assert replace(text, config=with_settings(TransferConfig(), ["optim.optimiser=sgd"])).optimiser == "sgd"


def test_of_two_equal_rates_the_lower_one_is_taken(task, plan):
    found = choose_rate(load_model(task.student), plan, lambda _: torch.zeros(3, 10), lambda _: 1.0)
    assert found.lr == 0.003


def test_the_objective_is_cross_entropy_after_a_temperature():
    logits = 2 * torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(4, (50,), generator=torch.Generator().manual_seed(1))
    logits[torch.arange(50), labels] += 4.0
    temperature = fit_temperature(logits, labels)
    found = calibrated_cross_entropy(labels)(logits)
    assert found == pytest.approx(F.cross_entropy(logits / temperature, labels).item())
    assert found == pytest.approx(calibrated_cross_entropy(labels)(3 * logits), rel=1e-3), "blind to confidence"
