"""Is this model what its user thinks it is? One model on a few hundred samples, and what would score better."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from scipy import stats
from torch import Tensor

from ..answers.check import chance_problem, require_channels, require_label_space, steadiness_problem
from ..answers.class_order import class_order_problem
from ..data.cut import stratified_sample
from ..data.label_space import fit_label_space
from ..data.views import plain_images
from ..errors import ModelError
from ..functional.calibration import calibration_error, fit_temperature
from ..models import Opened
from ..models.asking import sum_to_one
from ..models.preprocess import from_pretrained_cfg
from ..models.scoring import score
from ..types import Interpolation, Predictions, Preprocess, Progress, Split, Splits, no_progress

MOST_SAMPLES, AT_ONCE = 1000, 128
"""Samples that are asked about, and that are read at once."""
LEVEL, LIFT = 1e-4, 3.0
"""A variant is better if chance would favour it so with less than this probability, and by so many points."""
NORMALISATIONS = {
    "none": ((0.0,), (1.0,)),
    "ImageNet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "to [-1, 1]": ((0.5,), (0.5,)),
    "CLIP": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "pixels of 0 to 255": ((0.0,), (1 / 255,)),
}
INTERPOLATIONS: tuple[Interpolation, ...] = ("bilinear", "bicubic", "nearest")
CROPS = (1.0, 0.875)
SIZES = (3 / 4, 7 / 8, 8 / 7, 4 / 3)
"""Shares of a model's own size that are tried."""

