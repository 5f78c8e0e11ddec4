"""A student on disk: its weights, what they belong to, and the lines that load it without crossteach."""

import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from ..files import make_folder, write_bytes, write_json
from ..types import Preprocess
from .asking import parts_left_in_train_mode
from .extra_state import FILE as EXTRA_FILE
from .extra_state import extra_state, write_extra_state
from .trust import remember_code
from .weights import write_weights

if TYPE_CHECKING:
    from .torch_classifier import TorchClassifier

WEIGHTS = "model.safetensors"
DESCRIPTION = "model.json"
TOKENIZER = "tokenizer"
"""The folder of a tokenizer that is saved with its model."""
ARCHITECTURE = "architecture.py"
"""The copy of a factory's source that is saved with its weights, so that the original may move or change."""

RELATIVE_IMPORT = re.compile(r"^\s*from\s+\.", re.MULTILINE)
"""What makes a source file unfit for a copy."""


@runtime_checkable
class Saveable(Protocol):
    """A tokenizer that is more than code: it has files of its own."""

    def save(self, folder: Path) -> None:
        """Write the files that open it again."""
        ...


def save(classifier: "TorchClassifier", folder: Path) -> None:
    """Write weights and description; a factory's own file goes beside them, and is known from then on as the user's."""
    target, built = make_folder(folder), classifier.architecture
    write_weights(classifier.module, target / WEIGHTS)
    write_extra_state(classifier.module, target)
    tokenizer = getattr(classifier.module, "tokenizer", None)
    if isinstance(tokenizer, Saveable):
        tokenizer.save(target / TOKENIZER)
    description = {
        "name": classifier.name,
        "n_classes": classifier.n_classes,
        "classes": classifier.classes,
        "preprocess": asdict(classifier.preprocess),
        "shape": classifier.shape,
        "architecture": {key: value for key, value in built.items() if key != "where" or built["source"] == "py"},
    }
    write_json(target / DESCRIPTION, description)
    if _is_copied(classifier):
        write_bytes(target / ARCHITECTURE, classifier.source.encode())
        remember_code(classifier.source, built)


def _is_copied(classifier: "TorchClassifier") -> bool:
    """Tell whether the code that builds a model is a text that stands alone."""
    from_python = classifier.architecture.get("source") == "py"
    return from_python and bool(classifier.source) and not RELATIVE_IMPORT.search(classifier.source)


def loading_code(classifier: "TorchClassifier") -> str:
    """Return Python that loads the saved weights without crossteach, and prepares pixels as the model wants them."""
    extra = bool(extra_state(classifier.module))
    weights = f'safetensors.torch.load_file("{WEIGHTS}")'
    lines = ["import safetensors.torch", "import torch", *_building(classifier)]
    if classifier.architecture.get("cast"):
        lines.append("module.float()")
    if extra:
        lines.append(f'state = {{**{weights}, **torch.load("{EXTRA_FILE}", weights_only=True)}}')
    lines += [f"module.load_state_dict({'state' if extra else weights})", "module.eval()"]
    if left := parts_left_in_train_mode(classifier.module):
        lines += ["for part in module.modules():", f"    part.training = False  # eval() leaves {left} in train mode"]
    return "\n".join([*lines, *_asking(classifier.preprocess, classifier.shape, _attribute(classifier))])


def _building(classifier: "TorchClassifier") -> list[str]:
    """Return the lines that make the module."""
    built: dict[str, Any] = classifier.architecture
    arguments = ", ".join(f"{key}={value!r}" for key, value in built.get("arguments", {}).items())
    if built.get("source") == "timm":
        cfg = f"pretrained_cfg={built['cfg']!r}" if "cfg" in built else ""
        return [
            "import timm",
            f"module = timm.create_model({', '.join(filter(None, (repr(built['name']), cfg, arguments)))})",
        ]
    if built.get("source") == "torchvision":
        named = ", ".join(filter(None, (repr(built["name"]), "weights=None", arguments)))
        return ["import torchvision", f"module = torchvision.models.get_model({named})"]
    if built.get("source") == "hf":
        return _building_hf(built["arguments"])
    if built.get("source") == "clip":
        return [
            "from crossteach.models.clip import build  # the image tower is open_clip's, the head a matrix",
            f"module = build({built!r}, 'the student')",
        ]
    if built.get("source") == "py":
        call = "" if built.get("instance") else f"({arguments})"
        where = Path(ARCHITECTURE).stem if _is_copied(classifier) else built["where"].removesuffix(".py")
        return [f"from {where} import {built['factory']}", f"module = {built['factory']}{call}"]
    return [f"module = ...  # your own {type(classifier.module).__name__}, built as it was for crossteach"]


def _building_hf(arguments: dict[str, Any]) -> list[str]:
    """Return the lines that make a model of transformers."""
    task = {"image": "ImageClassification", "text": "SequenceClassification"}[arguments["task"]]
    lines = [
        "import json",
        f"from transformers import AutoConfig, AutoModelFor{task}, AutoTokenizer",
        f'config = json.load(open("{DESCRIPTION}"))["architecture"]["arguments"]["config"]',
        f'module = AutoModelFor{task}.from_config(AutoConfig.for_model(config.pop("model_type"), **config))',
    ]
    if arguments["task"] == "image":
        return [line.replace(", AutoTokenizer", "") for line in lines]
    return [
        *lines,
        f'tokenizer = AutoTokenizer.from_pretrained("{TOKENIZER}")',
        'module.tokenizer = lambda texts: dict(tokenizer([text.decode("utf-8", "replace") for text in texts], '
        f'padding=True, truncation=True, max_length={arguments["max_length"]}, return_tensors="pt"))',
    ]


def _resizing(preprocess: Preprocess) -> str:
    """Say how images come to the size that the module takes, in the words of timm where it does the same."""
    if preprocess.size is None:
        return f": the central {preprocess.crop:.4g} of them" if preprocess.crop < 1 else ""
    how = {"center": "keeping their shape", "squash": "changing their shape", "border": "whole, on the colour of mean"}
    cut = f", to the size / {preprocess.crop:.4g}, and the centre cut out" if preprocess.crop != 1 else ""
    cut = cut or (", and the centre cut out" if preprocess.crop_mode == "center" else "")
    return f": resized ({preprocess.interpolation}), {how[preprocess.crop_mode]}{cut}"


def _attribute(classifier: "TorchClassifier") -> str:
    """Return what leads from a module's answer to its logits."""
    return ".logits" if classifier.architecture.get("source") == "hf" else ""


def _asking(preprocess: Preprocess, shape: tuple[int, int, int] | None, attribute: str) -> list[str]:
    """Return a function that scores images."""
    if preprocess.kind == "text":
        tokens = [
            "    tokens = module.tokenizer(texts)",
            f"    return (module(**tokens) if isinstance(tokens, dict) else module(tokens)){attribute}",
        ]
        return ["", "", "def logits(texts):", '    """Score a list of texts, as bytes."""', *tokens]
    channels = preprocess.channels or (shape[0] if shape else len(preprocess.mean))
    size = "height, width" if preprocess.size is None else ", ".join(map(str, preprocess.size))
    how = _resizing(preprocess)
    return [
        f"size, mean, std = {preprocess.size}, {preprocess.mean}, {preprocess.std}",
        "",
        "",
        "def logits(images):",
        f'    """Score images [N, {channels}, {size}] with values in [0, 1]{how}."""',
        "    centre, spread = (torch.tensor(each)[:, None, None] for each in (mean, std))",
        f"    return module((images - centre) / spread){attribute}",
    ]
