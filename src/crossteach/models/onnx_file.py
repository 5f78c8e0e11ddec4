"""An ONNX file on disk: opened without running anything of it, hashed with the files beside it, and its names read.

A file holds a graph of known operators and numbers; nothing of it is run as code. Libraries of operators of its own
are never loaded, and files in which it keeps weights must lie beside it.
"""

import ast
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import MissingExtraError, WeightsError, first_line
from ..specs import HINT, Spec
from .black_box import hash_of

FLOATS = ("FLOAT", "FLOAT16", "BFLOAT16", "DOUBLE")
"""Types of tensors that count as parameters."""
NAMES = ("names", "classes", "class_names", "labels")
"""Keys of a file's metadata under which exporters keep the names of the classes."""
MOST_TEXT = 1 << 20
"""Characters of such an entry that are read."""
CODES = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ")
"""What stands before all that onnxruntime says."""
SAID = 200
"""Characters of it that a message shows."""


class Session:
    """Onnxruntime's session of a file, with as many threads as torch has now: bits may depend on their number."""

    def __init__(self, path: Path) -> None:
        self._path, self._threads = path, 0
        self.current  # noqa: B018  a file that cannot be opened is refused at once

    @property
    def current(self) -> Any:
        """The session."""
        if self._threads != torch.get_num_threads():
            self._threads = torch.get_num_threads()
            self._opened = self._open()
        return self._opened

    def _open(self) -> Any:
        import onnxruntime

        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads, settings.inter_op_num_threads = self._threads, 1
        settings.use_deterministic_compute = True
        settings.log_severity_level = 4  # what goes wrong is raised, and said in one line
        try:
            providers = ["CPUExecutionProvider"]
            return onnxruntime.InferenceSession(self._path, settings, providers=providers, enable_fallback=0)
        except UnicodeDecodeError:
            raise
        except Exception as error:  # onnxruntime's errors have no common base
            raise WeightsError(f"onnxruntime cannot open {self._path} ({reason(error)})") from error


@dataclass(frozen=True)
class OnnxFile:
    """A file that has been opened."""

    session: Session
    graph: Any
    """Its operators and weights, but for those in files beside it."""
    hash: str
    """Of all its files."""
    n_bytes: int

    @property
    def n_parameters(self) -> int:
        """How many numbers its graph holds: what was trained, and what an exporter has made of it."""
        from onnx import TensorProto

        floats = [TensorProto.DataType.Value(name) for name in FLOATS]
        kept = [tensor.dims for tensor in self.graph.initializer if tensor.data_type in floats]
        return sum(int(np.prod(dims, dtype=np.int64)) for dims in kept)

    def class_names(self) -> tuple[str, tuple[str, ...]]:
        """Return names from its metadata, and the key under which they stand; none where there is no such entry."""
        for key, text in self.session.current.get_modelmeta().custom_metadata_map.items():
            if key.lower() in NAMES:
                return key, _read_names(text)
        return "", ()


def open_onnx(spec: Spec) -> OnnxFile:
    """Read a file, see that it names no file elsewhere, and let onnxruntime open it.

    Raises:
        WeightsError: If it is missing, damaged, needs operators that onnxruntime has not, or names files elsewhere.
        MissingExtraError: If onnx or onnxruntime is not installed.
    """
    try:
        import onnx
        import onnxruntime  # noqa: F401
    except ImportError:
        raise MissingExtraError(f"{spec.text!r} needs onnx and onnxruntime; pip install 'crossteach[onnx]'") from None
    path = spec.path
    if not path.is_file():
        raise WeightsError(f"no file {path}; expected an ONNX model, as onnx:model.onnx ({HINT})")
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's errors have no common base
        raise WeightsError(f"{path} is not a whole ONNX file ({first_line(error)})") from error
    files = [path, *sorted(set(_files_of(model, path)))]
    return OnnxFile(Session(path), model.graph, hash_of(files), sum(file.stat().st_size for file in files))


def _files_of(model: Any, path: Path) -> Iterator[Path]:
    """Name the files in which a model keeps tensors; each must lie beside it."""
    for tensor in _all_tensors([model.graph, *model.functions]):
        for place in [entry.value for entry in tensor.external_data if entry.key == "location"]:
            if Path(place).name != place:
                raise WeightsError(f"{path} keeps weights in {place!r}; expected the name of a file beside it")
            if not (path.parent / place).is_file():
                raise WeightsError(f"{path} keeps weights in {place!r}, which is not beside it; put it there")
            yield path.parent / place


def _all_tensors(graphs: Sequence[Any]) -> Iterator[Any]:
    """Go through all tensors of graphs and functions, and of the graphs in their nodes."""
    for graph in graphs:
        yield from getattr(graph, "initializer", ())
        for sparse in getattr(graph, "sparse_initializer", ()):
            yield from (sparse.values, sparse.indices)
        for node in graph.node:
            for attribute in node.attribute:
                yield from (attribute.t, *attribute.tensors)
                yield from _all_tensors([attribute.g, *attribute.graphs])


def reason(error: BaseException) -> str:
    """Return what onnxruntime says, in one line and without its own codes."""
    return CODES.sub("", " ".join(str(error).split()))[:SAID] or first_line(error)


def _read_names(text: str) -> tuple[str, ...]:
    """Read names as a list or a mapping from ids, in JSON or Python's notation, or parted by line ends or commas."""
    found: Any = None
    for read in (json.loads, ast.literal_eval):
        with suppress(ValueError, SyntaxError, RecursionError, MemoryError):
            found = read(text[:MOST_TEXT])
            break
    if isinstance(found, Mapping):
        with suppress(ValueError, TypeError):
            return tuple(str(found[key]) for key in sorted(found, key=int))
        return ()
    if isinstance(found, list | tuple):
        return tuple(map(str, found))
    return tuple(part.strip() for part in text.split("\n" if "\n" in text.strip() else ",") if part.strip())
