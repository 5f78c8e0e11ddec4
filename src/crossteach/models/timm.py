"""`timm:NAME`, `timm:NAME@weights.safetensors`, `timm:NAME?pretrained=false`."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from ..errors import MissingExtraError, ModelError, SpecError, first_line
from ..specs import Spec, literal
from .preprocess import PREPROCESS_OPTIONS, from_pretrained_cfg, read_preprocess
from .torch_classifier import TorchClassifier, count_classes
from .weights import fit_weights, read_weights


def load_timm(spec: Spec) -> TorchClassifier:
    """Build a timm model with its hub weights, weights from a file, or random ones when asked for.

    Raises:
        SpecError: If timm has no model of that name.
        WeightsError: If a file's tensors do not fit.
        ModelError: If the hub weights are not on this machine and cannot be fetched.
    """
    options = {k: v for k, v in spec.options.items() if k not in PREPROCESS_OPTIONS and k != "pretrained"}
    arguments = {key: literal(value) for key, value in options.items()}
    architecture = {"source": "timm", "name": spec.rest, "arguments": arguments}
    pretrained = spec.weights is None and spec.flag("pretrained", True)
    module = build(architecture, spec.text, pretrained)
    if spec.weights is not None:
        fit_weights(module, read_weights(Path(spec.weights)), spec.text)
    own = from_pretrained_cfg(getattr(module, "pretrained_cfg", {}))
    if arguments.get("in_chans") == 1:  # timm sums the weights of the three channels; its cfg still speaks of three
        own = replace(own, channels=1, mean=(sum(own.mean) / len(own.mean),), std=(sum(own.std) / len(own.std),))
    preprocess = read_preprocess(spec, own)
    return TorchClassifier(
        spec=spec.text,
        name=Path(spec.weights).stem if spec.weights else spec.rest,
        module=module,
        preprocess=preprocess,
        n_classes=count_classes(module, preprocess, 3, spec.text),
        architecture=architecture,
    )


def build(architecture: dict[str, Any], text: str, pretrained: bool = False) -> nn.Module:
    """Create a timm model; see `load_timm` for the errors."""
    try:
        import timm
    except ImportError:
        raise MissingExtraError(f"{text!r} needs timm; pip install 'crossteach[timm]'") from None
    name = architecture["name"]
    if not timm.is_model(name.split(".")[0]):
        near = timm.list_models(f"*{name.split('.')[0][:6]}*")[:3]
        raise SpecError(f"timm has no model {name!r}" + (f"; near it: {', '.join(near)}" if near else ""))
    try:
        return timm.create_model(name, pretrained=pretrained, **architecture["arguments"])
    except Exception as error:  # hub, network and constructor raise whatever they like
        reason = first_line(error)
        hint = "; give @FILE.safetensors, or ?pretrained=false for random weights" if pretrained else ""
        raise ModelError(f"timm cannot create {text!r}: {reason}{hint}") from error
