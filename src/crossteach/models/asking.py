"""Ask a module without changing it: its mode, its buffers, its weights and the images of others stay as they are."""

import copy
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeGuard

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..data.pixels import prepare
from ..data.texts import from_batch
from ..errors import ModelError
from ..types import Preprocess, Size

FIXED_INPUTS = 8
"""How many fixed inputs a fingerprint answers."""
BLOCKS = 4
"""Blocks along each side of a fixed input; the rest of it is noise."""
TO_ONE = 1e-3
"""How near to 1 probabilities sum, in half precision too."""
PROJECTIONS = 2
"""Numbers of each fixed input's answer that a fingerprint keeps, beside its class and its spread."""


def set_mode(module: nn.Module, training: bool) -> None:
    """Put a module into train mode as it likes, or into evaluation mode whatever its own `train()` and `eval()` do.

    A part with a `train()` of its own may keep what it has computed in evaluation mode (the position biases of LeViT),
    and lets it go when it is put into train mode. So it is put there first: its weights may have changed meanwhile.
    """
    if training:
        module.train()
    else:
        _stop_training(list(module.modules()))


def _stop_training(parts: Sequence[nn.Module]) -> None:
    """Put all parts of a module into evaluation mode."""
    for part in parts:
        if type(part).train is not nn.Module.train:
            part.train()
    for part in parts:
        part.training = False


def parts_left_in_train_mode(module: nn.Module) -> int:
    """Count the layers that a module's own `eval()` leaves in train mode; the module stays as it is."""
    if all(type(part).train is nn.Module.train and type(part).eval is nn.Module.eval for part in module.modules()):
        return 0
    own = copy.deepcopy(module)
    own.eval()
    return sum(part.training and not any(True for _ in part.children()) for part in own.modules())


def own_eval_notes(module: nn.Module, name: str) -> tuple[str, ...]:
    """Say that a module's own `eval()` is not what it is asked in; no note where it is."""
    if not (left := parts_left_in_train_mode(module)):
        return ()
    return (f"{name}: its own eval() leaves {left} layers in train mode; here all of them are in evaluation mode",)


@contextmanager
def evaluation_mode(asked: object) -> Iterator[None]:
    """Put a module, or a classifier's module, into evaluation mode; afterwards it is as it was.

    Every part gets its mode back, and every buffer its content: a module may count its calls, or move its statistics.

    Raises:
        ModelError: If the module has changed its own weights, which no copy was taken of.
    """
    module = asked if isinstance(asked, nn.Module) else getattr(asked, "module", None)
    if not isinstance(module, nn.Module):  # a black box
        yield
        return
    parts = list(module.modules())  # this runs for each batch, and a walk through a module is slow
    modes = [(part, part.training) for part in parts]
    kept = _Buffers(parts)
    weights = (p for part in parts for p in part._parameters.values() if p is not None)
    versions = [(p, _version(p)) for p in weights if not nn.parameter.is_lazy(p)]
    _stop_training(parts)
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode
        kept.restore()
    if any(_version(parameter) != version for parameter, version in versions):
        raise ModelError(
            f"{type(module).__name__} changes its own weights when it is asked, so it cannot be compared or taught; "
            "give a module whose forward pass leaves its parameters alone"
        )


@contextmanager
def keeping_state(module: nn.Module, spec: str) -> Iterator[None]:
    """Compare all weights and buffers before and after; what has changed is brought back, and refused.

    A change through `.data` is one that torch does not count, so `evaluation_mode` does not see it.

    Raises:
        ModelError: Naming what the module has changed.
    """
    before = {name: value.detach().clone() for name, value in _built(module).items()}
    changed: list[str] = []
    try:
        yield
    finally:
        for name, value in _built(module).items():
            if name in before and not _same_bits(value, before[name]):
                changed.append(name)
                if value.shape == before[name].shape:
                    value.data.copy_(before[name])
    if changed:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise ModelError(
            f"{spec!r} changes its own weights when it is asked ({changed[0]}{more}), so it cannot be compared or "
            "taught; give a module whose forward pass leaves them alone"
        )


def _built(module: nn.Module) -> dict[str, Tensor]:
    """Return what a weights file would hold, but for lazy layers that no image has built yet."""
    state = module.state_dict()
    return {n: v for n, v in state.items() if isinstance(v, Tensor) and not nn.parameter.is_lazy(v)}