Verdict = Literal["ok", "suspicious", "broken"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    what: str
    verdict: Verdict
    evidence: str
    advice: str = ""
    """What to do about it; empty where nothing is wrong."""


@dataclass(frozen=True)
class Variant:
    """Another preprocessing, and the options that ask for it."""

    what: str
    options: str
    preprocess: Preprocess
    flipped: bool = False
    """Whether the channels are in the other order; no option asks for that."""


def check_model(model: Opened, data: Splits, progress: Progress = no_progress) -> dict[str, Any]:
    """Look whether a model is trained, is asked as it wants to be, and answers steadily.

    Args:
        model: It is left as it is.
        data: Up to 1,000 labelled samples of the selection split are asked about, else of test; without labels only
            what needs none is looked at.
        progress: Told how many variants have been tried.

    Returns:
        `model`, `data`, `samples`, `labelled`, `accuracy` (%), `ece`, `ece_calibrated`, `temperature`, `findings`
        (what, verdict, evidence, advice) and the `verdict`: the worst of theirs.

    Raises:
        LabelSpaceError: If model and data do not have the same classes.
        DataError: If the model is normalised for other channels than it is shown.
    """
    data = fit_label_space(data, [model])
    require_label_space(model, data)
    require_channels(model, data)
    split = _samples(data)
    findings: list[Finding] = [_steadiness(model, data)]
    plain = _ask(model, split, model.preprocess)
    finite = bool(plain.isfinite().all())
    findings.append(
        Finding("answers are finite", "ok", f"on {len(split):,} samples")
        if finite
        else Finding(
            "answers are finite", "broken", "some are NaN or infinite", "check the weights and the range of pixels"
        )
    )
    measured: dict[str, float | None] = dict.fromkeys(("accuracy", "ece", "ece_calibrated", "temperature"))
    if finite:
        findings += [_logits(plain), _variety(plain)]
        if split.labels is not None:
            measured = _measure(plain, torch.from_numpy(split.labels))
            findings += _against_labels(model, data, split, plain, progress)
    worst: Verdict = max((f.verdict for f in findings), key=("ok", "suspicious", "broken").index)
    return {
        "model": model.spec,
        "data": data.spec,
        "samples": len(split),
        "labelled": split.labels is not None,
        **measured,
        "findings": [asdict(finding) for finding in findings],
        "verdict": worst,
        "notes": [*data.notes, *model.notes],
    }


def _samples(data: Splits) -> Split:
    """Choose what is asked about: samples with labels where there are any."""
    for split in (data.selection, data.test):
        if split.labels is not None and len(split.labelled()):
            known = split.labelled()
            return known.take(stratified_sample(known, min(len(known), MOST_SAMPLES)))
    rows = np.random.default_rng(0).permutation(len(data.test))[:MOST_SAMPLES]
    return data.test.take(np.sort(rows))


def _ask(model: Opened, split: Split, preprocess: Preprocess, flipped: bool = False) -> Float[Tensor, "N C"]:
    """Score samples as a preprocessing shows them, a few at a time."""
    asked = replace(model, preprocess=preprocess)
    parts = []
    for start in range(0, len(split), AT_ONCE):
        images = plain_images(split, np.arange(start, min(start + AT_ONCE, len(split))), preprocess)
        parts.append(score(asked, images.flip(1) if flipped else images, require_finite=False))
    return torch.cat(parts)


def _steadiness(model: Opened, data: Splits) -> Finding:
    what = "asked twice it answers alike, and asking leaves it as it was"
    try:
        problem = steadiness_problem(model, data)
    except ModelError as error:
        found, _, advice = str(error).partition("; ")
        return Finding(what, "broken", found, advice)
    if not problem:
        return Finding(what, "ok", "alone and beside other images")
    found, _, advice = problem.partition("; ")
    return Finding(what, "suspicious", found, advice)


def _logits(plain: Float[Tensor, "N C"]) -> Finding:
    """Tell probabilities from logits: a softmax of probabilities is nearly flat, and all partitions read it."""
    if sum_to_one(plain):
        advice = "return logits, or the logarithm of the probabilities"
        return Finding(
            "answers are logits", "suspicious", "every answer is positive and sums to 1: probabilities", advice
        )
    low, high = plain.min().item(), plain.max().item()
    return Finding("answers are logits", "ok", f"they lie between {low:.3g} and {high:.3g}")


def _variety(plain: Float[Tensor, "N C"]) -> Finding:
    counts = plain.argmax(1).bincount(minlength=plain.shape[1])
    most, given = 100.0 * counts.max().item() / len(plain), int((counts > 0).sum())
    evidence = f"{given} of {plain.shape[1]} classes are given, the commonest to {most:.1f}% of the samples"
    if given == 1 and plain.shape[1] > 1 and len(plain) > 1:
        return Finding(
            "answers vary", "broken", evidence, "check the weights: this model answers one class to everything"
        )
    return Finding("answers vary", "ok", evidence)


def _measure(plain: Float[Tensor, "N C"], labels: Tensor) -> dict[str, float | None]:
    def error(logits: Float[Tensor, "N C"]) -> float:
        return calibration_error(logits.softmax(1).amax(1), logits.argmax(1) == labels)

    temperature = fit_temperature(plain, labels)
    accuracy = 100.0 * (plain.argmax(1) == labels).double().mean().item()
    return {
        "accuracy": accuracy,
        "ece": error(plain),
        "ece_calibrated": error(plain / temperature),
        "temperature": temperature,
    }


def _against_labels(
    model: Opened, data: Splits, split: Split, plain: Float[Tensor, "N C"], progress: Progress
) -> list[Finding]:
    """Compare with labels: better than chance, classes in the data's order, no preprocessing that suits it better."""
    assert split.labels is not None
    labels = torch.from_numpy(split.labels)
    answered = Predictions(model.name, plain, labels, split.ids, "", "")
    right = f"{answered.accuracy:.1f}% right on {len(split):,} samples"
    chance = chance_problem(answered, model.spec)
    order = class_order_problem(answered.preds, split.labels, "the labels", model.spec, data.classes)
    better = _better_variant(model, split, answered.correct, progress)
    trained = Finding("better than chance", "ok", right)
    if chance:
        trained = Finding(
            "better than chance", "broken", chance.partition("; ")[0], "give trained weights, or see below"
        )
    found, _, advice = order.partition("; ")
    listed = Finding("classes in the data's order", "suspicious" if order else "ok", found or right, advice)
    return [trained, listed, better]


def _better_variant(model: Opened, split: Split, correct: Tensor, progress: Progress) -> Finding:
    """Try other preprocessings on the same samples, and name the best one that is far better than the model's own."""
    variants, found, failed = list(_variants(model, split)), [], 0
    for done, variant in enumerate(variants, 1):
        try:
            logits = _ask(model, split, variant.preprocess, variant.flipped)
        except Exception:  # a model of one size takes no other; the module is its user's and may raise anything
            failed += 1
            continue
        finally:
            progress("trying other preprocessings", done, len(variants))
        assert split.labels is not None
        right = logits.argmax(1) == torch.from_numpy(split.labels)
        won, lost = int((right & ~correct).sum()), int((correct & ~right).sum())
        points = 100.0 * (won - lost) / len(correct)
        if points >= LIFT and stats.binom.sf(won - 1, won + lost, 0.5) < LEVEL / len(variants):
            found.append((points, variant))
    what = "preprocessing"
    skipped = f"; {failed} could not be asked" if failed else ""
    if not found:
        return Finding(
            what, "ok", f"none of {len(variants) - failed} others is better by {LIFT:g} points or more{skipped}"
        )
    points, best = max(found, key=lambda each: each[0])
    own = 100.0 * correct.double().mean().item()
    evidence = f"{best.what}: {own + points:.1f}% right instead of {own:.1f}%"
    advice = f"add {best.options} to the spec" if best.options else "turn the channels over in the model"
    return Finding(what, "suspicious", evidence + skipped, advice)


def _variants(model: Opened, split: Split) -> Iterator[Variant]:
    """List what a model may have been trained with, each one change away from its own preprocessing."""
    own = model.preprocess
    channels = own.channels or split.inputs.channels
    named = getattr(getattr(model, "module", None), "pretrained_cfg", None)
    if named and (itself := from_pretrained_cfg(named)) != own:
        yield Variant("as the model itself names it", _options(itself), itself)
    pixels = plain_images(split, np.arange(min(AT_ONCE, len(split))), own)
    mean, spread = (each.tolist() for each in (pixels.mean((0, 2, 3)), pixels.std((0, 2, 3)).clamp(min=1e-3)))
    normalisations = {**NORMALISATIONS, "as these samples are": (tuple(mean), tuple(spread))}
    for name, (centre, scale) in normalisations.items():
        if len(centre) in (1, channels) and (centre, scale) != (own.mean, own.std):
            changed = replace(own, mean=centre, std=scale)
            yield Variant(f"normalisation: {name}", _options(changed, "mean", "std"), changed)
    if channels == 3:
        yield Variant("blue before red", "", own, flipped=True)
    size = own.size or split.inputs.size
    if size is not None:
        sizes = {(round(size[0] * share), round(size[1] * share)) for share in SIZES}
        if split.inputs.size is not None:
            sizes.add(split.inputs.size)
        for sides in sorted(sizes - {size}):
            changed = replace(own, size=sides)
            yield Variant(f"images of {sides[0]}x{sides[1]} pixels", _options(changed, "size"), changed)
    if own.size is None:
        return
    for interpolation in INTERPOLATIONS:
        if interpolation != own.interpolation:
            changed = replace(own, interpolation=interpolation)
            yield Variant(f"{interpolation} resizing", _options(changed, "interpolation"), changed)
    for crop in CROPS:
        if crop != own.crop:
            changed = replace(own, crop=crop)
            yield Variant(f"a central crop of {crop:g}", _options(changed, "crop"), changed)


def _options(preprocess: Preprocess, *keys: str) -> str:
    """Write preprocessing as options of a spec, all of it where no keys are named."""
    written = {
        "size": None if preprocess.size is None else "x".join(map(str, dict.fromkeys(preprocess.size))),
        "mean": ",".join(f"{value:.4g}" for value in preprocess.mean),
        "std": ",".join(f"{value:.4g}" for value in preprocess.std),
        "interpolation": preprocess.interpolation,
        "crop": f"{preprocess.crop:.4g}",
    }
    return "&".join(f"{key}={value}" for key, value in written.items() if value and (not keys or key in keys))
