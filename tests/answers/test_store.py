import json
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from disks import small_disk

from crossteach.answers.store import Store, default_folder
from crossteach.answers.stored import list_entries, verify_store
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
    opened.flush()


def files(folder, name):
    return sorted(folder.rglob(name))


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


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


def test_a_block_that_was_cut_while_it_is_open_is_an_error_of_one_line(tmp_path):
    opened = table(Store(tmp_path))
    keep(opened, range(ROWS))
    (path,) = files(tmp_path, "*.rows")
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 40)
    with pytest.raises(StoreError, match="cut short"):
        opened.read_range(0, ROWS)
    path.unlink()
    with pytest.raises(StoreError, match="before they are written"):
        opened.read_range(0, ROWS)


def test_half_precision_is_kept_as_it_is(tmp_path):
    opened = table(Store(tmp_path), dtype="float16")
    rows, values = np.arange(3), np.array([[0.1, -60000, 2, 3]] * 3, np.float16)
    opened.write(rows, values)
    opened.flush()
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


@pytest.mark.parametrize("damage", ["gone", "empty", "cut", "longer"])
def test_a_damaged_block_is_not_known_and_the_others_stay(tmp_path, damage):
    opened = table(Store(tmp_path))
    keep(opened, range(10)), keep(opened, range(20, 30))
    path = files(tmp_path, "*.rows")[0]
    content = path.read_bytes()
    path.unlink()
    if damage != "gone":
        path.write_bytes({"empty": b"", "cut": content[:-1], "longer": content + b"x"}[damage])
    again = table(Store(tmp_path))
    assert np.flatnonzero(again.done).tolist() == list(range(20, 30))
    keep(again, range(10)), keep(again, range(10, 20)), keep(again, range(30, ROWS))
    whole = table(Store(tmp_path))
    assert np.array_equal(whole.read(np.arange(ROWS)), logits(range(ROWS)))
    assert [p.name[:26] for p in files(tmp_path, "*.rows")][-1] == "000000000000-000000000050-"


def test_a_table_whose_manifest_is_gone_gets_it_back(tmp_path):
    keep(table(Store(tmp_path)), range(5))
    (path,) = files(tmp_path, "manifest.json")
    content = path.read_bytes()
    path.unlink()
    assert table(Store(tmp_path)).known == 5 and path.read_bytes() == content


def test_rows_in_any_order_end_as_one_block_that_random_reads_map(tmp_path):
    order = np.random.default_rng(0).permutation(ROWS)
    opened = table(Store(tmp_path))
    for part in np.array_split(order, 7):
        keep(opened, part)
    assert len(files(tmp_path, "*.rows")) == 1
    asked = np.random.default_rng(1).integers(0, ROWS, 200)
    assert np.array_equal(opened.read(asked), logits(asked))
    assert np.array_equal(opened.read_range(7, 31), logits(range(7, 31)))
    assert np.array_equal(table(Store(tmp_path)).read(asked), logits(asked))


def test_many_open_tables_hold_few_files(tmp_path):
    before = open_files()
    tables = [table(Store(tmp_path), {"number": number}) for number in range(40)]
    for opened in tables:
        for part in np.array_split(np.arange(ROWS), 10):
            keep(opened, part)
        opened.read(np.array([3]))
    assert open_files() <= before + 2 * len(tables)
    del tables, opened
    assert open_files() <= before


def test_blocks_are_written_as_they_fill_and_nothing_before(tmp_path, monkeypatch):
    monkeypatch.setattr("crossteach.answers.logit_table.BLOCK_BYTES", 10 * CLASSES * 4)
    opened = Store(tmp_path).table(KEY, 1_000_000, CLASSES, "float32")
    assert sum(path.stat().st_blocks * 512 for path in files(tmp_path, "*") if path.is_file()) <= 4096
    sizes = []
    for start in range(0, 40, 5):
        rows = np.arange(start, start + 5)
        opened.write(rows, logits(rows))
        sizes.append(sum(path.stat().st_size for path in files(tmp_path, "*.rows")))
    assert sizes == [0, 160, 160, 320, 320, 480, 480, 640]
    monkeypatch.setattr("crossteach.answers.logit_table.BLOCK_SECONDS", 0.0)
    opened.write(np.array([77]), logits([77]))
    assert opened.known == 41, "a slow model's answers do not wait for a block to fill"


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
    rows = np.arange(50) if number % 3 == 0 else np.arange(me, 50, 2)
    for part in np.array_split(rows, 1 + me):
        opened.write(part, np.arange(4) + 10.0 * part[:, None].astype(np.float32))
        opened.flush()
    while opened.known < 50:
        assert time.time() < end, "the other process is gone"
        opened.flush()
    assert (opened.read(np.array([48, 0, 25]))[:, 0] == [480, 0, 250]).all()
