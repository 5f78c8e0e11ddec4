"""Code of saved students on the command line, in plans, and in the workers of a sweep."""

import json
from pathlib import Path

import digits
import pytest
from commands import call

from crossteach import load_model


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> digits.Digits:
    return digits.make(tmp_path_factory.mktemp("digits"))


@pytest.fixture
def foreign(task, tmp_path, monkeypatch):
    """A student that another user has saved."""
    load_model(task.student).save(tmp_path / "foreign" / "student")
    monkeypatch.setenv("CROSSTEACH_STORE", str(tmp_path / "store of another user"))
    return f"run:{tmp_path / 'foreign'}"


def test_the_command_line_opens_a_foreign_student_with_trust_only(task, foreign, tmp_path, capsys):
    commands = {
        "scout": ["scout", foreign, task.teacher, "--data", task.data],
        "transfer": ["transfer", "--student", task.teacher, "--teacher", foreign, "--data", task.data],
    }
    commands["transfer"] += ["--set", "optim.epochs=1", "--set", "optim.lr=0.01", "--set", "views.count=1"]
    for name, command in commands.items():
        command += ["--out", str(tmp_path / name), "--json"]
        code, out, err = call(capsys, *command)
        assert (code, out) == (1, "") and "--trust" in err and len(err.splitlines()) == 1
        assert not (tmp_path / name).exists()
        code, out, err = call(capsys, *command, "--trust")
        assert code == 0, err
        json.loads(out)


@pytest.mark.parametrize("how", ["option", "plan"])
def test_a_sweep_opens_a_foreign_student_with_trust_only_and_so_do_its_workers(task, foreign, tmp_path, capsys, how):
    plan = tmp_path / "plan.yaml"
    text = f"data: {task.data}\npairs: [['{task.teacher}', '{foreign}']]\nmethods: [kl]\n"
    text += "settings: {optim.epochs: 1, optim.lr: 0.01, views.count: 1}\n"
    plan.write_text(text)
    command = ["sweep", str(plan), "--out", str(tmp_path / "sweep"), "--json"]
    code, _, err = call(capsys, *command)
    assert code == 1 and "--trust" in err and not Path(tmp_path / "sweep" / "jobs").exists()
    if how == "plan":
        plan.write_text(text + "trust: true\n")
    code, out, err = call(capsys, *command, *(["--trust"] if how == "option" else []))
    assert code == 0, err
    assert json.loads(out)["done"] == 1
