"""`clip:NAME/PRETRAINED`, `clip:NAME@FILE`, `clip:hf-hub:ORG/NAME`, `clip:local-dir:FOLDER`: zero-shot, by open_clip.

The class names are written into prompts, and the text tower turns these into the rows of a fixed head over the image
tower. As a student its image tower learns, and the head stays.

Source: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision" (ICML 2021).
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..errors import MissingExtraError, ModelError, SpecError, first_line
from ..specs import HINT, Spec
from ..types import Preprocess, Splits
from .named import describe
from .preprocess import PREPROCESS_OPTIONS
from .torch_classifier import TorchClassifier
from .weights import weights_options

PROMPTS = {
    "simple": ("a photo of a {}.",),
    "several": (
        *("a photo of a {}.", "a photo of the {}.", "a bad photo of a {}.", "a close-up photo of a {}."),
        *("a drawing of a {}.", "a photo of a small {}.", "a photo of a large {}."),
    ),
}
"""Templates of `?prompts=`; a file of one template a line is read too."""
MODES = {"shortest": "center", "squash": "squash", "longest": "border"}
"""open_clip's words for how an image comes to the model's shape, in ours."""
NO_TEXT = {"context_length": 1, "vocab_size": 1, "width": 8, "heads": 1, "layers": 1}
"""A text tower of nothing: a saved student needs none."""

Read = TypeVar("Read")


class ZeroShot(nn.Module):
    """An image tower under a fixed head: the classes' embedded prompts."""

    def __init__(self, visual: nn.Module, head: Float[Tensor, "d C"], scale: float) -> None:
        super().__init__()
        self.visual = visual
        self.head: Tensor
        self.scale: Tensor
        self.register_buffer("head", head)
        self.register_buffer("scale", torch.tensor(scale))

    def forward(self, images: Float[Tensor, "N 3 h w"]) -> Float[Tensor, "N C"]:
        """Score images by the cosine of their embedding with that of each class."""
        embedded = self.visual(images)
        embedded = embedded[0] if isinstance(embedded, tuple) else embedded  # some towers return their tokens too
        scores: Tensor = self.scale * F.normalize(embedded, dim=1) @ self.head
        return scores


def load_clip(spec: Spec, like: Splits | None = None) -> TorchClassifier:
    """Open a CLIP model as a classifier of the data's classes.

    Raises:
        SpecError: If an option is unknown, or nothing names the classes.
        ModelError: If the model is not there.
    """
    spec.refuse_unknown({*weights_options(spec), *PREPROCESS_OPTIONS, "prompts", "classes"})
    open_clip = _open_clip(spec.text)
    classes, prompts = _class_names(spec, like), _prompts(spec)
    name, _, tag = spec.rest.partition("/") if ":" not in spec.rest else (spec.rest, "", "")
    pretrained = spec.flag("pretrained", True) if spec.weights is None else True
    if pretrained and not (tag or spec.weights or ":" in name):
        raise SpecError(
            f"{spec.text!r} names no weights; write clip:{name}/PRETRAINED, as in ViT-B-32/laion2b_s34b_b79k"
        )
    weights = (spec.weights or tag or None) if pretrained else None
    # published weights may want another activation than the architecture of that name: open_clip only warns
    quick = bool(tag and pretrained and open_clip.get_pretrained_cfg(name, tag).get("quick_gelu"))
    model = _told(spec.text, lambda: open_clip.create_model(name, weights, weights_only=True, force_quick_gelu=quick))
    tokenizer = _told(spec.text, lambda: open_clip.get_tokenizer(name))
    words = [name.replace("_", " ") for name in classes]
    head = open_clip.build_zero_shot_classifier(model.eval(), tokenizer, words, prompts)
    module = ZeroShot(model.visual, head.detach().clone(), model.logit_scale.exp().item())
    config = _told(spec.text, lambda: _model_config(open_clip, name))
    architecture = {
        "source": "clip",
        "name": name.rpartition("/")[2],
        "arguments": {**config, **({"quick_gelu": True} if quick else {}), "n_classes": len(classes)},
    }
    own = _preprocess_of(open_clip.get_model_preprocess_cfg(model))
    notes = (
        f"{spec.text} reads the classes as {prompts[0].format(words[0])!r} and so on: {len(prompts)} prompts each",
    )
    return describe(spec, module, own, architecture, notes, like, classes=classes)


