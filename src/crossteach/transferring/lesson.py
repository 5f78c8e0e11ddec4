"""One student, one or many tutors: from specs to a student that is better, or as it was."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from ..answers.prediction import answers, predict
from ..answers.store import Store
from ..answers.tutors import LiveTutors, Tutors, fill_store
from ..config import TransferConfig
from ..data.assemble import split_fingerprint, tune_and_gate
from ..functional.calibration import fit_temperature
from ..functional.partition import Given
from ..models import load_model
from ..runs import RunFolder, open_run
from ..types import Classifier, Progress, Split, Splits, TrainableClassifier, no_progress
from .path import choose_weights, watch, with_weights
from .probe import Objective, calibrated_cross_entropy, choose_rate
from .setup import Setting, describe, open_setting
from .summary import samples_taught, summarise, write_outcome
from .training import Lesson, Position, train

FALLBACK_RATE = 0.01
"""Where the method reads labels and the selection split has none to probe with."""


@dataclass(frozen=True)
class TransferResult:
    """What a transfer returns."""

    student: TrainableClassifier
    """The weights that the gate chose; the original, bit for bit, where it kept them."""
    summary: dict[str, Any]
    """The content of `summary.json`."""
    folder: Path
    notes: tuple[str, ...] = ()


def transfer(
    student: TrainableClassifier,
    teachers: Sequence[Classifier],
    data: Splits,
    out: str | Path,
    config: TransferConfig | None = None,
    store: Store | None = None,
    overwrite: bool = False,
    progress: Progress = no_progress,
) -> TransferResult:
    """Teach a student in one training, in which each sample asks all teachers: a whole transfer, or one of its lessons.

    Arguments, result and errors are those of `crossteach.transfer`, which also knows other orders of teachers.
    """
    started = time.perf_counter()
    setting = open_setting(student, teachers, data, config or TransferConfig(), store or Store(), progress)
    tune, gate = tune_and_gate(data.selection)
    run = open_run(Path(out), describe(setting), overwrite)
    if run.is_whole:
        return read_result(student, run)

    before = predict(student, data.test, setting.store, progress)
    teacher_answers = [predict(teacher, data.test, setting.store, progress) for teacher in setting.teachers]
    kept = run.load_checkpoint()
    _warn_of_another_machine(kept, setting)

    lesson = _prepare_lesson(setting, tune, kept, started)
    copy = student.clone()
    trained = train(
        copy,
        lesson,
        position=_read_position(kept),
        after_epoch=lambda position: _checkpoint(run, position, lesson, setting),
        watch=watch(setting, copy, tune),
        progress=progress,
    )
    choice = choose_weights(setting, copy, trained, lesson, gate)
    ungated = with_weights(copy, choice.ended, data.test, before)
    after = with_weights(copy, choice.returned, data.test, before)
    copy.module.load_state_dict(choice.returned)

    summary = summarise(
        before=before,
        after=after,
        ungated=ungated,
        teachers=teacher_answers,
        verdict=choice.verdict,
        method=setting.method_name,
        data=data,
        training={
            "lr": lesson.lr,
            "epochs": lesson.epochs,
            "taught": samples_taught([*setting.tutor_names, "label"], trained.taught),
            "temperatures": _by_tutor(setting, lesson.temperatures),
            "diverged": trained.diverged,
        },
        notes=setting.notes,
        seconds=time.perf_counter() - started,
    )
    run.write_metrics(trained.records)
    write_outcome(run, data, copy, before, after, ungated, teacher_answers, summary)
    returned = copy.clone()  # a copy that has answered before its training would remember those answers
    return TransferResult(returned, summary, run.path, tuple(setting.notes))


def _prepare_lesson(setting: Setting, tune: Split, kept: dict[str, Any] | None, started: float) -> Lesson:
    """Draw the views, ask the tutors, find the rate, and fit the length to the time there is."""
    config, data, views = setting.config, setting.data, setting.views
    tutors: Tutors | None = None
    if setting.tutors and (config.views.live or views.count == 0):
        tutors = LiveTutors(setting.tutors)
    elif setting.tutors:
        tutors = fill_store(setting.tutors, data.train, views, setting.store, setting.progress)
        if tutors.clamped:
            setting.notes.append(f"{tutors.clamped} logits of tutors lay below what float16 holds and were clamped")
    rate = config.optim.lr or FALLBACK_RATE
    lesson = Lesson(setting.method, config, data.train, views, tutors, rate, config.optim.epochs)
    lesson = replace(lesson, features=setting.features)
    if kept is not None:
        return replace(lesson, **{name: kept[name] for name in FOUND})
    lesson = replace(lesson, temperatures=_temperatures(setting, tune))
    if config.optim.lr is None:
        lesson = replace(lesson, lr=_probe(setting, lesson, tune))
    if config.time_budget is not None:
        lesson = replace(lesson, epochs=_affordable_epochs(setting, lesson, started))
    return lesson


def _temperatures(setting: Setting, tune: Split) -> tuple[float, ...] | None:
    """Fit each tutor's temperature on the tune part, where the method asks for it: the gate part stays unseen."""
    if not setting.method.calibrated:
        return None
    assert tune.labels is not None, "a setting that calibrates has been refused without labels"
    labels = torch.from_numpy(tune.labels)
    answered = (predict(t, tune, setting.store, setting.progress) for t in setting.tutors)
    return tuple(fit_temperature(a.logits, labels) for a in answered)


