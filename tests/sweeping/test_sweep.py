import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import digits
import pyarrow.parquet as pq
import pytest
from commands import call, session, start
from disks import small_disk

from crossteach.answers.store import Store
from crossteach.answers.stored import list_entries
from crossteach.errors import CrossteachError, RunFolderError, SweepError
from crossteach.sweeping import plan_cost, sweep
from crossteach.sweeping.executors import Ended, Task
from crossteach.sweeping.folder import SweepFolder
from crossteach.sweeping.preparing import prepare
from crossteach.sweeping.study import SCHEMA
from crossteach.types import no_progress

PLAIN_BYTES = 2 * 10 * 4 * (2 * 450 + 447)
"""Of two models' answers on the plain samples of selection, both its parts and test."""
QUICK = "settings: {optim.epochs: 1, optim.lr: 0.01, views.count: 1}\n"


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> digits.Digits:
    return digits.make(tmp_path_factory.mktemp("digits"))


class Here:
    """The simplest executor: this process."""

    workers = 1

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.closed = False

    def run(self, tasks: Sequence[Task], started: Callable[[Task], None]) -> Iterator[Ended]:
        for task in tasks:
            self.ran.append(task.name)
            started(task)
            try:
                yield Ended(task, task.function(task.argument))
            except CrossteachError as error:
                yield Ended(task, reason=str(error))

    def close(self) -> None:
        self.closed = True


def write(path: Path, task: digits.Digits, models: Sequence[str], methods: str, more: str = QUICK) -> Path:
    listed = "\n".join(f"- {json.dumps(m)}" for m in models)
    path.write_text(f"data: {json.dumps(task.data)}\nmodels:\n{listed}\nmethods: {methods}\n{more}")
    return path


