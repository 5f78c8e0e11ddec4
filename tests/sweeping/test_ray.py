import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import digits
import psutil
import pyarrow.parquet as pq
import pytest
import rays
from commands import call, start

from crossteach.answers.store import Store
from crossteach.answers.stored import list_entries
from crossteach.config import ViewsConfig
from crossteach.data import load_data
from crossteach.errors import ConfigError, ExecutorError, MissingExtraError
from crossteach.files import holding
from crossteach.sweeping import sweep, sweep_status
from crossteach.sweeping.asked import AskedViews
from crossteach.sweeping.executors import Ended, Task
from crossteach.sweeping.jobs import Place, TutorPass, fill_answers
from crossteach.sweeping.ray_driver import Needs
from crossteach.sweeping.ray_executor import CONNECT_SECONDS, RayTasks
from crossteach.sweeping.ray_task import LOCK_SECONDS, Call, bring_home, run_call

LONG = "settings: {optim.epochs: 16, optim.lr: 0.01, views.count: 1, optim.batch_size: 32}\n"


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> digits.Digits:
    return digits.make(tmp_path_factory.mktemp("digits"))


@pytest.fixture(scope="module")
def plan(task, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("plan") / "plan.yaml"
    models = json.dumps([task.student, task.teacher])
    path.write_text(f"data: {json.dumps(task.data)}\nmodels: {models}\nmethods: [kl+dp]\n{LONG}")
    return path


class Here:
    """This process runs the tasks, and keeps them."""

    workers = 1

    def __init__(self) -> None:
        self.tasks: list[Task] = []

    def run(self, tasks: Sequence[Task], started: Callable[[Task], None]) -> Iterator[Ended]:
        for task in tasks:
            started(task)
            yield Ended(task, task.function(task.argument))
        self.tasks += tasks

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def done(plan, tmp_path_factory) -> tuple[Path, list[Task]]:
    """The folder of the sweep that nothing has disturbed, and its tasks."""
    folder, here = tmp_path_factory.mktemp("done"), Here()
    sweep(plan, folder / "out", Store(folder / "store"), executor=here)
    return folder / "out", here.tasks


@pytest.fixture
def undisturbed(done) -> list[dict]:
    return table(done[0])


def table(out: Path) -> list[dict]:
    """All that jobs found, to the last bit; how long they took is another each time."""
    read = pq.read_table(out / "results.parquet").drop_columns("seconds")
    return read.to_pylist()


@pytest.fixture(scope="module")
def cluster():
    with rays.cluster(1) as made:
        yield made


@pytest.fixture
def joined(cluster, monkeypatch):
    """What is started here has the cluster's token."""
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    return cluster


def wait_until(true, process: subprocess.Popen[str] | None = None):
    until = time.monotonic() + 120
    while not (found := true()):
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.02)
    return found


def notes(printed: str) -> list[str]:
    found = json.loads(printed)
    assert (found["done"], found["failed"]) == (2, [])
    return found["notes"]


def test_a_killed_worker_loses_nothing(plan, undisturbed, tmp_path, monkeypatch):
    out = tmp_path / "out"
    with rays.short_folder() as folder:
        monkeypatch.setenv("RAY_TMPDIR", str(folder))
        home = tmp_path / "home"
        home.mkdir()
        monkeypatch.setenv("HOME", str(home))
        command = ("sweep", plan, "--out", out, "--executor", "ray", "--json")
        process = start(*command, start_new_session=True)
        half = wait_until(lambda: list(out.glob("jobs/*/checkpoint.pt")), process)[0].parent.name
        (worker,) = rays.running(process.pid, half)
        os.kill(worker, signal.SIGKILL)
        printed, err = process.communicate(timeout=200)
        wait_until(lambda: not rays.session(process.pid))
    assert (process.returncode, err) == (0, "")
    assert notes(printed) == ["1 of the tasks ran again after a worker or a node of Ray died"]
    assert table(out) == undisturbed
    assert not list(home.rglob("*"))
    assert not list(tmp_path.rglob(".sweep-*"))


@pytest.mark.slow
def test_a_killed_node_loses_nothing(plan, undisturbed, joined, tmp_path):
    node, out = joined.add(1), tmp_path / "out"
    process = start("sweep", plan, "--out", out, "--executor", "ray", "--address", joined.address, "--json")
    wait_until(lambda: rays.running(node.pid) and len(list(out.glob("jobs/*/checkpoint.pt"))) == 2, process)
    joined.kill(node)
    printed, err = process.communicate(timeout=200)
    assert (process.returncode, err) == (0, "")
    assert notes(printed) == ["1 of the tasks ran again after a worker or a node of Ray died"]
    assert table(out) == undisturbed


