"""Specs: the strings by which users name models and data, `SCHEME:REST@WEIGHTS?KEY=VALUE&KEY=VALUE`.

A sign that a spec would read as its own is written as in a URL: `%3F` for ?, `%40` for @, `%26` for &, `%3D` for =,
`%3A` for :, and `%25` for a % that stands before one of these codes. Every other % is itself. Spaces are plain.
"""

import difflib
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .errors import SpecError

HINT = "a path with ? or @ in it is written with %3F or %40, an & in an option with %26"
"""For messages about specs that may have been cut at the wrong place."""

NEAR = 0.75
"""How alike a word and a known one must be (difflib's ratio) to be taken for a slip of the keyboard."""

LONGEST, SHOWN = 255, 80
"""Bytes of a file's name, on any system; signs of a spec with a longer one that a message shows."""

CODE = "25|26|3A|3D|3F|40"
PYTHON = re.compile(r"((?:.+?\.py|[\w.]+):\w+)(?:@(.*))?", re.DOTALL)
"""`FILE.py:FACTORY` or `MODULE:FACTORY`, and the weights behind it: an @ in the file's own path separates nothing."""


@dataclass(frozen=True)
class Spec:
    """A spec taken apart."""

    text: str
    scheme: str
    rest: str
    weights: str | None = None
    options: dict[str, str] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """The rest as a path, in which an @ is part of a name."""
        return Path(self.rest if self.weights is None else f"{self.rest}@{self.weights}")

    @property
    def named(self) -> str:
        """What stands before its options."""
        return self.text.partition("?")[0]

    def instead(self, *meant: str) -> str:
        """Ask whether another name, or one of several, was meant, with the same options, as the end of a message."""
        return f"did you mean {' or '.join(name + self.text[len(self.named) :] for name in meant)}?"

    def refuse_unknown(self, known: set[str]) -> None:
        """Raise if an option is not among the known ones."""
        unknown = sorted(set(self.options) - known)
        if unknown:
            raise SpecError(
                f"{self.text!r} has the option {unknown[0]!r}, which {self.scheme}: does not know; "
                f"it takes {', '.join(sorted(known)) or 'none'} ({HINT})"
            )

    def number(self, key: str, default: float) -> float:
        """Read an option as a number."""
        try:
            return float(self.options.get(key, default))
        except ValueError:
            raise SpecError(f"option {key} of {self.text!r} must be a number, not {self.options[key]!r}") from None

    def whole(self, key: str, default: int) -> int:
        """Read an option as a whole number."""
        value = self.options.get(key)
        if value is not None and not value.isdecimal():
            raise SpecError(f"option {key} of {self.text!r} must be a whole number, not {value!r}")
        return default if value is None else int(value)

    def flag(self, key: str, default: bool) -> bool:
        """Read an option as true or false."""
        value = self.options.get(key)
        if value is None:
            return default
        if value.lower() not in ("true", "false"):
            raise SpecError(f"option {key} of {self.text!r} must be true or false, not {value!r}")
        return value.lower() == "true"


def parse_spec(text: str) -> Spec:
    """Take a spec apart.

    Example:
        >>> parse_spec("timm:resnet18@w.safetensors?num_classes=10").options
        {'num_classes': '10'}
        >>> parse_spec("npz:what%3F.npz").rest
        'what?.npz'

    Raises:
        SpecError: If an option is not KEY=VALUE, or is given twice, or a name is longer than any file's.
    """
    body, _, query = text.partition("?")
    scheme, colon, rest = body.partition(":")
    rest, weights = split_weights(scheme, rest)
    options: dict[str, str] = {}
    for part in filter(None, query.split("&")):
        key, equals, value = part.partition("=")
        if not equals or not key:
            raise SpecError(f"option {part!r} of {text!r} must read KEY=VALUE ({HINT})")
        if key in options:
            raise SpecError(f"{text!r} gives the option {key!r} twice; give it once")
        options[key] = unescape(value)
    whole = unescape(weights) if weights is not None else None
    parsed = Spec(text, scheme if colon else body, unescape(rest), whole, options)
    if "{" not in rest and any(
        len(os.fsencode(part)) > LONGEST for part in parsed.path.parts
    ):  # {…} stands for several
        raise SpecError(f"{text[:SHOWN]!r}… has a name of more than {LONGEST} bytes, and no file has; shorten it")
    return parsed


def split_weights(scheme: str, rest: str) -> tuple[str, str | None]:
    """Part what names a model, which has no @ of its own, from the file of its weights.

    Example:
        >>> split_weights("py", "me@home/zoo.py:small@runs/a@b.pt"), split_weights("timm", "resnet18")
        (('me@home/zoo.py:small', 'runs/a@b.pt'), ('resnet18', None))
    """
    if scheme == "py":
        found = PYTHON.fullmatch(rest)
        if found:
            return found[1], found[2]
    name, at, weights = rest.partition("@")
    return name, weights if at else None


def with_options(text: str, changes: Mapping[str, str]) -> str:
    """Write a spec with some of its options set: in place where it has them, else behind the others.

    Example:
        >>> with_options("timm:resnet18?mean=0.5&size=64", {"mean": "0", "crop": "0.9"})
        'timm:resnet18?mean=0&size=64&crop=0.9'
    """
    body, _, query = text.partition("?")
    given = dict(part.partition("=")[::2] for part in query.split("&") if part)
    options = "&".join(f"{key}={value}" for key, value in {**given, **changes}.items())
    return f"{body}?{options}" if options else body


def nearest(word: str, known: Collection[str]) -> str | None:
    """Return the known word that another is a slip of, if there is one.

    Example:
        >>> nearest("tim", ["py", "timm"]), nearest("magic", ["py", "timm"])
        ('timm', None)
    """
    return next(iter(difflib.get_close_matches(word.lower(), known, 1, NEAR)), None)


def names_repository(word: str) -> bool:
    """Tell ORG/NAME, as a hub has it, from a path: a folder called ORG is not there.

    Example:
        >>> names_repository("microsoft/resnet-50"), names_repository("./resnet-50"), names_repository("resnet-50")
        (True, False, False)
    """
    found = re.fullmatch(r"([\w-][\w.-]*)/[\w-][\w.-]*", word)
    return found is not None and not Path(found[1]).exists()


def escape(path: str | Path) -> str:
    """Write a path so that a spec reads it back as it is.

    Example:
        >>> escape("runs/what? a@b.npz")
        'runs/what%3F a%40b.npz'
    """
    return re.sub(rf"[?@]|%(?={CODE})", lambda sign: f"%{ord(sign[0]):02X}", str(path), flags=re.IGNORECASE)


def unescape(text: str) -> str:
    """Replace the codes of signs by the signs."""
    return re.sub(f"%({CODE})", lambda code: chr(int(code[1], 16)), text, flags=re.IGNORECASE)


def literal(value: str) -> int | float | bool | str | None:
    """Read a word as the number, truth value or None that it spells, else keep it.

    Example:
        >>> literal("3"), literal("0.5"), literal("true"), literal("none"), literal("gelu")
        (3, 0.5, True, None, 'gelu')
    """
    words: dict[str, bool | None] = {"true": True, "false": False, "none": None, "null": None}
    if value.lower() in words:
        return words[value.lower()]
    for number in (int, float):
        try:
            return number(value)
        except ValueError:
            continue
    return value
