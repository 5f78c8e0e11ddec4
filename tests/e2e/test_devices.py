"""One transfer as two real processes: the same student as one process alone, also after a process was killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import digits
import numpy as np
import psutil
import pytest
import torch
from commands import call, start
from safetensors.torch import load_file

from crossteach.errors import DevicesError
from crossteach.transferring.launching import _say_who_was_killed


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> digits.Digits:
    task = digits.make(tmp_path_factory.mktemp("digits"))
    arrays = dict(np.load(task.folder / "digits.npz"))
    np.savez(task.folder / "pool.npz", x=arrays["x_train"][201:])
    arrays["x_train"], arrays["y_train"] = arrays["x_train"][:201], arrays["y_train"][:201]
    np.savez(task.folder / "few.npz", **arrays)
    return task


def transfer(task: digits.Digits, out: Path, store: Path, *more: object) -> list[object]:
    """Batches of 25, which two processes share as 12 and 13; the end of training is returned, so that it shows."""
    data = ["--data", f"npz:{task.folder / 'few.npz'}", "--pool", f"npz:{task.folder / 'pool.npz'}"]
    given = ["transfer", "--student", task.student, "--teacher", task.teacher, *data, "--out", out, "--store", store]
    settings = ["optim.epochs=6", "optim.batch_size=25", "optim.lr=0.03", "gate.ask=false", "views.count=2"]
    return [*given, "--quiet", "--json", *(part for each in settings for part in ("--set", each)), *more]


def launch(launcher: list[str], arguments: list[object]) -> subprocess.Popen[str]:
    """Let another launcher than ours start two processes."""
    command = [sys.executable, "-m", *launcher, "-m", "crossteach", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


ACCELERATE = ["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
ACCELERATE += ["--mixed_precision", "bf16", "--dynamo_backend", "no"]
TORCH = ["torch.distributed.run", "--nproc-per-node", "2"]


def student_of(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "student" / "model.safetensors")


def figures(summary: object, about: bool = False) -> object:
    """What a summary says of the student, not how long it took nor on what; `about` takes numbers near it too."""
    if isinstance(summary, dict):
        unlike = ("notes", "seconds", "evidence", "calibration")  # figures in words; an error by bins, which jumps
        return {key: figures(value, about) for key, value in summary.items() if key not in unlike}
    if isinstance(summary, list):
        return [figures(value, about) for value in summary]
    return pytest.approx(summary, rel=1e-3) if about and isinstance(summary, float) else summary


def kill_one(process, rank: str, out: Path) -> None:
    """Kill a process of several by its rank, once the training has come to its third epoch."""
    deadline = time.monotonic() + 300
    while not (out / "metrics.jsonl").is_file() or len((out / "metrics.jsonl").read_text().splitlines()) < 3:
        assert process.poll() is None and time.monotonic() < deadline, process.stderr.read()
        time.sleep(0.02)
    started = psutil.Process(process.pid).children(recursive=True)
    next(child for child in started if child.environ().get("RANK") == rank).send_signal(signal.SIGKILL)


def test_two_processes_end_where_one_does_though_one_of_them_is_killed(task, tmp_path, capsys):
    out = tmp_path / "run"
    given = transfer(task, out, tmp_path / "store", "--devices", 2)
    process = start(*given)
    kill_one(process, "1", out)
    killed = time.monotonic()
    told, complained = process.communicate(timeout=120)
    assert time.monotonic() - killed < 30 and process.returncode == 1
    assert (told, complained) == (
        "",
        "crossteach: process 1 of 2 was killed (SIGKILL), so all were ended; run the same command again: it goes on "
        "from its last checkpoint\n",
    )
    assert (out / "checkpoint.pt").is_file() and not (out / "summary.json").is_file()

    process = start(*given)
    told, complained = process.communicate(timeout=300)
    assert (process.returncode, complained) == (0, "")
    summary = json.loads(told)
    assert summary == json.loads((out / "summary.json").read_text())
    assert "2 processes on the CPU share each batch: no GPU is used" in summary["notes"]
    assert not any("resumed elsewhere" in note for note in summary["notes"])
    code, told, complained = call(capsys, *transfer(task, tmp_path / "alone", tmp_path / "store-alone"))
    assert (code, complained) == (0, "")
    assert figures(summary) == figures(json.loads(told), about=True)
    before, one, two = load_file(task.folder / "convolutional.safetensors"), *map(student_of, (tmp_path / "alone", out))
    assert one.keys() == two.keys() == before.keys()
    assert max((one[name] - value).abs().max().item() for name, value in before.items()) > 0.01, "it has learnt"
    for name, value in one.items():
        assert torch.allclose(value, two[name], atol=1e-5), name
    assert len((out / "metrics.jsonl").read_text().splitlines()) == 6


@pytest.mark.slow
def test_two_processes_follow_a_curriculum_and_the_rate_that_the_first_of_them_finds(task, tmp_path, capsys):
    linear = task.model("linear")
    more = ["--order", "sequential", "--teacher", linear, "--set", "optim.probe_steps=5", "--set", "optim.epochs=1"]
    more += ["--set", "optim.lr=none", "--set", "pool.share=0", "--set", "gate.ask=true", "--set", "optim.accumulate=2"]
    more += ["--set", "gate.max_loss=5"]
    process = launch(ACCELERATE, transfer(task, tmp_path / "two", tmp_path / "store", *more))
    told, complained = process.communicate(timeout=300)
    assert process.returncode == 0, complained
    assert "ACCELERATE_MIXED_PRECISION=bf16 is not read: optim.precision says it" in json.loads(told)["notes"]
    code, alone, complained = call(capsys, *transfer(task, tmp_path / "alone", tmp_path / "store-alone", *more))
    assert (code, complained) == (0, "")
    assert figures(json.loads(told)) == figures(json.loads(alone), about=True)
    assert len(json.loads(told)["lessons"]) == 2
    one, two = map(student_of, (tmp_path / "alone", tmp_path / "two"))
    for name, value in one.items():
        assert torch.allclose(value, two[name], atol=1e-5), name


@pytest.mark.slow
def test_a_student_that_is_divided_among_processes_learns_the_same_and_resumes(task, tmp_path, capsys):
    more = ["--set", "optim.accumulate=2", "--set", "optim.optimiser=adamw", "--set", "optim.lr=0.002"]
    given = transfer(task, tmp_path / "two", tmp_path / "store", *more, "--set", "compute.shard=true")
    process = start(*given, "--devices", 2)
    kill_one(process, "0", tmp_path / "two")
    told, complained = process.communicate(timeout=120)
    assert (process.returncode, told, len(complained.splitlines())) == (1, "", 1)
    assert "process 0 of 2 was killed (SIGKILL)" in complained
    process = launch(TORCH, given)
    told, complained = process.communicate(timeout=300)
    assert (process.returncode, complained) == (0, "")
    code, alone, complained = call(capsys, *transfer(task, tmp_path / "alone", tmp_path / "store-alone", *more))
    assert (code, complained) == (0, "")
    assert figures(json.loads(told)) == figures(json.loads(alone), about=True)
    one, two = map(student_of, (tmp_path / "alone", tmp_path / "two"))
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert torch.allclose(value, two[name], atol=1e-4), name


def test_more_devices_than_there_are_is_one_line_before_any_work(task, tmp_path, capsys):
    here = torch.cuda.device_count()
    given = transfer(task, tmp_path / "run", tmp_path / "store", "--devices", here + 2, "--device", "cuda")
    code, told, complained = call(capsys, *given)
    assert (code, told, len(complained.splitlines())) == (1, "", 1)
    assert f"{here + 2} devices asked, {here or 'no'} GPU" in complained
    assert not (tmp_path / "run").exists() and not (tmp_path / "store").exists()


def test_what_the_user_got_wrong_is_said_once(task, tmp_path):
    given = transfer(task, tmp_path / "run", tmp_path / "store", "--devices", 2, "--method", "cd")
    process = start(*[part for part in given if "pool" not in str(part)])
    told, complained = process.communicate(timeout=120)
    assert (process.returncode, told) == (1, "")
    assert len(complained.splitlines()) == 1 and "2 devices would see parts of it" in complained
    assert not (tmp_path / "run").exists()


def test_the_launcher_tells_who_ended_first():
    assert _say_who_was_killed({0: 1, 1: -signal.SIGTERM}, 2) == 1, "process 0 has said what is wrong"
    with pytest.raises(KeyboardInterrupt):
        _say_who_was_killed({0: 130, 1: 1}, 2)
    with pytest.raises(DevicesError, match=r"process 1 of 2 was killed \(SIGKILL\)"):
        _say_who_was_killed({0: 1, 1: -signal.SIGKILL}, 2)
    with pytest.raises(DevicesError, match=r"process 1 of 2 was killed \(SIGTERM\)"):
        _say_who_was_killed({1: -signal.SIGTERM}, 2)
