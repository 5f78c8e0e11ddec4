from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from crossteach.errors import DataError
from crossteach.functional.semantics import AreaSimilarity, Closeness, cosine_similarity, mean_of_prefixes


def embeddings(seed, c=24, d=5, shift=0.5):
    return np.random.default_rng(seed).normal(size=(c, d)) + shift


def similarity(seed, c=24, **changes):
    return cosine_similarity(embeddings(seed, c, **changes))


def mean_of_pairs(matrix, area):
    pairs = [float(matrix[a, b]) for a, b in combinations([int(c) for c in area], 2)]
    return sum(pairs) / len(pairs)


@pytest.mark.parametrize("size", [1e-200, 1.0, 1e200])
def test_cosine_agrees_with_a_loop(size):
    rows = embeddings(0, c=6)
    found = cosine_similarity(rows * size)
    for i, a in enumerate(rows):
        for j, b in enumerate(rows):
            product = sum(x * y for x, y in zip(a, b, strict=True))
            lengths = sum(x * x for x in a) ** 0.5 * sum(y * y for y in b) ** 0.5
            assert found[i, j] == pytest.approx(product / lengths)
    assert np.abs(found).max() <= 1


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf])
def test_a_row_that_points_nowhere_is_refused(bad):
    rows = embeddings(0, c=6)
    rows[[2, 5]] = bad
    with pytest.raises(DataError, match="2 of 6 rows are not; the first is row 2"):
        cosine_similarity(rows)


