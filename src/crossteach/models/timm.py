"""`timm:NAME`, `timm:NAME@FILE`, `timm:NAME?pretrained=false`, `timm:hf-hub:ORG/NAME`, `timm:local-dir:FOLDER`."""

from dataclasses import replace
from typing import Any

from torch import nn

from ..errors import MissingExtraError, ModelError, SpecError, first_line
from ..specs import Spec
from ..types import Preprocess, Splits
from .named import arguments_of, describe, is_plain
from .preprocess import from_pretrained_cfg
from .torch_classifier import TorchClassifier
from .weights import load_weights

ELSEWHERE = ("checkpoint_path", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir")
"""Arguments by which timm would read other files than the one that a spec names, some of them as pickles."""

FILES = ("architecture", "url", "file", "hf_hub_id", "hf_hub_filename", "source", "state_dict", "custom_load")
"""Entries of timm's description of a model that say where its weights are."""

HINT = (
    "give ?size= as the architecture was made for, or size and img_size together, as in ?size=64&img_size=64, "
    "where it can be built for another; in_chans=1 builds it for grey images"
)


def load_timm(spec: Spec, like: Splits | None = None) -> TorchClassifier:
    """Build a timm model with its hub weights, weights from a file, or random ones when asked for.

    Raises:
        SpecError: If timm has no model of that name, or an option would read another file.
        WeightsError: If a file's tensors do not fit.
        ModelError: If the hub weights are not on this machine and cannot be fetched.
    """
    arguments = arguments_of(spec)
    architecture = {"source": "timm", "name": spec.rest, "arguments": arguments}
    pretrained = spec.weights is None and spec.flag("pretrained", True)
    module = build(architecture, spec.text, pretrained)
    notes = load_weights(module, spec) if spec.weights is not None else ()
    own, classes = _own_preprocess(module, arguments), None
    if is_elsewhere(spec.rest):  # what it is stands in its config.json, which a saved student shall not need
        said: Any = module.pretrained_cfg
        architecture |= _described_there(module, said, arguments)
        classes = said.get("label_names")
    return describe(spec, module, own, architecture, notes, like, HINT, classes)


def is_elsewhere(name: str) -> bool:
    """Tell a name that timm looks up on the hub or in a folder from that of one of its own architectures."""
    return ":" in name


def _described_there(module: Any, said: dict[str, Any], arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the architecture of a model whose description timm has read elsewhere; no file is named in it."""
    given = {key: value for key, value in getattr(module, "_model_args", {}).items() if is_plain(value)}
    return {
        "name": said["architecture"],
        "cfg": {key: value for key, value in said.items() if key not in FILES and is_plain(value)},
        "arguments": {**given, "num_classes": int(module.num_classes), **arguments},
    }


def _own_preprocess(module: nn.Module, arguments: dict[str, Any]) -> Preprocess:
    """Read what timm says of a model's input, as the arguments have changed it."""
    own = from_pretrained_cfg(getattr(module, "pretrained_cfg", {}))
    if arguments.get("in_chans") == 1:  # timm sums the weights of the three channels; its cfg still speaks of three
        own = replace(own, channels=1, mean=(sum(own.mean) / len(own.mean),), std=(sum(own.std) / len(own.std),))
    size = arguments.get("img_size")
    return replace(own, size=(size, size)) if isinstance(size, int) else own


def build(architecture: dict[str, Any], text: str, pretrained: bool = False) -> nn.Module:
    """Create a timm model; see `load_timm` for the errors."""
    try:
        import timm
    except ImportError:
        raise MissingExtraError(f"{text!r} needs timm; pip install 'crossteach[timm]'") from None
    name, arguments = architecture["name"], architecture["arguments"]
    if not is_elsewhere(name) and not timm.is_model(name.split(".")[0]):
        near = timm.list_models(f"*{name.split('.')[0][:6]}*")[:3]
        raise SpecError(f"timm has no model {name!r}" + (f"; near it: {', '.join(near)}" if near else ""))
    wrong = [key for key in ELSEWHERE if key in arguments]
    if wrong:
        raise SpecError(f"{text!r} has the option {wrong[0]!r}, which would read another file; name weights by @FILE")
    try:
        return timm.create_model(name, pretrained=pretrained, pretrained_cfg=architecture.get("cfg"), **arguments)
    except Exception as error:  # hub, network and constructor raise whatever they like
        reason = first_line(error)
        hint = "; give @FILE.safetensors, or ?pretrained=false for random weights" if pretrained else ""
        raise ModelError(f"timm cannot create {text!r}: {reason}{hint}") from error
