"""From raw parts to checked `Splits`: label ranges, lengths, and the selection cut."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int, Integer

from ..errors import DataError
from ..specs import Spec
from ..types import NO_LABEL, Inputs, Split, SplitName, Splits
from .cut import stratified_cut, stratified_sample
from .duplicates import settle_duplicates

OPTIONS = {"selection_from", "train_samples", "train_labels", "class_names", "duplicates"}
"""Data options that every source takes."""

SPLIT_NAMES: dict[SplitName, tuple[str, ...]] = {
    "train": ("train",),
    "selection": ("val", "valid", "validation", "selection"),
    "test": ("test",),
}
"""What a source may call each split; the first that is there is read."""

TEST_SHARE = 0.2
"""Share of train that is cut off for test where a source has neither a test nor a selection split."""

ID_BITS = 40


@dataclass(frozen=True)
class RawSplit:
    """What a source read for one split."""

    inputs: Inputs
    labels: Integer[np.ndarray, "..."] | None
    group: np.ndarray | None = None
    ids: Int[np.ndarray, " N"] | None = None


def assemble(
    spec: Spec,
    classes: Sequence[str],
    raw: dict[SplitName, RawSplit],
    notes: Sequence[str] = (),
) -> Splits:
    """Check the parts of a data set and put them together; what is missing is cut from the others, by a fixed seed.

    Args:
        spec: Names the data in messages and carries the options.
        classes: Class names; labels index them.
        raw: The splits that the source has. A missing train is empty beside two that judge: pools teach then.
        notes: What the source has to say.

    Raises:
        DataError: If there is nothing to teach, a split is empty, lengths differ, a label is out of range, two classes
            share a name, or all images of a split stand in another.
    """
    classes = _names(spec, classes)
    if "train" not in raw and not {"selection", "test"} <= set(raw):
        raise DataError(
            f"{spec.text!r} has no train split; give one (what else is missing is cut from it), or a selection and a "
            "test split beside pools"
        )
    splits = {name: _split(spec, name, part, len(classes)) for name, part in raw.items()}
    if "train" not in splits:
        splits["train"] = splits["test"].take(np.arange(0), "train")
        notes = [*notes, "there is no train split: pools alone teach"]
    kinds = {name: part.inputs.kind for name, part in raw.items()}
    if len(set(kinds.values())) > 1:
        raise DataError(f"the splits of {spec.text!r} hold {kinds}; give all of them the same kind")
    channels = {name: part.inputs.channels for name, part in raw.items()}
    if len(set(channels.values())) > 1:
        raise DataError(f"the splits of {spec.text!r} differ in channels: {channels}; give all of them the same")
    test_seen, without = _cut_test(splits)
    seen, cut = _cut_selection(spec, splits, test_seen)
    unlabelled = _leave_out_unlabelled(splits)
    equal = settle_duplicates(spec, splits)
    splits["train"] = _limit(spec, splits["train"])
    return Splits(
        spec=spec.text,
        classes=tuple(classes),
        train=splits["train"],
        selection=splits["selection"],
        test=splits["test"],
        selection_seen=seen,
        notes=(*notes, *without, *cut, *unlabelled, *equal, *_absent(splits, classes)),
        augmentation=default_augmentation(splits["train"].inputs),
    )


def default_augmentation(inputs: Inputs) -> str:
    """Small warps for grey or under 64 px (flips ruin digits and letters), crops and flips above, none for text."""
    if inputs.kind == "text" or (inputs.size is not None and 1 in inputs.size):
        return "none"
    small = inputs.size is not None and min(inputs.size) < 64
    return "warp" if inputs.channels == 1 or small else "crop"


def split_of(word: str) -> SplitName | None:
    """Return the split that a word names, if it names one.

    Example:
        >>> split_of("Validation"), split_of("extra")
        ('selection', None)
    """
    return next((name for name, words in SPLIT_NAMES.items() if word.lower() in words), None)


def default_ids(name: SplitName, count: int) -> Int[np.ndarray, " N"]:
    """Number the samples of a split whose source gives them no names."""
    return (("train", "selection", "test").index(name) << ID_BITS) + np.arange(count, dtype=np.int64)


def _cut_test(splits: dict[SplitName, Split]) -> tuple[bool, list[str]]:
    """Cut the test split where there is none: half of the selection, which no model learns from, else of train.

    Returns:
        Whether it was cut from train, and what the user should know.
    """
    if "test" in splits:
        return False, []
    origin: SplitName = "selection" if "selection" in splits else "train"
    share = 0.5 if origin == "selection" else TEST_SHARE
    cut, kept = stratified_cut(splits[origin], share)
    splits["test"], splits[origin] = splits[origin].take(cut, "test"), splits[origin].take(kept)
    note = f"there is no test split: {len(cut)} of {len(cut) + len(kept)} samples of {origin} were cut off for it"
    if origin == "train":
        note += ", by a fixed seed; models that were trained on these samples look better than they are"
    return origin == "train", [note]


def _cut_selection(spec: Spec, splits: dict[SplitName, Split], test_seen: bool) -> tuple[bool, list[str]]:
    """Cut the selection split where there is none or another is wanted.

    Returns:
        Whether its samples were of train, and what the user should know.
    """
    wanted = spec.options.get("selection_from")
    if wanted not in (None, "train", "test"):
        raise DataError(f"selection_from of {spec.text!r} must be train or test, not {wanted!r}")
    notes = []
    if "selection" in splits:
        if wanted is None:
            return False, []
        count = len(splits["selection"])
        notes.append(f"the selection split ({count} samples) is set aside: selection_from={wanted}")
    origin: SplitName = "test" if wanted == "test" else "train"
    seen = origin == "train"
    cut, kept = stratified_cut(splits[origin], 0.1 if seen else 0.5)
    splits["selection"], splits[origin] = splits[origin].take(cut, "selection"), splits[origin].take(kept)
    if seen:
        other = "" if test_seen else " or ?selection_from=test"
        notes.append(
            "selection was cut from train, which pretrained models may have memorised: rate, epoch and gate are "
            f"biased towards acceptance; better give a validation split{other}"
        )
    return seen or test_seen, notes


def _absent(splits: dict[SplitName, Split], classes: Sequence[str]) -> list[str]:
    """Say which classes have no sample in train or in test."""
    notes = []
    for name in ("train", "test"):
        labels = splits[name].labels
        if labels is not None and len(labels):
            absent = [classes[i] for i in np.setdiff1d(np.arange(len(classes)), labels)]
            if absent:
                notes.append(
                    f"{len(absent)} of {len(classes)} classes have no sample in {name}, {absent[0]!r} among them"
                )
    return notes


def _names(spec: Spec, classes: Sequence[str]) -> Sequence[str]:
    """Apply `?class_names=A,B,…`: some sources only number their classes."""
    if "class_names" not in spec.options:
        twice = [name for name, count in Counter(classes).items() if count > 1]
        if twice:
            raise DataError(
                f"the {len(classes)} class names of {spec.text!r} must differ, but {twice[0]!r} occurs more than once; "
                "rename one of them"
            )
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
    known = np.arange(0) if part.labels is None else part.labels[part.labels != NO_LABEL]
    if len(known):
        low, high = int(known.min()), int(known.max())
        if low < 0 or high >= n_classes:
            wrong = low if low < 0 else high
            raise DataError(
                f"labels of the {name} split of {spec.text!r} must lie in 0..{n_classes - 1}, but {wrong} occurs; "
                f"give class_names for every class, or renumber the labels ({NO_LABEL} says that a sample has none)"
            )
    ids = part.ids if part.ids is not None else default_ids(name, count)
    labels = part.labels.astype(np.int64) if part.labels is not None and len(known) else None
    names, group = coded_groups(part.group)
    return Split(name, part.inputs, ids, labels, group, group_names=names)


def coded_groups(group: np.ndarray | None) -> tuple[tuple[str, ...], Int[np.ndarray, " N"] | None]:
    """Return what the groups are called, in order, and the group of each sample as a position among them."""
    if group is None:
        return (), None
    names, code = np.unique(group, return_inverse=True)
    return tuple(map(str, names.tolist())), code.astype(np.int64)


def _leave_out_unlabelled(splits: dict[SplitName, Split]) -> list[str]:
    """Leave samples without a label out of selection and test, where others have one; say how many."""
    notes = []
    for name in ("selection", "test"):
        split, judging = splits[name], splits[name].labelled()
        if judging is not split:
            splits[name] = judging
            without = len(split) - len(judging)
            notes.append(f"{without} of {len(split)} samples of {name} have no label and judge nothing")
    return notes


def _limit(spec: Spec, train: Split) -> Split:
    """Apply `?train_samples=N` and `?train_labels=false`."""
    wanted = spec.whole("train_samples", len(train))
    if wanted < len(train):
        if wanted < 1:
            raise DataError(f"train_samples of {spec.text!r} must be at least 1, not {wanted}")
        train = train.take(stratified_sample(train, wanted))
    return train if spec.flag("train_labels", True) else replace(train, labels=None)
