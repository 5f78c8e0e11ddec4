"""A user's own Python files."""

import os
import pickle
import sys

import pytest

from crossteach.code import read_code, source_of
from crossteach.errors import ConfigError, SpecError


def test_a_file_is_read_first_and_runs_when_it_is_asked_for_a_function(tmp_path):
    path, ran = tmp_path / "own.py", tmp_path / "ran"
    path.write_text(f"from pathlib import Path\nPath({str(ran)!r}).touch()\ndef double(x):\n    return 2 * x\n")
    code = read_code(str(path), "a test", ConfigError)
    assert not ran.exists() and code.text == path.read_text()
    assert code.function("double")(3) == 6
    assert source_of(code.function("double")) == code.text


def test_the_same_text_runs_once_and_a_changed_one_runs_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    path = tmp_path / "own.py"
    found = []
    for number in (1, 1, 2):
        path.write_text(f"class Thing:\n    number = {number}\n")
        os.utime(path, (1000, 1000))  # the time of change says nothing
        found.append(read_code(str(path), "a test", ConfigError).function("Thing"))
    assert found[0] is found[1] is not found[2]
    assert [each.number for each in found] == [1, 1, 2]
    assert type(pickle.loads(pickle.dumps(found[0]()))) is found[0]


def test_a_module_is_imported():
    assert read_code("os.path", "a test", SpecError).function("join") is os.path.join
    assert "def join" in source_of(os.path.join)
    assert source_of(len) == ""


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "cannot be read .No such file"),
        ("def f(:", "cannot be run .SyntaxError"),
        ("1 / 0", "cannot be run .ZeroDivisionError"),
        ("import sys; sys.exit(3)", "cannot be run .SystemExit"),
        ("from . import x", "cannot be run .ImportError"),
        ("f = 3", "has no function 'f'"),
        ("", "has no function 'f'"),
        ("# coding: martian\n", "is not a text of Python"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_clear_line(tmp_path, text, says):
    path = tmp_path / "own.py"
    if text is not None:
        path.write_text(text)
    before = set(sys.modules)
    with pytest.raises(ConfigError, match=f"the setting: .*own.py {says}") as told:
        read_code(str(path), "the setting", ConfigError).function("f")
    assert "\n" not in str(told.value)
    if text not in ("f = 3", ""):
        assert not {name for name in set(sys.modules) - before if name.startswith("crossteach_user")}


def test_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "own.py").write_bytes(b"x = '\xff\xfe'")
    with pytest.raises(ConfigError, match="is not a text of Python"):
        read_code(str(tmp_path / "own.py"), "the setting", ConfigError)
