"""Whose answers a table holds: ids, paths or rows of it are looked up among the samples of the data."""

import numpy as np
from jaxtyping import Int

from ..data.files import FileInputs
from ..data.look import shown
from ..errors import ModelError
from ..labels_file import written_id
from ..specs import Spec
from ..types import Split, Splits
from .table_file import AnswerFile


def find_samples(file: AnswerFile, data: Splits, spec: Spec) -> tuple[Int[np.ndarray, " m"], Int[np.ndarray, " m"]]:
    """Find which rows of a table are of samples of the data, and the ids of these.

    Raises:
        ModelError: If a sample has two rows, or paths or rows cannot be looked up.
    """
    find = {"id": _by_id, "path": _by_path, "row": _by_row}[file.key]
    found = find(file, data, spec)
    rows = np.array([row for row, sample in enumerate(found) if sample is not None], np.int64)
    ids = np.array([sample for sample in found if sample is not None], np.int64)
    if not len(ids):
        raise ModelError(f"{spec.text!r} answers no sample of these data; look whether its {file.key}s are of them")
    values, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        first, second = rows[ids == values[counts > 1][0]][:2].tolist()
        raise ModelError(
            f"{spec.text!r} answers a sample twice, in its rows {first + 1} and {second + 1}; keep one of them"
        )
    return rows, ids


def _parts(data: Splits) -> list[Split]:
    return [part for part in (data.train, data.selection, data.test, *(p.split for p in data.pools)) if len(part)]


def _by_id(file: AnswerFile, data: Splits, spec: Spec) -> list[int | None]:
    ids = np.unique(np.concatenate([part.ids for part in _parts(data)])).tolist()
    known = {form: sample for sample in ids for form in (str(sample), written_id(sample))}
    return [known.get(key.lower()) for key in file.keys]


def _by_path(file: AnswerFile, data: Splits, spec: Spec) -> list[int | None]:
    """Find the sample whose path ends with the one that is given, whole names of folders and files at a time."""
    named: list[tuple[list[str], int]] = []
    for part in _parts(data):
        if not isinstance(part.inputs, FileInputs):
            raise ModelError(
                f"{spec.text!r} names paths, and samples of {part.name} have none; give a column id, or split and row"
            )
        names = part.inputs.names(part.input_rows(np.arange(len(part))))
        named += [(name.split("/"), sample) for name, sample in zip(names, part.ids.tolist(), strict=True)]
    wanted = [shown(key).removeprefix("./") for key in file.keys]
    tails: dict[str, set[int]] = {}
    for length in {key.count("/") + 1 for key in wanted}:
        for name, sample in named:
            tails.setdefault("/".join(name[-length:]), set()).add(sample)
    found: list[int | None] = []
    for key in wanted:
        samples = tails.get(key, set())
        if len(samples) > 1:
            raise ModelError(
                f"the path {key!r} of {spec.text!r} is that of {len(samples)} samples; write more of its folders"
            )
        found.append(next(iter(samples), None))
    return found


def _by_row(file: AnswerFile, data: Splits, spec: Spec) -> list[int | None]:
    """Find samples by the row that they have in the source of their split, before any was cut off or left out."""
    words = sorted({split for split, _ in file.keys} | set(file.lengths))
    ids = {word: _ids_of_rows(word, data, spec) for word in words}
    for word, length in file.lengths.items():
        if length != len(ids[word]):
            raise ModelError(
                f"{spec.text!r} has {length} rows for {word}, but its source has {len(ids[word])}; give one for each "
                "(NaN where there is no answer), or a column id"
            )
    found: list[int | None] = []
    for word, row in file.keys:
        if row >= len(ids[word]):
            raise ModelError(f"{spec.text!r} has row {row} of {word}, which has {len(ids[word])}, counted from 0")
        found.append(ids[word][row])
    return found


def _ids_of_rows(word: str, data: Splits, spec: Spec) -> list[int | None]:
    """Return the id of each row of a split's source; None for one that is in no split."""
    pools = [pool.split for pool in data.pools]
    named = {"train": [data.train], "val": [data.selection], "test": [data.test], "pool": pools}
    if word not in named:
        raise ModelError(f"{spec.text!r} names the split {word!r}; it must be train, val, test or pool")
    there = [split for split in named[word] if len(split)]
    if len(there) != 1:
        raise ModelError(
            f"{spec.text!r} has rows of {word}, and these data have {len(there) or 'none'}; "
            + ("give a column id in place of split and row" if there else "drop them")
        )
    source = there[0].inputs
    sharing = [part for part in _parts(data) if part.inputs is source]
    if len(sharing) > 1 and word not in ("train", "pool"):
        raise ModelError(
            f"{spec.text!r} has rows of {word}, which was cut from another split or shares it: rows then count "
            "otherwise; give rows of train, if it was cut from there, or a column id"
        )
    ids: list[int | None] = [None] * len(source)
    for part in sharing:
        for row, sample in zip(part.input_rows(np.arange(len(part))).tolist(), part.ids.tolist(), strict=True):
            ids[row] = sample
    return ids
