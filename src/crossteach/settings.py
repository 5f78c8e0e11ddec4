"""Settings as users write them: `KEY=VALUE`, recipes of them by name, and those that differ from the defaults."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar, get_args, get_origin

from .config import TransferConfig, require_one_of
from .errors import ConfigError
from .specs import literal

Config = TypeVar("Config")


def changed(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that differ from the defaults, by their `--set` keys.

    Args:
        settings: As `TransferConfig.to_dict` writes them; in a file they may be those of another version.

    Example:
        >>> changed(with_settings(TransferConfig(), ["optim.lr=0.01"]).to_dict())
        {'optim.lr': 0.01}
    """
    return _differing(settings, TransferConfig().to_dict(), "")


def _differing(settings: Mapping[str, Any], defaults: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, dict) and isinstance(defaults.get(key), dict):
            found |= _differing(value, defaults[key], f"{prefix}{key}.")
        elif value != defaults.get(key):
            found[prefix + key] = value
    return found


COMPAT: dict[str, tuple[str, ...]] = {
    "paper": (
        "method=kl+dp",
        "optim.schedule=constant",
        "optim.warmup=0",
        "optim.weight_decay=0.0001",
        "optim.clip=1e6",
        "optim.train_statistics=true",
        "optim.probe_rates=0.0001,0.0003,0.001,0.003,0.01,0.03",
        "gate.ask=false",
    )
}
"""Settings of recipes that are not ours; docs/method.md says how they differ."""


def compatible(name: str) -> tuple[str, ...]:
    """Return the settings of a recipe.

    Raises:
        ConfigError: If there is none of that name.
    """
    require_one_of(COMPAT, "--compat", name)
    return COMPAT[name]


def with_settings(config: TransferConfig, settings: Sequence[str]) -> TransferConfig:
    """Return the config with `KEY=VALUE` strings applied.

    Example:
        >>> with_settings(TransferConfig(), ["optim.lr=0.01", "gate.alphas=0.5,1"]).optim.lr
        0.01

    Raises:
        ConfigError: If a key is unknown or a value out of range.
    """
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise ConfigError(f"a setting must read KEY=VALUE, as in optim.lr=0.01, not {setting!r}")
        config = _with(config, key.split("."), value, key)
    return config


def _with(config: Config, path: list[str], value: str, key: str) -> Config:
    assert is_dataclass(config) and not isinstance(config, type)
    known = {f.name for f in fields(config)}
    if path[0] not in known:
        raise ConfigError(f"unknown setting {key!r}; expected one of {', '.join(sorted(known))} at {path[0]!r}")
    current = getattr(config, path[0])
    if is_dataclass(current) and not isinstance(current, type):
        if len(path) == 1:
            inner = ", ".join(f"{key}.{f.name}" for f in fields(current))
            raise ConfigError(f"{key!r} is a group of settings; expected one of {inner}")
        return replace(config, **{path[0]: _with(current, path[1:], value, key)})
    if len(path) > 1:
        raise ConfigError(f"unknown setting {key!r}; {path[0]!r} is a single value")
    admitted = next(get_args(f.type) for f in fields(config) if f.name == path[0])
    return replace(config, **{path[0]: _read(value, current, key, admitted)})


def _read(text: str, current: object, key: str, admitted: tuple[object, ...]) -> object:
    """Read a value as the type that the field has now; an optional field takes a number, whole or not, or none."""
    if isinstance(current, tuple) or any(get_origin(kind) is tuple for kind in admitted):
        if text == "none" and type(None) in admitted:
            return None
        value: object = tuple(float(part) if _is_number(part) else _refuse(key, part) for part in text.split(","))
        return value
    value = literal(text)
    wanted, optional = type(current), type(None) in admitted
    if isinstance(current, str):
        return text
    if isinstance(current, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if optional and int in admitted:
        return value if value is None or type(value) is int else _refuse(key, text)
    if optional:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return float(value) if number else None if value is None else _refuse(key, text)  # type: ignore[arg-type]
    return value if isinstance(value, wanted) and type(value) is wanted else _refuse(key, text)


def _is_number(text: str) -> bool:
    value = literal(text)
    return isinstance(value, int | float) and not isinstance(value, bool)


def _refuse(key: str, text: str) -> object:
    raise ConfigError(f"setting {key} cannot be {text!r}; see the field's documentation in crossteach.config")
