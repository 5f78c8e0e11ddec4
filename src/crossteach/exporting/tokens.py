"""The tokenizer of a student of transformers: the one it carries, and the one that an export holds."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ..data.texts import from_batch
from ..models.hf import TextTokenizer, quiet_transformers
from .target import Exportable


def tokenizer_of(what: Exportable) -> TextTokenizer:
    """Return the tokenizer of a student of transformers that reads text."""
    tokenizer: Any = what.student.module.tokenizer
    assert isinstance(tokenizer, TextTokenizer)
    return tokenizer


def open_tokenizer(what: Exportable, folder: Path) -> Callable[[Tensor], Mapping[str, Tensor]]:
    """Open the tokenizer that stands in a folder, as a user of transformers does: texts [N, 1, 1, L] to tokens."""
    from transformers import AutoTokenizer

    with quiet_transformers():
        opened = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    tokenizer = TextTokenizer(opened, tokenizer_of(what).settings["max_length"])
    return lambda texts: tokenizer(from_batch(texts))


def asking_arguments(what: Exportable, tensors: str) -> str:
    """Write how that tokenizer is asked, for lines of Python; tensors are those of torch, `pt`, or of NumPy, `np`."""
    settings = {**tokenizer_of(what).settings, "return_tensors": tensors}
    return ", ".join(f"{key}={value!r}" for key, value in settings.items())
