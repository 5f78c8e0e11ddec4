"""`run:FOLDER`: a student that crossteach saved."""

import json
from pathlib import Path

from ..errors import ModelError
from ..specs import Spec
from ..types import Preprocess
from . import py, timm
from .torch_classifier import PREPROCESS_OPTIONS, TorchClassifier, read_preprocess, source_digest
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
        architecture = saved["architecture"]
        given = saved["preprocess"]
        preprocess = Preprocess(
            size=tuple(given["size"]) if given["size"] else None,
            channels=given["channels"],
            mean=tuple(given["mean"]),
            std=tuple(given["std"]),
            interpolation=given["interpolation"],
            crop=given["crop"],
        )
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ModelError(f"{description} is damaged ({error!r}); save the student again") from error
    module = (py if architecture["source"] == "py" else timm).build(architecture, spec.text)
    fit_weights(module, read_weights(folder / "model.safetensors"), spec.text)
    digest = source_digest(py.factory_of(architecture, spec.text)) if architecture["source"] == "py" else ""
    return TorchClassifier(
        spec=spec.text,
        name=saved["name"],
        module=module,
        preprocess=read_preprocess(spec, preprocess),
        n_classes=saved["n_classes"],
        architecture=architecture,
        classes=tuple(saved["classes"]) if saved["classes"] else None,
        source_digest=digest,
    )