def _same_bits(first: Tensor, second: Tensor) -> bool:
    if first.shape != second.shape or first.dtype != second.dtype:
        return False
    return torch.equal(_bytes(first), _bytes(second))


def _bytes(value: Tensor) -> Tensor:
    return value.detach().contiguous().flatten().view(torch.uint8)


class _Buffers:
    """The buffers of all parts of a module as they are now."""

    def __init__(self, parts: Sequence[nn.Module]) -> None:
        self._kept = [
            (part, name, buffer, buffer.data_ptr(), buffer.detach().clone())
            for part in parts
            for name, buffer in part._buffers.items()
            if buffer is not None and not nn.parameter.is_lazy(buffer)
        ]
        self._names = [(part, set(part._buffers)) for part in parts]

    @torch.no_grad()
    def restore(self) -> None:
        """Bring back what a forward pass has changed, replaced or added; a cache that no file holds may stay.

        Contents are compared: torch does not count what batch norm does to its statistics.
        """
        moved = [b.data_ptr() != place or b.shape != content.shape for _, _, b, place, content in self._kept]
        differs = [
            None if elsewhere else (buffer != content).any()  # all asked before one is read: a GPU answers in the end
            for elsewhere, (_, _, buffer, _, content) in zip(moved, self._kept, strict=True)
        ]
        for (part, name, buffer, _, content), changed in zip(self._kept, differs, strict=True):
            if changed is None:
                buffer.data = content
            elif changed:
                buffer.copy_(content)
            part._buffers[name] = buffer
        for part, names in self._names:
            for name in set(part._buffers) - names - part._non_persistent_buffers_set:
                del part._buffers[name]


def _version(value: Tensor) -> int:
    """Return how often a tensor has been changed in place, as far as torch counts it."""
    return -1 if value.is_inference() else value._version


def digest_of_state(module: nn.Module) -> str:
    """Hash every number that a module's weights file would hold."""
    hashed = hashlib.blake2b(digest_size=16)
    for name, value in sorted(module.state_dict().items()):
        if isinstance(value, Tensor):
            hashed.update(f"{name}{value.dtype}{list(value.shape)}".encode())
            hashed.update(_bytes(value.cpu()).numpy().tobytes())
    return hashed.hexdigest()


@torch.no_grad()
def changed_by_a_pass(classifier: Any) -> list[str]:
    """Name the weights and buffers that a pass in evaluation mode changes; the module keeps what it has become.

    Args:
        classifier: A copy of one with a module that a file of weights describes; it is asked its fixed inputs.
    """
    module = classifier.module
    set_mode(module, training=False)
    before = {name: value.detach().clone() for name, value in _built(module).items()}
    classifier.logits(classifier.fixed_inputs().to(classifier.device))
    return [n for n, value in _built(module).items() if n in before and not _same_bits(value, before[n])]


def prepare_for(
    images: Float[Tensor, "N c h w"], preprocess: Preprocess, device: torch.device
) -> Float[Tensor, "N C H W"]:
    """Bring images to what a module wants, in memory that is the module's own: it may write into its input.

    Nothing is copied where the preprocessing, or the way to the device, has made a new tensor.
    """
    prepared = prepare(images.to(device), preprocess)
    shared = prepared.untyped_storage().data_ptr() == images.untyped_storage().data_ptr()
    return prepared.clone() if shared else prepared


def ask(module: nn.Module, prepared: Tensor | Mapping[str, Tensor]) -> Any:
    """Ask a module: a tensor is its one input, a mapping its named arguments."""
    return module(**prepared) if isinstance(prepared, Mapping) else module(prepared)


