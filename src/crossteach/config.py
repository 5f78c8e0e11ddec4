"""The settings of a transfer: frozen dataclasses, checked when they are made; every field is a `--set` key."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from typing import Any, Literal, TypeVar, get_args

from .errors import ConfigError
from .specs import literal

Config = TypeVar("Config")
Precision = Literal["auto", "float32", "bfloat16", "float16"]


def _require(condition: bool, what: str, value: object) -> None:
    if not condition:
        raise ConfigError(f"{what}, not {value!r}")


@dataclass(frozen=True)
class OptimConfig:
    """How the student is trained."""

    epochs: int = 8
    """Passes over the transfer set."""
    lr: float | None = None
    """Peak learning rate; None asks a short probe on the tune half of the selection split."""
    batch_size: int = 128
    """Samples a step; the rate does not depend on it."""
    momentum: float = 0.9
    """Of SGD."""
    weight_decay: float = 0.0
    """Above 0 it pulls the student away from what it knows."""
    warmup: float = 0.05
    """Share of the steps over which the rate rises from 0; then it falls to 0 along a cosine."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    train_statistics: bool = False
    """Whether dropout, drop-path and batch norm run in train mode; by default they stay as in evaluation."""
    precision: Precision = "auto"
    """auto: float32 on CPU, bfloat16 on a GPU that has it, else float16 with loss scaling."""
    probe_rates: tuple[float, ...] = (0.003, 0.01, 0.03)
    """Learning rates the probe tries, ascending."""
    probe_steps: int = 50
    """Steps the probe gives each rate."""

    def __post_init__(self) -> None:
        _require(self.epochs >= 1, "optim.epochs must be at least 1", self.epochs)
        _require(self.lr is None or 0 < self.lr < math.inf, "optim.lr must be above 0", self.lr)
        _require(self.batch_size >= 1, "optim.batch_size must be at least 1", self.batch_size)
        _require(0 <= self.momentum < 1, "optim.momentum must lie in [0, 1)", self.momentum)
        _require(0 <= self.weight_decay < math.inf, "optim.weight_decay must be at least 0", self.weight_decay)
        _require(0 <= self.warmup < 1, "optim.warmup must lie in [0, 1)", self.warmup)
        _require(0 < self.clip < math.inf, "optim.clip must be above 0", self.clip)
        known = ("auto", "float32", "bfloat16", "float16")
        _require(self.precision in known, f"optim.precision must be one of {', '.join(known)}", self.precision)
        _require(
            len(self.probe_rates) > 0
            and 0 < min(self.probe_rates) <= max(self.probe_rates) < math.inf
            and list(self.probe_rates) == sorted(self.probe_rates),
            "optim.probe_rates must rise and be above 0",
            self.probe_rates,
        )
        _require(self.probe_steps >= 1, "optim.probe_steps must be at least 1", self.probe_steps)


@dataclass(frozen=True)
class ViewsConfig:
    """What the student and its tutors are shown."""

    count: int = 4
    """Views of each sample, shown in turn; 0 draws fresh ones and runs the tutors live."""
    augmentation: str = "auto"
    """warp, crop, none, FILE.py:FUNCTION, or auto: what suits the data."""
    strength: float = 1.0
    """Scales how far a view departs from its sample."""
    seed: int = 0
    """Of the views; the run's own seed only orders the samples, so that all seeds share the stored answers."""
    live: bool = False
    """Run the tutors in every step instead of reading their answers from the store."""

    def __post_init__(self) -> None:
        _require(self.count >= 0, "views.count must be at least 0", self.count)
        _require(0 <= self.seed < 2**31, "views.seed must lie in [0, 2**31)", self.seed)
        _require(0 <= self.strength <= 5, "views.strength must lie in [0, 5]", self.strength)


@dataclass(frozen=True)
class PartitionConfig:
    """What the student is pulled towards."""

    temperature: float = 1.0
    """T of the KL term."""
    kl_weight: float | None = None
    """Weight of KL against cross-entropy; None is the method's own."""
    slow_momentum: float | None = None
    """τ of the slow weights; None makes τ to the power of all updates 0.6, as in the paper's 10,000 steps."""
    slow_every: int = 2
    """Steps between two updates of the slow weights."""

    def __post_init__(self) -> None:
        _require(0 < self.temperature < math.inf, "partition.temperature must be above 0", self.temperature)
        _require(
            self.kl_weight is None or 0 <= self.kl_weight <= 1, "partition.kl_weight must lie in [0, 1]", self.kl_weight
        )
        _require(
            self.slow_momentum is None or 0 <= self.slow_momentum <= 1,
            "partition.slow_momentum must lie in [0, 1]",
            self.slow_momentum,
        )
        _require(self.slow_every >= 1, "partition.slow_every must be at least 1", self.slow_every)


@dataclass(frozen=True)
class GateConfig:
    """When the new weights are taken."""

    max_loss: float = 0.3
    """Points of accuracy that the lower bound may fall below zero."""
    level: float = 0.9
    """One-sided confidence of that bound."""
    alphas: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)
    """Points on the straight path from the old weights (0) to the new (1)."""

    def __post_init__(self) -> None:
        _require(0 <= self.max_loss <= 100, "gate.max_loss must lie in [0, 100] points", self.max_loss)
        _require(0.5 < self.level < 1, "gate.level must lie in (0.5, 1)", self.level)
        inside = len(self.alphas) > 0 and all(0 < alpha <= 1 for alpha in self.alphas)
        _require(
            inside and list(self.alphas) == sorted(self.alphas), "gate.alphas must rise within (0, 1]", self.alphas
        )


@dataclass(frozen=True)
class TransferConfig:
    """Everything that decides what a transfer computes."""

    method: str = "auto"
    """A name of methods.METHODS; auto takes the default for data with, or without, labels."""
    seed: int = 0
    """Of the order of samples."""
    time_budget: float | None = None
    """Minutes; lowers the number of epochs to what fits."""
    force: bool = False
    """Go on although the student answers like chance."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    views: ViewsConfig = field(default_factory=ViewsConfig)
    partition: PartitionConfig = field(default_factory=PartitionConfig)
    gate: GateConfig = field(default_factory=GateConfig)

    def __post_init__(self) -> None:
        _require(0 <= self.seed < 2**31, "seed must lie in [0, 2**31)", self.seed)
        _require(
            self.time_budget is None or 0 < self.time_budget < math.inf,
            "time_budget must be above 0",
            self.time_budget,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, strings, lists and dictionaries."""
        return asdict(self, dict_factory=_plain)


def _plain(items: list[tuple[str, Any]]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in items}


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
    optional = any(type(None) in get_args(f.type) for f in fields(config) if f.name == path[0])
    return replace(config, **{path[0]: _read(value, current, key, optional)})


def _read(text: str, current: object, key: str, optional: bool) -> object:
    """Read a value as the type that the field has now; an optional field takes a number or none."""
    if isinstance(current, tuple):
        value: object = tuple(float(part) if _is_number(part) else _refuse(key, part) for part in text.split(","))
        return value
    value = literal(text)
    wanted = type(current)
    if isinstance(current, str):
        return text
    if isinstance(current, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if optional:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return float(value) if number else None if value is None else _refuse(key, text)  # type: ignore[arg-type]
    return value if isinstance(value, wanted) and type(value) is wanted else _refuse(key, text)


def _is_number(text: str) -> bool:
    value = literal(text)
    return isinstance(value, int | float) and not isinstance(value, bool)


def _refuse(key: str, text: str) -> object:
    raise ConfigError(f"setting {key} cannot be {text!r}; see the field's documentation in crossteach.config")
