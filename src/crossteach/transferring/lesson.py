"""One student, one or many tutors: from specs to a student that is better, or as it was."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from ..answers.prediction import predict, score_split
from ..answers.store import Store
from ..answers.tutors import LiveTutors, Tutors, fill_store
from ..config import TransferConfig
from ..data.assemble import split_fingerprint
from ..data.cut import tune_and_gate
from ..functional.calibration import fit_temperature
from ..functional.partition import RuleInputs
from ..models import load_model
from ..runs import RunFolder, open_run
from ..types import Classifier, Progress, Split, Splits, TrainableClassifier, no_progress
from .path import choose_weights, watch, with_weights
from .probe import Objective, calibrated_cross_entropy, choose_rate
from .setup import TransferSetup, describe, open_setup
from .summary import samples_taught, summarise, write_outcome
from .training import TrainingPlan, TrainingState, train

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
    setup = open_setup(student, teachers, data, config or TransferConfig(), store or Store(), progress)
    tune, gate = tune_and_gate(data.selection)
    run = open_run(Path(out), describe(setup), overwrite)
    if run.is_whole:
        return read_result(student, run)

    before = predict(student, data.test, setup.store, progress)
    teacher_answers = [predict(teacher, data.test, setup.store, progress) for teacher in setup.teachers]
    kept = run.load_checkpoint()
    _warn_of_another_machine(kept, setup)

    plan = _plan_training(setup, tune, kept, started)
    copy = student.clone()
    trained = train(
        copy,
        plan,
        position=_read_position(kept),
        after_epoch=lambda position: _checkpoint(run, position, plan, setup),
        watch=watch(setup, copy, tune),
        progress=progress,
    )
    choice = choose_weights(setup, copy, trained, plan, gate)
    ungated = with_weights(copy, choice.ended, data.test, before)
    after = with_weights(copy, choice.returned, data.test, before)
    copy.module.load_state_dict(choice.returned)

    late = (note for model in (copy, student, *setup.teachers) for note in getattr(model, "notes", ()))
    setup.notes.extend(note for note in dict.fromkeys(late) if note not in setup.notes)  # memory may have run out

    summary = summarise(
        before=before,
        after=after,
        ungated=ungated,
        teachers=teacher_answers,
        verdict=choice.verdict,
        method=setup.method_name,
        data=data,
        training={
            "lr": plan.lr,
            "epochs": plan.epochs,
            "taught": samples_taught([*setup.tutor_names, "label"], trained.taught),
            "temperatures": _by_tutor(setup, plan.temperatures),
            "diverged": trained.diverged,
        },
        notes=setup.notes,
        seconds=time.perf_counter() - started,
    )
    run.write_metrics(trained.records)
    write_outcome(run, data, copy, before, after, ungated, teacher_answers, summary)
    returned = copy.clone()  # a copy that has answered before its training would remember those answers
    return TransferResult(returned, summary, run.path, tuple(setup.notes))


def _plan_training(setup: TransferSetup, tune: Split, kept: dict[str, Any] | None, started: float) -> TrainingPlan:
    """Draw the views, ask the tutors, find the rate, and fit the length to the time there is."""
    config, data, views = setup.config, setup.data, setup.views
    tutors: Tutors | None = None
    if setup.tutors and (config.views.live or views.count == 0):
        tutors = LiveTutors(setup.tutors)
    elif setup.tutors:
        tutors = fill_store(setup.tutors, data.train, views, setup.store, setup.progress)
        if tutors.clamped:
            setup.notes.append(f"{tutors.clamped} logits of tutors lay below what float16 holds and were clamped")
    rate = config.optim.lr or FALLBACK_RATE
    plan = TrainingPlan(setup.method, config, data.train, views, tutors, rate, config.optim.epochs)
    plan = replace(plan, features=setup.features)
    if kept is not None:
        return replace(plan, **{name: kept[name] for name in FOUND})
    plan = replace(plan, temperatures=_temperatures(setup, tune))
    if config.optim.lr is None:
        plan = replace(plan, lr=_probe(setup, plan, tune))
    if config.time_budget is not None:
        plan = replace(plan, epochs=_affordable_epochs(setup, plan, started))
    return plan


def _temperatures(setup: TransferSetup, tune: Split) -> tuple[float, ...] | None:
    """Fit each tutor's temperature on the tune part, where the method asks for it: the gate part stays unseen."""
    if not setup.method.calibrated:
        return None
    assert tune.labels is not None, "a setup that calibrates has been refused without labels"
    labels = torch.from_numpy(tune.labels)
    answered = (predict(t, tune, setup.store, setup.progress) for t in setup.tutors)
    return tuple(fit_temperature(a.logits, labels) for a in answered)


