"""Is what a judge says of tutors worth asking? How many targets are right, by each rule and by variants of the judge.

    python benchmarks/judge.py [--pool runs/glyph_pool.npz]

Six glyph models, all ordered pairs as frozen student and teacher. First the selection split: a judge learns on a
quarter of its groups and is judged on the others, four times over; here the constants of `fit_judge` and `learned`
were chosen. With `--pool` then 15,000 images of the pool of recipes/glyph_pool.py, whose labels are read for this count
alone: the judge has learnt on the tune part, as in a transfer.
"""

import argparse
from itertools import permutations
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import crossteach
from crossteach.data.cut import tune_and_gate
from crossteach.functional import (
    RuleInputs,
    calibrated,
    fit_judge,
    fit_temperature,
    mixed_targets,
    soft,
    targets,
    uniform,
    unsupervised,
)
from crossteach.types import Split

MODELS = {
    **{n: f"py:recipes/mid_zoo.py:{n}@recipes/mid_zoo/{n}.safetensors" for n in ("cnn_a", "mlp_a", "res_a")},
    **{n: f"py:recipes/zoo.py:{n}@recipes/zoo/{n}.safetensors" for n in ("mlp", "mixer", "convnet_plain")},
}
STRENGTHS, EXPONENTS, FOLDS, SHOWN = (0.03, 0.1, 0.3, 1.0), (0.3, 0.5, 1.0), 4, 15_000
Counts = dict[str, list[float]]


def rules(learnt: Tensor, labels: Tensor, asked: Tensor) -> dict[str, Tensor]:
    """Return the targets of every rule for tutors' logits [2, N, C], from what is learnt on other samples."""
    heat = RuleInputs(temperatures=tuple(fit_temperature(tutor, labels) for tutor in learnt))
    found = {
        "frozen student": asked[0],
        "teacher": asked[1],
        "most confident": targets(asked, unsupervised(asked)),
        "calibrated": targets(asked, calibrated(asked, None, heat)),
        "soft": mixed_targets(asked, soft(asked)),
        "ensemble": mixed_targets(asked, uniform(asked)),
    }
    for strength in STRENGTHS:
        odds = fit_judge(learnt, labels, strength)(asked)
        found[f"judge, C {strength}, likeliest"] = targets(asked, odds.argmax(0))
        for exponent in EXPONENTS:
            weights = (exponent * odds).softmax(0)
            found[f"judge, C {strength}, odds^{exponent}"] = mixed_targets(asked, weights)
    return found


def count(found: Counts, learnt: Tensor, labels: Tensor, asked: Tensor, truth: Tensor) -> None:
    """Add the share of right targets of each rule, in %."""
    for name, chosen in rules(learnt, labels, asked).items():
        found.setdefault(name, []).append(100 * (chosen.argmax(1) == truth).double().mean().item())


def show(title: str, found: Counts, runs: int) -> None:
    """Print mean accuracy, and the worst pair against the frozen student and against the ensemble."""
    means = {name: np.array(values).reshape(-1, runs).mean(1) for name, values in found.items()}
    print(
        f"\n{title}\n\n| rule | right, % | worst against the student | worst against the ensemble |\n|---|---|---|---|"
    )
    for name, right in sorted(means.items(), key=lambda item: -item[1].mean()):
        worst = [(right - means[other]).min() for other in ("frozen student", "ensemble")]
        print(f"| {name} | {right.mean():.2f} | {worst[0]:+.2f} | {worst[1]:+.2f} |")


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description="How many targets are right, by each rule.")
    parser.add_argument("--pool", type=Path)
    pool = parser.parse_args().pool
    data = crossteach.load_data("glyphs")
    models = {name: crossteach.load_model(spec) for name, spec in MODELS.items()}
    pairs = list(permutations(models, 2))

    def answers(split: Split) -> tuple[dict[str, Tensor], Tensor]:
        return {n: crossteach.predict(m, split).logits for n, m in models.items()}, torch.from_numpy(split.labels)

    said, truth = answers(data.selection)
    assert data.selection.group is not None
    groups = np.random.default_rng(0).permutation(int(data.selection.group.max()) + 1)
    fold = torch.from_numpy(groups[data.selection.group] % FOLDS)
    found: Counts = {}
    for pair in pairs:
        both = torch.stack([said[name] for name in pair])
        for held in range(FOLDS):
            inside, outside = fold == held, fold != held
            count(found, both[:, inside], truth[inside], both[:, outside], truth[outside])
    show("Selection split, groups that the judge has not seen", found, FOLDS)
    if pool is None:
        return
    with np.load(pool) as archive:
        rows = np.sort(np.random.default_rng(0).permutation(len(archive["x_train"]))[:SHOWN])
        images, labels = archive["x_train"][rows], archive["y_train"][rows]
    shown = crossteach.from_arrays(
        (images, labels), (images[:9], labels[:9]), (images[:9], labels[:9]), duplicates="keep"
    )
    tuned, known = answers(tune_and_gate(data.selection)[0])
    fresh, right = answers(shown.train)
    found = {}
    for pair in pairs:
        count(found, torch.stack([tuned[n] for n in pair]), known, torch.stack([fresh[n] for n in pair]), right)
    show("Images of the pool", found, 1)


if __name__ == "__main__":
    main()
