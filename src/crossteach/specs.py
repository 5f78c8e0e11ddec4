"""Specs: the strings by which users name models and data, `SCHEME:REST@WEIGHTS?KEY=VALUE&KEY=VALUE`."""

from dataclasses import dataclass, field
from pathlib import Path

from .errors import SpecError


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

    def refuse_unknown(self, known: set[str]) -> None:
        """Raise if an option is not among the known ones."""
        unknown = sorted(set(self.options) - known)
        if unknown:
            raise SpecError(
                f"{self.text!r} has the option {unknown[0]!r}, which {self.scheme}: does not know; "
                f"it takes {', '.join(sorted(known)) or 'none'}"
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

    Raises:
        SpecError: If an option is not KEY=VALUE.
    """
    body, _, query = text.partition("?")
    scheme, colon, rest = body.partition(":")
    rest, at, weights = rest.rpartition("@") if "@" in rest else (rest, "", "")
    options = {}
    for part in filter(None, query.split("&")):
        key, equals, value = part.partition("=")
        if not equals:
            raise SpecError(f"option {part!r} of {text!r} must read KEY=VALUE")
        options[key] = value
    return Spec(text, scheme if colon else body, rest, weights if at else None, options)


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
