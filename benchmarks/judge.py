"""Is what a judge says of tutors worth asking? How many targets are right, by each rule and by variants of the judge.

    python benchmarks/judge.py [--pool runs/glyph_pool.npz] [--features]

Six glyph models, all ordered pairs as frozen student and teacher. First the selection split: a judge learns on a
quarter of its groups and is judged on the others, four times over; here the constants of `fit_judge` and `learned`
were chosen. With `--pool` then 15,000 images of the pool of recipes/glyph_pool.py, whose labels are read for this count
alone: the judge has learnt on the tune part, as in a transfer. `--features` compares, on the selection split, what else
might be read: the answers to the image moved by a pixel, the distance from the samples that it has learnt on, and
trees instead of a line.
"""

import argparse
from itertools import permutations
from pathlib import Path

import numpy as np
import torch
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
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


def read(tutors: Tensor, moved: Tensor) -> Tensor:
    """Return what might be read of two tutors, [N, F]; the last two columns are how stable they are.

    Args:
        tutors: Logits, [2, N, C].
        moved: Of the same images moved by a pixel.
    """
    probs, columns = tutors.softmax(2), []
    for mine, other in ((0, 1), (1, 0)):
        top = probs[mine].topk(2)
        columns += [top.values[:, 0].logit(eps=1e-6), (top.values[:, 0] / top.values[:, 1].clamp(min=1e-6)).log()]
        columns += [probs[other].gather(1, top.indices[:, :1])[:, 0].logit(eps=1e-6)]
    columns += [(probs[0].argmax(1) == probs[1].argmax(1)).float()]
    stable = [m.softmax(1).gather(1, t.argmax(1, keepdim=True))[:, 0] for t, m in zip(tutors, moved, strict=True)]
    return torch.stack([*columns, *(each.logit(eps=1e-6) for each in stable)], 1)


def readers(learnt: Tensor, labels: Tensor, asked: Tensor, moved: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
    """Return targets [N, C] by judges that read other features, for tutors' logits `asked` [2, N, C].

    Args:
        learnt: Logits that they learn from, [2, M, C].
        labels: Of these.
        asked: Logits that they judge.
        moved: Logits on the images of `learnt` and of `asked`, moved by a pixel.
    """
    both = [read(learnt, moved[0]).numpy(), read(asked, moved[1]).numpy()]
    places = [x.softmax(2).mean(0).sqrt().numpy() for x in (learnt, asked)]
    near = NearestNeighbors(n_neighbors=6).fit(places[0])
    away = [near.kneighbors(places[0])[0][:, 1:].mean(1), near.kneighbors(places[1])[0][:, :5].mean(1)]
    plain = [x[:, :-2] for x in both]
    kinds = {
        "a line": plain,
        "a line, with the moved image": both,
        "a line, with the distance": [np.column_stack(x) for x in zip(plain, away, strict=True)],
        "trees": plain,
        "trees, with the moved image": both,
    }
    found = {"judge, as it is": mixed_targets(asked, (0.5 * fit_judge(learnt, labels)(asked)).softmax(0))}
    for name, (inside, outside) in kinds.items():
        odds = []
        for tutor in learnt:
            right = (tutor.argmax(1) == labels).numpy()
            if name.startswith("trees"):
                told = HistGradientBoostingClassifier(max_depth=3, max_iter=60, random_state=0).fit(inside, right)
            else:
                told = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000)).fit(inside, right)
            odds.append(torch.from_numpy(told.predict_proba(outside)[:, 1]).logit(eps=1e-4).float())
        found[name] = mixed_targets(asked, (0.5 * torch.stack(odds)).softmax(0))
    found["ensemble"], found["frozen student"] = mixed_targets(asked, uniform(asked)), asked[0]
    return found


def count(found: Counts, chosen_by: dict[str, Tensor], truth: Tensor) -> None:
    """Add the share of right targets of each rule, in %."""
    for name, chosen in chosen_by.items():
        found.setdefault(name, []).append(100 * (chosen.argmax(1) == truth).double().mean().item())


def moved_by_a_pixel(split: Split) -> Split:
    """Return the images of a split, each moved by a pixel."""
    images = split.inputs.read(split.input_rows(np.arange(len(split))), None, None)
    arrays = (images.roll((1, 1), dims=(2, 3)) * 255).round().byte().permute(0, 2, 3, 1).numpy(), split.labels
    few = arrays[0][:9], arrays[1][:9]
    return crossteach.from_arrays(arrays, few, few, duplicates="keep").train


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
    parser.add_argument("--features", action="store_true", help="compare what a judge might read")
    options = parser.parse_args()
    pool = options.pool
    data = crossteach.load_data("glyphs")
    models = {name: crossteach.load_model(spec) for name, spec in MODELS.items()}
    pairs = list(permutations(models, 2))

    def answers(split: Split) -> tuple[dict[str, Tensor], Tensor]:
        return {n: crossteach.predict(m, split).logits for n, m in models.items()}, torch.from_numpy(split.labels)

    said, truth = answers(data.selection)
    assert data.selection.group is not None
    groups = np.random.default_rng(0).permutation(int(data.selection.group.max()) + 1)
    fold = torch.from_numpy(groups[data.selection.group] % FOLDS)
    moved = answers(moved_by_a_pixel(data.selection))[0] if options.features else {}
    found: Counts = {}
    for pair in pairs:
        both = torch.stack([said[name] for name in pair])
        for held in range(FOLDS):
            inside, outside = fold == held, fold != held
            learnt, asked = (both[:, inside], truth[inside]), both[:, outside]
            if options.features:
                other = torch.stack([moved[name] for name in pair])
                chosen = readers(*learnt, asked, (other[:, inside], other[:, outside]))
            else:
                chosen = rules(*learnt, asked)
            count(found, chosen, truth[outside])
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
        learnt, asked = (torch.stack([said[name] for name in pair]) for said in (tuned, fresh))
        count(found, rules(learnt, known, asked), right)
    show("Images of the pool", found, 1)


if __name__ == "__main__":
    main()
