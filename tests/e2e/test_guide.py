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


def answer(listed: Path) -> None:
    """Write into the list that neither student is right, as one who looks at the pictures might."""
    lines = listed.read_text().splitlines()
    assert len(lines) > 1 and all(line.endswith(",") for line in lines[1:])
    listed.write_text("\n".join([lines[0], *(f"{line}neither" for line in lines[1:])]) + "\n")


def test_the_guide_goes_from_models_and_pictures_to_a_page_that_asks(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    listed = commands()
    names = [command[0] for command in listed]
    assert names == ["scout", "transfer", "report", "transfer", "verify", "verify", "export"]
    for command in listed:
        if "--labels" in command:
            answer(Path(command[-1]))
        code, out, error = call(capsys, *command)
        assert code == 0, error
        assert out
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")}
    wanted = ("scout/questions.csv", "run/report.html", "run/student/model.safetensors", "blind/ask.html")
    assert {f"guide/{name}" for name in (*wanted, "exported/model.safetensors")} <= files


@pytest.mark.parametrize("command", commands()[:1])
def test_a_second_run_of_a_command_reads_what_is_there(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    first, second = (call(capsys, *command, "--json") for _ in range(2))
    assert first[0] == second[0] == 0 and first[1] == second[1]
