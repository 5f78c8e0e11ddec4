"""A sweep over all ordered pairs, against the sum of plain fine-tunings of the same students.

    python benchmarks/sweep.py [--data SPEC --models SPEC ...] [--epochs 8] [--live]

Plain: each student is trained on hard labels once for each of its teachers, as many steps, at a rate that is given;
nothing else is done. Sweep: `crossteach sweep` of the same pairs from an empty store, with one worker of as many
threads: opening data and models, every tutor's pass, rate probe, training, gate, summaries. `--live` adds the sweep
with tutors that answer in every step. The plain trainings run before and after, and their mean counts. Peak memory is
that of the worker.

SPEED_CPU_2026-11-27.md has results.
"""

import argparse
import json
import resource
import tempfile
import time
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import torch
import yaml

import crossteach
from crossteach import Store, TrainableClassifier, TransferConfig
from crossteach.data.views import views_of
from crossteach.sweeping.executors import LocalProcesses
from crossteach.transferring.methods import METHODS
from crossteach.transferring.plan import TrainingPlan
from crossteach.transferring.sources import Source
from crossteach.transferring.training import train

DEMO = ("demo:mlp", "demo:mixer", "demo:resnet", "demo:convnet")


def plain(models: list[str], data: str, config: TransferConfig) -> float:
    """Fine-tune every student once for each other model; return the seconds."""
    splits = crossteach.load_data(data)
    students = [crossteach.load_model(spec, like=splits) for spec in models]
    source = Source(splits.train, views_of(config.views, splits), config.optim.batch_size)
    lesson = TrainingPlan(METHODS["xe"], config, (source,), 0.01, config.optim.epochs)
    started = time.perf_counter()
    for student, _ in permutations(students, 2):
        assert isinstance(student, TrainableClassifier)
        train(student.clone(), lesson)
    return time.perf_counter() - started


def swept(models: list[str], data: str, method: str, settings: dict[str, object], folder: Path) -> float:
    """Run the sweep from an empty store; return the seconds."""
    pairs = [list(pair) for pair in permutations(models, 2)]
    path = folder / "plan.yaml"
    path.write_text(yaml.safe_dump({"data": data, "pairs": pairs, "methods": [method], "settings": settings}))
    started = time.perf_counter()
    found = crossteach.sweep(path, folder / "out", Store(folder / "store"), executor=LocalProcesses(1))
    assert found["done"] == len(pairs), json.dumps(found["failed"])
    return time.perf_counter() - started


def main() -> None:
    """Time and print."""
    parser = argparse.ArgumentParser(description="A sweep against plain fine-tuning.")
    parser.add_argument("--models", nargs="+", default=list(DEMO))
    parser.add_argument("--data", default="glyphs")
    parser.add_argument("--method", default="kl+dp")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--live", action="store_true", help="run the sweep with live tutors too")
    arguments = parser.parse_args()
    base = TransferConfig()
    config = replace(base, optim=replace(base.optim, epochs=arguments.epochs))
    settings: dict[str, object] = {"optim.epochs": arguments.epochs}
    asked = (arguments.models, arguments.data)
    before, seconds = plain(*asked, config), {}
    for name, more in {"sweep": {}, **({"live": {"views.live": True}} if arguments.live else {})}.items():
        with tempfile.TemporaryDirectory() as folder:
            seconds[name] = swept(*asked, arguments.method, {**settings, **more}, Path(folder))
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    tuned = (before + plain(*asked, config)) / 2
    count = len(arguments.models) * (len(arguments.models) - 1)
    print(f"{count} pairs, {arguments.epochs} epochs of {arguments.method}")
    print(f"plain fine-tuning of the same students: {tuned:.1f} s")
    for name, found in seconds.items():
        print(f"{name}: {found:.1f} s, {found / tuned:.2f} of plain, {found / count:.1f} s a pair")
    if "live" in seconds:
        print(f"stored answers are {seconds['live'] / seconds['sweep']:.2f} times as fast as live tutors")
    print(f"largest worker: {peak:.0f} MiB; torch {torch.__version__}, {torch.get_num_threads()} threads")


if __name__ == "__main__":
    main()
