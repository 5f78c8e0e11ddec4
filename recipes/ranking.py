"""How well does the scout's order of teachers agree with what their students then learnt?

    python recipes/pairs.py demo:mlp demo:mixer demo:resnet demo:convnet --data glyphs --out runs/pairs
    python recipes/ranking.py runs/pairs/results.json --data glyphs --methods kl+dp kl+dp-unsupervised

For each method it prints Spearman's correlation of a predictor with what students learnt, over the teachers of one
student, averaged over students. The predictor comes from the selection split; what students learnt is the delta of the
end of training, on test. It also prints the regret, in points, of taking the first teacher instead of the best, beside
that of taking any. The predictor that ranks is `targets`; the others were candidates. The results for two sets of
models are in docs/scout.md.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from scipy.stats import spearmanr

import crossteach
from crossteach.transferring.methods import DEFAULT_WITH_LABELS, DEFAULT_WITHOUT_LABELS


def read(path: Path, part: str) -> list[dict[str, Any]]:
    """Read the runs of a study: `results.json` of recipes/pairs.py, `results.parquet` of a sweep, or a whole study."""
    if path.suffix == ".parquet":
        rows = pq.read_table(path).to_pylist()
        return [row for row in rows if row["teacher"] and row.get("part", part) == part]
    return [row for row in json.loads(path.read_text()) if row["teacher"]]


def candidates(specs: list[str], data: str) -> dict[tuple[str, str], dict[str, float]]:
    """Return what each candidate says of every ordered pair: all from the selection split but the teacher's gap."""
    splits = crossteach.load_data(data)
    models = [crossteach.load_model(spec, like=splits) for spec in specs]
    found = crossteach.scout(models, splits, embeddings="none", ensembles=False)
    held_out = dict(zip(specs, found.answers.selection, strict=True))
    names = dict(zip((d.model for d in found.answers.test), specs, strict=True))
    scores = {}
    for pair in found.summary["pairs"]:
        student, teacher = names[pair["student"]], names[pair["teacher"]]
        s, t = held_out[student], held_out[teacher]
        positive = 100 * (t.correct & ~s.correct).double().mean().item()
        negative = 100 * (s.correct & ~t.correct).double().mean().item()
        scores[student, teacher] = {
            "targets": pair["predicted_gain"],
            "positive flips": positive,
            "teacher's accuracy": positive - negative,
            "flips, positive to negative": positive / max(negative, 1e-9),
            "share to the teacher": pair["partition"]["unsupervised"]["teacher_share"],
        }
    return scores


def main() -> None:
    """Print one table for each method of a study."""
    parser = argparse.ArgumentParser(description="Does the scout's ranking agree with the truth?")
    parser.add_argument("results", type=Path, help="results.json of recipes/pairs.py, or results.parquet of a sweep")
    parser.add_argument("--data", required=True)
    parser.add_argument("--part", default="core", help="of recipes/study.py: the part whose runs are read")
    parser.add_argument("--methods", nargs="+", default=[DEFAULT_WITH_LABELS, DEFAULT_WITHOUT_LABELS])
    arguments = parser.parse_args()
    results = read(arguments.results, arguments.part)
    specs = list(dict.fromkeys(r["student"] for r in results))
    scores = candidates(specs, arguments.data)
    print("| method | predictor | Spearman within a student | over all pairs | regret of the first | regret of any |")
    print("|---|---|---|---|---|---|")
    for method in arguments.methods:
        deltas = {(r["student"], r["teacher"]): r["ungated_transfer_delta"] for r in results if r["method"] == method}
        for name in next(iter(scores.values())):
            within, first, anyone = [], [], []
            for student in specs:
                pairs = [pair for pair in deltas if pair[0] == student]
                true, said = np.array([deltas[p] for p in pairs]), np.array([scores[p][name] for p in pairs])
                within.append(spearmanr(said, true).statistic)
                first.append(true.max() - true[said.argmax()])
                anyone.append(true.max() - true.mean())
            overall = spearmanr([scores[p][name] for p in deltas], list(deltas.values())).statistic
            print(
                f"| `{method}` | {name} | {np.mean(within):+.2f} | {overall:+.2f} | {np.mean(first):.2f} | "
                f"{np.mean(anyone):.2f} |"
            )


if __name__ == "__main__":
    main()
