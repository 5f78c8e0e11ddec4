"""Data whose labels cover only a part of what models know: names or ids decide which part."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..errors import LabelSpaceError
from ..types import NO_LABEL, Classifier, Split, Splits


def fit_label_space(data: Splits, classifiers: Sequence[Classifier]) -> Splits:
    """Return data over the classes of the models, where the data know fewer of them.

    Data without any class, as a pool alone, take the classes of the models. Data that name their classes are matched
    by name with the first model that knows names. Data that only number them keep their ids. Nothing is done where
    models and data have as many classes, or the models differ among themselves: that is checked elsewhere.

    Args:
        data: Its labels are renumbered.
        classifiers: The models, the student first.

    Raises:
        LabelSpaceError: If names of the data are none of the model's, or cannot be compared.
    """
    counts = {classifier.n_classes for classifier in classifiers}
    if len(counts) != 1 or (wanted := counts.pop()) <= len(data.classes):
        return data
    named = next((c for c in classifiers if c.classes is not None), None)
    names = tuple(map(str, range(wanted))) if named is None else named.classes
    assert names is not None
    if not data.classes:
        return replace(data, classes=names)
    if data.classes == tuple(map(str, range(len(data.classes)))) and not set(data.classes) <= set(names):
        ids, by = np.arange(len(data.classes)), "by their ids"
    elif set(data.classes) <= set(names):
        ids, by = np.array([names.index(name) for name in data.classes]), "by name" if named else "by their ids"
    else:
        missing = [name for name in data.classes if name not in names]
        raise LabelSpaceError(
            f"{data.spec!r} has {len(data.classes)} classes and the models {wanted}, of which "
            f"{'none is known by name' if named is None else f'none is called {missing[0]!r}'}; name the classes as "
            "the models do, or leave names away so that labels are the models' own ids"
        )
    note = f"{data.spec} labels {len(ids)} of the models' {wanted} classes, found {by}"
    splits = {split.name: _renumbered(split, ids) for split in (data.train, data.selection, data.test)}
    return replace(
        data,
        classes=names,
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
