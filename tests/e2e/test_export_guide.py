"""The page on exports: its commands, run as written, in a folder that is empty."""

import re
import shlex
from pathlib import Path

from commands import call

PAGE = Path(__file__).parents[2] / "docs" / "export.md"


def test_the_commands_of_the_page_run_as_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```text\n(.*?)```", PAGE.read_text(), re.DOTALL)
    listed = [shlex.split(line)[1:] for line in block.splitlines()]
    assert [command[0] for command in listed] == ["transfer", "export", "export"]
    for command in listed:
        code, out, error = call(capsys, *command)
        assert (code, error) == (0, "")
        assert command[0] == "transfer" or "8 fixed images and 128 test samples" in out
    assert (tmp_path / "exported" / "torch" / "model.pt2").is_file()
    assert (tmp_path / "exported" / "onnx" / "model.onnx").is_file()
