"""What a student that was taught still knows of classes that neither its pool nor its labels held.

    python recipes/languages_figures.py --out runs/languages
    python recipes/published_models.py languages-lid176 --languages runs/languages --out runs/published_models
    python recipes/forgotten.py runs/languages/strings_others.parquet runs/published_models/languages-lid176/jobs/*

Reads texts with a label and a group, and takes those whose label is one of the model's own classes; for
`strings_others.parquet` 1,986 strings of 25 languages that only lid.176 names. The interval is over groups.
docs/published_models.md has the figures of 2026-11-27.
"""

import argparse
from pathlib import Path

import pandas as pd

import crossteach
from crossteach import Classifier, Predictions
from crossteach.functional import paired_delta
from crossteach.runs import read_json


def answers(model: Classifier, frame: pd.DataFrame) -> Predictions:
    """Ask a model about the texts whose label is one of its classes."""
    assert model.classes is not None
    known = frame[frame.label.isin(model.classes)]
    texts, labels = known.text.tolist(), [model.classes.index(label) for label in known.label]
    given = (texts, labels, known.group.tolist())
    data = crossteach.from_texts(given, given, given, classes=model.classes, duplicates="keep")
    return crossteach.predict(model, data.test)


def main() -> None:
    """Print one row a run."""
    parser = argparse.ArgumentParser(description="What a student still knows of classes that nobody showed it.")
    parser.add_argument("texts", type=Path, help="a parquet with columns text, label and group")
    parser.add_argument("runs", type=Path, nargs="+", help="folders of transfers of one student")
    arguments = parser.parse_args()
    frame = pd.read_parquet(arguments.texts)
    print("| run | texts | before | after | change | 95% |")
    print("|---|---|---|---|---|---|")
    for run in arguments.runs:
        spec = read_json(run / "config.json")["student"]["spec"]
        before, after = (answers(crossteach.load_model(s), frame) for s in (spec, f"run:{run}"))
        delta = paired_delta(before.correct.numpy(), after.correct.numpy(), before.group)
        print(
            f"| {run.name} | {len(before.labels)} | {before.accuracy:.1f}% | {after.accuracy:.1f}% | "
            f"{delta.estimate:+.2f} | {delta.low:+.2f} to {delta.high:+.2f} |"
        )


if __name__ == "__main__":
    main()