def _open_clip(text: str) -> Any:
    try:
        import open_clip
    except ImportError:
        raise MissingExtraError(f"{text!r} needs open_clip; pip install 'crossteach[clip]'") from None
    return open_clip


def _told(text: str, read: Callable[[], Read]) -> Read:
    """Let open_clip read something, and say it in one line if it cannot."""
    try:
        return read()
    except Exception as error:  # hub, network and files raise whatever they like
        raise ModelError(
            f"open_clip cannot open {text!r}: {first_line(error)}; give clip:NAME/PRETRAINED that is in the cache or "
            "can be fetched, clip:NAME@FILE, or clip:local-dir:FOLDER"
        ) from error


def _class_names(spec: Spec, like: Splits | None) -> tuple[str, ...]:
    """Return the names that are written into prompts: of a file, else of the data."""
    known = () if like is None else like.classes
    names = tuple(_lines(spec, "classes")) if "classes" in spec.options else known
    if len(names) < 2 or all(name.isdecimal() for name in names):
        found = f"there are {names[0]!r} and so on" if names else "there are none"
        raise SpecError(
            f"{spec.text!r} needs the names of the classes, and {found}; give data that name theirs, or ?classes=FILE "
            "with one a line, in the order of the labels"
        )
    return names


def _prompts(spec: Spec) -> Sequence[str]:
    """Return the templates into which the names are written."""
    wanted = spec.options.get("prompts", "several")
    prompts = PROMPTS[wanted] if wanted in PROMPTS else tuple(_lines(spec, "prompts"))
    wrong = [prompt for prompt in prompts if prompt.count("{}") != 1 or prompt.count("{") != 1]
    if wrong or not prompts:
        raise SpecError(f"a prompt of {spec.text!r} must hold {{}} once for the class, but one reads {wrong[:1] or ''}")
    return prompts


def _lines(spec: Spec, key: str) -> list[str]:
    """Read the lines of a file that an option names."""
    path = Path(spec.options[key])
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        known = f", or be one of {', '.join(PROMPTS)}" if key == "prompts" else ""
        reason = first_line(error)
        raise SpecError(f"option {key} of {spec.text!r} must name a text file{known} ({reason}; {HINT})") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def _model_config(open_clip: Any, name: str) -> dict[str, Any]:
    """Return what builds an image tower again."""
    source, _, place = name.partition(":")
    if source == "local-dir":
        whole = json.loads((Path(place) / "open_clip_config.json").read_text(encoding="utf-8"))["model_cfg"]
    elif source == "hf-hub":
        path = open_clip.download_pretrained_from_hf(place, filename="open_clip_config.json")
        whole = json.loads(Path(path).read_text(encoding="utf-8"))["model_cfg"]
    else:
        whole = open_clip.get_model_config(name)
    return {key: whole[key] for key in ("embed_dim", "vision_cfg", "quick_gelu") if key in whole}


def _preprocess_of(said: dict[str, Any]) -> Preprocess:
    """Read how open_clip brings images to a model."""
    size = said["size"]
    return Preprocess(
        size=(size, size) if isinstance(size, int) else (int(size[0]), int(size[1])),
        channels=3,
        mean=tuple(said["mean"]),
        std=tuple(said["std"]),
        interpolation=said["interpolation"],
        crop_mode=MODES[said["resize_mode"]],  # type: ignore[arg-type]  # its values are our words
    )


def build(architecture: dict[str, Any], text: str) -> nn.Module:
    """Build an image tower and an empty head, for weights that are loaded into them."""
    open_clip, arguments = _open_clip(text), dict(architecture["arguments"])
    n_classes = int(arguments.pop("n_classes"))
    # what the tower is made of comes from a file: a vision_cfg that would fetch weights is told not to
    vision = {key: value for key, value in arguments["vision_cfg"].items() if key != "timm_model_pretrained"}
    whole = _told(text, lambda: open_clip.CLIP(**{**arguments, "vision_cfg": vision}, text_cfg=NO_TEXT))
    return ZeroShot(whole.visual, torch.zeros(int(arguments["embed_dim"]), n_classes), 1.0)
