"""A sweep's page: what each method did to its students, against the controls, and where it depends on the pair."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import first_line
from . import sweep_figures as figures
from .figures import Drawing
from .page import Page
from .reading import Run, clean, damaged, require
from .sweep_cells import by_size, families, full_colour, heats
from .sweep_runs import RETURNED, SIDES, Matrix, Method, Runs
from .tables import Tables
from .words import counted, method_in_words, number, points, slug, sweep_command

SHOWN_METHODS = 6
"""Methods with figures, matrices and families of their own: those that gained most."""
SHOWN_ROWS, SHOWN_FAILURES = 600, 50
SUMMARISED = ("mean_delta", "median_delta", "worst_delta", "success_mean", "success_median", "success_worst", "harm")
MORE = ("significant_harm", "coverage", "significantly_up", "significantly_down")


def sweep_page(run: Run, tables: Tables) -> Page:
    """Turn a sweep's folder into its page."""
    summary, methods = checked(run)
    runs = Runs(run)
    if len(runs) != summary["done"] or {method.name for method in methods} != set(runs.columns["method"].tolist()):
        raise damaged(run.path / "results.parquet", "sweep.json counts other jobs, or other methods")
    teaching = [method for method in in_order(methods) if len(runs.taught(method.name))]
    leading = next(iter(teaching or in_order(methods)), None)
    shown = teaching[:SHOWN_METHODS]
    tried = ((method, runs.matrix(method.name, prefix)) for method in shown for prefix in SIDES)
    matrices = [(method, matrix) for method, matrix in tried if matrix is not None]
    full = full_colour(matrix for _, matrix in matrices)
    runs.write(tables)
    write_tables(summary, methods, tables)
    students = runs.by_student()
    whole, among = counted(summary["done"], "transfer"), counted(len(summary["models"]), "model")
    context = {
        "title": f"{whole} among {among} on {clean(summary['data'])}",
        "summary": summary,
        "sentence": sentence(summary, leading, leading is not None and verified(runs, leading)),
        "leading": leading,
        "methods": methods,
        "verdicts": verdicts(runs),
        "students": students[:SHOWN_ROWS],
        "students_left_out": max(0, len(students) - SHOWN_ROWS),
        "teaching": teaching,
        "shown": shown,
        "matrices": list(heats(runs, matrices, full)),
        "full": full,
        "seeds": len(runs.seeds),
        "gaps": [method for method in shown if has_gap(runs, method)],
        "banded": any(len(runs.taught(method.name)) > figures.NAMED for method in shown),
        "families": [found for method in shown if (found := families(runs, method))],
        "sizes": by_size(runs, shown),
        "failed": [(clean(f["job"]), clean(f["reason"])) for f in summary["failed"][:SHOWN_FAILURES]],
        "failed_left_out": max(0, len(summary["failed"]) - SHOWN_FAILURES),
        "asked": asked(summary, methods, runs),
        "plan": plan(run),
        "notes": [clean(note) for note in summary.get("notes") or []],
        "command": repeat(run, runs),
        "fingerprints": [
            (clean(model["spec"]), clean(model["fingerprint"]))
            for model in summary["models"]
            if model.get("fingerprint")
        ],
        "files": run.files,
    }
    return Page("sweep.html.jinja", context, list(drawn(runs, methods, leading, shown, matrices, full)))


def checked(run: Run) -> tuple[dict[str, Any], list[Method]]:
    """Return the summary and its methods, after a look at what the page cannot do without."""
    summary, path = run.summary, run.path / "sweep.json"
    require(summary, path, data=str, jobs=int, done=int, failed=list, models=list, methods=list)
    methods: list[Method] = []
    for entry in summary["methods"]:
        require(entry, path, method=str, base_method=str, control=bool, gated=dict, ungated=(dict, type(None)))
        for side in filter(None, (entry["gated"], entry["ungated"])):
            require(side, path, runs=int, **dict.fromkeys((*SUMMARISED, *MORE), (int, float)), claim=(dict, type(None)))
            if side["claim"]:
                bounds = dict.fromkeys(("low", "high"), (int, float, type(None)))
                require(side["claim"], path, control=str, estimate=(int, float), **bounds)
        name = clean(entry["method"])
        own = slug(name, [method.slug for method in methods])
        methods.append(Method(name, entry["base_method"], own, entry["control"], entry["gated"], entry["ungated"]))
    return summary, methods


