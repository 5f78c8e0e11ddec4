"""`torchvision:NAME`, `torchvision:NAME/WEIGHTS`, `torchvision:NAME@FILE`, `torchvision:NAME?pretrained=false`."""

import difflib
from typing import Any

from torch import nn

from ..errors import MissingExtraError, ModelError, SpecError, first_line
from ..specs import Spec, parse_spec
from ..types import Preprocess, Splits
from .named import arguments_of, describe
from .torch_classifier import TorchClassifier
from .weights import load_weights

ELSEWHERE = ("weights_backbone", "progress")
"""Arguments by which torchvision would load other weights, or draw a bar of its own."""
SLOW = ("googlenet", "inception_v3")
"""They draw random weights in a minute, and warn of it, unless they are told not to."""


def load_torchvision(spec: Spec, like: Splits | None = None) -> TorchClassifier:
    """Build one of torchvision's classifiers with its published weights, weights from a file, or random ones.

    Raises:
        SpecError: If torchvision has no classifier or no weights of that name.
        WeightsError: If a file's tensors do not fit.
        ModelError: If the published weights are not on this machine and cannot be fetched.
    """
    name, _, published = spec.rest.partition("/")
    arguments = arguments_of(spec)
    if name in SLOW:
        arguments.setdefault("init_weights", False)
    architecture = {"source": "torchvision", "name": name, "arguments": arguments}
    pretrained = spec.weights is None and spec.flag("pretrained", True)
    if published and not pretrained:
        raise SpecError(f"{spec.text!r} names its weights twice; drop /{published}, or what chooses others")
    described = _published(name, published or "DEFAULT", spec.text)
    module = build(architecture, spec.text, described if pretrained else None)
    if pretrained:
        architecture["arguments"] = {**_implied(name, described), **arguments}
    notes = load_weights(module, spec) if spec.weights is not None else ()
    if name in SLOW and spec.weights is not None and "transform_input" not in arguments:
        notes += (f"{spec.text}: torchvision's own weights of {name} need transform_input=true; it is false here",)
    classes = described.meta["categories"] if pretrained else None
    return describe(spec, module, _preprocess_of(described), architecture, notes, like, classes=classes)


def _implied(name: str, described: Any) -> dict[str, Any]:
    """Return the arguments that published weights set by themselves: a student is built again without these weights."""
    if name in SLOW:
        return {"transform_input": True, **({"aux_logits": False} if name == "googlenet" else {})}
    return {"image_size": described.meta["min_size"][0]} if name.startswith("vit_") else {}


def _published(name: str, weights: str, text: str) -> Any:
    """Return torchvision's description of published weights."""
    try:
        from torchvision import models
    except ImportError:
        raise MissingExtraError(f"{text!r} needs torchvision; pip install 'crossteach[timm]'") from None
    known = models.list_models(module=models)
    if name not in known:
        near = difflib.get_close_matches(name.lower().replace("-", "_"), known, 3, 0.5)
        raise SpecError(f"torchvision has no classifier {name!r}" + (f"; near it: {', '.join(near)}" if near else ""))
    enum = models.get_model_weights(name)
    try:
        return enum[weights]
    except KeyError:
        there = ", ".join(enum.__members__)
        raise SpecError(f"torchvision has no weights {weights!r} of {name}; there are {there}") from None


def published_accuracy(text: str) -> tuple[float, str] | None:
    """Return the accuracy that torchvision publishes of the weights that a spec names, in %, and on which data.

    Returns:
        None for another spec, other weights, or where torchvision says nothing. (timm's package holds no accuracies.)
    """
    spec = parse_spec(text)
    if spec.scheme != "torchvision" or spec.weights is not None or not spec.flag("pretrained", True):
        return None
    name, _, weights = spec.rest.partition("/")
    for measured_on, metrics in _published(name, weights or "DEFAULT", text).meta.get("_metrics", {}).items():
        if "acc@1" in metrics:
            return float(metrics["acc@1"]), str(measured_on)
    return None


def _preprocess_of(described: Any) -> Preprocess:
    """Read how torchvision evaluates a model: resize, central crop, normalise."""
    transforms = described.transforms()
    (side,), (resized,) = transforms.crop_size, transforms.resize_size
    return Preprocess(
        size=(side, side),
        channels=3,
        mean=tuple(transforms.mean),
        std=tuple(transforms.std),
        interpolation=transforms.interpolation.value,
        crop=side / resized,
    )


def build(architecture: dict[str, Any], text: str, weights: Any = None) -> nn.Module:
    """Create one of torchvision's classifiers; see `load_torchvision` for the errors."""
    name, arguments = architecture["name"], architecture["arguments"]
    _published(name, "DEFAULT", text)
    from torchvision import models

    wrong = [key for key in (*ELSEWHERE, "weights") if key in arguments]
    if wrong:
        raise SpecError(f"{text!r} has the option {wrong[0]!r}; name weights by /WEIGHTS or @FILE")
    try:
        module: nn.Module = models.get_model(name, weights=weights, **arguments)
    except Exception as error:  # hub, network and constructor raise whatever they like
        hint = "; give @FILE.safetensors, or ?pretrained=false for random weights" if weights is not None else ""
        raise ModelError(f"torchvision cannot create {text!r}: {first_line(error)}{hint}") from error
    return module
