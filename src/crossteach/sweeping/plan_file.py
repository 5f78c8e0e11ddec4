"""The YAML file of a plan: its keys, and errors that name the line."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ..errors import ConfigError, CrossteachError, first_line

KEYS = (
    *("data", "pools", "models", "students", "teachers", "pairs", "methods", "seeds", "settings", "trust"),
    "label_map",
)


class KeysWithLines(dict[str, Any]):
    """A mapping of the file, and the line of each of its keys."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[str, int] = {}


class _Loader(yaml.SafeLoader):
    """Reads YAML, and refuses a key that stands twice instead of keeping the last."""


def _construct(loader: _Loader, node: Any) -> KeysWithLines:
    own = {id(key_node) for key_node, _ in node.value}
    loader.flatten_mapping(node)  # puts what << brings in before the mapping's own keys, which win
    found, brought = KeysWithLines(), set[str]()
    for key_node, value_node in node.value:
        key, line = loader.construct_object(key_node, deep=True), key_node.start_mark.line + 1
        if not isinstance(key, str) or (key in found and key not in brought):
            reason = "stands twice" if isinstance(key, str) else "is not a word"
            raise ConfigError(f"line {line} of the plan: the key {key!r} {reason}")
        brought = brought - {key} if id(key_node) in own else brought | {key}
        found[key] = loader.construct_object(value_node, deep=True)
        found.lines[key] = line
    return found


_Loader.add_constructor("tag:yaml.org,2002:map", _construct)


@dataclass(frozen=True)
class PlanFile:
    """The keys of a plan. An error about one of them names its line."""

    content: KeysWithLines
    path: Path

    def error(self, key: str, what: str) -> ConfigError:
        """Return an error about a key, with its line."""
        line = self.content.lines.get(key)
        where = f"line {line} of the plan {self.path}" if line else f"the plan {self.path}"
        return ConfigError(f"{where}: {what}")

    def refuse_unknown(self) -> None:
        """Raise ConfigError if the file has a key that is not one of `KEYS`."""
        for key in self.content:
            if key not in KEYS:
                raise self.error(key, f"unknown key {key!r}; expected one of {', '.join(KEYS)}")

    def checked(self, key: str, read: Callable[[], Any]) -> Any:
        """Add the line of the plan to an error that reading it raises."""
        try:
            return read()
        except CrossteachError as error:
            raise type(error)(str(self.error(key, f"{key}: {error}"))) from error

    def text(self, key: str) -> str:
        """Read a key as one spec."""
        value = self.content.get(key)
        if not isinstance(value, str):
            raise self.error(key, f"{key!r} must be one spec, as in {key}: glyphs, not {value!r}")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """Read a key as a list of specs, or as one; none where it is absent."""
        value = self.content.get(key, [])
        value = [value] if isinstance(value, str) else value
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise self.error(key, f"{key!r} must be a list of specs, as in {key}: [folder:pictures], not {value!r}")
        return tuple(value)

    def flag(self, key: str) -> bool:
        """Read a key as true or false; false where it is absent."""
        value = self.content.get(key, False)
        if not isinstance(value, bool):
            raise self.error(key, f"{key!r} must be true or false, not {value!r}")
        return value


def parse_plan(text: str, path: Path) -> PlanFile:
    """Read the keys of a plan.

    Raises:
        ConfigError: If the text is not YAML, not a mapping, or has a key that is unknown or stands twice.
    """
    try:
        content = yaml.load(text, _Loader)
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1} of the plan {path}" if mark else f"the plan {path}"
        raise ConfigError(f"{where} is not YAML: {getattr(error, 'problem', None) or first_line(error)}") from error
    if not isinstance(content, KeysWithLines):
        raise ConfigError(f"the plan {path} must be a mapping with the keys {', '.join(KEYS)}; see docs/sweep.md")
    file = PlanFile(content, path)
    file.refuse_unknown()
    return file
