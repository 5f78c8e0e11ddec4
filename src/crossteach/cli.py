"""The command line: parse, call, print. The only room that knows typer and rich."""

import contextlib
import functools
import json
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, cast

import typer

from .errors import ConfigError, CrossteachError

if TYPE_CHECKING:
    from .models import TorchClassifier
    from .types import Progress, Splits

app = typer.Typer(
    name="crossteach",
    help="Any pretrained classifier teaches any other, and the student loses nothing it knows.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

ModelSpec = Annotated[str, typer.Option(help="Model spec, as in timm:resnet18 or py:zoo.py:small@small.safetensors.")]
DataSpec = Annotated[str, typer.Option(help="Data spec: glyphs, npz:FILE, folder:PATH, idx:FOLDER, sklearn:digits.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output, nothing else.")]
StoreFolder = Annotated[Path | None, typer.Option("--store", help="Folder for stored answers of models.")]
Seed = Annotated[int, typer.Option(help="Of the order of samples.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, … or auto.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a run of another configuration.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress.")]


Command = TypeVar("Command", bound=Callable[..., None])


def _one_line_errors(command: Command) -> Command:
    """End a command with one line and the exit code that stands for it."""

    @functools.wraps(command)
    def guarded(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except CrossteachError as error:
            _complain(str(error))
            sys.exit(1)
        except KeyboardInterrupt:
            _complain("interrupted; the same command goes on where it stopped")
            sys.exit(130)

    return cast(Command, guarded)


@app.command(epilog="Example:  crossteach demo --out my-demo")
@_one_line_errors
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the run folders.")] = Path("crossteach-demo"),
    as_json: Json = False,
    store: StoreFolder = None,
    seed: Seed = 0,
    device: Device = "auto",
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Scout four pretrained models, teach one from a weaker and from a stronger one, and show the proof."""
    from .demo.script import run_demo
    from .report import write_report

    with _progress(quiet) as told:
        outcome = run_demo(out, _store(store), seed, _device(device), overwrite, told)
        folders = sorted(folder for folder in out.iterdir() if folder.is_dir())
        for done, folder in enumerate(folders, 1):
            write_report(folder)
            told("reports", done, len(folders))
    if as_json:
        _print_json(outcome)
        return
    _show_scout(outcome["scout"])
    _show_transfers(outcome["transfers"])
    console = _console()
    console.print(f"\nRun folders: {out}/  (each holds report.html for the browser, and summary.json for programs)")
    console.print("The same on your own models and data:")
    console.print(
        "  crossteach transfer --student py:my_models.py:student@student.safetensors \\\n"
        "    --teacher py:my_models.py:teacher@teacher.safetensors --data npz:my_data.npz --out my-run",
        highlight=False,
    )


@app.command(epilog="Example:  crossteach scout demo:convnet demo:mixer --data glyphs --out my-scout")
@_one_line_errors
def scout(
    models: Annotated[list[str], typer.Argument(metavar="MODEL MODEL [...]", help="Model specs, two or more.")],
    data: DataSpec,
    out: Annotated[Path, typer.Option(help="Folder for scout.json.")],
    as_json: Json = False,
    store: StoreFolder = None,
    seed: Annotated[int, typer.Option(help="Taken, as everywhere; a scout draws nothing at random.")] = 0,
    device: Device = "auto",
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    controls: Annotated[
        bool, typer.Option("--controls", help="Add a randomly initialised copy of each architecture.")
    ] = False,
    embeddings: Annotated[
        str, typer.Option(help="How close class names are: auto (MiniLM), none, FILE.npy, or FILE.py:FUNCTION.")
    ] = "auto",
    ensembles: Annotated[
        bool, typer.Option(help="Measure the mean-probability ensemble of every pair; the slowest part of many models.")
    ] = True,
) -> None:
    """Compare models: what each knows that the others do not, what any combination could reach, whom to ask first."""
    from .scout_folder import open_scout

    with _progress(quiet) as report:
        opened = [_load_model(spec, device) for spec in models]
        found = open_scout(
            opened, _load_data(data), out, _store(store), overwrite, report, embeddings, ensembles, controls
        )
    if as_json:
        _print_json(found)
        return
    _show_scout(found)
    _show_ranking(found)
    _console().print(f"\nWritten to {out / 'scout.json'}; crossteach report {out} makes pages of it", highlight=False)


@app.command(
    epilog="Example:  crossteach transfer --student demo:convnet --teacher demo:mixer --data glyphs --out my-run"
)
@_one_line_errors
def transfer(
    student: ModelSpec,
    data: DataSpec,
    out: Annotated[Path, typer.Option(help="Run folder; the same command resumes a half-done one.")],
    teacher: Annotated[list[str] | None, typer.Option(help="Model spec; give it several times for several.")] = None,
    method: Annotated[str, typer.Option(help="A name from above, or auto: the default for this data.")] = "auto",
    order: Annotated[
        str, typer.Option(help="Of several teachers: parallel, sequential or soup; see curriculum.* settings.")
    ] = "parallel",
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any setting, as in optim.lr=0.01.")
    ] = None,
    max_loss: Annotated[float | None, typer.Option(metavar="POINTS", help="Loss the gate may not exclude.")] = None,
    time_budget: Annotated[float | None, typer.Option(metavar="MINUTES", help="Fewer epochs, as many as fit.")] = None,
    compat: Annotated[
        str | None, typer.Option(metavar="paper", help="Train as the paper did; --set still overrides.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Go on though the student answers like chance.")] = False,
    as_json: Json = False,
    store: StoreFolder = None,
    seed: Seed = 0,
    device: Device = "auto",
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Teach a student what its teachers know and it does not; keep it as it was where that does not help.

    Methods that read labels: kl+dp, kl+dp-flips, kl+dp-not-negative, kl+dp-flips-mean, xe+dp, xe-kl, xe-kl+mcl, cd,
    crd; that read none: kl, kl+dp-unsupervised, kl+dp-calibrated, kl+dp-soft.

    Controls without a teacher: self, xe, self+labels, wise-ft; with one: kl+ensemble, kl+dp-random,
    kl+dp-random-teacher.

    With +mcl behind its name, as in kl+dp+mcl, any of them returns the slow average of its weights.
    """
    from .config import TransferConfig, compatible, with_settings
    from .curriculum import transfer as run_transfer

    given = [f"method={method}", f"seed={seed}", f"curriculum.order={order}"]
    given += [*(compatible(compat) if compat else ()), *(settings or [])]
    given += [f"gate.max_loss={max_loss}"] if max_loss is not None else []
    given += [f"time_budget={time_budget}"] if time_budget is not None else []
    given += ["force=true"] if force else []
    config = with_settings(TransferConfig(), given)
    with _progress(quiet) as report:
        result = run_transfer(
            _load_model(student, device),
            [_load_model(spec, device) for spec in teacher or []],
            _load_data(data),
            out,
            config,
            _store(store),
            overwrite,
            report,
        )
    if as_json:
        _print_json(result.summary)
        return
    _show_transfers([result.summary])
    for note in result.notes:
        _console().print(f"Note: {note}.", highlight=False)
    _console().print(f"\nThe student is in {out / 'student'}; crossteach opens it as run:{out}")


@app.command(epilog="Example:  crossteach sweep plan.yaml --out my-sweep --dry-run")
@_one_line_errors
def sweep(
    plan: Annotated[Path, typer.Argument(metavar="PLAN.yaml", help="Models, methods, seeds, data; see docs/sweep.md.")],
    out: Annotated[Path, typer.Option(help="Folder for all jobs; the same command goes on where it stopped.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the plan, print it and its cost, stop.")] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run the jobs again that failed.")] = False,
    status: Annotated[bool, typer.Option("--status", help="Print where a sweep stands, from any terminal.")] = False,
    as_json: Json = False,
    store: StoreFolder = None,
    seed: Annotated[int, typer.Option(help="Of every job, where the plan names no seeds.")] = 0,
    device: Device = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Remove first what an earlier sweep wrote.")] = False,
    quiet: Quiet = False,
) -> None:
    """Run many transfers from one plan: students, teachers, methods and seeds; what is whole is never done again."""
    if status:
        from .sweeping import sweep_status
        from .sweeping.words import status_in_words

        stands = sweep_status(out)
        _print_json(stands) if as_json else _console().print("\n".join(status_in_words(stands)), highlight=False)
        return
    from .sweeping import plan_cost, require_whole
    from .sweeping import sweep as run_sweep

    with _progress(quiet, period=3600) as report:
        asked = (plan, out, _store(store), seed, _device(device), retry_failed, overwrite, report)
        found = plan_cost(*asked) if dry_run else run_sweep(*asked)
    if as_json:
        _print_json(found)
    elif dry_run:
        _show_plan(found)
    else:
        _show_methods(found)
        _console().print(f"\nOne row a job in {out / 'results.parquet'}; a run folder each in {out / 'jobs'}/")
    if not dry_run:
        require_whole(found, out)


@app.command(epilog="Example:  crossteach report my-run")
@_one_line_errors
def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The --out folder of a scout or a transfer.")],
    as_json: Json = False,
    store: Annotated[Path | None, typer.Option("--store", help="Taken, as everywhere; no answer is read.")] = None,
    seed: Annotated[int, typer.Option(help="Taken, as everywhere; nothing is drawn at random.")] = 0,
    device: Annotated[str, typer.Option(help="Taken, as everywhere; no model is loaded.")] = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Taken; a report always replaces the last.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Taken; there is no progress to show.")] = False,
) -> None:
    """Write a run folder as one HTML page, with its figures as SVG and its tables as CSV beside it."""
    from .report import make_report

    made = make_report(folder)
    if as_json:
        files = {kind: [str(p) for p in paths] for kind, paths in (("figures", made.figures), ("tables", made.tables))}
        _print_json({"report": str(made.path), **files, "seconds": made.seconds})
        return
    sys.stdout.write(f"{made.path}\n")


def _device(name: str) -> str:
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"--device must be auto, cpu or a device of this machine, not {name!r} ({reason})") from None
    return name


