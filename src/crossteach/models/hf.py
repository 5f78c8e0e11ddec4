"""`hf:ORG/NAME` and `hf:FOLDER`: image and text classifiers of transformers, with their processor or tokenizer."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, float32, nn

from ..errors import MissingExtraError, ModelError, SpecError, first_line
from ..specs import Spec
from ..types import Interpolation, Preprocess, Splits
from .named import describe
from .preprocess import PREPROCESS_OPTIONS, described_by, from_pretrained_cfg, require_sound
from .torch_classifier import TorchClassifier

Task = Literal["image", "text"]

HEADS: dict[str, Task] = {"ForImageClassification": "image", "ForSequenceClassification": "text"}
"""What the names of transformers' classes end with, and what such a model reads."""
OPTIONS = {"pretrained", "max_length", *PREPROCESS_OPTIONS}
OF_THE_MACHINE = ("_name_or_path", "transformers_version", "dtype", "torch_dtype")
"""Entries of a configuration that a student is described without."""
MOST_TOKENS = 512
"""Tokens of a text that are read where neither the spec nor the model names another number."""
RESAMPLING: dict[int, Interpolation] = {
    0: "nearest",
    1: "lanczos",
    2: "bilinear",
    3: "bicubic",
    4: "box",
    5: "hamming",
}
"""Pillow's numbers, as image processors write them."""
UNKNOWN_STEPS = {
    "do_flip_channel_order": "turns red and blue over",
    "do_thumbnail": "fits images into a frame",
    "do_align_long_axis": "turns images by their longer side",
    "do_color_quantize": "replaces pixels by numbers of colours",
}
"""Steps of image processors without which a model sees what it has not learnt, and what they do."""
HINT = "give ?size= and ?channels= as the model wants them"


class TextTokenizer:
    """A tokenizer of transformers: bytes of UTF-8 to the named arguments of its model."""

    def __init__(self, tokenizer: Any, max_length: int) -> None:
        self._tokenizer = tokenizer
        self._max_length = max_length

    def __call__(self, texts: Sequence[bytes]) -> Mapping[str, Tensor]:
        """Tokenize texts, padded to the longest of them and cut at the model's length."""
        strings = [text.decode("utf-8", "replace") for text in texts]
        return dict(self._tokenizer(strings, return_tensors="pt", **self.settings))

    @property
    def settings(self) -> dict[str, Any]:
        """How the tokenizer is asked."""
        return {"padding": True, "truncation": True, "max_length": self._max_length}

    def save(self, folder: Path) -> None:
        """Write the files that open it again."""
        self._tokenizer.save_pretrained(folder)


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Load or save without progress bars and advice, and leave the caller's settings as they were."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def load_hf(spec: Spec, like: Splits | None = None) -> TorchClassifier:
    """Open a classifier of transformers from the hub, its cache, or a folder; no code of it is run.

    Raises:
        SpecError: If an option is unknown.
        ModelError: If it is not there, has no trained head, or classifies neither images nor text.
    """
    spec.refuse_unknown(OPTIONS)
    if spec.weights is not None:
        raise SpecError(f"{spec.text!r}: hf: models hold their weights themselves; drop @{spec.weights}")
    config = _config(spec)
    task = _task(config, spec.text)
    if task == "text" and (given := sorted(PREPROCESS_OPTIONS & set(spec.options))):
        raise SpecError(f"{spec.text!r} reads text, so {given[0]} means nothing; drop it")
    arguments: dict[str, Any] = {"config": _plain(config), "task": task}
    if task == "text":
        arguments["max_length"] = spec.whole("max_length", _max_length(config))
    architecture = {"source": "hf", "name": Path(spec.rest).name, "where": spec.rest, "arguments": arguments}
    module = build(architecture, spec.text, pretrained=spec.flag("pretrained", True))
    own = Preprocess(kind="text") if task == "text" else _own_preprocess(config, spec)
    return describe(spec, module, own, architecture, (), like, HINT, _class_names(config))


def _transformers(text: str) -> Any:
    try:
        import transformers
    except ImportError:
        raise MissingExtraError(f"{text!r} needs transformers; pip install 'crossteach[hf]'") from None
    return transformers


