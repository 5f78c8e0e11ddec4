"""What one picture, and ten, cost a model at 224 px: every batch padded to 128, as before, against a batch by cost.

    python benchmarks/scoring.py [--repeats 5]

Each case runs in a process of its own, so that its peak of memory is its own; weights are random. Ratios are of medians
in one run. SCORING_CPU_2026-11-26.md has the result.
"""

import argparse
import json
import resource
import subprocess
import sys
import time

import numpy as np

MODELS = ("tf_efficientnet_lite0", "resnet18")


def measure(name: str, count: int, how: str, repeats: int) -> dict[str, float]:
    """Score some pictures several times; return the median of seconds, the peak of memory above the start in MiB."""
    import timm
    import torch

    from crossteach import Preprocess, from_module
    from crossteach.models.scoring import CHUNK, batch_rows, score

    torch.manual_seed(0)
    model = from_module(timm.create_model(name, pretrained=False), Preprocess(size=(224, 224), channels=3), name=name)
    images = torch.rand(count, 3, 224, 224)
    rows = CHUNK if how == "padded to 128" else batch_rows(model, images)
    model.scoring_batch = rows
    before, seconds = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, []
    for _ in range(repeats):
        started = time.perf_counter()
        score(model, images)
        seconds.append(time.perf_counter() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": float(np.median(seconds)), "memory": (peak - before) / 1024, "peak": peak / 1024, "rows": rows}


def alone(name: str, count: int, how: str, repeats: int) -> dict[str, float]:
    """Measure in a process of its own."""
    asked = json.dumps([name, count, how, repeats])
    ended = subprocess.run([sys.executable, __file__, "--case", asked], capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(ended.stdout)
    return found


def main() -> None:
    """Measure every case, and print a table."""
    parser = argparse.ArgumentParser(description="The cost of scoring few pictures.")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(measure(*json.loads(arguments.case))))
        return
    print("| model | pictures | batch: before, now | seconds: before, now | ratio | peak, MiB: before, now |")
    print("|---|---|---|---|---|---|")
    for name in MODELS:
        for count in (1, 10, 128):
            before, now = (alone(name, count, how, arguments.repeats) for how in ("padded to 128", "by cost"))
            print(
                f"| {name} | {count} | {before['rows']:.0f}, {now['rows']:.0f} | {before['seconds']:.2f}, "
                f"{now['seconds']:.2f} | {now['seconds'] / before['seconds']:.2f} | {before['peak']:.0f}, "
                f"{now['peak']:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
