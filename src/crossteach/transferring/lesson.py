"""One lesson: one student is trained once by its tutors, and the gate chooses the weights."""

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from ..answers.check import known_rows
from ..answers.mapping import describe_mapping
from ..answers.prediction import predict, predict_all, score_split
from ..config import PROCEDURE
from ..data.cut import tune_and_gate
from ..functional.calibration import fit_temperature
from ..functional.flips import percent
from ..functional.judging import FEWEST, Judge, fit_judge
from ..functional.promise import best_promise, promises
from ..functional.rules import RuleInputs
from ..models import MappedClassifier, load_student
from ..models.mapped import known_by
from ..models.scoring import provenance
from ..runs import RunFolder
from ..scouting.scout import unique_names
from ..types import Classifier, Predictions, Split, TrainableClassifier
from .absent import absent_note, shown_classes
from .crew import Crew
from .estimate import estimate_delta
from .following import FALLBACK_RATES, answer_together, bare_plan, train_together
from .foreign import LeftOut, leave_out_foreign
from .path import choose_weights, monitor_of, predict_after
from .plan import TrainingPlan
from .probe import Objective, calibrated_cross_entropy, choose_rate
from .setup import TransferSetup
from .sources import Source
from .state import TrainingState
from .summary import pool_summary, samples_taught, summarise, write_transfer
from .verification import keep_both

FOUND = ("lr", "table_lr", "epochs", "temperatures")
"""What is found out before training, and kept with it."""
ENVIRONMENT = ("torch", "threads", "devices")

Notes = tuple[str, ...]


@dataclass(frozen=True)
class TransferResult:
    """The result of a transfer: the student, the summary and the run folder."""

    student: TrainableClassifier
    """The weights that the gate chose; the original, bit for bit, where it kept them."""
    summary: dict[str, Any]
    """The content of `summary.json`."""
    folder: Path
    notes: Notes = ()


def teach(setup: TransferSetup, run: RunFolder) -> TransferResult:
    """Train the student once, with all teachers for each sample, and let the gate choose the weights.

    Args:
        setup: Student, teachers, data and method.
        run: Where the lesson is kept; a half-done one goes on, a whole one is read.
    """
    if run.is_whole:
        return read_result(setup.student, run)
    student, data, store, progress = setup.student, setup.data, setup.store, setup.progress
    tune, gate = tune_and_gate(data.selection)
    before = predict(student, data.test, store, progress)
    teachers = tuple(predict(teacher, data.test, store, progress) for teacher in setup.teachers)

    kept = run.load_checkpoint()
    plan, found_notes, left_out = _plan_training(setup, tune, kept)
    found_notes += _notes_of_another_machine(kept, setup.crew)
    copy = student.clone()
    monitor, monitor_notes = monitor_of(setup, copy, tune)
    trained = train_together(
        setup,
        copy,
        plan,
        state=_read_state(kept),
        save=lambda state: _checkpoint(run, state, plan, found_notes, setup.crew),
        monitor=monitor,
        progress=progress,
    )
    choice = choose_weights(setup, copy, trained, plan, gate)

    found = predict_after(copy, choice.ended, choice.returned, data.test, before, teachers)
    late = (*_late_notes((copy, student, *setup.teachers), setup.notes), *store.notes)
    absent = absent_note(plan.shown, data.classes)
    notes = (*setup.notes, *_clamped(plan), *absent, *found_notes, *monitor_notes, *late, *choice.notes)
    names = [*setup.tutor_names, "label"]
    summary = summarise(
        found,
        verdict=choice.verdict,
        method=setup.method_name,
        data=data,
        training={
            "lr": plan.lr,
            "table_lr": plan.table_lr,
            "epochs": plan.epochs,
            "steps": plan.steps,
            "taught": samples_taught(names, trained.taught),
            "temperatures": _by_tutor(setup, plan.temperatures),
            "absent_classes": 0 if plan.shown is None else int((~plan.shown).sum()),
            "diverged": trained.diverged,
        },
        promise=_promises(setup, tune),
        estimated_delta=None if trained.diverged else estimate_delta(setup, copy, choice.ended, found, tune),
        pool=pool_summary(data.pools, plan.sources, samples_taught(names, trained.taught_of_pools)),
        notes=notes,
        seconds=time.perf_counter() - setup.started,
    )
    summary["label_maps"] = describe_mappings(setup)
    run.write_metrics(trained.records)
    if data.test.labels is None and not trained.diverged:
        keep_both(run, student, copy.clone(), choice.verdict.verdict, choice.returned, choice.ended)
    write_transfer(run, data, copy, found, summary, left_out)
    returned = copy.clone()  # a copy that has answered before its training would remember those answers
    return TransferResult(returned, summary, run.path, notes)