def contents(folder: Path) -> dict[Path, tuple[int, bytes]]:
    return {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_whole_sweep_in_worker_processes(task, tmp_path, capsys):
    plan = write(tmp_path / "plan.yaml", task, [task.student, task.teacher], "[self, xe, kl+dp]")
    out = tmp_path / "out"
    code, printed, err = call(capsys, "sweep", plan, "--out", out, "--json", "--seed", 3)
    assert (code, err) == (0, "")
    found = json.loads(printed)
    assert found == json.loads((out / "sweep.json").read_text())
    assert (found["jobs"], found["done"], found["failed"]) == (6, 6, [])
    assert (out / "plan.yaml").read_text() == plan.read_text()

    table = pq.read_table(out / "results.parquet")
    assert table.schema.equals(SCHEMA)
    rows = table.to_pylist()
    assert [(r["method"], r["student_name"], r["teacher_name"]) for r in rows] == [
        ("self", "convolutional", None),
        ("xe", "convolutional", None),
        ("kl+dp", "convolutional", "dense"),
        ("self", "dense", None),
        ("xe", "dense", None),
        ("kl+dp", "dense", "convolutional"),
    ]
    for row in rows:
        summary = json.loads((out / "jobs" / row["job"] / "summary.json").read_text())
        for key in ("transfer_delta", "accuracy_before", "p_value", "transfer_rate", "n_test", "positive_flips"):
            assert row[key] == summary[key]
        assert row["ungated_transfer_delta"] == summary["ungated_transfer_delta"]
        assert [row["ungated_interval_low"], row["ungated_interval_high"]] == summary["ungated"]["interval"]
        assert row["ungated_selection_delta"] == summary["gate"]["path"][-1]["delta"]["estimate"]
        assert (row["seed"], row["lr"], row["epochs"], row["diverged"]) == (3, 0.01, 1, False)
    claims = {m["method"]: m["ungated"]["claim"] for m in found["methods"]}
    assert claims["self"] is None
    assert claims["kl+dp"]["control"] in ("self", "xe")

    before = contents(out / "jobs")
    code, printed, _ = call(capsys, "sweep", plan, "--out", out, "--seed", 3)
    assert code == 0
    assert "6 of 6 jobs" in printed
    assert contents(out / "jobs") == before
    status = json.loads(call(capsys, "sweep", plan, "--out", out, "--status", "--json")[1])
    assert (status["done"], status["waiting"], status["alive"]) == (6, 0, False)


def test_several_teachers_at_once_one_after_the_other_and_by_features(task, tmp_path):
    plan = tmp_path / "plan.yaml"
    teachers = [task.teacher, task.model("linear")]
    methods = [{"method": "kl+dp", "name": order, "settings": {"curriculum.order": order}} for order in ORDERS]
    asked = {"data": task.data, "pairs": [[task.student, teachers]], "methods": methods}
    plan.write_text(json.dumps({**asked, "settings": {"optim.epochs": 1, "optim.lr": 0.01, "views.count": 1}}))
    found = sweep(plan, tmp_path / "out", executor=Here())
    assert (found["done"], found["failed"]) == (3, [])
    rows = pq.read_table(tmp_path / "out" / "results.parquet").to_pylist()
    assert [r["teacher_name"] for r in rows] == ["dense + linear"] * 3
    assert [r["ungated_transfer_delta"] is None for r in rows] == [False, True, True]
    assert all(r["ensemble_accuracy"] > 50 for r in rows)
    asked |= {"pairs": [[task.student, task.teacher]], "methods": ["crd"]}
    plan.write_text(json.dumps({**asked, "settings": {"optim.epochs": 1, "optim.lr": 0.01}}))
    here = Here()
    assert sweep(plan, tmp_path / "features", executor=here)["done"] == 1


ORDERS = ("parallel", "sequential", "soup")


def test_a_plan_grows_and_only_what_is_new_is_done(task, tmp_path):
    out, plan = tmp_path / "out", tmp_path / "plan.yaml"
    write(plan, task, [task.student, task.teacher], "[xe, kl+dp]")
    first = Here()
    assert sweep(plan, out, executor=first)["done"] == 4
    assert first.closed
    tutors, jobs = first.ran[:2], first.ran[2:]
    assert sorted(tutors) == sorted([task.student, task.teacher])
    before = contents(out / "jobs")

    more = "seeds: [1, 0]\n" + QUICK
    write(plan, task, [task.teacher, task.student], "[{method: kl+dp, name: ours}, self, xe]", more)
    second = Here()
    found = sweep(plan, out, executor=second)
    assert (found["jobs"], found["done"]) == (12, 12)
    assert not set(second.ran) & set(jobs)
    assert len(second.ran) == 2 + 12 - 4
    assert {p: c for p, c in contents(out / "jobs").items() if p in before} == before
    assert {m["method"] for m in found["methods"]} == {"ours", "self", "xe"}

    write(plan, task, [task.teacher, task.student], "[xe]")
    third = Here()
    found = sweep(plan, out, executor=third)
    assert (third.ran, found["done"]) == ([], 2)
    assert found["notes"][-1].startswith("10 folders in jobs/ are of no job of this plan")

    assert sweep(plan, out, overwrite=True, executor=(last := Here()))["done"] == 2
    assert len(last.ran) == 2
    assert len(list((out / "jobs").iterdir())) == 2


def test_tutors_answer_once(task, tmp_path, monkeypatch):
    """With what the first stage has stored, no student's job draws a view for a tutor."""
    plan = write(tmp_path / "plan.yaml", task, [task.student, task.teacher], "[kl+dp]")
    executor, store = Here(), Store(tmp_path / "store")

    def started(task: Task) -> None:
        if task.name.startswith("kl+dp"):
            monkeypatch.setattr("crossteach.answers.tutors.ask", None)

    run = executor.run
    executor.run = lambda tasks, tell: run(tasks, lambda task: (started(task), tell(task))[1])  # type: ignore[method-assign]
    assert sweep(plan, tmp_path / "out", store, executor=executor)["failed"] == []


BROKEN = """
import multiprocessing, os, pathlib, signal
from torch import nn
HERE = pathlib.Path(__file__).parent
def linear():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
def in_worker():
    return multiprocessing.parent_process() is not None and not (HERE / "mended").exists()
def raises():
    if in_worker():
        raise RuntimeError("no such luck")
    return linear()
def dies():
    if in_worker():
        os.kill(os.getpid(), signal.SIGKILL)
    return nn.Sequential(nn.Flatten(), nn.Identity(), nn.Linear(64, 10))
"""


def test_failed_jobs_are_recorded_and_retried(task, tmp_path, capsys):
    from safetensors.torch import load_file, save_file

    (tmp_path / "broken.py").write_text(BROKEN)
    weights = load_file(task.folder / "linear.safetensors")
    save_file({k.replace("1.", "2."): v for k, v in weights.items()}, tmp_path / "dies.safetensors")
    source, options = tmp_path / "broken.py", "channels=1&size=8"
    raises = f"py:{source}:raises@{task.folder / 'linear.safetensors'}?{options}"
    dies = f"py:{source}:dies@{tmp_path / 'dies.safetensors'}?{options}"
    plan = write(tmp_path / "plan.yaml", task, [raises, dies, task.student, task.teacher], "[xe]")
    out = tmp_path / "out"
    code, printed, err = call(capsys, "sweep", plan, "--out", out, "--json")
    assert code == 1
    assert err.count("\n") == 1
    assert "2 of 4 jobs failed, the first: " in err
    assert "--retry-failed" in err
    found = json.loads(printed)
    assert found["done"] == 2
    reasons = {f["job"].split("-")[1]: f["reason"] for f in found["failed"]}
    assert reasons["linear"].endswith("failed: no such luck")
    assert "killed by SIGKILL" in reasons["dies"]
    assert {p.stem for p in (out / "failed").iterdir()} == {f["job"] for f in found["failed"]}

    (tmp_path / "mended").touch()
    again = call(capsys, "sweep", plan, "--out", out)
    assert again[0] == 1
    assert "2 of 4 jobs failed" in again[2]
    status = call(capsys, "sweep", plan, "--out", out, "--status")[1]
    assert "2 done, 2 failed, 0 running, 0 waiting" in status
    assert "last failure: xe-" in status
    retried = Here()
    assert sweep(plan, out, retry_failed=True, executor=retried)["failed"] == []
    assert len(retried.ran) == 2
    assert not list((out / "failed").iterdir())


def test_a_tutor_that_fails_fails_its_jobs_only(task, tmp_path, monkeypatch):
    plan = write(tmp_path / "plan.yaml", task, [task.student, task.teacher, task.model("linear")], "[kl, xe]")
    from crossteach.sweeping import jobs

    def refuse(asked: jobs.TutorPass) -> None:
        if "linear" in asked.model:
            raise CrossteachError("it says nothing")

    monkeypatch.setattr("crossteach.sweeping.running.fill_answers", refuse)
    found = sweep(plan, tmp_path / "out", executor=Here())
    failed = {f["job"].split("-seed")[0] for f in found["failed"]}
    assert failed == {"kl-convolutional-from-linear", "kl-dense-from-linear"}
    assert found["done"] == 9 - 2
    assert all("it says nothing" in f["reason"] for f in found["failed"])


def wait_until(true: Callable[[], object], process: subprocess.Popen[str] | None = None) -> None:
    until = time.monotonic() + 120
    while not true():
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.02)


