import numpy as np
import pytest

from crossteach.data.cut import stratified_cut, stratified_sample, tune_and_gate
from crossteach.errors import DataError
from crossteach.types import NO_LABEL, Split


@pytest.fixture
def grouped(unchecked):
    def make(sizes, name="selection"):
        count = sum(sizes)
        group = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))
        return Split(name, None, np.arange(count), np.arange(count) % 3, group=group)

    return make


def test_a_split_without_any_label_is_cut_as_one_class(unchecked):
    """Tars whose `.cls` members are all unreadable once ended in a traceback of numpy."""
    split = Split("train", None, np.arange(40), np.full(40, NO_LABEL))
    cut, kept = stratified_cut(split, 0.25)
    assert (len(cut), len(kept)) == (10, 30)


def parts(split):
    tuned, held = stratified_cut(split, 0.25)
    return split.group[tuned], split.group[held]


@pytest.mark.parametrize("sizes", [(900, 100), (100, 900)])
def test_of_two_groups_the_smaller_one_tunes(grouped, sizes):
    """[900, 100] once gave 900 samples to tune, and [100, 900] was refused."""
    tuned, held = parts(grouped(sizes))
    assert (len(tuned), len(held)) == (100, 900)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("count", [8, 20, 100])
def test_both_parts_have_their_share_of_groups_and_of_samples(grouped, count, seed):
    sizes = np.random.default_rng(seed).lognormal(4, 1, count).astype(int) + 1
    tuned, held = parts(grouped(sizes.tolist()))
    assert not set(tuned) & set(held)
    assert len(set(tuned)) == round(0.25 * count) and len(set(held)) == count - round(0.25 * count)
    largest = sizes.max() / sizes.sum()
    assert abs(len(tuned) / sizes.sum() - 0.25) <= max(0.02, largest / 2)


def test_groups_are_cut_alike_whatever_they_are_called(grouped):
    split = grouped((30, 10, 20, 40, 25, 35))
    tuned, _ = stratified_cut(split, 0.25)
    renamed = Split("selection", None, split.ids, split.labels, group=split.group * 1000 + 7)
    assert stratified_cut(renamed, 0.25)[0].tolist() == tuned.tolist()


def test_one_group_is_cut_by_samples(grouped):
    tuned, held = parts(grouped((200,)))
    assert (len(tuned), len(held)) == pytest.approx((50, 150), abs=3)


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_rare_and_common_classes_are_cut_in_the_same_share(share, unchecked):
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(5), [900, 400, 100, 20, 3]))
    split = Split("train", None, np.arange(len(labels)), labels)
    cut, kept = stratified_cut(split, share)
    assert sorted([*cut, *kept]) == list(range(len(labels)))
    for label, count in enumerate(np.bincount(labels)):
        assert abs((labels[cut] == label).sum() - share * count) <= 1
    drawn = stratified_sample(split, 142)
    assert np.bincount(labels[drawn], minlength=5).tolist() == pytest.approx(np.bincount(labels) / 10, abs=1)


def test_a_split_the_user_never_made_is_not_spoken_of(grouped):
    """Held-out samples may have been cut from train: the message says how to get more, not which split is small."""
    with pytest.raises(DataError) as caught:
        tune_and_gate(grouped((1,)))
    told = str(caught.value)
    assert told.startswith("1 held-out samples are too few") and "val split" in told and "selection" not in told