"""


def test_two_processes_that_make_one_table_end_with_one_whole_table(tmp_path):
    pair = [subprocess.Popen([sys.executable, "-c", PAIR, str(tmp_path), str(me)]) for me in (0, 1)]
    try:
        assert [process.wait(timeout=60) for process in pair] == [0, 0]
    finally:
        for process in pair:
            process.kill()
            process.wait()
    assert len(files(tmp_path, "manifest.json")) == len(files(tmp_path, "*.rows")) == 15
    assert not files(tmp_path, "*.part")
    for number in range(15):
        opened = table(Store(tmp_path / "store"), {"round": number})
        known = np.flatnonzero(opened.done)
        assert opened.read(known).tolist() == logits(known).tolist()
        assert len(known) == ROWS


WRITER = """
import sys
import numpy as np
from crossteach.answers import logit_table
from crossteach.answers.store import Store
logit_table.BLOCK_BYTES = 1 << 18
opened = Store(sys.argv[1]).table({"a": 1}, 400_000, 64, "float32")
missing = opened.missing()
print("writing", flush=True)
for start in range(0, len(missing), 128):
    rows = missing[start : start + 128]
    opened.write(rows, np.arange(64, dtype=np.float32) + rows[:, None])
opened.flush()
"""


def killed_writer(folder, seconds):
    line = [sys.executable, "-c", WRITER, str(folder)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout.readline() == "writing\n"
        time.sleep(seconds)
        writer.kill()
        return writer.wait()


def test_a_writer_that_is_killed_again_and_again_loses_no_block(tmp_path):
    known = np.zeros(400_000, bool)
    for seconds in (0.02, 0.05, 0.03, 0.07, 0.04):
        assert killed_writer(tmp_path, seconds) == -9
        opened = Store(tmp_path).table({"a": 1}, 400_000, 64, "float32")
        done = opened.done
        assert done[known].all(), "what was known stays known"
        rows = np.flatnonzero(done)
        assert np.array_equal(opened.read(rows), np.arange(64, dtype=np.float32) + rows[:, None].astype(np.float32))
        known = done
    assert 0 < known.sum() < 400_000
    assert verify_store(Store(tmp_path)) == []


FULL = """
import resource, sys
import numpy as np
from crossteach.errors import WriteError
from crossteach.answers.store import Store
if sys.argv[2] == "limit":
    resource.setrlimit(resource.RLIMIT_FSIZE, (70_000, 70_000))
store = Store(sys.argv[1])
store.remember({"small": 1}, {"fact": 1})
small = store.table({"a": 1}, 100, 8, "float32")
try:
    large = store.table({"a": 2}, 100_000, 8, "float32")
    for start in range(0, 100_000, 2_500):
        large.write(np.arange(start, start + 2_500), np.full((2_500, 8), start, np.float32))
        large.flush()
except WriteError as error:
    print(error)
try:
    small.write(np.arange(100), np.ones((100, 8), np.float32))
    small.flush()
except WriteError:
    store.remove({"a": 2}, 100_000, 8, "float32")
    small.flush()
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
    assert not files(folder, "*.part")
    assert Store(folder).table({"a": 1}, 100, 8, "float32").done.all()
    assert list_entries(Store(folder)) and verify_store(Store(folder)) == []
    assert Store(folder).recall({"small": 1}) == {"fact": 1} and Store(folder).recall({"large": 1}) is None


