"""Scout folders as `crossteach scout` writes them, of any size, without a model."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

NASTY = (
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    "a & b \"quoted\" 'single'",
    "$x^2$",
    "{{ 7 * 7 }}",
    "bell\x07 and \x1b[31m",
    "naïve 日本語 🦊",
    "=1+1",
    "\\u003c, ; \\",
    "a" * 200,
)
SHARES = ("2", "5", "20", "50", "100")


def write(folder: Path, n_models: int = 4, n_classes: int = 10, n_test: int = 2000, nasty: bool = False) -> Path:
    """Draw which samples each model has right, and write what follows from it."""
    rng = np.random.default_rng(0)
    classes = [f"class number {i:04}" for i in range(n_classes)]
    if nasty:
        classes[: len(NASTY)] = NASTY[:n_classes]
    names = [NASTY[i] if nasty and i < 2 else f"model-{i:02}.a1_in1k" for i in range(n_models)]
    labels = rng.integers(n_classes, size=n_test)
    skill = np.linspace(0.6, 0.9, n_models)
    ease = rng.normal(size=n_test)
    right = np.stack([ease + rng.normal(size=n_test) < np.sqrt(2) * 2 * (s - 0.5) for s in skill])
    accuracy = 100 * right.mean(1)
    pairs, columns = [], {key: [] for key in ("student", "teacher", "class", "positive", "negative")}
    for s in range(n_models):
        for t in range(n_models):
            if s != t:
                positive = np.bincount(labels[right[t] & ~right[s]], minlength=n_classes)
                negative = np.bincount(labels[right[s] & ~right[t]], minlength=n_classes)
                found = np.flatnonzero(positive + negative)
                for key, part in zip(columns, (s, t, found, positive[found], negative[found]), strict=True):
                    columns[key].append(np.broadcast_to(part, len(found)).astype(np.int32))
                pairs.append(_pair(names, classes, accuracy, n_test, s, t, positive, negative))
    folder.mkdir(parents=True)
    table = pa.table({key: np.concatenate(parts) for key, parts in columns.items()})
    pq.write_table(table, folder / "classes.parquet")
    _write_pictures(folder, names, classes, pairs)
    models = [{"spec": f"py:zoo.py:m{i}", "fingerprint": f"{i:032x}"} for i in range(n_models)]
    config = {"command": "scout", "models": models, "data": {"spec": "npz:some data.npz", "fingerprint": "ab"}}
    config |= {"embeddings": {"source": "auto", "fingerprint": "minilm"}, "ensembles": True, "controls": True}
    (folder / "config.json").write_text(json.dumps(config))
    summary = {
        "data": "npz:some data.npz",
        "classes": classes,
        "n_test": n_test,
        "n_selection": n_test,
        "n_transfer": n_test,
        "models": [_model(i, names[i], float(accuracy[i])) for i in range(n_models)],
        "controls": [
            {"name": "random", "of": names[0], "accuracy": 1.0, "positive_flips": dict.fromkeys(names, 0.125)},
        ],
        "positive_flips": (100 * (~right).astype(float) @ right.T.astype(float) / n_test).tolist(),
        "pairs": pairs,
        "ceilings": {"mean_probability": 93.0, "most_confident": None, "oracle": 100 * float(right.any(0).mean())},
        "ranking": [_ranked(s, names, pairs) for s in names],
        "semantics": {"source": "MiniLM", "missing": "", "wordnet_missing": "no ids <here>"},
        "notes": ["partitions are tried on <some> samples"],
        "seconds": 3.2,
    }
    (folder / "scout.json").write_text(json.dumps(summary, ensure_ascii=False, indent=1))
    return folder


def write_old(folder: Path) -> Path:
    """A folder of the first version: no classes, no pictures, few keys."""
    write(folder)
    (folder / "classes.parquet").unlink()
    (folder / "pictures.json").unlink()
    summary = json.loads((folder / "scout.json").read_text())
    kept = {key: summary[key] for key in ("data", "n_test", "models", "positive_flips", "pairs", "ceilings", "notes")}
    model_keys = ("name", "spec", "accuracy", "ece", "params", "family", "fingerprint")
    kept["models"] = [{key: model[key] for key in model_keys} for model in kept["models"]]
    pair_keys = ("student", "teacher", "positive_flips", "entropy", "uniform_entropy", "expertise", "ceilings")
    kept["pairs"] = [{key: pair[key] for key in pair_keys} for pair in kept["pairs"]]
    (folder / "scout.json").write_text(json.dumps(kept))
    return folder


def _model(i: int, name: str, accuracy: float) -> dict[str, Any]:
    return {
        "name": name,
        "spec": f"py:zoo.py:m{i}",
        "accuracy": accuracy,
        "accuracy_top5": None if i == 0 else 98.5,
        "ece": 0.0312,
        "ece_calibrated": 0.011,
        "temperature": 1.2,
        "params": 1000 * (7 * i % 5 + 1),
        "family": ("convolutional", "transformer", "mlp")[i % 3],
        "images_per_second": 512.5,
        "fingerprint": f"{i:032x}",
    }


def _pair(
    names: list[str],
    classes: list[str],
    accuracy: np.ndarray,
    n_test: int,
    s: int,
    t: int,
    positive: np.ndarray,
    negative: np.ndarray,
) -> dict[str, Any]:
    order = np.argsort(-positive, kind="stable")
    held = 100 * positive[order].cumsum() / max(positive.sum(), 1)
    sizes = {share: int((held < float(share) - 1e-9).sum()) + 1 for share in SHARES}
    shares = positive[positive > 0] / max(positive.sum(), 1)
    difference = float(accuracy[t] - accuracy[s])
    return {
        "student": names[s],
        "teacher": names[t],
        "positive_flips": int(positive.sum()),
        "negative_flips": int(negative.sum()),
        "positive_flips_percent": 100 * float(positive.sum()) / n_test,
        "negative_flips_percent": 100 * float(negative.sum()) / n_test,
        "accuracy_difference": difference,
        "entropy": float(-(shares * np.log(shares)).sum()),
        "uniform_entropy": float(np.log(len(classes))),
        "expertise": {share: [classes[c] for c in order[:size]] for share, size in sizes.items()},
        "expertise_share": {share: float(held[size - 1]) for share, size in sizes.items()},
        "similarity": {share: {"relative": 1.25, "p_value": 0.031} for share in SHARES},
        "wordnet": None,
        "disagreement": 20.5,
        "disagreements": [
            {
                "student_says": classes[i % len(classes)],
                "teacher_says": classes[(i + 1) % len(classes)],
                "count": 20 - i,
                "student_right": 3,
                "teacher_right": 8,
            }
            for i in range(10)
        ],
        "ceilings": {"mean_probability": 90.5, "most_confident": 90.25, "oracle": 95.0},
        "partition": {
            "supervised": {"teacher_share": 55.0, "target_accuracy": 95.0},
            "unsupervised": {"teacher_share": 51.0, "wrong_choice": 12.5, "target_accuracy": 91.0},
            "calibrated": None,
        },
        "predicted_gain": difference / 2 + 1,
    }


def _ranked(student: str, names: list[str], pairs: list[dict[str, Any]]) -> dict[str, Any]:
    gains = {pair["teacher"]: pair["predicted_gain"] for pair in pairs if pair["student"] == student}
    teachers = [
        {
            "teacher": teacher,
            "predicted_gain": gain,
            "adds": 3.5 - i / 10,
            "redundant": i > 1,
            "reason": f"right on 9.37% that the student has wrong; {teacher} <first>",
        }
        for i, (teacher, gain) in enumerate(sorted(gains.items(), key=lambda item: -item[1]))
    ]
    return {"student": student, "teachers": teachers}


def _write_pictures(folder: Path, names: list[str], classes: list[str], pairs: list[dict[str, Any]]) -> None:
    (folder / "pictures").mkdir()
    entries = []
    for number, pair in enumerate(pairs[:20]):
        samples = []
        for i in range(12):
            row = 12 * number + i
            file = f"pictures/test-{row}.{'png' if number % 2 else 'jpg'}"
            side = 32 if number % 2 else 96
            noise = np.random.default_rng(row).integers(256, size=(side, side, 3), dtype=np.uint8)
            Image.fromarray(noise).save(folder / file)
            sample = {"file": file, "sample": row, "label": classes[i % len(classes)]}
            sample |= {"student_says": classes[0], "student_confidence": 0.5}
            sample |= {"teacher_says": classes[i % len(classes)], "teacher_confidence": 0.875}
            samples.append(sample)
        entries.append({"student": pair["student"], "teacher": pair["teacher"], "samples": samples})
    (folder / "pictures.json").write_text(json.dumps(entries))
