"""Estimates what the jobs of a sweep take: answers of tutors, time and disk."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..config import PROBE_RATES
from ..data.cut import TUNE_SHARE
from ..data.views import views_of
from ..transferring.methods import choose_method
from ..transferring.sources import planned_steps, sources_of, steps_an_epoch
from .asked import tutor_views
from .plan import Job
from .survey import Survey


@dataclass(frozen=True)
class Cost:
    """What is still to be done, and what that takes."""

    jobs: int
    views: int
    """Answers of tutors that are not stored."""
    tutor_seconds: float
    student_seconds: float
    store_bytes: int
    folder_bytes: int
    workers: int

    @property
    def seconds(self) -> float:
        """From start to end, with all workers busy."""
        return (self.tutor_seconds + self.student_seconds) / self.workers


def estimate(jobs: Sequence[Job], surveyed: Survey, workers: int) -> Cost:
    """Estimate time and disk of jobs that are not whole."""
    data, models = surveyed.data, surveyed.models
    asked = tutor_views(jobs, data)
    involved = {spec for job in jobs for spec in (job.student, *job.teachers)}
    plain = len(data.test) + 2 * len(data.selection)
    views = [(models[spec], models[spec].views[v.key], v.numbers) for spec, shown in asked.items() for v in shown]
    wanted = [(model, sum(stored.missing[n] for n in numbers), stored.row_bytes) for model, stored, numbers in views]
    answers = sum(rows * model.answer_seconds for model, rows, _ in wanted)
    answers += sum(plain * models[spec].answer_seconds for spec in involved)
    classes = len(data.classes)
    saved = sum(models[job.student].state_bytes + 64 * len(data.test) + (200 << 10) for job in jobs)
    checkpoints = 4 * workers * max((models[job.student].state_bytes for job in jobs), default=0)
    return Cost(
        jobs=len(jobs),
        views=sum(rows for _, rows, _ in wanted),
        tutor_seconds=answers,
        student_seconds=sum(_lesson_seconds(job, surveyed) for job in jobs),
        store_bytes=sum(rows * row_bytes for _, rows, row_bytes in wanted) + 4 * classes * plain * len(involved),
        folder_bytes=saved + checkpoints,
        workers=workers,
    )


def _lesson_seconds(job: Job, surveyed: Survey) -> float:
    optim, data, student = job.config.optim, surveyed.data, surveyed.models[job.student]
    step = student.step_seconds
    _, method = choose_method(job.config.method, data, job.config.pool.share)
    if job.config.views.live or not job.config.views.count or method.features is not None:
        asked = job.teachers if method.features is not None else (job.student, *job.teachers)
        step += optim.batch_size * sum(surveyed.models[t].answer_seconds for t in asked)
    tune = TUNE_SHARE * len(data.selection)
    sources = sources_of(data, views_of(job.config.views, data), job.config)
    steps = planned_steps(sources, optim)
    evaluated = math.ceil(steps / steps_an_epoch(sources)) * tune + 2 * len(data.test)
    evaluated += len(job.config.gate.alphas) * (len(data.selection) - tune)
    if optim.lr is None:
        steps += len(optim.probe_rates or PROBE_RATES["sgd"]) * min(optim.probe_steps, steps)
        evaluated += len(optim.probe_rates or PROBE_RATES["sgd"]) * tune
    seconds = steps * step + evaluated * student.answer_seconds
    curriculum, budget = job.config.curriculum, job.config.time_budget
    if curriculum.order != "parallel" and curriculum.budget == "each":
        seconds *= max(1, len(job.teachers))
    return seconds if budget is None else min(seconds, 60 * budget)