def describe_mappings(setup: TransferSetup) -> list[dict[str, Any]] | None:
    """Describe as JSON how classes of teachers were mapped, and what they have right of those they know; else None."""
    mapped = [teacher for teacher in setup.teachers if isinstance(teacher, MappedClassifier)]
    found = []
    for teacher in mapped:
        said, known = predict(teacher, setup.data.test, setup.store), None
        if said.labels is not None and bool((rows := known_rows(said, said.labels)).any()):
            known = percent(said.correct[rows])
        described = describe_mapping(teacher, setup.data.selection, setup.store)
        found.append({**described, "accuracy_known": known})
    return found or None


def read_result(student: TrainableClassifier, run: RunFolder) -> TransferResult:
    """Read the result of a whole run; its student keeps the name and the spec of the original."""
    summary = run.summary()
    return TransferResult(load_student(run.path, student), summary, run.path, tuple(summary["notes"]))


def _plan_training(
    setup: TransferSetup, tune: Split, kept: dict[str, Any] | None
) -> tuple[TrainingPlan, Notes, tuple[LeftOut, ...]]:
    """Draw the views, ask the tutors, leave out what is foreign, find the rate, fit the length to the time there is."""
    config = setup.config
    plan = bare_plan(setup)
    familiar = [_familiar(setup, source, tune) for source in plan.sources]
    plan = replace(plan, sources=tuple(source for source, _ in familiar))
    if config.optim.steps is not None:
        plan = replace(plan, epochs=math.ceil(config.optim.steps / plan.steps_per_epoch))
    plan = replace(plan, sources=tuple(answer_together(setup, source, plan.steps) for source in plan.sources))
    left_out = tuple(left for _, left in familiar if left is not None)
    if config.partition.keep_absent:
        plan = replace(plan, shown=shown_classes(setup.data, plan.sources))
    if kept is not None:
        judge = None if kept["judge"] is None else Judge(**kept["judge"])
        return replace(plan, judge=judge, **{name: kept[name] for name in FOUND}), tuple(kept["notes"]), left_out
    plan = replace(plan, temperatures=_temperatures(setup, tune), judge=_judge(setup, tune))
    notes: Notes = ()
    if config.optim.lr is None:
        plan, notes = _with_probed_rates(setup, plan, tune)
    if config.time_budget is not None:
        epochs, more = _affordable_epochs(setup, plan)
        plan, notes = replace(plan, epochs=epochs), notes + more
    return plan, notes, left_out


def _familiar(setup: TransferSetup, source: Source, tune: Split) -> tuple[Source, LeftOut | None]:
    """Leave out of a pool what is foreign, where that is asked for; its tutors answer one view for that."""
    if not source.is_pool or not setup.tutors or not setup.config.pool.drop_below:
        return source, None
    return leave_out_foreign(setup, answer_together(setup, source, 1, temperature=1.0), tune)


def _temperatures(setup: TransferSetup, tune: Split) -> tuple[float, ...] | None:
    """Fit each tutor's temperature on the tune part, where the method asks for it: the gate part stays unseen."""
    if not setup.method.calibrated:
        return None
    assert tune.labels is not None, "a setup that calibrates has been refused without labels"
    labels = torch.from_numpy(tune.labels)
    answered = (predict(t, tune, setup.store, setup.progress) for t in setup.tutors)
    return tuple(_temperature(a, labels) for a in answered)


def _temperature(said: Predictions, labels: Int[Tensor, " N"]) -> float:
    """Fit a temperature on the samples whose class a tutor knows; it stays 1 where there is none."""
    rows = known_rows(said, labels)
    return fit_temperature(said.logits[rows], labels[rows]) if bool(rows.any()) else 1.0


def _judge(setup: TransferSetup, tune: Split) -> Judge | None:
    """Learn on the tune part who of the tutors is right where, if the method asks: the gate part stays unseen."""
    if not setup.method.judged:
        return None
    assert tune.labels is not None, "a setup that learns from labels has been refused without"
    answered = predict_all(setup.tutors, tune, setup.store, setup.progress)
    return fit_judge(answered, torch.from_numpy(tune.labels))


def _promises(setup: TransferSetup, tune: Split) -> dict[str, Any] | None:
    """Say what each rule promises on the tune part, the same for every method and seed; None without labels there."""
    if tune.labels is None or not setup.teachers or setup.method.random_teachers or len(tune) < FEWEST:
        return None
    models, names = (setup.student, *setup.teachers), unique_names([t.name for t in setup.teachers])
    key = {
        "kind": "promise",
        "procedure": PROCEDURE,
        "names": names,
        "models": [provenance(model, tune.fingerprint) for model in models],
        "data": setup.data.fingerprint,
    }
    known = setup.store.recall(key)
    if known is None:
        asked = predict_all(models, tune, setup.store)
        known_classes = known_by(models)
        found = promises(asked, torch.from_numpy(tune.labels), tuple(names), tune.group, known_classes)
        known = {"rules": {name: asdict(promise) for name, promise in found.items()}, "best": best_promise(found)}
        setup.store.remember(key, known)
    return known


