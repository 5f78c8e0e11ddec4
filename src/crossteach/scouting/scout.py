"""N models on one data set: who knows what the others do not, what any combination could reach, and whom to ask first.

One pass per model and split, through the store; every pair is compared from compact predictions.
"""

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..answers.arguments import require_classifier, require_distinct, require_splits
from ..answers.check import (
    known_rows,
    name_weak,
    order_notes,
    order_problems,
    require_channels,
    require_label_space,
    steadiness_problem,
)
from ..answers.compact import CompactPredictions, compact, require_same_samples
from ..answers.mapping import mapping_notes
from ..answers.prediction import images_per_second, predict, stored_blocks
from ..answers.problem import Problem, refuse_or_say
from ..answers.store import Store
from ..data.cut import stratified_sample, tune_and_gate
from ..data.label_space import fit_label_space
from ..errors import ConfigError, ModelError
from ..functional.calibration import calibration_error, fit_temperature
from ..functional.ensembles import EnsembleAccuracies, ensemble_accuracies
from ..functional.flips import flip_matrix, percent
from ..functional.semantics import Closeness
from ..functional.statistics import balanced_accuracy
from ..models import MappedClassifier, random_copy
from ..models.scoring import answers_by_sample
from ..models.table import holds_answers
from ..types import Classifier, Predictions, Progress, Split, Splits, no_progress
from .comparison import describe_flips, describe_partitions, flips_between
from .embeddings import ClassSimilarity, Embed, class_similarity, source_fingerprint, wordnet_similarity
from .matching import Given, share_classes
from .ranking import predicted_gain, rank_teachers
from .unlabelled import Unlabelled, ask_unlabelled, describe_unlabelled

MOST_TRANSFER_SAMPLES = 10_000
"""Samples of the transfer set on which partitions are tried; a larger one is drawn from, class by class."""
MOST_FIT_SAMPLES = 2_500
"""Samples of the tune part that fit a temperature; one number needs no more."""
MEASURED = ("accuracy", "balanced_accuracy", "accuracy_top5", "ece", "ece_calibrated")
"""What is known of a model on test labels."""
TOP_5_FROM = 11
"""Classes from which top-5 accuracy is reported."""


@dataclass(frozen=True)
class Answers:
    """What every model said, in compact form, on the splits that are there for it."""

    test: tuple[CompactPredictions, ...]
    selection: tuple[CompactPredictions, ...]
    """On the tune part of the selection split."""
    transfer: tuple[CompactPredictions, ...]
    """On (a draw of) the transfer set."""
    temperatures: tuple[float | None, ...]
    """Fitted on the tune part; None where it has no labels."""


@dataclass(frozen=True)
class Scouting:
    """What a scout found."""

    answers: Answers
    summary: dict[str, Any]
    """The content of `scout.json`."""
    unlabelled: Unlabelled | None = None
    """What the models say of samples without labels, where there are any."""


def scout(
    models: Sequence[Classifier],
    data: Splits,
    store: Store | None = None,
    progress: Progress = no_progress,
    embeddings: str | Embed | np.ndarray = "auto",
    ensembles: bool = True,
    controls: bool = False,
    force: bool = False,
    labels: Path | None = None,
    label_map: Given = None,
) -> Scouting:
    """Compare models before any training: one pass each, then every ordered pair from the answers.

    Args:
        models: At least two, over the data's classes.
        data: The test split is reported; the tune part of selection fits temperatures and ranks teachers; on
            the transfer set partitions are tried. On the pools, and where no test sample has a label, the models are
            compared by their answers alone.
        store: Where answers are kept; None takes the user's cache folder.
        progress: Told what is being done.
        embeddings: How close class names are: `auto` (MiniLM where it is installed), `none`, FILE.npy,
            FILE.py:FUNCTION, an array [C, d], or a function of the names.
        ensembles: Whether mean-probability ensembles of every pair are measured: the only work that grows with
            pairs × samples × classes.
        controls: Whether a randomly initialised copy of each architecture stands beside the models.
        force: Whether to go on with a model whose answers differ from pass to pass, and say so.
        labels: A csv of a person's answers to `questions.csv` of a scout of the same models and pools.
        label_map: Where the classes of models with other classes than the data's belong; see `transfer`.

    Raises:
        ConfigError: If there are fewer than two models, or one twice, or controls are asked for without test labels.
        DataError: If the labels answer other questions.
        LabelSpaceError: If models and data do not share their classes.
        ModelError: If a model changes when it is asked, its answers differ from pass to pass without `force`, or a
            table answers no sample of test.
    """
    models, data, notes = require_comparable(models, data, force, label_map)
    return scout_comparable(models, data, store or Store(), progress, embeddings, ensembles, controls, notes, labels)


