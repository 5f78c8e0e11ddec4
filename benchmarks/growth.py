"""How time and memory grow with samples, classes, tutors, and with the points that the gate tries.

    python benchmarks/growth.py [--what pass held feed gate paths opening]

Every row is a process of its own. `pass`: a model's answers on the plain samples of a split are computed and stored.
`feed`: tutors' answers on a view are computed and stored, then read in the random order of one epoch, 128 at a time,
as a training reads them. The models cost next to nothing (a fixed table of random logits), so that what is timed is
everything else. `held`: the answers of several models on one split are held at once and read, as the summary of a
transfer does. `gate`: weights are chosen for a student of 22.6 million weights (90 MB); the student, its copy and the
trained weights are in memory before. `paths`: the paths of pictures are held. `opening`: a pool of JPEG files of 64 px
is opened beside scikit-learn's digits, all of it looked through for near duplicates; then once more, with what the
store has kept, as each worker of a sweep and each later command does.

Memory is what a process had at most beyond what it held before the work began: all of it (VmHWM), which counts pages of
memory-mapped files that the system may take back at any time, and what is private (RssAnon, looked up every 5 ms).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

import crossteach
from crossteach import Store, TransferConfig, load_data
from crossteach.answers.tutors import fill_store
from crossteach.data.views import Views, augmentation
from crossteach.types import Preprocess, Split

BATCH, SEEN = 128, 8
"""Rows of a batch, and the side of the pictures that nobody looks at."""


@dataclass(frozen=True)
class Blank:
    """Pictures that are all black, made when they are read."""

    count: int
    fingerprint: str = "blank"
    size: None = None
    channels: int = 1
    kind: str = "image"

    def __len__(self) -> int:
        return self.count

    def read(self, rows, size, boxes, interpolation="bilinear"):
        """Return black images."""
        return torch.zeros(len(rows), 1, SEEN, SEEN)

    def evaluation(self, rows, preprocess):
        """Return black images."""
        return torch.zeros(len(rows), 1, SEEN, SEEN)

    def aspect(self, rows):
        """Return that all are square."""
        return torch.ones(len(rows))


@dataclass(frozen=True)
class Cheap:
    """A model that always gives the same answers."""

    name: str
    n_classes: int
    n_parameters: int = 1
    family: str = "other"
    classes: None = None
    preprocess: Preprocess = field(default_factory=lambda: Preprocess(size=(SEEN, SEEN), channels=1))
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    said: dict = field(default_factory=dict)

    @property
    def spec(self) -> str:
        """Its only name."""
        return self.name

    @property
    def fingerprint(self) -> str:
        """Its only name."""
        return self.name

    def logits(self, images):
        """Answer."""
        if not self.said:
            self.said[0] = 4 * torch.randn(BATCH, self.n_classes, generator=torch.Generator().manual_seed(0))
        return self.said[0][: len(images)]


def held(key: str) -> int:
    """Return a figure of this process in MB: VmHWM, VmRSS or RssAnon."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) * 1024


def watched(work: Callable[[], object]) -> dict[str, float]:
    """Do some work, and return its seconds and the most memory that it took beyond what there was."""
    before, private, most, ended = held("VmRSS"), held("RssAnon"), [0], threading.Event()

    def look() -> None:
        while not ended.wait(0.005):
            most[0] = max(most[0], held("RssAnon"))

    looking = threading.Thread(target=look)
    looking.start()
    started = time.perf_counter()
    work()
    seconds = time.perf_counter() - started
    most[0] = max(most[0], held("RssAnon"))
    ended.set()
    looking.join()
    return {"seconds": seconds, "peak": (held("VmHWM") - before) / 1e6, "private": (most[0] - private) / 1e6}


def on_disk(folder: Path) -> float:
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file()) / 1e6


def split_of(samples: int) -> Split:
    return Split("train", Blank(samples), np.arange(samples), np.zeros(samples, np.int64))