@pytest.mark.parametrize("c", [2, 15, 16, 17, 40])
def test_prefixes_of_random_orders_agree_with_a_loop(c):
    matrix = similarity(c, c).astype(np.float32)
    np.fill_diagonal(matrix, 0)
    orders = np.random.default_rng(1).permuted(np.tile(np.arange(c), (4, 1)), axis=1)
    found = mean_of_prefixes(torch.from_numpy(matrix), torch.from_numpy(orders))
    for order, means in zip(orders, found.tolist(), strict=True):
        assert means[0] == 0
        for size in range(2, c + 1):
            assert means[size - 1] == pytest.approx(mean_of_pairs(matrix, order[:size]), abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_closeness_agrees_with_a_loop(seed):
    matrix, c = similarity(seed), 24
    closeness = Closeness(matrix, permutations=300, seed=seed)
    orders = np.random.default_rng(seed).permuted(np.tile(np.arange(c), (300, 1)), axis=1)
    for size in (2, 5, 20, 23):
        area = np.random.default_rng(100 + seed).permutation(c)[:size]
        mine = mean_of_pairs(matrix, area)
        as_close = sum(mean_of_pairs(matrix, order[:size]) >= mine - 1e-9 for order in orders)
        found = closeness.of(area)
        assert found.relative == pytest.approx(mine / mean_of_pairs(matrix, range(c)))
        assert found.p_value == pytest.approx((1 + as_close) / 301)


def test_areas_asked_together_alone_or_nested_are_the_same():
    closeness = Closeness(similarity(0))
    order = torch.randperm(24, generator=torch.Generator().manual_seed(0))
    sizes = [0, 1, 2, 7, 7, 24]
    together = closeness.of_prefixes(order, sizes)
    for size, nested in zip(sizes, together, strict=True):
        for alone in (closeness.of(order[:size]), closeness.of(order[:size].numpy())):
            assert alone.p_value == nested.p_value
            assert alone.relative == (None if size < 2 else pytest.approx(nested.relative))
    assert closeness.of_prefixes(order, []) == closeness.of_each([]) == []
    many = closeness.of_each([order[:5]] * 1500)
    assert len(many) == 1500 and {found.p_value for found in many} == {closeness.of(order[:5]).p_value}


@given(seed=st.integers(0, 1000), c=st.integers(3, 20), data=st.data())
def test_laws_of_closeness(seed, c, data):
    matrix = similarity(seed, c, shift=1.0)
    area = np.array(data.draw(st.permutations(range(c)))[: data.draw(st.integers(2, c))])
    names = np.array(data.draw(st.permutations(range(c))))  # class i is now called names[i]
    renamed = np.empty_like(matrix)
    renamed[np.ix_(names, names)] = matrix
    closeness = Closeness(matrix, permutations=50)
    found, other = closeness.of(area), Closeness(renamed, permutations=50).of(names[area])
    assert 1 / 51 <= found.p_value <= 1
    if closeness.overall > 0.1:  # a ratio to almost nothing has no digits to compare
        assert other.relative == pytest.approx(found.relative, abs=1e-4)
        assert Closeness(matrix * 3).of(area).relative == pytest.approx(found.relative, abs=1e-4)
        assert closeness.of(np.arange(c)).relative == pytest.approx(1, abs=1e-4)
    assert closeness.of(np.arange(c)).p_value == 1
    assert closeness.of(area[::-1].copy()).p_value == found.p_value
    shifted = Closeness(matrix - 5, permutations=50).of(area)
    assert shifted == AreaSimilarity(None, shifted.p_value)
    assert shifted.p_value == pytest.approx(found.p_value, abs=2 / 51)


def test_a_planted_cluster_is_found_and_its_opposite_is_not():
    rows = embeddings(0, c=60, d=30)
    rows[:8] = rows[0] + 0.3 * rows[:8]
    closeness = Closeness(cosine_similarity(rows))
    cluster = closeness.of(np.arange(8))
    assert cluster.relative > 2 and cluster.p_value == pytest.approx(1 / 1001)
    apart = closeness.of(np.array([0, *range(20, 27)]))
    assert apart.relative < 1.5 and apart.p_value > 0.02


@pytest.mark.parametrize("size", [2, 6, 30])
def test_areas_by_chance_have_uniform_p_values(size):
    rng = np.random.default_rng(5)
    closeness = Closeness(similarity(3, c=60, d=20), permutations=5000)
    found = closeness.of_each([rng.permutation(60)[:size] for _ in range(2000)])
    p_values = np.sort([area.p_value for area in found])
    assert np.abs(p_values - np.linspace(0, 1, 2000)).max() < 0.05


def test_where_all_classes_are_equally_close_nothing_is_closer():
    closeness = Closeness(np.full((30, 30), 0.1))
    for size in (2, 3, 17, 30):
        found = closeness.of(np.arange(size))
        assert found.relative == pytest.approx(1) and found.p_value == 1


@pytest.mark.parametrize("c", [0, 1, 5])
def test_fewer_than_two_classes_have_no_pairs(c):
    closeness = Closeness(np.eye(c))
    for area in (np.arange(0), np.arange(c)[:1]):
        assert closeness.of(area) == AreaSimilarity(None, None)


def test_the_seed_decides():
    matrix, areas = similarity(0), [np.arange(k) for k in range(2, 20)]
    first, again, other = (Closeness(matrix, seed=seed).of_each(areas) for seed in (1, 1, 2))
    assert first == again != other


def test_a_thousand_classes_keep_their_digits():
    matrix = similarity(0, c=1000, d=40)
    closeness = Closeness(matrix, permutations=20)
    areas = [np.random.default_rng(k).permutation(1000)[:k] for k in (2, 40, 500, 1000)]
    overall = (matrix.sum() - 1000) / (1000 * 999)
    for area, found in zip(areas, closeness.of_each(areas), strict=True):
        inside = matrix[np.ix_(area, area)]
        mean = (inside.sum() - len(area)) / (len(area) * (len(area) - 1))
        assert found.relative == pytest.approx(mean / overall, rel=1e-5)
    orders = np.random.default_rng(0).permuted(np.tile(np.arange(1000), (20, 1)), axis=1)
    as_close = 0
    for order in orders:
        inside = matrix[np.ix_(order[:40], order[:40])]
        as_close += (inside.sum() - 40) >= matrix[np.ix_(areas[1], areas[1])].sum() - 40
    assert closeness.of(areas[1]).p_value == pytest.approx((1 + as_close) / 21)


def test_what_has_no_meaning_is_refused(unchecked):
    with pytest.raises(DataError, match=r"square, \[C, C\], not \[3, 4\]"):
        Closeness(np.zeros((3, 4)))
    with pytest.raises(DataError, match="finite"):
        Closeness(np.full((3, 3), np.nan))
    with pytest.raises(DataError, match="symmetric"):
        Closeness(np.triu(np.ones((3, 3))))
    closeness = Closeness(np.eye(3))
    with pytest.raises(DataError, match="names the classes 1 to 3, but there are 3"):
        closeness.of(np.array([1, 3]))
    with pytest.raises(DataError, match="names the classes -1 to 2"):
        closeness.of(np.array([2, -1]))
    with pytest.raises(DataError, match="3 classes names some of them twice"):
        closeness.of(np.array([1, 2, 1]))
    with pytest.raises(DataError, match="areas of 2, 4 classes asked for, of an order of 3"):
        closeness.of_prefixes(np.arange(3), [2, 4])
