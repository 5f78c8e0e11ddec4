"""Numbers and findings as words."""

import itertools
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from ..settings import changed

METHODS = {
    "kl": "plain distillation: the student is pulled towards the teacher on every sample",
    "xe-kl": "distillation mixed with the labels' cross-entropy",
    "xe-kl+mcl": "distillation mixed with the labels' cross-entropy; the slow average of the weights is returned",
    "kl+dp": "data partitioning: each sample is taught by the one, teacher or frozen student, that gives the true "
    "class the higher probability",
    "kl+dp-unsupervised": "data partitioning without labels: each sample is taught by the more confident of teacher "
    "and frozen student",
    "kl+dp-calibrated": "data partitioning without labels on the transfer set: each sample is taught by the more "
    "confident, after each one's temperature was fitted on held-out labels",
    "kl+dp-flips": "the teacher teaches only where it is right and the frozen student wrong",
    "kl+dp-not-negative": "the teacher teaches except where it is wrong and the frozen student right",
    "kl+dp-flips-mean": "the teacher teaches where it alone is right, the frozen student where that alone is right, "
    "the mean of both elsewhere",
    "kl+dp-soft": "each sample is taught by teacher and frozen student together, weighed by the odds of their "
    "confidence; no label is read",
    "xe+dp": "data partitioning by the labels, mixed with the labels' cross-entropy",
    "cd": "contrastive distillation: samples whose features are similar in the teacher get similar ones in the "
    "student, beside the labels",
    "kl+dp-learned": "a judge, learnt on labelled held-out samples, tells how probably each tutor is right, and their "
    "probabilities are averaged by that",
    "xe+dp-learned": "data partitioning by the labels, mixed with the labels' cross-entropy; samples of a pool are "
    "taught as by kl+dp-learned",
    "crd": "contrastive representation distillation: a sample's features in the student get more similar to its "
    "own in the teacher than to those of other classes, beside the labels",
    "self": "a control without a teacher: the student is taught by its frozen self",
    "xe": "a control without a teacher: the student goes on training on the labels",
    "self+labels": "a control without a teacher: the frozen student where it is right, else the label",
    "wise-ft": "a control without a teacher: the average of the old weights and of those trained on the labels",
    "kl+ensemble": "a control: the mean of the probabilities of teacher and frozen student teaches every sample",
    "kl+dp-random": "a control: data partitioning by lot, with as many samples for each as the labels would give it",
    "kl+dp-random-teacher": "a control: data partitioning with a randomly initialised copy of the teacher",
}
VERDICTS = {
    "accepted": "accepted by the gate",
    "kept_original": "the gate kept the original",
    "unverified": "unverified: no label confirmed it",
    "diverged": "training broke off; the original is kept",
}
SLOW = "+mcl"
MARKS = {"accepted": "✓", "kept_original": "↺", "unverified": "?", "diverged": "✕"}
NOTHING = "–"
NUMBER = (int, float)
"""What a number of a JSON file is read as; true and false pass for whole numbers."""


def counted(count: int, what: str) -> str:
    """Write a number of things.

    Example:
        >>> counted(1, "run"), counted(1200, "run")
        ('1 run', '1,200 runs')
    """
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def method_in_words(name: str) -> str:
    """Say what a method is; a name that is not in `METHODS` stays a name.

    Example:
        >>> method_in_words("kl+mcl").split("; ")[-1], method_in_words("theirs")
        ('returned is the slow average of the weights', 'theirs')
    """
    if name in METHODS:
        return f"{name}: {METHODS[name]}"
    base = name.removesuffix(SLOW)
    return f"{name}: {METHODS[base]}; returned is the slow average of the weights" if base in METHODS else name


def number(value: Any, digits: int = 2) -> str:
    """Write a number with a true minus and thousands separated.

    Example:
        >>> number(-1234.567, 1), number(None)
        ('−1,234.6', '–')
    """
    if not isinstance(value, NUMBER) or isinstance(value, bool):
        return NOTHING
    return f"{value:,.{digits}f}".replace("-", "−")


def points(value: Any, digits: int = 2) -> str:
    """Write a difference with its sign; what rounds to nothing has none.

    Example:
        >>> points(0.204), points(-3), points(-0.001)
        ('+0.20', '−3.00', '0.00')
    """
    if not isinstance(value, NUMBER) or isinstance(value, bool):
        return NOTHING
    rounded = round(value, digits)
    return f"{rounded:+,.{digits}f}".replace("-", "−") if rounded else f"{0:.{digits}f}"


