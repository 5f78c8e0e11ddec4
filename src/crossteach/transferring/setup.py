"""Checks that models, data and method of a transfer fit together, before anything is trained or written."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from ..answers.arguments import require_classifier, require_distinct, require_splits, require_trainable
from ..answers.check import (
    check_answers,
    require_channels,
    require_label_space,
    train_mode_notes,
)
from ..answers.prediction import predict
from ..answers.store import Store
from ..config import ContrastConfig, TransferConfig
from ..data.label_space import fit_label_space
from ..data.views import ViewBatch, Views, views_of
from ..errors import ConfigError, CrossteachError, ModelError, first_line
from ..models import random_copy
from ..models.features import FeaturePair, Layer, count_features, find_layer
from ..models.mapped import MappedClassifier, file_of_map, known_by
from ..models.scoring import answers_by_sample, ask_as
from ..models.table import leaves_unanswered
from ..scouting.matching import Given, share_classes
from ..scouting.quick import quick_problem
from ..scouting.scout import unique_names
from ..types import Classifier, Pool, Progress, Splits, TrainableClassifier
from .absent import labelled_classes
from .adapting import adaptable_layers, describe_part, learning_weights
from .crew import ALONE, Crew
from .fitting import require_method, require_order, require_shared_batches, require_something_taught
from .methods import Method, beside_frozen_student, choose_method
from .passes import require_arranged
from .room import bytes_to_store
from .sources import Source, sources_of

UNTOLD = (
    "no label tells a strong teacher from a weak one that is sure of itself, and such a one harms: choose teachers "
    "that are about as good as the student, and let crossteach verify ask for a few labels"
)
"""Where the selection split has no labels."""


@dataclass(frozen=True)
class TransferSetup:
    """Models, data, method and settings of a transfer, checked."""

    student: TrainableClassifier
    teachers: tuple[Classifier, ...]
    data: Splits
    views: Views
    config: TransferConfig
    method_name: str
    method: Method
    store: Store
    progress: Progress
    features: FeaturePair | None = None
    """Where the features are that the method compares, if it does."""
    notes: tuple[str, ...] = ()
    """What the user should know of models and data."""
    started: float = 0.0
    """When it was opened: `time.perf_counter()`."""
    crew: Crew = ALONE
    """Those who train the student together."""

    @property
    def known(self) -> Bool[Tensor, "K C"] | None:
        """Which classes each tutor knows; None where each knows all."""
        return known_by(self.tutors)

    @cached_property
    def sources(self) -> tuple[Source, ...]:
        """What the student is taught on; their tutors are not asked yet."""
        return sources_of(self.data, self.views, self.config)

    @property
    def tutor_names(self) -> tuple[str, ...]:
        """The names of the tutors, each another: `taught` is keyed by them, and by `label`."""
        if self.method.targets is None:
            return ()
        frozen = ("frozen student",) if self.method.frozen_student else ()
        names = [t.name for t in self.teachers] if self.method.teachers else []
        return (*frozen, *unique_names(["label", "frozen student", *names])[2:])

    @property
    def tutors(self) -> tuple[Classifier, ...]:
        """Those whose answers are targets, the frozen student first."""
        return _tutors(self.method, self.student, self.teachers)


def _tutors(method: Method, student: Classifier, teachers: Sequence[Classifier]) -> tuple[Classifier, ...]:
    if method.targets is None:
        return ()
    return (*([student] if method.frozen_student else []), *(teachers if method.teachers else []))


def open_setup(
    student: Classifier,
    teachers: Sequence[Classifier],
    data: Splits,
    config: TransferConfig,
    store: Store,
    progress: Progress,
    ask: bool = True,
    label_map: Given = None,
    crew: Crew = ALONE,
) -> TransferSetup:
    """Check that models, data and method fit together, before anything is trained or written.

    Args:
        student: The model that learns: a `TrainableClassifier`.
        teachers: The models that it learns from.
        data: What it learns on.
        config: Settings.
        store: Where answers are kept.
        progress: Told what is being done.
        ask: Whether the models' answers are checked too; not so for stand-ins.
        label_map: Where the classes of teachers with other classes belong; see `share_classes`.
        crew: Those who train the student together.

    Raises:
        LabelSpaceError: If models and data do not share their classes, and no map or name tells how they do.
        MissingLabelsError: If the method reads labels that the data do not have.
        WriteError: If answers must be kept and the store may not be written.
        StoreError: If its disk has no room for them.
        ConfigError: If the method is unknown, needs a teacher and has none, or is given the student as a teacher.
        ModelError: If the student answers like chance, or a model's answers are not what they should be.
    """
    started = time.perf_counter()
    student = _require_arguments(student, teachers, data)
    ask_as((student, *teachers), config.scoring)
    require_something_taught(data)
    data = _over_the_students_classes(student, teachers, data, store if ask else None)
    teachers = share_classes(teachers, data.classes, label_map)
    name, method = choose_method(config.method, data, config.pool.share)
    require_method(name, method, data, config, len(teachers))
    require_shared_batches(name, method, config, crew.size)
    if known_by(teachers) is not None:
        method = _for_other_classes(name, method)
    elif any(leaves_unanswered(teacher, data) for teacher in teachers):
        method = beside_frozen_student(method)
    if config.partition.keep_absent and not bool(labelled_classes(data).all()):
        method = beside_frozen_student(method)  # what no sample shows stays as it says
    for classifier in (student, *teachers):
        require_label_space(classifier, data)
        require_channels(classifier, data)
    _require_sizes(data, (student, *teachers))
    _require_others(student, teachers)
    require_order(data, config, len(teachers))
    teachers = [with_random_weights(t) for t in teachers] if method.random_teachers else teachers
    notes = [*crew.notes, *data.notes, *(note for pool in data.pools for note in pool_notes(pool))]
    views = replace(views_of(config.views, data), keep=config.store.keep)
    if ask:
        tutors = _tutors(method, student, teachers)
        store.require_room(bytes_to_store((student, *teachers), tutors, data, views, config, store))
        asked = () if method.random_teachers else teachers
        look = partial(quick_problem, data=data, store=store)
        notes += check_answers(student, asked, data, store, progress, config.force, look)
        notes += [UNTOLD] if asked and data.selection.labels is None else []
    notes += _notes_of_what_learns(student, method, config)
    view = try_views(views, data, student)
    require_arranged(student, config.compute, view.images(student.preprocess))
    if config.optim.train_statistics:
        notes += train_mode_notes(student, view.images(student.preprocess))
    notes += [note for c in (student, *teachers) for note in getattr(c, "notes", ())]
    pairs = [_find_features(student, t, view, config.contrast) for t in teachers if method.features is not None]
    features = pairs[0] if pairs else None  # several teachers teach one after the other, each in a setup of its own
    return TransferSetup(
        student,
        tuple(teachers),
        data,
        views,
        config,
        name,
        method,
        store,
        progress,
        features,
        tuple(notes),
        started,
        crew,
    )


def _over_the_students_classes(
    student: TrainableClassifier, teachers: Sequence[Classifier], data: Splits, store: Store | None
) -> Splits:
    """Return data over the student's classes, in its order.

    A student without names has that of a teacher with names, unless the order that the data came in suits its answers
    better: then it is the teacher that counts otherwise. Without a store no answer is asked for.
    """
    alike = [teacher for teacher in teachers if teacher.n_classes == student.n_classes]
    fitted, own = fit_label_space(data, (student, *alike)), fit_label_space(data, (student,))
    if fitted.classes == own.classes or set(fitted.classes) != set(own.classes) or store is None:
        return fitted
    labels = [each.selection.labels for each in (fitted, own)]
    if any(each is None for each in labels):
        return fitted
    preds = predict(student, data.selection, store).preds.numpy()
    by_teacher, by_itself = ((preds == each).mean() for each in labels)
    return own if by_itself > by_teacher else fitted


def _for_other_classes(name: str, method: Method) -> Method:
    """Let the frozen student teach what a teacher does not know; raise ConfigError if the method cannot tell it."""
    if method.features is not None:
        raise ConfigError(
            f"method {name!r} compares features, which are not told apart by class, and a teacher knows only a part of "
            "the classes; use a method on answers, as kl+dp"
        )
    return beside_frozen_student(method)


def _require_arguments(student: Classifier, teachers: Sequence[Classifier], data: Splits) -> TrainableClassifier:
    """Return the student; raise if an argument is not what it should be, with the line that says how to make one."""
    require_splits(data)
    learner = require_trainable(student, "the student")
    if not isinstance(teachers, Sequence):
        raise ConfigError(f"teachers must be a list of classifiers, as in [teacher], not {type(teachers).__name__}")
    for number, teacher in enumerate(teachers, 1):
        require_classifier(teacher, f"teacher {number}")
    return learner


def _notes_of_what_learns(student: TrainableClassifier, method: Method, config: TransferConfig) -> tuple[str, ...]:
    """Say which share of the student learns; raise ModelError if nothing can."""
    if not any(p.requires_grad for p in student.module.parameters()):
        raise ModelError(f"{student.spec!r} has no parameter that may be trained (requires_grad); thaw some")
    _require_part(student, method, config)
    part, rank = config.optim.part
    return tuple(describe_part(student.module, part, student.n_classes, rank))


def _require_others(student: Classifier, teachers: Sequence[Classifier]) -> None:
    known = [(teacher.spec, teacher.fingerprint) for teacher in teachers]
    require_distinct(known)
    own = student.fingerprint
    for teacher in teachers:
        if (teacher.inner if isinstance(teacher, MappedClassifier) else teacher).fingerprint == own:
            raise ConfigError(
                f"the teacher {teacher.spec!r} is the student itself (same weights, same answers), and knows nothing "
                "that it does not; name another model, or use --method self"
            )


def _require_part(student: TrainableClassifier, method: Method, config: TransferConfig) -> None:
    """Raise ModelError if the student has no such part: before anything is written."""
    part, _ = config.optim.part
    if part != "lora":
        learning_weights(student.module, part, student.n_classes)
        return
    if method.slow_weights or method.alpha < 1:
        raise ConfigError(
            "optim.trains=lora does not go with averages of weights on the way (mcl, wise-ft); drop one of them"
        )
    adaptable_layers(student.module)


def pool_notes(pool: Pool) -> list[str]:
    """Say what was left out of a pool, and what its source has to say."""
    if not pool.dropped:
        return list(pool.notes)
    kind = pool.split.inputs.kind
    reasons = ", ".join(f"{count} {reason}" for reason, count in pool.dropped.items())
    return [
        *pool.notes,
        f"of {pool.found} {kind}s of the pool {pool.spec} {len(pool.split)} teach; left out: {reasons}",
    ]


def with_random_weights(teacher: Classifier) -> Classifier:
    """Replace a teacher by its architecture with random weights; it keeps the spec it was asked for by."""
    copy = random_copy(teacher)
    if copy is None or copy.fingerprint == teacher.fingerprint:
        reason = "its architecture is not known" if copy is None else "built anew, it has the same weights"
        raise ModelError(f"there is no randomly initialised copy of {teacher.spec!r}: {reason}; name another teacher")
    copy.spec = teacher.spec
    return copy


def _find_features(
    student: TrainableClassifier, teacher: Classifier, view: ViewBatch, config: ContrastConfig
) -> FeaturePair:
    """Find the layers that a feature loss compares, and count what they give."""
    shown = require_features(teacher)
    ours, width = find_side("student", student, config, view)
    theirs, teacher_width = find_side("teacher", shown, config, view)
    return FeaturePair(ours, theirs, (width, teacher_width), shown)


def require_features(teacher: Classifier) -> TrainableClassifier:
    """Return a teacher whose features can be read; raise ModelError if it shows its answers only."""
    if isinstance(teacher, MappedClassifier):
        teacher = teacher.inner  # features have no classes
    if not isinstance(teacher, TrainableClassifier):
        raise ModelError(
            f"teacher {teacher.spec!r} shows its answers only, no features; use a method on answers, as kl"
        )
    return teacher


def find_side(
    side: Literal["student", "teacher"], model: TrainableClassifier, config: ContrastConfig, view: ViewBatch
) -> tuple[Layer, int]:
    """Find the layer of one side of a feature loss, and count the features it gives.

    Raises:
        ModelError: If there is no such layer, or its features cannot be read; the message lists the layers.
    """
    setting = f"contrast.{side}_layer"
    layer = find_layer(model, getattr(config, f"{side}_layer"), setting)
    return layer, count_features(model, layer, view.images(model.preprocess), setting)


def _require_sizes(data: Splits, models: Sequence[Classifier]) -> None:
    """Raise ConfigError if a model takes images as they are, and the sources hold images of several sizes."""
    if data.test.inputs.kind == "text":
        return
    sizes = {split.inputs.size for split in data.taught}
    for model in models:
        if len(sizes) > 1 and model.preprocess.size is None and not answers_by_sample(model):
            raise ConfigError(
                f"train and pools hold images of other sizes ({', '.join(map(str, sizes))}) and {model.spec!r} names "
                "none; add ?size=PIXELS to its spec"
            )


def try_views(views: Views, data: Splits, model: Classifier) -> ViewBatch:
    """Draw two views before anything is written: a user's augmentation may be wrong."""
    split = data.taught[0]
    if views.augmentation.kind not in (None, split.inputs.kind):
        fit = {"text": "words, span", "image": "warp, crop"}[split.inputs.kind]
        raise ConfigError(
            f"views.augmentation={views.augmentation.name.partition('*')[0]} is made for {views.augmentation.kind}, "
            f"and {data.spec!r} holds {split.inputs.kind}; use {fit} or none"
        )
    index = np.arange(min(2, len(split)))
    try:
        view = replace(views.batch(split, index, np.zeros(len(index), np.int64)), keep=False)
        drawn, again = view.images(model.preprocess), replace(view, _drawn={}).images(model.preprocess)
    except CrossteachError:
        raise
    except Exception as error:  # the user's code may raise anything
        raise ConfigError(f"the augmentation {views.augmentation.name} fails: {first_line(error)}") from error
    inputs = split.inputs
    expected = (len(index), inputs.channels, *(inputs.size or model.preprocess.size or ()))
    if drawn.shape != expected or not bool(drawn.isfinite().all()):
        raise ConfigError(
            f"the augmentation {views.augmentation.name} must return images like those it was given, "
            f"{list(expected)}, finite; it returned {list(drawn.shape)}"
        )
    if not torch.equal(drawn, again):
        raise ConfigError(
            f"the augmentation {views.augmentation.name} gave two different results for one batch; it must draw no "
            "random numbers of its own, but use the uniform numbers that it is given"
        )
    return view


def describe(setup: TransferSetup) -> dict[str, Any]:
    """Return everything that the result depends on, for `config.json`; no data are named beside pools alone."""
    return {
        "command": "transfer",
        "student": {"spec": setup.student.spec, "fingerprint": setup.student.fingerprint},
        "teachers": [{"spec": t.spec, "fingerprint": t.fingerprint, **file_of_map(t)} for t in setup.teachers],
        "data": {"spec": setup.data.opens_by, "fingerprint": setup.data.fingerprint},
        **({"pools": [pool.spec for pool in setup.data.pools]} if setup.data.pools else {}),
        "method": setup.method_name,
        "views": setup.views.key,
        "device": setup.student.device.type,
        "config": setup.config.to_dict(),
    }
