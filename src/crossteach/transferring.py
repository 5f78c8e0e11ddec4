"""One student, one or many tutors: from specs to a student that is better, or as it was."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim.swa_utils import update_bn

from .averaging import State, interpolate, snapshot
from .check import require_better_than_chance, require_channels, require_label_space, require_test_labels
from .config import TransferConfig
from .data.assemble import split_fingerprint, stratified_cut
from .data.views import Views, augmentation, plain_images
from .errors import ConfigError
from .gate import GateResult, decide
from .methods import Method, choose_method
from .outcome import summarise, write_outcome
from .pixels import prepare
from .prediction import predict
from .probe import Objective, calibrated_cross_entropy, choose_rate
from .runs import RunFolder, open_run
from .scoring import score
from .store import Store
from .training import Lesson, Position, train
from .tutors import LiveTutors, Tutors, fill_store
from .types import Classifier, Predictions, Progress, Split, Splits, TrainableClassifier, no_progress

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


@dataclass(frozen=True)
class Setting:
    """What a transfer is about, opened and checked."""

    student: TrainableClassifier
    teachers: tuple[Classifier, ...]
    data: Splits
    config: TransferConfig
    method_name: str
    method: Method
    store: Store
    progress: Progress
    notes: list[str] = field(default_factory=list)

    @property
    def tutors(self) -> tuple[Classifier, ...]:
        """Those that the method asks, the frozen student first."""
        frozen = (self.student,) if self.method.frozen_student else ()
        return (*frozen, *self.teachers) if self.method.teachers else frozen


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
    """Teach a student what its teachers know and it does not; return it better, or as it was.

    Args:
        student: The pretrained model that learns. It is not changed: a copy is trained.
        teachers: One or more models over the same classes; none for the controls that need none.
        data: Train teaches, selection decides, test reports.
        out: The run folder. A half-done run of the same configuration resumes, a whole one is read.
        config: Settings; the defaults suit small and large models alike.
        store: Where tutors' answers are kept; None takes the user's cache folder.
        overwrite: Whether to empty a folder that another configuration has used.
        progress: Told what is being done.

    Returns:
        The student, the summary, and the folder in which both stand.

    Raises:
        LabelSpaceError: If models and data do not share their classes.
        MissingLabelsError: If the method reads labels that the data do not have.
        RunFolderError: If another configuration has used the folder.
    """
    started = time.perf_counter()
    setting = _open_setting(student, teachers, data, config or TransferConfig(), store or Store(), progress)
    run = open_run(Path(out), _describe(setting), overwrite)
    if run.is_whole:
        return _reopen(run, setting)

    tune, gate = (data.selection.take(rows) for rows in stratified_cut(data.selection, 0.5))
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
        evaluate=_accuracy_of(copy, tune),
        progress=progress,
    )
    verdict, returned, ended = _choose_weights(setting, copy, trained, lesson, gate)
    after = _answers_with(copy, returned, data.test, before)
    ungated = _answers_with(copy, ended, data.test, before) if ended is not returned else after
    copy.module.load_state_dict(returned)

    summary = summarise(
        before=before,
        after=after,
        ungated=ungated,
        teachers=teacher_answers,
        verdict=verdict,
        method=setting.method_name,
        data=data,
        training={
            "lr": lesson.lr,
            "epochs": lesson.epochs,
            "best_epoch": trained.best_epoch,
            "taught": dict(zip([*_tutor_names(setting), "label"], trained.taught, strict=True)),
            "diverged": trained.diverged,
        },
        notes=setting.notes,
        seconds=time.perf_counter() - started,
    )
    run.write_metrics(trained.records)
    write_outcome(run, copy, before, after, ungated, teacher_answers, summary)
    return TransferResult(copy, summary, run.path, tuple(setting.notes))


def _open_setting(
    student: TrainableClassifier,
    teachers: Sequence[Classifier],
    data: Splits,
    config: TransferConfig,
    store: Store,
    progress: Progress,
) -> Setting:
    name, method = choose_method(config.method, data.train.labels is not None)
    if method.teachers and not teachers:
        raise ConfigError(
            f"method {name!r} needs a teacher and none is given; name one, or use self, xe or self+labels"
        )
    require_test_labels(data)
    for classifier in (student, *teachers):
        require_label_space(classifier, data)
        require_channels(classifier, data)
    notes = [*data.notes, *(note for c in (student, *teachers) for note in getattr(c, "notes", ()))]
    if not config.force:
        require_better_than_chance(predict(student, data.selection, store, progress), student.spec)
    return Setting(student, tuple(teachers), data, config, name, method, store, progress, notes)


def _describe(setting: Setting) -> dict[str, Any]:
    """Everything that the result depends on."""
    return {
        "command": "transfer",
        "student": {"spec": setting.student.spec, "fingerprint": setting.student.fingerprint},
        "teachers": [{"spec": t.spec, "fingerprint": t.fingerprint} for t in setting.teachers],
        "data": {"spec": setting.data.spec, "fingerprint": setting.data.fingerprint},
        "method": setting.method_name,
        "device": setting.student.device.type,
        "config": setting.config.to_dict(),
    }


def _tutor_names(setting: Setting) -> list[str]:
    names = ["frozen student"] if setting.method.frozen_student else []
    return [*names, *(t.name for t in setting.teachers)] if setting.method.teachers else names


def _prepare_lesson(setting: Setting, tune: Split, kept: dict[str, Any] | None, started: float) -> Lesson:
    """Draw the views, ask the tutors, find the rate, and fit the length to the time there is."""
    config, data = setting.config, setting.data
    name = data.augmentation if config.views.augmentation == "auto" else config.views.augmentation
    views = Views(config.seed, config.views.count, augmentation(name, config.views.strength))
    tutors: Tutors | None = None
    if setting.tutors and (config.views.live or views.count == 0):
        tutors = LiveTutors(setting.tutors)
    elif setting.tutors:
        tutors = fill_store(setting.tutors, data.train, views, setting.store, setting.progress)
    rate = config.optim.lr or FALLBACK_RATE
    lesson = Lesson(setting.method, config, data.train, views, tutors, rate, config.optim.epochs)
    if kept is not None:
        return replace(lesson, lr=kept["lr"], epochs=kept["epochs"])
    if config.optim.lr is None:
        lesson = replace(lesson, lr=_probe(setting, lesson, tune))
    if config.time_budget is not None:
        lesson = replace(lesson, epochs=_affordable_epochs(setting, lesson, started))
    return lesson


def _probe(setting: Setting, lesson: Lesson, tune: Split) -> float:
    objective = _objective(setting, tune)
    if objective is None:
        setting.notes.append(f"no labels to probe the learning rate with: optim.lr is {FALLBACK_RATE}")
        return FALLBACK_RATE
    described = _describe(setting)
    key = {k: v for k, v in described.items() if k not in ("command", "student", "teachers")}
    key["models"] = [setting.student.fingerprint, *(t.fingerprint for t in setting.tutors)]
    key["tune"] = split_fingerprint(tune)
    rate, _ = choose_rate(
        setting.student,
        lesson,
        lambda student: _answers(student, tune),
        objective,
        setting.store,
        key,
        setting.progress,
    )
    return rate


def _objective(setting: Setting, tune: Split) -> Objective | None:
    """Judge a rate by the labels of the tune half, else by the method's own loss there, else not at all."""
    if tune.labels is not None:
        return calibrated_cross_entropy(torch.from_numpy(tune.labels))
    targets = setting.method.targets
    if setting.method.labels or targets is None:
        return None
    answers = torch.stack([predict(t, tune, setting.store, setting.progress).logits for t in setting.tutors])
    target = targets(answers, None)[0].log_softmax(1)
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