@pytest.mark.skipif(sys.platform == "win32", reason="needs resource limits")
def test_files_beyond_a_limit_are_an_error_of_one_line(tmp_path):
    fill_disk(tmp_path, "limit")


def test_a_full_disk_is_an_error_of_one_line(tmp_path):
    with small_disk(tmp_path):
        fill_disk(tmp_path, "disk")


def test_a_read_only_store_is_read_and_says_in_one_line_that_it_cannot_be_written(tmp_path):
    with small_disk(tmp_path) as remount:
        keep(table(Store(tmp_path)), range(ROWS)), keep(table(Store(tmp_path), {"half": 1}), range(7))
        remount("ro")
        assert np.array_equal(table(Store(tmp_path)).read(np.array([3, 40])), logits([3, 40]))
        half = table(Store(tmp_path), {"half": 1})
        assert half.read(np.array([3])).tolist() == logits([3]).tolist()
        half.write(np.array([8]), logits([8]))
        Store(tmp_path).require_room(0)
        for wanted in (
            half.flush,
            lambda: table(Store(tmp_path), {"new": 1}),
            lambda: Store(tmp_path).remember({}, {}),
            lambda: Store(tmp_path).require_room(1),
        ):
            with pytest.raises(WriteError, match="Read-only file system; give a folder that can be written") as error:
                wanted()
            assert "\n" not in str(error.value)


def test_room_is_asked_for_what_a_budget_lets_the_store_grow_by(tmp_path):
    with small_disk(tmp_path):
        Store(tmp_path).require_room(900_000)
        with pytest.raises(
            StoreError, match=r"take about 2\.0 MB at .* and 1\.0 MB are free; free some space"
        ) as error:
            Store(tmp_path).require_room(2_000_000)
        assert "\n" not in str(error.value)
        Store(tmp_path, budget=500_000).require_room(2_000_000)
        with pytest.raises(StoreError, match=r"take about 2\.0 MB"):
            Store(tmp_path, budget=3_000_000).require_room(2_000_000)
        assert not files(tmp_path, "*")


def test_a_large_whole_table_is_mapped_and_what_is_written_into_it_stays_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("crossteach.answers.logit_table.MAPPED_BYTES", 1)
    opened = table(Store(tmp_path))
    keep(opened, range(30))
    with pytest.raises(StoreError, match="20 of 50 rows"):
        opened.read_all()
    keep(opened, range(30, ROWS))
    found = opened.read_all()
    assert np.array_equal(found, logits(range(ROWS)))
    found[:] = 0
    assert np.array_equal(table(Store(tmp_path)).read_all(), logits(range(ROWS)))
    assert verify_store(Store(tmp_path)) == []


def test_a_table_without_rows_is_whole(tmp_path):
    empty = Store(tmp_path).table(KEY, 0, CLASSES, "float32")
    empty.flush()
    assert empty.is_whole and empty.read_range(0, 0).shape == empty.read(np.arange(0)).shape == (0, CLASSES)


def test_a_table_whose_folder_was_removed_while_it_is_open_is_an_error_of_one_line(tmp_path):
    opened = table(Store(tmp_path))
    keep(opened, range(5))
    shutil.rmtree(tmp_path)
    with pytest.raises(StoreError, match="before they are written"):
        opened.read(np.array([3]))
    opened.write(np.array([7]), logits([7]))
    with pytest.raises(WriteError, match="No such file or directory"):
        opened.flush()


@pytest.mark.skipif(sys.platform == "win32", reason="needs resource limits")
def test_blocks_that_cannot_be_joined_for_want_of_room_are_read_as_they_are(tmp_path):
    import resource

    opened, limits = table(Store(tmp_path)), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROWS * CLASSES * 4 - 1, limits[1]))
    try:
        keep(opened, range(20)), keep(opened, range(20, ROWS))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len(files(tmp_path, "*.rows")) == 2
    asked = np.random.default_rng(1).integers(0, ROWS, 200)
    assert np.array_equal(opened.read(asked), logits(asked))
    assert np.array_equal(opened.read_range(11, 31), logits(range(11, 31)))
    opened.flush()
    assert len(files(tmp_path, "*.rows")) == 1 and np.array_equal(opened.read(asked), logits(asked))


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
