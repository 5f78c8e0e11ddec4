"""The page of a transfer: what was asked, what came out, and the evidence for it."""

from typing import Any

import numpy as np

from ..settings import changed
from . import transfer_figures as figures
from .classes import class_rows
from .figures import Drawing
from .page import Page
from .reading import Run, clean, damaged, require
from .tables import Tables
from .words import (
    MARKS,
    NUMBER,
    VERDICTS,
    counted,
    interval,
    listing,
    method_in_words,
    number,
    p_value,
    points,
    spell,
    transfer_command,
)

MEASURES = (
    ("accuracy", "Accuracy, %"),
    ("balanced_accuracy", "Balanced accuracy, %"),
    ("transfer_delta", "Change, points"),
    ("interval", "95% interval"),
    ("p_value", "p-value"),
    ("knowledge_gain", "Newly right, %"),
    ("knowledge_loss", "Newly wrong, %"),
    ("retained", "Kept of what it knew, %"),
    ("transfer_rate", "Transfer rate, %"),
)
LESSONS = {
    "sequential": "One teacher after the other; a lesson that did not help was dropped.",
    "soup": "Each teacher taught the original; the students that were taken were averaged.",
}
PICTURES_BYTES = 600_000
"""Of the page that pictures may take."""


def transfer_page(run: Run, tables: Tables) -> Page:
    """Turn a transfer's folder into its page."""
    summary = checked(run)
    kept = summary["gate"]["verdict"] in ("kept_original", "diverged")
    epochs = run.lines("metrics.jsonl")
    bins = reliability(run, tables)
    rows, classes_note = class_rows(run, tables, kept)
    drawings = [figures.deltas(summary)] if summary["labelled"] else []
    drawings += [*gate_drawing(summary, run, tables), *curve_drawing(epochs, tables)]
    drawings += [figures.reliability(bins, summary.get("calibration", {}))] if bins else []
    drawings += [figures.classes(rows, kept)] if any(row["gained"] or row["lost"] for row in rows) else []
    context = {
        "title": f"{summary['student']}: transfer",
        "summary": summary,
        "headline": headline(summary),
        "sentence": sentence(summary, kept),
        "verdict": VERDICTS.get(summary["gate"]["verdict"], summary["gate"]["verdict"]),
        "mark": MARKS.get(summary["gate"]["verdict"], ""),
        "kept": kept,
        "asked": asked(summary, run.config),
        "measures": measures(summary, tables),
        "teachers": teachers(summary),
        "areas": summary.get("transfer_rate_by_area") or {},
        "lessons": lessons(summary, tables),
        "lessons_told": LESSONS.get(run.config.get("config", {}).get("curriculum", {}).get("order", ""), ""),
        "gate_reason": gate_reason(summary, run.config),
        "taught": taught(summary.get("training", {}).get("taught"), tables, "taught"),
        "promised": promised(summary, tables),
        "pool": pool(summary, tables),
        "epochs": epochs,
        "bins": bins,
        "classes": rows,
        "classes_note": classes_note,
        "pictures": pictures(run),
        "command": repeat(run),
        "fingerprints": fingerprints(summary),
        "files": run.files,
    }
    return Page("transfer.html.jinja", context, drawings)


def checked(run: Run) -> dict[str, Any]:
    """Return the summary, after checking that what the page needs is there; `labelled` says whether test has labels."""
    summary, path = run.summary, run.path / "summary.json"
    require(summary, path, student=str, teachers=list, method=str, n_test=int, gate=dict, ungated=dict)
    require(summary["gate"], path, verdict=str)
    summary["student"], summary["teachers"] = clean(summary["student"]), [clean(name) for name in summary["teachers"]]
    summary["labelled"] = summary.get("accuracy_before", 0) is not None
    if not summary["labelled"]:
        require(summary, path, changed=NUMBER)
        require(summary["ungated"], path, changed=NUMBER)
        return summary
    for key in ("accuracy_before", "accuracy_after", "transfer_delta", "knowledge_gain", "knowledge_loss", "p_value"):
        require(summary, path, **{key: NUMBER})
    for document in (summary, summary["ungated"]):
        require(document, path, interval=list, transfer_delta=NUMBER)
        bounds = document["interval"]
        if len(bounds) != 2 or not all(isinstance(bound, NUMBER) for bound in bounds):
            raise damaged(path, f"its 'interval' is {str(bounds)[:40]!r}")
    return summary