LONG = "settings: {optim.epochs: 16, optim.lr: 0.01, views.count: 1, optim.batch_size: 32}\n"


def test_a_killed_sweep_goes_on_where_it_stopped(task, tmp_path, capsys):
    plan = write(tmp_path / "plan.yaml", task, [task.student, task.teacher], "[xe, self]", LONG)
    out = tmp_path / "out"
    process = start("sweep", plan, "--out", out, start_new_session=True)
    wait_until(lambda: list(out.glob("jobs/*/summary.json")) and list(out.glob("jobs/*/checkpoint.pt")), process)
    status = json.loads(call(capsys, "sweep", plan, "--out", out, "--status", "--json")[1])
    assert status["alive"]
    assert status["stage"] == "students"
    assert status["done"] + status["running"] + status["waiting"] == 4
    assert status["now"]
    code, _, err = call(capsys, "sweep", plan, "--out", out)
    assert (code, err.count("\n")) == (1, 1)
    assert f"{out} is in use by process {process.pid} on {socket.gethostname()}; wait for its end" in err

    process.send_signal(signal.SIGKILL)
    process.wait(60)
    whole = {p.parent.name for p in out.glob("jobs/*/summary.json")}
    wait_until(lambda: not session(process.pid))
    assert {p.parent.name for p in out.glob("jobs/*/summary.json")} == whole  # no worker goes on without its parent
    process.communicate()
    half = {p.parent.name for p in out.glob("jobs/*/checkpoint.pt")} - whole
    assert whole
    stopped = json.loads(call(capsys, "sweep", plan, "--out", out, "--status", "--json")[1])
    assert (stopped["alive"], stopped["done"], stopped["running"]) == (False, len(whole), 0)
    before = {name: contents(out / "jobs" / name) for name in whole}
    assert call(capsys, "sweep", plan, "--out", out, "--quiet")[0] == 0
    assert json.loads((out / "sweep.json").read_text())["done"] == 4
    assert {name: contents(out / "jobs" / name) for name in whole} == before
    for name in half:
        epochs = [
            json.loads(line)["epoch"] for line in (out / "jobs" / name / "metrics.jsonl").read_text().splitlines()
        ]
        assert epochs == list(range(1, 17))


