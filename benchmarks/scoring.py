"""Time and memory of asking a model for few pictures: every batch padded to 128, against the batch that is chosen.

    python benchmarks/scoring.py [--models NAME ...] [--pictures 1 10] [--size 224] [--repeats 5]

Both ways are timed in turn within one process, so that a machine that slows down slows both; printed are medians and
their ratio. Peak memory is that of a process of its own for each case, with Python, torch and the model in it.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from statistics import median

PADDED = 128
"""What every batch was padded to."""


def main() -> None:
    """Time and print."""
    parser = argparse.ArgumentParser(description="Time and memory of scoring a few pictures.")
    parser.add_argument("--models", nargs="+", default=["tf_efficientnet_lite0", "resnet18"], help="Names in timm.")
    parser.add_argument("--pictures", nargs="+", type=int, default=[1, 10])
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--case", nargs=2, metavar=("PICTURES", "BATCH"), help="Score once and print the peak in MiB.")
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(peak_mib(arguments.models[0], arguments.size, *map(int, arguments.case))))
        return
    print("| model | pictures | s, padded to 128 | s now (batch) | ratio | MiB, padded to 128 | MiB now | bare MiB |")
    print("|---|---|---|---|---|---|---|---|")
    for name in arguments.models:
        bare = in_a_process(name, arguments.size, 0, 1)
        for pictures in arguments.pictures:
            before, now, rows = seconds(name, arguments.size, pictures, arguments.repeats)
            peaks = [in_a_process(name, arguments.size, pictures, batch) for batch in (PADDED, 0)]
            print(
                f"| {name} | {pictures} | {median(before):.2f} | {median(now):.3f} ({rows}) | "
                f"{median(b / n for b, n in zip(before, now, strict=True)):.1f} | {peaks[0]:.0f} | {peaks[1]:.0f} | "
                f"{bare:.0f} |",
                flush=True,
            )


def seconds(name: str, size: int, pictures: int, repeats: int) -> tuple[list[float], list[float], int]:
    """Time both ways in turn; return the seconds of each, and the batch that is chosen."""
    import torch

    from crossteach import load_model
    from crossteach.models.scoring import ask_in_batches, batch_rows, score

    model = load_model(f"timm:{name}?pretrained=false&size={size}")
    images = torch.rand(pictures, 3, size, size, generator=torch.Generator().manual_seed(0))
    rows = batch_rows(model, images)
    times: dict[int | None, list[float]] = {PADDED: [], None: []}
    for _ in range(repeats + 1):
        for batch, taken in times.items():
            ask_in_batches([model], batch)
            started = time.perf_counter()
            score(model, images)
            taken.append(time.perf_counter() - started)
    return times[PADDED][1:], times[None][1:], rows  # the first round warms up


def in_a_process(name: str, size: int, pictures: int, batch: int) -> float:
    """Return the peak memory of one case, in MiB; of no pictures, that of the model alone."""
    call = [sys.executable, __file__, "--models", name, "--size", str(size), "--case", str(pictures), str(batch)]
    done = subprocess.run(call, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


def peak_mib(name: str, size: int, pictures: int, batch: int) -> float:
    """Score pictures once in this process; a batch of 0 is the one that is chosen."""
    import torch

    from crossteach import load_model
    from crossteach.models.scoring import ask_in_batches, score

    model = load_model(f"timm:{name}?pretrained=false&size={size}")
    ask_in_batches([model], batch or None)
    if pictures:
        score(model, torch.rand(pictures, 3, size, size))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024 if sys.platform != "darwin" else peak / 1024**2


if __name__ == "__main__":
    main()
