"""`py:FILE_OR_MODULE:NAME@weights.safetensors`: a user's own architecture, or a function of theirs that answers.

NAME is what builds a model (a function or a class), or a torch module that the file has built itself.
"""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from ..code import Code, read_code, source_of
from ..errors import ModelError, SpecError, first_line
from ..specs import HINT, Spec, literal
from ..types import Preprocess, Splits
from .black_box import BlackBox, box_callable
from .checkpoints import tensors
from .extra_state import set_aside
from .inputs import find_inputs
from .preprocess import PREPROCESS_OPTIONS, from_pretrained_cfg, read_preprocess, unsaid
from .torch_classifier import TorchClassifier
from .weights import load_weights, needs_cast, weights_options

DEMO = Path(__file__).parent.parent / "demo"


def load_py(spec: Spec, like: Splits | None = None) -> TorchClassifier | BlackBox:
    """Build a user's model and load its weights.

    A function or a class is called with the options that are not about pixels. A module is copied, and has its own
    weights where none are given. It may carry a `pretrained_cfg` as
    timm's do, and `classes`. A module that carries a `tokenizer` reads text: the tokenizer is given a list of bytes,
    and returns a tensor, or a mapping of tensors, as the forward pass takes it.

    A function needs no weights, and only answers. Where it has `outputs`, that says whether it answers logits or
    probabilities; where it has `reads`, and that is `text`, it is given a list of bytes itself.

    Raises:
        SpecError: If the file, the module or the factory is not there, or it needs weights and none are given.
    """
    where, _, factory = spec.rest.rpartition(":")
    if not where or not factory.isidentifier():
        raise SpecError(f"{spec.text!r} must read py:FILE_OR_MODULE:FACTORY@WEIGHTS ({HINT})")
    given = weights_options(spec)
    arguments = {key: literal(value) for key, value in spec.options.items() if key not in given | PREPROCESS_OPTIONS}
    architecture = {"source": "py", "where": where, "factory": factory, "arguments": arguments}
    made = _make(architecture, spec.text)
    if not isinstance(made, nn.Module):
        return _box(spec, made, architecture, like)
    if spec.weights is None and spec.flag("pretrained", True) and not architecture.get("instance"):
        raise SpecError(f"{spec.text!r} names no weights; add @FILE.safetensors, or ?pretrained=false for random ones")
    module, notes = _in_float32(made, architecture, spec.text)
    if architecture.get("instance") and spec.weights is None:
        notes += (f"{spec.text} is a module: its weights are those that {where} gives it",)
    if spec.weights is not None:
        notes += load_weights(module, spec)
    return wrap(spec, module, architecture, notes, like)


def demo_models() -> list[str]:
    """Name the demo's pretrained models."""
    return sorted(path.stem for path in (DEMO / "checkpoints").glob("*.safetensors"))


def load_demo(spec: Spec, like: Splits | None = None) -> TorchClassifier | BlackBox:
    """Open one of the demo's pretrained models, `demo:NAME`."""
    path = DEMO / "checkpoints" / f"{spec.rest}.safetensors"
    known = demo_models()
    if spec.rest not in known:
        raise SpecError(f"no demo model {spec.rest!r}; there are {', '.join(f'demo:{name}' for name in known)}")
    if spec.weights is not None or "pretrained" in spec.options:
        raise SpecError(f"{spec.text!r}: demo: models have their own weights; drop what chooses others")
    target = f"crossteach.demo.zoo:{spec.rest}"
    return load_py(Spec(spec.text, "py", target, weights=str(path), options=spec.options), like)


def _own_preprocess(spec: Spec, made: Any) -> Preprocess:
    """Read what a module or a function says of its input, under the options of the spec."""
    cfg = getattr(made, "pretrained_cfg", None)
    reads_text = callable(getattr(made, "tokenizer", None)) or getattr(made, "reads", None) == "text"
    if reads_text and (given := sorted(PREPROCESS_OPTIONS & set(spec.options))):
        raise SpecError(f"{spec.text!r} reads text, so {given[0]} means nothing; drop it")
    try:
        own = from_pretrained_cfg(cfg) if cfg else Preprocess(kind="text" if reads_text else "image")
    except (TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"the pretrained_cfg of {spec.text!r} is not as timm's: {first_line(error)}") from error
    return read_preprocess(spec, own)


