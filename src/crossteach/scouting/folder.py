"""Writes a scout's folder: `config.json`, `classes.parquet`, `pictures.json` with its pictures, last `scout.json`.

Where samples without labels were looked at, `questions.csv` and pictures of them too.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..answers.compact import CompactPredictions
from ..answers.store import Store
from ..data.pictures import write_pictures
from ..errors import ConfigError, DataError, first_line
from ..files import write_json
from ..functional.flips import count_by_class, strongest
from ..labels_file import QUESTIONS, require_unfilled
from ..models.mapped import file_of_map
from ..runs import RunFolder, open_run
from ..types import Classifier, Progress, Splits, no_progress
from .comparison import flips_between
from .embeddings import Embed, source_fingerprint
from .matching import Given
from .scout import require_comparable, scout_comparable
from .unlabelled import write_questions

MOST_PICTURES, A_PAIR, A_CLASS = 240, 12, 3
"""Pictures of all pairs together, of one pair, and of one class of a pair: a report has to stay small."""


def open_scout(
    models: Sequence[Classifier],
    data: Splits,
    out: Path,
    store: Store | None = None,
    overwrite: bool = False,
    progress: Progress = no_progress,
    embeddings: str | Embed | np.ndarray = "auto",
    ensembles: bool = True,
    controls: bool = False,
    force: bool = False,
    labels: Path | None = None,
    label_map: Given = None,
) -> dict[str, Any]:
    """Scout into a folder; one that the same command has filled is read instead.

    Args:
        models: At least two.
        data: See `scout`.
        out: The folder.
        store: Where answers are kept.
        overwrite: Whether to empty a folder that another configuration has used.
        progress: Told what is being done.
        embeddings: See `scout`.
        ensembles: See `scout`.
        controls: See `scout`.
        force: See `scout`.
        labels: See `scout`.
        label_map: See `scout`.

    Returns:
        The content of `scout.json`.

    Raises:
        ConfigError: If the labels lie in the folder.
        RunFolderError: If the folder holds another scout, or a transfer, or labels that would be lost.
        FolderInUseError: If another process fills the folder.
    """
    models, data, notes = require_comparable(models, data, force, label_map)
    if labels is not None and labels.resolve().is_relative_to(out.resolve()):
        raise ConfigError(f"{labels} lies in {out}, which is about to be written; give another folder as --out")
    config = {
        "command": "scout",
        "models": [{"spec": m.spec, "fingerprint": m.fingerprint, **file_of_map(m)} for m in models],
        "data": {"spec": data.opens_by, "fingerprint": data.fingerprint},
        "pools": [pool.spec for pool in data.pools],
        "labels": None if labels is None else _identified(labels),
        "embeddings": {
            "source": embeddings if isinstance(embeddings, str) else "of the caller",
            "fingerprint": source_fingerprint(embeddings),
        },
        "ensembles": ensembles,
        "controls": controls,
    }
    with open_run(out, config, overwrite, done="scout.json").working() as folder:
        if not folder.is_whole:
            require_unfilled([folder.path / QUESTIONS])
            asked = (models, data, store or Store(), progress, embeddings, ensembles, controls, notes, labels)
            found = scout_comparable(*asked)
            if data.test.labels is not None:
                folder.write_table("classes.parquet", class_table(found.answers.test))
                _write_pictures(folder, found.answers.test, found.summary, data)
            if found.unlabelled is not None:
                names = [model["name"] for model in found.summary["models"]]
                write_questions(found.unlabelled, names, data.classes, folder.path)
            folder.finish(found.summary)
        return folder.summary()


def _identified(labels: Path) -> dict[str, str]:
    """Say which file of labels was given, and what it holds."""
    try:
        return {"file": str(labels), "fingerprint": hashlib.blake2b(labels.read_bytes(), digest_size=16).hexdigest()}
    except OSError as error:
        raise DataError(
            f"{labels} cannot be read ({first_line(error)}); give {QUESTIONS} of a scout, filled in"
        ) from error


def class_table(test: Sequence[CompactPredictions]) -> dict[str, np.ndarray]:
    """Count the flips of every ordered pair in every class; classes without flips have no row."""
    labels, n_classes = test[0].labels, test[0].n_classes
    assert labels is not None
    columns: dict[str, list[np.ndarray]] = {
        name: [] for name in ("student", "teacher", "class", "positive", "negative")
    }
    for student, one in enumerate(test):
        for teacher, other in enumerate(test):
            found_flips = flips_between(one, other)
            flips = {"positive": found_flips.positive, "negative": found_flips.negative}
            counts = count_by_class(flips, labels, n_classes)
            found = np.flatnonzero(counts["positive"] + counts["negative"])
            pair = {"student": np.full(len(found), student), "teacher": np.full(len(found), teacher), "class": found}
            for name, part in (pair | {name: count[found] for name, count in counts.items()}).items():
                columns[name].append(part)
    return {name: np.concatenate(parts).astype(np.int32) for name, parts in columns.items()}


def _write_pictures(
    folder: RunFolder, test: Sequence[CompactPredictions], summary: dict[str, Any], data: Splits
) -> None:
    """Show what teachers know: of each student's first teacher, then of its second, up to `MOST_PICTURES` samples."""
    chosen: list[tuple[CompactPredictions, CompactPredictions, list[int]]] = []
    rows: set[int] = set()
    for student, teacher in _pairs_in_order(test, summary):
        best = strongest_flips(student, teacher)
        if len(rows | set(best)) > MOST_PICTURES:
            break
        rows |= set(best)
        chosen.append((student, teacher, best))
    files = write_pictures(data.test, sorted(rows), folder.path)
    entries = [
        {
            "student": student.model,
            "teacher": teacher.model,
            "samples": [_sample(row, files[row], data.classes, student, teacher) for row in best],
        }
        for student, teacher, best in chosen
    ]
    write_json(folder.path / "pictures.json", entries)


