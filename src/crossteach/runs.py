"""A run folder: the configuration, the record and the results of one run.

`config.json`, `metrics.jsonl`, `summary.json`, `samples.parquet`, `classes.parquet`, `pictures.json` with `pictures/`,
`student/`, and while it runs `checkpoint.pt`; where nothing could be verified also `original/` and `candidate/`. A
verification adds `ask.html`, `ask.csv` and `verify.json`, a report `report.html`, `figures/` and `tables/`. A scout of
samples without labels has `questions.csv` and their pictures, in `pool-1/` and so on. A folder is whole once
`summary.json` (of a scout: `scout.json`) is in it; that file is written last.
"""

import io
import json
import pickle
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from .config import PROCEDURE
from .errors import RunFolderError, first_line
from .files import holding, to_utf8, write_bytes, write_json, writing
from .labels_file import ASK, QUESTIONS, require_unfilled

OURS = {
    *("config.json", "metrics.jsonl", "summary.json", "samples.parquet", "student", "checkpoint.pt", "scout.json"),
    *("classes.parquet", "pictures.json", "pictures", "report.html", "figures", "tables"),
    *("original", "candidate", "trained", "verify.json", "ask.html", ASK, QUESTIONS),
}
NUMBERED = re.compile(r"(lesson|pool)-\d+")
"""Folders that a run may have several of."""


