"""The check before every transfer: a few samples of selection, and what a model on them should not look like."""

import numpy as np
import torch

from ..answers.problem import Problem
from ..answers.store import Store
from ..data.cut import stratified_sample
from ..models import MappedClassifier, Opened
from ..models.mapped import partial_knowledge
from ..models.scoring import answers_by_sample, provenance
from ..types import NO_ANSWER, Classifier, Split, Splits
from .checking import FEW, ask_as, gained, looks_trained, told_and_drawn
from .variants import Variant, cheap_variants, how_to_ask

SAMPLES = 200
"""Of selection that every model of a transfer is asked about."""


def quick_problem(model: Classifier, data: Splits, store: Store) -> Problem | None:
    """Say what is wrong with how a model is asked, or that it looks untrained; None if nothing is.

    Where selection has labels, another normalisation, the model's own preprocessing and channels in the other order are
    tried; where it has none, the answers are compared with those of random weights.

    Args:
        model: Of a table, and of what is no module, function or file, nothing is asked. A model that knows a part of
            the classes is asked about samples of these.
        data: Its selection split.
        store: Where what was found is kept.
    """
    own = model.inner if isinstance(model, MappedClassifier) else model
    if not isinstance(own, Opened) or answers_by_sample(own):
        return None
    selection = data.selection
    if selection.labels is None:
        return _untrained(own, selection.take(np.arange(len(selection))[:: max(1, len(selection) // SAMPLES)]), store)
    knows = partial_knowledge(model)
    if knows is not None:
        selection = selection.take(np.flatnonzero(knows.numpy()[selection.labels]))
    if own.preprocess.kind != "image" or not len(selection):
        return None
    few = selection.take(stratified_sample(selection, min(len(selection), SAMPLES)))
    return _asked_otherwise(own, few, store, model if isinstance(model, MappedClassifier) else None)


def _asked_otherwise(model: Opened, few: Split, store: Store, mapped: MappedClassifier | None) -> Problem | None:
    """Say that a model has far more right when it is asked otherwise."""
    assert few.labels is not None
    tried = [Variant("its own", model.preprocess), *cheap_variants(model, few)]
    key = {"kind": "asked otherwise", **provenance(mapped or model, few.fingerprint)}
    if (known := store.recall(key)) is None:
        known = {"preds": [_preds(model, few, variant, mapped) for variant in tried]}
        store.remember(key, known)
    correct, *others = torch.tensor(known["preds"]) == torch.from_numpy(few.labels)
    points, best = max(
        ((gained(right, correct, len(others)) or 0.0, k) for k, right in enumerate(others, 1)), default=(0.0, 0)
    )
    if not points:
        return None
    is_right = 100.0 * correct.double().mean().item()
    found = f"{model.spec!r} has {is_right:.1f}% right on {len(few)} samples of the selection split, and "
    return Problem(f"{found}{is_right + points:.1f}% with {tried[best].what}", how_to_ask(model, tried[best])[0])


def _preds(model: Opened, few: Split, variant: Variant, mapped: MappedClassifier | None) -> list[int]:
    """Return the classes that a model gives as a variant shows the samples; none where it cannot be asked so."""
    try:
        preds: list[int] = ask_as(model, few, variant, mapped).argmax(1).tolist()
    except Exception:  # a model of one size takes no other; the module is its user's and may raise anything
        if variant.preprocess == model.preprocess and not variant.flipped:
            raise
        return [NO_ANSWER] * len(few)
    return preds


def _untrained(model: Opened, few: Split, store: Store) -> Problem | None:
    """Say that answers tell no more of the samples than those of random weights do."""
    key = {"kind": "told and drawn", **provenance(model, few.fingerprint)}
    if (known := store.recall(key)) is None:
        plain = ask_as(model, few, Variant("its own", model.preprocess))
        known = dict(zip(("told", "drawn"), told_and_drawn(model, few, plain), strict=True))
        store.remember(key, known)
    told, drawn = known["told"], known["drawn"]
    if model.n_classes < 2 or len(few) < FEW or looks_trained(told, drawn):
        return None
    beside = "" if drawn is None else f", and those of a copy with random weights {100 * drawn:.1f}%"
    return Problem(
        f"{model.spec!r} looks untrained: its answers tell {100 * told:.1f}% of what they could{beside}",
        "give trained weights",
    )
