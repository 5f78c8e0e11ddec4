"""`py:FILE_OR_MODULE:FACTORY@weights.safetensors`: a user's own architecture."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from ..code import read_code, source_of
from ..errors import ModelError, SpecError, first_line
from ..specs import HINT, Spec, literal
from ..types import Preprocess, Splits
from .checkpoints import tensors
from .extra_state import set_aside
from .inputs import find_inputs
from .preprocess import PREPROCESS_OPTIONS, from_pretrained_cfg, read_preprocess
from .torch_classifier import TorchClassifier
from .weights import load_weights, needs_cast, weights_options

DEMO = Path(__file__).parent.parent / "demo"


def load_py(spec: Spec, like: Splits | None = None) -> TorchClassifier:
    """Build a user's model and load its weights.

    The factory is called with the options that are not about pixels. A module may carry a `pretrained_cfg` as
    timm's do, and `classes`. A module that carries a `tokenizer` reads text: the tokenizer is given a list of bytes,
    and returns a tensor, or a mapping of tensors, as the forward pass takes it.

    Raises:
        SpecError: If the file, the module or the factory is not there, or no weights are given.
    """
    where, _, factory = spec.rest.rpartition(":")
    if not where or not factory.isidentifier():
        raise SpecError(f"{spec.text!r} must read py:FILE_OR_MODULE:FACTORY@WEIGHTS ({HINT})")
    given = weights_options(spec)
    if spec.weights is None and spec.flag("pretrained", True):
        raise SpecError(f"{spec.text!r} names no weights; add @FILE.safetensors, or ?pretrained=false for random ones")
    arguments = {key: literal(value) for key, value in spec.options.items() if key not in given | PREPROCESS_OPTIONS}
    architecture = {"source": "py", "where": where, "factory": factory, "arguments": arguments}
    module, notes = build_whole(architecture, spec.text)
    if spec.weights is not None:
        notes += load_weights(module, spec)
    return wrap(spec, module, architecture, notes, like)


def demo_models() -> list[str]:
    """Name the demo's pretrained models."""
    return sorted(path.stem for path in (DEMO / "checkpoints").glob("*.safetensors"))


def load_demo(spec: Spec, like: Splits | None = None) -> TorchClassifier:
    """Open one of the demo's pretrained models, `demo:NAME`."""
    path = DEMO / "checkpoints" / f"{spec.rest}.safetensors"
    known = demo_models()
    if spec.rest not in known:
        raise SpecError(f"no demo model {spec.rest!r}; there are {', '.join(f'demo:{name}' for name in known)}")
    if spec.weights is not None or "pretrained" in spec.options:
        raise SpecError(f"{spec.text!r}: demo: models have their own weights; drop what chooses others")
    target = f"crossteach.demo.zoo:{spec.rest}"
    return load_py(Spec(spec.text, "py", target, weights=str(path), options=spec.options), like)


def wrap(
    spec: Spec, module: nn.Module, architecture: dict[str, Any], notes: tuple[str, ...], like: Splits | None
) -> TorchClassifier:
    """Describe a built module: preprocessing, classes, source."""
    cfg = getattr(module, "pretrained_cfg", None)
    reads_text = callable(getattr(module, "tokenizer", None))
    if reads_text and (given := sorted(PREPROCESS_OPTIONS & set(spec.options))):
        raise SpecError(f"{spec.text!r} reads text, so {given[0]} means nothing; drop it")
    try:
        own = from_pretrained_cfg(cfg) if cfg else Preprocess(kind="text" if reads_text else "image")
    except (TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"the pretrained_cfg of {spec.text!r} is not as timm's: {first_line(error)}") from error
    preprocess = read_preprocess(spec, own)
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
        source=source_of(factory_of(architecture, spec.text)),
        notes=notes if cfg or reads_text else notes + _unsaid(spec, preprocess, taken.channels),
        shape=taken.shape,
    )


def _unsaid(spec: Spec, preprocess: Preprocess, channels: int | None) -> tuple[str, ...]:
    """Say what a model without a description of its input gets."""
    missing = [key for key in ("mean", "std") if key not in spec.options]
    notes = []
    if missing:
        size = "" if preprocess.size else ", at the data's own size"
        notes.append(
            f"{spec.text} says nothing of its {' and '.join(missing)}: it gets pixels in [0, 1] that are "
            f"not {'normalised' if len(missing) == 2 else 'shifted' if missing == ['mean'] else 'scaled'}{size}"
        )
    if preprocess.channels is None and channels is not None:
        notes.append(f"{spec.text} takes {channels} channels and no others: images are brought to that")
    return tuple(notes)


def build_whole(architecture: dict[str, Any], text: str) -> tuple[nn.Module, tuple[str, ...]]:
    """Build a module in float32; one of another precision is cast, the architecture remembers it, and a note says it.

    Raises:
        ModelError: If the factory fails or returns something else than a module.
    """
    module = build(architecture, text)
    others = sorted({str(v.dtype) for v in tensors(module.state_dict()).values() if needs_cast(v)})
    if not others:
        return module, ()
    architecture["cast"] = True
    return module.float(), (f"{text} was built in {' and '.join(others)}: it is cast to torch.float32",)


def build(architecture: dict[str, Any], text: str) -> nn.Module:
    """Call the factory that an architecture describes; see `build_whole`."""
    factory = factory_of(architecture, text)
    try:
        module = factory(**architecture["arguments"])
    except Exception as error:  # the user's code may raise anything
        raise ModelError(f"the factory of {text!r} failed: {first_line(error)}") from error
    if not isinstance(module, nn.Module):
        raise ModelError(f"the factory of {text!r} must return a torch module, not {type(module).__name__}")
    return module


def factory_of(architecture: dict[str, Any], text: str) -> Callable[..., Any]:
    """Find the function that builds an architecture."""
    return read_code(architecture["where"], repr(text), SpecError).function(architecture["factory"])