def in_order(methods: Sequence[Method]) -> list[Method]:
    """Return the methods that gained most first, controls after them."""
    return sorted(methods, key=lambda method: (method.is_control, -method.gated["mean_delta"]))


def sentence(summary: dict[str, Any], method: Method | None, verified: bool) -> str:
    """Say in words what the sweep found.

    Args:
        summary: Content of `sweep.json`.
        method: The one to speak of; None where no job is whole.
        verified: Whether labels could confirm a run of this method.
    """
    failed, jobs = len(summary["failed"]), counted(summary["jobs"], "job")
    text = f"{failed:,} of {jobs} failed." if failed else f"No job of {summary['jobs']:,} failed."
    if method is None:
        return f"No job came to its end, so nothing is known. {text}"
    found, claim = method.gated, method.gated["claim"]
    verb = "lost" if found["mean_delta"] < 0 else "gained"
    harm = f"{percent(found['harm'])} of the runs" if found["harm"] else "no run"
    parts = [
        f"With {method.name}, {'a control, ' if method.is_control else ''}students {verb} "
        f"{number(abs(found['mean_delta']))} points on average (median {points(found['median_delta'])}, worst "
        f"{points(found['worst_delta'])}; {counted(found['runs'], 'run')}).",
        f"The mean student gained in {percent(found['success_mean'])} of its runs, the worst in "
        f"{percent(found['success_worst'])}; {harm} lost more than 0.1 points.",
        f"The gate accepted {percent(found['coverage'])}." if verified else "No label could confirm a run.",
    ]
    if claim:
        parts += [
            f"Against {clean(claim['control'])}, the best control that sees no more labels, that is "
            f"{points(claim['estimate'])} points{bounds(claim)}."
        ]
    elif not method.is_control:
        parts += ["There is no control that sees no more labels, so how much of it is transfer is not known."]
    return " ".join([*parts, text])


def bounds(claim: Mapping[str, Any]) -> str:
    """Write the interval of a claim, and whether chance could give as much; one pair of models has none."""
    if claim["low"] is None:
        return ", from one pair of models: no interval"
    sure = "" if claim["low"] > 0 or claim["high"] < 0 else ", which chance could give as well"
    return f" ({points(claim['low'])} to {points(claim['high'])}){sure}"


def percent(value: float) -> str:
    """Write a share in % with few digits, but never round a few to none or to all."""
    return f"{number(value, 0 if value in (0, 100) or 1 <= value <= 99 else 1)} %"


def verified(runs: Runs, method: Method) -> bool:
    """Tell whether labels could decide on a run of a method."""
    return set(runs.columns["verdict"][runs.of(method.name)].tolist()) != {"unverified"}


def verdicts(runs: Runs) -> list[str]:
    """Say what the gate could not decide, and what broke off."""
    found = runs.columns["verdict"].tolist()
    text = {
        "unverified": "no label confirmed it: nothing was gated, and it does not count as accepted",
        "diverged": "training broke off, and the original was returned",
    }
    return [f"{counted(found.count(v), 'run')} {v}: {why}." for v, why in text.items() if v in found]