def _by_tutor(setup: TransferSetup, values: Sequence[float] | None) -> dict[str, float] | None:
    return None if values is None else dict(zip(setup.tutor_names, values, strict=True))


def _clamped(plan: TrainingPlan) -> Notes:
    """Say how many of the tutors' logits float16 could not hold, whether they were computed now or read."""
    count = sum(getattr(source.tutors, "clamped", 0) for source in plan.sources)
    return (f"{count} logits of tutors lay below what float16 holds and were clamped",) if count else ()


def _late_notes(models: Sequence[Classifier], known: Notes) -> Notes:
    """Return what models have noted since they were opened: memory may have run out."""
    found = (note for model in models for note in getattr(model, "notes", ()))
    return tuple(note for note in dict.fromkeys(found) if note not in known)


def _with_probed_rates(setup: TransferSetup, plan: TrainingPlan, tune: Split) -> tuple[TrainingPlan, Notes]:
    """Find the learning rates."""
    objective = _objective(setup, plan, tune)
    if objective is None:
        fallback = FALLBACK_RATES[plan.optimiser]
        return replace(plan, lr=fallback), (f"no labels to probe the learning rate with: optim.lr is {fallback}",)
    described = setup.config.to_dict()
    key = {
        "procedure": PROCEDURE,
        "method": setup.method_name,
        "models": [setup.student.fingerprint, *(t.fingerprint for t in _asked(setup))],
        "data": [setup.data.fingerprint, tune.fingerprint],
        "views": [setup.views.key, setup.views.count],
        **({"pool": described["pool"]} if setup.data.pools else {}),
        "device": setup.student.device.type,
        "seed": setup.config.seed,
        "temperatures": plan.temperatures,
        **{name: described[name] for name in ("optim", "partition")},
        **({"contrast": described["contrast"]} if setup.features is not None else {}),
        **({"first view": setup.views.first} if setup.views.first else {}),
        **_rounded(plan),
    }
    found = choose_rate(
        setup.student,
        plan,
        lambda student: score_split(student, tune),
        objective,
        setup.store,
        key,
        setup.progress,
        partial(train_together, setup),
    )
    return replace(plan, lr=found.lr, table_lr=found.table_lr), ()


def _rounded(plan: TrainingPlan) -> dict[str, Any]:
    """Say how the tutors' answers are rounded where that is not to float16."""
    kept = [list(getattr(source.tutors, "kept", ())) for source in plan.sources]
    return {"kept": kept} if any(set(each) - {"float16"} for each in kept) else {}


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
    tutors = predict_all(setup.tutors, tune, setup.store, setup.progress)
    inputs = RuleInputs(setup.config.partition.margin, plan.temperatures, judge=plan.judge, known=plan.known)
    target = targets(tutors, None, inputs)[0].log_softmax(1)
    return lambda logits: (target.exp() * (target - logits.log_softmax(1))).sum(1).mean().item()


def _affordable_epochs(setup: TransferSetup, plan: TrainingPlan) -> tuple[int, Notes]:
    """Time a few steps, and return how many epochs fit into what is left of the budget."""
    assert setup.config.time_budget is not None
    steps = min(10, plan.steps)
    begun = time.perf_counter()
    short = replace(plan, max_steps=steps, epochs=1 + steps // plan.steps_per_epoch)
    train_together(setup, setup.student.clone(), short)
    a_step = (time.perf_counter() - begun) / steps
    left = setup.config.time_budget * 60 - (time.perf_counter() - setup.started)
    epochs = int(min(plan.epochs, max(1, left * 0.9 // (a_step * plan.steps_per_epoch))))
    note = f"--time-budget: {epochs} of {plan.epochs} epochs fit"
    return epochs, (note,) if epochs < plan.epochs else ()


def _environment(crew: Crew) -> dict[str, Any]:
    return {"torch": str(torch.__version__), "threads": torch.get_num_threads(), "devices": crew.size}


def _checkpoint(run: RunFolder, state: TrainingState, plan: TrainingPlan, notes: Notes, crew: Crew) -> None:
    """Keep where the training stands, what was found before it, and the notes on that."""
    run.write_metrics(state.records)
    kept = {f.name: getattr(state, f.name) for f in fields(state)}
    found = {name: getattr(plan, name) for name in FOUND}
    judge = None if plan.judge is None else {f.name: getattr(plan.judge, f.name) for f in fields(plan.judge)}
    run.save_checkpoint({"state": kept, "notes": list(notes), "judge": judge, **found, **_environment(crew)})


def _read_state(kept: dict[str, Any] | None) -> TrainingState | None:
    return None if kept is None else TrainingState(**kept["state"])


def _notes_of_another_machine(kept: dict[str, Any] | None, crew: Crew) -> Notes:
    here = _environment(crew)
    changed = [f"{k} was {kept[k]}, is {here[k]}" for k in ENVIRONMENT if kept and kept[k] != here[k]]
    text = f"resumed elsewhere ({'; '.join(changed)}): bits may differ from an uninterrupted run"
    return (text,) if changed else ()
