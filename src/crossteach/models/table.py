"""`predictions:FILE`: a table of another team's answers. It teaches by who a sample is, whatever view is shown."""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..data.cut import tune_and_gate
from ..data.look import shown
from ..errors import ModelError
from ..functional.unanswered import answered
from ..specs import Spec, nearest
from ..types import NO_ANSWER, Classifier, Family, Preprocess, Split, Splits
from .asking import sum_to_one
from .black_box import LEAST, Outputs, hash_of, read_options
from .table_file import AnswerFile, read_answer_file
from .table_samples import find_samples

UNMEASURED = 0.9
"""Probability that a bare label gets where no labelled sample tells how often such labels are right."""
LOWEST = -1e4
"""Logit that stands for minus infinity."""


@dataclass
class TableClassifier:
    """Answers that are known by the id of a sample: a classifier that looks at no pixel. It may teach, not learn."""

    spec: str
    name: str
    preprocess: Preprocess
    """Only its kind is read."""
    classes: tuple[str, ...] | None
    n_classes: int
    ids: Int[np.ndarray, " M"]
    """Of the samples that it answers, ascending."""
    known: Float[Tensor, "M C"]
    """Their logits."""
    identity: str
    """Hash of the file, and of how it was read."""
    notes: tuple[str, ...] = ()
    n_parameters: int = 0
    family: Family = "other"
    scoring_batch: int | None = None
    """Changes nothing: nothing is computed."""

    def answers(self, split: Split, index: Int[np.ndarray, " n"]) -> Float[Tensor, "n C"]:
        """Return the logits of some samples of a split; a row of NaN where there is no answer."""
        return self._of(split.ids[index])

    def _of(self, ids: Int[np.ndarray, " n"]) -> Float[Tensor, "n C"]:
        places = np.searchsorted(self.ids, ids).clip(max=len(self.ids) - 1)
        found = torch.from_numpy(np.asarray(self.ids[places] == ids))
        return torch.where(found[:, None], self.known[torch.from_numpy(places)], math.nan)

    def logits(self, images: Float[Tensor, "N c h w"]) -> Float[Tensor, "N C"]:
        """Refuse: a table knows samples by their ids alone.

        Raises:
            ModelError: Always.
        """
        raise ModelError(f"{self.spec!r} is a table of answers and cannot be shown anything; ask answers(split, index)")

    @property
    def device(self) -> torch.device:
        """The CPU, always."""
        return torch.device("cpu")

    @property
    def n_bytes(self) -> int:
        """Of memory that it holds."""
        return self.known.nbytes + self.ids.nbytes

    @property
    def fingerprint(self) -> str:
        """Hash of the file, how it was read, and which samples it was found to answer."""
        return self.identity

    def to(self, device: torch.device | str) -> "TableClassifier":
        """Return the table as it is: nothing is computed."""
        return self


def holds_answers(classifier: Classifier, split: Split) -> Bool[np.ndarray, " N"]:
    """Mark the samples of a split that a classifier answers: all, unless it is a table."""
    by_sample = getattr(classifier, "answers", None)
    if by_sample is None:
        return np.ones(len(split), bool)
    return answered(by_sample(split, np.arange(len(split)))).numpy()


def leaves_unanswered(classifier: Classifier, data: Splits) -> bool:
    """Tell whether a classifier has no answer to some sample that teaches or decides."""
    return not all(holds_answers(classifier, split).all() for split in (*data.taught, data.selection))


