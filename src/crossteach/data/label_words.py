"""Labels as people write them: words become class ids, and what is no single class is refused."""

import math
import re
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int

from ..errors import DataError
from ..types import NO_LABEL, SplitName
from .look import shown

ORDERS = ("auto", "text", "numbers")
"""What `?class_order=` may say."""
WHOLE = re.compile(r"([+-]?\d+)\.0*")
"""A whole number as a column with gaps writes it: 3.0."""
SEVERAL = re.compile(r"[^|]+(\|[^|]+)+|\[.+\]|\{.+\}", re.DOTALL)
"""What joins several classes in one cell: a|b, or a list. A class may be called | itself."""


@dataclass(frozen=True)
class LabelWords:
    """The labels of some samples, as their source writes them."""

    words: tuple[str, ...]
    """Each once, in the order in which they occur."""
    codes: Int[np.ndarray, " N"]
    """Which word each sample has; `NO_LABEL` for none."""


class WordCollector:
    """Collects words one by one, each kept once."""

    def __init__(self) -> None:
        self._code: dict[str, int] = {}
        self._codes = array("q")

    def add(self, word: str) -> None:
        """Add the word of the next sample; an empty one says that it has none."""
        self._codes.append(self._code.setdefault(word, len(self._code)) if word else NO_LABEL)

    def collected(self) -> LabelWords:
        """Return what was added."""
        return LabelWords(tuple(self._code), np.array(self._codes, np.int64))


def collect_words(words: Iterable[str]) -> LabelWords:
    """Keep each word once.

    Example:
        >>> collect_words(["cat", "", "cat"])
        LabelWords(words=('cat',), codes=array([   0, -100,    0]))
    """
    collector = WordCollector()
    for word in words:
        collector.add(word)
    return collector.collected()


def word_of(value: Any) -> str:
    """Write the value of a cell as a word; nothing, and what is not a number, is an empty one.

    Example:
        >>> [word_of(value) for value in (" cat ", 3, 3.0, None, float("nan"), ["a", "b"])]
        ['cat', '3', '3', '', '', 'a|b']
    """
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return ""
    if isinstance(value, list | tuple | np.ndarray):
        return "|".join(word_of(item) for item in value)
    if isinstance(value, float | np.floating) and not math.isfinite(value):
        return ""
    text = str(value).encode("utf-8", "backslashreplace").decode().strip()  # json can hold half a character
    return WHOLE.sub(r"\1", text) if WHOLE.fullmatch(text) else text


def number_labels(
    what: str, parts: Mapping[SplitName, LabelWords | None], order: str = "auto"
) -> tuple[list[str], dict[SplitName, Int[np.ndarray, " N"] | None], list[str]]:
    """Turn the words of all splits into class ids.

    Args:
        what: Names the data in messages.
        parts: The labels of each split; None has none.
        order: Of `ORDERS`.

    Returns:
        The class names in their order, the labels of each split, and what the user should know.

    Raises:
        DataError: If a sample has several labels, or the labels are measurements and not classes.
    """
    words = {word for part in parts.values() if part is not None for word in part.words}
    refuse_several(what, words)
    _refuse_measurements(what, words)
    classes, notes = in_order(words, order)
    code = {word: i for i, word in enumerate(classes)}
    labels: dict[SplitName, Int[np.ndarray, " N"] | None] = {}
    for name, part in parts.items():
        if part is None:
            labels[name] = None
            continue
        table = np.array([*(code[word] for word in part.words), NO_LABEL], np.int64)
        labels[name] = table[np.where(part.codes == NO_LABEL, len(part.words), part.codes)]
    return classes, labels, notes


def refuse_several(what: str, words: Iterable[str]) -> None:
    """Raise DataError if a word joins several classes."""
    several = next((word for word in sorted(words) if SEVERAL.fullmatch(word)), None)
    if several is not None:
        raise DataError(
            f"{what} has several labels for one sample, as {shown(several)!r}; crossteach teaches classifiers with one "
            "class a sample: give each sample one label, and write a | or brackets within a name otherwise"
        )


def _refuse_measurements(what: str, words: Iterable[str]) -> None:
    numbers = [word for word in sorted(words) if _is_number(word)]
    broken = [word for word in numbers if not float(word).is_integer()]
    if broken and len(numbers) == len(set(words)):
        raise DataError(
            f"the labels of {what} are measurements, as {broken[0]}, and no classes; crossteach teaches classifiers, "
            "not regression: give class names or class ids"
        )


def _is_number(word: str) -> bool:
    try:
        return math.isfinite(float(word))
    except ValueError:
        return False


def in_order(names: set[str], order: str, what: str = "classes") -> tuple[list[str], list[str]]:
    """Order classes as numbers or as text, and say which was taken where the two differ.

    Args:
        names: What they are called.
        order: Of `ORDERS`; `auto` orders as numbers what is all numbers.
        what: What they are, for the note.
    """
    orders = {"text": sorted(names), "numbers": sorted(sorted(names), key=by_number)}
    if orders["text"] == orders["numbers"]:
        return orders["text"], []
    are_numbers = all(name.isascii() and name.isdecimal() for name in names)
    taken = order if order in orders else "numbers" if are_numbers else "text"
    other = "text" if taken == "numbers" else "numbers"
    pairs = zip(orders[taken], orders[other], strict=True)
    start = max(0, next(i for i, (one, two) in enumerate(pairs) if one != two) - 1)
    several = ", ".join(shown(name) for name in orders[taken][start : start + 3])
    are = f"{what} are numbers" if are_numbers else f"the names of {what} hold numbers"
    note = f"{are} and are ordered as {taken} (…, {several}, …); ?class_order={other} orders them as {other}"
    return orders[taken], [note]


def by_number(name: str) -> list[str | int]:
    """Return the parts of a name, those of digits as numbers, to sort by: a9 comes before a10."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"([0-9]+)", name))]
