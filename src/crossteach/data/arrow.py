"""Pictures in the cells of an Arrow table, as the `datasets` library keeps them."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.compute
from jaxtyping import Int

from ..errors import DataError
from .encoded import PictureFiles
from .look import shown


class ArrowPictures:
    """Encoded pictures in a column: bytes, or structs of `bytes` and `path`, of which one may be absent.

    The column may lie in a file that is mapped to memory: what is not read is not loaded.
    """

    def __init__(self, column: Any, what: str, rows: Int[np.ndarray, " N"] | None = None) -> None:
        """Take a column.

        Args:
            column: A chunked array of pyarrow.
            what: Names it in messages.
            rows: Which of its cells these are; None is all.

        Raises:
            DataError: If its cells can hold no pictures.
        """
        kind = column.type
        fields = {field.name for field in kind} if pyarrow.types.is_struct(kind) else set()
        binary = pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind)
        if not binary and not {"bytes", "path"} & fields:
            raise DataError(f"{what} must hold encoded pictures, not {kind}; name the column of pictures by ?image=")
        self._column, self._what = column, what
        self._rows = np.arange(len(column)) if rows is None else rows
        self._bytes = column if binary else _field(column, "bytes") if "bytes" in fields else None
        self._paths = _field(column, "path") if "path" in fields else None

    def __len__(self) -> int:
        return len(self._rows)

    def sizes(self) -> Int[np.ndarray, " N"]:
        """Bytes of each picture; `ABSENT` where there is none."""
        known = np.full(len(self._column), -1, np.int64)
        if self._bytes is not None:
            lengths = pyarrow.compute.binary_length(self._bytes)
            known = pyarrow.compute.fill_null(lengths, -1).to_numpy().astype(np.int64)
        sizes = known[self._rows]
        for row in np.flatnonzero(sizes < 0).tolist():
            if (file := self._file(row)) is not None:
                sizes[row] = file.sizes()[0]
        return sizes

    def read(self, row: int) -> bytes:
        """Read one picture."""
        return self._read(row, None)

    def tail(self, row: int, count: int) -> bytes:
        """Read the end of one picture."""
        return self._read(row, count)

    def name(self, row: int) -> str:
        """Return the path of one picture, else its row."""
        path = self._path(row)
        return f"row {int(self._rows[row])} of {self._what}{f' ({shown(path)})' if path else ''}"

    def take(self, rows: Int[np.ndarray, " n"]) -> "ArrowPictures":
        """Return some of the pictures."""
        return ArrowPictures(self._column, self._what, self._rows[rows])

    def _read(self, row: int, count: int | None) -> bytes:
        cell = None if self._bytes is None else self._bytes[int(self._rows[row])]
        if cell is not None and cell.is_valid:
            content = cell.as_buffer()
            start = 0 if count is None else max(0, content.size - count)
            return bytes(content.slice(start))
        if (file := self._file(row)) is None:
            raise FileNotFoundError("the cell is empty")
        return file.read(0) if count is None else file.tail(0, count)

    def _path(self, row: int) -> str | None:
        return None if self._paths is None else self._paths[int(self._rows[row])].as_py()

    def _file(self, row: int) -> PictureFiles | None:
        """Return the file that a cell without bytes names."""
        path = self._path(row)
        return PictureFiles([Path(path)]) if path else None


def _field(column: Any, name: str) -> Any:
    return pyarrow.compute.struct_field(column, name)
