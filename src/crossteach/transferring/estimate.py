"""What the student has probably gained on samples without labels, by a judge that has learnt who is right where."""

import torch

from ..answers.prediction import predict, score_split
from ..data.cut import stratified_sample
from ..functional.averaging import State
from ..functional.judging import FEWEST, MOST_FIT, fit_judge
from ..types import Split, TrainableClassifier
from .measured import TransferPredictions
from .setup import TransferSetup

AT_ONCE = 4096
"""Samples that are judged at once."""


def estimate_delta(
    setup: TransferSetup, copy: TrainableClassifier, ended: State, found: TransferPredictions, tune: Split
) -> float | None:
    """Estimate the delta of the end of training on the test split, reading no label there.

    A judge learns on the tune part how probably the old student, the new one and each teacher are right, and says so of
    the test samples. It is a figure to compare by, not a proof: docs/pool.md says how far it was off.

    Args:
        setup: Its student, its teachers and its store.
        copy: Of the student; its module has the weights that it came with afterwards.
        ended: The weights of the end of training.
        found: What all predict on the test split.
        tune: The tune part of the selection split; of a large one the judge learns from a sample.

    Returns:
        Points; None where the tune part has too few labels.
    """
    if tune.labels is None or len(tune) < FEWEST:
        return None
    kept = {name: value.clone() for name, value in copy.module.state_dict().items()}
    copy.module.load_state_dict(ended)
    few = stratified_sample(tune, min(len(tune), MOST_FIT))
    new = score_split(copy, tune.take(few))
    copy.module.load_state_dict(kept)
    if not bool(new.isfinite().all()):
        return None
    old, *teachers = (predict(model, tune, setup.store).logits[few] for model in (setup.student, *setup.teachers))
    judge = fit_judge(torch.stack([old, new, *teachers]), torch.from_numpy(tune.labels[few]))
    logits = [each.logits for each in (found.before, found.ungated, *found.teachers)]
    parts = zip(*(torch.split(each, AT_ONCE) for each in logits), strict=True)
    right = torch.cat([judge(torch.stack(part)).sigmoid()[:2] for part in parts], 1).double().mean(1)
    return 100.0 * float(right[1] - right[0])
