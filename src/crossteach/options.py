"""The options that several commands of the command line have, with their help."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

ModelSpec = Annotated[str, typer.Option(help="Model spec, as in timm:resnet18 or py:zoo.py:small@small.safetensors.")]
DataSpec = Annotated[
    str,
    typer.Option(
        help="Data spec: folder:PATH, csv:FILE, wds:PATTERN.tar, hf:NAME_OR_FOLDER, npz:FILE, idx:FOLDER, glyphs, "
        "sklearn:digits."
    ),
]
MaybeData = Annotated[
    str | None,
    typer.Option(help="Data spec, as npz:FILE or folder:PATH; without it a pool teaches, and nothing is verified."),
]
Pools = Annotated[
    list[str] | None,
    typer.Option(
        "--pool",
        metavar="DATA",
        help="Unlabelled images or texts that teach: folder:PATH, csv:FILE, …; may be given several times.",
    ),
]
LabelMapFile = Annotated[
    str | None,
    typer.Option(
        "--label-map",
        metavar="FILE",
        help="Where classes of a model with others belong: csv or YAML; propose:FILE.csv writes one to look at.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output, nothing else.")]
StoreFolder = Annotated[Path | None, typer.Option("--store", help="Folder for stored answers of models.")]
Seed = Annotated[int, typer.Option(help="Of the order of samples.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, … or auto.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a run of another configuration.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress.")]
Trust = Annotated[
    bool,
    typer.Option("--trust", help="Run code of others: in saved students (run:), TorchScript and torch.export files."),
]
UnreadStore = Annotated[Path | None, typer.Option("--store", help="Taken, as everywhere; no answer is read.")]
UnusedDevice = Annotated[str, typer.Option("--device", help="Taken, as everywhere; no model is loaded.")]
NoProgress = Annotated[bool, typer.Option("--quiet", help="Taken; there is no progress to show.")]


class Where(StrEnum):
    """Where the jobs of a sweep run."""

    local = "local"
    ray = "ray"
