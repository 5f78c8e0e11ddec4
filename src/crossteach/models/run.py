"""`run:FOLDER`: a student that crossteach saved."""

import json
from pathlib import Path

from ..errors import ModelError
from ..specs import Spec
from ..types import Preprocess
from . import py, timm
from .preprocess import PREPROCESS_OPTIONS, read_preprocess
from .torch_classifier import ARCHITECTURE, TorchClassifier, source_of
from .weights import fit_weights, read_weights


def load_run(spec: Spec) -> TorchClassifier:
    """Open a saved student: a run folder, or the `student/` inside it.

    Raises:
        ModelError: If the folder holds no saved student.
    """
    spec.refuse_unknown(PREPROCESS_OPTIONS)
    folder = Path(spec.rest)
    folder = folder / "student" if (folder / "student").is_dir() else folder
    description = folder / "model.json"
    if not description.is_file():
        raise ModelError(f"{spec.rest} holds no saved student (student/model.json); give the folder of a whole run")
    try:
        saved = json.loads(description.read_text(encoding="utf-8"))
        architecture, given = saved["architecture"], saved["preprocess"]
        size, classes = given["size"], saved["classes"]
        preprocess = Preprocess(
            size=tuple(size) if size else None,
            channels=given["channels"],
            mean=tuple(given["mean"]),
            std=tuple(given["std"]),
            interpolation=given["interpolation"],
            crop=given["crop"],
            crop_mode=given.get("crop_mode", "center"),
        )
        name, n_classes, from_python = saved["name"], saved["n_classes"], architecture["source"] == "py"
        names = tuple(classes) if classes else None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{description} is damaged ({error!r}); save the student again") from error
    if from_python and (folder / ARCHITECTURE).is_file():
        architecture = {**architecture, "where": str(folder / ARCHITECTURE)}
    module = (py if from_python else timm).build(architecture, spec.text)
    fit_weights(module, read_weights(folder / "model.safetensors"), spec.text)
    return TorchClassifier(
        spec=spec.text,
        name=name,
        module=module,
        preprocess=read_preprocess(spec, preprocess),
        n_classes=n_classes,
        architecture=architecture,
        classes=names,
        source=source_of(py.factory_of(architecture, spec.text)) if from_python else "",
    )
