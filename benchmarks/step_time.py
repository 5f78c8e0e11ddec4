"""Time of a training step of `kl+dp`, with live tutors and from the store, against what it cannot do without.

    python benchmarks/step_time.py [--student SPEC --teacher SPEC --data SPEC] [--repeats 15]

Live: against the sum of a plain fine-tuning step and the forwards of both tutors. From the store: against a plain
fine-tuning step. All are timed in turn within one process, so that a machine that slows down slows all of them; printed
are the medians of the paired ratios. The target is at most 1.10 and 1.15.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from crossteach import Store, TransferConfig, load_data, load_model
from crossteach.answers.tutors import LiveTutors, fill_store
from crossteach.data.views import Views, augmentation
from crossteach.models.scoring import score
from crossteach.transferring.methods import METHODS
from crossteach.transferring.plan import TrainingPlan
from crossteach.transferring.sources import Source
from crossteach.transferring.training import train

STEPS = 20


def main() -> None:
    """Time and print."""
    parser = argparse.ArgumentParser(description="Time of a kl+dp step against its parts.")
    parser.add_argument("--student", default="demo:resnet")
    parser.add_argument("--teacher", default="demo:mixer")
    parser.add_argument("--data", default="glyphs")
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()
    student, teacher = load_model(arguments.student), load_model(arguments.teacher)
    data = load_data(arguments.data)
    config = TransferConfig()
    views = Views(0, 1, augmentation(data.augmentation))
    tutors = (student.clone(), teacher)
    part = data.train.take(np.random.default_rng(0).permutation(len(data.train))[: STEPS * config.optim.batch_size])
    with tempfile.TemporaryDirectory() as folder:
        stored = fill_store(tutors, part, views, Store(folder))
        source = Source(part, views, config.optim.batch_size)
        plain = TrainingPlan(METHODS["xe"], config, (source,), 1e-4, 1)
        asked = {"live": LiveTutors(tutors), "stored": stored}
        lessons = {"plain": plain} | {
            name: replace(plain, method=METHODS["kl+dp"], sources=(replace(source, tutors=answering),))
            for name, answering in asked.items()
        }
        batch = views.batch(part, np.arange(config.optim.batch_size), np.zeros(config.optim.batch_size, np.int64))
        images = batch.images(student.preprocess)
        seconds: dict[str, list[float]] = {name: [] for name in (*lessons, "tutors")}
        for _ in range(arguments.repeats + 1):
            for name, plan in lessons.items():
                seconds[name].append(timed(lambda plan=plan: train(student.clone(), plan)))  # type: ignore[misc]
            seconds["tutors"].append(timed(lambda: [score(t, images) for t in tutors for _ in range(STEPS)]))
    step = {name: np.array(values[1:]) / STEPS for name, values in seconds.items()}  # the first round warms up
    for name, values in step.items():
        print(f"{name:>7}: {1e3 * np.median(values):.2f} ms a step of {config.optim.batch_size}")
    print(f"live / (plain + tutors): {np.median(step['live'] / (step['plain'] + step['tutors'])):.3f}")
    print(f"stored / plain: {np.median(step['stored'] / step['plain']):.3f}")
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")


def timed(work: Callable[[], object]) -> float:
    """Return how long something takes, in seconds."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
