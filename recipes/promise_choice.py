"""Does the promise choose the rule within a pair? What each rule promised before training, against what it reached.

    python recipes/promise_choice.py ROWS.parquet [ROWS.parquet ...]

Four rules have taught the same 14 pairs of recipes/pool_study.py (parts `rules` and `pairs`; of a run in two tables the
later counts). Their promises are counted anew from the models' answers on the tune part, as in a transfer; nothing is
trained. Reached are points at the end of training, on selection (the gate part is other images than the tune part) and
on test.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from pool_study import MODELS, PAIRS
from pool_study_data import DATA
from pool_tables import by_method, deltas
from scipy.stats import spearmanr

import crossteach
from crossteach.answers.prediction import predict_all
from crossteach.data.cut import tune_and_gate
from crossteach.functional import best_promise, promises

TAUGHT = {
    "teacher": "pool, kl",
    "ensemble": "pool, kl+ensemble",
    "most confident": "pool, kl+dp-unsupervised",
    "learned": "pool",
}
"""Rules of a promise, and the methods that taught by them."""


def promised(student: str, teacher: str, data: crossteach.Splits, store: crossteach.Store) -> tuple[list[float], int]:
    """Return how many more of each rule's targets are right than of the student's, in points, and the rule chosen."""
    tune = tune_and_gate(data.selection)[0]
    assert tune.labels is not None
    models = [crossteach.load_model(MODELS[name]) for name in (student, teacher)]
    answers = predict_all(models, tune, store)
    found = promises(answers, torch.from_numpy(tune.labels), ("",), tune.group)
    found["teacher"] = found.pop("teacher ")
    gains = [found[rule].accuracy - found["student"].accuracy for rule in TAUGHT]
    return gains, list(TAUGHT).index(best_promise({rule: found[rule] for rule in TAUGHT}))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Does the promise choose the rule within a pair?")
    parser.add_argument("rows", nargs="+", type=Path, metavar="ROWS.parquet")
    methods = by_method(parser.parse_args().rows)
    data, store = crossteach.load_data(DATA), crossteach.Store()
    reached = [{key[1:]: found for key, found in deltas(methods, name).items()} for name in TAUGHT.values()]
    gains, chosen = map(np.array, zip(*(promised(*pair, data, store) for pair in PAIRS), strict=True))
    everything = np.array([[found[pair] for found in reached] for pair in PAIRS])
    assert everything.shape == (len(PAIRS), len(TAUGHT), 2)

    print("| taught by | promised, mean | selection | test, mean | worst | best of the pair, on test | chosen |")
    print("|---|---|---|---|---|---|---|")
    first = everything[..., 1].argmax(1)
    for k, rule in enumerate(TAUGHT):
        ended, selected = everything[:, k, 1], everything[:, k, 0]
        cells = f"{gains[:, k].mean():+.2f} | {selected.mean():+.2f} | {ended.mean():+.2f} | {ended.min():+.2f}"
        print(f"| {rule} | {cells} | {(first == k).sum()} | {(chosen == k).sum()} |")
    ways = {"the rule that promises most": chosen, "the best on selection": everything[..., 0].argmax(1)}
    for name, which in {**ways, "the best on test": first}.items():
        picked = everything[np.arange(len(PAIRS)), which]
        print(f"| {name} | | {picked[:, 0].mean():+.2f} | {picked[:, 1].mean():+.2f} | {picked[:, 1].min():+.2f} | | |")
    within = [spearmanr(g, e).statistic for g, e in zip(gains, everything[..., 1], strict=True)]
    across = spearmanr(gains.ravel(), everything[..., 1].ravel()).statistic
    hits = (chosen == first).sum()
    print(f"\nRank correlation of promise and delta: {np.mean(within):.2f} within a pair (mean of {len(PAIRS)},")
    print(f"{(np.array(within) > 0).sum()} above 0), {across:.2f} over all; the best rule is chosen in {hits} pairs.")


if __name__ == "__main__":
    main()
