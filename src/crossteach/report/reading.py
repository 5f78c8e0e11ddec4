"""Reads run folders for a report: only their files, checked before anything is drawn."""

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import RunFolderError, first_line
from ..files import PICTURES, picture_uri

Kind = Literal["scout", "transfer", "sweep"]
DONE: dict[Kind, str] = {"transfer": "summary.json", "scout": "scout.json", "sweep": "sweep.json"}
EXPECTED = "expected the --out folder of crossteach scout, crossteach transfer or crossteach sweep"
REMADE = ("jobs.json", "plan.yaml", "results.parquet", "sweep.json")
"""What a sweep writes anew whenever it is run: `--overwrite` would run its jobs again too."""

CONTROL = re.compile(r"(?<!\\)((?:\\\\)*)\\u00(?:0[0-8bcef]|1[0-9a-f])")
"""An escaped control character in JSON: no XML and no HTML may hold one."""
UNPRINTABLE = dict.fromkeys([*range(9), 11, 12, *range(14, 32), 0xFFFE, 0xFFFF, *range(0xD800, 0xE000)], "\ufffd")


@dataclass(frozen=True)
class Run:
    """A run folder whose run has ended."""

    path: Path
    kind: Kind
    summary: dict[str, Any]
    """Content of `summary.json`, `scout.json` or `sweep.json`."""
    config: dict[str, Any]
    """Content of `config.json`; empty where there is none."""

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.path.resolve().name

    @property
    def files(self) -> list[str]:
        """What the run has written; not what a report adds."""
        ours = {"report.html", "figures", "tables"}
        return sorted(clean(p.name) for p in self.path.iterdir() if not p.name.startswith(".") and p.name not in ours)

    def json(self, name: str) -> Any:
        """Read a JSON file of the folder; None where there is none."""
        path = self.path / name
        return read_json(path) if path.is_file() else None

    def lines(self, name: str) -> list[dict[str, Any]]:
        """Read a file of one JSON object a line; empty where there is none."""
        path = self.path / name
        if not path.is_file():
            return []
        try:
            records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        except (OSError, ValueError) as error:
            raise damaged(path, first_line(error)) from error
        if not all(isinstance(record, dict) for record in records):
            raise damaged(path, "a line is not an object")
        return records

    def columns(
        self, name: str, required: tuple[str, ...], optional: tuple[str, ...] = (), words: tuple[str, ...] = ()
    ) -> dict[str, np.ndarray] | None:
        """Read a parquet file of the folder as columns; None where there is none.

        Args:
            name: The file.
            required: Columns of numbers that it must have.
            optional: Columns of numbers that may have gaps: NaN there.
            words: Columns of words that may have gaps: None there.
        """
        path = self.path / name
        if not path.is_file():
            return None
        try:
            with path.open("rb") as file:  # by its path, pyarrow opens no name that is not UTF-8
                table = pq.read_table(file)
        except (OSError, pa.ArrowException) as error:
            raise damaged(path, first_line(error)) from error
        columns = {key: table[key].to_numpy(zero_copy_only=False) for key in table.column_names}
        for key in (*required, *optional, *words):
            if key not in columns:
                raise damaged(path, f"it has no column {key!r}")
        for key in (*required, *optional):
            if not np.issubdtype(columns[key].dtype, np.number):
                raise damaged(path, f"its column {key!r} does not hold numbers alone")
        for key in required:
            if not np.isfinite(columns[key]).all():
                raise damaged(path, f"its column {key!r} does not hold numbers alone")
        for key in optional:
            columns[key] = np.where(np.isfinite(columns[key]), columns[key], np.nan)
        for key in words:
            if not pa.types.is_string(table.schema.field(key).type):
                raise damaged(path, f"its column {key!r} does not hold words")
            columns[key] = np.array([None if word is None else clean(word) for word in columns[key]], object)
        return columns

    def picture(self, name: str) -> str | None:
        """Return a picture as a data URI; None where the folder does not hold it."""
        path = self.path / name
        inside = path.resolve().is_relative_to(self.path.resolve())
        if not inside or path.suffix not in PICTURES or not path.is_file():
            return None
        return picture_uri(path)


def open_folder(path: Path) -> Run:
    """Open a folder in which a scout, a transfer or a sweep has ended.

    Raises:
        RunFolderError: If there is no folder, no run in it, or a run that is not whole.
    """
    if not path.is_dir():
        what = "is a file" if path.exists() else "does not exist"
        raise RunFolderError(f"{path} {what}; {EXPECTED}")
    config = read_json(path / "config.json") if (path / "config.json").is_file() else {}
    if not isinstance(config, dict):
        raise damaged(path / "config.json", "it is not an object")
    for kind, name in DONE.items():
        if (path / name).is_file():
            summary = read_json(path / name)
            if not isinstance(summary, dict):
                raise damaged(path / name, "it is not an object")
            return Run(path, kind, summary, config)
    if config:
        wanted = DONE.get(config.get("command", "transfer"), "summary.json")
        raise RunFolderError(
            f"{path} holds a run that is not at its end (no {wanted}); "
            "run its command again, it goes on where it stopped"
        )
    if (path / "jobs.json").is_file():
        raise RunFolderError(
            f"{path} holds a sweep that is not at its end (no sweep.json); run its command again "
            f"(crossteach sweep PLAN.yaml {shlex.join(['--out', str(path)])}), it goes on where it stopped; with "
            "--status it tells where it stands"
        )
    inside = sorted(p.name for p in path.iterdir() if not p.name.startswith("."))
    raise RunFolderError(f"{path} holds no run ({inside[0] if inside else 'it is empty'}); {EXPECTED}")


def read_json(path: Path) -> Any:
    """Read a JSON file; characters that no page may hold become U+FFFD.

    Raises:
        RunFolderError: If it cannot be read.
    """
    try:
        text = CONTROL.sub(r"\1\\ufffd", path.read_text(encoding="utf-8"))
        return json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise damaged(path, first_line(error)) from error


def damaged(path: Path, why: str) -> RunFolderError:
    """Return the error for a file that is there and cannot be used."""
    if path.name in REMADE:
        return RunFolderError(
            f"{path} cannot be read ({why}); run its sweep again: it writes this file anew and keeps its jobs"
        )
    return RunFolderError(f"{path} cannot be read ({why}); run the command of this folder again with --overwrite")


def clean(text: object) -> str:
    """Return a name without the characters that no page may hold."""
    return str(text).translate(UNPRINTABLE)


def require(content: dict[str, Any], path: Path, **types: type | tuple[type, ...]) -> None:
    """Check that a document has these keys with values of these types.

    Raises:
        RunFolderError: If one is missing or of another type.
    """
    for key, wanted in types.items():
        if key not in content:
            raise damaged(path, f"it has no {key!r}")
        value = content[key]
        if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
            raise damaged(path, f"its {key!r} is {str(value)[:40]!r}")
