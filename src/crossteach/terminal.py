r"""What people see of a command: tables, progress, one JSON document. No other module imports rich.

A console may not know every character of a name. Such a character is shown escaped, as in `gr\xf6\xdfe`.
"""

import contextlib
import io
import json
import shlex
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from pathlib import Path

    from rich.table import Table

    from .types import Progress

ABSENT = "-"
"""Stands in a cell that has no number."""


def escape_unknown_characters() -> None:
    """Let standard output and standard error escape what they cannot encode; else such a name ends the command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def say(what: Any, highlight: bool = True, style: str | None = None) -> None:
    """Print a text or a table on standard output."""
    from rich.console import Console

    what = _shown(what) if isinstance(what, str) else what
    Console(width=None if sys.stdout.isatty() else 132, markup=False).print(what, highlight=highlight, style=style)


def print_json(document: Any) -> None:
    """Print one JSON document on standard output, in UTF-8 whatever the console speaks."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    sys.stdout.write(json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def _shown(text: str, stream: TextIO | None = None) -> str:
    """Return a text as a console shows it: a table is then laid out by the characters that will stand in it."""
    encoding = (stream or sys.stdout).encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _add_row(table: "Table", *cells: str) -> None:
    table.add_row(*map(_shown, cells))


@contextlib.contextmanager
def progress(quiet: bool, period: float = 30) -> Iterator["Progress"]:
    """Show bars with rate and time left on standard error; nothing when it is no terminal or quiet is asked.

    The rate is that of the last `period` seconds.
    """
    if quiet or not sys.stderr.isatty():
        yield lambda what, done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class RateColumn(ProgressColumn):
        """Units a second, once there is a speed."""

        def render(self, task: Task) -> Text:
            speed = task.speed or 0
            return Text(f"{speed:,.0f}/s" if speed >= 1 else f"{60 * speed:.1f}/min" if speed else "", justify="right")

    columns = (
        TextColumn("{task.description:<28}"),
        BarColumn(),
        TextColumn("{task.completed:>7.0f}/{task.total:.0f}"),
        RateColumn(),
        TimeRemainingColumn(),
    )
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=Console(stderr=True), transient=True, speed_estimate_period=period) as bars:

        def report(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(_shown(what, sys.stderr), total=total)
            bars.update(tasks[what], completed=done, total=total, visible=done < total)

        yield report


def show_check(found: dict[str, Any]) -> None:
    """Print what was looked at in one model, and the verdict."""
    from rich.table import Table

    table = Table(title=f"{_shown(found['model'])} on {found['samples']:,} samples of {_shown(found['data'])}")
    for heading in ("what", "verdict", "evidence", "what to do"):
        table.add_column(heading, no_wrap=heading == "verdict")
    for each in found["findings"]:
        _add_row(table, each["what"], each["verdict"], each["evidence"], each["advice"])
    say(table)
    if found["accuracy"] is not None:
        say(
            f"Accuracy {found['accuracy']:.2f}%; calibration error {found['ece']:.3f}, "
            f"after a temperature of {found['temperature']:.2f} {found['ece_calibrated']:.3f}",
            highlight=False,
        )
    say(f"Verdict: {found['verdict']}", highlight=False)
    for each in found["findings"]:
        if each["spec"] is not None:  # in one line, as long as it is: it is there to be copied
            sys.stdout.write(f"Type in its place: {_shown(shlex.quote(each['spec']))}\n")


def show_scout(summary: dict[str, Any]) -> None:
    """Print the flip matrix, and what the models reach together; nothing where no label tells."""
    from rich.table import Table

    models = summary["models"]
    if summary["positive_flips"] is None:
        return
    table = Table(title="Positive flips: % of test samples that the column has right and the row wrong")
    for heading in ("student", "family", "parameters", "accuracy"):
        table.add_column(heading, justify="left" if heading in ("student", "family") else "right")
    for model in models:
        table.add_column(_shown(model["name"]), justify="right")
    for row, model in enumerate(models):
        cells = [
            f"{flips:.2f}" if row != column else ABSENT for column, flips in enumerate(summary["positive_flips"][row])
        ]
        size = ABSENT if model["params"] is None else f"{model['params']:,}"
        _add_row(table, model["name"], model["family"], size, f"{model['accuracy']:.2f}%", *cells)
    say(table)
    top = {name: "not measured" if value is None else f"{value:.2f}%" for name, value in summary["ceilings"].items()}
    say(
        f"All together: mean probability {top['mean_probability']}, most confident {top['most_confident']}, "
        f"any of them right {top['oracle']}",
        highlight=False,
    )


def show_ranking(found: dict[str, Any]) -> None:
    """Print which teacher to try first, for each student."""
    if found["ranking"] is None:
        return
    say("\nWhich teacher first, by what its share of the targets would add on the selection split, in points:")
    for row in found["ranking"]:
        teachers = [
            f"{t['teacher']} {t['predicted_gain']:+.2f}" + (" (redundant)" if t["redundant"] else "")
            for t in row["teachers"]
        ]
        say(f"  {row['student']:<12} {', '.join(teachers)}", highlight=False)


def show_unlabelled(found: dict[str, Any], out: "Path") -> None:
    """Print how models differ on samples without labels, and who would probably gain from whom."""
    from rich.table import Table

    pool = found["pool"]
    if pool is None:
        return
    asked = sum(each["asked"] for each in pool["pools"])
    judge = pool["by"] == "judge"
    table = Table(title=f"Without labels, on {asked:,} samples: % on which the column answers other than the row")
    table.add_column("student")
    table.add_column("expected accuracy" if judge else "agreement with all", justify="right")
    for model in found["models"]:
        table.add_column(_shown(model["name"]), justify="right")
    for row, model in enumerate(found["models"]):
        cells = [f"{value:.2f}" if row != column else ABSENT for column, value in enumerate(pool["disagreement"][row])]
        _add_row(table, model["name"], f"{pool['expected_accuracy'][row]:.2f}%", *cells)
    say(table)
    how = "a judge learnt on the selection split" if judge else "all models together"
    say(f"Which teacher first, by what {how} would expect of its targets, in points (a bound, to compare by):")
    _show_expected(pool["ranking"])
    if pool["labelled"]:
        told = pool["labelled"]
        say(
            f"The same by {told['answered']} labels (no model is right: {told['neither']}; skipped: {told['skipped']}):"
        )
        _show_expected(told["ranking"])
    elif pool["questions"]:
        say(
            f"{out / 'questions.csv'} asks for the {pool['questions']} labels that would tell most of this, those at "
            f"the top first; then: the same command with --labels, and another --out",
            highlight=False,
        )


def _show_expected(ranking: Sequence[Mapping[str, Any]]) -> None:
    for row in ranking:
        teachers = ", ".join(f"{t['teacher']} {t['expected_gain']:+.2f}" for t in row["teachers"])
        say(f"  {row['student']:<12} {teachers}", highlight=False)


def show_transfers(summaries: Sequence[dict[str, Any]]) -> None:
    """Print a row for each transfer, with the samples of its pool where one has any."""
    from rich.table import Table

    table = Table(title="Transfer: the student on the test split, before and after, in %; differences in points")
    left = ("student", "teacher", "method", "verdict")
    pooled = any(s["pool"] for s in summaries)
    what = ["pool"] if pooled else []  # it takes the place of the transfer rate: a row has no room for both
    headings = ("before", "after", "delta", "95% interval", "gain", "loss", *([] if pooled else ["transfer rate"]))
    for heading in ("student", "teacher", "method", *what, *headings, "verdict", "ungated"):
        table.add_column(heading, justify="left" if heading in left else "right", no_wrap=heading != "transfer rate")
    for s in summaries:
        rate, gate = s["transfer_rate"], s["gate"]
        verdict = gate["verdict"].replace("_", " ") + (f", {gate['alpha']:g}" if gate["verdict"] == "accepted" else "")
        _add_row(
            table,
            s["student"],
            ", ".join(s["teachers"]) or "none",
            s["method"],
            *([f"{s['pool']['used']:,}" if s["pool"] else ABSENT] if pooled else []),
            *(_figure(s[key]) for key in ("accuracy_before", "accuracy_after")),
            _figure(s["transfer_delta"], "+.2f"),
            "{:+.2f} to {:+.2f}".format(*s["interval"]) if s["interval"] else ABSENT,
            *(_figure(s[key]) for key in ("knowledge_gain", "knowledge_loss")),
            *([] if pooled else [_figure(rate, ".1f")]),
            verdict,
            _figure(s["ungated_transfer_delta"], "+.2f"),
        )
    say(table)
    for s in summaries:
        if s["accuracy_before"] is None:
            expected = s["estimated_delta"]
            told = "" if expected is None else f", a judge learnt on the selection split expects {expected:+.2f} points"
            say(f"{s['student']}: {s['changed']:.2f}% of {s['n_test']:,} answers changed; no label says how{told}")
    say(
        "verdict: what the gate took, seeing only the selection split, and how far along the path to the new weights; "
        "ungated: the delta of the end of training",
        style="dim",
    )


def _figure(value: float | None, form: str = ".2f") -> str:
    return ABSENT if value is None else format(value, form)


def show_evidence(gate: dict[str, Any]) -> None:
    """Print what stands in for labels where the gate had none."""
    if gate["verdict"] == "unverified" and gate["evidence"] and gate["selection_delta"] is None:
        say(f"Nothing could be verified; {gate['evidence']}.", highlight=False)


def show_verification(found: dict[str, Any], run: "Path") -> None:
    """Print what a verification asks for, or what its answers say."""
    say(
        f"The old and the new student differ on {found['differing']:,} of {found['samples']:,} test samples "
        f"({found['changed']:.2f}%); only there can one be better.",
        highlight=False,
    )
    if found["answered"]:
        low, high = found["interval"]
        neither = found["answered"] - found["wins"] - found["losses"]
        say(
            f"{found['answered']} answers: {found['wins']} times the new student is right, {found['losses']} times the "
            f"old, {neither} times neither; {found['skipped']} skipped. On all samples {found['delta']:+.2f} points "
            f"(95% interval {low:+.2f} to {high:+.2f})",
            highlight=False,
        )
        more = found["labels_needed"]
        said = {
            "accepted": f"Accepted: {run / 'student'} holds the new weights.",
            "kept_original": f"Not better: {run / 'student'} holds the original weights.",
            "unverified": "Not decided yet: more labels may tell"
            + (f"; were they like these, about {more} would." if more else "."),
        }
        say(said[found["verdict"]], highlight=False)
    elif not found["asked"]:
        say(f"crossteach verify {run} --ask 100 writes a page that asks for labels", highlight=False)
    if found["asked"]:
        say(
            f"Open {run / 'ask.html'} in a browser ({found['asked']} pictures, one key each), or fill the column label "
            f"of {run / 'ask.csv'}; then: crossteach verify {run} --labels answers.csv",
            highlight=False,
        )


LISTED_JOBS = 60
"""More are counted by method; --json lists them all."""


def show_export(made: dict[str, Any]) -> None:
    """Print where an export is, and how it was checked."""
    checked = made["checked"]
    asked = f"{checked['fixed_inputs']} fixed {'images' if made['input'] else 'texts'}"
    asked += f" and {checked['samples']:,} test samples" if checked["samples"] else ""
    worst = checked["largest_difference"]
    agrees = f"to {worst:.2g}" if worst else "bit for bit"
    say(f"{made['out']}: {', '.join(made['files'])}", highlight=False)
    say(f"Opened again, it gives the student's logits {agrees} on {asked}.", highlight=False)
    say(f"{made['out']}/README.md is its model card, and says how it is used.", highlight=False)
    if made["url"]:
        say(f"Sent to {made['url']}", highlight=False)


def show_store(found: dict[str, Any], entries: Sequence[Mapping[str, Any]], most: int = 20) -> None:
    """Say what a store holds, or what was taken out of it: by kind, and the first entries."""
    import time

    from rich.table import Table

    words = {"ls": "holds", "verify": "has damaged", "prune": "loses"}
    say(f"{found['store']} {words[found['action']]} {found['entries']:,} entries, {found['bytes'] / 2**20:,.1f} MiB")
    if not entries:
        return
    table = Table(title=f"Used last first{f', {most} of {len(entries):,}' if len(entries) > most else ''}")
    for head in ("kind", "model", "rows known", "classes", "MiB", "days ago", "problem"):
        table.add_column(head, justify="right" if head in ("rows known", "classes", "MiB", "days ago") else "left")
    for entry in entries[:most]:
        known = f"{entry['known']:,} of {entry['rows']:,}" if entry["rows"] else ABSENT
        days = f"{max(0.0, time.time() - entry['used']) / 86400:.1f}"
        cells = (entry["kind"], entry["model"][:8], known, str(entry["classes"] or ABSENT))
        _add_row(table, *cells, f"{entry['bytes'] / 2**20:,.1f}", days, entry["problem"])
    say(table)


def show_plan(found: dict[str, Any]) -> None:
    """Print the jobs of a sweep, or where they are many how many each method has, and what is left of them costs."""
    from .sweeping.words import cost_in_words

    jobs = found["jobs"]
    for job in jobs if len(jobs) <= LISTED_JOBS else ():
        teacher = f" from {job['teacher_name']}" if job["teacher_name"] else ""
        say(
            f"  {'to do' if job['to_do'] else 'not run':<8} {job['method']:<20} {job['student_name']}{teacher}, "
            f"seed {job['seed']}",
            highlight=False,
        )
    if len(jobs) > LISTED_JOBS:
        asked, left = (Counter(job["method"] for job in jobs if job["to_do"] or every) for every in (True, False))
        for method, count in asked.items():
            say(f"  {left[method]:>6} of {count} to do   {method}", highlight=False)
    say(f"{len(found['jobs'])} jobs: {found['done']} done, {found['failed_before']} failed before")
    say(cost_in_words(found["cost"]), highlight=False)
    show_notes(found["notes"])


def show_methods(found: dict[str, Any]) -> None:
    """Print a row for each method of a sweep."""
    from rich.table import Table

    table = Table(title=f"{found['done']} of {found['jobs']} jobs; deltas in points on the test split")
    headings = ("method", "runs", "mean", "median", "worst", "success", "harm", "accepted", "ungated mean")
    for heading in (*headings, "ungated, against control"):
        table.add_column(heading, justify="left" if heading == "method" else "right")
    for method in found["methods"]:
        gated, ungated = method["gated"], method["ungated"]
        claim = ungated and ungated["claim"]
        _add_row(
            table,
            method["method"],
            str(gated["runs"]),
            *(f"{gated[f'{key}_delta']:+.2f}" for key in ("mean", "median", "worst")),
            *(f"{gated[key]:.0f}%" for key in ("success_mean", "harm", "coverage")),
            f"{ungated['mean_delta']:+.2f}" if ungated else ABSENT,
            _against(claim) if claim else ABSENT,
        )
    say(table)
    show_notes(found["notes"])


def _against(claim: Mapping[str, Any]) -> str:
    """Write a claim with its bounds; one pair of models has none."""
    known = claim["low"] is not None
    bounds = f"{claim['low']:+.2f} to {claim['high']:+.2f}" if known else "no interval"
    return f"{claim['estimate']:+.2f} ({bounds}) to {claim['control']}"


def show_notes(notes: Sequence[str]) -> None:
    """Print what the user should know, a line each."""
    for note in notes:
        say(f"Note: {note}.", highlight=False)
