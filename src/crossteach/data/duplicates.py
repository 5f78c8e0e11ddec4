"""Equal images in two splits: what is decided or measured on them was seen in training."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Int

from ..errors import DataError
from ..specs import Spec
from ..types import Split, SplitName

WORDS = ("drop", "keep", "unchecked")
"""What `?duplicates=` may say."""

PAIRS: tuple[tuple[SplitName, SplitName], ...] = (("selection", "train"), ("test", "train"), ("selection", "test"))
"""Which split loses an image that stands in which other; train loses none."""


@runtime_checkable
class _Digests(Protocol):
    """Inputs that tell their images apart."""

    keys: Int[np.ndarray, " N"]
    """Equal for equal images, and nearly always different for others."""

    def digests(self, rows: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]: ...


@dataclass(frozen=True)
class KeyedSplit:
    """A split with a key for each of its images."""

    split: Split
    keys: Int[np.ndarray, " N"]

    def confirm(self, some: Bool[np.ndarray, " N"]) -> Int[np.ndarray, " m"]:
        """Hash the whole content of some of its images."""
        inputs = self.split.inputs
        assert isinstance(inputs, _Digests)
        return inputs.digests(self.split.input_rows(np.flatnonzero(some)))


def settle_duplicates(spec: Spec, splits: dict[SplitName, Split]) -> list[str]:
    """Find images that stand in two splits, and take them out of selection and test.

    An image of train that stands in selection or test is taken out there. One that stands in selection and test is
    taken out of selection. `?duplicates=keep` leaves all where they are; `?duplicates=unchecked` does not look.

    Args:
        spec: Carries the option and names the data in messages.
        splits: Changed in place. Images with equal keys are compared by their whole content.

    Returns:
        What the user should know.

    Raises:
        DataError: If the option is unknown, or nothing would be left of a split.
    """
    wanted = spec.options.get("duplicates", WORDS[0])
    if wanted not in WORDS:
        raise DataError(f"option duplicates of {spec.text!r} must be one of {', '.join(WORDS)}, not {wanted!r}")
    known = {name: keyed(split) for name, split in splits.items()}
    if wanted == "unchecked":
        return []
    if any(split is None for split in known.values()):
        return ["whether the splits share images was not looked for: their contents are not all known"]
    found = {name: split for name, split in known.items() if split is not None}
    kind = splits["test"].inputs.kind
    notes, lost = [], {name: np.zeros(len(split), bool) for name, split in splits.items()}
    for name, other in PAIRS:
        equal = equal_images(found[name], found[other])
        if equal.any():
            notes.append(_say(name, other, f"{int(equal.sum())} of {len(equal)} {kind}s", kept=wanted == "keep"))
        lost[name] |= equal
    if wanted == "drop":
        for name, gone in lost.items():
            if len(gone) and gone.all():
                raise DataError(
                    f"all {len(gone)} {kind}s of the {name} split of {spec.text!r} stand in another split too, so "
                    f"nothing is left to judge by; give other {kind}s, or ?duplicates=keep"
                )
            if gone.any():
                splits[name] = splits[name].take(np.flatnonzero(~gone))
    return notes


def keyed(split: Split) -> KeyedSplit | None:
    """Return a split with the keys of its images; None where its inputs do not tell them apart."""
    if not isinstance(split.inputs, _Digests):
        return None
    return KeyedSplit(split, split.inputs.keys[split.input_rows(np.arange(len(split)))])


def equal_images(these: KeyedSplit, others: KeyedSplit) -> Bool[np.ndarray, " N"]:
    """Mark the images of one split that stand in another."""
    mine, theirs = np.isin(these.keys, others.keys), np.isin(others.keys, these.keys)
    if mine.any():
        mine[mine] = np.isin(these.confirm(mine), others.confirm(theirs))
    return mine


def _say(name: SplitName, other: SplitName, counted: str, kept: bool) -> str:
    done = (
        "and are kept: figures may be too good" if kept else f"and are taken out of {name}; ?duplicates=keep keeps them"
    )
    return f"{counted} of {name} stand in {other} too {done}"
