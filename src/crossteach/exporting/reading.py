"""Reads what a finished transfer tells of its student: for the model card, and for what may be exported."""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from ..errors import RunFolderError, first_line
from ..files import is_held
from ..runs import read_json
from ..settings import changed

FOLDERS = re.compile(r"(?<=[:@])(?:~|\.{1,2})?/(?:[^@?]*/)?(?=[^/@?])|(?<==)(?:~|\.{1,2})?/(?:[^@?&]*/)?(?=[^/@?&])")
"""The folders before the name of a file or folder in a spec, where they begin at the root, at home or here."""


@dataclass(frozen=True)
class Figures:
    """What was measured on test samples that have labels; shares in %, differences in points."""

    before: float
    after: float
    teachers: tuple[float, ...]
    delta: float
    interval: tuple[float, float]
    gain: float
    loss: float


@dataclass(frozen=True)
class Story:
    """A transfer as its folder tells it. Names and specs may hold anything: they are escaped where they are shown."""

    student: str
    spec: str
    teachers: tuple[tuple[str, str], ...]
    """Name and spec of each."""
    method: str
    data: str | None
    label_map: str | None
    """The file that told where the classes of teachers belong."""
    pools: tuple[str, ...]
    pool_samples: int
    """Unlabelled samples that taught."""
    n_test: int
    changed: float
    """Share of the test samples that are answered otherwise, in %."""
    figures: Figures | None
    verdict: str
    alpha: float
    answered: int
    """Labels that a person gave in a verification."""
    verified: tuple[float, float, float] | None
    """Change and its 95% interval, in points, by the labels of a verification."""
    settings: dict[str, Any]
    """Those that differ from the defaults."""
    fingerprints: dict[str, str]
    classes: tuple[str, ...]

    @property
    def kept(self) -> bool:
        """Whether the original weights were returned."""
        return self.verdict == "kept_original" or self.alpha == 0


def read_story(run: Path) -> Story:
    """Read the folder of a finished transfer.

    Raises:
        RunFolderError: If there is none, it is not whole, its training diverged, or its files are damaged.
    """
    if not (run / "summary.json").is_file():
        raise RunFolderError(_why_not(run))
    summary, config = read_json(run / "summary.json"), read_json(run / "config.json")
    verification = read_json(run / "verify.json") if (run / "verify.json").is_file() else {}
    try:
        names = pq.read_table(run / "classes.parquet", columns=["name"])["name"].to_pylist()
        story = _told(summary, config, verification, tuple(map(str, names)))
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunFolderError(f"{run} is damaged ({first_line(error)}); run its command again, elsewhere") from error
    if story.verdict == "diverged":
        raise RunFolderError(f"the training of {run} diverged, so there is no taught student; transfer again")
    return story


def _why_not(run: Path) -> str:
    wanted = "give the --out folder of a transfer"
    if not run.is_dir():
        return f"there is no folder {run}; {wanted}"
    if is_held(run) or (run / "checkpoint.pt").is_file():
        return f"the transfer of {run} is not at its end (no summary.json); run its command again, it goes on"
    if (run / "scout.json").is_file() or (run / "sweep.json").is_file():
        return f"{run} is no transfer but a scout or a sweep; {wanted} (of a sweep, one of jobs/)"
    return f"{run} holds no finished transfer (no summary.json); {wanted}, or run its command again"


def _told(
    summary: Mapping[str, Any], config: Mapping[str, Any], verification: Mapping[str, Any], classes: tuple[str, ...]
) -> Story:
    gate, pool, prints = summary["gate"], summary["pool"], summary["fingerprints"]
    verified = bool(verification.get("answered"))
    verdict = verification["verdict"] if verified else gate["verdict"]
    teachers = zip(summary["teachers"], (each["spec"] for each in config["teachers"]), strict=True)
    teacher_prints = {f"teacher {number}": str(each) for number, each in enumerate(prints["teachers"], 1)}
    return Story(
        student=str(summary["student"]),
        spec=str(config["student"]["spec"]),
        teachers=tuple((str(name), str(spec)) for name, spec in teachers),
        method=str(summary["method"]),
        data=config["data"]["spec"],
        label_map=next((str(each["label_map"]) for each in config["teachers"] if "label_map" in each), None),
        pools=tuple(map(str, config.get("pools", ()))),
        pool_samples=int(pool["used"]) if pool else 0,
        n_test=int(summary["n_test"]),
        changed=float(summary["changed"]),
        figures=_figures(summary) if summary["accuracy_before"] is not None else None,
        verdict=str(verdict),
        alpha=0.0
        if verdict == "kept_original"
        else 1.0
        if verified and verdict == "accepted"
        else float(gate["alpha"]),
        answered=int(verification["answered"]) if verified else 0,
        verified=_verified(verification) if verified else None,
        settings=changed(config["config"]),
        fingerprints={"student before": str(prints["student"]), **teacher_prints, "data": str(prints["data"])},
        classes=classes,
    )


def _verified(verification: Mapping[str, Any]) -> tuple[float, float, float]:
    low, high = verification["interval"]
    return float(verification["delta"]), float(low), float(high)


def _figures(summary: Mapping[str, Any]) -> Figures:
    low, high = summary["interval"]
    given = summary["teacher_accuracy"]
    teachers = given if isinstance(given, list) else [] if given is None else [given]
    return Figures(
        before=float(summary["accuracy_before"]),
        after=float(summary["accuracy_after"]),
        teachers=tuple(map(float, teachers)),
        delta=float(summary["transfer_delta"]),
        interval=(float(low), float(high)),
        gain=float(summary["knowledge_gain"]),
        loss=float(summary["knowledge_loss"]),
    )


def without_folders(spec: str) -> str:
    """Return a spec as others may see it: of a path on this machine the last part is left.

    Example:
        >>> without_folders("py:/home/me/zoo.py:small@../runs/a.safetensors?size=8"), without_folders("hf:ORG/NAME")
        ('py:zoo.py:small@a.safetensors?size=8', 'hf:ORG/NAME')
        >>> without_folders("clip:ViT-B-32/openai?classes=/home/me/names.txt&prompts=../mine/p.txt")
        'clip:ViT-B-32/openai?classes=names.txt&prompts=p.txt'
    """
    return FOLDERS.sub("", spec)


def command(story: Story, run: Path) -> str:
    """Return the command that made the run, with every setting that is not a default, and no folder of this machine."""
    words = ["crossteach", "transfer", "--student", without_folders(story.spec)]
    for _, spec in story.teachers:
        words += ["--teacher", without_folders(spec)]
    words += ["--data", without_folders(story.data)] if story.data else []
    for pool in story.pools:
        words += ["--pool", without_folders(pool)]
    words += ["--label-map", Path(story.label_map).name] if story.label_map else []
    settings = {"method": story.method, **{key: value for key, value in story.settings.items() if key != "method"}}
    for key, value in settings.items():
        words += ["--set", f"{key}={_written(value)}"]
    return shlex.join([*words, "--out", run.resolve().name])


def _written(value: Any) -> str:
    """Write a value as `--set` reads it."""
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)
