"""What the answers to a scout's questions tell of each pair of models, and whether the error that is told is right.

    python benchmarks/questions.py

The four models of the demo on the 6,579 test images of the glyphs, whose labels answer the questions. Of 200 questions
the first n are answered. *Plain* is the weighted sum of what the labels say, *corrected* is `gains_by_labels`, which
only adds what they say against `expected_gains`. Error and told error are means over 12 ordered pairs and 500 draws, in
points; coverage is the share of gains within 1.96 told errors of the truth.
"""

import numpy as np
import torch
from torch import Tensor

import crossteach
from crossteach.answers.prediction import predict_all
from crossteach.data.cut import tune_and_gate
from crossteach.functional import beliefs, draw_questions, fit_judge, gains_by_labels, worth_asking

MODELS = ("demo:mlp", "demo:mixer", "demo:resnet", "demo:convnet")
TIMES, QUESTIONS, ANSWERED = 500, 200, (5, 10, 20, 50, 100, 200)


def rows(by: str, right: Tensor, preds: Tensor, labels: Tensor) -> None:
    """Print a row for each number of labels."""
    worth, pairs = worth_asking(right, preds), ~np.eye(len(preds), dtype=bool)
    correct = (preds == labels).double()
    change = 100 * (correct - correct[:, None]) * (right > right[:, None])
    truth = change.mean(2).numpy()
    for count in ANSWERED:
        plain, corrected, told = [], [], []
        for seed in range(TIMES):
            few = draw_questions(worth, QUESTIONS, seed).answered(np.arange(count))
            plain.append((change[..., few.rows] * torch.from_numpy(few.weights)).sum(2).numpy() / preds.shape[1])
            found = gains_by_labels(right, preds, few, labels[few.rows])
            corrected.append(found.gains.numpy())
            told.append(found.errors.numpy())
        off = [np.array(estimates)[:, pairs] - truth[pairs] for estimates in (plain, corrected)]
        errors = [np.sqrt((each**2).mean()) for each in off]
        said = np.array(told)[:, pairs]
        covered = (np.abs(off[1]) <= 1.96 * said).mean()
        print(f"| {by} | {count} | {errors[0]:.2f} | {errors[1]:.2f} | {said.mean():.2f} | {100 * covered:.0f}% |")


def main() -> None:
    """Print the table."""
    data, store = crossteach.load_data("glyphs"), crossteach.Store()
    models, tune = [crossteach.load_model(spec) for spec in MODELS], tune_and_gate(data.selection)[0]
    assert data.test.labels is not None and tune.labels is not None
    logits, labels = predict_all(models, data.test, store), torch.from_numpy(data.test.labels)
    judge = fit_judge(predict_all(models, tune, store), torch.from_numpy(tune.labels))
    print("| right, by | labels | error, plain | error, corrected | error that is told | coverage |")
    print("|---|---|---|---|---|---|")
    rows("the ensemble", beliefs(logits), logits.argmax(2), labels)
    rows("a judge", judge(logits).sigmoid(), logits.argmax(2), labels)


if __name__ == "__main__":
    main()