def scout_comparable(
    models: Sequence[Classifier],
    data: Splits,
    store: Store,
    progress: Progress,
    embeddings: str | Embed | np.ndarray,
    ensembles: bool,
    controls: bool,
    notes: Sequence[str] = (),
    labels: Path | None = None,
) -> Scouting:
    """Scout models that `require_comparable` has let through, which reads all their weights; see `scout`.

    `notes` are what it has returned.
    """
    started = time.perf_counter()
    measurable = data.test.labels is not None
    if controls and not measurable:
        raise ConfigError("--controls are measured on test labels, and there are none; drop it, or give labelled data")
    names = unique_names([model.name for model in models])
    closeness = _similarity(data.classes, embeddings, store)  # refused, if it is, before a model is asked
    answers = _ask(models, names, data, store, progress)
    measured = _ensembles(models, data.test, store, progress) if ensembles and measurable else None
    unlabelled = ask_unlabelled(models, data, store, progress)
    if labels is not None and unlabelled is None:
        raise ConfigError("--labels answers questions about samples without labels, and there are none; add --pool")
    summary = {
        "data": data.spec,
        "classes": list(data.classes),
        "n_test": len(data.test),
        "n_selection": len(data.selection),
        "n_transfer": len(answers.transfer[0].preds),
        "models": [
            _describe_model(model, name, index, answers, data)
            for index, (model, name) in enumerate(zip(models, names, strict=True))
        ],
        "controls": _controls(models, answers.test, data, store, progress) if controls else [],
        **compare(answers, data.classes, closeness, measured, progress),
        "pool": None if unlabelled is None else describe_unlabelled(unlabelled, names, data.classes, labels),
        "notes": [
            *notes,
            *mapping_notes(models, data.selection, store),
            *_notes(data),
            *_notes_on_models(models, names, answers, data.classes),
            *store.notes,
        ],
        "seconds": 0.0,
    }
    return Scouting(answers, {**summary, "seconds": round(time.perf_counter() - started, 2)}, unlabelled)


def require_comparable(
    models: Sequence[Classifier], data: Splits, force: bool = False, label_map: Given = None
) -> tuple[list[Classifier], Splits, list[str]]:
    """Raise what `scout` says it raises; return models and data over the same classes, and notes on what was let pass.

    Data take the models' classes where all models have as many, or the data none; else models take those of the data.
    """
    if len(models) < 2:
        raise ConfigError(f"scout compares models and needs at least two, not {len(models)}")
    require_splits(data)
    for number, model in enumerate(models, 1):
        require_classifier(model, f"model {number}")
    data = fit_label_space(data, models if data.classes else models[:1])
    models = share_classes(models, data.classes, label_map)
    for model in models:
        require_label_space(model, data)
        require_channels(model, data)
    unsteady = [problem for model in models if (problem := steadiness_problem(model, data))]
    require_distinct((model.spec, model.fingerprint) for model in models)
    for model in models:
        if not holds_answers(model, data.test).any():
            raise ModelError(f"{model.spec!r} answers no sample of test, on which a scout compares; leave it out")
    own = [model for model in models if isinstance(model, MappedClassifier) or answers_by_sample(model)]
    return (
        models,
        data,
        [*(note for model in own for note in getattr(model, "notes", ())), *refuse_or_say(unsteady, force)],
    )


def unique_names(names: Sequence[str]) -> list[str]:
    """Number the second and every further model of one name."""
    return [name if (k := names[:i].count(name)) == 0 else f"{name}#{k + 1}" for i, name in enumerate(names)]


def _ask(models: Sequence[Classifier], names: Sequence[str], data: Splits, store: Store, progress: Progress) -> Answers:
    """Let every model answer the three splits, one model at a time, and keep compact predictions."""
    transfer = data.train.labelled()
    if len(transfer) > MOST_TRANSFER_SAMPLES:
        transfer = transfer.take(stratified_sample(transfer, MOST_TRANSFER_SAMPLES))
    tune, _ = tune_and_gate(data.selection)  # the other part is the gate's: it decides on a teacher not chosen there
    few = torch.from_numpy(stratified_sample(tune, min(len(tune), MOST_FIT_SAMPLES)))
    test: list[CompactPredictions] = []
    on_selection: list[CompactPredictions] = []
    on_transfer: list[CompactPredictions] = []
    temperatures: list[float | None] = []
    for model, name in zip(models, names, strict=True):
        tuning = replace(predict(model, tune, store, progress), model=name)
        temperature = _temperature(tuning, few)
        temperatures.append(temperature)
        on_selection.append(compact(tuning))
        del tuning  # hundreds of megabytes where there are 1000 classes
        for kept, split in ((test, data.test), (on_transfer, transfer)):
            answered = replace(predict(model, split, store, progress), model=name)
            kept.append(compact(answered, temperature or 1.0))
    return Answers(tuple(test), tuple(on_selection), tuple(on_transfer), tuple(temperatures))


