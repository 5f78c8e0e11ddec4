"""What images a module takes and how many classes it scores, found out with blank images before it meets data."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from ..data.texts import fixed_texts
from ..errors import ModelError, first_line
from ..types import Preprocess, Size, Splits
from .asking import ask, evaluation_mode, keeping_state, kind, prepare_for, read_logits, tokenized

SIZES = (32, 28, 224, 64, 8, 16, 96, 128, 48, 256, 299, 384)
"""Sides of squares that a model is tried with when it names no size, the likeliest first."""

HINT = "give ?channels= and ?size= as the model wants them"


@dataclass(frozen=True)
class Taken:
    """What a module was found to take."""

    n_classes: int
    shape: tuple[int, int, int]
    """Channels, height and width of an image that it answers; the same whatever data it is opened for."""
    channels: int | None
    """The channels that it needs; None where grey and colour both do."""


class _RefusedError(Exception):
    """Why a module does not answer an image."""

    def __init__(self, reason: str, answered: bool) -> None:
        super().__init__(reason)
        self.answered = answered


def find_inputs(
    module: nn.Module, preprocess: Preprocess, spec: str, like: Splits | None = None, hint: str = HINT
) -> Taken:
    """Show blank images to a module until it answers one; its modes, weights and buffers are as before afterwards.

    Args:
        module: The model.
        preprocess: What is known of its input; where size or channels are not, several are tried.
        spec: Names the model in messages.
        like: Data that the model is for: its own size is what the model has to take.
        hint: What the user may do.

    Raises:
        ModelError: If it takes none of them, does not answer [N, C], or changes its own weights.
    """
    if preprocess.kind == "text":
        return _taken_text(module, spec)
    sizes, depths = _candidates(module, preprocess, spec, like)
    with keeping_state(module, spec), evaluation_mode(module):
        shape, n_classes = _first(module, preprocess, sizes, depths, spec, hint)
        taken = shape[0] if len(depths) == 1 else _only(module, preprocess, shape)
        data = _data_shape(preprocess, taken, like)
        if data is not None and data != shape:
            n_classes = _count_on(module, preprocess, data, shape, spec)
    return Taken(n_classes, shape, taken)


def _taken_text(module: nn.Module, spec: str) -> Taken:
    """Show fixed texts to a module that carries a tokenizer."""
    texts = fixed_texts()
    with keeping_state(module, spec), evaluation_mode(module), torch.no_grad():
        try:
            returned = ask(module, tokenized(module, texts, torch.device("cpu")))
        except ModelError as error:
            raise ModelError(f"{spec!r}: {error}") from None
        except Exception as error:  # the user's code may raise anything
            raise ModelError(
                f"{spec!r} does not answer a text ({first_line(error)}); its tokenizer takes a list of bytes, and "
                "returns what its forward pass takes"
            ) from error
    try:
        scores = read_logits(returned)
    except ModelError:
        raise ModelError(f"{spec!r} must answer logits [N, C] but answers {kind(returned)}") from None
    if len(scores) != len(texts):
        raise ModelError(f"{spec!r} answers {len(scores)} rows to {len(texts)} texts; it must answer one a text")
    return Taken(int(scores.shape[1]), (1, 1, int(texts.shape[3])), None)


def _candidates(
    module: nn.Module, preprocess: Preprocess, spec: str, like: Splits | None
) -> tuple[Sequence[Size], Sequence[int]]:
    """List the sizes and the channels to try."""
    normalised = max(len(preprocess.mean), len(preprocess.std))
    channels = preprocess.channels or (normalised if normalised > 1 else None)
    own = None if like is None else like.test.inputs.size
    if any(is_lazy(value) for value in (*module.parameters(), *module.buffers())):
        size, depth = preprocess.size or own, channels or (None if like is None else like.test.inputs.channels)
        if size is None or depth is None:
            raise ModelError(
                f"{spec!r} has lazy layers, which the first image builds; give ?size= and ?channels=, or weights"
            )
        return [size], [depth]
    squares = [(side, side) for side in SIZES]
    sizes = [preprocess.size] if preprocess.size else [*squares, *([own] if own and own not in squares else [])]
    return sizes, [channels] if channels else [1, 3]


def _first(
    module: nn.Module, preprocess: Preprocess, sizes: Sequence[Size], depths: Sequence[int], spec: str, hint: str
) -> tuple[tuple[int, int, int], int]:
    """Return the first image that is answered, and with how many classes."""
    refused: list[tuple[tuple[int, int, int], _RefusedError]] = []
    for (height, width), channels in product(sizes, depths):
        shape = (channels, height, width)
        try:
            return shape, _ask(module, preprocess, shape)
        except _RefusedError as error:
            refused.append((shape, error))
    wrong = next((error for _, error in refused if error.answered), None)
    if wrong is not None:
        raise ModelError(f"{spec!r} must answer logits [N, C] but answers {wrong}")
    shape, reason = refused[0]
    shown = list(shape) if len(refused) == 1 else f"any size from {min(SIZES)} to {max(SIZES)}, grey or colour"
    raise ModelError(f"{spec!r} does not accept an image of {shown} ({reason}); {hint}{_what_it_takes(module)}")


def _only(module: nn.Module, preprocess: Preprocess, shape: tuple[int, int, int]) -> int | None:
    """Return the channels of a shape that is taken, or None where as many others are taken too."""
    try:
        _ask(module, preprocess, (4 - shape[0], *shape[1:]))
    except _RefusedError:
        return shape[0]
    return None


def _data_shape(preprocess: Preprocess, channels: int | None, like: Splits | None) -> tuple[int, int, int] | None:
    """Return the shape in which data reach a model that takes them at their own size."""
    if like is None or like.test.inputs.size is None or preprocess.size is not None:
        return None
    return channels or like.test.inputs.channels, *like.test.inputs.size


def _count_on(
    module: nn.Module, preprocess: Preprocess, data: tuple[int, int, int], shape: tuple[int, int, int], spec: str
) -> int:
    try:
        return _ask(module, preprocess, data)
    except _RefusedError as error:
        height, width = shape[1:]
        raise ModelError(
            f"{spec!r} does not accept the data's images of {list(data)} ({error}); it takes {list(shape)}: give "
            f"?size={height if height == width else f'{height}x{width}'}, and the images are resized to it"
        ) from error


def _what_it_takes(module: nn.Module) -> str:
    """Say which plain image a module answers, if one is found."""
    for side, channels in product(SIZES, (1, 3)):
        try:
            _ask(module, Preprocess(), (channels, side, side))
        except _RefusedError:
            continue
        return f"; it takes images of {[channels, side, side]}, as ?channels={channels}&size={side}"
    return ""


@torch.no_grad()
def _ask(module: nn.Module, preprocess: Preprocess, shape: tuple[int, int, int]) -> int:
    """Return how many classes are scored on one blank image."""
    try:
        returned = module(prepare_for(torch.zeros(1, *shape), preprocess, torch.device("cpu")))
    except Exception as error:  # the user's code may raise anything
        raise _RefusedError(first_line(error), answered=False) from error
    try:
        scores = read_logits(returned)
    except ModelError:
        raise _RefusedError(kind(returned), answered=True) from None
    return int(scores.shape[1])