@pytest.mark.slow
def test_a_node_that_is_killed_in_a_pass_loses_nothing(plan, undisturbed, joined, tmp_path, monkeypatch):
    monkeypatch.setattr("crossteach.sweeping.jobs.PART_ROWS", 128)
    node, killed = joined.add(1), []

    def watch(stage: str, done: int, total: int) -> None:
        if (stage, done) == ("tutors", 2) and not killed:
            joined.kill(node)
            killed.append(total)

    executor = RayTasks(joined.address)
    assert executor.workers == 2
    found = sweep(plan, tmp_path / "out", Store(tmp_path / "store"), executor=executor, progress=watch)
    assert (found["done"], found["failed"], killed) == (2, [], [16])
    assert table(tmp_path / "out") == undisturbed


@pytest.mark.slow
def test_a_node_that_sees_no_folder_sends_its_files(plan, undisturbed, tmp_path, monkeypatch):
    hidden, own = tmp_path / "hidden", tmp_path / "store-of-the-node"
    hidden.mkdir()
    apart = ["unshare", "--mount", "bash", "-c", f'mount -t tmpfs none {hidden} && exec "$@"', "bash"]
    if subprocess.run([*apart, "true"], capture_output=True).returncode:
        pytest.skip("this user may not mount")
    with rays.cluster(0) as made:
        for name, value in made.environment.items():
            monkeypatch.setenv(name, value)
        node = made.add(2, apart, CROSSTEACH_STORE=str(own))
        command = ("sweep", plan, "--out", hidden / "out", "--store", hidden / "store", "--executor", "ray")
        process = start(*command, "--address", made.address, "--json")
        printed, err = process.communicate(timeout=200)
        assert rays.session(node.pid)
    assert (process.returncode, err) == (0, "")
    assert notes(printed) == [
        "4 of the tasks ran where the store is not seen: such a node keeps the answers of tutors in its own",
        "2 of the tasks ran where the sweep's folder is not seen: their files came back through Ray",
    ]
    assert table(hidden / "out") == undisturbed
    assert list(own.iterdir())
    names = {path.name for path in (hidden / "out" / "jobs").iterdir()}
    assert names == {job["job"] for job in json.loads((hidden / "out" / "jobs.json").read_text())}


def test_a_job_where_the_folders_are_not_seen_brings_its_files(done, tmp_path, store_folder):
    out, tasks = done
    task = tasks[-1]
    moved = replace(task, argument=replace(task.argument, out=tmp_path / "out" / "jobs" / task.name))
    began, reply = run_call(Call(moved, ".sweep-0", Path("/nowhere"), 1))
    assert (began, reply.reason) == ("started", "")
    assert len(reply.notes) == 2
    assert not (tmp_path / "out").exists()
    assert list(store_folder.iterdir())
    moved.argument.out.mkdir(parents=True)
    (moved.argument.out / "checkpoint.pt").touch()
    assert bring_home(moved, reply).files is None
    whole = out / "jobs" / task.name
    names = {str(path.relative_to(whole)) for path in whole.rglob("*") if path.is_file()}
    assert reply.files.keys() == names
    assert {p.name for p in moved.argument.out.parent.iterdir()} == {task.name}
    for name in names - {"summary.json", "metrics.jsonl"}:  # these say how long it took
        assert (moved.argument.out / name).read_bytes() == (whole / name).read_bytes(), name


def test_a_job_that_runs_again_waits_for_the_lock_of_the_dead(done):
    out, tasks = done
    (out / ".sweep-0").touch()
    (tasks[-1].argument.place.store / ".sweep-0").touch()
    held = holding(tasks[-1].argument.out)
    held.__enter__()
    threading.Timer(1.5, held.__exit__, (None, None, None)).start()
    began = time.monotonic()
    _, reply = run_call(Call(tasks[-1], ".sweep-0", Path.cwd(), 1, again=True))
    assert 1 < time.monotonic() - began < LOCK_SECONDS
    assert (reply.reason, reply.notes, reply.files) == ("", (), None)
    _, refused = run_call(Call(tasks[-1], ".sweep-0", Path.cwd(), 1, version="0.0.1"))
    assert refused.reason.endswith("the sweep 0.0.1; install the same on both")