class RunFolder:
    """The folder of one run: what it writes, resumes from and is read from."""

    def __init__(self, path: Path, done: str = "summary.json", config: Mapping[str, Any] | None = None) -> None:
        """Take the folder, the file whose presence makes it whole, and the configuration it must hold."""
        self.path, self._done, self._config = path, done, config

    @contextmanager
    def working(self) -> Iterator["RunFolder"]:
        """Keep other processes from filling the folder while the block runs.

        A whole folder is only read, so nothing is locked then. Another process may finish the run before the lock is
        free: ask `is_whole` inside the block.

        Raises:
            FolderInUseError: If another process fills the folder.
            RunFolderError: If another process has emptied it for another configuration.

        Example:
            ```python
            with open_run(path, config).working() as run:
                if not run.is_whole:
                    run.finish(compute())
                return run.summary()
            ```
        """
        if self.is_whole:
            yield self
            return
        with holding(self.path):
            kept = self.path / "config.json"
            if self._config is not None and (not kept.is_file() or read_json(kept) != self._config):
                raise RunFolderError(f"another command has just begun another run in {self.path}; choose another --out")
            yield self

    @property
    def is_whole(self) -> bool:
        """Whether the run came to its end."""
        return (self.path / self._done).is_file()

    def summary(self) -> dict[str, Any]:
        """Read what a whole run found."""
        content: dict[str, Any] = read_json(self.path / self._done)
        return content

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Write the summary: the run is whole."""
        write_json(self.path / self._done, summary)
        (self.path / "checkpoint.pt").unlink(missing_ok=True)

    def write_metrics(self, records: list[dict[str, Any]]) -> None:
        """Write one line for each epoch."""
        lines = "".join(json.dumps(record, allow_nan=False) + "\n" for record in records)
        write_bytes(self.path / "metrics.jsonl", lines.encode())

    def write_samples(self, columns: Mapping[str, np.ndarray]) -> None:
        """Write the ledger: one row for each test sample."""
        self.write_table("samples.parquet", columns)

    def write_table(self, name: str, columns: Mapping[str, np.ndarray]) -> None:
        """Write columns of equal length as a parquet file."""
        buffer = io.BytesIO()
        pq.write_table(
            pa.table({key: _encodable(values) for key, values in columns.items()}), buffer, compression="zstd"
        )
        write_bytes(self.path / name, buffer.getvalue())

    def save_checkpoint(self, state: Mapping[str, Any]) -> None:
        """Keep everything that an interrupted run needs to go on."""
        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        write_bytes(self.path / "checkpoint.pt", buffer.getvalue())

    def load_checkpoint(self) -> dict[str, Any] | None:
        """Return the last checkpoint, if there is one.

        Raises:
            RunFolderError: If it is damaged.
        """
        path = self.path / "checkpoint.pt"
        if not path.is_file():
            return None
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
            raise RunFolderError(f"{path} is damaged; delete it to start this run anew, or pass --overwrite") from error
        return state


def open_run(path: Path, config: Mapping[str, Any], overwrite: bool = False, done: str = "summary.json") -> RunFolder:
    """Open a new folder, or one that the same command has used before.

    Args:
        path: The folder.
        config: Everything the result depends on. It is kept and compared, with the number of the procedure: results
            of another version of crossteach are not served as those of this one.
        overwrite: Whether to empty a folder that another configuration has used.
        done: The file whose presence makes the folder whole.

    Raises:
        RunFolderError: If another configuration, or something else than a run, is in the folder; or labels of a person,
            where it would have to be emptied.
        FolderInUseError: If another process fills the folder, and it would have to be emptied.
    """
    wanted = json.loads(json.dumps({"procedure": PROCEDURE, **config}))
    if path.exists() and not path.is_dir():
        raise RunFolderError(f"{path} is a file; --out needs a folder")
    folder = RunFolder(path, done, wanted)
    if not _can_go_on(folder, wanted, overwrite):
        with holding(path):
            if not _can_go_on(folder, wanted, overwrite):  # another process may have begun the same run meanwhile
                _empty(path, done)
                write_json(path / "config.json", wanted)
    return folder


def _can_go_on(folder: RunFolder, wanted: Mapping[str, Any], overwrite: bool) -> bool:
    """Return whether the folder holds this run already; False where it is to be emptied and begun.

    Raises:
        RunFolderError: If it holds something else that may not be removed.
    """
    path, known = folder.path, folder.path / "config.json"
    if known.is_file():
        kept = read_json(known)
        if kept == wanted and (folder.is_whole or not overwrite):
            return True
        if not overwrite:
            raise RunFolderError(
                f"{path} holds a run of {_other_configuration(kept, wanted)}; choose another --out, or pass --overwrite"
            )
    elif path.is_dir():
        foreign = sorted(p.name for p in path.iterdir() if not p.name.startswith("."))
        if foreign:
            raise RunFolderError(f"{path} holds other files ({foreign[0]}); choose a new or empty folder for --out")
    return False


def _other_configuration(kept: Any, wanted: Mapping[str, Any]) -> str:
    if isinstance(kept, dict) and kept.get("procedure") != wanted["procedure"]:
        before = _short(kept.get("procedure"))
        return f"another version of crossteach (its procedure was {before}, is {wanted['procedure']})"
    return f"another configuration ({first_difference(kept, wanted)})"


def _empty(path: Path, done: str) -> None:
    """Remove what a run has written, and nothing else; the summary first, so that a half-empty folder is not whole.

    Raises:
        RunFolderError: If a person's labels would go with it; nothing is removed then.
    """
    written = [path / name for name in OURS] + [found for found in path.iterdir() if NUMBERED.fullmatch(found.name)]
    require_unfilled(written)
    with writing(path):
        (path / done).unlink(missing_ok=True)
        for inside in written:
            if inside.is_dir():
                shutil.rmtree(inside)
            else:
                inside.unlink(missing_ok=True)


def read_json(path: Path) -> Any:
    """Read a JSON file of a run folder; raise RunFolderError if it cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunFolderError(f"{path} cannot be read ({first_line(error)}); choose another --out") from error


def first_difference(kept: Any, wanted: Any, where: str = "") -> str:
    """Name the first setting in which two configurations differ."""
    if isinstance(kept, dict) and isinstance(wanted, dict):
        for key in sorted({*kept, *wanted}):
            if kept.get(key) != wanted.get(key):
                return first_difference(kept.get(key), wanted.get(key), f"{where}.{key}".lstrip("."))
    return f"{where or 'config'} was {_short(kept)}, is {_short(wanted)}"


def _encodable(values: np.ndarray) -> np.ndarray:
    """Escape what is no UTF-8 in a column of texts: names may come from file names."""
    if values.dtype.kind not in "OU":
        return values
    texts = [to_utf8(v).decode() if isinstance(v, str) else v for v in values]
    return values if texts == values.tolist() else np.array(texts, dtype=object)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
