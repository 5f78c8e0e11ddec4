import os
import signal
import time

import pytest

from crossteach.errors import ExecutorError
from crossteach.sweeping import executors
from crossteach.sweeping.executors import LocalProcesses, Task, cores, free_memory


def collect(pool: LocalProcesses, tasks: list[Task]) -> tuple[dict[str, executors.Ended], list[str]]:
    started: list[str] = []
    ended = {e.task.name: e for e in pool.run(tasks, lambda task: started.append(task.name))}
    return ended, started


def test_a_failure_or_a_death_is_that_tasks_own():
    tasks = [
        Task("well", int, "3"),
        Task("wrong", int, "three"),
        Task("exits", os._exit, 5),
        Task("after", int, "4", group="another"),
    ]
    with LocalProcesses(1) as pool:
        ended, started = collect(pool, tasks)
        assert started == ["well", "wrong", "exits", "after"]
        assert (ended["well"].value, ended["well"].reason) == (3, "")
        assert ended["wrong"].reason.startswith("ValueError: invalid literal")
        assert "Traceback" in ended["wrong"].trace
        assert ended["exits"].reason == "its worker process ended with exit code 5"
        assert ended["after"].value == 4
        (worker,) = pool._alive
        os.kill(worker.process.pid, signal.SIGKILL)
        worker.process.join()
        assert collect(pool, [Task("well", int, "3")])[0]["well"].value == 3
        asked = pool.run([Task("sleeps", time.sleep, 60)], lambda task: os.kill(pool._alive[0].process.pid, 9))
        assert next(asked).reason == "its worker process was killed by SIGKILL: out of memory, or killed by hand"
        assert collect(pool, [Task("well", int, "3")])[0]["well"].value == 3
        pid = pool._alive[0].process.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_workers_that_cannot_start_are_an_error(monkeypatch):
    monkeypatch.setattr(executors, "_work", os._exit)
    monkeypatch.setattr(executors, "_start", lambda threads, start=executors._start: start_with(os._exit))
    with LocalProcesses(1) as pool, pytest.raises(ExecutorError, match="exit code 7"):
        collect(pool, [Task("never", int, "3")])


def start_with(function):
    context = executors.get_context("spawn")
    ours, _ = context.Pipe()
    process = context.Process(target=function, args=(7,), daemon=True)
    process.start()
    return executors._Worker(process, ours)


def test_interrupts_wait_for_the_end_of_a_block():
    reached = []
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012  what stands after the signal in the block is the test
        with executors.interrupts_wait():
            signal.raise_signal(signal.SIGINT)
            reached.append("the end")
        reached.append("what follows")
    assert reached == ["the end"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_machine_has_cores_and_memory():
    assert 1 <= cores() <= (os.cpu_count() or 1)
    free = free_memory()
    assert free is None or free > 1 << 20