def drawn(
    runs: Runs,
    methods: Sequence[Method],
    leading: Method | None,
    shown: Sequence[Method],
    matrices: Sequence[tuple[Method, Matrix]],
    full: float,
) -> Iterator[Drawing]:
    """Draw the methods side by side, then each of those that gained most."""
    if leading is None:
        return
    yield figures.distribution(runs, [method.name for method in methods])
    span = figures.reach(runs, [method.name for method in methods])
    for method in shown or [leading]:
        yield figures.students(f"students-{method.slug}", runs, method.name, method.control(RETURNED), span)
    ranges = [np.concatenate(part) for part in zip(*(figures.differences(runs, m.name) for m in shown), strict=True)]
    known = np.isfinite(ranges[0]) if shown else np.zeros(0, bool)
    for method in shown:
        mine = [matrix for other, matrix in matrices if other is method]
        yield figures.matrix(f"deltas-{method.slug}", runs, method.name, mine, full)
        if has_gap(runs, method):
            yield figures.gap(f"gap-{method.slug}", runs, method.name, [part[known] for part in ranges])
    if (runs.columns["student_params"][runs.of(leading.name)] > 0).any():
        yield figures.sizes(runs, leading.name)


def has_gap(runs: Runs, method: Method) -> bool:
    """Tell whether a method has a run with a teacher whose accuracy is known."""
    return bool(np.isfinite(figures.differences(runs, method.name)[0]).any())


def asked(summary: dict[str, Any], methods: Sequence[Method], runs: Runs) -> list[tuple[str, str]]:
    """List what was asked for."""
    teachers = {spec for spec in runs.columns["teacher"].tolist() if spec is not None}
    found = [("Data", clean(summary["data"])), ("Jobs", f"{summary['jobs']:,}")]
    found += [("Students", f"{len(runs.students):,}"), ("Teachers", f"{len(teachers):,}")]
    found += [("Seeds", ", ".join(map(str, runs.seeds)))] if runs.seeds else []
    for method in methods:
        words = method_in_words(method.base)
        found += [("Method", words if method.name == method.base else f"{method.name}: {words}")]
    seconds = summary.get("seconds")
    spent = f"{number(seconds / 60, 1)} minutes in all jobs together" if isinstance(seconds, int | float) else None
    return found + ([("Time", spent)] if spent else [])


def plan(run: Run) -> str | None:
    """Return the plan as it was given; None where it is not kept."""
    path = run.path / "plan.yaml"
    try:
        return clean(path.read_text(encoding="utf-8", errors="replace")) if path.is_file() else None
    except OSError as error:
        raise damaged(path, first_line(error)) from error


def repeat(run: Run, runs: Runs) -> str | None:
    """Return the command that repeats the sweep; None where the plan is not known."""
    if not (run.path / "plan.yaml").is_file():
        return None
    seed = runs.seeds[0] if len(runs.seeds) == 1 else None
    return clean(sweep_command(run.name, seed, device(run, runs)))


def device(run: Run, runs: Runs) -> str | None:
    """Return the device of the first job; None where its folder is not kept."""
    folder = run.path / "jobs"
    kept = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    first = next((job for job in runs.columns["job"].tolist() if job in kept), None)
    config = run.json(f"jobs/{first}/config.json") if first else None
    found = config.get("device") if isinstance(config, dict) else None
    return found if isinstance(found, str) else None


def write_tables(summary: dict[str, Any], methods: Sequence[Method], tables: Tables) -> None:
    """Write what `sweep.json` says of each method, and which jobs failed."""
    heads = ("runs", *SUMMARISED, *MORE)
    claim = ("control", "estimate", "low", "high")
    rows = []
    for method in methods:
        for side, found in zip(SIDES.values(), (method.gated, method.ungated), strict=True):
            if found:
                against = found["claim"] or {}
                own = [method.name, method.base, method.is_control, side]
                rows.append([*own, *(found[head] for head in heads), *(against.get(key) for key in claim)])
    named = ("method", "base_method", "is_control", "result", *heads, *(f"against_{key}" for key in claim))
    tables.write("methods", named, rows)
    tables.write("failed", ("job", "reason"), [(clean(f["job"]), clean(f["reason"])) for f in summary["failed"]])