def read_result(student: TrainableClassifier, run: RunFolder) -> TransferResult:
    """Return what a whole run has come to; its student bears the name and the spec of the one it was."""
    copy, summary = student.clone(), run.summary()
    copy.module.load_state_dict(load_model(f"run:{run.path}").module.state_dict())
    return TransferResult(copy, summary, run.path, tuple(summary["notes"]))


def _by_tutor(setting: Setting, values: Sequence[float] | None) -> dict[str, float] | None:
    return None if values is None else dict(zip(setting.tutor_names, values, strict=True))


def _probe(setting: Setting, lesson: Lesson, tune: Split) -> float:
    objective = _objective(setting, lesson, tune)
    if objective is None:
        setting.notes.append(f"no labels to probe the learning rate with: optim.lr is {FALLBACK_RATE}")
        return FALLBACK_RATE
    described = setting.config.to_dict()
    key = {
        "method": setting.method_name,
        "models": [setting.student.fingerprint, *(t.fingerprint for t in _asked(setting))],
        "data": [setting.data.fingerprint, split_fingerprint(tune)],
        "views": [setting.views.key, setting.views.count],
        "device": setting.student.device.type,
        "seed": setting.config.seed,
        "temperatures": lesson.temperatures,
        **{name: described[name] for name in ("optim", "partition")},
        **({"contrast": described["contrast"]} if setting.features is not None else {}),
        **({"first view": setting.views.first} if setting.views.first else {}),
    }
    rate, _ = choose_rate(
        setting.student,
        lesson,
        lambda student: answers(student, tune),
        objective,
        setting.store,
        key,
        setting.progress,
    )
    return rate


def _asked(setting: Setting) -> tuple[Classifier, ...]:
    """Return the models whose answers, or features, the student is taught with."""
    return setting.tutors if setting.features is None else (setting.features.tutor,)


def _objective(setting: Setting, lesson: Lesson, tune: Split) -> Objective | None:
    """Judge a rate by the labels of the tune part, else by the method's own loss there, else not at all."""
    if tune.labels is not None:
        return calibrated_cross_entropy(torch.from_numpy(tune.labels))
    targets = setting.method.targets
    if setting.method.labels or targets is None:
        return None
    tutors = torch.stack([predict(t, tune, setting.store, setting.progress).logits for t in setting.tutors])
    given = Given(setting.config.partition.margin, lesson.temperatures)
    target = targets(tutors, None, given)[0].log_softmax(1)
    return lambda logits: (target.exp() * (target - logits.log_softmax(1))).sum(1).mean().item()


def _affordable_epochs(setting: Setting, lesson: Lesson, started: float) -> int:
    """Time a few steps, and return how many epochs fit into what is left of the budget."""
    assert setting.config.time_budget is not None
    steps = min(10, lesson.steps)
    begun = time.perf_counter()
    train(setting.student.clone(), replace(lesson, max_steps=steps, epochs=1 + steps // lesson.steps_per_epoch))
    a_step = (time.perf_counter() - begun) / steps
    left = setting.config.time_budget * 60 - (time.perf_counter() - started)
    epochs = int(min(lesson.epochs, max(1, left * 0.9 // (a_step * lesson.steps_per_epoch))))
    if epochs < lesson.epochs:
        setting.notes.append(f"--time-budget: {epochs} of {lesson.epochs} epochs fit")
    return epochs


FOUND = ("lr", "epochs", "temperatures")
"""What is found out before training, and kept with it."""
ENVIRONMENT = ("torch", "threads")


def _environment() -> dict[str, Any]:
    return {"torch": str(torch.__version__), "threads": torch.get_num_threads()}


def _checkpoint(run: RunFolder, position: Position, lesson: Lesson, setting: Setting) -> None:
    run.write_metrics(position.records)
    state = {f.name: getattr(position, f.name) for f in fields(position)}
    found = {name: getattr(lesson, name) for name in FOUND}
    run.save_checkpoint({"position": state, **found, **_environment()})


def _read_position(kept: dict[str, Any] | None) -> Position | None:
    return None if kept is None else Position(**kept["position"])


def _warn_of_another_machine(kept: dict[str, Any] | None, setting: Setting) -> None:
    here = _environment()
    changed = [f"{k} was {kept[k]}, is {here[k]}" for k in ENVIRONMENT if kept and kept[k] != here[k]]
    if changed:
        setting.notes.append(f"resumed elsewhere ({'; '.join(changed)}): bits may differ from an uninterrupted run")