def _box(spec: Spec, function: Any, architecture: dict[str, Any], like: Splits | None) -> BlackBox:
    """Describe a function that a factory has made."""
    if not callable(function):
        kind = type(function).__name__
        raise ModelError(
            f"the factory of {spec.text!r} must return a torch module, or a function of images, not {kind}"
        )
    if spec.weights is not None:
        raise SpecError(
            f"the factory of {spec.text!r} returns a function, into which no weights can be loaded; drop @ and load "
            "them in the factory"
        )
    preprocess, classes = _own_preprocess(spec, function), getattr(function, "classes", None)
    name, outputs = architecture["factory"], getattr(function, "outputs", None)
    known = replace(box_callable(function, None, preprocess, classes or None, name, outputs, like), spec=spec.text)
    identity = json.dumps([_text_of(architecture, spec.text), architecture["arguments"]], sort_keys=True)
    notes = _unsaid(spec, function, preprocess, known.preprocess.channels)
    return replace(known, identity=identity, notes=(*known.notes, *notes))


def _unsaid(spec: Spec, made: Any, preprocess: Preprocess, channels: int | None) -> tuple[str, ...]:
    """Say what a module or a function without a description of its pixels gets."""
    if preprocess.kind == "text" or getattr(made, "pretrained_cfg", None):
        return ()
    return unsaid(spec, preprocess, channels)


def wrap(
    spec: Spec, module: nn.Module, architecture: dict[str, Any], notes: tuple[str, ...], like: Splits | None
) -> TorchClassifier:
    """Describe a built module: preprocessing, classes, source."""
    preprocess = _own_preprocess(spec, module)
    taken = find_inputs(module, preprocess, spec.text, like)
    set_aside(module, spec.text)
    classes = getattr(module, "classes", None)
    return TorchClassifier(
        spec=spec.text,
        name=Path(spec.weights).stem if spec.weights else architecture["factory"],
        module=module,
        preprocess=replace(preprocess, channels=taken.channels),
        n_classes=taken.n_classes,
        architecture=architecture,
        classes=tuple(classes) if classes else None,
        source=_text_of(architecture, spec.text),
        notes=notes + _unsaid(spec, module, preprocess, taken.channels),
        shape=taken.shape,
    )


def build_whole(architecture: dict[str, Any], text: str) -> tuple[nn.Module, tuple[str, ...]]:
    """Build a module in float32; one of another precision is cast, the architecture remembers it, and a note says it.

    Raises:
        ModelError: If the factory fails or returns something else than a module.
    """
    module = _make(architecture, text)
    if not isinstance(module, nn.Module):
        raise ModelError(f"the factory of {text!r} must return a torch module, not {type(module).__name__}")
    return _in_float32(module, architecture, text)


def _in_float32(module: nn.Module, architecture: dict[str, Any], text: str) -> tuple[nn.Module, tuple[str, ...]]:
    others = sorted({str(v.dtype) for v in tensors(module.state_dict()).values() if needs_cast(v)})
    if not others:
        return module, ()
    architecture["cast"] = True
    return module.float(), (f"{text} was built in {' and '.join(others)}: it is cast to torch.float32",)


def _make(architecture: dict[str, Any], text: str) -> Any:
    """Call the factory that an architecture describes; a module is copied, and the architecture remembers it."""
    factory = factory_of(architecture, text)
    if isinstance(factory, nn.Module):
        if architecture["arguments"]:
            raise SpecError(
                f"{architecture['factory']!r} of {text!r} is a module and takes no options; drop "
                f"{next(iter(architecture['arguments']))}, or name a function or a class that builds it"
            )
        architecture["instance"] = True
    try:
        if isinstance(factory, nn.Module):
            return copy.deepcopy(factory)
        return factory(**architecture["arguments"])
    except Exception as error:  # the user's code may raise anything
        raise ModelError(f"the factory of {text!r} failed: {first_line(error)}") from error


def factory_of(architecture: dict[str, Any], text: str) -> Callable[..., Any]:
    """Find the function or class that builds an architecture, or the module that is one."""
    return _code_of(architecture, text).function(architecture["factory"])


def _text_of(architecture: dict[str, Any], text: str) -> str:
    """Return the Python that defines a factory; of a module the Python that builds it, not its layers'."""
    found = factory_of(architecture, text)
    return source_of(_code_of(architecture, text).module if isinstance(found, nn.Module) else found)


def _code_of(architecture: dict[str, Any], text: str) -> Code:
    return read_code(architecture["where"], repr(text), SpecError)
