"""What fills a batch: train and the pools, each in its part, all of it passed through again and again."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossteach import from_arrays, pool_from, with_settings
from crossteach.config import TransferConfig
from crossteach.data import with_pools
from crossteach.data.views import views_of
from crossteach.transferring.sources import Source, parts_of_batch, sources_of


def data_with(train, *pools):
    rng = np.random.default_rng(0)
    images = rng.random((train + 40, 4, 4)).astype(np.float32)
    labels = np.arange(len(images)) % 2
    parts = [(images[a:b], labels[a:b]) for a, b in ((0, train), (train, train + 20), (train + 20, train + 40))]
    made = [pool_from(rng.random((count, 4, 4)).astype(np.float32)) for count in pools]
    return with_pools(from_arrays(parts[0], parts[1], parts[2]), made)


@given(st.integers(1, 300), st.integers(0, 500), st.lists(st.integers(1, 10**6), max_size=4), st.floats(0.01, 1.0))
def test_the_parts_of_a_batch_add_up(size, train, pools, share):
    size = max(size, len(pools) + 1)
    parts = parts_of_batch(size, train, pools, share)
    assert len(parts) == 1 + len(pools) and all(part >= 1 for part in parts[1:])
    if not pools:
        assert parts == [size]
    elif train and share < 1:
        assert parts[0] >= 1 and size <= sum(parts) <= size + len(pools)
        assert abs(sum(parts[1:]) - share * size) <= len(pools) + 1
    else:
        assert parts[0] == 0 and size <= sum(parts) <= size + len(pools)


def test_every_source_is_passed_through_and_smaller_ones_again():
    config = with_settings(TransferConfig(), ["optim.batch_size=8", "pool.share=0.5", "pool.views=3"])
    data = data_with(10, 30)
    train, pool = sources_of(data, views_of(config.views, data), config)
    assert (train.a_step, pool.a_step, train.views.count, pool.views.count) == (4, 4, 4, 3)
    assert (len(train.starts), len(pool.starts)) == (3, 8)
    seen = {0: [], 1: []}
    for step in range(8):
        for number, source in enumerate((train, pool)):
            index, passed = source.samples(step, 0, number)
            assert passed == step // len(source.starts)
            seen[number].append(index)
    assert sorted(np.concatenate(seen[1]).tolist()) == list(range(30))
    assert (
        sorted(np.concatenate(seen[0][:3]).tolist()) == sorted(np.concatenate(seen[0][3:6]).tolist()) == list(range(10))
    )
    assert (train.passes(8), pool.passes(8), pool.passes(9)) == (3, 1, 2)


def test_some_rows_alone_may_teach():
    config = TransferConfig()
    data = data_with(10, 30)
    pool = sources_of(data, views_of(config.views, data), config)[1]
    some = Source(pool.split, pool.views, 4, rows=np.array([3, 5, 7, 11, 13]))
    assert sorted(np.concatenate([some.samples(step, 0)[0] for step in range(2)]).tolist()) == [3, 5, 7, 11, 13]


def test_pools_alone_fill_every_batch():
    config = with_settings(TransferConfig(), ["pool.share=1", "optim.batch_size=16"])
    data = data_with(10, 30, 10)
    sources = sources_of(data, views_of(config.views, data), config)
    assert [(s.split.name, s.a_step) for s in sources] == [("pool", 12), ("pool", 4)]


@pytest.mark.parametrize("joins_last", [False, True])
def test_a_last_sample_alone_joins_the_batch_before_it(joins_last):
    data = data_with(9)
    source = Source(data.train, views_of(TransferConfig().views, data), 4, joins_last=joins_last)
    assert [len(source.samples(step, 0)[0]) for step in range(len(source.starts))] == (
        [4, 5] if joins_last else [4, 4, 1]
    )
