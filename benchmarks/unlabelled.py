"""What answers alone tell, against labels: of models, of teachers, of questions to a person.

    python benchmarks/unlabelled.py --pool runs/glyph_pool.npz

The seven models of recipes/mid_zoo.py on 10,000 images of the pool of recipes/glyph_pool.py, whose labels are read for
this count alone. The rows of benchmarks/POOL_CPU_2026-11-26.parquet (part `pairs`) say what training reached for each
of the 42 ordered pairs. benchmarks/gained.py does the same for what a student gained.
"""

import argparse
import sys
from itertools import permutations
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from gained import on_the_line
from scipy.stats import spearmanr
from torch import Tensor

import crossteach
from crossteach.answers.prediction import predict_all
from crossteach.data.cut import tune_and_gate
from crossteach.functional import beliefs, draw_questions, expected_gains, fit_judge, worth_asking

sys.path.insert(0, str(Path(__file__).parents[1] / "recipes"))
from pool_study import DATA, MODELS

ROWS = Path(__file__).with_name("POOL_CPU_2026-11-26.parquet")
SHOWN, DRAWS, LABELS = 10_000, 100, (50, 100, 200, 400)


def of_teachers(right: Tensor, preds: Tensor, truth: Tensor, deltas: dict[tuple[int, int], float]) -> list[float]:
    """Return error of accuracies, rank correlation with them, of expected gains with deltas, and what is lost."""
    correct = (preds == truth).double()
    said, accuracy = 100 * right.double().mean(1), 100 * correct.mean(1)
    gains = expected_gains(right, preds)
    pairs = list(deltas)
    lost = []
    for student in range(len(preds)):
        teachers = [t for s, t in pairs if s == student]
        first = max(teachers, key=lambda t, s=student: gains[s, t].item())
        lost.append(max(deltas[student, t] for t in teachers) - deltas[student, first])
    found = [gains[pair].item() for pair in pairs]
    return [
        (said - accuracy).abs().mean().item(),
        spearmanr(said, accuracy).statistic,
        spearmanr(found, list(deltas.values())).statistic,
        float(np.mean(lost)),
    ]


def of_questions(logits: Tensor, truth: Tensor) -> dict[str, list[float]]:
    """Return, for each way to choose samples, what asking the first teacher by so many labels loses, in points."""
    right, preds = beliefs(logits), logits.argmax(2)
    correct = (preds == truth).double()
    taught = right[None] > right[:, None]
    change = 100 * (correct[None] - correct[:, None]) * taught
    whole = change.mean(2)
    worth, count = worth_asking(right, preds), logits.shape[1]
    differing, rng = torch.nonzero(worth > 0)[:, 0].numpy(), np.random.default_rng(0)

    def lost(rows: np.ndarray, weights: np.ndarray) -> float:
        estimate = (change[..., rows] * torch.from_numpy(weights)).sum(2)
        estimate.fill_diagonal_(-np.inf)
        return float(np.mean([(whole[s].max() - whole[s, estimate[s].argmax()]).item() for s in range(len(whole))]))

    found: dict[str, list[float]] = {"all": [], "where any differ": [], "highest worth": [], "by lot, by worth": []}
    for asked in LABELS:
        even = np.ones(asked)
        found["all"].append(np.mean([lost(rng.permutation(count)[:asked], even) for _ in range(DRAWS)]))
        found["where any differ"].append(
            np.mean([lost(rng.permutation(differing)[:asked], even) for _ in range(DRAWS)])
        )
        found["highest worth"].append(lost(worth.argsort(descending=True)[:asked].numpy(), even))
        drawn = (draw_questions(worth, asked, seed) for seed in range(DRAWS))
        found["by lot, by worth"].append(np.mean([lost(each.rows, each.weights) for each in drawn]))
    return found


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description="What answers alone tell.")
    parser.add_argument("--pool", type=Path, required=True)
    options = parser.parse_args()
    data, names = crossteach.load_data(DATA, [f"npz:{options.pool}"]), list(MODELS)
    models, store = [crossteach.load_model(spec) for spec in MODELS.values()], crossteach.Store()
    pool = data.pools[0].split
    pool = pool.take(np.sort(np.random.default_rng(0).permutation(len(pool))[:SHOWN]))
    assert pool.rows is not None
    with np.load(options.pool) as file:
        truth = torch.from_numpy(file["y_train"][pool.rows])
    logits = predict_all(models, pool, store)
    preds = logits.argmax(2)
    rows = [row for row in pq.read_table(ROWS).to_pylist() if row["part"] == "pairs"]
    reached = {(row["student_name"], row["teacher_name"]): row["ungated_transfer_delta"] for row in rows}
    deltas = {(s, t): reached[names[s], names[t]] for s, t in permutations(range(len(names)), 2)}

    print("| right, by | accuracy: mean error | rank | expected gain and delta: rank | lost by asking its first |")
    print("|---|---|---|---|---|")
    tune = tune_and_gate(data.selection)[0]
    assert tune.labels is not None
    learnt, labels = predict_all(models, tune, store), torch.from_numpy(tune.labels)
    said = {"the ensemble": beliefs(logits), "each model's confidence": logits.softmax(2).amax(2)}
    order = torch.from_numpy(np.random.default_rng(1).permutation(len(labels)))
    for count in (50, 100, 200, 500, len(labels)):
        judge = fit_judge(learnt[:, order[:count]], labels[order[:count]])
        said[f"a judge, {count:,} labels"] = judge(logits).sigmoid()
    for name, right in said.items():
        figures = of_teachers(right, preds, truth, deltas)
        print(f"| {name} | {figures[0]:.1f} | {figures[1]:.2f} | {figures[2]:.2f} | {figures[3]:.2f} |")
    line = 100 * on_the_line(learnt.argmax(2), labels, preds)
    accuracy = 100 * (preds == truth).double().mean(1)
    error, rank = (line - accuracy).abs().mean().item(), spearmanr(line, accuracy).statistic
    print(f"| agreement on the line, {len(labels):,} labels | {error:.1f} | {rank:.2f} | | |")

    print(f"\n| samples that are labelled | {' | '.join(map(str, LABELS))} |\n|---|{'---|' * len(LABELS)}")
    for name, values in of_questions(logits, truth).items():
        print(f"| {name} | {' | '.join(f'{value:.2f}' for value in values)} |")


if __name__ == "__main__":
    main()
