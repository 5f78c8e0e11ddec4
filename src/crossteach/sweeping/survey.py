"""Every model of a plan, opened once: does it fit the data and its methods, and what will it cost?"""

import hashlib
import json
import math
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..answers.arguments import require_distinct
from ..answers.check import require_channels, require_label_space, require_test_labels
from ..answers.store import Store
from ..answers.tutors import count_missing
from ..config import PROCEDURE, ContrastConfig, PartitionConfig, TransferConfig, ViewsConfig, changed
from ..data import load_data, split_fingerprint
from ..data.cut import TUNE_SHARE
from ..data.drawn import ROOM
from ..data.views import ViewBatch, Views, views_of
from ..errors import ConfigError, CrossteachError, ModelError, first_line
from ..models import TorchClassifier, load_model
from ..models.scoring import CHUNK, provenance, score
from ..transferring.methods import METHODS, choose_method
from ..transferring.plan import TrainingPlan
from ..transferring.setup import find_side, open_setup, try_views
from ..transferring.training import train
from ..types import Progress, Splits, no_progress
from .checked import CheckedModels
from .plan import Job, Plan

STEPS = 3
"""Steps of a student that are timed."""
BARE_MEMORY = 700 << 20
"""Bytes that Python and torch take before a model is loaded."""


@dataclass(frozen=True)
class ModelFacts:
    """What a sweep needs to know of a model when it is closed again."""

    spec: str
    name: str
    fingerprint: str
    family: str
    params: int
    state_bytes: int
    """Of its saved weights."""
    missing_views: dict[ViewsConfig, int]
    """(sample, view) pairs that it still has to answer."""
    answer_seconds: float
    """A sample, view or plain."""
    step_seconds: float
    """A training step of a student; 0 for one that only teaches."""
    memory: int
    """Bytes that answering and learning took."""


@dataclass(frozen=True)
class Survey:
    """The models and data of a plan."""

    data: Splits
    models: dict[str, ModelFacts]
    """By spec."""
    notes: tuple[str, ...]
    """What the user should know of the models, one sentence each."""
    memory: int
    """Bytes that a worker takes."""


def survey(plan: Plan, store: Store, device: str = "cpu", progress: Progress = no_progress) -> Survey:
    """Open the data, then each model once, one at a time; check all that a job would refuse, and time a few steps.

    What was timed is kept in the store.

    Raises:
        CrossteachError: What `load_model`, `load_data` and `transfer` raise; nothing has been written then.
        ConfigError: If two specs are the same model.
    """
    before = _resident()
    data = load_data(plan.data)
    require_test_labels(data)
    data_memory = max(0, _resident() - before)
    jobs = plan.jobs()
    asked = tutor_views(jobs, data)
    models: dict[str, ModelFacts] = {}
    checked = CheckedModels(data, store)
    for done, spec in enumerate(plan.models):
        lessons = {(replace(j.config, seed=0), len(j.teachers)): None for j in jobs if j.student == spec}
        teaching = {
            (j.config.contrast, j.config.views): None for j in jobs if spec in j.teachers and _reads_features(j, data)
        }
        model = load_model(spec, plan.trust, data).to(device)
        found = _open(model, list(lessons), list(teaching), asked.get(spec, []), data, store)
        forced = all(j.config.force for j in jobs if spec in (j.student, *j.teachers))
        checked.check(model, bool(lessons), forced)
        require_distinct((m.spec, m.fingerprint) for m in (*models.values(), found))
        models[spec] = found
        progress("models opened", done + 1, len(plan.models))
    most = max(m.memory for m in models.values())
    return Survey(data, models, checked.compared(), BARE_MEMORY + ROOM + data_memory + 2 * most)


def tutor_views(jobs: Sequence[Job], data: Splits) -> dict[str, list[ViewsConfig]]:
    """Return which views every tutor has to answer before the students learn."""
    asked: dict[str, dict[ViewsConfig, None]] = {}
    for job in jobs:
        views = job.config.views
        _, method = choose_method(job.config.method, data.train.labels is not None)
        teach = method.teachers and not method.random_teachers  # random copies are made and asked by their own jobs
        tutors = ((job.student,) if method.frozen_student else ()) + (job.teachers if teach else ())
        for tutor in tutors:
            asked.setdefault(tutor, {})
            if method.targets is not None and views.count and not views.live:
                asked[tutor][views] = None
    return {spec: list(views) for spec, views in asked.items()}


