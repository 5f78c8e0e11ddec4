import json
import os
import subprocess
import sys
import time
from contextlib import suppress

import numpy as np
import pytest

from crossteach.answers.store import Store, default_folder
from crossteach.errors import StoreError, WriteError

ROWS, CLASSES = 50, 4
KEY = {"model": "m", "data": "d"}


def logits(rows):
    return np.stack([np.arange(CLASSES) + 10.0 * row for row in rows]).astype(np.float32)


def table(store, key=KEY, rows=ROWS, dtype="float32"):
    return store.table(key, rows, CLASSES, dtype)


def keep(opened, rows):
    rows = np.asarray(rows)
    opened.write(rows, logits(rows))
    opened.flush(rows)


def files(folder, name):
    return sorted(folder.rglob(name))


def test_rows_survive_and_what_was_not_flushed_is_missing(tmp_path):
    opened = table(Store(tmp_path))
    assert opened.missing().tolist() == list(range(ROWS)) and not opened.done.any()
    keep(opened, [7, 3, 40])
    opened.write(np.array([5]), logits([5]))
    del opened
    again = table(Store(tmp_path))
    assert np.flatnonzero(again.done).tolist() == [3, 7, 40]
    assert again.missing().tolist() == [row for row in range(ROWS) if row not in (3, 7, 40)]
    assert again.read(np.array([40, 3])).tolist() == logits([40, 3]).tolist()
    copied = again.read(np.array([40]))
    again.write(np.array([40]), logits([0]))
    assert copied.tolist() == logits([40]).tolist()


@pytest.mark.parametrize("read", [lambda t: t.read(np.array([3, 5, 40])), lambda t: t.read_range(3, 6)])
def test_rows_that_were_never_written_are_an_error_of_one_line(tmp_path, read):
    opened = table(Store(tmp_path))
    keep(opened, [3, 40])
    opened.write(np.array([5]), logits([5]))
    with pytest.raises(
        StoreError, match=r"of 3 rows in .* are read before they are written \(row [45] first\)"
    ) as error:
        read(opened)
    assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)


def test_a_table_that_was_cut_while_it_is_open_is_an_error_of_one_line(tmp_path):
    opened = table(Store(tmp_path))
    keep(opened, range(ROWS))
    (path,) = files(tmp_path, "logits.npy")
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 40)
    with pytest.raises(StoreError, match="cut short"):
        opened.read_range(0, ROWS)
    path.unlink()
    with pytest.raises(StoreError, match="cannot be read"):
        opened.read_range(0, ROWS)


def test_half_precision_is_kept_as_it_is(tmp_path):
    opened = table(Store(tmp_path), dtype="float16")
    rows, values = np.arange(3), np.array([[0.1, -60000, 2, 3]] * 3, np.float16)
    opened.write(rows, values)
    opened.flush(rows)
    found = table(Store(tmp_path), dtype="float16").read(rows)
    assert found.dtype == np.float16 and np.array_equal(found, values)


def test_another_key_is_another_table(tmp_path):
    store = Store(tmp_path)
    keep(table(store), [1])
    assert not table(store, {**KEY, "model": "n"}).done.any()
    assert not table(store, rows=ROWS + 1).done.any()
    assert not table(store, dtype="float16").done.any()
    assert table(store, dict(reversed(KEY.items()))).done.sum() == 1
    manifests = [json.loads(path.read_text()) for path in files(tmp_path, "manifest.json")]
    assert len(manifests) == 4 and all(m["data"] == "d" for m in manifests)
    assert not files(tmp_path, ".new-*")


DAMAGES = [(name, damage) for name in ("logits.npy", "done.npy") for damage in ("gone", "empty", "cut", "other bytes")]


@pytest.mark.parametrize(("name", "damage"), [*DAMAGES, ("manifest.json", "gone")])
def test_a_damaged_table_is_replaced(tmp_path, name, damage):
    keep(table(Store(tmp_path)), range(ROWS))
    (path,) = files(tmp_path, name)
    content = path.read_bytes()
    damages = {"empty": b"", "cut": content[: len(content) - 30], "other bytes": b"x" * len(content)}
    path.unlink()
    if damage != "gone":
        path.write_bytes(damages[damage])
    again = table(Store(tmp_path))
    assert not again.done.any()
    keep(again, [2])
    assert table(Store(tmp_path)).read(np.array([2])).tolist() == logits([2]).tolist()


def test_a_table_that_another_process_made_meanwhile_is_kept(tmp_path, monkeypatch):
    store, others = Store(tmp_path), []

    def meanwhile(path):
        monkeypatch.undo()
        others.append(table(Store(tmp_path)))
        keep(others[0], [1, 2])

    monkeypatch.setattr("crossteach.answers.store._reserve", meanwhile)
    opened = table(store)
    assert opened.done.sum() == 2
    keep(opened, [3])
    assert others[0].done.sum() == 3


