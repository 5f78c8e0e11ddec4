"""Chooses the weights that are returned, among points on the straight path from the old to the new ones."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.optim.swa_utils import update_bn

from ..answers.prediction import answer_blocks, keep_answers, predict, score_split
from ..config import GateConfig
from ..data.cut import stratified_sample
from ..data.views import ViewBatch
from ..functional.averaging import State, interpolate, snapshot
from ..functional.label_spaces import ensemble_probs
from ..models.asking import Asked, set_mode
from ..models.mapped import known_by
from ..types import Predictions, Split, TrainableClassifier
from .evidence import Evidence, measure_evidence
from .gate import MUCH_TO_ASK, GateResult, Held, choose_alpha, least_gain
from .measured import TransferPredictions
from .plan import TrainingPlan
from .setup import TransferSetup
from .sources import Source, batch_starts
from .state import TrainingState
from .training import Monitor, seeded

STATISTICS_SAMPLES, STATISTICS_BATCH = 2048, 128
"""How many views estimate batch-norm statistics anew."""
MONITOR_SAMPLES = 50
"""A share that falls below half of 50 samples has fallen beyond chance; that of a few samples may fall by chance."""


@dataclass(frozen=True)
class Choice:
    """What the gate decided about a training."""

    verdict: GateResult
    returned: State
    """The weights that are returned."""
    ended: State
    """The weights of the end of training."""
    notes: tuple[str, ...] = ()


def choose_weights(
    setup: TransferSetup, copy: TrainableClassifier, trained: TrainingState, plan: TrainingPlan, gate: Split
) -> Choice:
    """Ask the gate how far to go from the old weights towards the new ones.

    Args:
        setup: Holds the untouched student.
        copy: The trained student; its module is loaded with the weights of every point that is tried.
        trained: Where the training ended.
        plan: What was taught: its views estimate batch-norm statistics.
        gate: The part of the selection split that nothing else has read.
    """
    old = dict(setup.student.module.state_dict())  # shares their memory: the student is never changed
    new = trained.slow if trained.slow is not None else trained.weights
    if trained.diverged:
        note = f"training stopped: {trained.diverged}; the original weights are kept"
        return Choice(GateResult("diverged", 0.0, None if gate.labels is None else 0.0), old, new, (note,))
    ended = _point(setup, copy, old, new, setup.method.alpha, plan)
    if gate.labels is None:
        found = gather_evidence(setup, copy, old, ended, gate)
        return Choice(GateResult("unverified", 1.0, None, label_free=found), ended, ended)
    verdict = choose_alpha(_held(setup, copy, old, ended, plan, gate), setup.config.gate)
    if not setup.config.gate.ask:
        at_the_end = verdict.path[-1].delta.estimate if verdict.path[-1].alpha == 1.0 else None
        return Choice(replace(verdict, verdict="unverified", alpha=1.0, selection_delta=at_the_end), ended, ended)
    notes = (*_note_on_groups(verdict, setup.config.gate), *_note_on_classes(setup, gate))
    returned = _point(setup, copy, old, ended, verdict.alpha, plan) if verdict.alpha else old
    return Choice(verdict, returned, ended, notes)


def _note_on_groups(verdict: GateResult, config: GateConfig) -> tuple[str, ...]:
    """Say where few groups make the gate demand more than a small gain."""
    if verdict.groups is None or (least := least_gain(verdict.groups, config)) < MUCH_TO_ASK:
        return ()
    decide = "1 group decides" if verdict.groups == 1 else f"{verdict.groups} groups decide"
    return (
        f"{decide} on the gate part of the selection split: with so few, a gain below {least:.1f} points is not taken "
        "(gate.unseen_group); held-out samples of more groups would show smaller gains",
    )


def _note_on_classes(setup: TransferSetup, gate: Split) -> tuple[str, ...]:
    """Say how many classes nothing was decided about."""
    assert gate.labels is not None
    unjudged = len(setup.data.classes) - len(np.unique(gate.labels))
    if not unjudged:
        return ()
    return (
        f"{unjudged} of {len(setup.data.classes)} classes have no sample on the gate part: what the student gained or "
        "lost there was not judged",
    )


def _held(
    setup: TransferSetup, copy: TrainableClassifier, old: State, new: State, plan: TrainingPlan, split: Split
) -> Held:
    """Measure the old weights and every point of the path, one at a time, on the gate part of the selection split."""
    along = []
    for alpha in setup.config.gate.alphas:
        copy.module.load_state_dict(_point(setup, copy, old, new, alpha, plan))
        along.append(score_split(copy, split).argmax(1).numpy() == split.labels)
    return Held(
        predict(setup.student, split, setup.store).correct.numpy(),
        along,
        split.group,
        split.labels,
        setup.data.classes,
    )


def predict_after(
    copy: TrainableClassifier,
    ended: State,
    returned: State,
    test: Split,
    before: Predictions,
    teachers: tuple[Predictions, ...],
) -> TransferPredictions:
    """Score the test split with the weights of the end of training, and with those that are returned.

    Args:
        copy: Of the student; its module ends with the returned weights.
        ended: The weights of the end of training.
        returned: The weights that the gate chose.
        test: Plain samples.
        before: What the student predicted on them.
        teachers: What the teachers predict.
    """
    ungated = _with_weights(copy, ended, test, before)
    after = ungated if returned is ended else _with_weights(copy, returned, test, before)
    return TransferPredictions(before, after, ungated, teachers)


def _with_weights(student: TrainableClassifier, weights: State, split: Split, like: Predictions) -> Predictions:
    """Score plain samples with other weights; a logit that is not finite counts as 0."""
    student.module.load_state_dict(weights)
    return replace(like, logits=score_split(student, split).nan_to_num(0, 0, 0), model_fingerprint="")


def monitor_of(
    setup: TransferSetup, student: TrainableClassifier, tune: Split
) -> tuple[Monitor | None, tuple[str, ...]]:
    """Choose what is measured after each epoch: accuracy on the tune part, or without labels agreement.

    A student that learns agrees more with a teacher and less with what it was. One that is ruined agrees with no model.

    Returns:
        The monitor and no note; on too few samples no monitor, and a note that says so.
    """
    if len(tune) < MONITOR_SAMPLES:
        note = (
            f"the divergence stop is off but for numbers that are not finite: it would watch {len(tune)} samples, "
            f"and fewer than {MONITOR_SAMPLES} say little"
        )
        return None, (note,)
    return _monitor(setup, student, tune), ()


def _monitor(setup: TransferSetup, student: TrainableClassifier, split: Split) -> Monitor:
    if split.labels is None:
        asked = (setup.student, *setup.teachers)
        models = torch.stack([predict(model, split, setup.store).logits.argmax(1) for model in asked])
        return Monitor("agreement", lambda: _percent(models == score_split(student, split).argmax(1)))
    labels = torch.from_numpy(split.labels)[None]
    return Monitor("accuracy", lambda: _percent(labels == score_split(student, split).argmax(1)))


def _percent(same: Bool[Tensor, "K N"]) -> float:
    """Return the largest share of a row, in %."""
    return 100.0 * same.double().mean(1).max().item()


def _ensemble(setup: TransferSetup, split: Split) -> Int[Tensor, " N"]:
    """Return the class that the original student and the teachers give together, a few samples of all at a time."""
    models = (setup.student, *setup.teachers)
    for model in models:
        keep_answers(model, split, setup.store)
    known = known_by(models)
    return torch.cat([ensemble_probs(block, known).argmax(1) for block in answer_blocks(models, split, setup.store)])


def _point(
    setup: TransferSetup, copy: TrainableClassifier, old: State, new: State, alpha: float, plan: TrainingPlan
) -> State:
    """Return the weights at alpha, the same bits each time; the new ones themselves at 1.

    Batch-norm statistics that were trained are estimated anew between the ends.
    """
    return new if alpha == 1.0 else with_own_statistics(setup, copy, interpolate(old, new, alpha), plan)


def with_own_statistics(setup: TransferSetup, copy: TrainableClassifier, state: State, plan: TrainingPlan) -> State:
    """Return averaged weights with batch-norm statistics of their own, where training changes those.

    Args:
        setup: Says whether it does.
        copy: Its module computes the statistics, and is changed.
        state: Averaged weights; the right statistics for them are not the average of the statistics.
        plan: Its views estimate them.
    """
    if not setup.config.optim.train_statistics:
        return state
    copy.module.load_state_dict(state)
    a_step = sum(source.a_step for source in plan.sources)
    views = (view for source in plan.sources for view in _some_views(source, source.a_step / a_step))
    with torch.no_grad(), seeded(setup.config.seed, copy.device):
        for_module = ([copy.prepared(view.images(copy.preprocess))] for view in views)
        update_bn(for_module, Asked(copy.module))
    set_mode(copy.module, training=False)
    return snapshot(copy.module)


def _some_views(source: Source, share: float) -> Iterator[ViewBatch]:
    """Yield views of some samples of a source: a share of those that estimate statistics."""
    rows = stratified_sample(source.split, min(len(source.split), round(share * STATISTICS_SAMPLES)))
    for part in np.split(rows, batch_starts(len(rows), STATISTICS_BATCH, train_statistics=True)[1:]):
        yield source.views.batch(source.split, part, np.zeros(len(part), np.int64))


def gather_evidence(
    setup: TransferSetup, copy: TrainableClassifier, old: State, new: State, gate: Split
) -> tuple[Evidence, Evidence]:
    """Measure the old and the new weights on the gate part, reading no label; the copy's module is changed."""
    ensemble, found = _ensemble(setup, gate), []
    for state in (old, new):
        copy.module.load_state_dict(state)
        found.append(measure_evidence(copy, score_split(copy, gate), ensemble, gate, setup.views))
    return found[0], found[1]