def _config(spec: Spec) -> Any:
    """Read what a model says of itself."""
    transformers = _transformers(spec.text)
    folder = Path(spec.rest)
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise ModelError(f"{folder} holds no config.json; give a folder that save_pretrained has written")
    return _told(spec.text, lambda: transformers.AutoConfig.from_pretrained(spec.rest, trust_remote_code=False))


def _told(text: str, read: Callable[[], Any]) -> Any:
    """Let transformers read something, and say it in one line if it cannot."""
    try:
        with quiet_transformers():
            return read()
    except Exception as error:  # hub, network and files raise whatever they like
        raise ModelError(
            f"transformers cannot open {text!r}: {first_line(error)}; give the folder of a saved model, or a name on "
            "the hub that is in the cache or can be fetched"
        ) from error


def _task(config: Any, text: str) -> Task:
    """Tell what a model reads; refuse what is no classifier of one class a sample."""
    names = [str(name) for name in getattr(config, "architectures", None) or ()]
    task = next((task for name in names for head, task in HEADS.items() if head in name), None)
    if task is None:
        raise ModelError(
            f"{text!r} is {', '.join(names) or 'a model without a head'}; crossteach takes classifiers of images "
            "(ForImageClassification) and of text (ForSequenceClassification)"
        )
    kind = getattr(config, "problem_type", None)
    if kind in ("multi_label_classification", "regression") or config.num_labels < 2:
        what = "several labels a sample" if kind == "multi_label_classification" else "a number"
        raise ModelError(f"{text!r} answers {what}; crossteach takes classifiers that answer one class of several")
    return task


def _plain(config: Any) -> dict[str, Any]:
    """Return a configuration as JSON holds it, without what depends on the machine."""
    whole = json.loads(config.to_json_string(use_diff=False))
    return {key: value for key, value in whole.items() if key not in OF_THE_MACHINE and value is not None}


def _max_length(config: Any) -> int:
    known = int(getattr(config, "max_position_embeddings", None) or MOST_TOKENS)
    return min(MOST_TOKENS, known) if known > 0 else MOST_TOKENS  # XLNet says -1: no end


def _class_names(config: Any) -> tuple[str, ...] | None:
    """Return the names that a model gives its classes; None where they are only numbered."""
    names = [str(config.id2label[number]) for number in range(config.num_labels)]
    return None if all(name == f"LABEL_{number}" for number, name in enumerate(names)) else tuple(names)


def build(architecture: dict[str, Any], text: str, pretrained: bool = False) -> nn.Module:
    """Create a model of transformers, with its tokenizer where it reads text; see `load_hf` for the errors."""
    transformers, arguments = _transformers(text), architecture["arguments"]
    reads_text = arguments.get("task") == "text"
    auto = (
        transformers.AutoModelForSequenceClassification if reads_text else transformers.AutoModelForImageClassification
    )
    module: nn.Module = _told(text, lambda: _module(transformers, auto, architecture, text, pretrained))
    if reads_text:
        tokenizer = _told(
            text, lambda: transformers.AutoTokenizer.from_pretrained(architecture["where"], trust_remote_code=False)
        )
        if tokenizer.pad_token is None:
            raise ModelError(f"the tokenizer of {text!r} has no padding token; set one and save it again")
        module.tokenizer = TextTokenizer(tokenizer, arguments["max_length"])  # type: ignore[assignment]
    return module


def _module(transformers: Any, auto: Any, architecture: dict[str, Any], text: str, pretrained: bool) -> Any:
    if not pretrained:
        described = dict(architecture["arguments"]["config"])
        return auto.from_config(transformers.AutoConfig.for_model(described.pop("model_type"), **described))
    module, loaded = auto.from_pretrained(
        architecture["where"], dtype=float32, trust_remote_code=False, output_loading_info=True
    )
    missing = sorted(map(str, loaded["missing_keys"])) or [str(key[0]) for key in loaded["mismatched_keys"]]
    if missing:
        raise ModelError(f"it has no weights for {', '.join(missing[:3])}: its head is not trained")
    return module


