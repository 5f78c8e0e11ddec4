"""The guide "I have two models and a pile of pictures": its commands, run as written, in a folder that is empty."""

import re
import shlex
from pathlib import Path

import pytest
from commands import call

PAGE = Path(__file__).parents[2] / "docs" / "pool.md"


def commands() -> list[list[str]]:
    """Return the commands on what the package holds."""
    blocks = re.findall(r"```text\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (block,) = [block for block in blocks if "demo:" in block]
    return [shlex.split(line)[1:] for line in block.splitlines()]


def test_the_guide_goes_from_models_and_pictures_to_a_page_that_asks(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    listed = commands()
    assert [command[0] for command in listed] == ["scout", "transfer", "report", "transfer", "verify"]
    for command in listed:
        code, out, error = call(capsys, *command)
        assert code == 0, error
        assert out
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")}
    wanted = ("scout/questions.csv", "run/report.html", "run/student/model.safetensors", "blind/ask.html")
    assert {f"guide/{name}" for name in wanted} <= files
    assert "On all samples" not in out and "ask.html" in out


@pytest.mark.parametrize("command", commands()[:1])
def test_a_second_run_of_a_command_reads_what_is_there(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    first, second = (call(capsys, *command, "--json") for _ in range(2))
    assert first[0] == second[0] == 0 and first[1] == second[1]