def _answers(classifier: Classifier, split: Split) -> Float[Tensor, "N C"]:
    """Score plain samples without the store: the weights are not kept."""
    parts = np.array_split(np.arange(len(split)), range(1024, len(split), 1024))
    return torch.cat([score(classifier, plain_images(split, rows, classifier.preprocess)) for rows in parts])


def _answers_with(student: TrainableClassifier, weights: State, split: Split, like: Predictions) -> Predictions:
    """Score plain samples with other weights, on a module that is lent for it."""
    student.module.load_state_dict(weights)
    return replace(like, logits=_answers(student, split), model_fingerprint="")


def _accuracy_of(student: TrainableClassifier, split: Split) -> Callable[[], float] | None:
    if split.labels is None:
        return None
    labels = torch.from_numpy(split.labels)
    return lambda: 100.0 * (_answers(student, split).argmax(1) == labels).double().mean().item()


def _choose_weights(
    setting: Setting, copy: TrainableClassifier, trained: Position, lesson: Lesson, gate: Split
) -> tuple[GateResult, State, State]:
    """Return the verdict, the weights it chose, and those of the end of training."""
    old = snapshot(setting.student.module)
    ended = trained.slow if trained.slow is not None else trained.weights
    if trained.diverged or not ended:
        setting.notes.append(f"training stopped: {trained.diverged}; the original weights are kept")
        return GateResult("diverged", 0.0, 0.0 if gate.labels is not None else None), old, old
    new = trained.best or ended
    new = ended if trained.best_epoch == trained.epoch else new
    if gate.labels is None:
        return GateResult("unverified", 1.0, None, evidence=_evidence(setting, copy, new, gate)), new, ended
    original = predict(setting.student, setting.data.selection, setting.store).logits.argmax(1).numpy()
    position = {int(sample): row for row, sample in enumerate(setting.data.selection.ids)}
    before = original[[position[int(sample)] for sample in gate.ids]] == gate.labels
    along, weights = [], {}
    for alpha in setting.config.gate.alphas:
        weights[alpha] = _point(setting, copy, old, new, alpha, lesson)
        copy.module.load_state_dict(weights[alpha])
        along.append((alpha, _answers(copy, gate).argmax(1).numpy() == gate.labels))
    verdict = decide(before, along, setting.config.gate, gate.group)
    if verdict.verdict == "kept_original":
        return verdict, old, ended
    chosen = weights[verdict.alpha]
    return verdict, ended if verdict.alpha == 1.0 and new is ended else chosen, ended


