"""The real command line on consoles that cannot show every name."""

import json
import os
import shutil
import subprocess
import sys

import digits
import pytest
from commands import draw_on_terminal

CONSOLES = {
    "ascii": {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"},
    "cp1252": {"PYTHONIOENCODING": "cp1252", "LC_ALL": "C.UTF-8"},
    "latin-1": {"PYTHONIOENCODING": "latin-1:strict", "LC_ALL": "C"},
}
NAME = "größe名"
QUICK = ["--set", "optim.epochs=1", "--set", "optim.lr=0.01", "--set", "views.count=1"]


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    made = digits.make(tmp_path_factory.mktemp("digits"))
    folder = made.folder / NAME
    folder.mkdir()
    for name in ("convolutional", "dense"):
        shutil.copy(made.folder / f"{name}.safetensors", folder / f"{name}-{NAME}.safetensors")
    return made


def model(task, name):
    return f"py:{digits.SOURCE}:{name}@{task.folder / NAME / f'{name}-{NAME}.safetensors'}?channels=1&size=8"


def pair(task):
    return ["--student", model(task, "convolutional"), "--teacher", model(task, "dense"), "--data", task.data, *QUICK]


def environment(console):
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUTF8": "0", **CONSOLES[console]}


def run(console, *arguments, code=0):
    """Run the command line as a user does; return standard output and standard error as bytes."""
    command = [sys.executable, "-m", "crossteach.cli", *map(str, arguments)]
    ended = subprocess.run(command, env=environment(console), capture_output=True, check=False, timeout=120)
    assert b"Traceback" not in ended.stderr
    assert ended.returncode == code, ended.stderr
    return ended.stdout, ended.stderr


def names(value):
    """Undo what an ASCII system makes of the bytes of a name that was given on the command line."""
    return os.fsencode(value).decode("utf-8")


@pytest.mark.parametrize("console", CONSOLES)
def test_names_that_a_console_cannot_show_are_escaped(task, tmp_path, console):
    out, _ = run(console, "transfer", *pair(task), "--out", tmp_path / NAME / "run")
    shown = out.decode(CONSOLES[console]["PYTHONIOENCODING"].partition(":")[0])
    assert "convolutional-gr" in shown and "The student is in" in shown
    assert ("größe\\u540d" if console == "cp1252" else "gr\\udcc3\\udcb6") in shown
    summary = json.loads((tmp_path / NAME / "run" / "summary.json").read_text(encoding="utf-8"))
    assert names(summary["student"]) == f"convolutional-{NAME}"
    again, err = run(console, "transfer", *pair(task), "--out", tmp_path / NAME / "run", "--json")
    assert json.loads(again.decode("utf-8")) == summary and err == b""
    page, _ = run(console, "report", tmp_path / NAME / "run")
    assert page.endswith(b"report.html\n" if os.name == "posix" else b"report.html\r\n")
    html = (tmp_path / NAME / "run" / "report.html").read_text(encoding="utf-8")
    assert "convolutional-gr" in html


@pytest.mark.parametrize("console", ["ascii", *(pytest.param(c, marks=pytest.mark.slow) for c in [*CONSOLES][1:])])
def test_a_scout_and_a_plan_are_shown_on_any_console(task, tmp_path, console):
    models = [model(task, "convolutional"), model(task, "dense")]
    scouted = ["scout", *models, "--data", task.data, "--embeddings", "none", "--out", tmp_path / "scout"]
    assert b"Positive flips" in run(console, *scouted)[0]
    found = json.loads(run(console, *scouted, "--json")[0].decode("utf-8"))
    assert [names(m["name"]) for m in found["models"]] == [f"convolutional-{NAME}", f"dense-{NAME}"]
    run(console, "report", tmp_path / "scout")
    plan = tmp_path / "plan.yaml"
    models = [task.student, task.teacher]  # an ASCII system finds no file by a name that a UTF-8 plan gives
    lines = {"models": models, "data": task.data, "methods": [{"method": "self", "name": f"self {NAME}"}]}
    plan.write_text(json.dumps({**lines, "settings": {"optim.epochs": 1, "optim.lr": 0.01, "views.count": 1}}))
    shown, _ = run(console, "sweep", plan, "--out", tmp_path / "sweep", "--dry-run")
    assert b"2 jobs: 0 done" in shown and b"\\u540d" in shown
    costs = json.loads(run(console, "sweep", plan, "--out", tmp_path / "sweep", "--dry-run", "--json")[0])
    assert costs["jobs"][0]["method"] == f"self {NAME}"
    shown, _ = run(console, "sweep", plan, "--out", tmp_path / "sweep")
    assert b"2 of 2 jobs" in shown
    assert b"2 jobs, 2 done" in run(console, "sweep", plan, "--out", tmp_path / "sweep", "--status")[0]
    run(console, "report", tmp_path / "sweep")


@pytest.mark.parametrize("console", CONSOLES)
def test_errors_usage_and_help_are_shown_on_any_console(task, tmp_path, console):
    missing = ["--student", f"demo:{NAME}", "--data", "glyphs", "--out", tmp_path / "run"]
    out, err = run(console, "transfer", *missing, code=1)
    assert (out, err.count(b"\n")) == (b"", 1)
    assert err.startswith(b"crossteach: no demo model")
    assert b"Usage" in run(console, "transfer", f"--{NAME}", code=2)[1]
    assert b"cuda:1" in run(console, "transfer", "--help")[0]
    given = ["scout", model(task, "dense"), f"demo:{NAME}", "--data", task.data, "--out", tmp_path / "scout", "--json"]
    out, err = run(console, *given, code=1)
    assert (out, err.count(b"\n")) == (b"", 1)


@pytest.mark.parametrize("console", CONSOLES)
def test_progress_is_drawn_on_any_terminal(task, tmp_path, console):
    command = [sys.executable, "-m", "crossteach.cli", "transfer", *pair(task), "--out", tmp_path, "--json"]
    settings = {"env": environment(console), "stdout": subprocess.PIPE}
    process, out, drawn = draw_on_terminal(lambda stderr: subprocess.Popen(command, stderr=stderr, **settings))
    assert process.returncode == 0, drawn.decode("latin-1")
    assert b"Traceback" not in drawn and b" on test" in drawn and (b"\\u540d" in drawn or b"\\udc8d" in drawn)
    json.loads(out.decode("utf-8"))
