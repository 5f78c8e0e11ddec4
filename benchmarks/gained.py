"""What a student gained where no label of the test split tells: estimates from answers, against labels.

    python recipes/pool_study.py blind                 # or any part of pairs of glyph models
    python benchmarks/gained.py --runs runs/pool_study/blind

Every student of the part is asked about the tune part, whose labels are read, and about the test split, whose labels
are read to count only. Each row says how the change on the test split is estimated:

| estimate | how |
|---|---|
| delta on the tune part | what its labels say, carried over |
| calibrated confidence | the mean of the highest probability, at the temperature that fits the tune part |
| difference of confidences | accuracy on the tune part, and how that mean differs between the splits (DoC) |
| average thresholded confidence | the share above a threshold; of the tune part as many pass as are right (ATC) |
| agreement on the line | accuracy on the tune part, moved as the agreement of all pairs of models moves (ALine-S) |
| a judge | `estimated_delta` of a summary: what is learnt of old student, new student and teacher |
"""

import argparse
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.stats import norm, pearsonr, spearmanr
from torch import Tensor

import crossteach
from crossteach.answers.prediction import predict_all
from crossteach.data.cut import tune_and_gate
from crossteach.functional import fit_judge, fit_temperature
from crossteach.runs import read_json

sys.path.insert(0, str(Path(__file__).parents[1] / "recipes"))
from pool_study import MODELS
from pool_study_data import DATA


def on_the_line(
    familiar: Int[Tensor, "M N"], labels: Int[Tensor, " N"], asked: Int[Tensor, "M n"]
) -> Float[Tensor, " M"]:
    """Estimate accuracies from how the agreement of pairs of models moves from labelled samples to others.

    Args:
        familiar: Predictions on labelled samples, three models or more.
        labels: Of these samples.
        asked: Predictions on the others.
    """

    def agreement(preds: Int[Tensor, "M n"]) -> np.ndarray:
        return np.array([(preds[i] == preds[j]).double().mean().item() for i, j in combinations(range(len(preds)), 2)])

    def scaled(shares: np.ndarray) -> np.ndarray:
        return norm.ppf(shares.clip(1e-4, 1 - 1e-4))

    slope, start = np.polyfit(scaled(agreement(familiar)), scaled(agreement(asked)), 1)
    accuracy = (familiar == labels).double().mean(1).numpy()
    return torch.from_numpy(norm.cdf(start + slope * scaled(accuracy)))


def by_confidence(
    tune: Float[Tensor, "N C"], labels: Int[Tensor, " N"], test: Float[Tensor, "n C"]
) -> dict[str, float]:
    """Estimate the accuracy of one model on the test split from its confidence, three ways."""
    temperature = fit_temperature(tune, labels)
    there, here = ((x / temperature).softmax(1).amax(1).double() for x in (tune, test))
    accuracy = (tune.argmax(1) == labels).double().mean().item()
    return {
        "delta on the tune part": accuracy,
        "calibrated confidence": here.mean().item(),
        "difference of confidences": accuracy + (here.mean() - there.mean()).item(),
        "average thresholded confidence": (here >= there.quantile(1 - accuracy)).double().mean().item(),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="What a student gained, from answers alone.")
    parser.add_argument("--runs", type=Path, required=True, help="the folder of a part of recipes/pool_study.py")
    data, store = crossteach.load_data(DATA), crossteach.Store()
    tune, truth = tune_and_gate(data.selection)[0], data.test.labels
    assert tune.labels is not None and truth is not None
    labels = torch.from_numpy(tune.labels)
    zoo, names = [crossteach.load_model(spec) for spec in MODELS.values()], list(MODELS)
    familiar, asked = (predict_all(zoo, split, store) for split in (tune, data.test))
    before = [by_confidence(there, labels, here) for there, here in zip(familiar, asked, strict=True)]
    said: dict[str, list[float]] = {}
    true = []
    for path in sorted(parser.parse_args().runs.glob("jobs/*/summary.json")):
        run = read_json(path)
        if len(run["teachers"]) != 1 or not run["transfer_delta"]:
            continue
        taught = crossteach.load_model(f"run:{path.parent}", trust=True)
        old, teacher = (names.index(name) for name in (run["student"], run["teachers"][0]))
        new = [predict_all([taught], split, store) for split in (tune, data.test)]
        estimates = {
            name: value - before[old][name] for name, value in by_confidence(new[0][0], labels, new[1][0]).items()
        }
        everyone = [torch.cat(both) for both in zip((familiar, asked), new, strict=True)]
        line = on_the_line(everyone[0].argmax(2), labels, everyone[1].argmax(2))
        estimates["agreement on the line"] = (line[-1] - line[old]).item()
        three = [torch.stack([every[old], every[-1], every[teacher]]) for every in everyone]
        right = fit_judge(three[0], labels)(three[1]).sigmoid().double().mean(1)
        estimates["a judge"] = (right[1] - right[0]).item()
        for name, value in estimates.items():
            said.setdefault(name, []).append(100 * value)
        true.append(run["transfer_delta"])
    print(f"{len(true)} students, {np.mean(true):+.2f} points on average ({min(true):+.2f} to {max(true):+.2f})\n")
    print("| estimate | correlation | rank | mean error | bias | right sign |\n|---|---|---|---|---|---|")
    for name, values in said.items():
        error, signs = np.array(values) - true, np.mean((np.array(values) > 0) == (np.array(true) > 0))
        shown = f"{pearsonr(values, true).statistic:.2f} | {spearmanr(values, true).statistic:.2f}"
        print(f"| {name} | {shown} | {np.abs(error).mean():.2f} | {error.mean():+.2f} | {100 * signs:.0f}% |")


if __name__ == "__main__":
    main()
