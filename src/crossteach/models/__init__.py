"""Model specs to classifiers: one file a source."""

from collections.abc import Callable
from dataclasses import replace

import torch

from ..errors import SpecError
from ..specs import Spec, parse_spec
from ..types import Classifier
from . import py, timm
from .asking import set_mode
from .py import load_demo, load_py
from .run import load_run
from .timm import load_timm
from .torch_classifier import TorchClassifier as TorchClassifier
from .weights import require_finite

SOURCES: dict[str, Callable[[Spec], TorchClassifier]] = {
    "demo": load_demo,
    "py": load_py,
    "run": load_run,
    "timm": load_timm,
}


def load_model(spec: str) -> TorchClassifier:
    """Open a classifier, on the CPU, in eval mode.

    Args:
        spec: `timm:NAME`, `timm:NAME@FILE`, `py:FILE_OR_MODULE:FACTORY@FILE`, `run:FOLDER` or `demo:NAME`, with
            options after `?`: `size`, `channels`, `mean`, `std`, `interpolation`, `crop`, and the source's own.

    Raises:
        SpecError: If the scheme or an option is unknown.
        WeightsError: If the weights are missing, unsafe, not finite or for another architecture.
        ModelError: If the model cannot be built.
    """
    parsed = parse_spec(spec)
    if parsed.scheme not in SOURCES:
        known = ", ".join(f"{name}:" for name in sorted(SOURCES))
        raise SpecError(f"unknown model {spec!r}; expected one of {known} as in timm:resnet18")
    with torch.random.fork_rng(devices=[]):  # random weights, where they are asked for, are the same every time
        torch.manual_seed(0)
        classifier = SOURCES[parsed.scheme](parsed)
    require_finite(classifier.module.state_dict(), repr(spec))
    set_mode(classifier.module, training=False)
    return classifier


def random_copy(classifier: Classifier) -> TorchClassifier | None:
    """Build a model's architecture again with random weights, the same every time: the control that knows nothing.

    Returns:
        None for a black box, whose architecture nobody has.
    """
    if not isinstance(classifier, TorchClassifier):
        return None
    source = py if classifier.architecture["source"] == "py" else timm
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = source.build(classifier.architecture, classifier.spec)
    copy = replace(
        classifier,
        spec=f"{classifier.spec} with random weights",
        name=f"random {classifier.architecture.get('factory') or classifier.architecture['name']}",
        module=module,
    )
    set_mode(module, training=False)
    return copy.to(classifier.device)
