"""The folder of a sweep, and what another terminal can read there while it runs.

`plan.yaml` (a copy), `jobs.json` (every job of the plan), `jobs/` (a run folder each), `failed/` (why a job
failed), `progress.json` (what runs now), `results.parquet` (one row a whole job) and, last, `sweep.json`.
"""

import contextlib
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import RunFolderError, first_line
from ..files import holding, is_held, make_folder, require_free, write_bytes, write_json, writing
from ..labels_file import require_unfilled

OURS = ("plan.yaml", "jobs.json", "jobs", "failed", "progress.json", "results.parquet", "sweep.json")
ADVICE = "wait for its end (--status shows how far it is), or choose another --out"
ADDED = ("report.html", "figures", "tables")
"""What a report adds."""


@dataclass(frozen=True)
class SweepFolder:
    """The folder of a sweep: what it writes, resumes from and is read from."""

    path: Path

    def require_ours(self) -> None:
        """Raise RunFolderError if the folder holds something else than a sweep."""
        if self.path.exists() and not self.path.is_dir():
            raise RunFolderError(f"{self.path} is a file; --out needs a folder")
        if not self.path.is_dir() or (self.path / "plan.yaml").is_file():
            return
        foreign = sorted(p.name for p in self.path.iterdir() if not p.name.startswith("."))
        if foreign:
            raise RunFolderError(
                f"{self.path} holds other files ({foreign[0]}); choose a new or empty folder for --out"
            )

    def require_free(self) -> None:
        """Raise FolderInUseError if another sweep works on the folder."""
        require_free(self.path, ADVICE)

    def working(self) -> contextlib.AbstractContextManager[None]:
        """Keep other sweeps from working on the folder; see `files.holding`."""
        return holding(self.path, ADVICE)

    def begin(self, plan: str, jobs: Sequence[Mapping[str, Any]], overwrite: bool) -> None:
        """Write what is planned; with `overwrite` remove what the folder's last sweep has written."""
        if overwrite:
            self._empty()
        make_folder(self.path / "jobs")
        make_folder(self.path / "failed")
        write_bytes(self.path / "plan.yaml", plan.encode())
        write_json(self.path / "jobs.json", list(jobs))

    def _empty(self) -> None:
        written = [self.path / name for name in (*OURS, *ADDED)]
        require_unfilled(written)
        with writing(self.path):
            for inside in written:
                if inside.is_dir():
                    shutil.rmtree(inside)
                else:
                    inside.unlink(missing_ok=True)

    def job(self, name: str) -> Path:
        """Return the run folder of a job."""
        return self.path / "jobs" / name

    def is_whole(self, name: str) -> bool:
        """Tell whether a job came to its end."""
        return (self.job(name) / "summary.json").is_file()

    def summary(self, name: str) -> dict[str, Any]:
        """Read what a whole job found."""
        found: dict[str, Any] = _read(self.job(name) / "summary.json")
        return found

    def samples(self, name: str, columns: Sequence[str]) -> dict[str, np.ndarray]:
        """Read what a whole job gave each test sample: of these columns the ones that are there."""
        path = self.job(name) / "samples.parquet"
        try:
            with path.open("rb") as file:
                whole = pq.ParquetFile(file)
                table = whole.read([column for column in columns if column in whole.schema_arrow.names])
        except (OSError, pa.ArrowException) as error:
            raise _unreadable(path, error) from error
        return {column: table[column].to_numpy() for column in table.column_names}

    def others(self, names: Sequence[str]) -> int:
        """Count the job folders that are not of these."""
        folder = self.path / "jobs"
        return len({p.name for p in folder.iterdir()} - set(names)) if folder.is_dir() else 0

    def failure(self, name: str) -> dict[str, Any] | None:
        """Return why a job failed, if it did."""
        path = self.path / "failed" / f"{name}.json"
        return _read(path) if path.is_file() else None

    def record_failure(self, name: str, reason: str, trace: str, seconds: float) -> None:
        """Keep why a job failed."""
        failed = {"job": name, "reason": reason, "trace": trace, "seconds": round(seconds, 2)}
        write_json(self.path / "failed" / f"{name}.json", failed)

    def clear_failure(self, name: str) -> None:
        """Forget that a job failed."""
        with writing(self.path):
            (self.path / "failed" / f"{name}.json").unlink(missing_ok=True)

    def write_progress(self, progress: Mapping[str, Any]) -> None:
        """Say what runs now."""
        write_json(self.path / "progress.json", progress)

    def write_results(self, table: bytes) -> None:
        """Replace the table of results."""
        write_bytes(self.path / "results.parquet", table)

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Write `sweep.json`: nothing is left to run."""
        write_json(self.path / "sweep.json", summary)

    def reopen(self) -> None:
        """Remove `sweep.json`: there is something to run again."""
        with writing(self.path):
            (self.path / "sweep.json").unlink(missing_ok=True)


def sweep_status(out: str | Path) -> dict[str, Any]:
    """Read where a sweep stands, while it runs or after: from its folder only.

    Returns:
        `jobs`, `done`, `failed`, `running`, `waiting` (counts), `alive` (whether a process works on it), `stage`,
        `now` (what runs), `rate` (jobs a minute), `seconds_left`, `last_failure`.

    Raises:
        RunFolderError: If there is no sweep in the folder.
    """
    folder = SweepFolder(Path(out))
    listed = folder.path / "jobs.json"
    if not listed.is_file():
        raise RunFolderError(f"no sweep has begun in {out}; start it with  crossteach sweep PLAN.yaml --out {out}")
    names = [job["job"] for job in _read(listed)]
    done = {name for name in names if folder.is_whole(name)}
    alive = is_held(folder.path)
    known = folder.path / "progress.json"
    progress = _read(known) if known.is_file() else {}
    now = progress.get("now", []) if alive else []
    running = [name for name in now if name in names and name not in done]
    open_ = [name for name in names if name not in done and name not in running]  # a retried job keeps its record
    failures = [path for name in open_ if (path := folder.path / "failed" / f"{name}.json").is_file()]
    with contextlib.suppress(FileNotFoundError):  # a retried job takes its record with it
        failures.sort(key=lambda path: path.stat().st_mtime)
    return {
        "folder": str(out),
        "jobs": len(names),
        "done": len(done),
        "failed": len(failures),
        "running": len(running),
        "waiting": len(names) - len(done) - len(failures) - len(running),
        "alive": alive,
        "stage": progress.get("stage", "starting") if alive else "not running",
        "now": now,
        "rate": progress.get("rate") if alive else None,
        "seconds_left": _left(progress) if alive else None,
        "last_failure": _read(failures[-1]) if failures else None,
    }


def _left(progress: Mapping[str, Any]) -> float | None:
    """Return the seconds left now, from those that were left when it was told."""
    left = progress.get("seconds_left")
    return None if left is None else max(0.0, left - max(0.0, time.time() - progress["at"]))


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> RunFolderError:
    return RunFolderError(f"{path} cannot be read ({first_line(error)}); delete {path.parent} and run the sweep again")
