"""`torchscript:FILE` and `export:FILE`: compiled torch modules. They answer without their Python, and only answer.

torch unpickles parts of both files without restriction, so both are opened only where the user vouches for them.
"""

import io
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ModelError, WeightsError, first_line
from ..specs import HINT, Spec
from ..types import Preprocess, Splits
from .asking import digest_of_state
from .black_box import OPTIONS, BlackBox, get_to_know, hash_of, read_options
from .preprocess import PREPROCESS_OPTIONS, read_preprocess, unsaid
from .trust import require_word

HOW = "give size=, channels= and batch= as the model wants them"


def load_torchscript(spec: Spec, like: Splits | None = None, trust: bool = False) -> BlackBox:
    """Open what `torch.jit.save` has written, in evaluation mode.

    Raises:
        SpecError: If an option is unknown.
        TrustError: If the user does not vouch for the file.
        WeightsError: If it is missing, or no TorchScript archive.
        ModelError: If it takes no images, or changes when it is asked.
    """
    path = _vouched(spec, "torch.jit.load", trust)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # that torch.jit is deprecated is no news to who opens one
            module: nn.Module = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
    except Exception as error:  # torch raises whatever it likes
        raise WeightsError(f"{path} is no TorchScript archive, as torch.jit.save writes ({_reason(error)})") from error
    module.eval()

    def ask(images: Tensor) -> Any:
        try:
            return module(images)
        except RuntimeError as error:  # the first lines say where in the script, the last one what
            raise RuntimeError(str(error).strip().splitlines()[-1]) from error

    return _open(spec, module, ask, Preprocess(), None, like)


def load_export(spec: Spec, like: Splits | None = None, trust: bool = False) -> BlackBox:
    """Open what `torch.export.save` has written.

    Raises:
        SpecError: If an option is unknown.
        TrustError: If the user does not vouch for the file.
        WeightsError: If it is missing, or no exported program.
        ModelError: If it takes no images, or changes when it is asked.
    """
    path = _vouched(spec, "torch.export.load", trust)
    try:
        with zipfile.ZipFile(path) as archive:
            if not any(name.endswith("archive_format") for name in archive.namelist()):
                raise ValueError("it has no archive_format")
        program = torch.export.load(io.BytesIO(path.read_bytes()))
        module, shape = program.module(), _image_shape(program)
    except Exception as error:  # torch raises whatever it likes
        raise WeightsError(
            f"{path} is no exported program, as torch.export.save of this torch writes ({_reason(error)})"
        ) from error
    batch, channels, height, width = (size if isinstance(size, int) else None for size in shape)
    size = (height, width) if height is not None and width is not None else None
    return _open(spec, module, module, Preprocess(size=size, channels=channels), batch, like)


def _vouched(spec: Spec, loader: str, trust: bool) -> Path:
    """Return the path of a file that may be opened."""
    spec.refuse_unknown(PREPROCESS_OPTIONS | OPTIONS)
    if not spec.path.is_file():
        raise WeightsError(f"no file {spec.path}; expected {spec.scheme}:FILE ({HINT})")
    require_word(spec.path, loader, trust)
    return spec.path


def _reason(error: BaseException) -> str:
    """Return the first sentence of what torch says: of a damaged file it has much to say."""
    return first_line(error).partition(". ")[0]


def _image_shape(program: Any) -> list[Any]:
    """Return the shape of the program's one input: numbers where only these are taken."""
    names = program.graph_signature.user_inputs
    values = [node.meta["val"] for node in program.graph.nodes if node.op == "placeholder" and node.name in names]
    if len(values) != 1 or getattr(values[0], "ndim", 0) != 4:
        raise ValueError(f"it takes {len(values)} inputs, and not one of images [N, C, H, W]")
    return list(values[0].shape)


def _open(
    spec: Spec, module: nn.Module, ask: Callable[[Tensor], Any], own: Preprocess, batch: int | None, like: Splits | None
) -> BlackBox:
    """Describe a module that is asked, and see that asking leaves it as it is: nothing would bring it back."""
    options = read_options(spec)
    path = spec.path
    box = BlackBox(
        spec=spec.text,
        name=path.stem,
        ask=ask,
        identity=hash_of([path]),
        preprocess=read_preprocess(spec, own),
        outputs=options["outputs"],
        batch=options["batch"] or batch,
        n_parameters=sum(parameter.numel() for parameter in module.parameters()),
        n_bytes=path.stat().st_size,
    )
    before = digest_of_state(module)
    known = get_to_know(box, like, HOW)
    if digest_of_state(module) != before:
        raise ModelError(f"{spec.text!r} changes its own state when it is asked; export it in evaluation mode (eval())")
    return replace(known, notes=(*known.notes, *unsaid(spec, box.preprocess, known.preprocess.channels)))
