import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossteach import Store
from crossteach.answers.stored import list_entries, prune_store, read_size, verify_store
from crossteach.config import SCORING
from crossteach.errors import ConfigError


def fill(store, name, rows=100, known=None, classes=5, used=None):
    table = store.table({"kind": "predictions", "model": name, "data": "d"}, rows, classes, "float32")
    chosen = np.arange(rows if known is None else known)
    table.write(chosen, np.random.default_rng(0).normal(size=(len(chosen), classes)).astype(np.float32))
    table.flush()
    (folder,) = (Path(e.folder) for e in list_entries(store) if e.model == name)
    if used is not None:
        for path in folder.iterdir():
            os.utime(path, (used, used))
    return folder


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def test_entries_are_listed_by_their_last_use(store):
    now = time.time()
    fill(store, "old", used=now - 9e5)
    fill(store, "half", known=40, used=now - 100)
    store.remember({"kind": "probe"}, {"lr": 0.1})
    found = list_entries(store)
    assert [(e.kind, e.model, e.known, e.rows, e.classes) for e in found] == [
        ("fact", "", 0, 0, 0),
        ("predictions", "half", 40, 100, 5),
        ("predictions", "old", 100, 100, 5),
    ]
    assert all(e.bytes >= 100 * 5 * 4 for e in found[1:])


def test_opening_a_table_is_a_use(store):
    fill(store, "a", used=1e9)
    store.table({"kind": "predictions", "model": "a", "data": "d"}, 100, 5, "float32")
    assert list_entries(store)[0].used > time.time() - 60


def block_of(folder):
    (path,) = folder.glob("*.rows")
    return path


def test_damage_is_found_and_pruned_and_the_rest_stays(store):
    good = fill(store, "good")
    short, changed, manifest, nan = (fill(store, name) for name in ("short", "changed", "manifest", "nan"))
    with block_of(short).open("r+b") as file:
        file.truncate(300)
    with block_of(changed).open("r+b") as file:
        file.seek(77)
        file.write(b"x")
    (manifest / "manifest.json").write_text("{")
    block_of(nan).unlink()
    table = store.table({"kind": "predictions", "model": "nan", "data": "d"}, 100, 5, "float32")
    table.write(np.arange(100), np.where(np.arange(500).reshape(100, 5) == 17, np.nan, 1).astype(np.float32))
    table.flush()
    before = {path: path.read_bytes() for path in good.iterdir()}
    found = {Path(e.folder): e.problem for e in verify_store(store)}
    assert set(found) == {short, changed, manifest, nan}
    assert found[nan] == "1 of the rows from 0 hold NaN or infinity"
    assert found[changed] == f"{block_of(changed).name} holds other bytes than were written"
    assert block_of(short).name in found[short]
    assert {Path(e.folder) for e in prune_store(store)} == {short, manifest}, "what is only read may hold NaN"
    assert before == {path: path.read_bytes() for path in good.iterdir()}
    assert not short.exists()


def old_table(store, number=1):
    """Make a table as format 1 had it: a few bytes stand for its two arrays."""
    folder = store.folder / "ab" / f"ab{number:030}"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({"format": 1, "rows": 3, "classes": 2, "dtype": "float32"}))
    np.save(folder / "logits.npy", np.zeros((3, 2), np.float32))
    np.save(folder / "done.npy", np.ones(3, np.uint8))
    return folder


def test_what_another_version_wrote_is_named_and_pruned_and_no_damage(store):
    good, old = fill(store, "good"), old_table(store)
    (entry,) = (e for e in list_entries(store) if e.kind == "other version")
    assert Path(entry.folder) == old and entry.problem == "of format 1, this version of crossteach reads 2"
    assert entry.known == 0 and verify_store(store) == []
    assert [Path(e.folder) for e in prune_store(store)] == [old]
    assert good.exists() and not old.exists()


def test_answers_of_another_version_are_said_once_when_they_may_be_those_that_are_missing(store):
    said = "entries of the store"
    store.table({"model": "a", "data": "d", "scoring": str(SCORING)}, 3, 2, "float32")
    assert not store.notes
    store.table({"model": "a", "data": "d", "scoring": "1"}, 3, 2, "float32")
    old_table(store)
    problems = {entry.problem for entry in list_entries(store) if entry.kind == "other version"}
    assert problems == {f"of {what} 1, this version of crossteach reads 2" for what in ("format", "scoring")}
    again = Store(store.folder)
    again.table({"model": "a", "data": "d", "scoring": str(SCORING)}, 3, 2, "float32")
    assert not again.notes, "what is asked for is there"
    for model in "bc":
        again.table({"model": model, "data": "d"}, 3, 2, "float32")
    (note,) = again.notes
    assert note.startswith(f"2 {said}") and "crossteach store prune removes them" in note
    assert len(prune_store(again)) == 2
    fresh = Store(store.folder)
    fresh.table({"model": "d"}, 3, 2, "float32")
    assert not fresh.notes


HOLDER = """
import sys
import numpy as np
from crossteach.answers.store import Store
table = Store(sys.argv[1]).table({"kind": "predictions", "model": sys.argv[2], "data": "d"}, 5000, 5, "float32")
print("open", flush=True)
sys.stdin.readline()
assert (table.read(np.arange(5000)) == table.read_range(0, 5000)).all()
"""


@contextmanager
def held(store, name):
    """Let another process have a table open, and read all of it in the end."""
    line = [sys.executable, "-c", HOLDER, str(store.folder), name]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "open\n"
        yield
        process.stdin.write("\n")
        process.stdin.close()
        assert process.wait(timeout=60) == 0


