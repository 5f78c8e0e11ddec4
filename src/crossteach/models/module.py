"""A module that the caller built: a classifier without a file."""

from collections.abc import Sequence
from dataclasses import replace

from torch import nn

from ..code import source_of
from ..errors import ModelError
from ..types import Preprocess, Splits
from .asking import evaluation_mode, own_eval_notes
from .checkpoints import tensors
from .extra_state import extra_state
from .inputs import find_inputs
from .torch_classifier import TorchClassifier
from .weights import needs_cast


def wrap_module(
    module: nn.Module, preprocess: Preprocess, classes: Sequence[str] | None, name: str, like: Splits | None
) -> TorchClassifier:
    """Describe a module; see `from_module`."""
    if not isinstance(module, nn.Module):
        raise ModelError(f"from_module needs a torch module, not {type(module).__name__}; load_model reads specs")
    if extra_state(module):
        raise ModelError(
            f"{name} has layers with extra state (get_extra_state), which averages of weights know nothing of; "
            "open it by a factory, as py:FILE.py:FACTORY@FILE"
        )
    others = sorted({str(v.dtype) for v in tensors(module.state_dict()).values() if needs_cast(v)})
    if others:
        raise ModelError(f"{name} is in {' and '.join(others)}; give it in float32, as module.float() makes it")
    if callable(getattr(module, "tokenizer", None)):
        preprocess = replace(preprocess, kind="text")
    taken = find_inputs(
        module, preprocess, name, like, "give preprocess=Preprocess(size=…, channels=…) as it wants them"
    )
    with evaluation_mode(module):
        return TorchClassifier(
            spec=f"module {name}",
            name=name,
            module=module,
            preprocess=replace(preprocess, channels=taken.channels),
            n_classes=taken.n_classes,
            architecture={"source": "module"},
            classes=tuple(classes) if classes is not None else None,
            source=source_of(type(module)),
            notes=own_eval_notes(module, name),
            shape=taken.shape,
        )
