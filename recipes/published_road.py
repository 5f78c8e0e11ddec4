"""The whole road on published models: scout, transfer with a pool, gate, labels of a person, export, report.

    python recipes/published_models.py --road languages-lid176 [--out runs/published_models]

It walks as a user does who has no label of the test split: these labels are taken away, so that `verify` has to ask.
Then they answer for the person, and at the end say what the transfer was worth in truth. Files of a road are in
OUT/road/PART; what is whole there is not done again. docs/published_models.md has the tables of 2026-11-27.
"""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import crossteach
from crossteach.errors import ExportError
from crossteach.specs import parse_spec
from crossteach.transferring.verification import read_differences

ASKED = 100
"""Labels that the person is asked for."""
TARGETS = ("torch", "onnx")
Answers = dict[int, str]
Line = tuple[str, str]


def without_test_labels(data: str, out: Path) -> str:
    """Copy the file of a spec without the labels of its test split; return the spec of the copy."""
    spec = parse_spec(data)
    copy = out / spec.path.name
    if spec.scheme == "csv":
        table = pq.read_table(spec.path)
        shown = pc.if_else(pc.equal(table["split"], "test"), pa.scalar(None, pa.string()), table["label"])
        pq.write_table(table.set_column(table.schema.get_field_index("label"), "label", shown), copy)
    else:
        with np.load(spec.path) as arrays:
            np.savez_compressed(copy, **{name: arrays[name] for name in arrays.files if name != "y_test"})
    return data.replace(str(spec.path), str(copy))


def known_answers(data: str) -> Answers:
    """Name the class of each test sample, by its id."""
    splits = crossteach.load_data(data)
    assert splits.test.labels is not None
    return {i: splits.classes[k] for i, k in zip(splits.test.ids.tolist(), splits.test.labels.tolist(), strict=True)}


def answer(asked: Path, known: Answers) -> None:
    """Fill in `ask.csv` as a person does who is always right."""
    with asked.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["label"] = known[np.uint64(int(row["sample"].removeprefix("q"), 16)).astype(np.int64).item()]
    with asked.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def in_truth(run: Path, known: Answers) -> float:
    """Return by how many points the student that `verify` judges is better on test than the old one."""
    found = read_differences(run)
    names, truth = np.array(found.classes), np.array([known[i] for i in found.ids.tolist()])
    gained: float = 100 * ((names[found.new] == truth).mean() - (names[found.old] == truth).mean())
    return gained


def exported(run: Path, out: Path, target: str) -> str:
    """Export the student; what cannot be exported is a result too."""
    try:
        made = crossteach.export_run(run, target, out / f"export_{target}")
    except ExportError as error:
        return f"refused: {error}"
    return f"{', '.join(made['files'])}; logits differ by {made['checked']['largest_difference']:.1e} at most"


def taught(told: dict[str, Any]) -> list[Line]:
    """Say what a transfer without labels on test says of itself."""
    pool, gate = told["pool"], told["gate"]
    shown = (
        f"{pool['used']:,} of {pool['samples']:,} samples of the pool used; {told['changed']:.1f}% of answers changed"
    )
    guessed = f"{told['estimated_delta']:+.2f} points by the estimate that reads no label"
    return [
        ("transfer", f"{shown}, {guessed}"),
        ("gate", f"{gate['verdict']}: {gate['selection_delta']:+.2f} on selection at alpha {gate['alpha']}"),
    ]


def verified(run: Path, known: Answers) -> Line:
    """Let the person be asked, and say what their labels told."""
    crossteach.verify(run, ask=ASKED)
    answer(run / "ask.csv", known)
    found = crossteach.verify(run, labels=run / "ask.csv")
    low, high = found["interval"]
    counted = f"{found['answered']} labels for {found['differing']:,} changed answers"
    return "verify", f"{found['verdict']}: {found['delta']:+.2f} (95%: {low:+.2f} to {high:+.2f}) by {counted}"


def walk(plan: dict[str, Any], out: Path) -> list[Line]:
    """Go all steps with the first pair of a plan and the default method, and say what each step said."""
    out.mkdir(parents=True, exist_ok=True)
    run, known = out / "run", known_answers(plan["data"])
    data = crossteach.load_data(without_test_labels(plan["data"], out), pools=plan["pools"])
    student, teachers = plan["pairs"][0]
    specs = [student, *([teachers] if isinstance(teachers, str) else teachers)]
    models = [crossteach.load_model(spec, like=data) for spec in specs]
    ranked = crossteach.scout(models, data).summary["ranking"][0]["teachers"]
    settings = [f"{key}={value}" for key, value in plan["settings"].items()]
    config = crossteach.with_settings(crossteach.TransferConfig(), settings)
    told = crossteach.transfer(models[0], models[1:], data, run, config).summary
    return [
        *(("scout", f"{row['teacher']}: {row['reason']}") for row in ranked),
        *taught(told),
        verified(run, known),
        ("all labels of test", f"{in_truth(run, known):+.2f}"),
        *((f"export --to {target}", exported(run, out, target)) for target in TARGETS),
        ("report", str(crossteach.write_report(run))),
    ]


def tell(part: str, lines: list[Line]) -> None:
    """Print a road."""
    print(f"| {part} | what came of it |\n|---|---|")
    for step, said in lines:
        print(f"| {step} | {said} |")
