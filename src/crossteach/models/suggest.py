"""What a user may have meant by a model spec that is none."""

import json
import re
from collections.abc import Collection
from importlib.util import find_spec
from pathlib import Path
from zipfile import ZipFile, is_zipfile

from ..runs import RunFolder
from ..specs import Spec, names_repository, nearest
from .py import demo_models

WEIGHTS = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".tar")
WHOLE = {".onnx": "onnx", ".pt2": "export", ".torchscript": "torchscript"}
"""What files with these endings are opened as: they hold their architecture."""
ANSWERS = (".csv", ".tsv", ".parquet", ".npz")
"""Tables, which hold what a model said."""
CLIP = re.compile(r"(ViT|RN\d|EVA0|MobileCLIP|PE-|coca_|nllb-|convnext_|roberta-|xlm-)[\w-]*/[a-z\d_]+")
"""NAME/PRETRAINED as open_clip has them."""


def suggest_model(spec: Spec, schemes: Collection[str]) -> str:
    """Say which spec was probably meant, as the end of a message; else which there are.

    Example:
        >>> from crossteach.specs import parse_spec
        >>> suggest_model(parse_spec("tim:resnet18"), ["py", "timm"])
        'did you mean timm:resnet18?'
    """
    whole = spec.named
    if meant := _meant(spec, whole, schemes):
        return spec.instead(*meant)
    if Path(whole).suffix.lower() in WEIGHTS:
        hint = f", but for a TorchScript archive: torchscript:{whole}" if _is_script(whole) else ""
        return f"weights need their architecture: timm:NAME@{whole}, or py:FILE.py:FACTORY@{whole}{hint}"
    known = ", ".join(f"{name}:" for name in sorted(schemes))
    return f"expected one of {known} as in timm:resnet18"


def _meant(spec: Spec, whole: str, schemes: Collection[str]) -> list[str]:
    """Return the specs that were probably meant, the likeliest first."""
    if names_repository(whole) and Path(whole).suffix.lower() not in {*WEIGHTS, *WHOLE, *ANSWERS}:
        return _of_hub(whole)
    meant = _as_named(spec, whole, schemes) or _of_folder(Path(whole)) if whole else None
    return [meant] if meant else []


def _as_named(spec: Spec, whole: str, schemes: Collection[str]) -> str | None:
    near = nearest(spec.scheme, schemes)
    if near and spec.rest:
        return f"{near}:{whole.partition(':')[2]}"
    if spec.rest and spec.scheme in ("hf-hub", "local-dir"):
        return f"{'clip' if _is_clip(spec.rest) else 'timm'}:{whole}"
    if spec.scheme.endswith(".py") or (spec.rest and "/" not in spec.scheme and Path(f"{spec.scheme}.py").is_file()):
        return f"py:{whole}" if spec.rest else f"py:{whole}:FACTORY"
    suffix = Path(whole).suffix.lower()
    if not spec.rest and (scheme := "predictions" if suffix in ANSWERS else WHOLE.get(suffix)):
        return f"{scheme}:{whole}"
    if whole in demo_models():
        return f"demo:{whole}"
    return _of_timm(whole) if not spec.rest and not Path(whole).is_dir() else None


def _of_folder(folder: Path) -> str | None:
    """Return what opens a folder, by the files in it that describe a model."""
    if RunFolder(folder).is_whole or (folder / "model.json").is_file():
        return f"run:{folder}"
    if (folder / "open_clip_config.json").is_file():
        return f"clip:local-dir:{folder}"
    if not (folder / "config.json").is_file():
        return None
    try:
        described = json.loads((folder / "config.json").read_bytes())
    except (ValueError, OSError, RecursionError):
        return None
    by_timm = isinstance(described, dict) and "architecture" in described
    return f"timm:local-dir:{folder}" if by_timm else f"hf:{folder}"


def _of_hub(name: str) -> list[str]:
    """Return what opens a repository of the hub, and timm's own model of that name."""
    if CLIP.fullmatch(name):
        return [f"clip:{name}"]
    org, _, plain = name.partition("/")
    if org == "timm" or _is_clip(name):
        return [f"{'timm' if org == 'timm' else 'clip'}:hf-hub:{name}"]
    if find_spec("timm") is None:
        return [f"hf:{name}"]
    import timm

    own = {known.replace("_", ""): known for known in timm.list_models()}.get(re.sub("[-_]", "", plain.lower()))
    return [f"hf:{name}", *([f"timm:{own}"] if own else [])]


def _is_clip(name: str) -> bool:
    """Tell a repository or a folder of open_clip by its name."""
    return Path(name).name.startswith("CLIP-")


def _is_script(path: str) -> bool:
    """Tell a TorchScript archive by what it holds: code beside its weights."""
    if not is_zipfile(path):
        return False
    with ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _of_timm(name: str) -> str | None:
    """Return the model of timm that has this name, but for its tag or a slip."""
    if find_spec("timm") is None:
        return None
    import timm

    plain, at, weights = name.partition("@")
    if timm.is_model(plain.split(".")[0]):
        return f"timm:{name}"
    near = nearest(plain.replace("-", "_"), timm.list_models())
    return f"timm:{near}{at}{weights}" if near else None
