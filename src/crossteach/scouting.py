"""N models on one split: who knows what the others do not, and what any combination could reach."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .calibration import expected_calibration_error
from .check import require_channels, require_label_space, require_test_labels
from .errors import ConfigError
from .knowledge import (
    EXPERTISE_SHARES,
    ceilings,
    expertise_area,
    flip_entropy,
    flip_matrix,
    flips_by_class,
    positive_flips,
)
from .prediction import predict
from .runs import open_run
from .store import Store
from .types import Classifier, Predictions, Progress, Splits, no_progress


@dataclass(frozen=True)
class Scouting:
    """What a scout found."""

    predictions: tuple[Predictions, ...]
    """Of each model on the test split."""
    summary: dict[str, Any]
    """The content of `scout.json`."""


def scout(
    models: Sequence[Classifier],
    data: Splits,
    store: Store | None = None,
    progress: Progress = no_progress,
) -> Scouting:
    """Compare models on the test split: one pass each, then every ordered pair from the answers.

    Args:
        models: At least two, over the data's classes.
        data: Its test split is read.
        store: Where answers are kept; None takes the user's cache folder.
        progress: Told how many samples are done.

    Raises:
        ConfigError: If there are fewer than two models, or one twice.
        LabelSpaceError: If models and data do not share their classes.
    """
    started = time.perf_counter()
    require_comparable(models, data)
    store = store or Store()
    answers = tuple(predict(model, data.test, store, progress) for model in models)
    return Scouting(answers, _summarise(models, data, answers, started))


def require_comparable(models: Sequence[Classifier], data: Splits) -> None:
    """Raise what `scout` says it raises."""
    if len(models) < 2:
        raise ConfigError(f"scout compares models and needs at least two, not {len(models)}")
    require_test_labels(data)
    seen: dict[str, str] = {}
    for model in models:
        require_label_space(model, data)
        require_channels(model, data)
        if model.fingerprint in seen:
            raise ConfigError(f"{model.spec!r} is the same model as {seen[model.fingerprint]!r}; name it once")
        seen[model.fingerprint] = model.spec


def _summarise(
    models: Sequence[Classifier], data: Splits, answers: Sequence[Predictions], started: float
) -> dict[str, Any]:
    labels = answers[0].labels
    assert labels is not None
    correct = torch.stack([a.correct for a in answers])
    everyone = ceilings([a.logits for a in answers], labels)
    pairs = [
        _pair(models, answers, data.classes, student, teacher)
        for student in range(len(models))
        for teacher in range(len(models))
        if student != teacher
    ]
    return {
        "data": data.spec,
        "n_test": len(labels),
        "models": [
            {
                "name": model.name,
                "spec": model.spec,
                "accuracy": a.accuracy,
                "ece": expected_calibration_error(a.logits, labels),
                "params": model.n_parameters,
                "family": model.family,
                "fingerprint": model.fingerprint,
            }
            for model, a in zip(models, answers, strict=True)
        ],
        "positive_flips": flip_matrix(correct).tolist(),
        "pairs": pairs,
        "ceilings": vars(everyone),
        "notes": list(data.notes),
        "seconds": round(time.perf_counter() - started, 2),
    }


def _pair(
    models: Sequence[Classifier], answers: Sequence[Predictions], classes: Sequence[str], student: int, teacher: int
) -> dict[str, Any]:
    s, t = answers[student], answers[teacher]
    assert s.labels is not None
    flips = positive_flips(s.logits, t.logits, s.labels)
    counts = flips_by_class(flips, s.labels, len(classes))
    areas = {f"{share:g}": [classes[c] for c in expertise_area(counts, share).tolist()] for share in EXPERTISE_SHARES}
    return {
        "student": models[student].name,
        "teacher": models[teacher].name,
        "positive_flips": int(flips.sum()),
        "entropy": flip_entropy(counts),
        "uniform_entropy": torch.tensor(float(len(classes))).log().item(),
        "expertise": areas,
        "ceilings": vars(ceilings([s.logits, t.logits], s.labels)),
    }


def open_scout(
    models: Sequence[Classifier],
    data: Splits,
    out: Path,
    store: Store | None = None,
    overwrite: bool = False,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Scout into a folder; one that the same command has filled is read instead.

    Args:
        models: At least two.
        data: Its test split is read.
        out: Receives `config.json` and `scout.json`.
        store: Where answers are kept.
        overwrite: Whether to empty a folder that another configuration has used.
        progress: Told how many samples are done.

    Returns:
        The content of `scout.json`.

    Raises:
        RunFolderError: If the folder holds another scout, or a transfer.
    """
    require_comparable(models, data)
    config = {
        "command": "scout",
        "models": [{"spec": m.spec, "fingerprint": m.fingerprint} for m in models],
        "data": {"spec": data.spec, "fingerprint": data.fingerprint},
    }
    folder = open_run(out, config, overwrite, done="scout.json")
    if not folder.is_whole:
        folder.finish(scout(models, data, store, progress).summary)
    return folder.summary()
