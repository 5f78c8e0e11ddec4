"""Prepares a sweep: its plan is read, its models are opened and checked, its jobs are named, and its cost is known."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..answers.store import Store
from ..errors import SweepError
from ..files import lacking_room
from ..scouting.scout import unique_names
from ..transferring.methods import choose_method
from ..types import Progress
from .cost import Cost, estimate
from .executors import cores, free_memory
from .folder import SweepFolder
from .jobs import KEPT_BYTES, Place
from .plan import Job, Plan, read_plan
from .survey import Survey, name_jobs, survey


@dataclass(frozen=True)
class PreparedSweep:
    """A plan whose models have been opened and checked, and the folder of its sweep."""

    plan: Plan
    surveyed: Survey
    jobs: dict[str, Job]
    listed: dict[str, dict[str, Any]]
    """Content of jobs.json."""
    folder: SweepFolder
    place: Place
    workers: int
    memory: int
    """Bytes that a worker takes."""

    def todo(self, retry_failed: bool, overwrite: bool) -> list[str]:
        """List the jobs to run, those of one student side by side."""
        if overwrite:
            return list(self.jobs)
        open_ = [name for name in self.jobs if not self.folder.is_whole(name)]
        return [name for name in open_ if retry_failed or self.folder.failure(name) is None]

    def cost(self, todo: Sequence[str]) -> Cost:
        """Say what these jobs take."""
        return estimate([self.jobs[name] for name in todo], self.surveyed, self.workers)

    def require_disk(self, todo: Sequence[str]) -> None:
        """Raise SweepError if the disk cannot hold what the jobs write."""
        cost = self.cost(todo)
        if lacking := lacking_room([(self.place.store, cost.store_bytes), (self.folder.path, cost.folder_bytes)]):
            raise SweepError(f"the plan needs about {lacking}; free some space, or plan fewer jobs or views")


def prepare(
    plan: str | Path,
    out: str | Path,
    store: Store | None,
    seed: int,
    device: str,
    progress: Progress,
    trust: bool,
    workers: int | None = None,
    worker_device: str | None = None,
) -> PreparedSweep:
    """Read a plan, open its models, and name its jobs; nothing is run or written into the folder.

    Args:
        plan: The YAML file.
        out: The sweep's folder.
        store: Where answers are kept.
        seed: Of every job, where the plan names no seeds.
        device: Of this process, which opens every model once.
        progress: Told what is being done.
        trust: Whether to run code that the plan names outside its `py:` models.
        workers: How many jobs run at once; None is as many as this machine can.
        worker_device: Of the jobs, where it is another than this process's.

    Raises:
        CrossteachError: If the plan cannot be run, or the folder holds something else than a sweep.
    """
    folder, store = SweepFolder(Path(out)), store or Store()
    folder.require_ours()
    read = read_plan(Path(plan), seed, trust)
    surveyed = survey(read, store, device, progress)
    jobs = name_jobs(read.jobs(), surveyed)
    listed = _list(jobs, surveyed)
    place = Place(read.data, store.folder, worker_device or device, read.trust, read.pools, read.label_map)
    memory = surveyed.memory + min(KEPT_BYTES, sum(m.state_bytes for m in surveyed.models.values()))
    workers = _affordable(memory, device) if workers is None else workers
    return PreparedSweep(read, surveyed, jobs, listed, folder, place, max(1, min(workers, len(jobs))), memory)


def _affordable(memory: int, device: str) -> int:
    """Return how many workers cores and memory allow; a GPU gets one, since what fits on it is not known."""
    if device != "cpu":
        return 1
    free = free_memory()
    return cores() if free is None else min(cores(), free // memory)


def _list(jobs: dict[str, Job], surveyed: Survey) -> dict[str, dict[str, Any]]:
    """Describe every job for `jobs.json` and its row of the results."""
    models = surveyed.models
    shown = dict(zip(models, unique_names([m.name for m in models.values()]), strict=True))
    listed = {}
    for name, job in jobs.items():
        base, method = choose_method(job.config.method, surveyed.data, job.config.pool.share)
        student, teachers = models[job.student], [models[spec] for spec in job.teachers]
        listed[name] = {
            "job": name,
            "student": job.student,
            "student_name": shown[job.student],
            "teachers": list(job.teachers),
            "teacher_name": " + ".join(shown[spec] for spec in job.teachers) or None,
            "method": job.method,
            "base_method": base,
            "control": method.control,
            "reads_labels": method.labels,
            "seed": job.config.seed,
            "student_family": student.family,
            "student_params": student.params,
            "teacher_family": " + ".join(t.family for t in teachers) or None,
            "teacher_params": sum(t.params for t in teachers) or None,
        }
    return listed
