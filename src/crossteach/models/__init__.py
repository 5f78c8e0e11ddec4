"""Model specs to classifiers: one file a source."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import nn

from ..errors import SpecError
from ..specs import Spec, parse_spec
from ..types import Classifier, Preprocess, Splits
from .asking import own_eval_notes, set_mode
from .black_box import Ask, Outputs, box_callable
from .black_box import BlackBox as BlackBox
from .clip import load_clip
from .hf import load_hf
from .mapped import MappedClassifier as MappedClassifier
from .module import wrap_module
from .onnx import load_onnx
from .programs import load_export, load_torchscript
from .py import load_demo, load_py
from .run import BUILDERS, load_run
from .run import load_student as load_student
from .suggest import suggest_model
from .table import TableClassifier as TableClassifier
from .table import load_table
from .timm import load_timm
from .torch_classifier import TorchClassifier as TorchClassifier
from .torchvision import load_torchvision
from .weights import require_finite

Opened = TorchClassifier | BlackBox | TableClassifier
"""A model that was opened: one that can learn, or one that only answers."""
Source = Callable[[Spec, Splits | None, bool], Opened]
"""(spec, data that the model is for, whether a file that could run code is trusted) -> the model."""

SOURCES: dict[str, Source] = {
    "clip": lambda spec, like, trust: load_clip(spec, like),
    "demo": lambda spec, like, trust: load_demo(spec, like),
    "export": load_export,
    "hf": lambda spec, like, trust: load_hf(spec, like),
    "onnx": lambda spec, like, trust: load_onnx(spec, like),
    "py": lambda spec, like, trust: load_py(spec, like),
    "predictions": lambda spec, like, trust: load_table(spec, like),
    "run": lambda spec, like, trust: load_run(spec, trust),
    "timm": lambda spec, like, trust: load_timm(spec, like),
    "torchscript": load_torchscript,
    "torchvision": lambda spec, like, trust: load_torchvision(spec, like),
}


def load_model(spec: str, trust: bool = False, like: Splits | None = None) -> Opened:
    """Open a classifier, on the CPU, in eval mode.

    Args:
        spec: `timm:NAME`, `timm:NAME@FILE`, `torchvision:NAME`, `torchvision:NAME/WEIGHTS`, `torchvision:NAME@FILE`,
            `hf:ORG/NAME`, `hf:FOLDER`, `clip:NAME/PRETRAINED`, `py:FILE_OR_MODULE:FACTORY@FILE`, `run:FOLDER` or
            `demo:NAME`, or of a model that only answers `onnx:FILE`, `torchscript:FILE`, `export:FILE`,
            `predictions:FILE` or a `py:FILE.py:FACTORY` that returns a function; with options after `?`: `size`,
            `channels`, `mean`, `std`, `interpolation`, `crop`, `weights` (which of several state dicts of FILE), and
            the source's own.
        trust: Whether to run the code of a saved student that this user has not saved, and to open files that could
            run code; see docs/trust.md.
        like: Data that the model is for. A model that names no size is asked about theirs.

    Raises:
        SpecError: If the scheme or an option is unknown.
        WeightsError: If the weights are missing, unsafe, not finite or for another architecture.
        ModelError: If the model cannot be built.
        TrustError: If a saved student holds code that is not known, or a file could run code, and `trust` is not
            given.
        MissingExtraError: If a library that the source needs is not installed.
    """
    parsed = parse_spec(spec)
    if parsed.scheme not in SOURCES:
        raise SpecError(f"unknown model {spec!r}; {suggest_model(parsed, SOURCES)}")
    with _same_numbers():
        classifier = SOURCES[parsed.scheme](parsed, like, trust)
    if not isinstance(classifier, TorchClassifier):
        return classifier
    require_finite(classifier.module.state_dict(), repr(spec))
    classifier.notes += own_eval_notes(classifier.module, classifier.name)
    set_mode(classifier.module, training=False)
    return classifier


def from_module(
    module: nn.Module,
    preprocess: Preprocess | None = None,
    classes: Sequence[str] | None = None,
    name: str | None = None,
    like: Splits | None = None,
) -> TorchClassifier:
    """Make a classifier of any module that answers logits [N, C]; the module stays as it is, its modes included.

    A student that was made so is saved as weights, with the lines that load them into the module built anew.

    Args:
        module: The model. It is not copied: what trains it elsewhere is seen here.
        preprocess: What it wants done to pixels in [0, 1]; None gives it plain pixels at the data's own size.
        classes: Their names, in the order of the logits.
        name: Of the model in tables; None takes the name of its class.
        like: Data that the model is for, where `preprocess` names no size.

    Raises:
        ModelError: If the module takes no image, or does not answer [N, C].

    Example:
        >>> module = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        >>> from_module(module, Preprocess(size=(8, 8), channels=1), name="dense").n_classes
        10
    """
    with _same_numbers():
        return wrap_module(module, preprocess or Preprocess(), classes, name or type(module).__name__, like)


def from_callable(
    function: Ask,
    n_classes: int | None = None,
    preprocess: Preprocess | None = None,
    classes: Sequence[str] | None = None,
    name: str | None = None,
    outputs: Outputs | None = None,
    like: Splits | None = None,
) -> BlackBox:
    """Make a classifier of any function that scores images or texts: it teaches and is scouted, and cannot learn.

    Args:
        function: Gets float32 images [N, c, h, w] on the CPU, prepared as `preprocess` says, or a list of bytes where
            its kind is text, and returns scores [N, C] as a tensor or an array. It is asked without gradient, and is
            taken to answer alike whenever it is asked.
        n_classes: How many classes it scores; None counts them.
        preprocess: What it wants done to pixels in [0, 1]; None gives it plain pixels at the data's own size.
        classes: Their names, in the order of the scores.
        name: Of the model in tables; None takes the function's own.
        outputs: `logits` or `probabilities`; None finds out which, and a note says so.
        like: Data that the model is for, where `preprocess` names no size.

    Raises:
        ModelError: If the function takes no image, does not answer [N, C], or scores other classes than it should.

    Example:
        >>> brightness = from_callable(lambda images: images.mean((2, 3)), 3, Preprocess((8, 8), 3), outputs="logits")
        >>> brightness.logits(torch.ones(1, 3, 8, 8))
        tensor([[1., 1., 1.]])
    """
    own = name or str(getattr(function, "__name__", type(function).__name__))
    with _same_numbers():
        return box_callable(function, n_classes, preprocess or Preprocess(), classes, own, outputs, like)


def random_copy(classifier: Classifier) -> Classifier | None:
    """Build a model's architecture again with random weights, the same every time: the control that knows nothing.

    Returns:
        None for a black box or a caller's own module, whose architecture is not known.
    """
    if isinstance(classifier, MappedClassifier):
        copied = random_copy(classifier.inner)
        return None if copied is None else classifier.of(copied)
    if not isinstance(classifier, TorchClassifier) or classifier.architecture.get("source") not in BUILDERS:
        return None
    built = dict(classifier.architecture)
    with _same_numbers():
        module = BUILDERS[built["source"]](built, classifier.spec)
    copy = replace(
        classifier,
        spec=f"{classifier.spec} with random weights",
        name=f"random {classifier.architecture.get('factory') or classifier.architecture['name']}",
        module=module,
    )
    set_mode(module, training=False)
    return copy.to(classifier.device)


@contextmanager
def _same_numbers() -> Iterator[None]:
    """Draw the same random weights every time, and leave the caller's generators as they were.

    `torch.manual_seed` would also seed the generators of every GPU.
    """
    state = torch.get_rng_state()
    torch.default_generator.manual_seed(0)
    try:
        yield
    finally:
        torch.set_rng_state(state)
