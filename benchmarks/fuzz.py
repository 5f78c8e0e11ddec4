"""Does any bad input get more than one clear line? Generated specs, tables, arrays, pictures, models and run folders.

    python benchmarks/fuzz.py --out runs/fuzz --cases 10000
    python benchmarks/fuzz.py --out runs/fuzz --case npz 17       # one case again, with its traceback

Good files are written first (fuzz_good.py); each case spoils one or some of them (fuzz_kinds.py, fuzz_mutations.py),
and opens it as a user would. A case may open or be refused: by a CrossteachError of one line. All else is a finding:
another exception, a message of several lines, an end of the interpreter, more than LIMIT seconds or 2 GiB, a file that
appears or changes outside the folder that the case may write to, a process that is started, code of a file that runs.
Cases run in a process of their own, which is replaced when it dies. What is done stands in `cases.jsonl`; the same
command goes on there.
"""

import argparse
import itertools
import json
import multiprocessing
import os
import random
import resource
import shutil
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from fuzz_good import make_good
from fuzz_kinds import KINDS, Case

LIMIT = 10.0
"""Seconds of computing that a case may take; one that takes three times as long by the clock hangs."""
MEMORY = 2 << 30
"""Bytes that a case may take beyond what the process has after its imports."""
SPAWNING = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "pty.spawn")
WRITES_BESIDE = ("reports",)
"""Kinds that may write into the folder that they read."""


@dataclass(frozen=True)
class Outcome:
    """How a case ended."""

    kind: str
    n: int
    result: str
    """opened, refused or finding."""
    why: str = ""
    """The error's name and message, or what was found."""
    where: str = ""
    """The last line of crossteach on the way to it."""
    seconds: float = 0.0


class Box:
    """The folder in which cases run: its good files, one case at a time, and what no case may touch."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.good, self.case, self.canary = self.root / "good", self.root / "case", self.root / "canary"
        self.places = {"CROSSTEACH_STORE": "cache/store", "HF_HOME": "cache/hf", "TORCH_HOME": "cache/torch"}
        self.places |= {"HOME": "home", "XDG_CACHE_HOME": "cache", "TMPDIR": "tmp", "MPLCONFIGDIR": "cache/matplotlib"}

    def enter(self) -> None:
        """Make this process work in the box, offline."""
        for name, place in {**self.places, "PWD": "work"}.items():
            (self.root / place).mkdir(parents=True, exist_ok=True)
            os.environ[name] = str(self.root / place)
        os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        os.chdir(self.root / "work")

    def files(self, within_case: bool) -> dict[str, tuple[int, int]]:
        """Return size and time of change of each file that must stay as it is."""
        found = {}
        for folder, folders, names in os.walk(self.root):
            if folder == str(self.root):
                kept = {"good", "work", "tmp", "home", *(["case"] if within_case else [])}
                folders[:], names = [name for name in folders if name in kept], [n for n in names if n == "canary"]
            for name in (*names, *folders):
                told = os.lstat(path := f"{folder}/{name}")
                found[path] = (0, 0) if name in folders else (told.st_size, told.st_mtime_ns)
        if self.canary.exists():
            found[str(self.canary)] = (1, 1)
        return found


class Watch:
    """Notes processes that are started, and files that are written elsewhere; refuses connections."""

    def __init__(self, allowed: Path) -> None:
        self.seen: list[str] = []
        self._on, self._allowed = False, str(allowed)
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._on:
            return
        if event in SPAWNING:
            self.seen.append(f"{event} {str(arguments)[:200]}")
        elif event == "socket.connect":
            raise ConnectionRefusedError("a case has no network")
        elif event == "open" and isinstance(arguments[0], str | bytes) and isinstance(arguments[2], int):
            path = os.path.normpath(Path(os.fsdecode(arguments[0])).absolute())
            if arguments[2] & (os.O_WRONLY | os.O_RDWR) and not path.startswith((self._allowed, "/dev/", "/proc/")):
                self.seen.append(f"writes {path}")

    @contextmanager
    def on(self) -> Iterator[list[str]]:
        """Listen for the length of a case."""
        self.seen.clear()
        self._on = True
        try:
            yield self.seen
        finally:
            self._on = False


def run_case(kind: str, n: int, box: Box, watch: Watch, show: bool = False) -> Outcome:
    """Make one case and open it; the same kind and number make the same case."""
    from crossteach import CrossteachError

    shutil.rmtree(box.case, ignore_errors=True)
    shutil.rmtree(box.canary, ignore_errors=True)
    box.canary.unlink(missing_ok=True)
    box.case.mkdir(parents=True)
    case = Case(box.case, box.good, box.canary, random.Random(f"{kind} {n}"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        action = KINDS[kind](case)
        before, result, why, where = box.files(kind not in WRITES_BESIDE), "opened", "", ""
        started = time.process_time()
        with watch.on() as seen:
            try:
                action()
            except CrossteachError as error:
                result, why = "refused", f"{type(error).__name__}: {error}"
            except (Exception, SystemExit) as error:
                result, why, where = "finding", f"{type(error).__name__}: {error}", _last_line(error)
                if show:
                    traceback.print_exc()
    seconds, after = time.process_time() - started, box.files(kind not in WRITES_BESIDE)
    touched = sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
    for found, what in (
        (result == "refused" and not why.isprintable(), f"not one line that can be printed: {why!r}"),
        (str(box.canary) in touched, "code of a file ran"),
        (bool(touched), f"changes {', '.join(touched[:3])}"),
        (bool(seen), "; ".join(seen[:3])),
        (seconds > LIMIT, f"takes {seconds:.1f} s"),
    ):
        if found:
            result, why = "finding", what if result != "finding" else f"{why} ({what})"
    return Outcome(kind, n, result, why[:600], where, round(seconds, 3))


def warm(box: Box, watch: Watch) -> None:
    """Run one case of each kind: what libraries do once, imports and caches, is no part of a case."""
    for kind in KINDS:
        run_case(kind, 0, box, watch)


def _last_line(error: BaseException) -> str:
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "crossteach" in Path(f.filename).parts]
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno} {frames[-1].name}" if frames else "outside crossteach"


def work(root: Path, asked: Connection) -> None:
    """Run the cases that come in; die with a case that kills."""
    box = Box(root)
    box.enter()
    log = os.open(box.root / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1), os.dup2(log, 2)
    make_good(box.good)
    watch = Watch(box.root)
    warm(box, watch)
    spent = _status("VmData")
    resource.setrlimit(resource.RLIMIT_DATA, (spent + MEMORY, resource.RLIM_INFINITY))
    asked.send("ready")
    while True:
        kind, n = asked.recv()
        asked.send(run_case(kind, n, box, watch))


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(key))


class Worker:
    """A process that runs cases, started anew when a case has ended it."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._line, theirs = context.Pipe()
        self._process = context.Process(target=work, args=(self._root, theirs), daemon=False)
        self._process.start()
        theirs.close()
        if self._line.recv() != "ready":
            raise RuntimeError("the process of the cases does not start; see log.txt")

    def ask(self, kind: str, n: int) -> Outcome:
        """Run one case there."""
        self._line.send((kind, n))
        try:
            if self._line.poll(3 * LIMIT):
                outcome: Outcome = self._line.recv()
                return outcome
            why = f"hangs for more than {3 * LIMIT:.0f} s"
        except (EOFError, ConnectionResetError):
            self._process.join()
            why = f"ends the interpreter ({self._process.exitcode})"
        self.stop()
        self._start()
        return Outcome(kind, n, "finding", why)

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()