def _load_model(spec: str, device: str) -> "TorchClassifier":
    from .models import load_model

    return load_model(spec).to(_device(device))


def _load_data(spec: str) -> "Splits":
    from .data import load_data

    return load_data(spec)


def _store(folder: Path | None) -> Any:
    from .store import Store

    return Store(folder)


def _console() -> Any:
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 132)


def _print_json(document: Any) -> None:
    sys.stdout.write(json.dumps(document, indent=1, ensure_ascii=False) + "\n")


@contextlib.contextmanager
def _progress(quiet: bool, period: float = 30) -> Iterator["Progress"]:
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
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total, visible=done < total)

        yield report


def _show_scout(summary: dict[str, Any]) -> None:
    from rich.table import Table

    models = summary["models"]
    table = Table(title="Positive flips: % of test samples that the column has right and the row wrong")
    for heading in ("student", "family", "parameters", "accuracy"):
        table.add_column(heading, justify="left" if heading in ("student", "family") else "right")
    for model in models:
        table.add_column(model["name"], justify="right")
    for row, model in enumerate(models):
        cells = [
            f"{flips:.2f}" if row != column else "·" for column, flips in enumerate(summary["positive_flips"][row])
        ]
        table.add_row(model["name"], model["family"], f"{model['params']:,}", f"{model['accuracy']:.2f}%", *cells)
    console = _console()
    console.print(table)
    top = {name: "not measured" if value is None else f"{value:.2f}%" for name, value in summary["ceilings"].items()}
    console.print(
        f"All together: mean probability {top['mean_probability']}, most confident {top['most_confident']}, "
        f"any of them right {top['oracle']}",
        highlight=False,
    )


