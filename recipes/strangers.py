"""Which score tells what is foreign in a pool? How many strangers each finds, and how much of the pool's own it costs.

    python recipes/dirty_pools.py --fonts fonts          # its first lines say where the fonts are
    python recipes/strangers.py [--dirty runs/dirty]

mlp_a is the student and cnn_a the teacher of recipes/mid_zoo.py. Of each dirty pool as many samples of its own as
strangers are asked about, one view each. A threshold is what a twentieth of the tune part falls below, as in a
transfer; what falls below it in the pool is found. No label is read. Ranked is the probability that a score ranks a
stranger below a sample of the pool's own.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

import crossteach
from crossteach.data.cut import tune_and_gate
from crossteach.types import Split

MODELS = [f"py:recipes/mid_zoo.py:{name}@recipes/mid_zoo/{name}.safetensors" for name in ("mlp_a", "cnn_a")]
KINDS, ASKED, SHARE = ("letters", "fashion", "noise"), 5_000, 0.05


def entropy(probs: Tensor) -> Tensor:
    """Return the entropy of the last axis, in nats."""
    return -(probs * probs.clamp(min=1e-12).log()).sum(-1)


def rarity(tutors: Tensor, like: Tensor) -> Tensor:
    """Return how often the ensemble's class is given on the tune part, against how often it is given here."""
    here, there = (x.softmax(2).mean(0).argmax(1) for x in (tutors, like))
    counts, known = (torch.bincount(x, minlength=tutors.shape[2]) / len(x) for x in (here, there))
    return (known / counts.clamp(min=1e-9))[here]


SCORES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "confidence of the ensemble (the default)": lambda tutors, _: tutors.softmax(2).mean(0).amax(1),
    "entropy of the ensemble": lambda tutors, _: -entropy(tutors.softmax(2).mean(0)),
    "energy: mean logsumexp": lambda tutors, _: tutors.logsumexp(2).mean(0),
    "energy of the student": lambda tutors, _: tutors[0].logsumexp(1),
    "agreement: shared probability": lambda tutors, _: tutors.softmax(2).amin(0).sum(1),
    "agreement: one class": lambda tutors, _: (tutors[0].argmax(1) == tutors[1].argmax(1)).float(),
    "rarity of the class": rarity,
}
"""Tutors' logits [2, N, C] here and on the tune part to a number for each sample; lower is stranger."""


def open_tutors() -> tuple[list[crossteach.Classifier], Tensor]:
    """Open student and teacher; return them, and their logits [2, N, C] on the tune part of the glyphs."""
    tutors = [crossteach.load_model(spec) for spec in MODELS]
    tune = tune_and_gate(crossteach.load_data("glyphs").selection)[0]
    return tutors, ask(tutors, tune)


def ask(tutors: Sequence[crossteach.Classifier], images: np.ndarray | Split) -> Tensor:
    """Return the tutors' logits [2, N, C] on a split, or on images that are nothing but pixels."""
    if isinstance(images, np.ndarray):
        few = (images[:9], np.zeros(9, int))
        images = crossteach.from_arrays((images, np.zeros(len(images), int)), few, few, duplicates="keep").train
    return torch.stack([crossteach.predict(tutor, images).logits for tutor in tutors])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Which score tells what is foreign.")
    parser.add_argument("--dirty", type=Path, default=Path("runs/dirty"))
    dirty = parser.parse_args().dirty
    tutors, familiar = open_tutors()
    own = len(np.load(dirty / "clean.npz")["x"])
    rng, asked, foreign = np.random.default_rng(0), {}, torch.arange(2 * ASKED) >= ASKED
    for kind in KINDS:
        images = np.load(dirty / f"{kind}.npz")["x"]
        rows = np.concatenate([rng.permutation(own)[:ASKED], own + rng.permutation(len(images) - own)[:ASKED]])
        asked[kind] = ask(tutors, images[rows])
    print(
        f"| score | {' | '.join(f'{kind}: found, own lost, ranked' for kind in KINDS)} |\n|{'---|' * (len(KINDS) + 1)}"
    )
    for name, score in SCORES.items():
        least, cells = score(familiar, familiar).quantile(SHARE), []
        for kind in KINDS:
            values = score(asked[kind], familiar)
            found, lost = (100 * (values < least)[rows].float().mean().item() for rows in (foreign, ~foreign))
            cells.append(f"{found:.0f}%, {lost:.0f}%, {roc_auc_score(~foreign, values):.2f}")
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
