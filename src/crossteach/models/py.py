"""`py:FILE_OR_MODULE:FACTORY@weights.safetensors`: a user's own architecture."""

import hashlib
import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from ..errors import ModelError, SpecError, first_line
from ..specs import Spec, literal
from ..types import Preprocess
from .preprocess import PREPROCESS_OPTIONS, from_pretrained_cfg, read_preprocess
from .torch_classifier import TorchClassifier, count_classes, source_of
from .weights import fit_weights, read_weights

DEMO = Path(__file__).parent.parent / "demo"


def load_py(spec: Spec) -> TorchClassifier:
    """Build a user's model and load its weights.

    The factory is called with the options that are not about pixels. A module may carry a `pretrained_cfg` as
    timm's do, and `classes`.

    Raises:
        SpecError: If the file, the module or the factory is not there, or no weights are given.
    """
    where, _, factory = spec.rest.rpartition(":")
    if not where:
        raise SpecError(f"{spec.text!r} must read py:FILE_OR_MODULE:FACTORY@WEIGHTS")
    arguments = {
        key: literal(value)
        for key, value in spec.options.items()
        if key not in PREPROCESS_OPTIONS and key != "pretrained"
    }
    architecture = {"source": "py", "where": where, "factory": factory, "arguments": arguments}
    module = build(architecture, spec.text)
    if spec.weights is not None:
        fit_weights(module, read_weights(Path(spec.weights)), spec.text)
    elif spec.flag("pretrained", True):
        raise SpecError(f"{spec.text!r} names no weights; add @FILE.safetensors, or ?pretrained=false for random ones")
    return wrap(spec, module, architecture)


def load_demo(spec: Spec) -> TorchClassifier:
    """Open one of the demo's pretrained models, `demo:NAME`."""
    path = DEMO / "checkpoints" / f"{spec.rest}.safetensors"
    known = sorted(p.stem for p in (DEMO / "checkpoints").glob("*.safetensors"))
    if spec.rest not in known:
        raise SpecError(f"no demo model {spec.rest!r}; there are {', '.join(f'demo:{name}' for name in known)}")
    target = f"crossteach.demo.zoo:{spec.rest}"
    return load_py(Spec(spec.text, "py", target, weights=str(path), options=spec.options))


def wrap(spec: Spec, module: nn.Module, architecture: dict[str, Any]) -> TorchClassifier:
    """Describe a built module: preprocessing, classes, source."""
    cfg = getattr(module, "pretrained_cfg", None)
    try:
        own = from_pretrained_cfg(cfg) if cfg else Preprocess()
    except (TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"the pretrained_cfg of {spec.text!r} is not as timm's: {first_line(error)}") from error
    preprocess = read_preprocess(spec, own)
    notes: tuple[str, ...] = ()
    if not cfg and not PREPROCESS_OPTIONS & set(spec.options):
        notes = (f"{spec.text} says nothing of its input: it gets pixels in [0, 1] at the data's own size",)
    classes = getattr(module, "classes", None)
    if preprocess.size is None and preprocess.channels is None and not cfg:
        n_classes = _guess_classes(module, preprocess, spec.text)
    else:
        n_classes = count_classes(module, preprocess, len(preprocess.mean), spec.text)
    builder = factory_of(architecture, spec.text)
    return TorchClassifier(
        spec=spec.text,
        name=Path(spec.weights).stem if spec.weights else architecture["factory"],
        module=module,
        preprocess=preprocess,
        n_classes=n_classes,
        architecture=architecture,
        classes=tuple(classes) if classes else None,
        source=source_of(builder),
        notes=notes,
    )


def _guess_classes(module: nn.Module, preprocess: Preprocess, text: str) -> int:
    """Count the classes of a module that says nothing of its channels: grey first, then colour."""
    try:
        return count_classes(module, preprocess, 1, text)
    except ModelError:
        return count_classes(module, preprocess, 3, text)


def build(architecture: dict[str, Any], text: str) -> nn.Module:
    """Call the factory that an architecture describes.

    Raises:
        ModelError: If the factory fails or returns something else than a module.
    """
    factory = factory_of(architecture, text)
    try:
        module = factory(**architecture["arguments"])
    except Exception as error:  # the user's code may raise anything: name it, and keep the house standing
        raise ModelError(f"the factory of {text!r} failed: {first_line(error)}") from error
    if not isinstance(module, nn.Module):
        raise ModelError(f"the factory of {text!r} must return a torch module, not {type(module).__name__}")
    return module


def factory_of(architecture: dict[str, Any], text: str) -> Any:
    """Find the function that builds an architecture."""
    module = _import(architecture["where"], text)
    factory = getattr(module, architecture["factory"], None)
    if not callable(factory):
        raise SpecError(f"{architecture['where']} has no function {architecture['factory']!r}, asked for by {text!r}")
    return factory


def _import(where: str, text: str) -> ModuleType:
    if not where.endswith(".py"):
        try:
            return importlib.import_module(where)
        except Exception as error:
            raise SpecError(f"cannot import {where!r}, asked for by {text!r}: {first_line(error)}") from error
    path = Path(where).resolve()
    if not path.is_file():
        raise SpecError(f"no file {where}, asked for by {text!r}")
    name = f"crossteach_user_{hashlib.blake2b(str(path).encode(), digest_size=6).hexdigest()}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses and pickles of the user's module look it up there
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            del sys.modules[name]
            raise ModelError(f"{where}, asked for by {text!r}, fails on import: {first_line(error)}") from error
    return sys.modules[name]