def test_ctrl_c_ends_every_process(task, tmp_path):
    plan = write(tmp_path / "plan.yaml", task, [task.student, task.teacher], "[xe]", LONG)
    out = tmp_path / "out"
    process = start("sweep", plan, "--out", out, start_new_session=True)
    wait_until(lambda: list(out.glob("jobs/*/checkpoint.pt")), process)
    assert len(session(process.pid)) >= 2
    os.killpg(process.pid, signal.SIGINT)
    began = time.monotonic()
    printed, err = process.communicate(timeout=60)
    assert time.monotonic() - began < 5
    assert process.returncode == 130
    assert (printed, err) == ("", "crossteach: interrupted; the same command goes on where it stopped\n")
    wait_until(lambda: not session(process.pid))
    assert not (out / "sweep.json").exists()
    assert pq.read_table(out / "results.parquet").num_rows == len(list(out.glob("jobs/*/summary.json")))


def test_a_dry_run_says_the_cost_and_writes_no_job(task, tmp_path, capsys):
    plan = write(tmp_path / "plan.yaml", task, [task.student, task.teacher], "[self, xe, kl+dp]")
    out, store = tmp_path / "out", tmp_path / "store"
    found = json.loads(call(capsys, "sweep", plan, "--out", out, "--dry-run", "--json", "--store", store)[1])
    assert not out.exists()
    assert not list(store.rglob("*.rows"))
    assert (found["done"], len(found["jobs"]), found["cost"]["jobs"]) == (0, 6, 6)
    assert found["cost"]["views"] == 2 * 900
    assert found["cost"]["store_bytes"] == 2 * 10 * 1800 + PLAIN_BYTES
    assert 0 < found["cost"]["seconds"] < 60
    sweep(plan, out, Store(store), executor=Here())
    after = plan_cost(plan, out, Store(store))
    assert (after["done"], after["cost"]["jobs"], after["cost"]["views"]) == (6, 0, 0)
    code, printed, _ = call(capsys, "sweep", plan, "--out", out, "--dry-run", "--store", store)
    assert code == 0
    assert "6 jobs: 6 done" in printed


def test_the_disk_is_counted_as_the_store_keeps_answers(task, tmp_path):
    """Twenty views of two models: 720 kB dense, 576 kB with one logit of ten; there is room for the second alone."""
    with small_disk(tmp_path / "store", "760k") as remount:
        out, store = tmp_path / "out", Store(tmp_path / "store")
        for keep, row_bytes in (("dense", 20), ("1", 16)):
            many = f"settings: {{optim.epochs: 20, optim.lr: 0.01, views.count: 20, store.keep: {keep}}}\n"
            plan = write(tmp_path / f"{keep}.yaml", task, [task.student, task.teacher], "[kl+dp]", many)
            assert plan_cost(plan, out, store)["cost"]["store_bytes"] == row_bytes * 36_000 + PLAIN_BYTES
        with pytest.raises(SweepError, match=r"needs about 0\.8 MB at .*; free some space"):
            sweep(tmp_path / "dense.yaml", out, store, executor=Here())
        prepared = prepare(tmp_path / "1.yaml", out, store, 0, "cpu", no_progress, trust=False, workers=1)
        prepared.require_disk(prepared.todo(retry_failed=False, overwrite=False))
        remount("size=4m")  # each table has a manifest too
        sweep(tmp_path / "1.yaml", out, store, executor=Here())
        folders = [Path(entry.folder) for entry in list_entries(store) if entry.kind == "views"]
        assert sum(rows.stat().st_size for folder in folders for rows in folder.glob("*.rows")) == 16 * 36_000


