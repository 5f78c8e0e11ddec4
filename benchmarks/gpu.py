"""A GPU: steps a second and their share of its peak, what it waits for, a full transfer, resuming, divergence.

    python benchmarks/gpu.py [--cases resnet50 vit_small] [--rounds 5] [--batch 128] [--workers 8] [--peak 989]
    python benchmarks/gpu.py --smoke       # tiny sizes, on a CPU too: only shows that the script runs

No GPU has run it yet: none was at hand.

- Steps of a ResNet-50 and a ViT-S at 224 px, 1,000 classes, bfloat16, random weights on random images in memory: plain
  fine-tuning, `kl+dp` from the store, `kl+dp` with live tutors, and the tutors' forwards alone; they take turns.
- The share of the peak: what torch counts of a plain step (forward and backward), over its time, over what this card
  reaches in a large product of bfloat16 matrices and, with `--peak` (TFLOP/s, from its data sheet), over that.
- Loader or compute: JPEG files of 500 x 400 pixels through our loader alone, against the samples a second of a step.
- A transfer between two of the demo's models; the same, interrupted within its training and resumed; and one whose
  learning rate is absurd, which must be stopped and return the old weights.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import loader
import numpy as np
import step_time
import torch
from torch.utils.flop_counter import FlopCounterMode

import crossteach
from crossteach import Store, TransferConfig, TransferResult, load_data, load_model, transfer, with_settings

CASES = {"resnet50": ("resnet50", {}), "vit_small": ("vit_small_patch16_224", {})}
TINY = {"resnet50": ("test_resnet", {}), "vit_small": ("test_vit", {"img_size": 32})}
"""In the places of these, with `--smoke`."""
STEPS = 10
"""Steps that are timed at once."""


def say_hardware(device: str) -> None:
    cpu = f"{os.cpu_count()} CPU cores ({platform.processor() or platform.machine()})"
    if device.startswith("cuda"):
        card = torch.cuda.get_device_properties(device)
        cpu = f"{card.name}, {card.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}, {cpu}"
    print(f"{cpu}, torch {torch.__version__}, {torch.get_num_threads()} threads")


def waited(work: Callable[[], object], device: str) -> Callable[[], None]:
    """Do some work and wait until the card has done it too."""

    def whole() -> None:
        work()
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)

    return whole


def reached(device: str, side: int, rounds: int) -> float:
    """Return the TFLOP/s of a product of two square matrices in bfloat16."""
    left, right = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    seconds = step_time.in_turn({"product": waited(lambda: left @ right, device)}, rounds)["product"]
    return float(2 * side**3 / np.median(seconds) / 1e12)


def steps(asked: argparse.Namespace, case: str, peak: float, files: float) -> None:
    """Time the steps of a case, and say what share of the peak they reach and whether files come as fast."""
    architecture, more = (TINY if asked.smoke else CASES)[case]
    size, count, classes = (32, 2, 10) if asked.smoke else (224, STEPS, 1000)
    given = step_time.random_task(architecture, size, count * asked.batch, classes, **more)
    student, teacher, data = given[0].to(asked.device), given[1].to(asked.device), given[2]
    config = with_settings(TransferConfig(), [f"optim.batch_size={asked.batch}", "optim.precision=bfloat16"])
    with tempfile.TemporaryDirectory() as folder:
        work = step_time.work_of(student, teacher, data, config, count, Store(folder), ("kl+dp",))
        with FlopCounterMode(display=False) as counted:
            work["plain"]()
        found = step_time.in_turn({name: waited(each, asked.device) for name, each in work.items()}, asked.rounds)
    step = {name: seconds / count for name, seconds in found.items()}
    rates = ", ".join(f"{name} {1 / np.median(seconds):.2f}" for name, seconds in step.items())
    print(f"\n{case} ({architecture}), batches of {asked.batch} at {size} px, bfloat16: steps a second: {rates}")
    print(f"  stored kl+dp / plain: {np.median(step['stored kl+dp'] / step['plain']):.3f}")
    print(f"  live kl+dp / (plain + tutors): {np.median(step['live'] / (step['plain'] + step['tutors'])):.3f}")
    flops = counted.get_total_flops() / count / np.median(step["plain"]) / 1e12
    named = f", {100 * flops / asked.peak:.0f}% of the data sheet's {asked.peak:g}" if asked.peak else ""
    print(f"  plain: {flops:.2f} TFLOP/s, {100 * flops / peak:.0f}% of the {peak:.2f} of a product of matrices{named}")
    learnt = asked.batch / np.median(step["plain"])
    bound = "the loader" if files < learnt else "computing"
    print(f"  it learns {learnt:,.0f} samples a second, files come {files:,.0f} a second: {bound} is the limit")


def files_a_second(workers: int, pictures: int, rounds: int) -> float:
    """Return how many JPEG files our loader reads a second."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "pictures"
        loader.write_pictures(folder, pictures)
        stream = loader.ours(load_data(f"folder:{folder}?workers={workers}"), workers)
        batches = max(1, pictures // loader.BATCH)
        found = loader.in_turn({"files": lambda: loader.timed(lambda: list(islice(stream, batches)))}, rounds)
    return float(batches * loader.BATCH / np.median(found["files"]))


def losses(run: Path) -> np.ndarray:
    """Return the loss of each epoch of a run."""
    return np.array([json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()])


def transfers(asked: argparse.Namespace) -> None:
    """Do one full transfer; interrupt and resume it; and let one diverge."""
    data = load_data("glyphs" + ("?train_samples=1000" if asked.smoke else ""))
    student, teacher = (load_model(f"demo:{name}").to(asked.device) for name in ("resnet", "mixer"))
    short = ["optim.epochs=2", "optim.batch_size=16", "views.count=1", "optim.lr=0.01"] if asked.smoke else []

    def run(out: Path, *more: str, progress: Callable[[str, int, int], None] = lambda *_: None) -> TransferResult:
        config = with_settings(TransferConfig(), [*short, *more])
        return transfer(student, [teacher], data, out, config, Store(out.parent / "store"), progress=progress)

    def interrupt(what: str, done: int, total: int) -> None:
        if what == "training" and done > total / 2:
            raise KeyboardInterrupt

    with tempfile.TemporaryDirectory() as place:
        started = time.perf_counter()
        whole = run(Path(place) / "whole")
        gate, delta = whole.summary["gate"]["verdict"], whole.summary["transfer_delta"]
        print(f"\na transfer: {time.perf_counter() - started:.1f} s, {gate}, {delta:+.2f} points")
        try:
            run(Path(place) / "resumed", progress=interrupt)
        except KeyboardInterrupt:
            print("interrupted in the second half of its training; ", end="")
        again = run(Path(place) / "resumed")
        ours, theirs = (each.student.module.state_dict() for each in (whole, again))
        apart = max((ours[name].double() - theirs[name].double()).abs().max().item() for name in ours)
        (of_whole, of_resumed) = (losses(each.folder) for each in (whole, again))
        print(
            f"resumed: weights differ from the undisturbed run's by {apart:.1e} at most, losses by "
            f"{np.abs(of_whole - of_resumed).max():.1e} in {len(of_whole)} epochs (0: the same bits)"
        )
        wild = run(Path(place) / "wild", "optim.lr=100000")
        before = student.module.state_dict()
        kept = all(
            torch.equal(value.cpu(), before[name].cpu()) for name, value in wild.student.module.state_dict().items()
        )
        verdict = wild.summary["gate"]["verdict"]
        print(f"an absurd learning rate: {verdict} ({wild.summary['training']['diverged']}), old weights kept: {kept}")


def main() -> None:
    parser = argparse.ArgumentParser(description="What a GPU does with a transfer.")
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--workers", type=int, default=8, help="threads that decode")
    parser.add_argument("--peak", type=float, default=0.0, help="the card's peak in bfloat16, in TFLOP/s")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, to see that the script runs")
    asked = parser.parse_args()
    if not asked.smoke and not torch.cuda.is_available():
        parser.error("there is no GPU here; --smoke --device cpu shows that the script runs")
    if asked.smoke:
        asked.rounds, asked.batch = 1, 64
    say_hardware(asked.device)
    peak = reached(asked.device, 256 if asked.smoke else 8192, asked.rounds)
    files = files_a_second(asked.workers, 64 if asked.smoke else 2048, asked.rounds)
    for case in asked.cases:
        steps(asked, case, peak, files)
    transfers(asked)
    print(f"crossteach {crossteach.__version__}")


if __name__ == "__main__":
    main()
