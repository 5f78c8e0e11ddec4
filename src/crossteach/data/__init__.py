"""Data specs to `Splits`: one file a source."""

from collections.abc import Callable, Sequence

from ..errors import DataError, SpecError
from ..specs import Spec, parse_spec
from ..types import Progress, Splits, no_progress
from .arrays import load_glyphs as load_glyphs
from .arrays import load_idx, load_npz, load_sklearn
from .facts import Facts, keeping
from .folder import load_folder
from .given import from_arrays as from_arrays
from .given import from_dataset as from_dataset
from .given import from_frame as from_frame
from .given import from_texts as from_texts
from .given import pool_from as pool_from
from .hf import load_hf
from .listed import load_csv
from .pool import RawPool as RawPool
from .pool import read_pool, splits_of_pools, with_pools
from .shards import load_wds
from .suggest import suggest_data

SOURCES: dict[str, Callable[[Spec], Splits]] = {
    "glyphs": load_glyphs,
    "npz": load_npz,
    "folder": load_folder,
    "idx": load_idx,
    "sklearn": load_sklearn,
    "csv": load_csv,
    "wds": load_wds,
    "hf": load_hf,
}


def load_data(
    spec: str | None,
    pools: Sequence[str | RawPool] = (),
    progress: Progress = no_progress,
    store: Facts | None = None,
) -> Splits:
    """Open a data set, with its pools if it has any.

    Args:
        spec: `glyphs`, `npz:FILE`, `folder:PATH`, `csv:FILE`, `wds:PATTERN.tar`, `hf:NAME_OR_FOLDER`, `idx:FOLDER` or
            `sklearn:digits`, with options after `?`: `selection_from=train|test`, `train_samples=N` (a stratified
            draw), `train_labels=false`. None where there are only pools: nothing has a label then.
        pools: Images without labels that teach too; specs as `read_pool` takes them, or what `pool_from` makes.
        progress: Told how many images of the pools are compared with the other splits.
        store: Where what files hold, and which pictures of a pool are copies, is kept for the next time; None reads
            all of them.

    Returns:
        Train, selection and test splits with stable sample ids, and the pools without what stands in these.

    Raises:
        SpecError: If a scheme is unknown.
        DataError: If the data cannot be read or do not fit together.
    """
    if spec is None:
        return load_pools(None, pools, progress, store)
    parsed = parse_spec(spec)
    if parsed.scheme not in SOURCES:
        raise SpecError(f"unknown data {spec!r}; {suggest_data(parsed, SOURCES)}")
    with keeping(store):
        data = SOURCES[parsed.scheme](parsed)
    return load_pools(data, pools, progress, store)


def load_pools(
    data: Splits | None,
    pools: Sequence[str | RawPool],
    progress: Progress = no_progress,
    store: Facts | None = None,
) -> Splits:
    """Open pools and add them to data that are open; None makes data of the pools alone. See `load_data`.

    Raises:
        SpecError: If a scheme is unknown.
        DataError: If a pool cannot be read or does not fit, or there is nothing at all.
    """
    if not pools:
        if data is None:
            raise DataError("neither data nor a pool is given; name one, as in --data npz:FILE or --pool folder:PATH")
        return data
    channels = None if data is None else data.test.inputs.channels
    with keeping(store):
        opened = [read_pool(pool, channels) if isinstance(pool, str) else pool for pool in pools]
        return splits_of_pools(opened, progress) if data is None else with_pools(data, opened, progress)
