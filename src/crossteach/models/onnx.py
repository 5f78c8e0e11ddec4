"""`onnx:FILE`: a model that onnxruntime asks. What the graph says and how it answers tell what it takes and gives."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import ModelError, SpecError, WeightsError
from ..specs import Spec
from ..types import Preprocess, Splits
from .black_box import OPTIONS, BlackBox, get_to_know, read_options
from .onnx_file import Session, open_onnx, reason
from .preprocess import PREPROCESS_OPTIONS, read_preprocess, unsaid

Layout = Literal["nchw", "nhwc"]
Dim = int | str | None
"""Of a declared shape: a number, or a name or nothing where any number is taken."""

AXES: dict[Layout, tuple[int, int, int]] = {"nchw": (1, 2, 3), "nhwc": (3, 1, 2)}
"""Of channels, height and width."""
FLOATS = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}
"""What onnxruntime calls the types that scores may have, and images too."""
BYTES = "tensor(uint8)"
"""Images of whole numbers from 0 to 255."""
PASSED_ON = ("Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Cast", "Dropout")
"""Operators behind which the scores are what they were."""
NO_MEMORY = ("bad_alloc", "Failed to allocate memory")
"""What onnxruntime says where memory runs out."""


def load_onnx(spec: Spec, like: Splits | None = None) -> BlackBox:
    """Open an ONNX file on the CPU.

    Raises:
        SpecError: If an option is unknown, or does not fit the graph.
        WeightsError: If the file is missing, damaged, or keeps weights elsewhere than beside it.
        ModelError: If it takes no images, or what it takes or answers cannot be told without an option.
        MissingExtraError: If onnx or onnxruntime is not installed.
    """
    spec.refuse_unknown(PREPROCESS_OPTIONS | OPTIONS | {"layout", "output"})
    try:
        return _load(spec, like)
    except UnicodeDecodeError as error:
        raise WeightsError(
            f"{spec.path} holds names that are no UTF-8 text ({error.reason}); export it again"
        ) from None


def _load(spec: Spec, like: Splits | None) -> BlackBox:
    options = read_options(spec)
    file = open_onnx(spec)
    session = file.session.current
    given = _only_input(session, spec)
    output = _choose_output(session, spec, like)
    end, batch = _last_operator(file.graph, output), options["batch"]
    if batch is None and isinstance(given.shape[0], int):
        batch = given.shape[0]
    box = BlackBox(
        spec=spec.text,
        name=spec.path.stem,
        ask=_Asking(file.session, given, output),
        identity=file.hash,
        preprocess=Preprocess(),
        batch=batch,
        outputs=options["outputs"] or ("probabilities" if end == "Softmax" else None),
        n_parameters=file.n_parameters,
        notes=(*_of_output(spec, session, output, end), *_of_input(spec, given)),
        n_bytes=file.n_bytes,
    )
    known = _laid_out(box, given, spec, like)
    key, names = file.class_names()
    if len(names) == known.n_classes:
        return replace(known, classes=names)
    if not names:
        return known
    said = f"{known.name} names {len(names)} classes in its metadata ({key}) but scores {known.n_classes}: not used"
    return replace(known, notes=(*known.notes, said))


@dataclass(frozen=True)
class _Asking:
    """Asks a session: images [n, C, H, W] as its input wants them -> scores [n, C]."""

    session: Session
    given: Any
    """The input that takes images: its name, shape and type."""
    output: str
    layout: Layout = "nchw"

    def __call__(self, images: Float[Tensor, "n c H W"]) -> Float[Tensor, "n C"]:
        pixels = images if self.layout == "nchw" else images.permute(0, 2, 3, 1)
        try:
            (scores,) = self.session.current.run([self.output], {self.given.name: self._typed(pixels.contiguous())})
        except ModelError:
            raise
        except Exception as error:  # onnxruntime's errors have no common base
            if any(words in str(error) for words in NO_MEMORY):
                raise MemoryError(reason(error)) from error
            raise ModelError(reason(error)) from error
        found = torch.from_numpy(np.asarray(scores, np.float32))
        return found.flatten(1) if found.ndim > 2 and found.shape[2:].numel() == 1 else found

    def _typed(self, pixels: Tensor) -> np.ndarray:
        if self.given.type != BYTES:
            return pixels.numpy().astype(FLOATS[self.given.type])
        if pixels.min() < 0 or pixels.max() > 1:
            raise ModelError("it takes whole numbers from 0 to 255, so its images are not normalised")
        return (pixels * 255).round().to(torch.uint8).numpy()


def _only_input(session: Any, spec: Spec) -> Any:
    """Return the input that takes images."""
    inputs = session.get_inputs()
    said = ", ".join(f"{each.name} {_shown(each.shape)} {each.type}" for each in inputs) or "none"
    (found, *others) = inputs or (None,)
    if found is None or others or len(found.shape) != 4 or found.type not in (*FLOATS, BYTES):
        raise ModelError(
            f"{spec.text!r} must have one input of four axes, images in floats or uint8; its inputs: {said}; "
            "export it so, or ask it in a function of your own, as py:FILE.py:FACTORY"
        )
    return found


def _shown(shape: Sequence[Dim]) -> str:
    return "[" + ", ".join(str(dim or "?") for dim in shape) + "]"


def _choose_output(session: Any, spec: Spec, like: Splits | None) -> str:
    """Return the output that scores classes: by its name, else by its shape, where only one can be meant."""
    outputs = session.get_outputs()
    said = ", ".join(f"{each.name} {_shown(each.shape)} {each.type}" for each in outputs)
    wanted = spec.options.get("output")
    if wanted is not None:
        if wanted not in [each.name for each in outputs]:
            raise SpecError(f"option output of {spec.text!r} must name one of its outputs ({said}), not {wanted!r}")
        return wanted
    scoring = [each for each in outputs if each.type in FLOATS and _may_score(each.shape)]
    if not scoring:
        raise ModelError(f"{spec.text!r} has no output of scores [N, C] in floats; its outputs: {said}")
    if len(scoring) > 1 and like is not None:
        scoring = [each for each in scoring if each.shape[1:2] == [len(like.classes)]] or scoring
    if len(scoring) > 1:
        raise ModelError(f"{spec.text!r} has several outputs that may score classes; give output=NAME, one of {said}")
    return str(scoring[0].name)


def _may_score(shape: Sequence[Dim]) -> bool:
    """Tell a shape [N, C], or one with more axes of length 1 behind; an output without a known shape may be one."""
    return not shape or (len(shape) >= 2 and all(dim == 1 for dim in shape[2:]))


def _last_operator(graph: Any, output: str) -> str:
    """Return the operator that makes an output, but for those that pass on what they are given."""
    made_by = {name: node for node in graph.node for name in node.output}
    name = output
    while (node := made_by.get(name)) is not None:
        if node.op_type not in PASSED_ON or not node.input:
            return str(node.op_type)
        name = node.input[0]
    return ""


def _of_output(spec: Spec, session: Any, output: str, end: str) -> Iterator[str]:
    """Say which output is read, and that it ends in a softmax."""
    name, others = spec.path.stem, [each.name for each in session.get_outputs() if each.name != output]
    if others and "output" not in spec.options:
        yield f"{name}: its output {output} is read, not {', '.join(others)}; output=NAME chooses another"
    if end == "Softmax" and "outputs" not in spec.options:
        yield f"{name} ends in a Softmax: the logarithms of its probabilities are taken as logits"


def _of_input(spec: Spec, given: Any) -> Iterator[str]:
    """Say what the type of the input means for pixels; raise SpecError if they cannot be normalised."""
    if given.type != BYTES:
        return
    wrong = next((key for key in ("mean", "std") if key in spec.options), None)
    if wrong:
        raise SpecError(f"{spec.text!r} takes whole numbers from 0 to 255 (uint8), so {wrong}= means nothing; drop it")
    yield f"{spec.path.stem} takes uint8: it gets pixels from 0 to 255, not normalised"


def _laid_out(box: BlackBox, given: Any, spec: Spec, like: Splits | None) -> BlackBox:
    """Get to know a model in the layout that is given, or that its shape shows, or in the only one that it answers."""
    option, answered, refused = spec.options.get("layout"), {}, {}
    if option not in (None, *AXES):
        raise SpecError(f"option layout of {spec.text!r} must be nchw or nhwc, not {option!r}")
    layouts = [layout for layout in AXES if layout == option] or _layouts(given.shape, spec)
    for layout in layouts:
        try:
            answered[layout] = _know(box, layout, spec, like)
        except ModelError as error:
            refused[layout] = error
    if not answered:
        raise refused[layouts[0]]
    if len(answered) > 1:
        raise ModelError(
            f"{spec.text!r} takes images {_shown(given.shape)} with channels first and last; "
            "give layout=nchw or layout=nhwc"
        )
    ((layout, known),) = answered.items()
    words = {"nchw": "before height and width (nchw)", "nhwc": "after height and width (nhwc)"}
    if option is None and (layout == "nhwc" or len(layouts) > 1):
        found = "by asking" if len(layouts) > 1 else f"by its input {_shown(given.shape)}"
        return replace(known, notes=(f"{known.name} takes channels {words[layout]}, found {found}", *known.notes))
    return known


def _layouts(shape: Sequence[Dim], spec: Spec) -> list[Layout]:
    """List the layouts that a declared shape allows: the one whose channels are 1 or 3, or both where none is said."""
    counted: list[Layout] = [layout for layout, (axis, *_) in AXES.items() if shape[axis] in (1, 3)]
    if len(counted) == 1:
        return counted
    possible: list[Layout] = [layout for layout, (axis, *_) in AXES.items() if not isinstance(shape[axis], int)]
    if not counted and not possible:
        raise ModelError(f"{spec.text!r} takes images {_shown(shape)}; expected 1 or 3 channels, first or last")
    return counted or possible


def _know(box: BlackBox, layout: Layout, spec: Spec, like: Splits | None) -> BlackBox:
    """Get to know a model in one layout."""
    assert isinstance(box.ask, _Asking)
    asking = replace(box.ask, layout=layout)
    channels, *sides = (asking.given.shape[axis] for axis in AXES[layout])
    if isinstance(channels, int) and channels not in (1, 3):
        raise ModelError(f"{spec.text!r} takes images {_shown(asking.given.shape)}: {channels} channels, not 1 or 3")
    size = (sides[0], sides[1]) if all(isinstance(side, int) for side in sides) else None
    own = Preprocess(size=size, channels=channels if isinstance(channels, int) else None)
    identity = f"{box.identity} {asking.output} {layout}"
    asked = replace(box, ask=asking, identity=identity, preprocess=read_preprocess(spec, own))
    known = get_to_know(asked, like, "give size=, channels=, layout= and batch= as the model wants them")
    if asking.given.type == BYTES:
        return known
    return replace(known, notes=(*known.notes, *unsaid(spec, asked.preprocess, known.preprocess.channels)))