def headline(summary: dict[str, Any]) -> str:
    """Say who learnt from whom."""
    student, names = summary["student"], summary["teachers"]
    if summary["gate"]["verdict"] in ("kept_original", "diverged"):
        return f"{student} stays as it was" + (f"; it was taught by {listing(names)}" if names else "")
    return f"{student} learnt from {listing(names)}" if names else f"{student} went on training without a teacher"


def sentence(summary: dict[str, Any], kept: bool) -> str:
    """Say the result in words."""
    verdict = VERDICTS.get(summary["gate"]["verdict"], summary["gate"]["verdict"])
    ungated = summary["ungated"]
    if not summary["labelled"]:
        return (
            f"No test sample has a label. {number(summary['changed'])} % of {summary['n_test']:,} answers are others "
            f"than before; {verdict}."
        )
    if kept:
        return (
            f"{number(summary['accuracy_before'])} % before and after. At the end of training it stood at "
            f"{points(ungated['transfer_delta'])} points (95% interval {interval(ungated['interval'])}); {verdict}."
        )
    alpha = summary["gate"].get("alpha")
    way = f", {alpha:g} of the way from the old weights to the new" if isinstance(alpha, NUMBER) and alpha < 1 else ""
    return (
        f"{number(summary['accuracy_before'])} → {number(summary['accuracy_after'])} %, "
        f"{points(summary['transfer_delta'])} points (95% interval {interval(summary['interval'])}), {verdict}{way}."
    )


def asked(summary: dict[str, Any], config: dict[str, Any]) -> list[tuple[str, str]]:
    """List what was asked for."""
    settings = config.get("config", {})
    found = [("Student", config.get("student", {}).get("spec", summary["student"]))]
    found += [("Teacher", teacher["spec"]) for teacher in config.get("teachers", [])]
    if "data" in config:
        spec = config["data"]["spec"] or "none beside the pool"
        found += [("Data", f"{spec} ({summary['n_test']:,} test samples)")]
    found += [("Pool", spec) for spec in config.get("pools", [])]
    found += [("Method", method_in_words(summary["method"]))]
    training = summary.get("training", {})
    found += [("Epochs", str(training["epochs"]))] if "epochs" in training else []
    if "lr" in training:
        how = " (given)" if settings.get("optim", {}).get("lr") is not None else " (found by a probe)"
        rates = [f"{training['lr']:g}"]
        rates += [f"{training['table_lr']:g} of embedding tables"] if training.get("table_lr") else []
        found += [("Learning rate", f"{', '.join(rates)}{how if settings else ''}")]
    found += [("Seed", str(settings["seed"]))] if "seed" in settings else []
    found += [("Device", config["device"])] if "device" in config else []
    differing = changed(settings) if settings else {}
    others = [f"{key}={spell(value)}" for key, value in differing.items() if key not in ("method", "seed")]
    found += [("Other settings", ", ".join(others) or "defaults")] if settings else []
    return [(name, clean(value)) for name, value in found]


def measures(summary: dict[str, Any], tables: Tables) -> list[tuple[str, ...]]:
    """Put the returned student beside the end of training."""
    ungated = summary["ungated"]
    ends = {"accuracy": summary["accuracy_after"], "balanced_accuracy": summary.get("balanced_accuracy_after")}
    returned = {**summary, **ends}
    write = {"interval": interval, "p_value": p_value, "transfer_delta": points}
    rows, raw = [], []
    for key, name in MEASURES:
        shown = [write.get(key, number)(side.get(key)) for side in (returned, ungated)]
        rows.append((name, *shown))
        raw.append((key, *(side.get(key) for side in (returned, ungated))))
    tables.write("measures", ("measure", "returned", "end_of_training"), raw)
    return rows


