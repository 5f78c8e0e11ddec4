"""The paper's three claims about complementary knowledge, on a zoo of one's own.

    python recipes/claims.py demo:mlp demo:mixer demo:resnet demo:convnet --data glyphs

A positive flip is a sample that the teacher has right and the student wrong. The claims:

1. Every pair has positive flips, also where the teacher is weaker. A random teacher has hardly any.
2. They concentrate in few classes. Few flips look concentrated by chance alone, and so does anything that is drawn
   from a student's errors. So each entropy is compared with two others of the same number of samples: drawn at random
   from all samples, and from the student's errors.
3. The classes of an area of expertise are close to each other: by their names, and by their mean training images.

The results for the demo's models and for Fashion-MNIST are in docs/scout.md.
"""

import argparse
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

import crossteach
from crossteach.functional.flips import flip_entropy, flips_by_class
from crossteach.types import Splits

DRAWS = 200
AREAS = ("5", "20", "50")


def mean_images(data: Splits) -> np.ndarray:
    """Return the mean training image of each class, without what all classes share: [C, pixels]."""
    assert data.train.labels is not None
    pixels = data.train.inputs.read(data.train.input_rows(np.arange(len(data.train))), None, None).flatten(1).numpy()
    means = np.stack([pixels[data.train.labels == c].mean(0) for c in range(len(data.classes))])
    return means - means.mean(0)


def chance(found: Any, student: int, count: int, among_errors: bool) -> float:
    """Return the mean entropy of so many samples drawn from all, or from the student's errors."""
    generator = torch.Generator().manual_seed(0)
    student_answers = found.answers.test[student]
    pool = (~student_answers.correct).nonzero().squeeze(1) if among_errors else torch.arange(len(student_answers.preds))
    entropies = []
    for _ in range(DRAWS):
        drawn = torch.zeros_like(student_answers.correct)
        drawn[pool[torch.randperm(len(pool), generator=generator)[:count]]] = True
        entropies.append(flip_entropy(flips_by_class(drawn, student_answers.labels, student_answers.n_classes)))
    return float(np.mean(entropies))


def rows(found: Any, pictures: Any) -> Iterator[dict[str, Any]]:
    """Put what a pair's three claims need into one row."""
    names = [model["name"] for model in found.summary["models"]]
    for pair, pictured in zip(found.summary["pairs"], pictures.summary["pairs"], strict=True):
        student = names.index(pair["student"])
        count = pair["positive_flips"]
        yield {
            **pair,
            "weaker": pair["accuracy_difference"] < 0,
            "of_all": chance(found, student, count, among_errors=False),
            "of_errors": chance(found, student, count, among_errors=True),
            "pictures": pictured["similarity"],
        }


def closeness(of: dict[str, dict[str, float | None]] | None) -> str:
    """Write relative similarity and p-value of each area."""
    if of is None:
        return "·"
    cells = []
    for area in AREAS:
        relative, p_value = of[area]["relative"], of[area]["p_value"]
        ratio = "" if relative is None or abs(relative) > 10 else f"{relative:.2f}, "
        cells.append("·" if p_value is None else f"{ratio}p {p_value:.3f}")
    return " / ".join(cells)


def main() -> None:
    """Scout twice, by names and by pictures, and print the table."""
    parser = argparse.ArgumentParser(description="The paper's claims about complementary knowledge.")
    parser.add_argument("models", nargs="+")
    parser.add_argument("--data", required=True)
    arguments = parser.parse_args()
    data = crossteach.load_data(arguments.data)
    models = [crossteach.load_model(spec, like=data) for spec in arguments.models]
    found = crossteach.scout(models, data, controls=True, ensembles=False)
    pictures = crossteach.scout(models, data, embeddings=mean_images(data), ensembles=False)
    table = list(rows(found, pictures))
    uniform = table[0]["uniform_entropy"]
    print(
        "| student | teacher | gap | positive flips | entropy | same number of all samples | of the student's errors | "
        f"names, areas of {', '.join(AREAS)}% | pictures |\n|---|---|---|---|---|---|---|---|---|"
    )
    for r in table:
        print(
            f"| {r['student']} | {r['teacher']} | {r['accuracy_difference']:+.2f} | {r['positive_flips_percent']:.2f}% "
            f"({r['positive_flips']}) | {r['entropy']:.2f} | {r['of_all']:.2f} | {r['of_errors']:.2f} | "
            f"{closeness(r['similarity'])} | {closeness(r['pictures'])} |"
        )
    print(f"\nUniform entropy: {uniform:.2f} nats.")
    for weaker in (True, False):
        part = [r for r in table if r["weaker"] is weaker]
        if not part:
            continue
        below_all = np.mean([r["of_all"] - r["entropy"] for r in part])
        below_errors = np.mean([r["of_errors"] - r["entropy"] for r in part])
        least = min(r["positive_flips_percent"] for r in part)
        print(
            f"Teacher {'weaker' if weaker else 'stronger'}: {len(part)} pairs, least positive flips {least:.2f}%, "
            f"entropy {below_all:.2f} below chance over all samples, {below_errors:.2f} below chance over the "
            "student's errors."
        )
    by_chance = [flips for control in found.summary["controls"] for flips in control["positive_flips"].values()]
    print(f"Randomly initialised teachers: {min(by_chance):.2f} to {max(by_chance):.2f}% positive flips.")
    for name in ("similarity", "pictures"):
        close = [r[name][area]["p_value"] for r in table if r[name] for area in AREAS]
        known = [p for p in close if p is not None]
        small = sum(p < 0.05 for p in known)
        print(
            f"Areas closer than chance by {'names' if name == 'similarity' else name}, p < 0.05: {small} of "
            f"{len(known)} (by chance {0.05 * len(known):.1f})."
        )


if __name__ == "__main__":
    main()