@pytest.mark.parametrize(
    ("models", "methods", "more", "says"),
    [
        (["magic:wand"], "[xe]", "", "unknown model 'magic:wand'"),
        (["{student}", "{student}&std=1"], "[xe]", "", "the same model as"),
        (["py:{small}:dense?num_classes=7&pretrained=false&channels=1&size=8"], "[xe]", "", "scores 7 classes"),
        (["{student}"], "[xe, {method: xe, name: again}]", "", "'xe' and 'again' of the plan compute the same"),
        (["{student}"], "[{method: xe, settings: {partition.kl_weight: 0.5}}]", "", "has no KL term"),
        (["{student}"], "[xe-kl]", 'pairs: [["{student}", ["{teacher}", "{linear}"]]]', "takes one teacher, not 2"),
        (["{student}"], "[self]", "settings: {views.augmentation: none.py:f}", "none.py"),
        (
            ["py:{small}:dense?pretrained=false&channels=1&size=8"],
            "[xe]",
            "",
            "no more than always answering one class",
        ),
        (
            ["{student}"],
            "[{method: xe+dp, settings: {curriculum.order: soup, curriculum.budget: total}}]",
            'pairs: [["{student}", ["{teacher}", "{linear}"]]]\nsettings: {optim.epochs: 1}',
            "shares optim.epochs=1 among 2 teachers",
        ),
        (
            ["{student}"],
            "[{method: crd, settings: {contrast.teacher_layer: nope}}]",
            'pairs: [["{student}", "{teacher}"]]',
            "it has no layer 'nope'; give contrast.teacher_layer=NAME, one of 0, 1, 2, 3",
        ),
    ],
)
def test_a_plan_that_cannot_run_is_one_line(task, tmp_path, capsys, models, methods, more, says):
    named = {"student": task.student, "teacher": task.teacher, "linear": task.model("linear")}
    named["small"] = str(digits.SOURCE)
    for name, spec in named.items():
        models = [m.replace("{" + name + "}", spec) for m in models]
        more = more.replace("{" + name + "}", spec)
    text = write(tmp_path / "plan.yaml", task, models, methods, more + "\n").read_text()
    (tmp_path / "plan.yaml").write_text(text.replace("models:", "students:"))
    code, out, err = call(capsys, "sweep", tmp_path / "plan.yaml", "--out", tmp_path / "out")
    assert (code, out) == (1, "")
    assert says in err
    assert (err.startswith("crossteach: "), err.count("\n")) == (True, 1)
    assert not (tmp_path / "out").exists()


def test_what_a_person_has_filled_in_for_a_job_is_not_swept_away(tmp_path):
    folder = SweepFolder(tmp_path)
    folder.begin("students: []", [], overwrite=False)
    asked = tmp_path / "jobs" / "one" / "ask.csv"
    asked.parent.mkdir()
    asked.write_text("sample,file,label\nq1,a.png,cat\n")
    with pytest.raises(RunFolderError, match=r"ask.csv holds labels that a person has filled in \(1\)"):
        folder.begin("students: []", [], overwrite=True)
    assert asked.is_file() and (tmp_path / "plan.yaml").is_file()
    asked.write_text("sample,file,label\nq1,a.png,\n")
    folder.begin("students: []", [], overwrite=True)
    assert not asked.parent.exists()


def test_folders_that_are_no_sweep(task, tmp_path, capsys):
    plan = write(tmp_path / "plan.yaml", task, [task.student, task.teacher], "[xe]")
    code, _, err = call(capsys, "sweep", plan, "--out", tmp_path / "none", "--status")
    assert (code, "no sweep has begun" in err) == (1, True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    code, _, err = call(capsys, "sweep", plan, "--out", tmp_path / "mine", "--overwrite")
    assert (code, "holds other files (notes.txt)" in err) == (1, True)