def p_value(value: Any) -> str:
    """Write a p-value.

    Example:
        >>> p_value(0.00004), p_value(0.0312), p_value(1.0)
        ('< 0.0001', '0.031', '1.00')
    """
    if not isinstance(value, NUMBER):
        return NOTHING
    return "< 0.0001" if value < 1e-4 else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def interval(bounds: Any) -> str:
    """Write an interval of points."""
    return f"{points(bounds[0])} to {points(bounds[1])}" if isinstance(bounds, list) and len(bounds) == 2 else NOTHING


def listing(names: Sequence[str]) -> str:
    """Join names as a sentence does.

    Example:
        >>> listing(["a", "b", "c"])
        'a, b and c'
    """
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def shorten(text: str, longest: int = 60) -> str:
    """Cut a name that would break a page's lines."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def slug(text: str, taken: Sequence[str] = ()) -> str:
    """Make a name that a file and an id may bear, different from those that are taken.

    Example:
        >>> slug("kl+dp T=2"), slug("kl dp", ["kl-dp"])
        ('kl-dp-t-2', 'kl-dp-2')
    """
    plain = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40] or "method"
    return next(name for k in itertools.count(1) if (name := plain if k == 1 else f"{plain}-{k}") not in taken)


def transfer_command(config: Mapping[str, Any], out: str) -> str:
    """Return the command that repeats a transfer, from its `config.json`."""
    settings = config.get("config", {})
    parts = [["crossteach transfer"], ["--student", config["student"]["spec"]]]
    parts += [["--teacher", teacher["spec"]] for teacher in config["teachers"]]
    parts += [["--data", config["data"]["spec"]]] if config["data"]["spec"] is not None else []
    parts += [["--pool", spec] for spec in config.get("pools", [])]
    parts += [["--label-map", file] for file in dict.fromkeys(files_of_maps(config["teachers"]))]
    if settings.get("method", "auto") != "auto":
        parts += [["--method", settings["method"]]]
    for key, value in changed(settings).items():
        if key not in ("method", "seed"):
            parts += [["--set", f"{key}={spell(value)}"]]
    parts += [["--seed", str(settings.get("seed", 0))], ["--device", config.get("device", "auto")], ["--out", out]]
    return join_lines(parts)


def files_of_maps(models: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the label map's file of each model that was mapped by one."""
    return [model["label_map"] for model in models if "label_map" in model]


def scout_command(config: Mapping[str, Any], out: str) -> str:
    """Return the command that repeats a scout, from its `config.json`."""
    parts = [["crossteach scout"], *([model["spec"]] for model in config["models"])]
    parts += [["--data", config["data"]["spec"]]] if config["data"]["spec"] is not None else []
    parts += [["--pool", pool] for pool in config.get("pools") or []]
    parts += [["--label-map", file] for file in dict.fromkeys(files_of_maps(config["models"]))]
    parts += [["--labels", config["labels"]["file"]]] if config.get("labels") else []
    parts += [["--controls"]] if config.get("controls") else []
    parts += [["--no-ensembles"]] if config.get("ensembles") is False else []
    source = config.get("embeddings", {}).get("source", "auto")
    parts += [["--embeddings", source]] if source != "auto" else []
    return join_lines([*parts, ["--out", out]])


def sweep_command(folder: str, seed: int | None, device: str | None) -> str:
    """Return the command that repeats a sweep by the plan in its folder; the seed is that of a plan without any."""
    parts = [["crossteach sweep"], [f"{folder}/plan.yaml"], *([["--seed", str(seed)]] if seed else [])]
    return join_lines([*parts, *([["--device", device]] if device else []), ["--out", f"{folder}-again"]])


def join_lines(parts: Sequence[Sequence[str]]) -> str:
    """Quote words for a shell, one option a line; the first part is the command itself."""
    return " \\\n  ".join([parts[0][0], *(shlex.join(part) for part in parts[1:])])


def spell(value: Any) -> str:
    """Write a value as `--set` reads it."""
    if isinstance(value, list):
        return ",".join(spell(part) for part in value)
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return repr(value) if isinstance(value, float) else str(value)
