"""Writes what a transfer reports: `summary.json`, `samples.parquet` and the saved student."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from ..files import make_folder, write_bytes
from ..functional.calibration import expected_calibration_error
from ..functional.flips import negative_flips, percent, positive_flips
from ..runs import RunFolder
from ..types import Splits, TrainableClassifier
from .evidence import in_words, speaks_for
from .exhibits import write_exhibits
from .gate import GateResult
from .measured import TransferPredictions, ensemble_accuracy, measure

README = """# A student saved by crossteach

It loads without crossteach:

```python
{code}
```

`crossteach` opens it as `run:FOLDER`. `model.json` holds its preprocessing and classes.
"""


def summarise(
    found: TransferPredictions,
    verdict: GateResult,
    method: str,
    data: Splits,
    training: dict[str, Any],
    notes: Sequence[str],
    seconds: float,
) -> dict[str, Any]:
    """Return the content of `summary.json`; its keys are those of docs/architecture.md."""
    before, after, teachers, labels = found.before, found.after, found.teachers, found.before.labels
    assert labels is not None
    gated, raw = measure(found, after), measure(found, found.ungated)
    accuracies = [t.accuracy for t in teachers]
    positive = [percent(positive_flips(before.logits, t.logits, labels)) for t in teachers]
    negative = [percent(negative_flips(before.logits, t.logits, labels)) for t in teachers]
    return {
        "student": before.model,
        "teachers": [t.model for t in teachers],
        "method": method,
        "n_test": len(labels),
        "accuracy_before": before.accuracy,
        "accuracy_after": gated.pop("accuracy"),
        "teacher_accuracy": one_or_list(accuracies),
        "ensemble_accuracy": ensemble_accuracy([before, *teachers]) if teachers else None,
        **gated,
        "positive_flips": one_or_list(positive),
        "negative_flips": one_or_list(negative),
        "ungated": raw,
        "ungated_transfer_delta": raw["transfer_delta"],
        "gate": _gate(verdict, data.selection_seen),
        "calibration": {
            "before": expected_calibration_error(before.logits, labels),
            "after": expected_calibration_error(after.logits, labels),
        },
        "training": training,
        "notes": list(notes),
        "seconds": round(seconds, 2),
        "fingerprints": {
            "student": before.model_fingerprint,
            "teachers": [t.model_fingerprint for t in teachers],
            "data": data.fingerprint,
        },
    }


def _gate(verdict: GateResult, selection_seen: bool) -> dict[str, Any]:
    """Put the verdict of the gate, and how it was reached, into JSON."""
    return {
        "verdict": verdict.verdict,
        "alpha": verdict.alpha,
        "selection_delta": verdict.selection_delta,
        "groups": verdict.groups,
        "selection_seen": selection_seen,
        "evidence": in_words(*verdict.label_free) if verdict.label_free else "",
        "label_free": _label_free(verdict),
        "classes": verdict.classes,
        "path": [asdict(step) for step in verdict.path],
    }


def _label_free(verdict: GateResult) -> dict[str, Any] | None:
    """Put what was found without labels into JSON."""
    if verdict.label_free is None:
        return None
    before, after = verdict.label_free
    return {"before": asdict(before), "after": asdict(after), "speaks_for": speaks_for(before, after)}


def one_or_list(values: Sequence[float]) -> float | list[float] | None:
    """Return the only value as it is, several as a list, none as None."""
    return values[0] if len(values) == 1 else list(values) or None


def samples_taught(names: Sequence[str], counts: Sequence[float]) -> dict[str, float]:
    """Name who taught how many samples; whole counts as whole numbers, shares of samples to a hundredth.

    Example:
        >>> samples_taught(["frozen student", "dense", "label"], [10.0, 2.5, 0.0])
        {'frozen student': 10, 'dense': 2.5, 'label': 0}
    """
    rounded = [round(count, 2) for count in counts]
    return {n: int(c) if c.is_integer() else c for n, c in zip(names, rounded, strict=True)}


def write_transfer(
    run: RunFolder,
    data: Splits,
    student: TrainableClassifier,
    found: TransferPredictions,
    summary: dict[str, Any],
) -> None:
    """Write the ledger, what is shown, and the student, then the summary: with it the run is whole."""
    before = found.before
    assert before.labels is not None
    columns: dict[str, np.ndarray] = {"id": before.ids, "label": before.labels.numpy()}
    if before.group is not None:
        columns["group"] = before.group
    named = [("before", before), ("after", found.after), ("ungated", found.ungated)]
    named += [(f"teacher_{k}", teacher) for k, teacher in enumerate(found.teachers)]
    for name, answers in named:
        confidence, preds = answers.logits.softmax(1).max(1)
        columns[f"pred_{name}"] = preds.numpy()
        columns[f"confidence_{name}"] = confidence.numpy()
    run.write_samples(columns)
    write_exhibits(run, data, found)
    folder = make_folder(run.path / "student")
    student.save(str(folder))
    write_bytes(folder / "README.md", README.format(code=student.loading_code()).encode())
    run.finish(summary)