class Asked(nn.Module):
    """A module that takes what is prepared for it as one input, whatever the module inside takes."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, prepared: Tensor | Mapping[str, Tensor]) -> Any:
        """Ask the module inside."""
        return ask(self.module, prepared)


def tokenized(
    module: nn.Module, texts: Float[Tensor, "N 1 1 L"], device: torch.device
) -> Tensor | Mapping[str, Tensor]:
    """Give texts to the tokenizer that a module carries.

    Raises:
        ModelError: If the tokenizer returns neither a tensor nor a mapping of tensors.
    """
    tokens = module.tokenizer(from_batch(texts))  # type: ignore[operator]  # a callable that the module carries
    if isinstance(tokens, Tensor):
        return tokens.to(device)
    if isinstance(tokens, Mapping) and all(isinstance(value, Tensor) for value in tokens.values()):
        return {str(key): value.to(device) for key, value in tokens.items()}
    raise ModelError(f"a tokenizer must return a tensor or a mapping of tensors; this one returns {kind(tokens)}")


def read_logits(returned: Any, n_classes: int | None = None) -> Float[Tensor, "N C"]:
    """Return the logits among what a module returns: a tensor, or a tuple, list, dictionary or object that has one.

    Of a dictionary or an object the entry `logits` is taken. Of a tuple or list (auxiliary heads, in train mode) the
    first tensor that scores the classes is taken.

    Args:
        returned: What the module's forward pass gave.
        n_classes: How many classes it scores; None takes the first tensor [N, C].

    Raises:
        ModelError: If no logits are there.
    """
    found = returned
    if isinstance(returned, Mapping):
        found = returned.get("logits")
    elif isinstance(getattr(returned, "logits", None), Tensor):
        found = returned.logits
    elif isinstance(returned, tuple | list):
        found = next((value for value in returned if _scores(value, n_classes)), None)
    if _scores(found, None if found is returned else n_classes):
        return found
    wanted = "[N, C]" if n_classes is None else f"[N, {n_classes}]"
    raise ModelError(
        f"a model must answer logits {wanted}, or hold them as `logits`; this one answers {kind(returned)}"
    )


def _scores(value: object, n_classes: int | None) -> TypeGuard[Tensor]:
    return isinstance(value, Tensor) and value.ndim == 2 and n_classes in (None, value.shape[1])


def kind(returned: object) -> str:
    """Say in a word or two what a module returned."""
    if isinstance(returned, Tensor):
        return f"a tensor {list(returned.shape)}"
    if isinstance(returned, Mapping):
        return f"a {type(returned).__name__} of {', '.join(map(str, returned)) or 'nothing'}"
    if isinstance(returned, tuple | list):
        return f"a {type(returned).__name__} of {len(returned)}"
    return f"a {type(returned).__name__}"


def fixed_inputs(size: Size, channels: int) -> Float[Tensor, "8 c h w"]:
    """Return images that are the same on every machine: coarse blocks of their own colour, under noise."""
    generator = torch.Generator().manual_seed(0)
    blocks = torch.rand(FIXED_INPUTS, channels, BLOCKS, BLOCKS, generator=generator)
    noise = torch.rand(FIXED_INPUTS, channels, *size, generator=generator)
    rows, columns = (torch.arange(side) * BLOCKS // side for side in size)
    return 0.75 * blocks[:, :, rows][:, :, :, columns] + 0.25 * noise


def sum_to_one(scores: Float[Tensor, "N C"]) -> bool:
    """Tell probabilities from logits: none is negative, and those of every image sum to 1."""
    return bool((scores >= 0).all()) and bool(((scores.sum(1) - 1).abs() < TO_ONE).all())


def describe_answers(logits: Float[Tensor, "8 C"]) -> str:
    """Write down what a model says on fixed inputs, for its fingerprint.

    Of each answer the class, the spread to two digits, and two projections of the standardised logits to one decimal
    are kept. No rounding is both fine enough to see every change and coarse enough to be the same on every machine:
    this one sees a change of a few percent of the spread, and two machines whose logits differ by one in a million
    disagree about once in 3,000 models. They would ask again, no more.
    """
    logits = logits.double().cpu()
    spread = logits.std(dim=1, correction=0, keepdim=True)
    signs = torch.rand(logits.shape[1], PROJECTIONS, generator=torch.Generator().manual_seed(1)) < 0.5
    standard = (logits - logits.mean(1, keepdim=True)) / spread.clamp(min=1e-12)
    projected = standard @ (2.0 * signs.double() - 1) / logits.shape[1] ** 0.5
    numbers = [[round(value, 1) + 0.0 for value in row] for row in projected.tolist()]  # no minus zero
    return f"{logits.argmax(1).tolist()} {[f'{s:.2g}' for s in spread[:, 0].tolist()]} {numbers}"
