"""`run:FOLDER`: a student that crossteach saved."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from ..code import read_code
from ..errors import ModelError, SpecError
from ..specs import HINT, Spec
from ..types import Preprocess, TrainableClassifier
from . import clip, hf, py, timm, torchvision
from .checkpoints import read_weights
from .extra_state import read_extra_state, set_aside
from .inputs import find_inputs
from .named import is_plain
from .preprocess import FOREIGN, PREPROCESS_OPTIONS, read_preprocess, require_sound
from .saving import ARCHITECTURE, DESCRIPTION, TOKENIZER, WEIGHTS
from .torch_classifier import TorchClassifier
from .trust import require_trust
from .weights import fit_weights

BUILDERS: dict[str, Callable[[dict[str, Any], str], nn.Module]] = {
    "clip": clip.build,
    "hf": hf.build,
    "py": lambda architecture, text: py.build_whole(architecture, text)[0],
    "timm": timm.build,
    "torchvision": torchvision.build,
}
"""How each source builds an architecture again, with random weights."""


def load_run(spec: Spec, trust: bool = False) -> TorchClassifier:
    """Open a saved student by its spec; see `open_saved`."""
    spec.refuse_unknown(PREPROCESS_OPTIONS)
    opened = open_saved(spec.path, spec.text, trust)
    if not spec.options:
        return opened
    return _answering(replace(opened, preprocess=read_preprocess(spec, opened.preprocess)))


def open_saved(path: Path, text: str, trust: bool = False) -> TorchClassifier:
    """Open a saved student: a run folder, or the `student/` inside it.

    `model.json` may name an architecture of timm or torchvision, or a function of the `architecture.py` beside it.

    Args:
        path: The folder.
        text: What the student is called in messages.
        trust: Whether to run its code though this user has not saved it.

    Raises:
        ModelError: If the folder holds no saved student, or one whose architecture it does not hold.
        TrustError: If it holds code that is not known.
    """
    folder = student_folder(path)
    description = folder / DESCRIPTION
    if not description.is_file():
        raise ModelError(f"{path} holds no saved student (student/model.json); give the folder of a whole run ({HINT})")
    try:
        saved = _read(json.loads(description.read_text(encoding="utf-8")))
    except (OSError, *FOREIGN) as error:
        raise ModelError(f"{description} is damaged ({error!r}); save the student again") from error
    architecture, source = saved["architecture"], ""
    if architecture.get("source") == "py":
        architecture["where"], source = _own_code(folder, architecture, trust)
    if architecture.get("source") == "hf":
        architecture["where"] = str(folder / TOKENIZER)
    module = _build(architecture, folder, text)
    fit_weights(module, read_weights(folder / WEIGHTS) | read_extra_state(folder), text)
    set_aside(module, text)
    return _answering(TorchClassifier(**{**saved, "spec": text, "module": module, "source": source}))


def _answering(opened: TorchClassifier) -> TorchClassifier:
    """Return a saved student that answers what it is said to take: its description may be another model's."""
    shown, shape = opened.preprocess, opened.shape
    if shape is not None and shown.kind == "image":
        shown = replace(shown, size=shown.size or shape[1:], channels=shown.channels or shape[0])
    found = find_inputs(opened.module, shown, opened.spec).n_classes
    if found != opened.n_classes:
        raise ModelError(
            f"{opened.spec!r} answers {found} classes, but its {DESCRIPTION} says {opened.n_classes}; save it again"
        )
    return opened


def student_folder(path: Path) -> Path:
    """Return where a run keeps its student."""
    return path / "student" if (path / "student").is_dir() else path


def load_student(path: Path, student: TrainableClassifier) -> TrainableClassifier:
    """Copy a student and give the copy the weights that a run of it has saved; no code of the run is asked for.

    Raises:
        WeightsError: If the weights are missing, damaged or of another model.
    """
    copy = student.clone()
    fit_weights(copy.module, read_weights(student_folder(path) / WEIGHTS), str(path))
    return copy


def _read(saved: dict[str, Any]) -> dict[str, Any]:
    """Check what stands in `model.json`: it may come from anybody."""
    classes, shape, architecture = saved["classes"], saved.get("shape"), dict(saved["architecture"])
    words = [architecture[key] for key in ("source", "where", "factory", "name") if key in architecture]
    if not all(isinstance(word, str) for word in words) or not is_plain(
        [architecture.get(key) for key in ("arguments", "cfg")]
    ):
        raise TypeError("an architecture is described by words and plain values")
    if classes and len(classes) != int(saved["n_classes"]):
        raise ValueError(f"{len(classes)} names of classes for {saved['n_classes']} classes")
    given: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in saved["preprocess"].items()
    }
    return {
        "name": str(saved["name"]),
        "n_classes": int(saved["n_classes"]),
        "classes": tuple(map(str, classes)) if classes else None,
        "architecture": architecture,
        "shape": (int(shape[0]), int(shape[1]), int(shape[2])) if shape else None,
        "preprocess": require_sound(Preprocess(**given)),
    }


def _own_code(folder: Path, architecture: dict[str, Any], trust: bool) -> tuple[str, str]:
    """Return where the code of a saved student is, and its text, if it may run."""
    path = folder / ARCHITECTURE
    if not path.is_file():
        where, factory = architecture.get("where"), architecture.get("factory")
        raise ModelError(
            f"{folder} holds no {ARCHITECTURE}: its student was built by {factory!r} of {where!r}, which cannot be "
            f"copied alone; open it as py:{where}:{factory}@{folder / WEIGHTS}"
        )
    code = read_code(str(path), "the saved student", SpecError)
    require_trust(path, code.text, architecture, trust)
    return str(path), code.text


def _build(architecture: dict[str, Any], folder: Path, text: str) -> nn.Module:
    source = architecture.get("source")
    if source in (None, "module"):
        raise ModelError(
            f"{folder} holds weights of a module that its user built; build it again and load "
            f"{WEIGHTS} into it, as README.md there says, or name a factory as py:FILE.py:FACTORY@{WEIGHTS}"
        )
    if source == "timm" and timm.is_elsewhere(str(architecture.get("name"))):
        raise SpecError(
            f"timm has no model {architecture['name']!r}; {folder / DESCRIPTION} may name an architecture of timm's "
            "own, and no folder and no place on the hub"
        )
    if source in BUILDERS and (source == "py" or isinstance(architecture.get("name"), str)):
        try:
            return BUILDERS[source](architecture, text)
        except FOREIGN as error:
            raise ModelError(
                f"{folder / DESCRIPTION} does not say how its model is built ({error!r}); save the student again"
            ) from error
    raise ModelError(f"{folder / DESCRIPTION} names an architecture that is not known: {architecture}")
