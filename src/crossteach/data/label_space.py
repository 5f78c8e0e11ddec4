"""Data whose labels cover a part of what models know, or count it otherwise: names or ids decide."""

import re
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import numpy as np
from jaxtyping import Int

from ..errors import LabelSpaceError
from ..types import NO_LABEL, Classifier, Split, Splits

WORDNET_ID = re.compile(r"n\d{8}")
"""What ImageNet calls a class."""


def fit_label_space(data: Splits, classifiers: Sequence[Classifier]) -> Splits:
    """Return data over the classes of the models, in the models' own order where names or ids tell it.

    Data without any class, as a pool alone, take the classes of the models. Data that name their classes are matched
    by name with the first model that knows names, and WordNet ids with timm's list for so many classes. Data that only
    number them keep their ids. Nothing is done where the models differ among themselves, score fewer classes than the
    data, or know no names and score as many: that is checked elsewhere.

    Args:
        data: Its labels are renumbered.
        classifiers: The models, the student first.

    Raises:
        LabelSpaceError: If names of the data are none of the model's, or cannot be compared.
    """
    counts = {classifier.n_classes for classifier in classifiers}
    if len(counts) != 1 or (wanted := counts.pop()) < len(data.classes):
        return data
    known = next((c.classes for c in classifiers if c.classes is not None), None)
    whole = len(data.classes) == wanted
    if data.classes == known:
        return data
    numbers = tuple(map(str, range(wanted)))
    if not data.classes:
        return replace(data, classes=known or numbers)
    listed = imagenet_ids(data.classes, wanted)
    if known is not None and set(data.classes) <= set(known):
        ids, by = [known.index(name) for name in data.classes], "by name"
    elif known is None and not whole and set(data.classes) <= set(numbers):
        ids, by = [numbers.index(name) for name in data.classes], "by their ids"
    elif data.classes == numbers[: len(data.classes)] and (known is not None or not whole):
        ids, by = list(range(len(data.classes))), "by their ids"
    elif listed is not None:
        ids, by = [listed.index(name) for name in data.classes], "by WordNet id"
    elif whole:
        return data
    else:
        names = set(known or ())
        missing = next(name for name in data.classes if name not in names)
        raise LabelSpaceError(
            f"{data.spec!r} has {len(data.classes)} classes and the models {wanted}, of which "
            f"{'none is known by name' if known is None else f'none is called {missing!r}'}; name the classes as "
            "the models do, or leave names away so that labels are the models' own ids"
        )
    return _over(data, known or listed or numbers, np.array(ids), by)


def imagenet_ids(classes: Sequence[str], wanted: int) -> tuple[str, ...] | None:
    """Return timm's list of WordNet ids, in order, of models with so many classes.

    Returns:
        None where timm knows no such list or is not installed, or a class is not in it.
    """
    if not all(WORDNET_ID.fullmatch(name) for name in classes) or find_spec("timm") is None:
        return None
    import timm.data

    library: Any = timm.data  # it is not typed
    subset = library.infer_imagenet_subset({"num_classes": wanted})
    listed = tuple(library.ImageNetInfo(subset).label_names()) if subset else ()
    return listed if set(classes) <= set(listed) else None


def _over(data: Splits, classes: tuple[str, ...], ids: Int[np.ndarray, " c"], by: str) -> Splits:
    """Return data over other classes, of which its own are these; a note says so where that is not plain."""
    if data.classes == classes:
        return data
    splits = {split.name: _renumbered(split, ids) for split in (data.train, data.selection, data.test)}
    if len(ids) < len(classes):
        note = f"{data.spec} labels {len(ids)} of the models' {len(classes)} classes, found {by}"
    else:
        note = f"the classes of {data.spec} are called and ordered as the models' own, found {by}"
    return replace(
        data,
        classes=classes,
        train=splits["train"],
        selection=splits["selection"],
        test=splits["test"],
        notes=(*data.notes, note),
    )


def _renumbered(split: Split, ids: np.ndarray) -> Split:
    if split.labels is None:
        return split
    known = split.labels != NO_LABEL
    labels = split.labels.copy()
    labels[known] = ids[split.labels[known]]
    return replace(split, labels=labels)
