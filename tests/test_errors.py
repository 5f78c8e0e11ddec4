"""Messages are one line, whatever stands in the names that they show."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossteach import load_data
from crossteach.errors import CrossteachError, DataError, printable


@given(st.text())
def test_a_message_is_one_line_that_steers_no_terminal(text):
    message = str(CrossteachError(text))
    assert message.isprintable() and len(message.splitlines()) <= 1
    assert not text.isprintable() or message == text


def test_words_stay_apart_and_signs_are_told():
    assert printable("a\nb\u2028c\td") == "a b c d"
    assert printable("\x1b[31m \u202e \0") == r"\x1b[31m \u202e \x00"


def test_a_name_out_of_a_file_does_not_break_the_line(tmp_path):
    (tmp_path / "list.csv").write_text("a\x1b]0;title\x07,label\nx,y\n", encoding="utf-8")
    with pytest.raises(DataError, match="has no column") as caught:
        load_data(f"csv:{tmp_path / 'list.csv'}")
    assert str(caught.value).isprintable() and r"a\x1b]0;title\x07" in str(caught.value)
