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
    rate, objectives = choose_rate(student, plan, answers, objective, store, {"run": "a"})
    assert rate == float(min(objectives, key=objectives.get))
    assert set(objectives) == {"0.003", "0.3", "1000"}
    assert objectives["1000"] > objectives["0.003"]
    assert all(torch.equal(value, before[name]) for name, value in student.module.state_dict().items())
    count = len(asked)
    assert choose_rate(student, plan, answers, objective, store, {"run": "a"}) == (rate, objectives)
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
    rate, objectives = choose_rate(load_model(task.student), fresh, lambda copy: score_split(copy, tune), objective)
    assert rate == 0.01 and set(objectives) == {"0.01", "1000"}
    start = objective(score_split(load_model(task.student), tune))
    assert objectives["0.01"] <= BORNE * start < objectives["1000"]
    hopeless = replace(fresh, config=with_settings(config, ["optim.probe_rates=900,1000", "pool.probe_rate=none"]))
    rate, objectives = choose_rate(load_model(task.student), hopeless, lambda copy: score_split(copy, tune), objective)
    assert rate == 900 and len(objectives) == 2, "where none is borne the lowest is taken"


@pytest.mark.parametrize(("scale", "taken"), [(0.002, 0.01), (0.5, 0.003)])
def test_a_student_that_is_perfect_where_it_is_judged_bears_a_rate_too(task, plan, scale, taken):
    """0.01 makes the objective ten times what it was: of next to nothing that is little, of 0.5 it is ruin."""
    fresh = replace(plan, sources=tuple(replace(s, split=replace(s.split, name="pool")) for s in plan.sources))
    config = with_settings(plan.config, ["optim.probe_rates=0.003,0.01", "pool.probe_rate=none"])
    asked = iter([1.0, 10.0, 1.1])
    rate, objectives = choose_rate(
        load_model(task.student),
        replace(fresh, config=config),
        lambda _: torch.zeros(3, 10),
        lambda _: scale * next(asked),
    )
    assert rate == taken
    assert objectives["0.01"] > BORNE * scale, "relative to where it began, the rate is not borne in either case"


def test_a_rate_that_makes_the_student_better_at_once_is_raised(task, plan):
    """It began at 1.0: 0.01 ends at 0.9, three times that at 0.8, nine times at 1.2, which is borne and not better."""
    fresh = replace(plan, sources=tuple(replace(s, split=replace(s.split, name="pool")) for s in plan.sources))
    config = with_settings(plan.config, ["optim.probe_rates=0.003,0.01", "pool.probe_rate=none"])
    asked = iter([1.0, 0.9, 0.8, 1.2])
    rate, objectives = choose_rate(
        load_model(task.student), replace(fresh, config=config), lambda _: torch.zeros(3, 10), lambda _: next(asked)
    )
    assert rate == pytest.approx(0.09)
    assert list(objectives.values()) == [0.9, 0.8, 1.2]
    asked = iter([1.0, 0.9, 0.8, 1.3])
    rate, _ = choose_rate(
        load_model(task.student), replace(fresh, config=config), lambda _: torch.zeros(3, 10), lambda _: next(asked)
    )
    assert rate == pytest.approx(0.03), "the next one is not borne"


def test_text_is_taught_by_adamw_and_images_by_sgd(plan):
    assert plan.optimiser == "sgd" and plan.probe_rates == (0.003, 0.3, 1000)
    split = crossteach.from_texts((["a", "b"], [0, 1]), (["c", "d"], [0, 1]), (["e", "f"], [0, 1])).train
    text = replace(
        plan, sources=tuple(replace(source, split=split) for source in plan.sources), config=TransferConfig()
    )
    assert text.optimiser == "adamw" and text.probe_rates == (0.0001, 0.0003, 0.001)
    assert replace(text, config=with_settings(TransferConfig(), ["optim.optimiser=sgd"])).optimiser == "sgd"


def test_of_two_equal_rates_the_lower_one_is_taken(task, plan):
    rate, _ = choose_rate(load_model(task.student), plan, lambda _: torch.zeros(3, 10), lambda _: 1.0)
    assert rate == 0.003


def test_the_objective_is_cross_entropy_after_a_temperature():
    logits = 2 * torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(4, (50,), generator=torch.Generator().manual_seed(1))
    logits[torch.arange(50), labels] += 4.0
    temperature = fit_temperature(logits, labels)
    found = calibrated_cross_entropy(labels)(logits)
    assert found == pytest.approx(F.cross_entropy(logits / temperature, labels).item())
    assert found == pytest.approx(calibrated_cross_entropy(labels)(3 * logits), rel=1e-3), "blind to confidence"
