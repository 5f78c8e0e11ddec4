"""The page of a scout: what each model knows that the others do not, and which teacher to try first."""

from pathlib import Path
from typing import Any

from . import scout_figures as figures
from .page import Page
from .pairs import Pairs
from .reading import Run, clean, damaged, require
from .tables import Tables
from .words import NUMBER, number, scout_command

MODEL_COLUMNS = (
    ("accuracy", "Accuracy, %", 2),
    ("balanced_accuracy", "Balanced, %", 2),
    ("accuracy_top5", "Top 5, %", 2),
    ("ece", "ECE", 4),
    ("ece_calibrated", "ECE, calibrated", 4),
    ("temperature", "Temperature", 2),
    ("params", "Parameters", 0),
    ("family", "Family", None),
    ("images_per_second", "Images/s", 0),
)
CEILINGS = (
    ("mean_probability", "Mean probability"),
    ("most_confident", "Most confident"),
    ("oracle", "Any of them right"),
)
SHOWN_PAIRS = 1000
"""Pairs that a page shows; 32 models have 992."""
SHOWN_TEACHERS, SPOKEN = 8, 6
"""Of a student's ranking."""


def scout_page(run: Run, tables: Tables) -> Page:
    """Turn a scout's folder into its page."""
    summary = checked(run)
    pairs = Pairs(run, summary)
    by_answers = unlabelled_rows(summary)
    write_tables(summary, pairs, by_answers, tables)
    chosen = pairs.first()
    matrix = summary["positive_flips"]
    drawings = [figures.flips(summary)] if matrix else []
    drawings += [figures.knowledge(pairs, pairs.shown(SHOWN_PAIRS))] if pairs.all else []
    drawings += [figures.histogram(pairs, chosen)] if chosen and pairs.histogram(chosen) else []
    context = {
        "title": f"{len(summary['models'])} models on {clean(summary['data'])}",
        "summary": summary,
        "sections": sections(summary),
        "sentence": sentence(summary),
        "models": summary["models"],
        "columns": columns(summary["models"]),
        "matrix": heat(matrix) if matrix else None,
        "unlabelled": unlabelled(summary, by_answers),
        "ceilings": [(name, summary["ceilings"].get(key)) for key, name in CEILINGS],
        "controls": controls(summary),
        "pairs": [pair_row(pair) for pair in pairs.shown(SHOWN_PAIRS)],
        "pairs_left_out": max(0, len(pairs.all) - SHOWN_PAIRS),
        "chosen": chosen,
        "embedded": pairs.embedded(SHOWN_PAIRS) if chosen else None,
        "ranking": summary.get("ranking"),
        "shown_teachers": SHOWN_TEACHERS,
        "semantics": summary.get("semantics") or {},
        "notes": [clean(note) for note in summary.get("notes") or []],
        "command": repeat(run),
        "fingerprints": [(m["name"], clean(m["fingerprint"])) for m in summary["models"] if m.get("fingerprint")]
        + [("data", clean(run.config["data"]["fingerprint"]))] * ("fingerprint" in run.config.get("data", {})),
        "files": run.files,
    }
    return Page("scout.html.jinja", context, drawings)


def checked(run: Run) -> dict[str, Any]:
    """Return the summary, after checking that what the page needs is there."""
    summary, path = run.summary, run.path / "scout.json"
    absent = type(None)
    require(summary, path, data=str, models=list, positive_flips=(list, absent), ceilings=dict)
    summary["data"] = clean(summary["data"])
    for model in summary["models"]:
        require(model, path, name=str, accuracy=NUMBER if summary["positive_flips"] else (*NUMBER, absent))
        model["name"] = clean(model["name"])
    names = [model["name"] for model in summary["models"]]
    if len(names) < 2 or len(set(names)) < len(names):
        raise damaged(path, f"its models are {', '.join(names)}; expected two or more of different names")
    require({"pool": None, **summary}, path, pool=(dict, absent))
    if summary.get("pool") is not None:
        _require_pool(summary["pool"], len(names), path)
    if summary["positive_flips"] is not None:
        _require_square(summary["positive_flips"], len(names), path, "positive_flips")
    return summary