def _show_ranking(found: dict[str, Any]) -> None:
    """Print which teacher to try first, for each student."""
    if found["ranking"] is None:
        return
    console = _console()
    console.print(
        "\nWhich teacher first, by what its share of the targets would add on the selection split, in points:"
    )
    for row in found["ranking"]:
        teachers = [
            f"{t['teacher']} {t['predicted_gain']:+.2f}" + (" (redundant)" if t["redundant"] else "")
            for t in row["teachers"]
        ]
        console.print(f"  {row['student']:<12} {', '.join(teachers)}", highlight=False)


def _show_transfers(summaries: Sequence[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table(title="Transfer: the student on the test split, before and after, in %; differences in points")
    left = ("student", "teacher", "method", "verdict")
    headings = ("student", "teacher", "method", "before", "after", "delta", "95% interval", "gain", "loss")
    for heading in (*headings, "transfer rate", "verdict", "ungated"):
        table.add_column(heading, justify="left" if heading in left else "right", no_wrap=heading != "transfer rate")
    for s in summaries:
        low, high = s["interval"]
        rate, gate = s["transfer_rate"], s["gate"]
        verdict = gate["verdict"].replace("_", " ") + (f", {gate['alpha']:g}" if gate["verdict"] == "accepted" else "")
        table.add_row(
            s["student"],
            ", ".join(s["teachers"]) or "none",
            s["method"],
            f"{s['accuracy_before']:.2f}",
            f"{s['accuracy_after']:.2f}",
            f"{s['transfer_delta']:+.2f}",
            f"{low:+.2f} to {high:+.2f}",
            f"{s['knowledge_gain']:.2f}",
            f"{s['knowledge_loss']:.2f}",
            "·" if rate is None else f"{rate:.1f}",
            verdict,
            f"{s['ungated_transfer_delta']:+.2f}",
        )
    console = _console()
    console.print(table)
    console.print(
        "verdict: what the gate took, seeing only the selection split, and how far along the path to the new weights; "
        "ungated: the delta of the end of training",
        style="dim",
    )


def _show_plan(found: dict[str, Any]) -> None:
    from .sweeping.words import cost_in_words

    console = _console()
    for job in found["jobs"]:
        teacher = f" from {job['teacher_name']}" if job["teacher_name"] else ""
        console.print(
            f"  {'to do' if job['to_do'] else 'not run':<8} {job['method']:<20} {job['student_name']}{teacher}, "
            f"seed {job['seed']}",
            highlight=False,
        )
    console.print(f"{len(found['jobs'])} jobs: {found['done']} done, {found['failed_before']} failed before")
    console.print(cost_in_words(found["cost"]), highlight=False)


def _show_methods(found: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table(title=f"{found['done']} of {found['jobs']} jobs; deltas in points on the test split")
    headings = ("method", "runs", "mean", "median", "worst", "success", "harm", "accepted", "ungated mean")
    for heading in (*headings, "ungated, against control"):
        table.add_column(heading, justify="left" if heading == "method" else "right")
    for method in found["methods"]:
        gated, ungated = method["gated"], method["ungated"]
        claim = ungated and ungated["claim"]
        table.add_row(
            method["method"],
            str(gated["runs"]),
            *(f"{gated[f'{key}_delta']:+.2f}" for key in ("mean", "median", "worst")),
            *(f"{gated[key]:.0f}%" for key in ("success_mean", "harm", "coverage")),
            f"{ungated['mean_delta']:+.2f}" if ungated else "·",
            f"{claim['estimate']:+.2f} ({claim['low']:+.2f} to {claim['high']:+.2f}) to {claim['control']}"
            if claim
            else "·",
        )
    console = _console()
    console.print(table)
    for note in found["notes"]:
        console.print(f"Note: {note}.", highlight=False)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _complain(message: str) -> None:
    sys.stderr.write("crossteach: " + " ".join(message.split()) + "\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exit 0 done, 1 the user's input or data, 2 usage, 130 interrupted."""
    signal.signal(signal.SIGTERM, _terminate)
    app(args=list(arguments) if arguments is not None else None, prog_name="crossteach")


if __name__ == "__main__":
    main()