def _reads_features(job: Job, data: Splits) -> bool:
    """Tell whether a job reads its teacher's features."""
    return choose_method(job.config.method, data.train.labels is not None)[1].features is not None


def _open(
    model: TorchClassifier,
    lessons: Sequence[tuple[TransferConfig, int]],
    teaching: Sequence[tuple[ContrastConfig, ViewsConfig]],
    asked: Sequence[ViewsConfig],
    data: Splits,
    store: Store,
) -> ModelFacts:
    require_label_space(model, data)
    require_channels(model, data)
    for config, teachers in lessons:
        others = [_another(model, number) for number in range(teachers)]  # the real ones meet the checks on their turn
        layer = config.contrast.student_layer  # the stand-ins are built like the student
        config = replace(config, force=True, contrast=replace(config.contrast, teacher_layer=layer))
        open_setup(model, others, data, config, store, no_progress, ask=False)
    for contrast, shown in teaching:
        find_side("teacher", model, contrast, try_views(views_of(shown, data), data, model))
    first = lessons[0][0] if lessons else None
    timed = _timings(model, first, asked[0] if asked else ViewsConfig(), data, store)
    return ModelFacts(
        spec=model.spec,
        name=model.name,
        fingerprint=model.fingerprint,
        family=model.family,
        params=model.n_parameters,
        state_bytes=sum(value.nbytes for value in model.module.state_dict().values()),
        missing_views={v: count_missing(model, data.train, views_of(v, data), store) for v in asked},
        answer_seconds=timed["answer"],
        step_seconds=timed["step"],
        memory=int(timed["memory"]),
    )


def _another(model: TorchClassifier, number: int) -> TorchClassifier:
    """Return a model like this one that is not this one, another for each number."""
    other = model.clone()
    with torch.no_grad():
        next(other.module.parameters()).add_(1 + number)
    return other


def _timings(
    model: TorchClassifier, config: TransferConfig | None, shown: ViewsConfig, data: Splits, store: Store
) -> dict[str, Any]:
    """Time a chunk of answers and, of a student, a few steps, on one thread as in a worker."""
    key = {
        "kind": "timing",
        "batch_size": config.optim.batch_size if config else 0,
        **provenance(model, split_fingerprint(data.train)),
    }
    if (known := store.recall(key)) is not None:
        return known
    threads, before = torch.get_num_threads(), _resident()
    torch.set_num_threads(1)
    try:
        answer = _seconds_an_answer(model, views_of(shown, data), data)
        step = _seconds_a_step(model, config, data) if config else 0.0
    except CrossteachError:
        raise
    except Exception as error:  # the module is its user's and may raise anything
        raise ModelError(f"{model.spec!r} cannot take a training step: {first_line(error)}") from error
    finally:
        torch.set_num_threads(threads)
    timed = {"answer": answer, "step": step, "memory": max(0, _peak() - before)}
    store.remember(key, timed)
    return timed


def _seconds_an_answer(model: TorchClassifier, views: Views, data: Splits) -> float:
    rows = np.arange(min(CHUNK, len(data.train)))

    def answer() -> None:
        score(model, views.batch(data.train, rows, np.zeros(len(rows), np.int64)).images(model.preprocess))

    views = replace(views, count=0)  # so that none is kept, and each is timed
    answer()  # the first one also allocates
    return _seconds(answer) / len(rows)


def _seconds_a_step(model: TorchClassifier, config: TransferConfig, data: Splits) -> float:
    method = replace(METHODS["self"], frozen_student=False)
    short = replace(config, partition=PartitionConfig())
    tutors = _RandomTutors(model.n_classes)
    drawn = replace(views_of(config.views, data), count=0)  # so that none is kept, and each is timed
    lesson = TrainingPlan(method, short, data.train, drawn, tutors, 1e-4, STEPS, STEPS)
    copy = model.clone()
    train(copy, replace(lesson, max_steps=1))  # the first one also sets up the optimiser
    return _seconds(lambda: train(copy, lesson)) / STEPS


