"""Time and memory of a scout over many models, from stored predictions.

    python benchmarks/scout_scale.py [--models 32] [--samples 50000] [--classes 1000] [--without-ensembles]

Synthetic logits of models of different strength that share a part of their errors are written to a store first; that
is not timed. Then `crossteach.scout` compares all ordered pairs: the test split has `--samples` samples, selection and
transfer set 5,000 each. Reported are seconds and the highest resident memory of the process that scouts.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

import crossteach
from crossteach.answers.prediction import open_table
from crossteach.data.cut import tune_and_gate
from crossteach.types import Preprocess, Split, SplitName, Splits

FEW = 5_000
"""Samples of selection and transfer set."""


@dataclass(frozen=True)
class Nothing:
    """Images that are never read, since all answers are stored."""

    count: int
    fingerprint: str
    size: tuple[int, int] = (8, 8)
    channels: int = 1
    kind: str = "image"

    def __len__(self) -> int:
        return self.count

    def read(self, rows, size, boxes, interpolation="bilinear"):
        """Return black images."""
        return torch.zeros(len(rows), 1, 8, 8)

    def evaluation(self, rows, preprocess):
        """Return black images."""
        return torch.zeros(len(rows), 1, 8, 8)

    def aspect(self, rows):
        """Return that all are square."""
        return torch.ones(len(rows))


@dataclass(frozen=True)
class Table:
    """A model that is only its stored answers; what it says of other images is only timed."""

    name: str
    n_classes: int
    n_parameters: int = 1
    family: str = "other"
    classes: None = None
    preprocess: Preprocess = field(default_factory=Preprocess)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def spec(self) -> str:
        """Its only name."""
        return self.name

    @property
    def fingerprint(self) -> str:
        """Its only name."""
        return self.name

    def logits(self, images):
        """Answer nothing."""
        return torch.zeros(len(images), self.n_classes)


def make_split(name: SplitName, count: int, classes: int) -> Split:
    labels = np.random.default_rng(len(name)).integers(0, classes, count)
    labels[:classes] = np.arange(classes)
    return Split(name, Nothing(count, name), np.arange(count), labels)


def setting(n_models: int, samples: int, classes: int) -> tuple[list[Table], Splits]:
    counts: tuple[tuple[SplitName, int], ...] = (("train", FEW), ("selection", FEW), ("test", samples))
    parts = {name: make_split(name, count, classes) for name, count in counts}
    data = Splits("synthetic", tuple(f"class {c}" for c in range(classes)), **parts)
    return [Table(f"model{k}", classes) for k in range(n_models)], data


def fill(models: list[Table], data: Splits, store: crossteach.Store) -> None:
    """Write logits: what all models see in a sample, what each sees alone, and how well it knows the label."""
    for split in (data.train, tune_and_gate(data.selection)[0], data.test):
        tables = [open_table(model, split, store) for model in models]
        shared = np.random.default_rng(1)
        for start in range(0, len(split), 5_000):
            rows = np.arange(start, min(start + 5_000, len(split)))
            common = shared.standard_normal((len(rows), models[0].n_classes), np.float32)
            for k, table in enumerate(tables):
                own = np.random.default_rng((k, start, len(split))).standard_normal(common.shape, np.float32)
                logits = 2 * common + 2 * own
                logits[np.arange(len(rows)), split.labels[rows]] += 8 + 4 * k / len(models)
                table.write(rows, logits)
        for table in tables:
            table.flush()


def measure(arguments: argparse.Namespace) -> dict[str, float]:
    """Scout once and say what it took."""
    models, data = setting(arguments.models, arguments.samples, arguments.classes)
    started = time.perf_counter()
    ensembles = not arguments.without_ensembles
    found = crossteach.scout(models, data, crossteach.Store(arguments.store), embeddings="none", ensembles=ensembles)
    accuracies = [m["accuracy"] for m in found.summary["models"]]
    return {
        "pairs": len(found.summary["pairs"]),
        "seconds": round(time.perf_counter() - started, 1),
        "peak_gib": round(peak_memory() / 2**20, 2),
        "lowest accuracy": round(min(accuracies), 1),
        "highest accuracy": round(max(accuracies), 1),
    }


def peak_memory() -> int:
    """Return the most memory this process had resident, in KiB; getrusage would count what its parent had."""
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))


def main() -> None:
    parser = argparse.ArgumentParser(description="Time and memory of a scout over many models.")
    parser.add_argument("--models", type=int, default=32)
    parser.add_argument("--samples", type=int, default=50_000)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--without-ensembles", action="store_true")
    parser.add_argument("--store", type=Path, help="a folder that already holds the predictions; timed at once")
    arguments = parser.parse_args()
    if arguments.store is not None:
        print(json.dumps(measure(arguments)))
        return
    with tempfile.TemporaryDirectory() as folder:
        models, data = setting(arguments.models, arguments.samples, arguments.classes)
        fill(models, data, crossteach.Store(folder))
        again = [sys.executable, __file__, "--store", folder]
        for name in ("models", "samples", "classes"):
            again += [f"--{name}", str(getattr(arguments, name))]
        for more in ([], ["--without-ensembles"]):
            subprocess.run([*again, *more], check=True)


if __name__ == "__main__":
    main()
