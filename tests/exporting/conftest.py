"""Finished transfers on scikit-learn's digits, one a module of tests for each kind of student."""

from collections.abc import Callable, Iterator
from pathlib import Path

import digits
import pytest

import crossteach


@pytest.fixture(scope="session")
def task(tmp_path_factory: pytest.TempPathFactory) -> digits.Digits:
    return digits.make(tmp_path_factory.mktemp("digits"))


@pytest.fixture(scope="session")
def teach(task: digits.Digits, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Path]]:
    """Return what makes a run of a student and settings; the same one is made once."""
    made: dict[tuple[str, ...], Path] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CROSSTEACH_STORE", str(tmp_path_factory.mktemp("store")))

        def run(student: str, *settings: str, data: str = "", name: str = "run") -> Path:
            key = (student, *settings, data)
            if key not in made:
                splits = crossteach.load_data(data or task.data)
                quick = ["optim.epochs=1", "optim.lr=0.03", "views.count=1", "force=true", *settings]
                config = crossteach.with_settings(crossteach.TransferConfig(), quick)
                models = [crossteach.load_model(spec, like=splits) for spec in (student, task.teacher)]
                out = tmp_path_factory.mktemp("runs") / name
                store = crossteach.Store(tmp_path_factory.mktemp("answers"))
                crossteach.transfer(models[0], models[1:], splits, out, config, store)
                made[key] = out
            return made[key]

        yield run
