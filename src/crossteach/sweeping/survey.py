"""Opens every model of a plan once: does it fit the data and its methods, and how long does it take?"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from ..answers.arguments import require_distinct, require_trainable
from ..answers.check import require_channels, require_label_space, require_test_labels
from ..answers.store import Store
from ..answers.tutors import count_missing, layout_for
from ..config import PROCEDURE, ContrastConfig, TransferConfig, ViewsConfig
from ..data import load_data
from ..data.drawn import KEPT_BYTES
from ..data.label_space import fit_label_space
from ..data.views import views_of
from ..errors import ConfigError, LabelSpaceError
from ..models import MappedClassifier, Opened, load_model
from ..models.scoring import ask_as
from ..scouting.matching import map_model
from ..settings import changed
from ..transferring.methods import Method, choose_method
from ..transferring.setup import find_side, open_setup, require_features, try_views, with_random_weights
from ..types import Classifier, Progress, Splits, TrainableClassifier, no_progress
from .asked import AskedViews, ViewsKey, tutor_views
from .checked import CheckedModels
from .jobs import state_bytes
from .plan import Job, Plan
from .timing import resident, time_model

BARE_MEMORY = 700 << 20
"""Bytes that Python and torch take before a model is loaded."""


@dataclass(frozen=True)
class StoredViews:
    """What the store has of a model's answers on views that a sweep asks for."""

    missing: dict[int, int]
    """How many samples of each view, by its number, are still to answer."""
    row_bytes: int
    """An answer, as `store.keep` lets it be kept."""


@dataclass(frozen=True)
class ModelFacts:
    """What a sweep keeps of a model after closing it."""

    spec: str
    name: str
    fingerprint: str
    family: str
    params: int
    state_bytes: int
    """Of its saved weights."""
    views: dict[ViewsKey, StoredViews]
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
    before = resident()
    data = load_data(plan.data, plan.pools, progress, store)
    require_test_labels(data)
    data_memory = max(0, resident() - before)
    jobs = plan.jobs()
    asked = tutor_views(jobs, data)
    models: dict[str, ModelFacts] = {}
    checked: CheckedModels | None = None
    mapped: list[str] = []
    for done, spec in enumerate(plan.models):
        lessons = {(replace(j.config, seed=0), len(j.teachers)): None for j in jobs if j.student == spec}
        methods = [(j.config, _method(j, data)) for j in jobs if spec in j.teachers]
        teaching = {(config.contrast, config.views): None for config, method in methods if method.features is not None}
        opened = load_model(spec, plan.trust, data).to(device)
        if any(method.random_teachers for _, method in methods):
            with_random_weights(opened)
        if checked is None:
            data = fit_label_space(data, (opened,))
            checked = CheckedModels(data, store)
        model = opened if lessons else map_model(opened, data.classes, plan.label_map)
        _require_not_named(opened, plan, bool(lessons))
        found = _open(model, list(lessons), list(teaching), asked.get(spec, []), data, store)
        forced = all(j.config.force for j in jobs if spec in (j.student, *j.teachers))
        checked.check(model, bool(lessons), forced)
        require_distinct((m.spec, m.fingerprint) for m in (*models.values(), found))
        models[spec] = found
        mapped += model.notes if isinstance(model, MappedClassifier) else ()
        progress("models opened", done + 1, len(plan.models))
    _require_used(plan, models, mapped)
    most = max(m.memory for m in models.values())
    assert checked is not None, "a plan has models"
    return Survey(
        data, models, (*mapped, *checked.compared(), *store.notes), BARE_MEMORY + KEPT_BYTES + data_memory + 2 * most
    )


def _require_not_named(model: Opened, plan: Plan, learns: bool) -> None:
    if learns and plan.label_map is not None and plan.label_map.names(model):
        raise LabelSpaceError(
            f"the label map {plan.label_map.source} names {model.spec!r}, which is a student of the plan: students "
            "have the classes of the data; give it under teachers alone"
        )


def _require_used(plan: Plan, models: dict[str, ModelFacts], mapped: Sequence[str]) -> None:
    """Raise LabelSpaceError if the plan's label map is about no model of it, or names one that is not there."""
    if plan.label_map is None:
        return
    plan.label_map.require_teachers([(m.name, m.spec) for m in models.values()])
    if not mapped:
        raise LabelSpaceError(
            f"the label map {plan.label_map.source} is for a teacher with other classes than the data's, and the plan "
            "has none; drop it, or name the teacher in a column teacher"
        )


def _method(job: Job, data: Splits) -> Method:
    return choose_method(job.config.method, data, job.config.pool.share)[1]


def _open(
    model: Classifier,
    lessons: Sequence[tuple[TransferConfig, int]],
    teaching: Sequence[tuple[ContrastConfig, ViewsConfig]],
    asked: Sequence[AskedViews],
    data: Splits,
    store: Store,
) -> ModelFacts:
    require_label_space(model, data)
    require_channels(model, data)
    for config, teachers in lessons:
        learner = require_trainable(model, "the student")
        others = [_another(learner, number) for number in range(teachers)]  # the real ones are checked on their turn
        layer = config.contrast.student_layer  # the stand-ins are built like the student
        config = replace(config, force=True, contrast=replace(config.contrast, teacher_layer=layer))
        open_setup(model, others, data, config, store, no_progress, ask=False)
    inner = model.inner if isinstance(model, MappedClassifier) else model  # features have no classes
    for contrast, shown in teaching:
        find_side("teacher", require_features(inner), contrast, try_views(views_of(shown, data), data, model))
    first = lessons[0][0] if lessons else None
    timed = time_model(model, first, asked[0].config if asked else ViewsConfig(), data, store)
    return ModelFacts(
        spec=model.spec,
        name=model.name,
        fingerprint=model.fingerprint,
        family=model.family,
        params=model.n_parameters,
        state_bytes=state_bytes(model),
        views={v.key: _stored_views(model, v, data, store) for v in asked},
        answer_seconds=timed.answer,
        step_seconds=timed.step,
        memory=timed.memory,
    )


def _stored_views(model: Classifier, asked: AskedViews, data: Splits, store: Store) -> StoredViews:
    split, views = data.taught[asked.source], asked.views(data)
    ask_as([model], asked.scoring)
    missing = count_missing(model, split, views, store)
    return StoredViews({n: missing[n] for n in asked.numbers}, layout_for(model, split, views, store).row_bytes)


def _another(model: TrainableClassifier, number: int) -> TrainableClassifier:
    """Return a model like this one that is not this one, another for each number."""
    other = model.clone()
    with torch.no_grad():
        next(other.module.parameters()).add_(1 + number)
    return other


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
