"""Time and memory of a training step and of scored pictures at 224 px, against plain PyTorch on the same pictures.

    python recipes/imagenet.py --out runs/imagenet
    python benchmarks/imagenet.py --pictures runs/imagenet [--rounds 5]

EfficientNet-Lite 0 and its published weights, pictures of the recipe's pool, one thread. *Plain* is the loop that
anybody writes: floats of the pictures, forward, cross-entropy, backward, SGD; or the forward alone, 32 at once. *Ours*
is a step of `xe`, a step of `kl+dp-unsupervised` whose tutors' answers stand in the store, and `predict`. Steps are
measured a second time with channels last in memory, the plain loop's and ours (`compute.channels_last`). Each case runs
alone in a process of its own, in turn; times are of the processor, which others on the machine lengthen less than those
of a clock. Printed are medians, their ratio, and peaks of memory. IMAGENET_CPU_2026-11-27.md has results.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

SIZE, BATCH, STEPS = 224, 32, 2
"""Pixels a side, pictures a step, and steps that are timed at once."""
LAST = ", channels last"
CASES = (
    ("plain step", "step of xe", "step of kl+dp-unsupervised"),
    (f"plain step{LAST}", f"step of xe{LAST}", f"step of kl+dp-unsupervised{LAST}"),
    ("plain forward", "predict"),
)
"""What is timed; the first of each is what the others are held against."""


def pictures(folder: Path) -> np.ndarray:
    """Read pictures of the pool, on white."""
    import pandas as pd
    from PIL import Image

    found = []
    for path in pd.read_csv(folder / "pool.csv").path.tail(BATCH * STEPS):
        with Image.open(folder / path) as image:
            found.append(np.asarray(image.convert("RGB").resize((SIZE, SIZE))))
    return np.stack(found)


def plain(folder: Path, learn: bool, channels_last: bool) -> Callable[[], object]:
    """Write the loop that anybody writes."""
    import timm
    import torch
    from safetensors.torch import load_file

    model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    model.load_state_dict(load_file(folder / "lite0.safetensors"))
    model.eval()
    images = torch.from_numpy(pictures(folder)).permute(0, 3, 1, 2)  # channels last, and torch computes as they lie
    if channels_last:
        model.to(memory_format=torch.channels_last)
    else:
        images = images.contiguous()
    labels = torch.arange(BATCH)
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)

    def work() -> None:
        for some in images.split(BATCH):
            batch = some.float() / 127.5 - 1
            if not learn:
                with torch.inference_mode():
                    model(batch)
                continue
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(model(batch), labels).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()

    return work


def ours(folder: Path, method: str | None, channels_last: bool) -> Callable[[], object]:
    """Prepare steps of a method, or a pass of `predict` where none is given."""
    from dataclasses import replace

    import crossteach
    from crossteach.answers.tutors import fill_store
    from crossteach.data.views import Views, augmentation
    from crossteach.transferring.methods import METHODS
    from crossteach.transferring.plan import TrainingPlan
    from crossteach.transferring.sources import Source
    from crossteach.transferring.training import train

    images = pictures(folder)
    part = (images, np.arange(len(images)))
    classes = list(map(str, range(1000)))
    data = crossteach.from_arrays(part, part, part, classes=classes, duplicates="keep")
    student = crossteach.load_model(f"timm:tf_efficientnet_lite0@{folder}/lite0.safetensors?crop=1", like=data)
    if method is None:
        return lambda: crossteach.predict(student, data.test)
    views = Views(0, 1, augmentation("none"))
    source = Source(data.train, views, BATCH)
    if method != "xe":
        store = crossteach.Store(tempfile.mkdtemp())
        source = replace(source, tutors=fill_store((student.clone(), student.clone()), data.train, views, store))
    settings = [f"optim.batch_size={BATCH}", f"compute.channels_last={str(channels_last).lower()}"]
    config = crossteach.with_settings(crossteach.TransferConfig(), settings)
    plan = TrainingPlan(METHODS[method], config, (source,), 1e-4, 1)
    return lambda: train(student.clone(), plan)


def measure(name: str, folder: Path, rounds: int) -> dict[str, float]:
    """Time a case in this process; seconds of the processor a picture, and the peak of memory in MiB."""
    what, last = name.removesuffix(LAST), name.endswith(LAST)
    if what.startswith("plain"):
        work = plain(folder, what.endswith("step"), last)
    else:
        work = ours(folder, what.removeprefix("step of ") if what.startswith("step") else None, last)
    work()
    seconds = []
    for _ in range(rounds):
        started = time.process_time()
        work()
        seconds.append((time.process_time() - started) / (BATCH * STEPS))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": float(np.median(seconds)), "peak": peak}


def alone(name: str, folder: Path, rounds: int) -> dict[str, float]:
    """Measure in a process of its own."""
    asked = [sys.executable, __file__, "--pictures", str(folder), "--rounds", str(rounds), "--case", name]
    found: dict[str, float] = json.loads(subprocess.run(asked, capture_output=True, text=True, check=True).stdout)
    return found


def main() -> None:
    """Measure every case, and print a table."""
    parser = argparse.ArgumentParser(description="A step and a scored picture at 224 px, against plain PyTorch.")
    parser.add_argument("--pictures", type=Path, default=Path("runs/imagenet"), help="folder of recipes/imagenet.py")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(measure(arguments.case, arguments.pictures, arguments.rounds)))
        return
    print("| | ms a picture | of plain | peak, MiB | above plain |\n|---|---|---|---|---|")
    for cases in CASES:
        turns = [[alone(name, arguments.pictures, arguments.rounds) for name in cases] for _ in range(arguments.turns)]
        for place, name in enumerate(cases):
            seconds = np.median([turn[place]["seconds"] for turn in turns])
            ratio = np.median([turn[place]["seconds"] / turn[0]["seconds"] for turn in turns])
            peak, base = (max(turn[at]["peak"] for turn in turns) for at in (place, 0))
            print(f"| {name} | {1e3 * seconds:.1f} | {ratio:.2f} | {peak:.0f} | {peak - base:+.0f} |", flush=True)


if __name__ == "__main__":
    main()