class _RandomTutors:
    """A tutor that takes no time."""

    names: tuple[str, ...] = ("random",)

    def __init__(self, n_classes: int) -> None:
        self._n_classes = n_classes

    def logits(self, batch: ViewBatch) -> Float[Tensor, "K n C"]:
        """Answer nothing in particular."""
        return torch.zeros(1, len(batch.index), self._n_classes)


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _peak() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _resident() -> int:
    """Return the bytes that this process takes now; where the system does not say, the most it ever took."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except (OSError, ValueError):
        return _peak()


def name_jobs(jobs: Sequence[Job], surveyed: Survey) -> dict[str, Job]:
    """Name every job by what it computes: the same name in every plan that holds it.

    A name holds a digest of weights and data, of all settings that are not the defaults, and of which defaults these
    are, so a plan may grow, be reordered, or rename its methods, and what is whole stays whole.

    Raises:
        ConfigError: If two jobs compute the same.
    """
    named: dict[str, Job] = {}
    for job in jobs:
        student, *teachers = (surveyed.models[spec] for spec in (job.student, *job.teachers))
        described = {
            "data": surveyed.data.fingerprint,
            "student": student.fingerprint,
            "teachers": [t.fingerprint for t in teachers],
            "settings": changed(job.config.to_dict()),
            "procedure": PROCEDURE,
        }
        if ":" in job.config.views.augmentation:  # a file of the user's may change under its name
            described["views"] = views_of(job.config.views, surveyed.data).key
        hashed = hashlib.blake2b(json.dumps(described, sort_keys=True).encode(), digest_size=5).hexdigest()
        words = [job.config.method, student.name, *(["from"] if teachers else []), *(t.name for t in teachers[:3])]
        words += ["and", str(len(teachers) - 3)] if len(teachers) > 3 else []
        name = "-".join([*map(_slug, words), f"seed{job.config.seed}", hashed])
        if name in named:
            raise ConfigError(
                f"the methods {named[name].method!r} and {job.method!r} of the plan compute the same; name one of them"
            )
        named[name] = job
    return named


def _slug(word: str) -> str:
    return "".join(c if c.isalnum() or c in "+-" else "_" for c in word)[:40]


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
    views = {spec: sum(models[spec].missing_views[v] for v in shown) for spec, shown in asked.items()}
    answers = sum(n * models[spec].answer_seconds for spec, n in views.items())
    answers += sum(plain * models[spec].answer_seconds for spec in involved)
    classes = len(data.classes)
    saved = sum(models[job.student].state_bytes + 64 * len(data.test) + (200 << 10) for job in jobs)
    checkpoints = 4 * workers * max((models[job.student].state_bytes for job in jobs), default=0)
    return Cost(
        jobs=len(jobs),
        views=sum(views.values()),
        tutor_seconds=answers,
        student_seconds=sum(_lesson_seconds(job, surveyed) for job in jobs),
        store_bytes=2 * classes * sum(views.values()) + 4 * classes * plain * len(involved),
        folder_bytes=saved + checkpoints,
        workers=workers,
    )


def _lesson_seconds(job: Job, surveyed: Survey) -> float:
    optim, data, student = job.config.optim, surveyed.data, surveyed.models[job.student]
    step = student.step_seconds
    _, method = choose_method(job.config.method, data.train.labels is not None)
    if job.config.views.live or not job.config.views.count or method.features is not None:
        asked = job.teachers if method.features is not None else (job.student, *job.teachers)
        step += optim.batch_size * sum(surveyed.models[t].answer_seconds for t in asked)
    tune = TUNE_SHARE * len(data.selection)
    steps = optim.epochs * math.ceil(len(data.train) / optim.batch_size)
    evaluated = optim.epochs * tune + 2 * len(data.test)
    evaluated += len(job.config.gate.alphas) * (len(data.selection) - tune)
    if optim.lr is None:
        steps += len(optim.probe_rates) * min(optim.probe_steps, steps)
        evaluated += len(optim.probe_rates) * tune
    seconds = steps * step + evaluated * student.answer_seconds
    curriculum, budget = job.config.curriculum, job.config.time_budget
    if curriculum.order != "parallel" and curriculum.budget == "each":
        seconds *= max(1, len(job.teachers))
    return seconds if budget is None else min(seconds, 60 * budget)
