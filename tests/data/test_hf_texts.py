"""Texts in data sets of the `datasets` library: folders that it saved, and parquet files as the hub has them."""

import datasets
import numpy as np
import pytest

import crossteach
from crossteach.errors import DataError, SpecError

WORDS = {"bad": ("poor", "dull", "weak"), "good": ("fine", "bright", "strong")}
PARTS = {"train": 30, "validation": 12, "test": 12}


def rows(split):
    """Return texts and labels of a split, no two texts alike."""
    labels = [i % 2 for i in range(PARTS[split])]
    texts = [f"{WORDS['good' if label else 'bad'][i % 3]} {split} nº {i}" for i, label in enumerate(labels)]
    return texts, labels


@pytest.fixture(scope="module")
def reviews():
    """Return a small set of texts with a ClassLabel, as `imdb` has."""
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])})
    parts = {}
    for split in PARTS:
        texts, labels = rows(split)
        parts[split] = datasets.Dataset.from_dict({"text": texts, "label": labels}, features=features)
    return datasets.DatasetDict(parts)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Keep the library's cache out of the user's, and the hub away."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture
def saved(tmp_path):
    """Save splits, and return the spec that opens them."""

    def save(parts, name="saved"):
        datasets.DatasetDict(parts).save_to_disk(tmp_path / name)
        return f"hf:{tmp_path / name}"

    return save


def texts_of(split):
    return [text.decode() for text in split.inputs.texts(split.input_rows(np.arange(len(split))))]


@pytest.mark.parametrize("kind", ["saved", "parquet"])
def test_texts_and_labels_are_read_as_they_were_written(reviews, saved, tmp_path, kind):
    if kind == "parquet":
        (tmp_path / "hub").mkdir()
        for name, part in reviews.items():
            part.to_parquet(tmp_path / "hub" / f"{name}-00000-of-00001.parquet")
    data = crossteach.load_data(saved(reviews) if kind == "saved" else f"hf:{tmp_path}/hub")
    assert data.test.inputs.kind == "text" and data.classes == ("neg", "pos") and data.notes == ()
    for split, name in ((data.train, "train"), (data.selection, "validation"), (data.test, "test")):
        assert (texts_of(split), split.labels.tolist()) == rows(name)


def test_labels_may_be_words_and_missing_splits_are_cut(reviews, saved):
    named = reviews["train"].cast_column("label", datasets.Value("string"))
    named = named.map(lambda row: {"label": {"0": "neg", "1": "pos"}[row["label"]]})
    data = crossteach.load_data(saved({"train": named}))
    assert data.classes == ("neg", "pos") and len(data.train) + len(data.selection) + len(data.test) == 30
    assert any("6 of 30 samples of train were cut off for it" in note for note in data.notes)
    plain = {"train": named.rename_columns({"text": "body", "label": "kind"})}
    data = crossteach.load_data(f"{saved(plain, 'plain')}?label=kind")
    assert data.classes == ("neg", "pos") and data.test.inputs.kind == "text"


def test_the_column_of_texts_is_the_one_called_text_or_is_asked_for(reviews, saved):
    titled = {name: part.add_column("title", ["a"] * len(part)) for name, part in reviews.items()}
    assert texts_of(crossteach.load_data(saved(titled)).test) == rows("test")[0]
    pairs = {name: part.rename_columns({"text": "premise", "title": "claim"}) for name, part in titled.items()}
    spec = saved(pairs, "pairs")
    with pytest.raises(
        DataError,
        match=r"the columns premise, claim could be the text; it has premise, claim: name one by .text=COLUMN",
    ):
        crossteach.load_data(spec)
    assert texts_of(crossteach.load_data(f"{spec}?text=premise").test) == rows("test")[0]


def test_what_is_no_text_is_refused_in_one_line(reviews, saved):
    spec = saved({name: part.add_column("stars", [3] * len(part)) for name, part in reviews.items()})
    for error, options, words in (
        (
            DataError,
            "?text=stars",
            "column 'stars' of .* holds int64, no texts; name a column of strings by .text=COLUMN",
        ),
        (DataError, "?text=body", "has no column 'body'; it has text, label, stars"),
        (DataError, "?image=text", "must hold encoded pictures, not string; name the column of pictures by .image="),
        (SpecError, "?text=text&image=text", "names a column of pictures and one of texts; give image= or text="),
        (SpecError, "?channels=1", "has the option 'channels', which hf: does not know"),
        (SpecError, "?longest=0", "option longest of .* must be at least 1"),
    ):
        with pytest.raises(error, match=words):
            crossteach.load_data(spec + options)


def test_empty_and_long_texts_are_counted(reviews, saved):
    gaps = reviews["test"].map(lambda row, i: {"text": None if i == 3 else row["text"] * 9}, with_indices=True)
    data = crossteach.load_data(f"{saved({**reviews, 'test': gaps})}?longest=40&duplicates=keep")
    assert "1 of 12 texts of test are empty" in data.notes
    assert any(note.startswith("11 of 12 texts of test are cut to 40 bytes") for note in data.notes)
    assert texts_of(data.test)[3] == ""


def test_texts_are_a_pool_without_their_labels(reviews, saved):
    fresh = datasets.Dataset.from_dict({"text": ["quite new", "as new", "fine test nº 3"], "label": [9, 9, 9]})
    data = crossteach.load_data(saved(reviews), [saved({"train": fresh}, "fresh")])
    assert texts_of(data.pools[0].split) == ["quite new", "as new"] and data.pools[0].split.labels is None
    named = datasets.Dataset.from_dict({"body": ["one more", "and more"], "label": ["a", "b"]})
    assert len(crossteach.load_data(saved(reviews, "r"), [saved({"train": named}, "n")]).pools[0].split) == 2
