"""A spec of data that is none is answered with the one that was probably meant."""

import pytest

from crossteach import load_data
from crossteach.errors import SpecError


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("data.npz", "npz:data.npz"),
        ("data.npz?train_samples=9", "npz:data.npz?train_samples=9"),
        ("list.csv?label=class", "csv:list.csv?label=class"),
        ("list.TSV", "csv:list.TSV"),
        ("list.parquet", "csv:list.parquet"),
        ("shard-{00..09}.tar", "wds:shard-{00..09}.tar"),
        ("saved", "hf:saved"),
        ("shards", "wds:shards"),
        ("pictures", "folder:pictures"),
        ("mnist", "idx:mnist"),
        ("foldr:pictures", "folder:pictures"),
        ("digits", "sklearn:digits"),
        ("glyph", "glyphs"),
        ("cornell-movie/rotten_tomatoes?label=label", "hf:cornell-movie/rotten_tomatoes?label=label"),
    ],
)
@pytest.mark.parametrize("as_pool", [False, True])
def test_what_was_meant_is_said(text, meant, as_pool, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    for file in ("mnist/train-images-idx3-ubyte.gz", "saved/dataset_dict.json", "shards/train-0.tar"):
        (tmp_path / file).parent.mkdir()
        (tmp_path / file).touch()
    with pytest.raises(SpecError) as refused:
        load_data(None, [text]) if as_pool else load_data(text)
    assert str(refused.value) == f"unknown {'pool' if as_pool else 'data'} {text!r}; did you mean {meant}?"


def test_nonsense_gets_the_list():
    for text in ("", ":", "./nothing/here", "data.xyz"):
        with pytest.raises(
            SpecError, match=r"expected one of csv, folder, glyphs, hf, idx, npz, sklearn, wds, as in npz:FILE$"
        ):
            load_data(text)


def test_a_word_alone_may_be_a_data_set_of_the_hub():
    with pytest.raises(SpecError, match=r"as in npz:FILE, or hf:imdb\?text=text for one of the hub$"):
        load_data("imdb?text=text")
