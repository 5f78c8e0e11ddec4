"""Runs a sweep: first each tutor answers once, then the students learn. Jobs that are done are not done again."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..answers.store import Store
from ..errors import ExecutorError, SweepError
from ..types import Progress, no_progress
from .asked import tutor_views
from .executors import Ended, Executor, LocalProcesses, Task, cores, interrupts_wait
from .folder import SweepFolder
from .jobs import TransferJob, TutorPass, fill_answers, parts_of, run_transfer
from .plan import Job
from .preparing import PreparedSweep, prepare
from .study import SAMPLE_COLUMNS, Row, describe_methods, read_row, to_parquet

TABLE_SECONDS = 5.0
"""How often the table of results is written at most."""


def sweep(
    plan: str | Path,
    out: str | Path,
    store: Store | None = None,
    seed: int = 0,
    device: str = "cpu",
    retry_failed: bool = False,
    overwrite: bool = False,
    progress: Progress = no_progress,
    executor: Executor | None = None,
    trust: bool = False,
    worker_device: str | None = None,
    devices: int = 1,
) -> dict[str, Any]:
    """Run every job of a plan that is not whole yet.

    The plan is checked whole before anything runs. A job that fails is recorded and the rest goes on.

    Args:
        plan: The YAML file; docs/sweep.md says what stands in it.
        out: The sweep's folder. Another plan may use it later: jobs that both hold are done once.
        store: Where answers are kept; None takes the user's cache folder.
        seed: Of every job, where the plan names no seeds.
        device: Of this process, which opens every model once, and of every worker.
        retry_failed: Whether jobs that failed before run again.
        overwrite: Whether to remove first what an earlier sweep has written into the folder.
        progress: Told what is being done.
        executor: Where jobs run; None takes processes on this machine, as many as cores and memory allow. It is closed.
        trust: Whether to run code that the plan names outside its `py:` models; as `trust: true` in the plan does.
        worker_device: Of every worker, where the executor's have another than this process.
        devices: Processes that train one student together.

    Returns:
        The content of `sweep.json`; `failed` lists the jobs that are not whole, with their reasons.

    Raises:
        CrossteachError: If the plan cannot be run, or another sweep works on the folder.
    """
    with ExitStack() as stack:
        if executor is not None:
            stack.callback(executor.close)
        SweepFolder(Path(out)).require_free()
        workers = None if executor is None else executor.workers
        prepared = prepare(plan, out, store, seed, device, progress, trust, workers, worker_device)
        stack.enter_context(prepared.folder.working())
        todo = prepared.todo(retry_failed, overwrite)
        prepared.require_disk(todo)
        if executor is None:
            executor = LocalProcesses(prepared.workers, _threads(prepared.workers, device))
            stack.callback(executor.close)
        prepared.folder.begin(prepared.plan.text, list(prepared.listed.values()), overwrite)
        running = _Running(prepared, executor, progress, devices)
        try:
            running.start(todo)
        except (KeyboardInterrupt, ExecutorError):
            executor.close()
            running.write_table()
            raise
        return running.summarise()


def plan_cost(
    plan: str | Path,
    out: str | Path,
    store: Store | None = None,
    seed: int = 0,
    device: str = "cpu",
    retry_failed: bool = False,
    overwrite: bool = False,
    progress: Progress = no_progress,
    trust: bool = False,
    workers: int | None = None,
) -> dict[str, Any]:
    """Check a plan as `sweep` does, run nothing, and say what is left to do and what that takes with these workers."""
    prepared = prepare(plan, out, store, seed, device, progress, trust, workers)
    todo = prepared.todo(retry_failed, overwrite)
    cost = prepared.cost(todo)
    failed = [n for n in prepared.jobs if n not in todo and not prepared.folder.is_whole(n)]
    return {
        "plan": str(plan),
        "data": prepared.plan.data,
        "models": [
            {
                "spec": m.spec,
                "params": m.params or None,
                "views_to_answer": sum(sum(views.missing.values()) for views in m.views.values()),
                "answers_per_second": round(1 / max(m.answer_seconds, 1e-9), 1),
                "seconds_a_step": round(m.step_seconds, 5),
            }
            for m in prepared.surveyed.models.values()
        ],
        "jobs": [{**prepared.listed[name], "to_do": name in todo} for name in prepared.jobs],
        "notes": list(prepared.surveyed.notes),
        "done": len(prepared.jobs) - len(todo) - len(failed),
        "failed_before": len(failed),
        "cost": {**asdict(cost), "seconds": round(cost.seconds, 1)},
    }


def _threads(workers: int, device: str) -> int:
    return cores() if device != "cpu" else 1


@dataclass
class _Running:
    """A running sweep: two stages of tasks, and how far they are."""

    prepared: PreparedSweep
    executor: Executor
    progress: Progress
    devices: int = 1
    rows: dict[str, Row] = field(default_factory=dict)
    stage: str = "tutors"
    now: list[str] = field(default_factory=list)
    began: float = 0.0
    ended: int = 0
    left: int = 0
    table_at: float = 0.0
    how: Counter[str] = field(default_factory=Counter)
    """Notes of the executor, and of how many tasks each is true."""

    def start(self, todo: Sequence[str]) -> None:
        """Run the tutors' passes, then the students' lessons."""
        folder, jobs = self.prepared.folder, self.prepared.jobs
        for name in set(jobs) - set(todo):
            if folder.is_whole(name):
                self.rows[name] = self._read_row(name)
        if not todo:
            return
        folder.reopen()
        silent = self._ask_tutors([jobs[name] for name in todo])
        taught = []
        for name in todo:
            mute = next((t for t in tutor_views([jobs[name]], self.prepared.surveyed.data) if t in silent), None)
            if mute is None:
                taught.append(name)
            else:
                folder.record_failure(name, f"the answers of {mute!r} on the views failed: {silent[mute]}", "", 0.0)
        self._teach(taught)

    def _ask_tutors(self, jobs: Sequence[Job]) -> dict[str, str]:
        """Let every tutor answer on its views; return the reasons of those that could not."""
        place, silent = self.prepared.place, {}
        data = self.prepared.surveyed.data
        asked = tutor_views(jobs, data)
        tasks = [
            Task(spec, fill_answers, part, spec, self.prepared.memory)
            for spec, views in asked.items()
            for part in parts_of(TutorPass(place, spec, tuple(views), data.classes), data, self.executor.workers)
        ]
        for ended in self._run("tutors", tasks):
            if ended.reason:
                silent[ended.task.name] = ended.reason
        return silent

    def _teach(self, names: Sequence[str]) -> None:
        folder, place = self.prepared.folder, self.prepared.place
        tasks = []
        for name in names:
            job = self.prepared.jobs[name]
            work = TransferJob(place, job.student, job.teachers, job.config, folder.job(name), self.devices)
            tasks.append(Task(name, run_transfer, work, job.student, self.prepared.memory))
        for ended in self._run("students", tasks):
            name = ended.task.name
            if ended.reason:
                folder.record_failure(name, ended.reason, ended.trace, ended.seconds)
                continue
            folder.clear_failure(name)
            self.rows[name] = self._read_row(name)
            if time.monotonic() - self.table_at > TABLE_SECONDS:
                self.write_table()

    @interrupts_wait()
    def _read_row(self, name: str) -> Row:
        """Put a whole job into a row."""
        folder = self.prepared.folder
        return read_row(self.prepared.listed[name], folder.summary(name), folder.samples(name, SAMPLE_COLUMNS))

    def _run(self, stage: str, tasks: Sequence[Task]) -> Iterator[Ended]:
        """Hand tasks to the executor and tell how far they are."""
        self.stage, self.ended, self.left, self.began = stage, 0, len(tasks), time.monotonic()
        self._tell()
        for ended in self.executor.run(tasks, self._started):
            self.now.remove(ended.task.name)
            self.how.update(ended.notes)
            self.ended, self.left = self.ended + 1, self.left - 1
            yield ended
            self._tell()

    def _started(self, task: Task) -> None:
        self.now.append(task.name)
        self._tell()

    def _tell(self) -> None:
        """Report to this terminal, and through `progress.json` to others."""
        self.progress(self.stage, self.ended, self.ended + self.left)
        passed = max(time.monotonic() - self.began, 1e-9)
        rate = 60 * self.ended / passed if self.ended else None
        progress = {
            "stage": self.stage,
            "now": self.now,
            "ended": self.ended,
            "left": self.left,
            "rate": rate and round(rate, 2),
            "seconds_left": rate and round(60 * self.left / rate, 1),
            "at": time.time(),
        }
        self.prepared.folder.write_progress(progress)

    @interrupts_wait()
    def write_table(self) -> None:
        """Write one row for each whole job, in the order of the plan."""
        rows = [self.rows[name] for name in self.prepared.jobs if name in self.rows]
        self.prepared.folder.write_results(to_parquet(rows))
        self.table_at = time.monotonic()

    def summarise(self) -> dict[str, Any]:
        """Write the table and, last, `sweep.json`."""
        self.write_table()
        jobs, folder, models = self.prepared.jobs, self.prepared.folder, self.prepared.surveyed.models
        rows = [self.rows[name] for name in jobs if name in self.rows]
        failures = [failure for name in jobs if name not in self.rows and (failure := folder.failure(name))]
        others = folder.others(list(jobs))
        notes = [*self.prepared.surveyed.data.notes, *self.prepared.surveyed.notes]
        notes += [f"{count} of the tasks {what}" for what, count in self.how.items()]
        notes += [f"{others} folders in jobs/ are of no job of this plan; they are kept"] if others else []
        summary = {
            "data": self.prepared.plan.data,
            "jobs": len(jobs),
            "done": len(rows),
            "failed": [{"job": f["job"], "reason": f["reason"]} for f in failures],
            "models": [
                {
                    "spec": m.spec,
                    "name": m.name,
                    "family": m.family,
                    "params": m.params or None,
                    "fingerprint": m.fingerprint,
                }
                for m in models.values()
            ],
            "methods": describe_methods(rows),
            "notes": notes,
            "seconds": round(sum(row["seconds"] for row in rows), 2),
        }
        folder.finish(summary)
        return summary


def require_whole(summary: dict[str, Any], out: str | Path) -> None:
    """Raise SweepError if jobs of a sweep failed."""
    if failed := summary["failed"]:
        raise SweepError(
            f"{len(failed)} of {summary['jobs']} jobs failed, the first: {failed[0]['reason']} "
            f"({Path(out) / 'failed' / failed[0]['job']}.json); the others are whole; --retry-failed runs them again"
        )
