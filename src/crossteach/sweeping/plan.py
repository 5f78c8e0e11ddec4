"""A plan of many transfers: one YAML file, read and checked before any model is opened."""

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from ..config import TransferConfig
from ..data.label_map import LabelMap, read_label_map
from ..errors import ConfigError, SpecError, TrustError, first_line
from ..settings import with_settings
from ..specs import escape, split_weights, unescape
from ..transferring.methods import AUTO, find_method
from .plan_file import PlanFile, parse_plan

WITH_WEIGHTS = ("py", "timm", "torchvision")
"""Schemes in which an @ parts a name from a file of weights."""
METHOD_KEYS = ("method", "name", "settings")
OWN_KEYS = {"method": "methods", "seed": "seeds"}
"""Settings that have a key of their own in a plan."""


@dataclass(frozen=True)
class PlannedMethod:
    """A method with its settings, under the name that the results bear."""

    name: str
    method: str
    settings: tuple[str, ...] = ()

    @property
    def asks_teachers(self) -> bool:
        """Whether there is one job for each teacher, or one for each student."""
        return self.method in AUTO or find_method(self.method).teachers


@dataclass(frozen=True)
class Pair:
    """A student and its teachers."""

    student: str
    teachers: tuple[str, ...]


@dataclass(frozen=True)
class Job:
    """One transfer of a plan."""

    student: str
    teachers: tuple[str, ...]
    method: str
    """The name of the planned method."""
    config: TransferConfig


@dataclass(frozen=True)
class Plan:
    """The content of a plan: data, models, methods, seeds and settings."""

    data: str | None
    """None where there are only pools."""
    students: tuple[str, ...]
    pairs: tuple[Pair, ...]
    methods: tuple[PlannedMethod, ...]
    seeds: tuple[int, ...]
    settings: tuple[str, ...]
    text: str
    """The file as it was."""
    trust: bool = False
    """Whether code runs that the plan names outside its `py:` models."""
    pools: tuple[str, ...] = ()
    """Specs of unlabelled images that teach too."""
    label_map: LabelMap | None = None
    """Where the classes of teachers with other classes than the data's belong."""

    @property
    def models(self) -> tuple[str, ...]:
        """Every model, students first."""
        teachers = (t for pair in self.pairs for t in pair.teachers)
        return tuple(dict.fromkeys((*self.students, *teachers)))

    def jobs(self) -> list[Job]:
        """List the transfers, those of one student side by side; a control runs once a student and seed."""
        listed = []
        for student, seed, method in product(self.students, self.seeds, self.methods):
            given = [*self.settings, *method.settings, f"method={method.method}", f"seed={seed}"]
            config = with_settings(TransferConfig(), given)
            lessons = [p.teachers for p in self.pairs if p.student == student] if method.asks_teachers else [()]
            listed += [Job(student, teachers, method.name, config) for teachers in lessons]
        return listed


