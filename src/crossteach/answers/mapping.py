"""What a model with other classes than the student's says outside the classes that they share."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from ..data.cut import stratified_sample
from ..data.views import plain_images
from ..functional.unanswered import answered
from ..models.mapped import MappedClassifier
from ..models.scoring import CHUNK, ask, provenance
from ..types import Classifier, Split
from .store import Store

ASKED = 1024
"""Samples of the selection split of which the probability outside is the mean."""


def describe_mapping(model: MappedClassifier, split: Split, store: Store) -> dict[str, Any]:
    """Describe as JSON how a model's classes were mapped, and what lies outside.

    Args:
        model: It is asked about some samples, once.
        split: The selection split; no label is read but to draw samples.
        store: Where the mean is kept.

    Returns:
        `model`, `classes` (its own), `used` (of them), `known` (of the student's), `how`, and `outside`: the mean
        probability that falls into classes that belong to none of the student's, in %.
    """
    return {
        "model": model.name,
        "classes": len(model.belongs),
        "used": int((model.belongs >= 0).sum()),
        "known": int(model.knows.sum()),
        "how": model.how,
        "outside": _outside(model, split, store),
    }


def _outside(model: MappedClassifier, split: Split, store: Store) -> float:
    if bool((model.belongs >= 0).all()):
        return 0.0
    key = {"kind": "outside", **provenance(model, split.fingerprint)}
    known = store.recall(key)
    if known is None:
        rows = stratified_sample(split, min(len(split), ASKED))
        parts = np.split(rows, range(CHUNK, len(rows), CHUNK))
        asked = (ask(model.inner, split, part, partial(plain_images, split, part)) for part in parts)
        outside = torch.cat([model.outside(logits[answered(logits)]) for logits in asked])
        known = {"outside": 100.0 * outside.double().mean().item() if len(outside) else 0.0}
        store.remember(key, known)
    return float(known["outside"])


def mapping_notes(models: Sequence[Classifier], split: Split, store: Store) -> list[str]:
    """Say of each mapped model what lies outside its map, where anything does."""
    found = (describe_mapping(model, split, store) for model in models if isinstance(model, MappedClassifier))
    return [
        f"{each['outside']:.1f}% of what {each['model']} says of the selection split lies in classes that are none of "
        "the student's"
        for each in found
        if each["outside"]
    ]