def _own_preprocess(config: Any, spec: Spec) -> Preprocess:
    """Read how a model's processor brings images to it."""
    cfg = getattr(config, "pretrained_cfg", None)
    if cfg:  # a timm model in transformers' clothes
        return from_pretrained_cfg(cfg)
    processor = _told(
        spec.text,
        lambda: _transformers(spec.text).AutoImageProcessor.from_pretrained(
            spec.rest, backend="pil", trust_remote_code=False
        ),
    )
    with described_by(f"the processor of {spec.text!r}"):
        return require_sound(read_processor(processor.to_dict(), spec.text))


def read_processor(said: Mapping[str, Any], text: str) -> Preprocess:
    """Read an image processor's description, as `to_dict` gives it: what is None there is not in it.

    Raises:
        ModelError: If it does to pixels, or to their places, what is not known here.
    """
    _refuse_unknown_steps(said, text)
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    if said.get("do_normalize"):
        mean, std = tuple(said["image_mean"]), tuple(said["image_std"])
    if said.get("include_top"):  # EfficientNet's processor divides once more
        std = tuple(float(each) * (std[k] if len(std) > 1 else std[0]) for k, each in enumerate(said["image_std"]))
    resampling = said.get("resample")
    own = Preprocess(
        channels=3, mean=mean, std=std, interpolation=RESAMPLING[2 if resampling is None else int(resampling)]
    )
    size, cut = said.get("size") or {}, said.get("crop_size") or {}
    cuts = bool(said.get("do_center_crop")) and bool(cut)
    if not said.get("do_resize", True):
        return own
    kind = str(said.get("image_processor_type", ""))
    if "shortest_edge" in size:
        edge = int(size["shortest_edge"])
        edge = int(256 / 224 * edge) if kind.startswith("Levit") else edge
        return _of_shortest_edge(own, edge, cut if cuts else None, said.get("crop_pct"), text)
    if not {"height", "width"} <= set(size):
        raise ModelError(
            f"the processor of {text!r} resizes to {dict(size)}; give ?size=PIXELS and the rest by options"
        )
    resized = int(size["height"]), int(size["width"])
    if cuts and kind.startswith("Perceiver"):  # it cuts before it resizes, so that the shape is kept
        return replace(own, size=resized, crop=resized[0] / int(cut["height"]))
    shown = (int(cut["height"]), int(cut["width"])) if cuts else resized
    return replace(own, size=shown, crop=shown[0] / resized[0], crop_mode="squash")


def _refuse_unknown_steps(said: Mapping[str, Any], text: str) -> None:
    """Raise ModelError for steps that a model's images would lack here: it would answer, and worse than it can."""
    factor = float(said.get("rescale_factor") or 1 / 255)
    if not said.get("do_rescale", True) or abs(factor * 255 - 1) > 1e-6 or said.get("rescale_offset"):
        raise ModelError(f"the processor of {text!r} does not scale pixels to [0, 1]; give another model")
    for step, what in UNKNOWN_STEPS.items():
        if said.get(step):
            raise ModelError(
                f"the processor of {text!r} {what} ({step}), which is not done here; give another model, or the same "
                "architecture by timm:"
            )


def _of_shortest_edge(
    own: Preprocess, edge: int, cut: Mapping[str, Any] | None, crop_pct: float | None, text: str
) -> Preprocess:
    """Read a processor that keeps the shape of images: the shortest edge is resized, and the centre is cut out."""
    if cut is not None:
        shown = int(cut["height"]), int(cut["width"])
        edge = int(edge / crop_pct) if crop_pct else edge  # PoolFormer's processor: both
        return replace(own, size=shown, crop=min(shown) / edge)
    if crop_pct is None:
        raise ModelError(f"the processor of {text!r} keeps the shape of images and cuts none; give ?size=PIXELS")
    if edge >= 384:  # ConvNeXt's processor changes the shape of large images, and cuts nothing
        return replace(own, size=(edge, edge), crop_mode="squash")
    return replace(own, size=(edge, edge), crop=float(crop_pct))