def _pairs_in_order(
    test: Sequence[CompactPredictions], summary: dict[str, Any]
) -> list[tuple[CompactPredictions, CompactPredictions]]:
    """Return every student with the teacher ranked first for it, then with the second, and so on."""
    named = {d.model: d for d in test}
    if summary["ranking"] is None:
        return [(named[pair["student"]], named[pair["teacher"]]) for pair in summary["pairs"]]
    lists = [[(named[r["student"]], named[t["teacher"]]) for t in r["teachers"]] for r in summary["ranking"]]
    return [pair for place in zip(*lists, strict=True) for pair in place]


def strongest_flips(student: CompactPredictions, teacher: CompactPredictions) -> list[int]:
    """Choose positive flips to show: classes with most of them first, in each those where the teacher is surest.

    Sure means: its probability of the right class exceeds the student's by most.

    Returns:
        Rows of the split; few of each class.
    """
    flips = flips_between(student, teacher)
    assert student.right is not None and teacher.right is not None
    surer = teacher.right.exp() - student.right.exp()
    rows: list[int] = []
    for c in flips.expertise(100.0).tolist():
        rows += strongest(surer, flips.positive & (flips.labels == c), A_CLASS).tolist()
        if len(rows) >= A_PAIR:
            break
    return rows[:A_PAIR]


def _sample(
    row: int, file: str, classes: Sequence[str], student: CompactPredictions, teacher: CompactPredictions
) -> dict[str, Any]:
    assert student.labels is not None
    return {
        "file": file,
        "sample": row,
        "label": classes[int(student.labels[row])],
        "student_says": classes[int(student.preds[row])],
        "student_confidence": float(student.confidence[row].exp()),
        "teacher_says": classes[int(teacher.preds[row])],
        "teacher_confidence": float(teacher.confidence[row].exp()),
    }
