"""Three published classifiers of file types, by two teams, on snippets of real source files.

    python recipes/file_types.py --out runs/file_types

On the test snippets of 26 shared classes, in % (`mean`: of the three's probabilities; `any`: at least one is right):

| bytes | Magika 0.5 | Magika 1.0 | guesslang | mean | any |
|---|---|---|---|---|---|
| 1,000 | 90.5 | 87.9 | 87.6 | 93.5 | 97.4 |
| 200 | 76.0 | 68.6 | 66.0 | 77.8 | 86.9 |

Positive flips of the ordered pairs are 3.9 to 8.2% at 1,000 bytes and 6.4 to 16.3% at 200. 30 steps of plain training
on 64 snippets take the loss from 0.540 to 0.230, 0.372 to 0.000 and 0.690 to 0.006: all three learn.

The first run fetches the weights (recipes/file_types_weights.py) and the packages (recipes/file_types_data.py), which
takes some minutes; what is there stays. The models are named to crossteach as

    py:recipes/file_types_models.py:magika_05@runs/file_types/magika_05.safetensors

and likewise `magika_10` and `guesslang`; their classes become the shared ones by `recipes/file_types/magika_05.csv` and
so on, which sum the probabilities of what one of the three tells apart and the others do not (C and C++; JavaScript and
TypeScript; XML and its dialects). A model's answer is the largest sum; what it gives to other classes is left out.
"""

import argparse
import csv
from itertools import permutations
from pathlib import Path

import pyarrow.parquet as pq
import torch
from file_types_data import SIZES, SUFFIXES, make_data
from file_types_weights import BUILDERS, make_weights
from jaxtyping import Float, Int
from safetensors.torch import load_file
from torch import Tensor, nn

from crossteach.functional import positive_flips

MAPS = Path(__file__).parent / "file_types"
SHARED = tuple(SUFFIXES)
BATCH = 64
STEPS = 30
EVEN = 120
"""Snippets of each class that guesslang gives, in an even pool."""
FEW = 64
"""Snippets on which the models are trained for a few steps, to see that they learn."""
MODELS = {model: factory for model, (factory, _) in BUILDERS.items()}


def read_map(model: str) -> dict[str, str]:
    """Read the shared class of each class of a model that has one."""
    with (MAPS / f"{model}.csv").open(encoding="utf-8", newline="") as file:
        return {row["model_class"]: row["class"] for row in csv.DictReader(file)}


def into_shared(model: str) -> Float[Tensor, "C S"]:
    """Return the matrix that sums a model's probabilities into the shared classes."""
    found = read_map(model)
    classes = MODELS[model]().classes
    return torch.tensor([[float(found.get(name) == label) for label in SHARED] for name in classes])


def load(out: Path, model: str) -> nn.Module:
    """Open a rebuilt model."""
    module = MODELS[model]()
    module.load_state_dict(load_file(out / f"{model}.safetensors"))
    return module.eval()


def read_snippets(path: Path, split: str) -> tuple[list[bytes], Int[Tensor, " N"]]:
    """Read the labelled snippets of a split."""
    table = pq.read_table(path, filters=[("split", "=", split)])
    return table["text"].to_pylist(), torch.tensor([SHARED.index(label) for label in table["label"].to_pylist()])


@torch.inference_mode()
def shared_probs(module: nn.Module, texts: list[bytes], sums: Float[Tensor, "C S"]) -> Float[Tensor, "N S"]:
    """Ask a model for the probabilities of the shared classes."""
    parts = [texts[start : start + BATCH] for start in range(0, len(texts), BATCH)]
    return torch.cat([module(module.tokenizer(part)).softmax(1) @ sums for part in parts])


@torch.inference_mode()
def make_even_pools(out: Path) -> None:
    """Take as many snippets of the pool of each class that guesslang gives, as far as there are: no label is read."""
    module = load(out, "guesslang")
    for size in SIZES:
        path = out / f"pool_{size}_even.parquet"
        if path.exists():
            continue
        pool = pq.read_table(out / f"pool_{size}.parquet")
        texts = pool["text"].to_pylist()
        parts = (texts[start : start + BATCH] for start in range(0, len(texts), BATCH))
        preds = torch.cat([module(module.tokenizer(part)).argmax(1) for part in parts])
        rows = torch.cat([torch.nonzero(preds == label).flatten()[:EVEN] for label in preds.unique()])
        pq.write_table(pool.take(rows.sort().values.numpy()), path)


def losses_of_training(module: nn.Module, texts: list[bytes], classes: Int[Tensor, " N"]) -> tuple[float, float]:
    """Train a model plainly for a few steps; return the loss before and after."""
    tokens = module.tokenizer(texts)
    optimizer = torch.optim.AdamW(module.parameters(), lr=3e-4, weight_decay=0)
    losses = []
    for _ in range(STEPS + 1):
        loss = nn.functional.cross_entropy(module(tokens), classes)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses[0], losses[-1]


def compare(out: Path) -> None:
    """Print what each model knows, alone and together, on the test snippets."""
    sums = {model: into_shared(model) for model in MODELS}
    modules = {model: load(out, model) for model in MODELS}
    print(f"{len(SHARED)} shared classes: {', '.join(SHARED)}\n")
    print(f"| bytes | {' | '.join(MODELS)} | mean of probabilities | any right |\n|---|{'---|' * (len(MODELS) + 2)}")
    flips = []
    for size in SIZES:
        texts, labels = read_snippets(out / f"snippets_{size}.parquet", "test")
        probs = {model: shared_probs(modules[model], texts, sums[model]) for model in MODELS}
        right = {model: scores.argmax(1) == labels for model, scores in probs.items()}
        together = torch.stack(list(probs.values())).mean(0).argmax(1) == labels
        anyone = torch.stack(list(right.values())).any(0)
        columns = [*right.values(), together, anyone]
        print(f"| {size} | {' | '.join(f'{100 * column.float().mean():.1f}' for column in columns)} |")
        for student, teacher in permutations(MODELS, 2):
            share = positive_flips(probs[student], probs[teacher], labels).float().mean()
            flips.append(f"| {student} | {teacher} | {size} | {100 * share:.1f} |")
    print("\n| student | teacher | bytes | positive flips |\n|---|---|---|---|\n" + "\n".join(flips) + "\n")
    texts, labels = read_snippets(out / f"snippets_{SIZES[0]}.parquet", "selection")
    few = torch.randperm(len(texts), generator=torch.Generator().manual_seed(0))[:FEW].tolist()
    for model, module in modules.items():
        classes = torch.tensor([module.classes.index(own_class(model, SHARED[labels[row]])) for row in few])
        before, after = losses_of_training(module, [texts[row] for row in few], classes)
        print(f"{model}: {STEPS} steps of plain training on {FEW} snippets, loss {before:.3f} to {after:.3f}")


def own_class(model: str, label: str) -> str:
    """Name a model's own class for a shared one, the first of those in its map."""
    return next(name for name, shared in read_map(model).items() if shared == label)


def main() -> None:
    """Fetch, check and compare."""
    parser = argparse.ArgumentParser(description="Compare published classifiers of file types.")
    parser.add_argument("--out", type=Path, default=Path("runs/file_types"))
    out = parser.parse_args().out
    if not all((out / f"{model}.safetensors").is_file() for model in BUILDERS):
        make_weights(out)
    make_data(out)
    make_even_pools(out)
    compare(out)


if __name__ == "__main__":
    main()