@pytest.mark.slow
def test_a_cluster_that_is_lost_is_one_line(monkeypatch):
    with rays.cluster(0) as made:
        for name, value in made.environment.items():
            monkeypatch.setenv(name, value)
        node, sleeps = made.add(1), Task("sleeps", time.sleep, 600)
        pool = RayTasks(made.address, patience=3)
        (ended,) = pool.run([Task("exits", os._exit, 5)], lambda task: None)
        assert ended.reason.startswith("its worker or node died 4 times, at last: The worker died unexpectedly")
        with pytest.raises(ExecutorError, match=r"^for 3 seconds Ray has had no node that could run a job"):
            list(pool.run([sleeps], lambda task: made.kill(node)))
        pool.close()
        made.add(1)
        pool = RayTasks(made.address)
        with pytest.raises(ExecutorError, match=r"^the connection to Ray was lost \(Failed to connect to GCS"):
            list(pool.run([sleeps], lambda task: made.kill(made.nodes[0])))
        pool.close()


@pytest.mark.slow
def test_a_pass_whose_workers_and_driver_are_killed_ends_as_one_that_nothing_disturbs(task, joined, tmp_path):
    """Parts of a pass on two nodes; blocks are written every chunk, so that what is not lost shows."""
    slow = tmp_path / "slow.py"
    slow.write_text(SLOW)
    weights = task.folder / "dense.safetensors"
    spec, data = f"py:{slow}:dense@{weights}?channels=1&size=8", load_data(task.data)
    views = (AskedViews(ViewsConfig(), (0,)),)
    alone, shared = (TutorPass(Place(task.data, tmp_path / n, "cpu"), spec, views, data.classes) for n in "ab")
    samples = fill_answers(alone)
    node = joined.add(1)
    script = tmp_path / "drive.py"
    script.write_text(DRIVE)
    (tmp_path / "parts").write_bytes(
        pickle.dumps([replace(shared, rows=range(at, at + 256)) for at in range(0, 900, 256)])
    )
    command = [sys.executable, script, joined.address, tmp_path / "parts"]
    process = subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: list((tmp_path / "b").rglob("*.rows")), process)
    process.kill()
    process.communicate()
    wait_until(lambda: not rays.running(node.pid, "part") and not rays.running(joined.nodes[0].pid, "part"))
    known = sum(entry.known for entry in list_entries(Store(tmp_path / "b")))
    assert 0 < known < samples
    process = subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    (worker, *_) = wait_until(lambda: rays.running(node.pid, "part"), process)
    os.kill(worker, signal.SIGKILL)
    printed, err = process.communicate(timeout=200)
    assert (process.returncode, err) == (0, "")
    reasons, answered, noted = json.loads(printed)
    assert (reasons, noted) == ([], ["ran again after a worker or a node of Ray died"])
    assert 0 < answered <= samples - known
    joined.kill(node)
    assert rows_of(tmp_path / "b") == rows_of(tmp_path / "a")


SLOW = """
import time
import small

def dense():
    module = small.dense()
    module.register_forward_pre_hook(lambda *ignored: time.sleep(0.3))
    return module
"""
DRIVE = """
import json, pickle, sys
from pathlib import Path
from crossteach.sweeping.executors import Task
from crossteach.sweeping.ray_executor import RayTasks
import rays

if __name__ == "__main__":
    parts = pickle.loads(Path(sys.argv[2]).read_bytes())
    pool = RayTasks(sys.argv[1])
    tasks = [Task(f"part seed {n}", rays.fill_by_chunks, part) for n, part in enumerate(parts)]
    ended = list(pool.run(tasks, lambda task: None))
    pool.close()
    reasons = [e.reason for e in ended if e.reason]
    print(json.dumps([reasons, sum(e.value or 0 for e in ended), sorted({n for e in ended for n in e.notes})]))
"""


def rows_of(store: Path) -> dict[str, bytes]:
    return {str(path.relative_to(store)): path.read_bytes() for path in sorted(store.rglob("*.rows"))}