def one_pass(asked: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Compute and store a model's answers, without returning them."""
    from crossteach.answers.prediction import keep_answers

    split, model, store = split_of(asked.samples), Cheap("a", asked.classes), Store(folder)
    warm = split_of(BATCH)
    keep_answers(model, warm, store)
    return watched(lambda: keep_answers(model, split, store))


def one_feed(asked: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Compute and store the answers of tutors on one view, and read them once in random order."""
    split, store = split_of(asked.samples), Store(folder)
    views = Views(0, 1, augmentation("none"), **({} if asked.keep == "former" else {"keep": asked.keep}))
    models = [Cheap(f"model {k}", asked.classes) for k in range(asked.tutors)]
    fill_store(models, split_of(BATCH), views, store)
    found: dict[str, float] = {}

    def read() -> None:
        tutors = fill_store(models, split, views, store)
        order, started = np.random.default_rng(0).permutation(asked.samples), time.perf_counter()
        for start in range(0, asked.samples, BATCH):
            rows = order[start : start + BATCH]
            tutors.logits(views.batch(split, rows, np.zeros(len(rows), np.int64)))
        found["epoch"] = time.perf_counter() - started

    return watched(read) | found


def one_gate(asked: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Choose weights along a path of so many points."""
    from crossteach import from_module
    from crossteach.functional.averaging import snapshot
    from crossteach.transferring.path import choose_weights
    from crossteach.transferring.plan import TrainingPlan
    from crossteach.transferring.setup import open_setup
    from crossteach.transferring.state import TrainingState

    def module(seed: int) -> torch.nn.Module:
        torch.manual_seed(seed)
        wide = 20_000
        layers = torch.nn.Linear(1024, wide), torch.nn.ReLU(), torch.nn.Linear(wide, 100)
        return torch.nn.Sequential(torch.nn.Flatten(), *layers)

    data, seen = load_data("glyphs"), Preprocess(size=(32, 32), channels=1)
    student, teacher = (from_module(module(seed), seen, name=f"mlp{seed}") for seed in (0, 1))
    config = TransferConfig(force=True)
    alphas = tuple(np.linspace(0, 1, asked.points + 1)[1:].tolist())
    config = replace(config, gate=replace(config.gate, alphas=alphas))
    setup = open_setup(student, [teacher], data, config, Store(folder), lambda *_: None, ask=False)
    plan = TrainingPlan(setup.method, config, setup.sources, 0.01, 1)
    copy, trained, gate = student.clone(), TrainingState(weights=snapshot(module(2))), data.selection
    gate = gate.take(np.arange(1000))
    found = watched(lambda: choose_weights(setup, copy, trained, plan, gate))
    size = sum(value.nbytes for value in trained.weights.values()) / 1e6
    return found | {"copies": found["private"] / size}


def one_paths(asked: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Hold the paths of so many pictures."""
    from crossteach.data.encoded import PictureFiles

    paths = (Path(f"/data/imagenet/train/n{k % 1000:08}/n{k % 1000:08}_{k}.JPEG") for k in range(asked.samples))
    kept: list[object] = []
    return watched(lambda: kept.append(PictureFiles(paths)))


def one_held(asked: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Hold what several models have answered on one split, and read all of it, as the summary of a transfer does."""
    split, store = split_of(asked.samples), Store(folder)
    models = [Cheap(f"model {k}", asked.classes) for k in range(asked.tutors)]
    for model in models:
        crossteach.predict(model, split, store)
    return watched(lambda: [found.preds for found in [crossteach.predict(model, split, store) for model in models]])


def one_opening(asked: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Open a pool of files, twice."""
    from PIL import Image

    from crossteach.data.files import SETTLED

    load_data("sklearn:digits", ["glyphs:pool?samples=10"])  # imports what is needed
    rng = np.random.default_rng(0)
    for number in range(asked.samples):
        path = folder / "pool" / f"{number // 1000}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        small = Image.fromarray(rng.integers(0, 256, (6, 6), np.uint8))
        small.resize((64, 64), Image.Resampling.BICUBIC).save(path, quality=90)
    time.sleep(1 + SETTLED / 1e9)
    spec, store = f"folder:{folder / 'pool'}", Store(folder / "store")
    first = watched(lambda: load_data("sklearn:digits", [spec], store=store))
    again = watched(lambda: load_data("sklearn:digits", [spec], store=store))
    return first | {f"{name} again": value for name, value in again.items()}


WORK = {
    "pass": one_pass,
    "held": one_held,
    "feed": one_feed,
    "gate": one_gate,
    "paths": one_paths,
    "opening": one_opening,
}


def run(what: str, **given: object) -> dict[str, float]:
    """Measure in a process of its own."""
    options = [text for name, value in given.items() for text in (f"--{name}", str(value))]
    done = subprocess.run(
        [sys.executable, __file__, "--one", what, *options], check=True, capture_output=True, text=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def row(*cells: object) -> None:
    print(
        "| "
        + " | ".join(f"{c:,.2f}" if isinstance(c, float) else f"{c:,}" if isinstance(c, int) else str(c) for c in cells)
        + " |",
        flush=True,
    )


COLUMNS = (
    "samples",
    "classes",
    "tutors",
    "kept as",
    "seconds",
    "epoch of reads, s",
    "peak MB",
    "private MB",
    "disk MB",
)


def table_of(what: str) -> None:
    print(f"\n| {what} | {' | '.join(COLUMNS)} |\n{'|---' * (1 + len(COLUMNS))}|")
    base = {"samples": 20_000, "classes": 100, "tutors": 1, "keep": "auto"}
    series: dict[str, list[dict[str, object]]] = {
        "samples": [{"samples": n, "classes": c} for c in (100, 1000) for n in (20_000, 80_000, 320_000)],
        "classes": [{"classes": c} for c in (10, 100, 1000, 10_000)],
    }
    if what == "feed":
        series["samples, top 20"] = [{"samples": n, "classes": 1000, "keep": "20"} for n in (20_000, 80_000, 320_000)]
        series["classes, top 20"] = [{"classes": c, "keep": "20"} for c in (100, 1000, 10_000)]
        series["tutors"] = [{"tutors": t} for t in (1, 2, 4, 8)]
    for name, settings in series.items():
        sizes = []
        for each in settings:
            asked = base | each
            found = run(what, **asked)
            row(
                name,
                *asked.values(),
                found["seconds"],
                found.get("epoch", ""),
                found["peak"],
                found["private"],
                found["disk"],
            )
            sizes.append((int(asked["samples"]), found["disk"]))  # type: ignore[call-overload]
        if name.startswith("samples"):
            slope, start = np.polyfit(*zip(*sizes[-3:], strict=True), 1)
            for n in (1_281_167, 10_000_000):
                print(f"<!-- {what}, {name}: {n:,} samples x 1000 classes: {(start + slope * n) / 1e3:.2f} GB -->")


def table_of_held() -> None:
    print("\n| models, their answers on 50,000 samples x 1000 classes held | seconds | peak MB | private MB |")
    print("|---|---|---|---|")
    for models in (1, 2, 4, 8):
        found = run("held", samples=50_000, classes=1000, tutors=models)
        row(models, found["seconds"], found["peak"], found["private"])


def table_of_paths() -> None:
    print("\n| paths of | seconds | private MB |\n|---|---|---|")
    for samples in (80_000, 320_000, 1_281_167):
        found = run("paths", samples=samples)
        row(samples, found["seconds"], found["private"])


def table_of_opening() -> None:
    print("\n| pictures in the pool | seconds | private MB | again: seconds | private MB |\n|---|---|---|---|---|")
    for samples in (1_000, 4_000, 16_000, 64_000):
        found = run("opening", samples=samples)
        row(samples, found["seconds"], found["private"], found["seconds again"], found["private again"])


def table_of_gate() -> None:
    print("\n| points | seconds | private MB beyond student, copy and trained weights | in copies of the weights |")
    print("|---|---|---|---|")
    for points in (1, 4, 16):
        found = run("gate", points=points)
        row(points, found["seconds"], found["private"], found["copies"])


def main() -> None:
    parser = argparse.ArgumentParser(description="Growth of time and memory.")
    parser.add_argument("--what", nargs="+", default=list(WORK), choices=WORK)
    parser.add_argument("--one", choices=WORK, help="measure once in this process, and print JSON")
    for name in ("samples", "classes", "tutors", "points"):
        parser.add_argument(f"--{name}", type=int, default=1)
    parser.add_argument("--keep", default="auto")
    asked = parser.parse_args()
    if asked.one:
        with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
            found = WORK[asked.one](asked, Path(folder))
            print(json.dumps(found | {"disk": on_disk(Path(folder))}))
        return
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads\n")
    for what in asked.what:
        own = {"gate": table_of_gate, "paths": table_of_paths, "held": table_of_held, "opening": table_of_opening}
        own.get(what, lambda what=what: table_of(what))()


if __name__ == "__main__":
    main()
