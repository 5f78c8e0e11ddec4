"""N models on samples without labels: how they differ, who would probably gain from whom, and what to ask a person."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..answers.prediction import answer_blocks, predict
from ..answers.store import Store
from ..data.cut import stratified_sample, tune_and_gate
from ..data.pictures import write_pictures
from ..errors import ConfigError
from ..files import write_bytes
from ..functional.flips import percent
from ..functional.judging import MOST_FIT, Judge, fit_judge
from ..functional.unlabelled import (
    DrawnQuestions,
    beliefs,
    draw_questions,
    expected_gains,
    gains_by_labels,
    worth_asking,
)
from ..labels_file import FEWEST, NEITHER, QUESTIONS, read_labels, written_id
from ..models.table import holds_answers
from ..types import Classifier, Pool, Progress, Splits

MOST_SAMPLES = 10_000
"""Samples of all pools together that the models are asked about; of more, so many are drawn."""
JUDGED_FROM = 500
"""Labels of the tune part from which a judge says who is right. With fewer it ranks teachers worse than the ensemble
does, which needs none: benchmarks/unlabelled.py."""
MOST_QUESTIONS = 200


@dataclass(frozen=True)
class Unlabelled:
    """What N models say of samples without labels."""

    pools: tuple[Pool, ...]
    """The samples that they were asked about, a draw of each pool."""
    right: Float[Tensor, "K N"]
    """How probably each model is right."""
    preds: Int[Tensor, "K N"]
    by: str
    """Who says so: `judge`, learnt from labels of the selection split, or `ensemble`."""

    @cached_property
    def ids(self) -> Int[np.ndarray, " N"]:
        """Of the samples."""
        return np.concatenate([pool.split.ids for pool in self.pools])

    @cached_property
    def questions(self) -> DrawnQuestions:
        """The samples to ask a person about: always the same ones."""
        return draw_questions(worth_asking(self.right, self.preds), MOST_QUESTIONS)


def ask_unlabelled(models: Sequence[Classifier], data: Splits, store: Store, progress: Progress) -> Unlabelled | None:
    """Let all models answer a draw of the samples without labels: those of the pools, else of a test split without any.

    Returns:
        None where every sample has a label.
    """
    pools = data.pools
    if not pools and data.test.labels is None:
        pools = (Pool(data.spec, data.test, len(data.test)),)
    if not pools:
        return None
    pools = _draw(_distinct(_answered_by_all(models, pools)))
    if not pools:
        return None
    judge = _judge(models, data, store, progress)
    right, preds = [], []
    for pool in pools:
        for model in models:
            predict(model, pool.split, store, progress)
        for logits in answer_blocks(models, pool.split, store):
            right.append(beliefs(logits) if judge is None else judge(logits).sigmoid())
            preds.append(logits.argmax(2))
    return Unlabelled(pools, torch.cat(right, 1), torch.cat(preds, 1), "ensemble" if judge is None else "judge")


def _answered_by_all(models: Sequence[Classifier], pools: Sequence[Pool]) -> list[Pool]:
    """Leave out the samples that a table of answers does not hold: what all say of a sample is compared."""
    kept = []
    for pool in pools:
        rows = np.flatnonzero(np.all([holds_answers(model, pool.split) for model in models], 0))
        if gone := len(pool.split) - len(rows):
            left_out = {**pool.dropped, "without an answer of every model": gone}
            pool = replace(pool, split=pool.split.take(rows), dropped=left_out)
        if len(rows):
            kept.append(pool)
    return kept


def _distinct(pools: Sequence[Pool]) -> list[Pool]:
    """Take an image that stands in two pools once: it is one sample, and one question."""
    seen, kept = np.array([], np.int64), []
    for pool in pools:
        new = np.flatnonzero(~np.isin(pool.split.ids, seen))
        if again := len(pool.split) - len(new):
            pool = replace(pool, split=pool.split.take(new), dropped={**pool.dropped, "in an earlier pool": again})
        if len(new):
            kept.append(pool)
        seen = np.concatenate([seen, pool.split.ids])
    return kept


def _draw(pools: Sequence[Pool]) -> tuple[Pool, ...]:
    """Draw the same share of every pool, always the same samples."""
    share = min(1.0, MOST_SAMPLES / sum(len(pool.split) for pool in pools))
    rng = np.random.default_rng(0)
    counts = [max(1, int(share * len(pool.split))) for pool in pools]
    rows = [np.sort(rng.permutation(len(pool.split))[:count]) for pool, count in zip(pools, counts, strict=True)]
    return tuple(replace(pool, split=pool.split.take(few)) for pool, few in zip(pools, rows, strict=True))


def _judge(models: Sequence[Classifier], data: Splits, store: Store, progress: Progress) -> Judge | None:
    tune = tune_and_gate(data.selection)[0]
    tune = tune.take(np.flatnonzero(np.all([holds_answers(model, tune) for model in models], 0)))
    if tune.labels is None or len(tune) < JUDGED_FROM:
        return None
    few = torch.from_numpy(stratified_sample(tune, min(len(tune), MOST_FIT)))
    said = torch.stack([predict(model, tune, store, progress).logits[few] for model in models])  # not all of tune
    return fit_judge(said, torch.from_numpy(tune.labels)[few])


def describe_unlabelled(
    found: Unlabelled, names: Sequence[str], classes: Sequence[str], labels: Path | None
) -> dict[str, Any]:
    """Describe as JSON what answers without labels tell.

    Args:
        found: The answers.
        names: Of the models.
        classes: Their names.
        labels: A person's answers to the questions, where there are any.

    Raises:
        ConfigError: If there are too few answers.
        DataError: If they are not about these questions.
    """
    gains = expected_gains(found.right, found.preds)
    return {
        "pools": [
            {"pool": pool.spec, "samples": pool.found, "asked": len(pool.split), "dropped": dict(pool.dropped)}
            for pool in found.pools
        ],
        "by": found.by,
        "expected_accuracy": (100.0 * found.right.double().mean(1)).tolist(),
        "disagreement": [[percent(a != b) for b in found.preds] for a in found.preds],
        "expected_gain": gains.tolist(),
        "ranking": _rank(names, gains),
        "questions": len(found.questions.rows),
        "labelled": None if labels is None else _by_labels(found, names, classes, labels),
    }


def _rank(names: Sequence[str], gains: Float[Tensor, "K K"]) -> list[dict[str, Any]]:
    """Order the teachers of each student by what it would gain of them."""
    rows = []
    for s, student in enumerate(names):
        others = sorted((t for t in range(len(names)) if t != s), key=lambda t, s=s: (-gains[s, t].item(), names[t]))
        teachers = [{"teacher": names[t], "expected_gain": gains[s, t].item()} for t in others]
        rows.append({"student": student, "teachers": teachers})
    return rows


def write_questions(found: Unlabelled, names: Sequence[str], classes: Sequence[str], folder: Path) -> None:
    """Write the samples to ask a person about: a csv with what each model answers, and their pictures.

    They are in an order by lot: whoever labels fewer begins at the top.
    """
    files = np.empty(len(found.ids), object)
    rows, first = found.questions.rows, 0
    for number, pool in enumerate(found.pools, 1):
        here = rows[(rows >= first) & (rows < first + len(pool.split))] - first
        written = write_pictures(pool.split, here.tolist(), folder / f"pool-{number}")
        for row, file in written.items():
            files[first + row] = f"pool-{number}/{file}"
        first += len(pool.split)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("sample", "file", "label", *names))
    for row in rows.tolist():
        said = [classes[c] for c in found.preds[:, row].tolist()]
        writer.writerow((written_id(int(found.ids[row])), files[row], "", *said))
    write_bytes(folder / QUESTIONS, text.getvalue().encode())


def _by_labels(found: Unlabelled, names: Sequence[str], classes: Sequence[str], path: Path) -> dict[str, Any]:
    """Estimate from a person's labels what each student would gain of each teacher, in points on these samples."""
    asked = found.questions.rows
    given = read_labels(path, f"{QUESTIONS} of a scout of these models and pools", found.ids[asked], classes)
    if len(given) < max(1, min(FEWEST, len(asked))):
        raise ConfigError(f"{path} has {len(given)} labels, and fewer than {FEWEST} decide nothing; fill in more")
    number = {name: c for c, name in enumerate(classes)} | {NEITHER: -1}  # no model gives that class
    places = np.array(sorted(given), np.int64)
    labels = torch.tensor([number[given[place]] for place in places.tolist()])
    told = gains_by_labels(found.right, found.preds, found.questions.answered(places), labels)
    last = int(places.max(initial=-1))
    return {
        "asked": len(asked),
        "answered": len(places),
        "skipped": last + 1 - len(places),
        "neither": int((found.preds[:, asked[places]] != labels).all(0).sum()),
        "gain": told.gains.tolist(),
        "error": told.errors.tolist(),
        "ranking": _rank(names, told.gains),
    }