@pytest.mark.slow
def test_a_job_of_several_processes_is_what_transfer_makes_of_them_though_one_is_killed(task, tmp_path, monkeypatch):
    settings = ["optim.epochs=16", "optim.lr=0.03", "views.count=1", "optim.batch_size=25", "gate.ask=false"]
    pair, sets = [task.student, task.teacher], [word for each in settings for word in ("--set", each)]
    given = ["--student", pair[0], "--teacher", pair[1], "--data", task.data, "--method", "kl+dp", "--devices", 2]
    process = start("transfer", *given, *sets, "--out", tmp_path / "run", "--store", tmp_path / "s", "--quiet")
    assert process.communicate(timeout=300) and process.returncode == 0
    plan, out = tmp_path / "plan.yaml", tmp_path / "out"
    said = {key: json.loads(value) for key, value in (each.split("=") for each in settings)}
    plan.write_text(json.dumps({"data": task.data, "pairs": [pair], "methods": ["kl+dp"], "settings": said}))
    with rays.short_folder() as folder:
        monkeypatch.setenv("RAY_TMPDIR", str(folder))
        command = (
            "sweep",
            plan,
            "--out",
            out,
            "--store",
            tmp_path / "t",
            "--executor",
            "ray",
            "--devices",
            2,
            "--json",
        )
        process = start(*command, start_new_session=True)
        wait_until(lambda: list(out.glob("jobs/*/checkpoint.pt")), process)
        ranks = [p for p in psutil.process_iter(["cmdline"]) if str(out) in " ".join(p.info["cmdline"] or [])]
        (second,) = [p for p in ranks if p.info["cmdline"][3] == "transfer" and p.environ().get("RANK") == "1"]
        second.kill()
        printed, err = process.communicate(timeout=300)
    assert (process.returncode, err, json.loads(printed)["failed"]) == (0, "", [])
    (whole,) = out.glob("jobs/*/student/model.safetensors")
    assert whole.read_bytes() == (tmp_path / "run" / "student" / "model.safetensors").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_sweep_that_is_stopped_goes_on(plan, undisturbed, joined, tmp_path, number):
    out = tmp_path / "out"
    command = ("sweep", plan, "--out", out, "--executor", "ray", "--address", joined.address, "--json")
    process = start(*command, start_new_session=True)
    wait_until(lambda: list(out.glob("jobs/*/summary.json")) and list(out.glob("jobs/*/checkpoint.pt")), process)
    stands = sweep_status(out)
    assert (stands["alive"], stands["stage"], stands["jobs"]) == (True, "students", 2)
    assert stands["done"] >= 1
    assert stands["now"]
    if number == signal.SIGINT:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    printed, err = process.communicate(timeout=30)
    wait_until(lambda: not rays.session(process.pid) and not rays.running(joined.nodes[0].pid))
    if number == signal.SIGKILL:
        assert process.returncode == -number
    else:
        assert (process.returncode, printed) == (130, "")
        assert err == "crossteach: interrupted; the same command goes on where it stopped\n"
        assert not list(tmp_path.rglob(".sweep-*"))
    whole = {path: path.stat().st_mtime_ns for path in out.glob("jobs/*/summary.json")}
    assert whole
    assert len(whole) < 2
    again = start(*command)
    printed, err = again.communicate(timeout=200)
    assert (again.returncode, err, notes(printed)) == (0, "", [])
    assert table(out) == undisturbed
    assert {path: path.stat().st_mtime_ns for path in whole} == whole


def test_tasks_on_a_cluster_and_how_they_end(joined, capfd):
    pool = RayTasks(joined.address)
    started: list[str] = []
    tasks = [
        Task("well", int, "3"),
        Task("wrong", int, "three"),
        Task("threads", rays.threads, None),
    ]
    try:
        assert pool.workers == 1
        ended = {e.task.name: e for e in pool.run(tasks, lambda task: started.append(task.name))}
        assert sorted(started) == sorted(task.name for task in tasks)
        assert (ended["well"].value, ended["well"].reason, ended["well"].notes) == (3, "", ())
        assert ended["wrong"].reason.startswith("ValueError: invalid literal")
        assert "Traceback" in ended["wrong"].trace
        assert ended["threads"].value == (1, False)
        with pytest.raises(ExecutorError, match=r"asks for 1 CPU and 9000.0 GB of memory, and no node of this Ray"):
            list(pool.run([Task("large", int, "3", memory=9 * 10**12)], started.append))
    finally:
        pool.close()
    assert capfd.readouterr() == ("", "")


def test_a_cluster_that_cannot_be_used_is_one_line_within_seconds(joined, monkeypatch):
    began = time.monotonic()
    monkeypatch.setenv("RAY_AUTH_TOKEN", "wrong")
    with pytest.raises(ExecutorError, match=f"^Ray at {joined.address} refuses the token; set RAY_AUTH_MODE=token"):
        RayTasks(joined.address)
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/nowhere/token")
    with pytest.raises(ExecutorError, match="cannot be opened or is empty: /nowhere/token; set RAY_AUTH_MODE=token"):
        RayTasks(joined.address)
    assert time.monotonic() - began < 2 * CONNECT_SECONDS


