"""What people hand to `predict`, `scout` and `transfer`: refused with the line that says how to make it right."""

from collections.abc import Iterable
from typing import Any

from torch import nn
from torch.utils.data import Dataset

from ..errors import ConfigError, DataError, ModelError
from ..types import Split, Splits, TrainableClassifier

SHOWN = ("spec", "name", "preprocess", "n_classes")
"""What a classifier shows of itself. A protocol is not asked: its check would compute the fingerprint."""


def require_classifier(model: Any, role: str) -> None:
    """Raise ModelError if something is no classifier of crossteach.

    Args:
        model: Whatever was handed in.
        role: What it was to be, as in "the student".
    """
    answers = all(hasattr(model, name) for name in SHOWN) and callable(getattr(model, "logits", None))
    if isinstance(model, nn.Module) and not answers:
        raise ModelError(
            f"{role} must be a classifier, not a torch module ({type(model).__name__}); "
            "make one with crossteach.from_module(module, preprocess=..., classes=...)"
        )
    if isinstance(model, str):
        raise ModelError(f"{role} must be a classifier, not the text {model!r}; open it with crossteach.load_model")
    if not answers:
        raise ModelError(
            f"{role} must be a classifier, not {type(model).__name__}; crossteach.load_model and "
            "crossteach.from_module make one"
        )


def require_trainable(model: Any, role: str) -> TrainableClassifier:
    """Return a classifier that can learn; raise ModelError if something is none, or only answers."""
    require_classifier(model, role)
    if not isinstance(getattr(model, "module", None), nn.Module):
        raise ModelError(
            f"{role} {model.spec!r} only answers: its weights are not at hand, so it cannot learn; let it teach "
            "(--teacher, in a plan teachers:), or give the torch module that it was made from, as timm:NAME@FILE or "
            "py:FILE.py:FACTORY@FILE"
        )
    learner: TrainableClassifier = model
    return learner


def require_splits(data: Any) -> None:
    """Raise DataError if something is no data set of crossteach."""
    if isinstance(data, Splits):
        return
    if isinstance(data, str):
        raise DataError(f"data must be splits, not the text {data!r}; open them with crossteach.load_data")
    hint = "crossteach.from_dataset(train=..., test=...)" if isinstance(data, Dataset) else "crossteach.from_arrays"
    if isinstance(data, Split):
        raise DataError(f"data must be all splits, not the {data.name} split alone; hand over the data set itself")
    raise DataError(f"data must be splits, not {type(data).__name__}; make them with {hint}, or crossteach.load_data")


def require_split(split: Any) -> None:
    """Raise DataError if something is no single split."""
    if isinstance(split, Splits):
        raise DataError("one split is asked for, not the data set; give data.train, data.selection or data.test")
    if not isinstance(split, Split):
        require_splits(split)


def require_distinct(models: Iterable[tuple[str, str]]) -> None:
    """Raise ConfigError if one model stands twice among several, each given by its spec and its fingerprint."""
    seen: dict[str, str] = {}
    for spec, fingerprint in models:
        if fingerprint in seen:
            raise ConfigError(f"{spec!r} is the same model as {seen[fingerprint]!r}; name it once")
        seen[fingerprint] = spec