def _temperature(tuning: Predictions, few: Int[Tensor, " n"]) -> float | None:
    """Fit a temperature on some samples, those whose class the model knows; None where there is none."""
    if tuning.labels is None:
        return None
    few = few[known_rows(tuning, tuning.labels)[few]]
    return fit_temperature(tuning.logits[few], tuning.labels[few]) if len(few) else None


def _similarity(classes: Sequence[str], source: str | Embed | np.ndarray, store: Store) -> ClassSimilarity:
    """Return how close class names are; what a model reads is read once, as with samples."""
    fingerprint = source_fingerprint(source)
    if not fingerprint:
        return class_similarity(classes, source)
    classes_hash = hashlib.blake2b("\0".join(classes).encode(), digest_size=16).hexdigest()
    key = {"kind": "similarity", "source": fingerprint, "classes": classes_hash}
    if (kept := store.recall(key)) is None:
        found = class_similarity(classes, source)
        matrix = None if found.matrix is None else found.matrix.round(6).tolist()
        kept = {"matrix": matrix, "source": found.source, "missing": found.missing}
        store.remember(key, kept)
    matrix = None if kept["matrix"] is None else np.array(kept["matrix"], np.float32)
    return ClassSimilarity(matrix, kept["source"], fingerprint, kept["missing"])


def _ensembles(models: Sequence[Classifier], test: Split, store: Store, progress: Progress) -> EnsembleAccuracies:
    done = 0

    def counted() -> Iterator[tuple[Float[Tensor, "M B C"], Int[Tensor, " B"]]]:
        nonlocal done
        for logits, labels in stored_blocks(models, test, store):
            yield logits, labels
            done += len(labels)
            progress("ensembles", done, len(test))

    return ensemble_accuracies(counted(), len(models))


def _describe_model(model: Classifier, name: str, index: int, answers: Answers, data: Splits) -> dict[str, Any]:
    test, temperature = answers.test[index], answers.temperatures[index]
    measured: dict[str, float | None] = dict.fromkeys(MEASURED)
    said = test.answered
    if test.within_top is not None and test.labels is not None and bool(said.any()):
        measured = {
            "accuracy": test.accuracy,
            "balanced_accuracy": balanced_accuracy(test.correct[said].numpy(), test.labels[said].numpy()),
            "accuracy_top5": percent(test.within_top[said]) if len(data.classes) >= TOP_5_FROM else None,
            "ece": calibration_error(test.confidence[said].exp(), test.correct[said]),
            "ece_calibrated": None
            if temperature is None
            else calibration_error(test.calibrated[said].exp(), test.correct[said]),
        }
    return {
        "name": name,
        "spec": model.spec,
        **measured,
        "answered": int(said.sum()),
        **_of_known_classes(test, len(data.classes)),
        "temperature": temperature,
        "params": model.n_parameters or None,
        "family": model.family,
        "images_per_second": None if answers_by_sample(model) else round(images_per_second(model, data.test), 1),
        "fingerprint": model.fingerprint,
    }


def _of_known_classes(test: CompactPredictions, n_classes: int) -> dict[str, float | None]:
    """Count the classes that a model knows, and what it has right of their samples, in %."""
    if test.knows is None:
        accuracy = None if test.labels is None or not bool(test.answered.any()) else test.accuracy
        return {"known_classes": n_classes, "accuracy_known": accuracy}
    known = int(test.knows.sum())
    rows = None if test.labels is None else test.known_of(test.labels) & test.answered
    right = percent(test.correct[rows]) if rows is not None and bool(rows.any()) else None
    return {"known_classes": known, "accuracy_known": right}


def _controls(
    models: Sequence[Classifier], test: Sequence[CompactPredictions], data: Splits, store: Store, progress: Progress
) -> list[dict[str, Any]]:
    """Ask a random copy of each architecture: the complementary knowledge that chance gives."""
    rows, seen = [], set()
    for model, own in zip(models, test, strict=True):
        copy = random_copy(model)
        if copy is None or copy.fingerprint in seen or copy.fingerprint == model.fingerprint:
            continue  # a black box, one that is here already, or a factory that loads its own weights
        seen.add(copy.fingerprint)
        answered = compact(predict(copy, data.test, store, progress))
        flips = {student.model: percent(answered.correct & ~student.correct & student.answered) for student in test}
        rows.append({"name": copy.name, "of": own.model, "accuracy": answered.accuracy, "positive_flips": flips})
    return rows


