"""How far is the student of two processes from that of one? And how far does a training carry a millionth?

    python benchmarks/devices.py > benchmarks/DEVICES_CPU_$(date +%F).md

Each transfer runs as a command, alone and with --devices 2, and once more alone from a student of which one weight was
moved by a millionth: some trainings carry what is rounded far. The end of training is returned, so that it shows.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file

from crossteach import Store, TransferConfig, load_data, load_model, predict, transfer, with_settings

PAIR = ("demo:convnet", "demo:mixer")
SHARED, DIVIDED = ("optim.accumulate=1",), ("compute.shard=true", "optim.accumulate=3")
CASES = ((SHARED, 0.003, 100), (SHARED, 0.01, 60), (SHARED, 0.01, 300), (DIVIDED, 0.01, 60))
"""Settings of the two processes, learning rates, and steps."""
MOVED = 1e-6


def run(out: Path, store: Path, devices: int, settings: tuple[str, ...]) -> Path:
    command = [sys.executable, "-m", "crossteach", "transfer", "--student", PAIR[0], "--teacher", PAIR[1]]
    command += ["--data", "glyphs", "--out", str(out), "--store", str(store), "--quiet", "--json"]
    command += [part for each in (*settings, "gate.ask=false") for part in ("--set", each)]
    command += ["--devices", str(devices)]
    subprocess.run(command, check=True, capture_output=True)
    return out


def run_moved(out: Path, store: Path, settings: tuple[str, ...]) -> Path:
    student, config = load_model(PAIR[0]), with_settings(TransferConfig(), [*settings, "gate.ask=false"])
    with torch.no_grad():
        next(student.module.parameters()).view(-1)[0] += MOVED
    transfer(student, [load_model(PAIR[1])], load_data("glyphs"), out, config, Store(store))
    return out


def apart(one: Path, two: Path) -> float:
    """The largest difference of a weight."""
    first, second = (load_file(out / "student" / "model.safetensors") for out in (one, two))
    return max((first[name] - second[name]).abs().max().item() for name in first if first[name].is_floating_point())


def other_answers(one: Path, two: Path) -> int:
    test = load_data("glyphs").test
    preds = [predict(load_model(f"run:{out}"), test).preds for out in (one, two)]
    return int((preds[0] != preds[1]).sum())


def main() -> None:
    torch.set_num_threads(1)
    print(f"# Two processes against one\n\ntorch {torch.__version__}, CPU. `python benchmarks/devices.py`.")
    print(f"{PAIR[0]} learns from {PAIR[1]} on glyphs in batches of 128, which two processes share. The last two")
    print(f"columns are of one process, from a student of which one weight was moved by {MOVED:g}.\n")
    print("| settings | rate | steps | a weight differs by at most | answers that differ | moved: weight | answers |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for more, rate, steps in CASES:
            place, stores = Path(tempfile.mkdtemp(dir=folder)), [Path(folder) / f"store-{n}" for n in range(3)]
            length = (f"optim.lr={rate}", f"optim.steps={steps}")
            one = run(place / "one", stores[0], 1, length)
            two = run(place / "two", stores[1], 2, (*more, *length))
            moved = run_moved(place / "moved", stores[2], length)
            summaries = [json.loads((out / "summary.json").read_text()) for out in (one, two)]
            assert summaries[0]["n_test"] == summaries[1]["n_test"]
            found = [f"{apart(one, out):.1e} | {other_answers(one, out)}" for out in (two, moved)]
            print(f"| {', '.join(more)} | {rate} | {steps} | {' | '.join(found)} |", flush=True)


if __name__ == "__main__":
    main()