def _point(setting: Setting, copy: TrainableClassifier, old: State, new: State, alpha: float, lesson: Lesson) -> State:
    """Return the weights at alpha; batch-norm statistics that were trained are estimated anew between the ends."""
    state = interpolate(old, new, alpha)
    if not setting.config.optim.train_statistics or alpha == 1.0:
        return state
    copy.module.load_state_dict(state)
    rows = np.array_split(np.arange(min(len(lesson.split), 2048)), range(128, min(len(lesson.split), 2048), 128))
    with torch.no_grad():
        update_bn(
            (
                prepare(
                    lesson.views.batch(lesson.split, part, np.zeros(len(part), np.int64)).images(copy.preprocess),
                    copy.preprocess,
                )
                for part in rows
            ),
            copy.module,
            device=copy.device,
        )
    copy.module.eval()
    return snapshot(copy.module)


def _evidence(setting: Setting, copy: TrainableClassifier, new: State, gate: Split) -> str:
    """Say how far the student moved towards the mean of all tutors on held-out samples without labels."""
    tutors = (setting.student, *setting.teachers)
    mean = torch.stack([predict(t, gate, setting.store).logits.softmax(1) for t in tutors]).mean(0).argmax(1)
    was = (predict(setting.student, gate, setting.store).logits.argmax(1) == mean).double().mean().item()
    copy.module.load_state_dict(new)
    now = (_answers(copy, gate).argmax(1) == mean).double().mean().item()
    return f"agreement with the ensemble of student and teachers on held-out samples: {was:.1%} before, {now:.1%} after"


ENVIRONMENT = ("torch", "threads", "device")


def _environment(setting: Setting) -> dict[str, Any]:
    return {"torch": str(torch.__version__), "threads": torch.get_num_threads(), "device": setting.student.device.type}


def _checkpoint(run: RunFolder, position: Position, lesson: Lesson, setting: Setting) -> None:
    run.write_metrics(position.records)
    state = {f.name: getattr(position, f.name) for f in fields(position)}
    run.save_checkpoint({"position": state, "lr": lesson.lr, "epochs": lesson.epochs, **_environment(setting)})


def _read_position(kept: dict[str, Any] | None) -> Position | None:
    return None if kept is None else Position(**kept["position"])


def _warn_of_another_machine(kept: dict[str, Any] | None, setting: Setting) -> None:
    here = _environment(setting)
    changed = [f"{k} was {kept[k]}, is {here[k]}" for k in ENVIRONMENT if kept and kept[k] != here[k]]
    if changed:
        setting.notes.append(f"resumed elsewhere ({'; '.join(changed)}): bits may differ from an uninterrupted run")


def _reopen(run: RunFolder, setting: Setting) -> TransferResult:
    """Read a whole run."""
    from .models import load_model

    summary = run.summary()
    return TransferResult(load_model(f"run:{run.path}"), summary, run.path, tuple(summary["notes"]))
