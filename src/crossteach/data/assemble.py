"""From raw parts to checked `Splits`: label ranges, lengths, and the selection cut."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int, Integer

from ..errors import DataError
from ..specs import Spec
from ..types import Inputs, Split, SplitName, Splits
from .cut import stratified_cut, stratified_sample

OPTIONS = {"selection_from", "train_samples", "train_labels", "class_names"}
"""Data options that every source takes."""

ID_BITS = 40


@dataclass(frozen=True)
class RawSplit:
    """What a source read for one split."""

    inputs: Inputs
    labels: Integer[np.ndarray, "..."] | None
    group: np.ndarray | None = None
    ids: Int[np.ndarray, " N"] | None = None


def assemble(spec: Spec, classes: Sequence[str], raw: dict[SplitName, RawSplit], augmentation: str) -> Splits:
    """Check the parts of a data set and put them together.

    Args:
        spec: Names the data in messages and carries the options.
        classes: Class names; labels index them.
        raw: `train` and `test`, and `selection` where the source has one.
        augmentation: The default augmentation for this data.

    Raises:
        DataError: If a split is missing or empty, lengths differ, or a label is out of range.
    """
    classes = _names(spec, classes)
    for name in ("train", "test"):
        if name not in raw:
            raise DataError(f"{spec.text!r} has no {name} split; it needs train and test (and, better, a selection)")
    splits = {name: _split(spec, name, part, len(classes)) for name, part in raw.items()}
    notes = []
    wanted = spec.options.get("selection_from")
    if wanted not in (None, "train", "test"):
        raise DataError(f"selection_from of {spec.text!r} must be train or test, not {wanted!r}")
    seen = False
    channels = {name: part.inputs.channels for name, part in raw.items()}
    if len(set(channels.values())) > 1:
        raise DataError(f"the splits of {spec.text!r} differ in channels: {channels}; give all of them the same")
    if "selection" in splits and wanted is not None:
        notes.append(f"the selection split ({len(splits['selection'])} samples) is set aside: selection_from={wanted}")
    if "selection" not in splits or wanted is not None:
        origin: SplitName = "test" if wanted == "test" else "train"
        seen = origin == "train"
        share = 0.1 if seen else 0.5
        cut, kept = stratified_cut(splits[origin], share)
        splits["selection"], splits[origin] = splits[origin].take(cut, "selection"), splits[origin].take(kept)
        if seen:
            notes.append(
                "selection was cut from train, which pretrained models may have memorised: rate, epoch and gate are "
                "biased towards acceptance; better give a validation split or ?selection_from=test"
            )
    splits["train"] = _limit(spec, splits["train"])
    if splits["train"].labels is not None:
        present = np.unique(splits["train"].labels)
        absent = [classes[i] for i in np.setdiff1d(np.arange(len(classes)), present)]
        if absent:
            notes.append(f"{len(absent)} of {len(classes)} classes have no sample in train, {absent[0]!r} among them")
    return Splits(
        spec=spec.text,
        classes=tuple(classes),
        train=splits["train"],
        selection=splits["selection"],
        test=splits["test"],
        selection_seen=seen,
        fingerprint=_fingerprint(splits, classes),
        notes=tuple(notes),
        augmentation=augmentation,
    )


def _names(spec: Spec, classes: Sequence[str]) -> Sequence[str]:
    """Apply `?class_names=A,B,…`: some sources only number their classes."""
    if "class_names" not in spec.options:
        return classes
    given = spec.options["class_names"].split(",")
    if len(given) != len(classes) or len(set(given)) < len(given) or not all(given):
        raise DataError(
            f"class_names of {spec.text!r} must be {len(classes)} different names, joined by commas; "
            f"there are {len(given)}, {len(set(given))} of them different"
        )
    return given


def _split(spec: Spec, name: SplitName, part: RawSplit, n_classes: int) -> Split:
    count = len(part.inputs)
    if count == 0:
        raise DataError(f"the {name} split of {spec.text!r} is empty; it needs at least one sample")
    for what, values in (("labels", part.labels), ("groups", part.group)):
        if values is not None and values.ndim != 1:
            shape = list(values.shape)
            raise DataError(f"the {what} of the {name} split of {spec.text!r} must be one a sample, not {shape}")
        if values is not None and len(values) != count:
            raise DataError(f"the {name} split of {spec.text!r} has {count} samples but {len(values)} {what}")
    if part.labels is not None:
        low, high = int(part.labels.min()), int(part.labels.max())
        if low < 0 or high >= n_classes:
            wrong = low if low < 0 else high
            raise DataError(
                f"labels of the {name} split of {spec.text!r} must lie in 0..{n_classes - 1}, but {wrong} occurs; "
                "give class_names for every class, or renumber the labels"
            )
    code = ("train", "selection", "test").index(name)
    ids = part.ids if part.ids is not None else (code << ID_BITS) + np.arange(count, dtype=np.int64)
    labels = None if part.labels is None else part.labels.astype(np.int64)
    group = None if part.group is None else np.unique(part.group, return_inverse=True)[1].astype(np.int64)
    return Split(name, part.inputs, ids, labels, group)


def _limit(spec: Spec, train: Split) -> Split:
    """Apply `?train_samples=N` and `?train_labels=false`."""
    wanted = spec.whole("train_samples", len(train))
    if wanted < len(train):
        if wanted < 1:
            raise DataError(f"train_samples of {spec.text!r} must be at least 1, not {wanted}")
        train = train.take(stratified_sample(train, wanted))
    return train if spec.flag("train_labels", True) else replace(train, labels=None)


def _fingerprint(splits: dict[SplitName, Split], classes: Sequence[str]) -> str:
    """Hash everything that a result depends on: pixels, ids, order, labels, groups and class names."""
    hashed = hashlib.blake2b("\0".join(classes).encode(), digest_size=16)
    for name in sorted(splits):
        split = splits[name]
        hashed.update(f"{name}{split_fingerprint(split)}".encode())
        for values in (split.labels, split.group):
            hashed.update(b"none" if values is None else np.ascontiguousarray(values).tobytes())
    return hashed.hexdigest()


def split_fingerprint(split: Split) -> str:
    """Hash the pixels, ids and order of a split; labels and its name do not change what a model answers."""
    hashed = hashlib.blake2b(split.inputs.fingerprint.encode(), digest_size=16)
    hashed.update(np.ascontiguousarray(split.ids).tobytes())
    if split.rows is not None:
        hashed.update(np.ascontiguousarray(split.rows).tobytes())
    return hashed.hexdigest()
