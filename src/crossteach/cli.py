"""The command line: parse arguments, call the package, pass results to terminal.py. One function a command.

`options.py` has the options that several commands share, `opening.py` what they open, `ending.py` how they end. Only
this file and `options.py` import typer.
"""

import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from . import terminal
from .ending import one_line_errors, terminate
from .errors import ConfigError, CrossteachError
from .opening import (
    GIVEN,
    device_of,
    join_crew,
    looked_at,
    open_data,
    open_model,
    open_store,
    ray_tasks,
    require_no_ray,
)
from .options import (
    DataSpec,
    Device,
    Json,
    LabelMapFile,
    MaybeData,
    ModelSpec,
    NoProgress,
    Overwrite,
    Pools,
    Quiet,
    Seed,
    StoreFolder,
    Trust,
    UnreadStore,
    UnusedDevice,
    Where,
)
from .specs import escape

app = typer.Typer(
    name="crossteach",
    help="Any pretrained classifier teaches any other, and the student loses nothing it knows.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


@app.command(epilog="Example:  crossteach demo --out my-demo")
@one_line_errors
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the run folders.")] = Path("crossteach-demo"),
    as_json: Json = False,
    store: StoreFolder = None,
    seed: Seed = 0,
    device: Device = "auto",
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Scout four pretrained models, teach two of them with and without a pool of unlabelled images, show the proof."""
    from .demo.script import run_demo
    from .report import write_report

    with terminal.progress(quiet) as report_progress:
        outcome = run_demo(out, open_store(store), seed, device_of(device), overwrite, report_progress)
        folders = sorted(folder for folder in out.iterdir() if folder.is_dir())
        for done, folder in enumerate(folders, 1):
            write_report(folder)
            report_progress("reports", done, len(folders))
    if as_json:
        terminal.print_json(outcome)
        return
    terminal.show_scout(outcome["scout"])
    terminal.show_transfers(outcome["transfers"])
    terminal.say(f"\nRun folders: {out}/  (each holds report.html for the browser, and summary.json for programs)")
    terminal.say("The same on your own models and data:")
    terminal.say(
        "  crossteach transfer --student py:my_models.py:student@student.safetensors \\\n"
        "    --teacher py:my_models.py:teacher@teacher.safetensors --data npz:my_data.npz --out my-run",
        highlight=False,
    )


@app.command(epilog="Example:  crossteach check demo:convnet --data glyphs")
@one_line_errors
def check(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Model spec.")],
    data: DataSpec,
    as_json: Json = False,
    store: UnreadStore = None,
    seed: Annotated[int, typer.Option(help="Taken, as everywhere; the samples are always the same.")] = 0,
    device: Device = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Taken, as everywhere; nothing is written.")] = False,
    quiet: Quiet = False,
    trust: Trust = False,
) -> None:
    """Check that a model is what you think it is: trained, steady, asked as it wants to be asked.

    Tried are the normalisations, sizes, crops and interpolations in common use, channels in the other order, and
    classes in another order: what is far better is said. The verdict is ok, suspicious or broken; nothing is written.
    """
    from .scouting.checking import check_model

    with terminal.progress(quiet) as report:
        splits = open_data(data)
        found = check_model(open_model(model, device, splits, trust), splits, report)
    if as_json:
        terminal.print_json(found)
        return
    terminal.show_check(found)
    terminal.show_notes(found["notes"])


@app.command(epilog="Example:  crossteach scout demo:convnet demo:mixer --data glyphs --out my-scout")
@one_line_errors
def scout(
    models: Annotated[list[str], typer.Argument(metavar="MODEL MODEL [...]", help="Model specs, two or more.")],
    out: Annotated[Path, typer.Option(help="Folder for scout.json.")],
    data: Annotated[
        str | None, typer.Option(help="Data spec, as npz:FILE or folder:PATH; without it only answers are compared.")
    ] = None,
    pool: Annotated[
        list[str] | None,
        typer.Option("--pool", metavar="DATA", help="Unlabelled samples to compare the models on; may be repeated."),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(metavar="FILE.csv", help="Answers to questions.csv of such a scout: rank by them too."),
    ] = None,
    label_map: LabelMapFile = None,
    as_json: Json = False,
    store: StoreFolder = None,
    seed: Annotated[int, typer.Option(help="Taken, as everywhere; a scout draws nothing at random.")] = 0,
    device: Device = "auto",
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    trust: Trust = False,
    controls: Annotated[
        bool, typer.Option("--controls", help="Add a randomly initialised copy of each architecture.")
    ] = False,
    embeddings: Annotated[
        str, typer.Option(help="How close class names are: auto (MiniLM), none, FILE.npy, or FILE.py:FUNCTION.")
    ] = "auto",
    ensembles: Annotated[
        bool, typer.Option(help="Measure the mean-probability ensemble of every pair; the slowest part of many models.")
    ] = True,
    force: Annotated[
        bool, typer.Option("--force", help="Go on though a model's answers differ from pass to pass.")
    ] = False,
) -> None:
    """Compare models: what each knows that the others do not, what any combination could reach, whom to ask first.

    On a --pool of unlabelled pictures: how often they differ, who would probably gain from whom, and in questions.csv
    the pictures whose labels would tell most about that.
    """
    from .scouting.folder import open_scout

    kept = open_store(store)
    with terminal.progress(quiet) as report:
        splits = open_data(data, pool, report, kept)
        opened = [open_model(spec, device, splits, trust) for spec in models]
        asked = (
            opened,
            splits,
            out,
            kept,
            overwrite,
            report,
            embeddings,
            ensembles,
            controls,
            force,
            labels,
        )
        found = open_scout(*asked, label_map=label_map)
    if as_json:
        terminal.print_json(found)
        return
    terminal.show_scout(found)
    terminal.show_ranking(found)
    terminal.show_unlabelled(found, out)
    terminal.show_notes(found["notes"])
    terminal.say(f"\nWritten to {out / 'scout.json'}; crossteach report {out} makes pages of it", highlight=False)


@app.command(
    epilog="Example:  crossteach transfer --student demo:convnet --teacher demo:mixer --data glyphs --out my-run"
)
@one_line_errors
def transfer(
    student: ModelSpec,
    out: Annotated[Path, typer.Option(help="Run folder; the same command resumes a half-done one.")],
    teacher: Annotated[list[str] | None, typer.Option(help="Model spec; give it several times for several.")] = None,
    data: MaybeData = None,
    pool: Pools = None,
    label_map: LabelMapFile = None,
    method: Annotated[
        str | None, typer.Option(help="A name from above; the default suits the data, or is the recipe's of --compat.")
    ] = None,
    order: Annotated[
        str, typer.Option(help="Of several teachers: parallel, sequential or soup; see curriculum.* settings.")
    ] = "parallel",
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any setting, as in optim.lr=0.01.")
    ] = None,
    max_loss: Annotated[float | None, typer.Option(metavar="POINTS", help="Loss the gate may not exclude.")] = None,
    time_budget: Annotated[float | None, typer.Option(metavar="MINUTES", help="Fewer epochs, as many as fit.")] = None,
    compat: Annotated[
        str | None, typer.Option(metavar="paper", help="Train as the paper did; --method and --set override.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Go on with a model that the checks refuse, and say what they found.")
    ] = False,
    as_json: Json = False,
    store: StoreFolder = None,
    seed: Seed = 0,
    device: Device = "auto",
    devices: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Train on N GPUs, or as N processes where there is none."),
    ] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    trust: Trust = False,
) -> None:
    """Teach a student what its teachers know and it does not; keep it as it was where that does not help.

    Give it a pile of unlabelled pictures with --pool: fresh ones teach several times as much as those that the models
    know by heart.

    Methods that read labels: kl+dp, kl+dp-flips, kl+dp-not-negative, kl+dp-flips-mean, xe+dp, xe+dp-learned, xe-kl,
    xe-kl+mcl, cd, crd; that read none: kl, kl+dp-unsupervised, kl+dp-calibrated, kl+dp-soft, kl+dp-learned.

    Controls without a teacher: self, xe, self+labels, wise-ft; with one: kl+ensemble, kl+dp-random,
    kl+dp-random-teacher.

    With +mcl behind its name, as in kl+dp+mcl, any of them returns the slow average of its weights.
    """
    from .config import TransferConfig
    from .settings import compatible, with_settings
    from .transferring.curriculum import transfer as run_transfer

    given = [*(compatible(compat) if compat else ()), f"seed={seed}", f"curriculum.order={order}"]
    given += [f"method={method}"] if method is not None else []
    given += settings or []
    given += [f"gate.max_loss={max_loss}"] if max_loss is not None else []
    given += [f"time_budget={time_budget}"] if time_budget is not None else []
    given += ["force=true"] if force else []
    config = with_settings(TransferConfig(), given)
    crew, kept = join_crew(devices, device), open_store(store)
    with terminal.progress(quiet or crew.rank > 0) as report:
        with crew.leader_first():
            splits = open_data(data, pool, report, kept)
            learner = open_model(student, device, splits, trust)
            teachers = [open_model(spec, device, splits, trust) for spec in teacher or []]
        asked = (learner, teachers, splits, out, config, kept, overwrite, report)
        result = run_transfer(*asked, label_map=label_map, crew=crew)
    if crew.rank:
        return
    if as_json:
        terminal.print_json(result.summary)
        return
    terminal.show_transfers([result.summary])
    terminal.show_evidence(result.summary["gate"])
    terminal.show_notes(result.notes)
    terminal.say(f"\nThe student is in {out / 'student'}; crossteach opens it as run:{escape(str(out))}")


@app.command(epilog="Example:  crossteach verify my-run --ask 100, then  crossteach verify my-run --labels answers.csv")
@one_line_errors
def verify(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The --out folder of a transfer without test labels.")],
    ask: Annotated[
        int | None, typer.Option(metavar="N", help="Write a page that asks for N labels, where they say most.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(metavar="FILE.csv", help="Read answers, and return the weights that they allow.")
    ] = None,
    as_json: Json = False,
    store: UnreadStore = None,
    seed: Annotated[int, typer.Option(help="Taken, as everywhere; the draw depends on the run alone.")] = 0,
    device: UnusedDevice = "auto",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Taken; a page replaces the last, labels stay.")
    ] = False,
    quiet: NoProgress = False,
) -> None:
    """Verify a transfer with a few labels: they are asked only where the old and the new student differ."""
    from .transferring.verification import verify as run_verification

    found = run_verification(run, ask, labels)
    if as_json:
        terminal.print_json(found)
        return
    terminal.show_verification(found, run)


@app.command(epilog="Example:  crossteach export my-run --to timm --out my-student")
@one_line_errors
def export(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="The --out folder of a finished transfer; it is only read.")
    ],
    to: Annotated[str, typer.Option("--to", metavar="timm|hf|torch|onnx", help="What is to open the student.")],
    out: Annotated[Path, typer.Option(help="A new folder, which is there once it is checked.")],
    data: Annotated[
        str | None, typer.Option(help="Data spec: compare export and student on its test samples too.")
    ] = None,
    push_to_hub: Annotated[
        str | None, typer.Option(metavar="ORG/NAME", help="Send the folder to the Hugging Face hub, as private.")
    ] = None,
    as_json: Json = False,
    store: UnreadStore = None,
    seed: Annotated[int, typer.Option(help="Taken, as everywhere; nothing is drawn at random.")] = 0,
    device: Annotated[
        str, typer.Option("--device", help="Taken, as everywhere; a student is exported on the CPU.")
    ] = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace another export.")] = False,
    quiet: Quiet = False,
    trust: Trust = False,
) -> None:
    """Write the student of a run as a folder that timm, transformers, torch or ONNX opens without crossteach.

    The folder holds a model card. It is opened again and compared with the student before it is put in its place.
    """
    from .exporting import export_run

    with terminal.progress(quiet) as report:
        made = export_run(run, to, out, data, push_to_hub, overwrite, trust, report)
    if as_json:
        terminal.print_json(made)
        return
    terminal.show_export(made)
    terminal.show_notes(made["notes"])


@app.command(epilog="Example:  crossteach sweep plan.yaml --out my-sweep --dry-run")
@one_line_errors
def sweep(
    plan: Annotated[Path, typer.Argument(metavar="PLAN.yaml", help="Models, methods, seeds, data; see docs/sweep.md.")],
    out: Annotated[Path, typer.Option(help="Folder for all jobs; the same command goes on where it stopped.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the plan, print it and its cost, stop.")] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run the jobs again that failed.")] = False,
    status: Annotated[bool, typer.Option("--status", help="Print where a sweep stands, from any terminal.")] = False,
    executor: Annotated[Where, typer.Option(help="Where jobs run: processes of this machine, or Ray.")] = Where.local,
    address: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="ray: the cluster's head node, or auto; without it on this machine."),
    ] = None,
    cpus: Annotated[float | None, typer.Option(help="ray: of a job, which takes as many threads. [default: 1]")] = None,
    gpus: Annotated[
        float | None, typer.Option(help="ray: of a job; 0.5 shares one. [default: 1 with --device cuda, else 0]")
    ] = None,
    memory: Annotated[
        str | None, typer.Option(metavar="SIZE", help="ray: of a job, as 8GB. [default: what opening the models took]")
    ] = None,
    devices: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="ray: train each student on N GPUs of one node, or as N processes."),
    ] = None,
    as_json: Json = False,
    store: StoreFolder = None,
    seed: Annotated[int, typer.Option(help="Of every job, where the plan names no seeds.")] = 0,
    device: Device = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Remove first what an earlier sweep wrote.")] = False,
    quiet: Quiet = False,
    trust: Annotated[
        bool,
        typer.Option(
            "--trust",
            help="Run the code that the plan names outside py: models, and open its TorchScript and export files.",
        ),
    ] = False,
) -> None:
    """Run many transfers from one plan: students, teachers, methods and seeds; what is whole is never done again."""
    if status:
        from .sweeping import sweep_status
        from .sweeping.words import status_in_words

        stands = sweep_status(out)
        terminal.print_json(stands) if as_json else terminal.say("\n".join(status_in_words(stands)), highlight=False)
        return
    from .sweeping import plan_cost, require_whole
    from .sweeping import sweep as run_sweep

    here = device_of(device)
    if executor is Where.local:
        require_no_ray(address=address, cpus=cpus, gpus=gpus, memory=memory, devices=devices)
    elif gpus is None:
        gpus = float(here.startswith("cuda"))
    with terminal.progress(quiet, period=3600) as report:
        asked = (plan, out, open_store(store), seed, here, retry_failed, overwrite, report)
        tasks = None if executor is Where.local else ray_tasks(address, cpus, gpus, memory, devices or 1, report)
        if dry_run:
            found = plan_cost(*asked, trust=trust, workers=looked_at(tasks))
        else:
            there = tasks.device if tasks else None
            found = run_sweep(*asked, executor=tasks, trust=trust, worker_device=there, devices=devices or 1)
    if as_json:
        terminal.print_json(found)
    elif dry_run:
        terminal.show_plan(found)
    else:
        terminal.show_methods(found)
        terminal.say(f"\nOne row a job in {out / 'results.parquet'}; a run folder each in {out / 'jobs'}/")
        terminal.say(f"crossteach report {out} makes a page of it", highlight=False)
    if not dry_run:
        require_whole(found, out)


@app.command(epilog="Example:  crossteach store prune --max-size 20GB --older-than 90")
@one_line_errors
def store(
    action: Annotated[str, typer.Argument(metavar="ls|verify|prune", help="List, read through, or cut down.")],
    max_size: Annotated[str | None, typer.Option(help="prune: what may be left, as 500MB or 20GiB.")] = None,
    older_than: Annotated[float | None, typer.Option(help="prune: days since an entry was last used.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="prune: say what would go, remove nothing.")] = False,
    as_json: Json = False,
    store: StoreFolder = None,
    seed: Annotated[int, typer.Option(help="Taken, as everywhere; nothing is drawn at random.")] = 0,
    device: UnusedDevice = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Taken, as everywhere.")] = False,
    quiet: Quiet = False,
) -> None:
    """Look after the stored answers of models: ls lists them, verify reads them all, prune removes the least used.

    What is removed is computed again when it is next asked for. Without limits prune removes what is damaged, was never
    finished, or was written by another version. CROSSTEACH_STORE_BUDGET=100GB keeps the store within a size by itself.
    """
    from .answers.stored import list_entries, prune_store, read_size, summary_of, verify_store

    kept = open_store(store)
    if action == "ls":
        entries = list_entries(kept)
    elif action == "verify":
        with terminal.progress(quiet) as report:
            entries = verify_store(kept, report)
    elif action == "prune":
        entries = prune_store(kept, None if max_size is None else read_size(max_size), older_than, dry_run)
    else:
        raise ConfigError(f"store takes ls, verify or prune, not {action!r}")
    found = {"action": action, "store": str(kept.folder), **summary_of(entries)}
    if as_json:
        terminal.print_json({**found, "listed": [vars(entry) for entry in entries]})
    else:
        terminal.show_store(found, [vars(entry) for entry in entries])
    if action == "verify" and entries:
        raise CrossteachError(
            f"{len(entries)} entries of {kept.folder} are damaged, {entries[0].folder} among them; delete their "
            "folders (--json lists all): what is asked for is computed again"
        )


@app.command(epilog="Example:  crossteach report my-run")
@one_line_errors
def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The --out folder of a scout, a transfer or a sweep.")],
    as_json: Json = False,
    store: UnreadStore = None,
    seed: Annotated[int, typer.Option(help="Taken, as everywhere; nothing is drawn at random.")] = 0,
    device: UnusedDevice = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Taken; a report always replaces the last.")] = False,
    quiet: NoProgress = False,
) -> None:
    """Write a run folder as one HTML page, with its figures as SVG and its tables as CSV beside it."""
    from .report import make_report

    made = make_report(folder)
    if as_json:
        files = {kind: [str(p) for p in paths] for kind, paths in (("figures", made.figures), ("tables", made.tables))}
        terminal.print_json({"report": str(made.path), **files, "seconds": made.seconds})
        return
    sys.stdout.write(f"{made.path}\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exit 0 done, 1 the user's input or data, 2 usage, 130 interrupted."""
    terminal.escape_unknown_characters()
    signal.signal(signal.SIGTERM, terminate)
    given = sys.argv[1:] if arguments is None else list(arguments)
    GIVEN.set(given)
    app(args=given, prog_name="crossteach")


if __name__ == "__main__":
    main()
