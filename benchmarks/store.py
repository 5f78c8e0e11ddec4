"""What the store costs: write and read throughput, size, time to open; the format before this one beside it.

    python benchmarks/store.py [--rows 100000] [--classes 10 100 1000] [--repeats 5]

Random logits are written in chunks of 128 rows, as a pass over a split writes them, and read in batches of 128 random
rows, as a training reads them. Everything is measured side by side in one process, in turn, so many times; reported are
medians. The former format, kept here as it was, reserved the whole table at once and marked rows as done in a second
file. Pages are in memory after the writing: what is measured is the format, not the disk.
"""

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from crossteach.answers.store import Store
from crossteach.answers.stored import list_entries

CHUNK, BATCHES = 128, 200
"""Rows of a write and of a read, and how many reads are timed."""
FLUSHED = 64
"""Chunks between two flushes of the former format."""


class Former:
    """Format 1: a memory-mapped array of the full size, reserved at once, and a byte for each row that is known."""

    def __init__(self, folder: Path, rows: int, classes: int, dtype: str) -> None:
        folder.mkdir(parents=True)
        for name, shape, kind in (("logits", (rows, classes), dtype), ("done", (rows,), "uint8")):
            path = folder / f"{name}.npy"
            np.lib.format.open_memmap(path, "w+", np.dtype(kind), shape).flush()
            with path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        self._logits = np.load(folder / "logits.npy", mmap_mode="r+")
        self._done = np.load(folder / "done.npy", mmap_mode="r+")
        self._written = 0

    def write(self, rows: np.ndarray, logits: np.ndarray) -> None:
        """Write rows; now and then mark them as done."""
        self._logits[rows] = logits
        self._written += 1
        if self._written % FLUSHED == 0:
            self.flush(rows[-1] + 1)

    def flush(self, end: int | None = None) -> None:
        """Bring all to the disk, then mark it as done."""
        self._logits.flush()
        self._done[:end] = 1
        self._done.flush()

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Copy rows that are known."""
        assert self._done[rows].all()
        return np.asarray(self._logits[rows])


def seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def fill(table, rows: int, logits: np.ndarray) -> None:
    for start in range(0, rows, CHUNK):
        chunk = np.arange(start, min(start + CHUNK, rows))
        table.write(chunk, logits[: len(chunk)])
    table.flush()


def read(table, asked: np.ndarray) -> None:
    for rows in asked:
        table.read(rows)


@contextmanager
def opened(name: str, folder: Path, rows: int, classes: int) -> Iterator[object]:
    where = folder / name.replace(" ", "-")
    table = (
        Former(where, rows, classes, "float16")
        if name == "former"
        else Store(where).table({"name": name}, rows, classes, name)
    )
    yield table
    shutil.rmtree(where)


def measure(rows: int, classes: int, repeats: int, folder: Path) -> None:
    names = ["former", "float16", *(f"top{k}" for k in (5, 10, 20) if 2 * k < classes)]
    random = np.random.default_rng(0)
    logits = random.normal(size=(CHUNK, classes)).astype(np.float32) * 4
    logits -= logits.max(1, keepdims=True)
    wrote: dict[str, list[float]] = {name: [] for name in names}
    got: dict[str, list[float]] = {name: [] for name in names}
    size: dict[str, float] = {}
    for _ in range(repeats):
        asked = random.integers(0, rows, (BATCHES, CHUNK))
        for name in names:
            with opened(name, folder, rows, classes) as table:
                wrote[name].append(rows / seconds(lambda table=table: fill(table, rows, logits)))
                read(table, asked[:5])
                got[name].append(asked.size / seconds(lambda table=table, asked=asked: read(table, asked)))
                files = [path for path in folder.rglob("*") if path.is_file()]
                size[name] = sum(path.stat().st_blocks * 512 for path in files) / rows
    for name in names:
        print(
            f"| {classes} | {name} | {size[name]:.1f} | {statistics.median(wrote[name]) / 1e3:,.0f} | "
            f"{statistics.median(got[name]) / 1e3:,.0f} | "
            f"{statistics.median(b / a for a, b in zip(got['former'], got[name], strict=True)):.2f} |"
        )


def open_many(count: int, folder: Path) -> None:
    """Time the listing and the opening of many entries."""
    store, rows = Store(folder / "many"), np.arange(CHUNK)
    for number in range(count):
        table = store.table({"kind": "views", "number": number}, CHUNK, 10, "float16")
        table.write(rows, np.zeros((CHUNK, 10), np.float32))
        table.flush()
    listed = statistics.median(seconds(lambda: list_entries(store)) for _ in range(5))

    def open_all() -> None:
        for number in range(count):
            store.table({"kind": "views", "number": number}, CHUNK, 10, "float16").read(rows)

    print(f"\n{count} entries: listed in {listed:.2f} s, each opened and read in {seconds(open_all):.2f} s")
    shutil.rmtree(store.folder)


def main() -> None:
    parser = argparse.ArgumentParser(description="Throughput and size of the store.")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--classes", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where to write; default is the system's temporary folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        print(
            "| classes | kept as | bytes a row | 1000 rows written a second | 1000 rows read a second | read / former |"
        )
        print("|---|---|---|---|---|---|")
        for classes in arguments.classes:
            measure(arguments.rows, classes, arguments.repeats, Path(folder))
        open_many(1000, Path(folder))


if __name__ == "__main__":
    main()