def _require_pool(pool: dict[str, Any], count: int, path: Path) -> None:
    """Raise RunFolderError unless what is said of samples without labels is all that the page needs."""
    require(pool, path, pools=list, by=str, ranking=list, questions=int)
    for each in pool["pools"]:
        require({"pools": each}, path, pools=dict)
        require(each, path, pool=str, asked=int)
    for key in ("disagreement", "expected_gain"):
        _require_square(pool.get(key), count, path, key)
    if not _numbers(pool.get("expected_accuracy"), count):
        raise damaged(path, f"its 'expected_accuracy' are not {count} numbers")
    require({"labelled": None, **pool}, path, labelled=(dict, type(None)))
    if pool.get("labelled") is not None:
        require(pool["labelled"], path, answered=int)
        for key in ("gain", "error"):
            _require_square(pool["labelled"].get(key), count, path, key)


def _numbers(values: Any, count: int) -> bool:
    return isinstance(values, list) and len(values) == count and all(isinstance(v, NUMBER) for v in values)


def _require_square(rows: Any, count: int, path: Path, key: str) -> None:
    """Raise RunFolderError unless a matrix has a row and a column for each model."""
    if not isinstance(rows, list) or len(rows) != count or not all(_numbers(row, count) for row in rows):
        raise damaged(path, f"its {key!r} are not {count} rows of {count} numbers")