def load_table(spec: Spec, like: Splits | None) -> TableClassifier:
    """Open `predictions:FILE`, for these data.

    The option `outputs=logits|probabilities` says what the numbers are, where that cannot be told.

    Raises:
        ModelError: If the table cannot be read, does not fit the data, or answers nothing of what it is needed for.
        SpecError: If an option is unknown or out of range.
    """
    spec.refuse_unknown({"outputs"})
    outputs: Outputs | None = read_options(spec)["outputs"]
    if like is None:
        raise ModelError(f"{spec.text!r} answers for samples of certain data; name them (--data, like=)")
    file = read_answer_file(spec.path, repr(spec.text))
    rows, ids = find_samples(file, like, spec)
    logits, classes, said = _read_answers(file, rows, ids, like, outputs, spec)
    kept = answered(logits).numpy()
    order = np.flatnonzero(kept)[np.argsort(ids[kept])]
    logits, ids = logits[torch.from_numpy(order)], ids[order]
    hashed = hashlib.blake2b(hash_of([spec.path]).encode(), digest_size=16)
    hashed.update(json.dumps([logits.shape[1], classes]).encode() + ids.tobytes() + logits.numpy().tobytes())
    table = TableClassifier(
        spec=spec.text,
        name=spec.path.stem,
        preprocess=Preprocess(kind=like.test.inputs.kind),
        classes=classes or None,
        n_classes=logits.shape[1],
        ids=ids,
        known=logits,
        identity=hashed.hexdigest(),
    )
    strangers = len(file.keys) - len(rows)
    note = f"{strangers:,} of {len(file.keys):,} rows of {spec.path.name} are of no sample of these data"
    table.notes = (said, *([note] if strangers else []), *_coverage(table, like))
    return table


def _coverage(table: TableClassifier, data: Splits) -> list[str]:
    """Say how many samples of each split have an answer, where not all do.

    Raises:
        ModelError: If none of selection has one, or none of what teaches.
    """
    parts = [(split.name, split) for split in (data.train, data.selection, data.test) if len(split)]
    parts += [(f"the pool {pool.spec}", pool.split) for pool in data.pools]
    counts = [(name, split, int(holds_answers(table, split).sum())) for name, split in parts]
    taught = [count for _, split, count in counts if split.name in ("train", "pool")]
    for what, none in (
        ("selection, by which a teacher is judged", not any(n for _, s, n in counts if s.name == "selection")),
        ("train or a pool, so it has nothing to teach", bool(taught) and not any(taught)),
    ):
        if none:
            raise ModelError(
                f"{table.spec!r} answers no sample of {what}; look whether its ids, paths or rows are of these data"
            )
    return [
        f"{table.name} answers {count:,} of {len(split):,} samples of {name}; the other tutors teach the rest"
        if split.name in ("train", "pool")
        else f"{table.name} answers {count:,} of {len(split):,} samples of {name}"
        for name, split, count in counts
        if count < len(split)
    ]


def _read_answers(
    file: AnswerFile,
    rows: Int[np.ndarray, " m"],
    ids: Int[np.ndarray, " m"],
    data: Splits,
    outputs: Outputs | None,
    spec: Spec,
) -> tuple[Float[Tensor, "m C"], tuple[str, ...], str]:
    """Return logits of these rows, the names of their classes where there are any, and what was made of the file.

    Classes that are those of the data stand in the order of the data.
    """
    if file.labels is not None:
        classes = data.classes or tuple(sorted({label for label in file.labels if label}))
        logits, said = _of_labels(file.labels, rows, ids, classes, data, spec)
        return logits, classes, said
    logits, said = _of_scores(file, rows, outputs, spec)
    if file.classes is None:
        return logits, data.classes if logits.shape[1] == len(data.classes) else (), said
    if set(file.classes) != set(data.classes):
        return logits, file.classes, said
    return logits[:, [file.classes.index(name) for name in data.classes]], data.classes, said


