"""Pictures in tars, as webdataset writes them: `KEY.jpg` beside `KEY.cls` or `KEY.json`. Nothing is unpacked.

A tar is gone through once for its index: where each picture begins, how long it is, and what its label is. Pictures are
then read by their place, in any order. Per sample the index holds some 60 bytes and its key.
"""

import json
import os
import tarfile
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow
from jaxtyping import Int

from ..errors import DataError, first_line
from .encoded_splits import ids_of
from .label_words import LabelWords, WordCollector, word_of
from .look import shown, suffixes
from .tree import is_hidden

PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
"""How compressed files begin."""
WORD_BYTES = 1 << 20
"""A member that holds a label is at most so long."""
BROKEN_TAR = (tarfile.TarError, OSError, ValueError, EOFError, OverflowError, LookupError)
"""What tarfile raises on files that are damaged or no tars."""


@dataclass(frozen=True)
class WordPlace:
    """Where a sample keeps a word: in a member of its own, or in a field of one of json."""

    suffix: str
    field: str | None = None

    def read(self, content: bytes) -> str:
        """Return the word; empty where there is none.

        Raises:
            ValueError: If the content is no text, or no json.
        """
        text = content.decode("utf-8")
        if self.field is None:
            return word_of(text)
        try:
            values = json.loads(text)
        except RecursionError:
            raise ValueError("json that is nested too deeply") from None
        return word_of(values.get(self.field)) if isinstance(values, dict) else ""


@dataclass(frozen=True)
class Wanted:
    """Which members of a sample are read."""

    picture: str | None = None
    """The suffix of its picture; None takes any that Pillow reads."""
    label: tuple[WordPlace, ...] = ()
    """Where its label is, the likeliest place first."""
    group: tuple[WordPlace, ...] = ()

    @cached_property
    def words(self) -> frozenset[str]:
        """The suffixes of members that hold words."""
        return frozenset(place.suffix for place in (*self.label, *self.group))


class TarPictures:
    """Pictures in tars, each read by its place."""

    def __init__(
        self,
        shards: Sequence[Path],
        shard: Int[np.ndarray, " N"],
        offset: Int[np.ndarray, " N"],
        size: Int[np.ndarray, " N"],
        keys: pyarrow.Array,
    ) -> None:
        self._shards, self._shard, self._offset, self._size, self._keys = shards, shard, offset, size, keys

    def __len__(self) -> int:
        return len(self._offset)

    def sizes(self) -> Int[np.ndarray, " N"]:
        """Bytes of each picture."""
        return self._size

    def read(self, row: int) -> bytes:
        """Read one picture."""
        return self._read(row, 0)

    def tail(self, row: int, count: int) -> bytes:
        """Read the end of one picture."""
        return self._read(row, max(0, int(self._size[row]) - count))

    def _read(self, row: int, start: int) -> bytes:
        with self._shards[int(self._shard[row])].open("rb") as file:
            file.seek(int(self._offset[row]) + start)
            content = file.read(int(self._size[row]) - start)
        if len(content) < int(self._size[row]) - start:
            raise OSError("the tar has become shorter")
        return content

    def name(self, row: int) -> str:
        """Return the tar of one picture and its key."""
        return f"{shown(self._shards[int(self._shard[row])])}/{shown(os.fsdecode(self._keys[row].as_py()))}"

    def take(self, rows: Int[np.ndarray, " n"]) -> "TarPictures":
        """Return some of the pictures."""
        keys = self._keys.take(pyarrow.array(rows))
        return TarPictures(self._shards, self._shard[rows], self._offset[rows], self._size[rows], keys)


@dataclass
class _Sample:
    """What a tar holds under one key."""

    offset: int = -1
    size: int = 0
    words: dict[str, bytes | None] = field(default_factory=dict)
    """The members that hold words, by suffix; None for one that is too long."""