def sections(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """List the sections that the page has."""
    measured, compared = summary["positive_flips"] is not None, summary.get("pool") is not None
    listed = [
        ("models", "Models", True),
        ("flips", "Who knows more", measured),
        ("pair", "A pair in detail", measured),
        ("unlabelled", "Without labels", compared),
        ("ranking", "Who teaches whom", True),
        ("pairs", "All pairs", measured),
        ("repeat", "Repeat it", True),
    ]
    return [(id_, name) for id_, name, there in listed if there]


def sentence(summary: dict[str, Any]) -> str:
    """Say the result in words."""
    models = summary["models"]
    if summary["positive_flips"] is None:
        return "No test sample has a label: the models are compared by their answers alone."
    best = max(models, key=lambda model: model["accuracy"])
    text = [f"{best['name']} is the best alone, with {number(best['accuracy'])} %."]
    oracle = summary["ceilings"].get("oracle")
    if isinstance(oracle, NUMBER):
        text.append(
            f"On {number(oracle)} % of the samples at least one model is right: "
            f"{number(oracle - best['accuracy'])} points that {best['name']} lacks."
        )
    ranked = [row for row in summary.get("ranking") or [] if row["teachers"]]
    if 0 < len(ranked) <= SPOKEN:
        text.append(
            "To ask first: " + ", ".join(f"{r['teachers'][0]['teacher']} for {r['student']}" for r in ranked) + "."
        )
    return " ".join(text)


def unlabelled(summary: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return what the page shows of samples without labels; the rows are those of `unlabelled_rows`."""
    pool = summary.get("pool")
    if pool is None:
        return None
    said = pool.get("labelled")
    return {
        "pools": [clean(each["pool"]) for each in pool["pools"]],
        "asked": sum(each["asked"] for each in pool["pools"]),
        "judge": pool["by"] == "judge",
        "matrix": heat(pool["disagreement"]),
        "accuracy": pool["expected_accuracy"],
        "labelled": {key: said.get(key) for key in ("answered", "neither", "skipped")} if said else None,
        "rows": rows[:SHOWN_PAIRS],
        "left_out": max(0, len(rows) - SHOWN_PAIRS),
        "questions": pool["questions"],
    }


def unlabelled_rows(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """List every student with its teachers, the most promising first, by answers alone and by a person's labels."""
    pool, names = summary.get("pool"), [model["name"] for model in summary["models"]]
    if pool is None:
        return []
    labelled = pool.get("labelled") or {}
    rows = []
    for s, student in enumerate(names):
        for t in sorted((t for t in range(len(names)) if t != s), key=lambda t, s=s: -pool["expected_gain"][s][t]):
            row = {"student": student, "teacher": names[t], "expected": pool["expected_gain"][s][t]}
            rows.append(row | {key: labelled[key][s][t] if key in labelled else None for key in ("gain", "error")})
    return rows


def columns(models: list[dict[str, Any]]) -> list[tuple[str, str, int | None]]:
    """Return the columns that at least one model fills."""
    return [column for column in MODEL_COLUMNS if any(model.get(column[0]) is not None for model in models)]


def heat(matrix: list[list[float]]) -> list[list[tuple[float, str]]]:
    """Return, for each student, a value and a shade in [0, 0.6] for each teacher."""
    largest = figures.largest(matrix)
    return [[(cell, f"{0.6 * cell / largest:.2f}") for cell in row] for row in matrix]


def controls(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the control rows, a cell for each student."""
    names = [model["name"] for model in summary["models"]]
    return [
        {
            "name": clean(control["name"]),
            "of": clean(control.get("of", "")),
            "accuracy": control.get("accuracy"),
            "flips": [control.get("positive_flips", {}).get(name) for name in names],
        }
        for control in summary.get("controls") or []
    ]


def pair_row(pair: dict[str, Any]) -> dict[str, Any]:
    """Return what the table of pairs shows."""
    uniform, entropy = pair.get("uniform_entropy"), pair.get("entropy")
    even = 100 * entropy / uniform if isinstance(entropy, NUMBER) and uniform else None
    keys = (
        "student",
        "teacher",
        "key",
        "accuracy_difference",
        "positive",
        "negative",
        "predicted_gain",
        "disagreement",
    )
    return {**{key: pair.get(key) for key in keys}, "evenness": even, "ceilings": pair.get("ceilings") or {}}


def repeat(run: Run) -> str | None:
    """Return the command that repeats the scout; None where the configuration is not known."""
    known = all(key in run.config for key in ("models", "data"))
    return clean(scout_command(run.config, f"{run.name}-again")) if known else None


def write_tables(summary: dict[str, Any], pairs: Pairs, by_answers: list[dict[str, Any]], tables: Tables) -> None:
    """Write all data that the page shows a part of."""
    names = [model["name"] for model in summary["models"]]
    keys = ["name", "spec", *(key for key, *_ in MODEL_COLUMNS), "fingerprint"]
    tables.write("models", keys, [[model.get(key) for key in keys] for model in summary["models"]])
    if summary["positive_flips"] is not None:
        rows = [[name, *row] for name, row in zip(names, summary["positive_flips"], strict=True)]
        tables.write("positive_flips", ["student", *names], rows)
    if summary.get("pool") is not None:
        heads = ["student", "teacher", "expected", "gain", "error"]
        tables.write("unlabelled", heads, [[row[head] for head in heads] for row in by_answers])
        rows = [[name, *row] for name, row in zip(names, summary["pool"]["disagreement"], strict=True)]
        tables.write("disagreement", ["model", *names], rows)
    flat = [flatten(pair) for pair in pairs.all]
    heads = list(dict.fromkeys(key for row in flat for key in row)) or ["student", "teacher"]
    tables.write("pairs", heads, [[row.get(head) for head in heads] for row in flat])
    tables.write("expertise", ("student", "teacher", "share", "held", "count", "classes"), pairs.areas())
    tables.write("disagreements", pairs.DISAGREEMENT, pairs.disagreements())
    if summary.get("controls"):
        rows = [[c["name"], c["of"], c["accuracy"], *c["flips"]] for c in controls(summary)]
        tables.write("controls", ["control", "of", "accuracy", *names], rows)
    if summary.get("ranking"):
        keys = ["teacher", "predicted_gain", "adds", "redundant", "reason"]
        ranked = [[s["student"], *(t.get(k) for k in keys)] for s in summary["ranking"] for t in s["teachers"]]
        tables.write("ranking", ["student", *keys], ranked)
    if pairs.has_counts:
        tables.write("flips_by_class", ["student", "teacher", *pairs.classes], pairs.by_class())


def flatten(pair: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Bring a pair's numbers into one row; lists of classes stand in tables of their own."""
    row: dict[str, Any] = {}
    for key, value in pair.items():
        if key in ("expertise", "disagreements", "index", "key", "positive", "negative"):
            continue
        if isinstance(value, dict):
            row |= flatten(value, f"{prefix}{key}.")
        elif not isinstance(value, list):
            row[prefix + key] = value
    return row
