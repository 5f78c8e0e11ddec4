"""Under which licences a student and its teachers stand, as far as that is known, and where these are in conflict.

A licence is what the hub calls it, as `apache-2.0`; None where it is not known. Nothing is fetched.
"""

import re
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..errors import CrossteachError
from ..runs import read_json
from ..specs import Spec, parse_spec

PERMISSIVE = {"apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "isc", "unlicense", "cc0-1.0", "cc-by-4.0"}
"""They ask for no more than to be named."""
NOT_COMMERCIAL = re.compile(r"\bnc\b|non-?commercial|research|\bamlr\b|\bseer\b")
NOT_DERIVED = re.compile(r"\bnd\b")
SAME_LICENCE = re.compile(r"\bsa\b|gpl")

Licences = dict[str, str | None]
"""Of each model, by its spec."""


def licences_of(spec: str, deeper: int = 8) -> Licences:
    """Return the licence of a model's weights; of a student of a run, those of all that it came from.

    Args:
        spec: The model.
        deeper: How many runs are followed, each to the one before it.
    """
    try:
        parsed = parse_spec(spec)
    except CrossteachError:  # a caller's own module has no spec
        return {spec: None}
    if parsed.scheme == "run":
        return _of_run(parsed, deeper) or {spec: None}
    known = KNOWN.get(parsed.scheme)
    return {spec: _tidy(known(parsed)) if known else None}


def _of_run(spec: Spec, deeper: int) -> Licences:
    found: Licences = {}
    path = spec.path if (spec.path / "config.json").is_file() else spec.path.parent
    try:
        config = read_json(path / "config.json")
        origins = [str(each["spec"]) for each in (config["student"], *config["teachers"])]
    except (CrossteachError, KeyError, TypeError):
        return {}
    for origin in origins:
        found |= licences_of(origin, deeper - 1) if deeper else {origin: None}
    return found


def published_by_timm(spec: Spec) -> Any:
    """Return timm's description of published weights, or None: the model has others, or timm is not installed."""
    if spec.weights is not None or not spec.flag("pretrained", True) or find_spec("timm") is None:
        return None
    import timm

    return timm.get_pretrained_cfg(spec.rest)


def _of_timm(spec: Spec) -> str | None:
    return getattr(published_by_timm(spec), "license", None)


def _of_hub(spec: Spec) -> str | None:
    """Return what the model card says that lies in the folder, or in the cache of the hub."""
    if find_spec("huggingface_hub") is None:
        return None
    from huggingface_hub import ModelCard, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    card: Any = spec.path / "README.md"
    if not card.is_file():
        try:
            card = try_to_load_from_cache(spec.rest, "README.md")
        except HFValidationError:  # a folder that is gone
            return None
    if not isinstance(card, str | Path):
        return None
    try:
        data = ModelCard(Path(card).read_text(encoding="utf-8"), ignore_metadata_errors=True).data
    except (OSError, ValueError):
        return None
    licence = data.get("license_name") if data.get("license") == "other" else data.get("license")
    return licence if isinstance(licence, str) else None


KNOWN: dict[str, Callable[[Spec], str | None]] = {
    "demo": lambda spec: "apache-2.0",
    "timm": _of_timm,
    "hf": _of_hub,
}
"""By scheme. torchvision says nothing of its weights, and a file of weights says nothing at all."""


def _tidy(licence: str | None) -> str | None:
    return None if licence is None or licence.lower() in ("unknown", "other", "") else licence.lower()


def licence_of_all(student: Licences, teachers: Licences) -> str | None:
    """Return the licence under which the export can be named; None where that is not plain.

    It is the student's where all the others are permissive, or the only one that is not permissive.
    """
    every = {*student.values(), *teachers.values()}
    stricter = every - PERMISSIVE
    if None in every or len(stricter) > 1:
        return None
    if stricter:
        return stricter.pop()
    return next(iter(student.values())) if len(set(student.values())) == 1 else None


def warnings_of(licences: Mapping[str, str | None]) -> list[str]:
    """Say what stands in the way of using or sharing what came from these models.

    Example:
        >>> warnings_of({"timm:a": "mit", "timm:b": "cc-by-nc-4.0"})
        ['timm:b is under cc-by-nc-4.0, which forbids commercial use']
    """
    said = [f"the licence of {name} is not known: ask before you share" for name, each in licences.items() if not each]
    known = {name: each for name, each in licences.items() if each}
    for name, licence in known.items():
        if NOT_COMMERCIAL.search(licence):
            said.append(f"{name} is under {licence}, which forbids commercial use")
        if NOT_DERIVED.search(licence):
            said.append(f"{name} is under {licence}, which lets nobody share what is derived from it")
    stricter = {name: each for name, each in known.items() if each not in PERMISSIVE}
    for name, licence in stricter.items():
        others = sorted({each for each in known.values() if each != licence})
        if SAME_LICENCE.search(licence) and others:
            said.append(f"{name} is under {licence}, which asks for itself, but others are under {', '.join(others)}")
    if len(set(stricter.values())) > 1:
        said.append(f"these licences may be in conflict: {', '.join(sorted(set(stricter.values())))}; read them")
    return said