def test_a_table_that_a_process_has_open_is_not_removed(store):
    folders = [fill(store, name, rows=5000, used=1e9) for name in ("used", "other")]
    with held(store, "used"):
        assert [Path(e.folder) for e in prune_store(store, most_bytes=0)] == folders[1:]
        assert folders[0].exists()
    prune_store(store, most_bytes=0)
    assert not folders[0].exists()


def test_a_budget_makes_room_by_age_and_says_so(store):
    now = time.time()
    folders = [fill(store, name, rows=5000, used=now - age) for name, age in (("a", 300), ("b", 200), ("c", 100))]
    store.remember({"kind": "probe"}, {"lr": 0.1})
    size = next(e.bytes for e in list_entries(store) if e.rows)
    within = Store(store.folder, budget=int(3.5 * size))
    with held(store, "a"):
        newest = fill(within, "new", rows=5000)
    assert [f.exists() for f in (*folders, newest)] == [True, False, True, True], "a is older, but is being read"
    assert sum(e.bytes for e in list_entries(store)) <= within.budget
    (note,) = within.notes
    assert note.startswith("1 entries of the store") and "budget" in note
    assert store.recall({"kind": "probe"}) == {"lr": 0.1} and not Store(store.folder, budget=within.budget).notes


def test_a_budget_that_is_too_small_for_what_is_in_use_is_noted(store):
    small = Store(store.folder, budget="10KB")
    table = small.table({"kind": "predictions", "model": "m", "data": "d"}, 5000, 5, "float32")
    table.write(np.arange(5000), np.ones((5000, 5), np.float32))
    table.flush()
    assert table.known == 5000
    (note,) = small.notes
    assert "takes more than its budget" in note and "store.keep" in note


def test_the_budget_is_the_one_of_the_environment(store, monkeypatch):
    assert store.budget is None
    monkeypatch.setenv("CROSSTEACH_STORE_BUDGET", "2GB")
    assert Store(store.folder).budget == 2 * 10**9 and Store(store.folder, budget=5).budget == 5
    monkeypatch.setenv("CROSSTEACH_STORE_BUDGET", "plenty")
    with pytest.raises(ConfigError, match="a size must be a number of bytes as 500MB or 20GiB, not 'plenty'"):
        Store(store.folder)


def test_what_was_used_longest_ago_goes_until_the_rest_fits(store):
    now = time.time()
    folders = [fill(store, name, rows=5000, used=now - age) for name, age in (("a", 300), ("b", 200), ("c", 100))]
    size = list_entries(store)[0].bytes
    gone = prune_store(store, most_bytes=2 * size, dry_run=True)
    assert [Path(e.folder) for e in gone] == folders[:1] and folders[0].exists()
    prune_store(store, most_bytes=2 * size)
    assert [f.exists() for f in folders] == [False, True, True]
    prune_store(store, most_days=150 / 86400)
    assert [f.exists() for f in folders] == [False, False, True]
    prune_store(store, most_bytes=0)
    assert list_entries(store) == []
    assert list(store.folder.iterdir()) == [], "no empty folder is left"


def test_a_table_in_the_making_is_left_alone_until_it_is_abandoned(store):
    fill(store, "a")
    making = next(store.folder.iterdir()) / ("0" * 32)
    making.mkdir()
    (making / ".manifest.json.1.part").write_bytes(b"x")
    assert prune_store(store, most_bytes=10**9) == []
    os.utime(making / ".manifest.json.1.part", (1e9, 1e9))
    assert [e.kind for e in prune_store(store)] == ["unfinished"]
    assert not making.exists()


@given(st.integers(0, 10**12), st.sampled_from(["", "B", "kB", " MB", "GiB"]))
def test_sizes_are_read(number, unit):
    factor = {"": 1, "B": 1, "kB": 1000, " MB": 10**6, "GiB": 2**30}[unit]
    if number * factor < 2**63:
        assert read_size(f"{number}{unit}") == int(float(number) * factor)


@pytest.mark.parametrize("size", ["", "many", "-1GB", "1 parsec", "nan", "inf"])
def test_wrong_sizes_are_one_line(size):
    with pytest.raises(ConfigError, match="a size must be a number of bytes"):
        read_size(size)


def test_limits_below_zero_are_refused(store):
    with pytest.raises(ConfigError, match="at least 0"):
        prune_store(store, most_days=-1)


def command(*arguments):
    line = [sys.executable, "-m", "crossteach", "store", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, check=False)


def test_the_command_lists_verifies_and_prunes(store):
    fill(store, "good"), fill(store, "bad")
    listed = command("ls", "--store", store.folder, "--json")
    assert json.loads(listed.stdout)["entries"] == 2
    assert "2 entries" in command("ls", "--store", store.folder).stdout
    assert command("verify", "--store", store.folder).returncode == 0
    (bad,) = (Path(e.folder) for e in list_entries(store) if e.model == "bad")
    block_of(bad).write_bytes(b"")
    verified = command("verify", "--store", store.folder)
    assert verified.returncode == 1
    assert "1 entries of" in verified.stderr and str(bad) in verified.stderr
    assert json.loads(command("prune", "--store", store.folder, "--json").stdout)["entries"] == 1
    assert not bad.exists()
    wrong = command("empty", "--store", store.folder)
    assert (wrong.returncode, wrong.stderr) == (1, "crossteach: store takes ls, verify or prune, not 'empty'\n")


def test_a_store_that_is_not_there_is_empty(tmp_path):
    assert list_entries(Store(tmp_path / "none")) == []
    assert not (tmp_path / "none").exists()
