"""Which views the tutors of a sweep answer before its students learn: those that the jobs will show, and no others."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ..config import ScoringConfig, TransferConfig, ViewsConfig
from ..data.views import Views, views_of
from ..transferring.curriculum import lesson_config, lesson_epochs
from ..transferring.methods import Method, choose_method
from ..transferring.sources import planned_steps, sources_of
from ..types import Splits
from .plan import Job

ViewsKey = tuple[ViewsConfig, int, str, ScoringConfig]
"""Config, source, keep and scoring of `AskedViews`."""


@dataclass(frozen=True)
class AskedViews:
    """Views that one tutor has to answer."""

    config: ViewsConfig
    """Seed and augmentation; `count`, `first` and `live` are not read: jobs that differ in them share their views."""
    numbers: tuple[int, ...]
    """Of the views, ascending."""
    source: int = 0
    """Of which split of `Splits.taught`."""
    keep: str = "auto"
    """How the answers are kept: the setting `store.keep`."""
    scoring: ScoringConfig = field(default_factory=ScoringConfig)
    """How the tutor is asked: the settings `scoring.*`, under which its answers are kept."""

    @property
    def key(self) -> ViewsKey:
        """What the views of a tutor differ in, but for their numbers."""
        return self.config, self.source, self.keep, self.scoring

    def views(self, data: Splits) -> Views:
        """Return the views of this data, as many as the numbers need."""
        return replace(views_of(replace(self.config, count=max(self.numbers) + 1), data), keep=self.keep)


def tutor_views(jobs: Sequence[Job], data: Splits) -> dict[str, list[AskedViews]]:
    """Return which views every tutor answers before the students learn; a tutor may have none.

    A view is listed if a job is sure to show it to the tutor. Some lessons cannot be foreseen: an order of teachers by
    accuracy is found when the job runs, and so is whether the original student is the frozen one of a second lesson.
    Such a job asks for what it still needs.
    """
    asked: dict[str, dict[ViewsKey, set[int]]] = {}
    for job in jobs:
        shared = replace(job.config.views, count=1, first=0, live=False)
        for tutor, shown in _shown_to(job, data).items():
            of_tutor = asked.setdefault(tutor, {})
            for source, number in shown:
                key = (shared, source, job.config.store.keep, job.config.scoring)
                of_tutor.setdefault(key, set()).add(number)
    return {
        spec: [
            AskedViews(config, tuple(sorted(numbers)), source, keep, scoring)
            for (config, source, keep, scoring), numbers in of_tutor.items()
        ]
        for spec, of_tutor in asked.items()
    }


Shown = set[tuple[int, int]]
"""Pairs: a split, as its place in `Splits.taught`, and the number of a view."""


def _shown_to(job: Job, data: Splits) -> dict[str, Shown]:
    """Return the views that a job is sure to show each of its tutors."""
    _, method = choose_method(job.config.method, data, job.config.pool.share)
    tutors = _tutors(job, method)
    views, curriculum = job.config.views, job.config.curriculum
    if method.targets is None or not views.count or views.live:
        return {tutor: set() for tutor in tutors}
    count = len(job.teachers)
    if curriculum.order == "parallel" or count < 2:
        return {tutor: _shown(job.config, data) for tutor in tutors}
    lessons = [
        _shown(lesson_config(job.config, number, count), data) if epochs else set()  # refused when models are opened
        for number, epochs in enumerate(lesson_epochs(job.config, count), 1)
    ]
    in_order = curriculum.order == "soup" or curriculum.sequence == "given"
    of_teacher = lessons if in_order else [set.intersection(*lessons)] * count
    of_student: Shown = set.union(*lessons) if curriculum.order == "soup" else lessons[0]
    found = {job.student: of_student, **dict(zip(job.teachers, of_teacher, strict=True))}
    return {tutor: found[tutor] for tutor in tutors}


def _tutors(job: Job, method: Method) -> tuple[str, ...]:
    """Return the models that a job asks; random copies of teachers are made and asked by the job itself."""
    teachers = job.teachers if method.teachers and not method.random_teachers else ()
    return ((job.student,) if method.frozen_student else ()) + teachers


def _shown(config: TransferConfig, data: Splits) -> Shown:
    """Return the views that one lesson shows."""
    sources = sources_of(data, views_of(config.views, data), config)
    steps = planned_steps(sources, config.optim)
    places = {id(split): place for place, split in enumerate(data.taught)}
    return {
        (places[id(source.split)], number) for source in sources for number in source.views.shown(source.passes(steps))
    }