def _notes(data: Splits) -> list[str]:
    notes = list(data.notes)
    if len(data.train) > MOST_TRANSFER_SAMPLES:
        notes.append(f"partitions are tried on {MOST_TRANSFER_SAMPLES:,} of {len(data.train):,} transfer samples")
    if data.selection.labels is None:
        notes.append("the selection split has no labels: no temperature is fitted, and no teacher is ranked by them")
    return notes


def _notes_on_models(
    models: Sequence[Classifier], names: Sequence[str], answers: Answers, classes: Sequence[str]
) -> list[str]:
    """Say which models are near chance or far below the best, or count the classes in another order."""
    parts = {"selection": answers.selection, "test": answers.test, "train": answers.transfer}
    labelled = {split: said for split, said in parts.items() if said[0].labels is not None}
    specs, first, problems = [model.spec for model in models], f"what {names[0]} says", dict[str, Problem]()
    for split, said in (labelled or {"selection": answers.selection}).items():
        problems = order_problems(specs, said, classes, first, split) | problems
    orders = [problem.found for problem in problems.values()]
    return [*orders, *order_notes(classes), *name_weak([f"model {name}" for name in names], answers.selection)]


def compare(
    answers: Answers,
    classes: Sequence[str],
    text: ClassSimilarity,
    measured: EnsembleAccuracies | None = None,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Compare every ordered pair, from compact predictions alone.

    Args:
        answers: Compact predictions of every model.
        classes: Their names.
        text: How close these names are.
        measured: Accuracies of mean-probability ensembles, where they were asked for.
        progress: Told how many pairs are done.

    Returns:
        `positive_flips`, `pairs`, `ceilings`, `ranking` and `semantics` of `scout.json`; the first three are empty
        where no test sample has a label.

    Raises:
        DataError: If models answered other samples, or the same in another order.
        LabelSpaceError: If they do not score the same classes.
    """
    for kept in (answers.test, answers.selection, answers.transfer):
        require_same_samples(kept)
    wordnet = wordnet_similarity(classes)
    closeness = [None if s.matrix is None else Closeness(s.matrix) for s in (text, wordnet)]
    labelled, measurable = (said[0].labels is not None for said in (answers.selection, answers.test))
    pairs: list[dict[str, Any]] = []
    ordered = list(permutations(range(len(answers.test)), 2)) if measurable else []
    for student, teacher in ordered:
        pair = describe_flips(answers.test[student], answers.test[teacher], classes, *closeness)
        if measured is not None:
            pair["ceilings"]["mean_probability"] = float(measured.pairs[student, teacher])
        pair["partition"] = describe_partitions(answers.transfer[student], answers.transfer[teacher], labelled)
        held_out = answers.selection[student], answers.selection[teacher]
        pair["predicted_gain"] = predicted_gain(*held_out) if labelled else None
        pairs.append({"student": answers.test[student].model, "teacher": answers.test[teacher].model, **pair})
        progress("pairs", len(pairs), len(ordered))
    return {
        "positive_flips": _flip_matrix(answers.test) if measurable else None,
        "pairs": pairs,
        "ceilings": _together(answers.test, measured),
        "ranking": _rank_all(answers.selection) if labelled else None,
        "semantics": _describe_semantics(text, wordnet),
    }


def _flip_matrix(test: Sequence[CompactPredictions]) -> list[list[float]]:
    """Return the positive flips of every pair in %, row student, column teacher; of a table those that it answers."""
    if all(bool(said.answered.all()) for said in test):
        found: list[list[float]] = flip_matrix(torch.stack([said.correct for said in test])).tolist()
        return found
    return [[percent(flips_between(student, teacher).positive) for teacher in test] for student in test]


def _together(test: Sequence[CompactPredictions], measured: EnsembleAccuracies | None) -> dict[str, float | None]:
    """Return what all models together reach, in %; None where no label tells."""
    if test[0].labels is None:
        return dict.fromkeys(("mean_probability", "most_confident", "oracle"))
    confident = torch.stack([d.confidence for d in test]).numpy().argmax(0)  # the earlier one on a tie
    correct = torch.stack([d.correct for d in test])
    return {
        "mean_probability": None if measured is None else measured.together,
        "most_confident": percent(correct[confident, torch.arange(correct.shape[1])]),
        "oracle": percent(correct.any(0)),
    }


def _rank_all(selection: Sequence[CompactPredictions]) -> list[dict[str, Any]]:
    return [
        {
            "student": student.model,
            "teachers": [asdict(r) for r in rank_teachers(student, [t for t in selection if t is not student])],
        }
        for student in selection
    ]


def _describe_semantics(text: ClassSimilarity, wordnet: ClassSimilarity) -> dict[str, Any]:
    return {"source": text.source, "missing": text.missing, "wordnet_missing": wordnet.missing}
