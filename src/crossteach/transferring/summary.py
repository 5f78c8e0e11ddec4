"""Writes what a transfer reports: `summary.json`, `samples.parquet` and the saved student."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from ..files import make_folder, write_bytes
from ..functional.calibration import expected_calibration_error
from ..functional.flips import negative_flips, percent, positive_flips
from ..runs import RunFolder
from ..types import Pool, Predictions, Splits, TrainableClassifier
from .evidence import in_words, speaks_for
from .exhibits import write_exhibits
from .foreign import REASON, LeftOut
from .gate import GateResult
from .measured import TransferPredictions, balanced, ensemble_accuracy, measure
from .sources import Source

NO_SHARE = "left out by pool.share=0"
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
    pool: dict[str, Any] | None = None,
    promise: dict[str, Any] | None = None,
    estimated_delta: float | None = None,
) -> dict[str, Any]:
    """Return the content of `summary.json`; its keys are those of docs/architecture.md.

    Figures that need labels on test are None where it has none.
    """
    before, after, teachers = found.before, found.after, found.teachers
    gated, raw = measure(found, after), measure(found, found.ungated)
    return {
        "student": before.model,
        "teachers": [t.model for t in teachers],
        "method": method,
        "n_test": len(before.ids),
        "accuracy_before": None if before.labels is None else before.accuracy,
        "accuracy_after": gated.pop("accuracy"),
        "balanced_accuracy_before": balanced(before),
        "balanced_accuracy_after": gated.pop("balanced_accuracy"),
        "ensemble_accuracy": ensemble_accuracy([before, *teachers]),
        **gated,
        **_of_teachers(before, teachers),
        "ungated": raw,
        "ungated_transfer_delta": raw["transfer_delta"],
        "estimated_delta": estimated_delta,
        "gate": _gate(verdict, data.selection_seen),
        "calibration": {"before": _calibration_error(before), "after": _calibration_error(after)},
        "promise": promise,
        "pool": pool,
        "training": training,
        "notes": list(notes),
        "seconds": round(seconds, 2),
        "fingerprints": {
            "student": before.model_fingerprint,
            "teachers": [t.model_fingerprint for t in teachers],
            "data": data.fingerprint,
        },
    }


def _of_teachers(before: Predictions, teachers: Sequence[Predictions]) -> dict[str, float | list[float | None] | None]:
    """Return what each teacher has right, and how that differs from what the student has right; all in %."""
    keys, labels = ("teacher_accuracy", "positive_flips", "negative_flips"), before.labels
    if labels is None:
        return dict.fromkeys(keys)
    columns: list[list[float | None]] = [
        [t.accuracy if bool(t.answered.any()) else None for t in teachers],
        [percent(positive_flips(before.logits, t.logits, labels)) for t in teachers],
        [percent(negative_flips(before.logits, t.logits, labels)) for t in teachers],
    ]
    return {key: one_or_list(values) for key, values in zip(keys, columns, strict=True)}


def _calibration_error(answers: Predictions) -> float | None:
    said = answers.answered
    if answers.labels is None or not bool(said.any()):
        return None
    return expected_calibration_error(answers.logits[said], answers.labels[said])


def pool_summary(pools: Sequence[Pool], sources: Sequence[Source], taught: dict[str, float]) -> dict[str, Any] | None:
    """Say what became of the pools: how many samples they held, how many taught, and who taught those; None without.

    Args:
        pools: With the counts of what was dropped when they were opened.
        sources: What taught; a pool that is not among them was left out whole.
        taught: How many times each tutor taught a pool sample.
    """
    if not pools:
        return None
    used = {id(source.split): source.size for source in sources}
    rows, dropped = [], Counter[str]()
    for pool in pools:
        left = used.get(id(pool.split), 0)
        unused = len(pool.split) - left
        reasons = {**pool.dropped, **({REASON if left else NO_SHARE: unused} if unused else {})}
        rows.append({"spec": pool.spec, "samples": pool.found, "used": left, "dropped": reasons})
        dropped.update(reasons)
    return {
        "sources": rows,
        "samples": sum(pool.found for pool in pools),
        "used": sum(row["used"] for row in rows),
        "dropped": dict(dropped),
        "taught": taught,
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


def one_or_list(values: Sequence[float | None]) -> float | list[float | None] | None:
    """Return the only value as it is, several as a list, none as None."""
    return values[0] if len(values) == 1 else list(values) or None


def samples_taught(names: Sequence[str], counts: Float[Tensor, " T"] | None) -> dict[str, float]:
    """Name who taught how many samples; whole counts as whole numbers, shares of samples to a hundredth.

    Args:
        names: Of those who teach.
        counts: What each has taught; None where nothing was taught.

    Example:
        >>> samples_taught(["frozen student", "dense", "label"], torch.tensor([10.0, 2.5, 0.0]))
        {'frozen student': 10, 'dense': 2.5, 'label': 0}
    """
    if counts is None:
        return {}
    rounded = [round(count, 2) for count in counts.tolist()]
    return {n: int(c) if c.is_integer() else c for n, c in zip(names, rounded, strict=True)}


def write_transfer(
    run: RunFolder,
    data: Splits,
    student: TrainableClassifier,
    found: TransferPredictions,
    summary: dict[str, Any],
    left_out: Sequence[LeftOut] = (),
) -> None:
    """Write the ledger, what is shown, and the student, then the summary: with it the run is whole."""
    before = found.before
    columns: dict[str, np.ndarray] = {"id": before.ids}
    if before.labels is not None:
        columns["label"] = before.labels.numpy()
    if before.group is not None:
        columns["group"] = before.group
    named = [("before", before), ("after", found.after), ("ungated", found.ungated)]
    named += [(f"teacher_{k}", teacher) for k, teacher in enumerate(found.teachers)]
    for name, answers in named:
        columns[f"pred_{name}"] = answers.preds.numpy()
        columns[f"confidence_{name}"] = answers.logits.softmax(1).amax(1).numpy()
    run.write_samples(columns)
    write_exhibits(run, data, found, left_out)
    folder = make_folder(run.path / "student")
    student.save(str(folder))
    write_bytes(folder / "README.md", README.format(code=student.loading_code()).encode())
    run.finish(summary)
