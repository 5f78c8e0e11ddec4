import json
import os
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest

from crossteach import config, files, runs
from crossteach.errors import FolderInUseError, RunFolderError
from crossteach.runs import open_run

CONFIG = {"command": "transfer", "seed": 0}


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(files, "PATIENCE", 0.1)


def test_a_run_is_begun_left_and_finished(tmp_path):
    with open_run(tmp_path / "run", CONFIG).working() as run:
        run.save_checkpoint({"step": 3})
    with open_run(tmp_path / "run", CONFIG).working() as run:
        assert not run.is_whole and run.load_checkpoint() == {"step": 3}
        run.finish({"delta": 1.5})
    again = open_run(tmp_path / "run", CONFIG)
    assert again.is_whole and again.summary() == {"delta": 1.5}
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["config.json", "summary.json"]


def test_another_configuration_is_refused_or_replaces_the_run(tmp_path):
    with open_run(tmp_path, CONFIG).working() as run:
        run.finish({"seed": 0})
    other = {**CONFIG, "seed": 1}
    with pytest.raises(RunFolderError, match=r"another configuration \(seed was 0, is 1\)"):
        open_run(tmp_path, other)
    assert not open_run(tmp_path, other, overwrite=True).is_whole


def test_a_run_of_another_procedure_is_not_served(tmp_path, monkeypatch):
    with open_run(tmp_path, CONFIG).working() as run:
        run.finish({"seed": 0})
    monkeypatch.setattr(runs, "PROCEDURE", config.PROCEDURE + 1)
    with pytest.raises(RunFolderError, match="another version of crossteach") as error:
        open_run(tmp_path, CONFIG)
    assert f"its procedure was {config.PROCEDURE}, is {config.PROCEDURE + 1}" in str(error.value)
    assert "--overwrite" in str(error.value) and "\n" not in str(error.value)
    assert not open_run(tmp_path, CONFIG, overwrite=True).is_whole


def test_a_run_from_before_procedures_were_kept_is_not_served(tmp_path):
    open_run(tmp_path, CONFIG)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    with pytest.raises(RunFolderError, match="another version of crossteach"):
        open_run(tmp_path, CONFIG)


def test_a_folder_in_use_takes_neither_the_same_run_nor_another(tmp_path):
    with open_run(tmp_path, CONFIG).working():
        with pytest.raises(FolderInUseError, match=f"process {os.getpid()}"), open_run(tmp_path, CONFIG).working():
            pass
        for again in (CONFIG, {**CONFIG, "seed": 1}):
            with pytest.raises(FolderInUseError, match="in use"):
                open_run(tmp_path, again, overwrite=True)
        assert (tmp_path / "config.json").is_file()


def test_a_whole_folder_is_read_without_the_lock(tmp_path):
    with open_run(tmp_path, CONFIG).working() as run:
        run.finish({"seed": 0})
        with open_run(tmp_path, CONFIG).working() as other:
            assert other.is_whole and other.summary() == {"seed": 0}


def test_a_run_that_another_process_finished_meanwhile_is_seen_as_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "PATIENCE", 30)
    waiting = open_run(tmp_path, CONFIG)
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom crossteach.runs import open_run\n"
        "with open_run(Path(sys.argv[1]), {'command': 'transfer', 'seed': 0}).working() as run:\n"
        "    print('working', flush=True)\n    time.sleep(0.5)\n    run.finish({'by': 'the other'})\n"
    )
    other = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    assert other.stdout.readline() == b"working\n"
    with waiting.working() as run:
        assert run.is_whole and run.summary() == {"by": "the other"}
    assert other.wait(60) == 0
    other.stdout.close()


def test_a_folder_that_another_run_has_taken_meanwhile_is_refused(tmp_path):
    ours = open_run(tmp_path, CONFIG)
    open_run(tmp_path, {**CONFIG, "seed": 1}, overwrite=True)
    with pytest.raises(RunFolderError, match="another run in"), ours.working():
        pass


def test_two_new_runs_in_one_folder_leave_one(tmp_path, monkeypatch):
    real, met = runs.holding, []

    def after_another(path, *given):
        if not met:
            met.append(path)
            open_run(path, {**CONFIG, "seed": 1})
        return real(path, *given)

    monkeypatch.setattr(runs, "holding", after_another)
    with pytest.raises(RunFolderError, match="another configuration"):
        open_run(tmp_path / "run", CONFIG)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["seed"] == 1


def test_a_folder_half_emptied_is_not_whole(tmp_path, monkeypatch):
    with open_run(tmp_path, CONFIG).working() as run:
        run.finish({"seed": 0})
        (tmp_path / "student").mkdir()

    def fail(path):
        raise KeyboardInterrupt

    monkeypatch.setattr(runs.shutil, "rmtree", fail)
    with pytest.raises(KeyboardInterrupt):
        open_run(tmp_path, {**CONFIG, "seed": 1}, overwrite=True)
    assert not (tmp_path / "summary.json").exists()


@pytest.mark.parametrize("name", ["questions.csv", "ask.csv", "lesson-1/ask.csv"])
def test_what_a_person_has_filled_in_is_never_removed(tmp_path, name):
    with open_run(tmp_path, CONFIG).working() as run:
        run.finish({"seed": 0})
    other, path = {**CONFIG, "seed": 1}, tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("sample,label\nq0,cat\nq1,\n")
    with pytest.raises(RunFolderError, match=rf"{name} holds labels that a person has filled in \(1\)"):
        open_run(tmp_path, other, overwrite=True)
    assert open_run(tmp_path, CONFIG, overwrite=True).is_whole, "nothing was removed"
    path.write_text("sample,label\nq0,\nq1,\n")
    assert not open_run(tmp_path, other, overwrite=True).is_whole and not path.exists()


def test_other_files_are_never_removed(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(RunFolderError, match=r"holds other files \(thesis.tex\)"):
        open_run(tmp_path, CONFIG, overwrite=True)
    with pytest.raises(RunFolderError, match="is a file"):
        open_run(tmp_path / "thesis.tex", CONFIG)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_texts_that_are_not_utf_8_are_escaped_in_tables(tmp_path):
    name = os.fsdecode(b"caf\xe9")
    run = open_run(tmp_path, CONFIG)
    names = np.array([name, "é", None], dtype=object)
    run.write_table("classes.parquet", {"name": names, "n": np.arange(3)})
    assert pq.read_table(tmp_path / "classes.parquet").to_pydict() == {
        "name": ["caf\\udce9", "é", None],
        "n": [0, 1, 2],
    }
