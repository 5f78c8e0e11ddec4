"""What models have in common that a library builds by a name: options that are its arguments, and their description."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from ..specs import Spec, literal
from ..types import Preprocess, Splits
from .extra_state import set_aside
from .inputs import HINT, find_inputs
from .preprocess import PREPROCESS_OPTIONS, read_preprocess
from .torch_classifier import TorchClassifier
from .weights import weights_options


def arguments_of(spec: Spec) -> dict[str, Any]:
    """Return the options of a spec that are the library's own.

    Raises:
        SpecError: If the spec names its weights twice.
    """
    ours = weights_options(spec) | PREPROCESS_OPTIONS
    return {key: literal(value) for key, value in spec.options.items() if key not in ours}


def describe(
    spec: Spec,
    module: nn.Module,
    own: Preprocess,
    architecture: dict[str, Any],
    notes: tuple[str, ...],
    like: Splits | None,
    hint: str = HINT,
    classes: Sequence[str] | None = None,
) -> TorchClassifier:
    """Describe a built module; the options of its spec stand above its own preprocessing.

    Args:
        spec: Names it.
        module: With its weights.
        own: What the library says of its input.
        architecture: What builds it again.
        notes: On its weights.
        like: Data that the model is for.
        hint: What the user may do where it takes no image.
        classes: Their names, if they are known; dropped where the module scores another number of classes.
    """
    preprocess = read_preprocess(spec, own)
    taken = find_inputs(module, preprocess, spec.text, like, hint)
    set_aside(module, spec.text)
    return TorchClassifier(
        spec=spec.text,
        name=Path(spec.weights).stem if spec.weights else _name_of(spec.rest),
        module=module,
        preprocess=preprocess,
        n_classes=taken.n_classes,
        architecture=architecture,
        classes=tuple(classes) if classes is not None and len(classes) == taken.n_classes else None,
        notes=notes,
        shape=taken.shape,
    )


def _name_of(rest: str) -> str:
    """Return a name for tables: of a folder on this machine its last part."""
    folder = Path(rest.removeprefix("local-dir:"))
    return folder.name if folder.is_dir() else rest


def is_plain(value: Any) -> bool:
    """Tell a number, a word, a truth value, nothing, or lists and mappings of these: what `model.json` may hold."""
    if isinstance(value, list | tuple | dict):
        return all(map(is_plain, value.values() if isinstance(value, dict) else value))
    return value is None or isinstance(value, bool | int | float | str)