class TarIndex:
    """What tars hold, gathered one tar after the other."""

    def __init__(self, split: str, wanted: Wanted) -> None:
        """Begin without a tar.

        Args:
            split: Part of the identity of samples.
            wanted: Which members are read.
        """
        self._split, self._wanted = split, wanted
        self._shards: list[Path] = []
        self._shard, self._offset, self._size = array("i"), array("q"), array("q")
        self._ids, self._ids_with_shard = array("q"), array("q")
        self._keys: list[pyarrow.Array] = []
        self._labels, self._groups = WordCollector(), WordCollector()
        self.skipped: Counter[str] = Counter()
        """How many members or samples are not read, by reason."""
        self.examples: dict[str, str] = {}
        """One of them for each reason."""

    def add(self, path: Path) -> None:
        """Go through a tar.

        Raises:
            DataError: If it is none, or is compressed, damaged or cut short.
        """
        samples = self._samples(path)
        if not samples:
            self._skip("tars without a sample", path, "")
        keys = []
        for key, sample in samples.items():
            if sample.offset < 0:
                self._skip("samples without a picture", path, key)
                continue
            keys.append(os.fsencode(key))
            self._shard.append(len(self._shards))
            self._offset.append(sample.offset)
            self._size.append(sample.size)
            label, group = (
                self._word(path, key, sample, places) for places in (self._wanted.label, self._wanted.group)
            )
            self._labels.add(label)
            self._groups.add(group or f"{path.name}/{key}" if self._wanted.group else "")
        prefix = os.fsencode(self._split)
        self._ids.extend(ids_of([b"%s/%s" % (prefix, key) for key in keys]).tolist())
        shard = b"%s/%s" % (prefix, os.fsencode(path.name))
        self._ids_with_shard.extend(ids_of([b"%s/%s" % (shard, key) for key in keys]).tolist())
        self._keys.append(pyarrow.array(keys, pyarrow.large_binary()))
        self._shards.append(path)

    def pictures(self) -> TarPictures:
        """Return the pictures of all tars."""
        keys = pyarrow.chunked_array(self._keys, pyarrow.large_binary()).combine_chunks()
        offset, size = np.array(self._offset, np.int64), np.array(self._size, np.int64)
        return TarPictures(self._shards, np.array(self._shard, np.int32), offset, size, keys)

    def ids(self) -> Int[np.ndarray, " N"]:
        """Return the ids of samples: of their keys or, where several tars hold one, of tar and key."""
        ids = np.array(self._ids, np.int64)
        if (again := len(ids) - len(np.unique(ids))) == 0:
            return ids
        self.skipped["keys that another tar holds too (ids come from tar and key then)"] = again
        return np.array(self._ids_with_shard, np.int64)

    def labels(self) -> LabelWords:
        """Return the labels of samples."""
        return self._labels.collected()

    def groups(self) -> np.ndarray | None:
        """Return the groups of samples, if they are read; a sample without one is a group of its own."""
        if not self._wanted.group:
            return None
        groups = self._groups.collected()
        return np.asarray(np.array(groups.words, str)[groups.codes])

    def _skip(self, reason: str, path: Path, what: str) -> None:
        self.skipped[reason] += 1
        self.examples.setdefault(reason, f"{shown(path.name)}/{shown(what)}".rstrip("/"))

    def _samples(self, path: Path) -> dict[str, _Sample]:
        """Return what a tar holds, by key."""
        samples: dict[str, _Sample] = {}
        with _opened(path) as file:
            for member in members_of(path, file):
                key, suffix = split_name(member.name)
                if is_hidden(member.name.rpartition("/")[2]):
                    self._skip("members that are hidden or left behind by a system", path, member.name)
                elif not suffix or member.issparse():
                    self._skip("members without a suffix" if not suffix else "sparse members", path, member.name)
                else:
                    self._take(samples.setdefault(key, _Sample()), path, file, member, suffix)
        return samples

    def _take(self, sample: _Sample, path: Path, file: BinaryIO, member: tarfile.TarInfo, suffix: str) -> None:
        if suffix in self._wanted.words:
            if suffix in sample.words:
                self._skip("members whose name stands before in their tar", path, member.name)
                return
            file.seek(member.offset_data)
            sample.words[suffix] = file.read(member.size) if member.size <= WORD_BYTES else None
        elif suffix == self._wanted.picture or (self._wanted.picture is None and f".{suffix}" in suffixes()):
            if sample.offset >= 0:
                self._skip("pictures that are not the first of their key", path, member.name)
                return
            sample.offset, sample.size = member.offset_data, member.size

    def _word(self, path: Path, key: str, sample: _Sample, places: Sequence[WordPlace]) -> str:
        """Return the first word of some places; one that cannot be read is counted."""
        for place in places:
            if place.suffix not in sample.words:
                continue
            content = sample.words[place.suffix]
            try:
                if content is None:
                    raise ValueError(f"longer than {WORD_BYTES} bytes")
                if word := place.read(content):
                    return word
            except ValueError as error:
                self._skip(f"labels or groups that cannot be read ({first_line(error)})", path, key)
        return ""


def split_name(name: str) -> tuple[str, str]:
    """Part the name of a member into key and suffix, at the first dot behind the last slash.

    Example:
        >>> split_name("train/0001.seg.png"), split_name("README")
        (('train/0001', 'seg.png'), ('README', ''))
    """
    folder, slash, last = name.rpartition("/")
    stem, _, suffix = last.partition(".")
    return f"{folder}{slash}{stem}", suffix.lower()


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Open a tar, and say in one line what is wrong with it.

    Raises:
        DataError: If it is compressed, damaged, cut short, or none.
    """
    try:
        with path.open("rb") as file:
            start = file.read(6)
            packing = next((name for magic, name in PACKED.items() if start.startswith(magic)), None)
            if packing is not None:
                raise DataError(
                    f"{shown(path)} is compressed ({packing}), so nothing in it can be found by its place; unpack it "
                    "to a plain .tar"
                )
            file.seek(0)
            yield file
    except BROKEN_TAR as error:
        raise DataError(
            f"{shown(path)} is no whole tar ({first_line(error)}); fetch or write it again, or leave it out"
        ) from error


def members_of(path: Path, file: BinaryIO) -> Iterator[tarfile.TarInfo]:
    """Yield the regular files of a tar without keeping them.

    Raises:
        tarfile.TarError: If the tar does not end where its members do: tarfile itself stops there in silence.
    """
    with tarfile.open(fileobj=file, mode="r:", errorlevel=0) as tar:
        before = -1
        while (member := tar.next()) is not None:
            tar.members.clear()  # type: ignore[attr-defined]  # it would keep every member
            if member.offset_data <= before:
                raise tarfile.ReadError("a header leads back")
            before = member.offset_data
            if member.isreg():
                yield member
        file.seek(tar.offset)
        if file.read(tarfile.BLOCKSIZE).strip(b"\0"):
            raise tarfile.ReadError(f"what follows byte {tar.offset} is no member")