def _of_scores(
    file: AnswerFile, rows: Int[np.ndarray, " m"], outputs: Outputs | None, spec: Spec
) -> tuple[Float[Tensor, "m C"], str]:
    """Return logits, and say what was made of the numbers."""
    assert file.scores is not None
    scores = torch.from_numpy(file.scores)
    nan = scores.isnan()
    partly = nan.any(1) & ~nan.all(1)
    if bool(partly.any()) or bool(scores.isposinf().any()):
        bad = int(torch.nonzero(partly | scores.isposinf().any(1))[0]) + 1
        raise ModelError(
            f"row {bad} of {spec.text!r} has an empty or infinite cell among its scores; leave all of them empty where "
            "there is no answer"
        )
    filled = scores[~nan.all(1)]
    if not len(filled):
        raise ModelError(f"{spec.text!r} holds no answer: all cells are empty")
    low, high = filled.min().item(), filled.max().item()
    found = outputs or _tell(filled, low, high, spec)
    if found == "probabilities" and low < 0:
        raise ModelError(f"{spec.text!r} has {low:.3g}, which is no probability; give outputs=logits")
    told = "as told" if outputs else "as they are positive and sum to 1"
    scores = scores[torch.from_numpy(rows)]
    if found == "probabilities":
        said = f"the answers of {spec.path.name} are probabilities, {told}: their logarithms are taken"
        return scores.clamp(min=LEAST).log(), said
    return scores.clamp(min=LOWEST), f"the answers of {spec.path.name} are taken for logits"


def _tell(filled: Float[Tensor, "m C"], low: float, high: float, spec: Spec) -> Outputs:
    if sum_to_one(filled):
        return "probabilities"
    if low >= 0 and high <= 1:
        raise ModelError(
            f"the answers of {spec.text!r} lie between 0 and 1 and do not sum to 1: give outputs=probabilities to take "
            "each as a share of their sum, or outputs=logits to take them as they are"
        )
    return "logits"


def _of_labels(
    labels: Sequence[str],
    rows: Int[np.ndarray, " m"],
    ids: Int[np.ndarray, " m"],
    classes: tuple[str, ...],
    data: Splits,
    spec: Spec,
) -> tuple[Float[Tensor, "m C"], str]:
    """Give each label the probability that such labels are right, and share the rest evenly among the other classes.

    It is measured on the labelled tune part of selection, as (right + 1) / (samples + 2), else `UNMEASURED`; no less
    than a little above chance, so that a label stays the answer.
    """
    codes = _codes(labels, classes, spec)[rows]
    tune = tune_and_gate(data.selection)[0]
    probability, how = UNMEASURED, "which nothing here measures"
    if tune.labels is not None:
        truth = dict(zip(tune.ids.tolist(), tune.labels.tolist(), strict=True))
        told = [(code, truth[i]) for i, code in zip(ids.tolist(), codes.tolist(), strict=True) if i in truth]
        told = [(code, label) for code, label in told if code != NO_ANSWER]
        if told:
            right = sum(code == label for code, label in told)
            probability = (right + 1) / (len(told) + 2)
            how = f"since {right} of {len(told)} are right on the labelled tune part of selection"
    n = len(classes)
    probability = max(probability, min(UNMEASURED, 1 / n + 0.01))
    logits = torch.full((len(rows), n), math.log((1 - probability) / max(1, n - 1)))
    known = torch.from_numpy(codes)
    logits[torch.arange(len(rows)), known.clamp(min=0)] = math.log(probability)
    logits[known == NO_ANSWER] = math.nan
    return logits, (
        f"{spec.path.name} holds labels alone: each gets the probability {probability:.3f}, {how}; the rest is shared "
        "evenly"
    )


def _codes(labels: Sequence[str], classes: tuple[str, ...], spec: Spec) -> Int[np.ndarray, " M"]:
    """Return the class of each label, by its name or, where none is a name, by its number."""
    number = {name: k for k, name in enumerate(classes)}
    words = {label for label in labels if label}
    if not words & number.keys() and all(word.isdecimal() and int(word) < len(classes) for word in words):
        number = {word: int(word) for word in words}
    unknown = sorted(words - number.keys())
    if unknown:
        meant = nearest(unknown[0], classes)
        hint = f"did you mean {meant!r}?" if meant else "give names of classes, or their numbers from 0"
        raise ModelError(f"{spec.text!r} has the label {shown(unknown[0])!r}, which is no class of the data; {hint}")
    return np.array([number[label] if label else NO_ANSWER for label in labels], np.int64)
