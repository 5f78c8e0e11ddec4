import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from crossteach import files
from crossteach.errors import FolderInUseError, WriteError
from crossteach.files import holding, is_held, require_free, write_json

HOLDER = """
import errno, sys, time
from pathlib import Path
from crossteach import files
if sys.argv[2] == "without locks":
    def flock(file, how):
        raise OSError(errno.ENOLCK, "No locks available")
    files.fcntl.flock = flock
with files.holding(Path(sys.argv[1])):
    print("holding", flush=True)
    time.sleep(60)
"""


def hold_elsewhere(folder, how="with locks"):
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(folder), how], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "holding\n"
    return process


def end(process, number=signal.SIGKILL):
    process.send_signal(number)
    process.wait(60)
    process.stdout.close()


def no_locks(monkeypatch, how):
    def flock(file, how):
        raise OSError(errno.ENOLCK, "No locks available")

    if how == "no flock":
        fcntl = SimpleNamespace(flock=flock, **dict.fromkeys(("LOCK_EX", "LOCK_NB", "LOCK_SH"), 0))
        monkeypatch.setattr(files, "fcntl", fcntl)
    if how == "no fcntl":
        monkeypatch.setattr(files, "fcntl", None)


@pytest.fixture(params=["flock", "no flock", "no fcntl"])
def system(request, monkeypatch):
    no_locks(monkeypatch, request.param)
    monkeypatch.setattr(files, "PATIENCE", 0.1)
    return request.param


def test_a_folder_is_held_while_the_block_runs_and_left_clean(system, tmp_path):
    folder = tmp_path / "run"
    with holding(folder):
        assert is_held(folder)
        with pytest.raises(FolderInUseError) as error, holding(folder):
            pass
        with pytest.raises(FolderInUseError, match="in use"):
            require_free(folder)
        assert is_held(folder)
    assert not is_held(folder) and list(folder.iterdir()) == []
    name = f"process {os.getpid()} on {socket.gethostname()}"
    assert str(error.value).startswith(f"{folder} is in use by {name}") and "\n" not in str(error.value)
    assert "choose another --out" in str(error.value)
    require_free(folder)
    with holding(folder):
        pass


def test_an_error_in_the_block_releases_the_folder(system, tmp_path):
    with pytest.raises(KeyError), holding(tmp_path):
        raise KeyError
    with holding(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("how", ["with locks", "without locks"])
def test_a_folder_that_a_killed_process_held_is_free(tmp_path, monkeypatch, how):
    monkeypatch.setattr(files, "PATIENCE", 0.1)
    if how == "without locks":
        no_locks(monkeypatch, "no flock")
    process = hold_elsewhere(tmp_path, how)
    try:
        assert is_held(tmp_path)
        with (
            pytest.raises(FolderInUseError, match=f"process {process.pid} on {socket.gethostname()}"),
            holding(tmp_path),
        ):
            pass
    finally:
        end(process)
    assert not is_held(tmp_path)
    with holding(tmp_path):
        assert is_held(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_process_of_another_machine_is_never_taken_for_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "PATIENCE", 0.1)
    no_locks(monkeypatch, "no flock")
    (tmp_path / files.PID_FILE).write_text(json.dumps({"pid": 2**22 + 1, "host": "elsewhere"}))
    with (
        pytest.raises(FolderInUseError, match=r"on elsewhere \(if that has ended, delete .*lock-pid\)"),
        holding(tmp_path),
    ):
        pass


RACERS = """
import sys, time
from pathlib import Path
from crossteach import files
folder, end = Path(sys.argv[1]), time.time() + 30
files.PATIENCE = 30
for _ in range(200):
    with files.holding(folder):
        count = int((folder / "count").read_text())
        (folder / "count").write_text(str(count + 1))
"""


def test_of_many_that_want_a_folder_one_at_a_time_has_it(tmp_path):
    (tmp_path / "count").write_text("0")
    racers = [subprocess.Popen([sys.executable, "-c", RACERS, str(tmp_path)]) for _ in range(3)]
    try:
        assert [racer.wait(120) for racer in racers] == [0, 0, 0]
    finally:
        for racer in racers:
            racer.kill()
            racer.wait()
    assert (tmp_path / "count").read_text() == "600"
    assert [path.name for path in tmp_path.iterdir()] == ["count"]


def test_asking_whether_a_folder_is_held_does_not_keep_it_from_anyone(tmp_path):
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys\nfrom pathlib import Path\nfrom crossteach.files import is_held\n"
            "print('asking', flush=True)\nwhile True: is_held(Path(sys.argv[1]))",
            str(tmp_path),
        ],
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout.readline() == b"asking\n"
        until = time.monotonic() + 2
        while time.monotonic() < until:
            with holding(tmp_path):
                pass
    finally:
        end(process)


def test_a_folder_that_cannot_be_made_is_an_error_of_one_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(WriteError, match="cannot write"), holding(tmp_path / "file" / "run"):
        pass


def test_a_name_that_is_not_utf_8_is_written_and_read_back(tmp_path):
    name = os.fsdecode(b"caf\xe9.png")
    write_json(tmp_path / "a.json", {name: ["é", name]})
    assert (tmp_path / "a.json").read_bytes().decode("utf-8")
    found = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert found == {name: ["é", name]} and os.fsencode(found[name][1]) == b"caf\xe9.png"