PAIR = """
import sys, time
from pathlib import Path
import numpy as np
from crossteach.answers.store import Store
folder, me, end = Path(sys.argv[1]), int(sys.argv[2]), time.time() + 15
for number in range(15):
    (folder / f"ready-{me}-{number}").touch()
    while not (folder / f"ready-{1 - me}-{number}").exists():
        assert time.time() < end, "the other process is gone"
    opened = Store(folder / "store").table({"round": number}, 50, 4, "float32")
    rows = np.arange(me, 50, 2)
    opened.write(rows, np.arange(4) + 10.0 * rows[:, None].astype(np.float32))
    opened.flush(rows)
"""


def test_two_processes_that_make_one_table_end_with_one_whole_table(tmp_path):
    pair = [subprocess.Popen([sys.executable, "-c", PAIR, str(tmp_path), str(me)]) for me in (0, 1)]
    try:
        assert [process.wait(timeout=60) for process in pair] == [0, 0]
    finally:
        for process in pair:
            process.kill()
            process.wait()
    assert len(files(tmp_path, "manifest.json")) == 15 and not files(tmp_path, ".new-*")
    for number in range(15):
        opened = table(Store(tmp_path / "store"), {"round": number})
        known = np.flatnonzero(opened.done)
        assert opened.read(known).tolist() == logits(known).tolist()
        assert len(known) == ROWS


WRITER = """
import sys
import numpy as np
from crossteach.answers.store import Store
opened = Store(sys.argv[1]).table({"a": 1}, 200_000, 8, "float32")
for start in range(0, 200_000, 100):
    rows = np.arange(start, start + 100)
    opened.write(rows, np.repeat(rows[:, None], 8, axis=1).astype(np.float32) + 1)
    opened.flush(rows)
    if start == 500:
        print("writing", flush=True)
"""


def test_a_killed_writer_leaves_the_rows_that_were_done(tmp_path):
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout.readline() == "writing\n"
    time.sleep(0.05)
    writer.kill()
    assert writer.wait() == -9
    writer.stdout.close()
    opened = Store(tmp_path).table({"a": 1}, 200_000, 8, "float32")
    done = np.flatnonzero(opened.done)
    assert 600 <= len(done) < 200_000
    assert np.array_equal(opened.read(done), np.repeat(done[:, None] + 1.0, 8, axis=1))


FULL = """
import resource, sys
import numpy as np
from crossteach.errors import WriteError
from crossteach.answers.store import Store
if sys.argv[2] == "limit":
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
store = Store(sys.argv[1])
store.remember({"small": 1}, {"fact": 1})
small = store.table({"a": 1}, 100, 8, "float32")
try:
    large = store.table({"a": 2}, 100_000, 8, "float32")
    rows = np.arange(100_000)
    large.write(rows, np.ones((100_000, 8), np.float32))
    large.flush(rows)
except WriteError as error:
    print(error)
small.write(np.arange(100), np.ones((100, 8), np.float32))
small.flush(np.arange(100))
try:
    store.remember({"large": 1}, {"fact": "x" * 2_000_000})
except WriteError as error:
    print(error)
"""


def fill_disk(folder, how):
    ended = subprocess.run([sys.executable, "-c", FULL, str(folder), how], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    table_said, fact_said = ended.stdout.splitlines()
    for said in (table_said, fact_said):
        assert said.startswith(f"cannot write {folder}") and "space left" in said
    assert len(files(folder, "manifest.json")) == 1 and not files(folder, ".new-*") and not files(folder, "*.part")
    assert Store(folder).table({"a": 1}, 100, 8, "float32").done.all()
    assert Store(folder).recall({"small": 1}) == {"fact": 1} and Store(folder).recall({"large": 1}) is None


@pytest.mark.skipif(sys.platform == "win32", reason="needs resource limits")
def test_files_beyond_a_limit_are_an_error_of_one_line(tmp_path):
    fill_disk(tmp_path, "limit")


def test_a_full_disk_is_an_error_of_one_line(tmp_path):
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small disk can be mounted by root alone")
    try:
        fill_disk(tmp_path, "disk")
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)


def test_a_folder_that_cannot_be_made_is_an_error_of_one_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(WriteError, match=r"cannot write .*file.*: Not a directory") as error:
        table(Store(tmp_path / "file" / "store"))
    assert "\n" not in str(error.value)


def test_facts_are_recalled(tmp_path):
    store = Store(tmp_path)
    assert store.recall({"a": 1}) is None
    store.remember({"a": 1}, {"accuracy": 0.1 + 0.2, "name": "ä"})
    store.remember({"a": 2}, {"accuracy": 1.0})
    assert Store(tmp_path).recall({"a": 1}) == {"accuracy": 0.1 + 0.2, "name": "ä"}


def test_a_damaged_fact_is_forgotten_or_named(tmp_path):
    store = Store(tmp_path)
    store.remember({"a": 1}, {"accuracy": 1.0})
    (path,) = files(tmp_path, "fact.json")
    path.write_text(path.read_text()[:-5])
    with suppress(StoreError):
        assert store.recall({"a": 1}) is None


def test_the_folder_is_the_one_of_the_environment(monkeypatch, store_folder):
    assert Store().folder == default_folder() == store_folder
    monkeypatch.delenv("CROSSTEACH_STORE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    monkeypatch.setattr(sys, "platform", "linux")
    assert str(default_folder()) == "/somewhere/crossteach"
