"""What a user may have meant by a model spec that is none."""

from collections.abc import Collection
from importlib.util import find_spec
from pathlib import Path
from zipfile import ZipFile, is_zipfile

from ..runs import RunFolder
from ..specs import Spec, nearest
from .py import demo_models

WEIGHTS = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".tar")
WHOLE = {".onnx": "onnx", ".pt2": "export", ".torchscript": "torchscript"}
"""What files with these endings are opened as: they hold their architecture."""


def suggest_model(spec: Spec, schemes: Collection[str]) -> str:
    """Say which spec was probably meant, as the end of a message; else which there are.

    Example:
        >>> from crossteach.specs import parse_spec
        >>> suggest_model(parse_spec("tim:resnet18"), ["py", "timm"])
        'did you mean timm:resnet18?'
    """
    whole = spec.named
    if meant := _meant(spec, whole, schemes):
        return spec.instead(meant)
    if Path(whole).suffix.lower() in WEIGHTS:
        hint = f", but for a TorchScript archive: torchscript:{whole}" if _is_script(whole) else ""
        return f"weights need their architecture: timm:NAME@{whole}, or py:FILE.py:FACTORY@{whole}{hint}"
    known = ", ".join(f"{name}:" for name in sorted(schemes))
    return f"expected one of {known} as in timm:resnet18"


def _meant(spec: Spec, whole: str, schemes: Collection[str]) -> str | None:
    near = nearest(spec.scheme, schemes)
    if near and spec.rest:
        return f"{near}:{whole.partition(':')[2]}"
    if spec.scheme.endswith(".py") or (spec.rest and "/" not in spec.scheme and Path(f"{spec.scheme}.py").is_file()):
        return f"py:{whole}" if spec.rest else f"py:{whole}:FACTORY"
    if whole and Path(whole).is_dir() and (RunFolder(Path(whole)).is_whole or (Path(whole) / "model.json").is_file()):
        return f"run:{whole}"
    if not spec.rest and (scheme := WHOLE.get(Path(whole).suffix.lower())):
        return f"{scheme}:{whole}"
    if whole in demo_models():
        return f"demo:{whole}"
    return _of_timm(whole) if not spec.rest else None


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