def teachers(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """Put each teacher beside the student."""

    def each(key: str) -> list[Any]:
        value = summary.get(key)
        values = value if isinstance(value, list) else [value]
        return [*values, *[None] * len(summary["teachers"])][: len(summary["teachers"])]

    columns = [each(key) for key in ("teacher_accuracy", "positive_flips", "negative_flips")]
    return [
        {"name": name, "accuracy": accuracy, "positive": positive, "negative": negative}
        for name, accuracy, positive, negative in zip(summary["teachers"], *columns, strict=True)
    ]


def lessons(summary: dict[str, Any], tables: Tables) -> list[dict[str, Any]]:
    """List what each of several teachers contributed, where they taught one by one."""
    rows = summary.get("lessons") or []
    if rows:
        tables.write("lessons", list(rows[0]), [list(row.values()) for row in rows])
    return [
        {**row, "teacher": clean(row["teacher"]), "text": VERDICTS.get(row["verdict"], row["verdict"])} for row in rows
    ]


def gate_drawing(summary: dict[str, Any], run: Run, tables: Tables) -> list[Drawing]:
    """Draw the path from the old weights to the new, where the gate has tested it."""
    steps = [step for step in summary["gate"].get("path") or [] if isinstance(step.get("delta"), dict)]
    summary["gate"]["path"] = steps
    if not steps:
        return []
    columns = ("alpha", "gate_delta", "gate_low", "gate_high")
    tables.write("gate", columns, [(s["alpha"], *s["delta"].values()) for s in steps])
    max_loss = run.config.get("config", {}).get("gate", {}).get("max_loss")
    return [figures.gate(steps, summary["gate"], max_loss)]


def gate_reason(summary: dict[str, Any], config: dict[str, Any]) -> str:
    """Say why the gate decided as it did."""
    gate, settings = summary["gate"], config.get("config", {}).get("gate", {})
    loss = f"{settings['max_loss']:g} points" if "max_loss" in settings else "the loss it may risk"
    rule = (
        "Between the old weights (α = 0) and the new (α = 1), points are tested on held samples, which have trained "
        "and tuned nothing. A point passes with an estimate above zero and a lower bound that excludes a loss of more "
        f"than {loss}; the bounds hold for all points at once. Of those that pass, the best is taken."
    )
    seen = gate.get("selection_seen")
    doubt = " The selection split was cut from train, which the models may have memorised." if seen else ""
    reasons = {
        "accepted": f"That is α = {number(gate.get('alpha'), 2)}, at {points(gate.get('selection_delta'))} points.",
        "kept_original": "None passed, so the original weights came back, bit for bit.",
        "unverified": (
            f"There were no labels to decide with, so nothing was gated. {gate.get('evidence') or ''}"
            if gate.get("selection_delta") is None
            else "The held samples speak for the new weights, but too few groups of them say little about others: the "
            "original weights came back. Labels of other groups would tell."
            if gate.get("alpha") == 0
            else f"The gate was not asked; the end of training stands at {points(gate['selection_delta'])} points here."
        ),
        "diverged": f"{summary.get('training', {}).get('diverged', '')}; the original weights came back.",
    }
    decided = gate.get("groups")
    by_groups = f" {counted(decided, 'group')} of samples decided; few groups say little of others." if decided else ""
    return clean(" ".join([rule, reasons.get(gate["verdict"], "")]) + by_groups + doubt)


def curve_drawing(epochs: list[dict[str, Any]], tables: Tables) -> list[Drawing]:
    """Draw the loss, and what the divergence stop measured, over the epochs."""
    if not epochs:
        return []
    columns = list(dict.fromkeys(key for record in epochs for key in record))
    tables.write("epochs", columns, [[record.get(key) for key in columns] for record in epochs])
    drawable = [e for e in epochs if isinstance(e.get("epoch"), int) and isinstance(e.get("loss"), NUMBER)]
    return [figures.curve(drawable)] if drawable else []


def pool(summary: dict[str, Any], tables: Tables) -> dict[str, Any] | None:
    """Say what became of the pools: their sizes, what was left out and why, who taught; None where there was none."""
    found = summary.get("pool")
    if not isinstance(found, dict):
        return None
    sources = [{**source, "spec": clean(source["spec"])} for source in found.get("sources", [])]
    dropped = [(clean(reason), count) for reason, count in (found.get("dropped") or {}).items()]
    tables.write("pool_dropped", ("reason", "images"), dropped)
    return {
        **found,
        "sources": sources,
        "dropped": dropped,
        "taught": taught(found.get("taught"), tables, "pool_taught"),
    }


def taught(given: dict[str, float] | None, tables: Tables, name: str) -> list[dict[str, Any]]:
    """List which share of the samples each tutor taught."""
    counts = {clean(k): v for k, v in (given or {}).items()}
    total = sum(counts.values())
    rows = [{"name": name, "count": n, "share": 100 * n / total} for name, n in counts.items() if total]
    rows = [row for row in rows if row["count"] or row["name"] != "label"]
    tables.write(name, ("tutor", "samples", "percent"), [tuple(row.values()) for row in rows])
    return rows


def promised(summary: dict[str, Any], tables: Tables) -> list[dict[str, Any]]:
    """List how many targets of each rule are right on labelled samples, the best first; empty where none is known."""
    found = summary.get("promise")
    rules = found.get("rules") if isinstance(found, dict) else None
    given = rules if isinstance(rules, dict) else {}
    told = {clean(name): rule.get("accuracy") for name, rule in given.items() if isinstance(rule, dict)}
    known = {name: accuracy for name, accuracy in told.items() if isinstance(accuracy, NUMBER)}
    rows = [{"name": name, "accuracy": known[name]} for name in sorted(known, key=lambda name: -known[name])]
    tables.write("promised", ("rule", "accuracy"), [tuple(row.values()) for row in rows])
    return rows


def reliability(run: Run, tables: Tables, bins: int = 15) -> list[dict[str, Any]]:
    """Bin the test samples by confidence, before and after; empty where the ledger is missing."""
    names = ("before", "after", "ungated")
    if not run.summary.get("labelled", True):
        return []
    needed = ("label", *(f"{what}_{name}" for name in names for what in ("pred", "confidence")))
    columns = run.columns("samples.parquet", needed)
    if columns is None:
        return []
    found: list[dict[str, Any]] = []
    for name in names:
        confidence = columns[f"confidence_{name}"].astype(float)
        right = columns[f"pred_{name}"] == columns["label"]
        index = np.clip(np.ceil(confidence * bins).astype(int), 1, bins) - 1  # bins are (low, high]
        counts = np.bincount(index, minlength=bins)
        sums, hits = (np.bincount(index, weights=w, minlength=bins) for w in (confidence, right))
        found += [
            {
                "student": name,
                "low": b / bins,
                "high": (b + 1) / bins,
                "samples": int(counts[b]),
                "confidence": float(sums[b] / counts[b]),
                "accuracy": float(hits[b] / counts[b]),
            }
            for b in range(bins)
            if counts[b]
        ]
    tables.write("reliability", list(found[0]) if found else ["student"], [tuple(row.values()) for row in found])
    return found


def pictures(run: Run) -> dict[str, Any] | None:
    """Embed the samples that were gained and lost; None where the folder has none."""
    found = run.json("pictures.json")
    if not isinstance(found, dict):
        return None
    shown: dict[str, Any] = {"of": found.get("of", "returned"), "left_out": 0}
    left = PICTURES_BYTES
    for name in ("gained", "lost", "changed", "left_out_of_pool"):
        shown[name] = []
        for entry in found.get(name.removesuffix("_of_pool"), []):
            uri = run.picture(str(entry.get("file", "")))
            if uri is None or len(uri) > left:
                shown["left_out"] += 1
                continue
            left -= len(uri)
            shown[name].append({**{k: clean(v) if isinstance(v, str) else v for k, v in entry.items()}, "uri": uri})
    return shown


def repeat(run: Run) -> str | None:
    """Return the command that repeats the run; None where the configuration is not known."""
    known = all(key in run.config for key in ("student", "teachers", "data"))
    return clean(transfer_command(run.config, f"{run.name}-again")) if known else None


def fingerprints(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """List what each model and the data were, exactly."""
    found = summary.get("fingerprints", {})
    rows = [(summary["student"], found.get("student"))]
    rows += zip(summary["teachers"], found.get("teachers", []), strict=False)
    return [(name, clean(value)) for name, value in [*rows, ("data", found.get("data"))] if value]
