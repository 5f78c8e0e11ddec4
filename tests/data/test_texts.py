import io
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import crossteach
from crossteach.data.pictures import draw_text, write_pictures
from crossteach.data.pool import with_pools
from crossteach.data.texts import FIXED, TextInputs, drop_span, drop_words, fixed_texts, from_batch, join, to_batch
from crossteach.data.views import augmentation, uniforms
from crossteach.errors import DataError


@given(st.lists(st.binary(max_size=30), min_size=1, max_size=5))
def test_texts_survive_the_way_through_a_batch(texts):
    assert from_batch(to_batch(texts)) == texts
    assert (
        from_batch(join([to_batch(texts), to_batch([b"a much longer one than the others are"])]))[: len(texts)] == texts
    )


def test_inputs_give_texts_and_cut_what_is_too_long():
    inputs = TextInputs(["short", "ein längerer Text", b"\xff\x00bytes"], "mine", longest=8)
    assert inputs.size == (1, 8)
    assert inputs.cut == 1
    assert inputs.texts(np.array([2, 1, 0])) == [b"\xff\x00bytes", "ein längerer Text".encode()[:8], b"short"]
    assert from_batch(inputs.read(np.array([0, 2]), None, None)) == [b"short", b"\xff\x00bytes"]


def test_a_fingerprint_sees_every_byte_and_every_border():
    same = TextInputs(["ab", "c"], "mine").fingerprint
    assert same == TextInputs([b"ab", b"c"], "mine").fingerprint
    assert same != TextInputs(["a", "bc"], "mine").fingerprint
    assert same != TextInputs(["ab", "d"], "mine").fingerprint


def test_what_is_no_text_is_refused():
    with pytest.raises(DataError, match=r"must be texts .*int is among them"):
        TextInputs(["a", 3], "mine")


def test_words_are_dropped_as_a_plain_loop_drops_them():
    texts = [b"one two three four five six seven eight", b"alone", b"", b"a b"]
    u = uniforms(3, np.arange(4), np.zeros(4, np.int64), 64)
    dropped = from_batch(drop_words(to_batch(texts), u, strength=4.0))
    for text, kept, chances in zip(texts, dropped, u.tolist(), strict=True):
        pieces = [(b" " if i else b"") + word for i, word in enumerate(text.split(b" "))]
        wanted = b"".join(p for p, chance in zip(pieces, chances, strict=False) if chance >= 0.4)
        assert kept == (wanted or text)
    assert dropped[0] != texts[0]


def test_a_span_is_left_out_and_nothing_else():
    text = bytes(range(33, 123))
    u = uniforms(0, np.arange(50), np.zeros(50, np.int64), 64)
    lengths = set()
    for kept in from_batch(drop_span(to_batch([text] * 50), u)):
        first = next((i for i, (a, b) in enumerate(zip(kept, text, strict=False)) if a != b), len(kept))
        assert text[:first] + text[len(text) - (len(kept) - first) :] == kept
        lengths.add(len(text) - len(kept))
    assert max(lengths) <= 0.15 * len(text)
    assert len(lengths) > 5


def test_views_of_text_are_made_for_text():
    assert augmentation("words").kind == "text"
    assert augmentation("none").kind is None


def data_of(texts, labels):
    return crossteach.from_texts((texts, labels), (["x1", "x2"], [0, 1]), (["y1", "y2"], [0, 1]))


def test_a_pool_loses_what_stands_in_test_or_nearly_does():
    data = data_of(["a", "b"], [0, 1])
    data = crossteach.from_texts((["aa", "bb"], [0, 1]), (["Save the file", "x"], [0, 1]), (["y", "z"], [0, 1]))
    pool = crossteach.pool_from(["save the FILE!", "Save the file", "save a file", "new", "new"], name="mine")
    (found,) = with_pools(data, [pool]).pools
    assert found.split.inputs.texts(found.split.rows) == [b"save a file", b"new"]
    assert dict(found.dropped) == {"repeated in the pool": 1, "in test": 1, "nearly in test": 1}


def test_texts_without_letters_are_nearly_equal_where_they_are_equal():
    data = crossteach.from_texts((["aa", "bb"], [0, 1]), (["1, 2, 3", "x"], [0, 1]), (["...", "z"], [0, 1]))
    (found,) = with_pools(data, [crossteach.pool_from(["4, 5", "???", "1, 2, 3"], name="mine")]).pools
    assert found.split.inputs.texts(found.split.rows) == [b"4, 5", b"???"]
    assert dict(found.dropped) == {"in test": 1}


def test_notes_on_texts_that_stand_twice_speak_of_texts():
    data = crossteach.from_texts((["a", "b"], [0, 1]), (["a", "c"], [0, 1]), (["d", "e"], [0, 1]))
    assert any(note.startswith("1 of 2 texts of test stand in train too") for note in data.notes), data.notes
    with pytest.raises(DataError, match=r"all 1 texts of the test split .*; give other texts"):
        crossteach.from_texts((["a", "b"], [0, 1]), (["a"], [0]), (["d", "e"], [0, 1]))
    with pytest.raises(DataError, match="of 1 texts 1 in test; give fresh ones"):
        with_pools(data, [crossteach.pool_from(["c"], name="mine")])


def test_text_and_images_do_not_mix():
    data = crossteach.load_data("sklearn:digits")
    with pytest.raises(DataError, match="holds text but 'sklearn:digits' image"):
        with_pools(data, [crossteach.pool_from(["a", "b"])])


def test_selection_is_cut_and_notes_say_what_was_cut_off():
    data = crossteach.from_texts(
        (["a" * 20, "b", "c", "d"] * 5, [0, 1, 0, 1] * 5), (["e", "f"], [0, 1]), longest=10, duplicates="keep"
    )
    assert "5 texts of train are cut to 10 bytes" in data.notes
    assert data.selection_seen
    assert data.augmentation == "none"


@pytest.mark.parametrize("label", ["text", 1.5])
def test_labels_are_class_ids(label):
    with pytest.raises(DataError, match="class ids"):
        crossteach.from_texts((["a"], [label]), (["b"], [0]))


def test_a_text_is_drawn_as_a_picture_that_holds_no_markup(tmp_path):
    hostile = b"<script>alert(1)</script> & \x00\xff " + b"word " * 200
    root = ET.parse(io.StringIO(draw_text(hostile))).getroot()
    words = "".join(root.itertext())
    assert "<script>" in words
    assert "…" in words
    assert not [e for e in root.iter() if "script" in e.tag]
    data = data_of(["a", "b"], [0, 1])
    files = write_pictures(data.test, [1, 0, 1], tmp_path)
    assert files == {0: "pictures/test-0.svg", 1: "pictures/test-1.svg"}
    assert "x2" in (tmp_path / files[1]).read_text()


def test_fixed_texts_are_what_they_are_everywhere():
    assert from_batch(fixed_texts()) == list(FIXED)
    assert torch.equal(fixed_texts(), fixed_texts())
