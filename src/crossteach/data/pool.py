"""Pools: images without labels. What stands in another split too is taken out of them, and counted."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Int

from ..errors import DataError, SpecError
from ..specs import Spec, parse_spec
from ..types import Pool, Progress, Split, Splits, no_progress
from . import hf, shards
from .arrays import glyphs_pool, idx_pool, npz_pool, sklearn_pool
from .assemble import RawSplit, coded_groups, default_augmentation
from .cut import stratified_cut
from .duplicates import KeyedSplit, equal_images, keyed
from .encoded_splits import PICTURE_OPTIONS
from .folder import folder_pool
from .hf import hf_pool
from .listed import csv_pool
from .near import near_rows
from .shards import wds_pool
from .suggest import suggest_data
from .texts import TextInputs

Reader = Callable[[Spec, int | None], tuple[RawSplit, list[str]]]
"""(spec, channels that its images should have) -> its images, and notes."""

WORDS = ("near", "exact", "keep")
"""What `?duplicates=` of a pool may say."""
HELD_SHARE, HELD_MOST = 0.1, 5000
"""Where there is no other data, this share of the pool, and at most so many samples, is held out twice."""


def _of_arrays(read: Callable[[Spec], RawSplit]) -> Reader:
    return lambda spec, channels: (read(spec), [])


SOURCES: dict[str, tuple[Reader, set[str]]] = {
    "glyphs": (_of_arrays(glyphs_pool), set()),
    "npz": (_of_arrays(npz_pool), set()),
    "folder": (folder_pool, PICTURE_OPTIONS),
    "idx": (_of_arrays(idx_pool), set()),
    "sklearn": (_of_arrays(sklearn_pool), set()),
    "csv": (csv_pool, {*PICTURE_OPTIONS, "path", "text", "split", "group", "longest"}),
    "wds": (wds_pool, shards.POOL_OPTIONS),
    "hf": (hf_pool, hf.POOL_OPTIONS),
}
"""How each scheme is read as a pool, and the options that it takes beside `samples` and `duplicates`."""


@dataclass(frozen=True)
class RawPool:
    """A pool as its source holds it, before what stands in other splits is taken out."""

    spec: str
    images: KeyedSplit
    found: int
    dropped: Mapping[str, int]
    duplicates: str = WORDS[0]
    """Of `WORDS`: what is looked for in other splits."""
    notes: tuple[str, ...] = ()

    @property
    def split(self) -> Split:
        """Its images, each once."""
        return self.images.split

    def take(self, rows: Int[np.ndarray, " n"]) -> "RawPool":
        """Return the images at these positions."""
        return replace(self, images=KeyedSplit(self.split.take(rows), self.images.keys[rows]))


def read_pool(spec: str, channels: int | None = None) -> RawPool:
    """Open a pool; labels are not read, and an image that stands in it twice is taken once.

    Args:
        spec: `folder:PATH` (any tree of pictures), `npz:FILE` (its `x` or `x_train`), `csv:FILE`, `wds:PATTERN.tar`,
            `hf:NAME_OR_FOLDER`, `idx:FOLDER`, `glyphs` or `sklearn:digits` (their train images). Options: `samples=N`
            (a seeded draw), `duplicates=near|exact|keep` (which images of the pool are taken out for standing in the
            other splits), and those of the source.
        channels: Of the data that the pool goes with: picture files are read with as many.

    Raises:
        SpecError: If the scheme or an option is unknown.
        DataError: If the pool cannot be read, or is empty.
    """
    parsed = parse_spec(spec)
    if parsed.scheme not in SOURCES:
        raise SpecError(f"unknown pool {spec!r}; {suggest_data(parsed, SOURCES)}")
    reader, options = SOURCES[parsed.scheme]
    parsed.refuse_unknown({*options, "samples", "duplicates"})
    duplicates = parsed.options.get("duplicates", WORDS[0])
    if duplicates not in WORDS:
        raise SpecError(f"option duplicates of {spec!r} must be one of {', '.join(WORDS)}, not {duplicates!r}")
    wanted = parsed.whole("samples", 0) if "samples" in parsed.options else None
    if wanted == 0:
        raise SpecError(f"option samples of {spec!r} must be at least 1")
    raw, notes = reader(parsed, channels)
    return replace(make_pool(spec, raw, wanted), duplicates=duplicates, notes=tuple(notes))


def make_pool(spec: str, raw: RawSplit, wanted: int | None = None) -> RawPool:
    """Draw the samples of a pool, all if none are wanted, and take each image once.

    Raises:
        DataError: If there is no image, or the groups are not one an image.
    """
    count, kind = len(raw.inputs), raw.inputs.kind
    if not count:
        raise DataError(f"the pool {spec!r} holds no {kind}; give a source with at least one")
    if raw.group is not None and raw.group.shape != (count,):
        raise DataError(f"the pool {spec!r} has {count} {kind}s but groups {list(raw.group.shape)}; give each one")
    rows = np.arange(count)
    if wanted is not None and wanted < count:
        rows = np.sort(np.random.default_rng(0).permutation(count)[:wanted])
    names, group = coded_groups(None if raw.group is None else raw.group[rows])
    images = keyed(Split("pool", raw.inputs, rows, None, group, rows, names))
    assert images is not None, "a source of pools tells its images apart"
    _, first = np.unique(images.keys, return_index=True)
    ids = images.keys & np.int64(2**63 - 1)  # what an image holds: the same in any order, beside any other pool
    whole = RawPool(spec, KeyedSplit(replace(images.split, ids=ids), images.keys), len(rows), {})
    if len(first) == len(rows):
        return whole
    return replace(whole.take(np.sort(first)), dropped={"repeated in the pool": len(rows) - len(first)})


def with_pools(data: Splits, pools: Sequence[RawPool], progress: Progress = no_progress) -> Splits:
    """Add pools to a data set, without the images that stand in its splits or in an earlier pool.

    Taken out are images that are the same, those of a group that test or selection holds too (where groups have
    names), and those that are nearly the same as one of test or selection (see near.py).

    Args:
        data: Its splits stay as they are.
        pools: As `read_pool` returns them.
        progress: Told how many images are looked at.

    Raises:
        DataError: If the channels differ, or nothing is left of a pool.
    """
    others = [split for split in (data.test, data.selection, data.train) if len(split)]
    seen = [(f"in {split.name}", images) for split in others if (images := keyed(split)) is not None]
    kept = list(data.pools)
    for pool in pools:
        _require_channels(pool, data)
        left = _without_shared(pool, data, seen, progress)
        seen.append((f"in the pool {pool.spec}", left.images))
        kept.append(Pool(left.spec, left.split, left.found, left.dropped, left.notes))
    return replace(data, pools=tuple(kept))


def _require_channels(pool: RawPool, data: Splits) -> None:
    kinds = pool.split.inputs.kind, data.test.inputs.kind
    if kinds[0] != kinds[1]:
        raise DataError(
            f"the pool {pool.spec!r} holds {kinds[0]} but {data.spec!r} {kinds[1]}; give a pool of {kinds[1]}"
        )
    have, wanted = pool.split.inputs.channels, data.test.inputs.channels
    if have != wanted:
        encoded = pool.spec.partition(":")[0] in ("folder", "csv", "wds", "hf")
        hint = f"; add ?channels={wanted}" if encoded else ""
        raise DataError(
            f"the pool {pool.spec!r} has {have} channels but {data.spec!r} has {wanted}; both must have the same{hint}"
        )


def _without_shared(
    pool: RawPool,
    data: Splits,
    seen: Sequence[tuple[str, KeyedSplit]],
    progress: Progress,
) -> RawPool:
    """Take out of a pool what it shares with other splits."""
    kind = pool.split.inputs.kind
    if pool.duplicates == "keep":
        note = f"{kind}s of the pool {pool.spec} that stand in other splits are kept: figures may be too good"
        return replace(pool, notes=(*pool.notes, note))
    judging = [split for split in (data.test, data.selection) if len(split)]
    shared = [(reason, equal_images(pool.images, images)) for reason, images in seen]
    shared += [(f"of a group of {split.name}", _of_shared_groups(pool.split, split)) for split in judging]
    if pool.duplicates == "near" and isinstance(pool.split.inputs, TextInputs):
        shared += [(f"nearly in {split.name}", _nearly_equal_texts(pool.split, split)) for split in judging]
    elif pool.duplicates == "near":
        near = near_rows(pool.split, judging, progress)
        shared += [(f"nearly in {split.name}", mask) for split, mask in zip(judging, near, strict=True)]
    gone, dropped = np.zeros(len(pool.split), bool), dict(pool.dropped)
    for reason, mask in shared:
        if (new := mask & ~gone).any():
            dropped[reason] = int(new.sum())
            gone |= new
    if gone.all():
        reasons = ", ".join(f"{count} {reason}" for reason, count in dropped.items())
        raise DataError(
            f"nothing is left of the pool {pool.spec!r}: of {pool.found} {kind}s {reasons}; give fresh ones, or "
            "?duplicates=keep"
        )
    return replace(pool.take(np.flatnonzero(~gone)), dropped=dropped)


def _nearly_equal_texts(pool: Split, split: Split) -> Bool[np.ndarray, " N"]:
    """Mark the texts of a pool that differ from one of a split in case, spaces, digits and signs alone."""
    mine, theirs = (
        part.inputs.near_digests(part.input_rows(np.arange(len(part))))
        for part in (pool, split)
        if isinstance(part.inputs, TextInputs)
    )
    return np.isin(mine, theirs)


def _of_shared_groups(pool: Split, split: Split) -> Bool[np.ndarray, " N"]:
    """Mark the samples of a pool whose group, by its name, stands in another split."""
    if pool.group is None or split.group is None or not split.group_names:
        return np.zeros(len(pool), bool)
    theirs = {split.group_names[code] for code in np.unique(split.group)}
    return np.isin(pool.group, [code for code, name in enumerate(pool.group_names) if name in theirs])


def splits_of_pools(pools: Sequence[RawPool], progress: Progress = no_progress) -> Splits:
    """Make data of pools alone: nothing has a label, so parts of the first pool are held out for what needs none.

    The classes are those of the models, see `fit_label_space`; until then there are none.

    Raises:
        DataError: If the first pool has too few images.
    """
    first = pools[0]
    share = min(HELD_SHARE, HELD_MOST / len(first.split))
    test, rest = stratified_cut(first.split, share)
    selection, kept = (rest[part] for part in stratified_cut(first.split.take(rest), share))
    data = Splits(
        spec=" + ".join(pool.spec for pool in pools),
        classes=(),
        train=first.split.take(np.arange(0), "train"),
        selection=first.split.take(selection, "selection"),
        test=first.split.take(test, "test"),
        augmentation=default_augmentation(first.split.inputs),
        notes=("nothing has a label: agreement is measured instead of accuracy, and no gain is verified",),
    )
    taught = [replace(pool, duplicates="exact") for pool in (first.take(kept), *pools[1:])]
    return with_pools(data, taught, progress)