def read_plan(path: Path, seed: int = 0, trust: bool = False) -> Plan:
    """Read a plan.

    Args:
        path: The YAML file; its keys stand in docs/sweep.md.
        seed: Of every job, where the plan names no seeds.
        trust: Whether its user vouches for the code that it names; so does `trust: true` in it.

    Raises:
        TrustError: If a setting names a Python file, and its user does not vouch for it.
        ConfigError: If a key, a method or a setting is unknown, or says nothing that could be run.
        SpecError: If a pattern matches no file.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the plan {path} cannot be read ({first_line(error)}); give a YAML file") from error
    file = parse_plan(text, path)
    methods = _read_methods(file)
    students, pairs = _read_pairs(file, any(m.asks_teachers for m in methods))
    settings = file.checked("settings", lambda: read_settings(file.content.get("settings")))
    trust = file.flag("trust") or trust
    pools = file.texts("pools")
    data = file.text("data") if "data" in file.content or not pools else None
    label_map = (
        file.checked("label_map", lambda: read_label_map(file.text("label_map")))
        if "label_map" in file.content
        else None
    )
    plan = Plan(data, students, pairs, methods, _read_seeds(file, seed), settings, text, trust, pools, label_map)
    for method in methods:
        file.checked("methods", lambda m=method: _require_trust([*settings, *m.settings], trust))
    return plan


def _require_trust(settings: Sequence[str], trust: bool) -> None:
    """Raise TrustError if settings name code; a `py:` model says openly that it is code, a setting does not."""
    named = with_settings(TransferConfig(), settings).views.augmentation
    if ".py:" in named and not trust:
        raise TrustError(
            f"views.augmentation={named} runs a Python file; read it, then pass --trust, or give the plan trust: true"
        )


def expand(spec: str) -> list[str]:
    """Replace a pattern in the file of a spec by every file it matches, in the order of their names.

    Example:
        >>> expand("timm:resnet18?num_classes=10")
        ['timm:resnet18?num_classes=10']

    Raises:
        SpecError: If nothing matches.
    """
    body, mark, options = spec.partition("?")
    scheme, _, rest = body.partition(":")
    name, weights = split_weights(scheme, rest)
    if scheme in WITH_WEIGHTS and weights is not None:
        head, pattern = f"{scheme}:{name}@", unescape(weights)
    else:
        head, pattern = f"{scheme}:", unescape(rest)
    if not any(sign in pattern for sign in "*[") or Path(pattern).exists():
        return [spec]
    paths = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207  patterns may be absolute
    if not paths:
        raise SpecError(f"the pattern {pattern!r} in {spec!r} matches no file; patterns start in the working directory")
    return [f"{head}{escape(path)}{mark}{options}" for path in paths]


def read_settings(value: Any) -> tuple[str, ...]:
    """Turn a mapping of settings, nested or dotted, into `KEY=VALUE` strings.

    Example:
        >>> read_settings({"optim.lr": 0.01, "gate": {"alphas": [0.5, 1]}})
        ('optim.lr=0.01', 'gate.alphas=0.5,1')

    Raises:
        ConfigError: If it is no mapping, or a setting is unknown or has a key of its own.
    """
    if value is None:
        return ()
    if not isinstance(value, dict):
        raise ConfigError(f"settings must be a mapping, as in {{optim.epochs: 4}}, not {value!r}")
    settings = tuple(f"{key}={as_word(each)}" for key, each in _flat(value, ""))
    for key in OWN_KEYS:
        if any(setting.startswith(f"{key}=") for setting in settings):
            raise ConfigError(f"{key!r} is no setting of a plan; use the key {OWN_KEYS[key]!r}")
    with_settings(TransferConfig(), settings)
    return settings


def _flat(value: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, each in value.items():
        if isinstance(each, dict):
            yield from _flat(each, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", each


def as_word(value: Any) -> str:
    """Write the value of a setting as `--set` reads it."""
    if isinstance(value, list | tuple):
        return ",".join(map(as_word, value))
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)


def _read_methods(file: PlanFile) -> tuple[PlannedMethod, ...]:
    given = file.content.get("methods")
    if not isinstance(given, list) or not given:
        raise file.error("methods", f"'methods' must be a list, as in [xe, kl, kl+dp], not {given!r}")
    methods = [file.checked("methods", lambda each=each: _read_method(each)) for each in given]
    names = [m.name for m in methods]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise file.error("methods", f"'methods' has {twice[0]!r} twice; give each its own name")
    return tuple(methods)


def _read_method(value: Any) -> PlannedMethod:
    if isinstance(value, str):
        value = {"method": value}
    if not isinstance(value, dict) or not isinstance(value.get("method"), str):
        raise ConfigError(f"a method is a name or {{method: NAME, name: LABEL, settings: {{…}}}}, not {value!r}")
    unknown = [key for key in value if key not in METHOD_KEYS]
    if unknown:
        raise ConfigError(f"unknown key {unknown[0]!r} of a method; expected one of {', '.join(METHOD_KEYS)}")
    if value["method"] not in AUTO:
        find_method(value["method"])
    settings = read_settings(value.get("settings"))
    name = value.get("name", " ".join((value["method"], *settings)))
    if not isinstance(name, str) or not name.strip():
        raise ConfigError(f"the name of a method must be a word, not {name!r}")
    return PlannedMethod(name, value["method"], settings)


def _read_seeds(file: PlanFile, default: int) -> tuple[int, ...]:
    given = file.content.get("seeds", [default])
    whole = isinstance(given, list) and all(type(seed) is int and 0 <= seed < 2**31 for seed in given)
    if not whole or not given or len(set(given)) < len(given):
        raise file.error("seeds", f"'seeds' must be a list of different whole numbers in [0, 2**31), not {given!r}")
    return tuple(given)


def _read_specs(file: PlanFile, key: str) -> tuple[str, ...]:
    """Read a list of specs, their patterns replaced by what they match."""
    given = file.content.get(key)
    value = [given] if isinstance(given, str) else given
    if not isinstance(value, list) or not value or not all(isinstance(v, str) for v in value):
        raise file.error(key, f"{key!r} must be a list of model specs, not {given!r}")
    found = [spec for text in value for spec in file.checked(key, lambda text=text: expand(text))]
    twice = sorted({spec for spec in found if found.count(spec) > 1})
    if twice:
        raise file.error(key, f"{key!r} names {twice[0]!r} twice; name it once")
    return tuple(found)


def _read_pairs(file: PlanFile, teachers_needed: bool) -> tuple[tuple[str, ...], tuple[Pair, ...]]:
    """Return the students and who teaches them; a student is never among its own teachers."""
    content = file.content
    if "models" in content:
        if "students" in content or "teachers" in content:
            raise file.error("models", "'models' stands for students and teachers; give either it or them")
        students = teachers = _read_specs(file, "models")
    else:
        students = _read_specs(file, "students") if "students" in content or "pairs" not in content else ()
        every = content.get("teachers", "all" if "pairs" not in content else None)
        teachers = students if every == "all" else _read_specs(file, "teachers") if every is not None else ()
    pairs = [Pair(s, (t,)) for s, t in product(students, teachers) if s != t]
    pairs += _explicit(file)
    students = tuple(dict.fromkeys((*students, *(pair.student for pair in pairs))))
    alone = [s for s in students if all(pair.student != s for pair in pairs)]
    if teachers_needed and alone:
        raise file.error("teachers", f"{alone[0]!r} has no teacher; name another model, or only methods without any")
    return students, tuple(dict.fromkeys(pairs))


def _explicit(file: PlanFile) -> list[Pair]:
    given = file.content.get("pairs", [])
    if not isinstance(given, list):
        raise file.error("pairs", f"'pairs' must be a list of [student, teacher], not {given!r}")
    pairs = []
    for each in given:
        if not isinstance(each, list) or len(each) != 2 or not isinstance(each[0], str):
            raise file.error("pairs", f"a pair is [student, teacher] or [student, [teacher, …]], not {each!r}")
        student, teachers = each[0], [each[1]] if isinstance(each[1], str) else each[1]
        named = isinstance(teachers, list) and teachers and all(isinstance(t, str) for t in teachers)
        if not named or len(set(teachers)) < len(teachers):
            raise file.error("pairs", f"the teachers of {student!r} must be different specs, not {each[1]!r}")
        if student in teachers:
            raise file.error("pairs", f"{student!r} cannot teach itself; use the method self")
        pairs.append(Pair(student, tuple(teachers)))
    if len(set(pairs)) < len(pairs):
        raise file.error("pairs", "'pairs' names a pair twice; name it once")
    return pairs
