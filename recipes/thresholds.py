"""Is the paper's heuristic the best one? Margins and calibration, explored on stored predictions: no training.

    python recipes/thresholds.py                                     # the glyph models of recipes/study.py
    python recipes/thresholds.py --data fashion                      # its Fashion-MNIST models

The heuristic: the more confident of teacher and frozen student teaches. A margin says by how much the teacher must be
ahead. For every ordered pair the recipe measures how much better the targets of a partition are than the student's own
answers: by accuracy in points, and by log-probability of the right class in nats. It reads the gate part of the
selection split; temperatures are fitted on the tune part. Printed are mean and worst over the pairs, and the mean share
of samples that teachers teach. The results are in docs/study/record.md.
"""

import argparse
from collections.abc import Iterator
from itertools import permutations

import numpy as np
import torch
from study import FASHION, FASHION_DATA, GLYPHS
from torch import Tensor

import crossteach
from crossteach.data.cut import tune_and_gate
from crossteach.functional import RuleInputs, calibrated, supervised, targets, unsupervised
from crossteach.functional.calibration import fit_temperature

MARGINS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5)
RULES = {"supervised": supervised, "unsupervised": unsupervised, "calibrated": calibrated}


def quality(logits: Tensor, labels: Tensor) -> np.ndarray:
    """Return accuracy in % and mean log-probability of the right class in nats."""
    log_probs = logits.log_softmax(1).gather(1, labels[:, None])
    return np.array([100 * (logits.argmax(1) == labels).double().mean().item(), log_probs.double().mean().item()])


def differences(
    answers: list[Tensor], heat: list[float], labels: Tensor, rule: str, margin: float
) -> Iterator[np.ndarray]:
    """Yield, for each ordered pair, how much better the targets are, and the teacher's share in %."""
    for s, t in permutations(range(len(answers)), 2):
        tutors = torch.stack([answers[s], answers[t]])
        chosen = RULES[rule](tutors, labels, RuleInputs(margin, (heat[s], heat[t])))
        better = quality(targets(tutors, chosen), labels) - quality(answers[s], labels)
        yield np.array([*better, 100 * chosen.double().mean().item()])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Margins and calibration on stored predictions.")
    parser.add_argument("models", nargs="*", help="model specs; by default those of the study")
    parser.add_argument("--data", default="glyphs", help="glyphs, fashion, or any data spec")
    arguments = parser.parse_args()
    fashion = arguments.data == "fashion"
    specs = arguments.models or list((FASHION if fashion else GLYPHS).values())
    data = crossteach.load_data(FASHION_DATA if fashion else arguments.data)
    tune, gate = tune_and_gate(data.selection)
    models = [crossteach.load_model(spec, like=data) for spec in specs]
    tuned = [crossteach.predict(model, tune) for model in models]
    heat = [fit_temperature(p.logits, torch.from_numpy(tune.labels)) for p in tuned]
    answers = [crossteach.predict(model, gate).logits for model in models]
    labels = torch.from_numpy(gate.labels)
    print("| partition | margin | accuracy gained: mean, worst | log-probability gained | taught by teachers |")
    print("|---|---|---|---|---|")
    for rule in RULES:
        for margin in MARGINS:
            found = np.array(list(differences(answers, heat, labels, rule, margin)))
            accuracy, nats, share = found.mean(0)
            print(
                f"| {rule} | {margin:g} | {accuracy:+.2f}, {found[:, 0].min():+.2f} | {nats:+.3f}, "
                f"{found[:, 1].min():+.3f} | {share:.0f}% |"
            )


if __name__ == "__main__":
    main()