def read_done(path: Path) -> list[Outcome]:
    """Read the cases that were run before; a line that was cut off is run again."""
    done = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            done.append(Outcome(**json.loads(line)))
        except ValueError:
            continue
    return done


def table(done: list[Outcome]) -> str:
    """Return the counts by kind, as Markdown."""
    rows = ["| kind | cases | refused | opened | findings | slowest, s |", "|---|---|---|---|---|---|"]
    for kind in KINDS:
        own = [each for each in done if each.kind == kind]
        counts = Counter(each.result for each in own)
        slowest = max((each.seconds for each in own), default=0.0)
        figures = (len(own), counts["refused"], counts["opened"], counts["finding"], f"{slowest:.1f}")
        rows.append(f"| {kind} | {' | '.join(map(str, figures))} |")
    counts = Counter(each.result for each in done)
    rows.append(f"| all | {len(done)} | {counts['refused']} | {counts['opened']} | {counts['finding']} | |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--case", nargs=2, metavar=("KIND", "N"))
    asked = parser.parse_args()
    if asked.case:
        box = Box(asked.out)
        box.enter()
        make_good(box.good)
        kind, n = asked.case
        run_case(kind, 0, box, watch := Watch(box.root))
        print(run_case(kind, int(n), box, watch, show=True))
        return
    asked.out.mkdir(parents=True, exist_ok=True)
    record, ends = asked.out / "cases.jsonl", time.monotonic() + 60 * asked.minutes
    done = read_done(record)
    known = {(each.kind, each.n) for each in done}
    worker = Worker(asked.out)
    with record.open("a", encoding="utf-8") as file:
        numbered = ((kind, n) for n in itertools.count() for kind in asked.kinds)
        for kind, n in (each for each in numbered if each not in known):
            if len(done) >= asked.cases or time.monotonic() > ends:
                break
            done.append(worker.ask(kind, n))
            file.write(json.dumps(asdict(done[-1])) + "\n")
            file.flush()
            if len(done) % 20 == 0:
                found = sum(each.result == "finding" for each in done)
                sys.stderr.write(f"\r{len(done)} of {asked.cases} cases, {found} findings")
    worker.stop()
    print(f"\n{table(done)}\n")
    for each in [each for each in done if each.result == "finding"]:
        print(f"{each.kind} {each.n}: {each.why[:200]!r} {each.where}")


if __name__ == "__main__":
    main()
