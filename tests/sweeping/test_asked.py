"""Tutors answer the views that the jobs' epochs show, and no others."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import digits
import pytest

from crossteach import load_data, load_model
from crossteach.answers.store import Store
from crossteach.answers.tutors import count_missing
from crossteach.data.views import Views, augmentation
from crossteach.errors import CrossteachError
from crossteach.sweeping import plan_cost, sweep
from crossteach.sweeping.asked import AskedViews, tutor_views
from crossteach.sweeping.executors import Ended, Task
from crossteach.sweeping.plan import read_plan

N = 900
"""Samples of the transfer set."""


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> digits.Digits:
    return digits.make(tmp_path_factory.mktemp("digits"))


class Here:
    """An executor of this process, which tells before each task."""

    workers = 1

    def __init__(self, before: Callable[[Task], None] = lambda task: None) -> None:
        self.before = before

    def run(self, tasks: Sequence[Task], started: Callable[[Task], None]) -> Iterator[Ended]:
        for task in tasks:
            self.before(task)
            started(task)
            try:
                yield Ended(task, task.function(task.argument))
            except CrossteachError as error:
                yield Ended(task, reason=str(error))

    def close(self) -> None: ...


def plan(path: Path, task: digits.Digits, methods: list[object], teachers: list[str], **settings: object) -> Path:
    given = {"optim.epochs": 1, "optim.lr": 0.01, **settings}
    pairs = [[task.student, teachers]]
    path.write_text(json.dumps({"data": task.data, "pairs": pairs, "methods": methods, "settings": given}))
    return path


def numbers(asked: Sequence[AskedViews]) -> list[tuple[int, ...]]:
    return [views.numbers for views in asked]


def known(spec: str, task: digits.Digits, store: Store, strength: float = 0.5, count: int = 4) -> list[int]:
    """Return the views of which the store knows every answer of a model."""
    views = Views(0, count, augmentation(load_data(task.data).augmentation, strength))
    missing = count_missing(load_model(spec), load_data(task.data).train, views, store)
    assert set(missing.values()) <= {0, N}
    return [number for number, samples in missing.items() if not samples]


def test_one_epoch_asks_for_one_view_of_four_and_a_dry_run_counts_that(task, tmp_path, monkeypatch):
    path, store = plan(tmp_path / "plan.yaml", task, ["kl+dp"], [task.teacher]), Store(tmp_path / "store")
    found = plan_cost(path, tmp_path / "out", store)
    assert found["cost"]["views"] == 2 * N
    assert [model["views_to_answer"] for model in found["models"]] == [N, N]

    def forbid(started: Task) -> None:
        if started.name.startswith("kl+dp"):
            monkeypatch.setattr("crossteach.answers.tutors.ask", None)

    assert sweep(path, tmp_path / "out", store, executor=Here(forbid))["failed"] == []
    monkeypatch.undo()
    assert [known(spec, task, store) for spec in (task.student, task.teacher)] == [[0], [0]]
    assert plan_cost(path, tmp_path / "more", store)["cost"]["views"] == 0


def test_jobs_that_begin_with_other_views_share_the_answers(task, tmp_path):
    methods = [
        {"method": "kl", "name": "first", "settings": {"views.first": 3, "optim.epochs": 2}},
        {"method": "kl", "name": "second", "settings": {"views.count": 2}},
        {"method": "kl", "name": "narrow", "settings": {"views.strength": 0.25}},
    ]
    path, data = plan(tmp_path / "plan.yaml", task, methods, [task.teacher]), load_data(task.data)
    asked = tutor_views(read_plan(path).jobs(), data)
    assert {spec: numbers(views) for spec, views in asked.items()} == {task.teacher: [(0, 3), (0,)]}
    store = Store(tmp_path / "store")
    assert plan_cost(path, tmp_path / "out", store)["cost"]["views"] == 3 * N
    assert sweep(path, tmp_path / "out", store, executor=Here())["failed"] == []
    assert known(task.teacher, task, store) == [0, 3]
    assert known(task.teacher, task, store, strength=0.25) == [0]


@pytest.mark.parametrize(
    ("settings", "of_student", "of_dense", "of_linear"),
    [
        ({"curriculum.order": "sequential"}, (0, 1), (0, 1), (2, 3)),
        ({"curriculum.order": "soup"}, (0, 1, 2, 3), (0, 1), (2, 3)),
        ({"curriculum.order": "sequential", "curriculum.sequence": "ascending"}, (0, 1), None, None),
        ({"curriculum.order": "sequential", "curriculum.budget": "total"}, (0,), (0,), (1,)),
        ({"curriculum.order": "parallel"}, (0, 1), (0, 1), (0, 1)),
    ],
)
def test_each_teacher_is_asked_for_the_views_of_its_own_lesson(
    task, tmp_path, settings, of_student, of_dense, of_linear
):
    teachers = [task.teacher, task.model("linear")]
    path = plan(tmp_path / "plan.yaml", task, ["kl+dp"], teachers, **{"optim.epochs": 2, **settings})
    asked = tutor_views(read_plan(path).jobs(), load_data(task.data))
    expected = dict(zip([task.student, *teachers], (of_student, of_dense, of_linear), strict=True))
    assert {spec: numbers(views) for spec, views in asked.items()} == {
        spec: [] if shown is None else [shown] for spec, shown in expected.items()
    }


def test_jobs_that_keep_answers_in_other_ways_find_theirs_stored(task, tmp_path, monkeypatch):
    methods = [
        {"method": "kl", "name": "dense", "settings": {"optim.epochs": 2}},
        {"method": "kl", "name": "largest", "settings": {"store.keep": 3}},
    ]
    path, store = plan(tmp_path / "plan.yaml", task, methods, [task.teacher]), Store(tmp_path / "store")
    asked = tutor_views(read_plan(path).jobs(), load_data(task.data))[task.teacher]
    assert [(views.keep, views.numbers) for views in asked] == [("auto", (0, 1)), ("3", (0,))]
    assert plan_cost(path, tmp_path / "out", store)["cost"]["views"] == 3 * N

    def forbid(started: Task) -> None:
        if started.name.startswith("kl-"):
            monkeypatch.setattr("crossteach.answers.tutors.ask", None)

    assert sweep(path, tmp_path / "out", store, executor=Here(forbid))["failed"] == []


def test_jobs_that_ask_in_other_ways_find_theirs_stored(task, tmp_path, monkeypatch):
    """How many at once, and in which precision: answers are kept under that."""
    methods = [
        {"method": "kl+dp", "name": "as it is", "settings": {"optim.epochs": 2}},
        {"method": "kl+dp", "name": "few", "settings": {"scoring.batch": 16}},
        {"method": "kl+dp", "name": "half", "settings": {"scoring.precision": "bfloat16"}},
    ]
    path, store = plan(tmp_path / "plan.yaml", task, methods, [task.teacher]), Store(tmp_path / "store")
    asked = tutor_views(read_plan(path).jobs(), load_data(task.data))[task.teacher]
    assert [(views.scoring.batch, views.scoring.precision, views.numbers) for views in asked] == [
        (None, "float32", (0, 1)),
        (16, "float32", (0,)),
        (None, "bfloat16", (0,)),
    ]
    assert plan_cost(path, tmp_path / "out", store)["cost"]["views"] == 2 * 4 * N

    def forbid(started: Task) -> None:
        if started.name.startswith("kl+dp-"):
            monkeypatch.setattr("crossteach.answers.tutors.ask", None)

    assert sweep(path, tmp_path / "out", store, executor=Here(forbid))["failed"] == []
    monkeypatch.undo()
    assert plan_cost(path, tmp_path / "more", store)["cost"]["views"] == 0


def test_teachers_in_an_order_that_is_found_later_answer_nothing_that_is_not_shown(task, tmp_path):
    teachers, store = [task.teacher, task.model("linear")], Store(tmp_path / "store")
    settings = {"optim.epochs": 2, "curriculum.order": "sequential", "curriculum.sequence": "ascending"}
    path = plan(tmp_path / "plan.yaml", task, ["kl+dp"], teachers, **settings)
    assert sweep(path, tmp_path / "out", store, executor=Here())["failed"] == []
    assert sorted(known(spec, task, store) for spec in teachers) == [[0, 1], [2, 3]]


def test_tutors_of_live_views_and_of_features_answer_no_view(task, tmp_path):
    methods = [{"method": "kl", "settings": {"views.live": True}}, {"method": "crd"}, {"method": "xe"}]
    methods.append({"method": "kl+dp-random-teacher"})
    path = plan(tmp_path / "plan.yaml", task, methods, [task.teacher])
    asked = tutor_views(read_plan(path).jobs(), load_data(task.data))
    assert {spec: numbers(views) for spec, views in asked.items()} == {task.teacher: [], task.student: [(0,)]}
