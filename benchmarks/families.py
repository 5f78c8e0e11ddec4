"""Does every family of timm learn and teach? The smallest variant of each module, once as student, once as teacher.

    python benchmarks/families.py --out runs/families              # a second call goes on where the first ended
    python benchmarks/families.py --out runs/families --table FILE.md    # its rows as a table

Random weights, three classes of small pictures, one step each way of a whole transfer: checks, tutors, probe, gate and
saving. A model that takes any size sees 64 px; one that is built for a size is built for 64 px (`img_size`), else seen
at its own. A small convolution is the partner. What is done stands in `families.jsonl`.
"""

import argparse
import json
import signal
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch

import crossteach

SIDE, LIMIT, MOST = 64, 600, 150e6
"""Pixels of a side; seconds of computing that one architecture may take, in each role; weights of the largest."""
SHORT = ["optim.steps=1", "optim.lr=0.001", "optim.batch_size=8", "views.count=1", "force=true"]
WAYS = (f"&size={SIDE}", f"&size={SIDE}&img_size={SIDE}", "")
"""Options that are tried one after the other."""
ZOO = """
from torch import nn

def partner():
    return nn.Sequential(nn.Conv2d(3, 8, 5, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(128, 3))
"""

HEAD = f"""# Every family of timm as student and as teacher

    python benchmarks/families.py --out runs/families
    python benchmarks/families.py --out runs/families --table FILE.md

timm {timm.__version__}, torch {torch.__version__.partition("+")[0]}, one thread of a machine with other work.
Seconds are of computing; an architecture has {LIMIT} of them in each role, and models of more than {MOST / 1e6:.0f}
million weights are opened only. What is refused or failed says why; a model that cannot be opened has no weights to
count.
"""


class TooLong(BaseException):
    """Ends an attempt; whoever catches what a model raises does not catch it."""


@contextmanager
def limited(seconds: int) -> Iterator[None]:
    """Raise TooLong where the block computes for longer; other work on the machine does not count."""

    def stop(number: int, frame: object) -> None:
        raise TooLong

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def smallest_of(module: str) -> str:
    """Return the variant of a module of timm that has the fewest weights; nothing is drawn to count them."""
    sizes = {}
    for name in timm.list_models(module=module):
        try:
            with torch.device("meta"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                sizes[name] = sum(p.numel() for p in timm.create_model(name).parameters())
        except Exception:  # some draw numbers where they are built
            continue
    return min(sizes, key=lambda name: sizes[name], default=timm.list_models(module=module)[0])


def make_data() -> crossteach.Splits:
    """Make small pictures of three colours."""
    rng, parts = np.random.default_rng(0), []
    for count in (12, 12, 6):
        labels = np.arange(count) % 3
        images = rng.integers(0, 120, (count, SIDE, SIDE, 3))
        images[np.arange(count), :, :, labels] += 90
        parts.append((images.astype(np.uint8), labels))
    train, selection, test = parts
    return crossteach.from_arrays(train, test, selection, name="colours")


def open_model(name: str, data: crossteach.Splits) -> tuple[Any, str]:
    """Open a model with random weights in the first of the ways that it takes; return it and its options."""
    for options in WAYS:
        try:
            return crossteach.load_model(f"timm:{name}?pretrained=false&num_classes=3{options}", like=data), options
        except crossteach.CrossteachError:
            if options == WAYS[-1]:
                raise
    raise AssertionError("one way is left")


def outcome(attempt: Callable[[], object]) -> dict[str, Any]:
    """Say how an attempt ended, and after how many seconds of computing."""
    started = time.process_time()
    try:
        with limited(LIMIT):
            attempt()
            result = "ok"
    except TooLong:
        result = f"more than {LIMIT} s"
    except crossteach.CrossteachError as error:
        result = f"refused: {error}"
    except Exception as error:  # a finding
        result = f"failed: {type(error).__name__}: {error}"
    return {"result": result, "seconds": round(time.process_time() - started, 1)}


def try_one(name: str, data: crossteach.Splits, zoo: Path) -> dict[str, Any]:
    """Transfer to a model and from it."""
    config = crossteach.with_settings(crossteach.TransferConfig(), SHORT)
    opened: list[Any] = []
    row: dict[str, Any] = {"opens": outcome(lambda: opened.extend(open_model(name, data)))}
    if not opened:
        return row
    model, options = opened
    row |= {"asked": options.removeprefix("&"), "weights": model.n_parameters}
    if model.n_parameters > MOST:
        row["opens"]["result"] = "opens; too large for this benchmark"
        return row
    partner = crossteach.load_model(f"py:{zoo}:partner?pretrained=false&size={SIDE}&channels=3")
    with tempfile.TemporaryDirectory() as place:
        store = crossteach.Store(Path(place) / "store")
        for role, pair in (("student", (model, [partner])), ("teacher", (partner, [model]))):
            row[role] = outcome(
                lambda pair=pair, role=role: crossteach.transfer(*pair, data, Path(place) / role, config, store)
            )
    return row


def table(rows: list[dict[str, Any]]) -> str:
    """Write the rows as Markdown."""
    lines = [
        "| module | smallest variant | million weights | asked with | student | s | teacher | s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda row: row["module"]):
        nothing = {"result": row["opens"]["result"], "seconds": row["opens"]["seconds"]}
        roles = [row.get(role, nothing) for role in ("student", "teacher")]
        told = " | ".join(f"{each['result'].replace('|', '/')} | {each['seconds']}" for each in roles)
        asked, weights = row.get("asked", ""), row.get("weights", 0) / 1e6
        lines.append(f"| {row['module']} | {row['name']} | {weights:.1f} | {asked or 'its own size'} | {told} |")
    both = sum(all(row.get(role, {}).get("result") == "ok" for role in ("student", "teacher")) for row in rows)
    return "\n".join([*lines, "", f"{both} of {len(rows)} modules learn and teach."])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--table", type=Path)
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    record, zoo = asked.out / "families.jsonl", asked.out / "zoo.py"
    zoo.write_text(ZOO)
    rows = [json.loads(line) for line in record.read_text().splitlines()] if record.is_file() else []
    done = {row["module"] for row in rows}
    modules = [module for module in sorted(timm.list_modules()) if timm.list_models(module=module)]
    data = make_data()
    for module in modules:
        if asked.table or module in done:
            continue
        name = smallest_of(module)
        row = {"module": module, "name": name, **try_one(name, data, zoo)}
        rows.append(row)
        with record.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(f"{len(rows)} of {len(modules)}: {row}", flush=True)
    if asked.table:
        asked.table.write_text(f"{HEAD}\n{table(rows)}\n")


if __name__ == "__main__":
    main()