@pytest.mark.slow
def test_a_process_for_each_task_on_a_gpu(joined):
    """The GPUs are only said to be there: what is seen is what Ray hands out."""
    tasks = [Task(str(number), rays.visible, None) for number in range(3)]
    for gpus, device in ((0.0, "cpu"), (1.0, "cuda")):
        pool = RayTasks(joined.address, gpus=gpus)
        assert (pool.workers, pool.device) == (1, device)
        values = [ended.value for ended in pool.run(tasks, lambda task: None)]
        pool.close()
        assert len({pid for pid, _ in values}) == (3 if gpus else 1)
        assert {seen for _, seen in values} <= ({"0", "1"} if gpus else {None, ""})


@pytest.mark.slow
def test_a_cluster_that_asks_for_a_token_and_one_that_is_too_small(joined, monkeypatch):
    with pytest.raises(ExecutorError, match=r"asks for 2 CPUs, and no node .* best of 1 has 1 CPU, 2 GPUs and"):
        RayTasks(joined.address, cpus=2)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with pytest.raises(ExecutorError, match=f"^Ray at {joined.address} asks for a token; set RAY_AUTH_MODE=token"):
        RayTasks(joined.address)


def test_resources_that_no_node_has():
    nodes = [{"CPU": 4.0, "memory": 8e9}, {"CPU": 2.0, "GPU": 1.0, "memory": 4e9}]
    assert [Needs(cpus=0.5, memory=10**9).slots(node) for node in nodes] == [8, 4]
    assert [Needs(gpus=0.25).slots(node) for node in nodes] == [0, 2]
    assert Needs(cpus=2, gpus=1, memory=4 * 10**9).missing(nodes) == ""
    assert Needs(cpus=4, gpus=1).missing(nodes) == (
        "a job asks for 4 CPUs and 1 GPU, and no node of this Ray has that: the best of 2 has 4 CPUs, 0 GPUs and 8.0 "
        "GB of memory; ask for less (--cpus, --gpus, --memory), or start such a node first"
    )
    assert "the best of 0 has 0 CPUs, 0 GPUs and 0.0 GB" in Needs().missing([])


def test_an_address_where_no_ray_answers(monkeypatch, capsys, tmp_path):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        with pytest.raises(ExecutorError, match=f"^nothing answers at 127.0.0.1:{port} "):
            RayTasks(f"127.0.0.1:{port}")
        silent.listen()
        monkeypatch.setattr("crossteach.sweeping.ray_executor.CONNECT_SECONDS", 4.0)
        with pytest.raises(ExecutorError, match=f"^Ray at 127.0.0.1:{port} does not answer within 4 seconds"):
            RayTasks(f"127.0.0.1:{port}")
    for address in ("ray://10.0.0.1:10001", "10.0.0.1", ":6379", "host:port", "host:99999"):
        with pytest.raises(ConfigError, match=r"^--address must be HOST:PORT of Ray's head node"):
            RayTasks(address)
    monkeypatch.setenv("RAY_ADDRESS", "host:port")
    with pytest.raises(ConfigError, match="'host:port'"):
        RayTasks()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--address", "10.0.0.1:6379"], "--address is about jobs on Ray; add --executor ray"),
        (["--devices", "2"], "--devices is about jobs on Ray; add --executor ray"),
        (["--executor", "ray", "--devices", "2", "--gpus", "0.5"], "--devices 2 gives each process a GPU of its own"),
        (["--gpus", "0"], "--gpus is about jobs on Ray; add --executor ray"),
        (["--executor", "ray", "--cpus", "0"], "--cpus must be a number above 0, not 0"),
        (["--executor", "ray", "--gpus", "1.5"], "--gpus must be a share of one GPU, as 0.5, or a whole number"),
        (["--executor", "ray", "--memory", "much"], "a size must be a number of bytes as 500MB or 20GiB"),
    ],
)
def test_options_that_cannot_be_meant(plan, tmp_path, capsys, options, says):
    code, printed, err = call(capsys, "sweep", plan, "--out", tmp_path / "out", *options)
    assert (code, printed, err.count("\n")) == (1, "", 1)
    assert says in err
    assert not (tmp_path / "out").exists()


def test_without_the_extra(monkeypatch):
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "path_importer_cache", {})
    monkeypatch.setattr(sys, "meta_path", sys.meta_path[-1:])
    with pytest.raises(MissingExtraError, match=r"^--executor ray needs Ray; pip install 'crossteach\[ray\]'$"):
        RayTasks()