def read_result(student: TrainableClassifier, run: RunFolder) -> TransferResult:
    """Return what a whole run has come to; its student bears the name and the spec of the one it was."""
    copy, summary = student.clone(), run.summary()
    copy.module.load_state_dict(load_model(f"run:{run.path}").module.state_dict())
    return TransferResult(copy, summary, run.path, tuple(summary["notes"]))


def _by_tutor(setup: TransferSetup, values: Sequence[float] | None) -> dict[str, float] | None:
    return None if values is None else dict(zip(setup.tutor_names, values, strict=True))


def _probe(setup: TransferSetup, plan: TrainingPlan, tune: Split) -> float:
    objective = _objective(setup, plan, tune)
    if objective is None:
        setup.notes.append(f"no labels to probe the learning rate with: optim.lr is {FALLBACK_RATE}")
        return FALLBACK_RATE
    described = setup.config.to_dict()
    key = {
        "method": setup.method_name,
        "models": [setup.student.fingerprint, *(t.fingerprint for t in _asked(setup))],
        "data": [setup.data.fingerprint, split_fingerprint(tune)],
        "views": [setup.views.key, setup.views.count],
        "device": setup.student.device.type,
        "seed": setup.config.seed,
        "temperatures": plan.temperatures,
        **{name: described[name] for name in ("optim", "partition")},
        **({"contrast": described["contrast"]} if setup.features is not None else {}),
        **({"first view": setup.views.first} if setup.views.first else {}),
    }
    rate, _ = choose_rate(
        setup.student,
        plan,
        lambda student: score_split(student, tune),
        objective,
        setup.store,
        key,
        setup.progress,
    )
    return rate


def _asked(setup: TransferSetup) -> tuple[Classifier, ...]:
    """Return the models whose answers, or features, the student is taught with."""
    return setup.tutors if setup.features is None else (setup.features.tutor,)


def _objective(setup: TransferSetup, plan: TrainingPlan, tune: Split) -> Objective | None:
    """Judge a rate by the labels of the tune part, else by the method's own loss there, else not at all."""
    if tune.labels is not None:
        return calibrated_cross_entropy(torch.from_numpy(tune.labels))
    targets = setup.method.targets
    if setup.method.labels or targets is None:
        return None
    tutors = torch.stack([predict(t, tune, setup.store, setup.progress).logits for t in setup.tutors])
    given = RuleInputs(setup.config.partition.margin, plan.temperatures)
    target = targets(tutors, None, given)[0].log_softmax(1)
    return lambda logits: (target.exp() * (target - logits.log_softmax(1))).sum(1).mean().item()


def _affordable_epochs(setup: TransferSetup, plan: TrainingPlan, started: float) -> int:
    """Time a few steps, and return how many epochs fit into what is left of the budget."""
    assert setup.config.time_budget is not None
    steps = min(10, plan.steps)
    begun = time.perf_counter()
    train(setup.student.clone(), replace(plan, max_steps=steps, epochs=1 + steps // plan.steps_per_epoch))
    a_step = (time.perf_counter() - begun) / steps
    left = setup.config.time_budget * 60 - (time.perf_counter() - started)
    epochs = int(min(plan.epochs, max(1, left * 0.9 // (a_step * plan.steps_per_epoch))))
    if epochs < plan.epochs:
        setup.notes.append(f"--time-budget: {epochs} of {plan.epochs} epochs fit")
    return epochs


FOUND = ("lr", "epochs", "temperatures")
"""What is found out before training, and kept with it."""
ENVIRONMENT = ("torch", "threads")


def _environment() -> dict[str, Any]:
    return {"torch": str(torch.__version__), "threads": torch.get_num_threads()}


def _checkpoint(run: RunFolder, position: TrainingState, plan: TrainingPlan, setup: TransferSetup) -> None:
    run.write_metrics(position.records)
    state = {f.name: getattr(position, f.name) for f in fields(position)}
    found = {name: getattr(plan, name) for name in FOUND}
    run.save_checkpoint({"position": state, **found, **_environment()})


def _read_position(kept: dict[str, Any] | None) -> TrainingState | None:
    return None if kept is None else TrainingState(**kept["position"])


def _warn_of_another_machine(kept: dict[str, Any] | None, setup: TransferSetup) -> None:
    here = _environment()
    changed = [f"{k} was {kept[k]}, is {here[k]}" for k in ENVIRONMENT if kept and kept[k] != here[k]]
    if changed:
        setup.notes.append(f"resumed elsewhere ({'; '.join(changed)}): bits may differ from an uninterrupted run")
