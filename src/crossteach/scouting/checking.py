"""Is this model what its user thinks it is? One model on a few hundred samples, and what would score better."""

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy import stats
from torch import Tensor

from ..answers.check import chance_problem, require_channels, require_label_space, steadiness_problem, too_few_to_tell
from ..answers.class_order import class_order_problem, enough_to_tell, labelled_parts
from ..data.cut import stratified_sample
from ..data.label_space import fit_label_space
from ..data.views import plain_images
from ..errors import ModelError
from ..functional.calibration import calibration_error, fit_temperature
from ..models import Opened, TorchClassifier, random_copy
from ..models.asking import changed_by_a_pass, sum_to_one
from ..models.mapped import MappedClassifier
from ..models.scoring import answers_by_sample, score
from ..models.torchvision import published_accuracy
from ..types import Predictions, Progress, Split, Splits, no_progress
from .variants import AT_ONCE, Variant, how_to_ask, variants

MOST_SAMPLES = 1000
"""Samples that are asked about."""
LEVEL, LIFT = 1e-4, 3.0
"""A variant is better if chance would favour it so with less than this probability, and by so many points."""
TELLING, FEW = 0.05, 20
"""Share of all that answers could tell from which a head looks trained, and samples below which nothing is broken."""
FAR_OFF = 10.0
"""Points below a published accuracy that are said."""

Verdict = Literal["ok", "suspicious", "broken"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    what: str
    verdict: Verdict
    evidence: str
    advice: str = ""
    """What to do about it; empty where nothing is wrong."""
    spec: str | None = None
    """The spec to type in place of the model's own, where one mends it."""


def check_model(model: Opened, data: Splits, progress: Progress = no_progress) -> dict[str, Any]:
    """Look whether a model is trained, is asked as it wants to be, and answers steadily.

    Args:
        model: It is left as it is.
        data: Up to 1,000 labelled samples of the selection split are asked about, else of test, else of train; without
            labels only what needs none is looked at. The order of classes is looked at on each split with labels.
        progress: Told how many variants have been tried.

    Returns:
        `model`, `data`, `split`, `samples`, `labelled`, `accuracy` (%), `ece`, `ece_calibrated`, `temperature`,
        `findings` (what, verdict, evidence, advice, spec) and the `verdict`: the worst of theirs.

    Raises:
        LabelSpaceError: If model and data do not have the same classes.
        DataError: If the model is normalised for other channels than it is shown.
    """
    if answers_by_sample(model):
        raise ModelError(
            f"{model.spec!r} is a table of answers: it looks at no pixel, so no preprocessing of it can be checked; "
            "crossteach scout measures what its answers have right"
        )
    data = fit_label_space(data, [model])
    require_label_space(model, data)
    require_channels(model, data)
    split = _samples(data)
    plain = ask_as(model, split, Variant("its own", model.preprocess))
    finite = bool(plain.isfinite().all())
    alone = [_leaves_itself(model)] if isinstance(model, TorchClassifier) else []
    findings = [_steadiness(model, data), *alone, _finite(finite, split)]
    measured: dict[str, float | None] = dict.fromkeys(("accuracy", "ece", "ece_calibrated", "temperature"))
    if finite:
        findings += [_logits(plain), _variety(plain), _telling(model, split, plain)]
        if split.labels is not None:
            measured = _measure(plain, torch.from_numpy(split.labels))
            findings += _against_labels(model, data, split, plain, progress)
    worst: Verdict = max((f.verdict for f in findings), key=("ok", "suspicious", "broken").index)
    return {
        "model": model.spec,
        "data": data.spec,
        "split": split.name,
        "samples": len(split),
        "labelled": split.labels is not None,
        **measured,
        "findings": [asdict(finding) for finding in findings],
        "verdict": worst,
        "notes": [*data.notes, *model.notes],
    }


def _samples(data: Splits) -> Split:
    """Choose what is asked about: samples with labels where there are any."""
    for part in labelled_parts(data):
        return part.take(stratified_sample(part, min(len(part), MOST_SAMPLES)))
    rows = np.random.default_rng(0).permutation(len(data.test))[:MOST_SAMPLES]
    return data.test.take(np.sort(rows))


def ask_as(
    model: Opened, split: Split, variant: Variant, mapped: MappedClassifier | None = None
) -> Float[Tensor, "N C"]:
    """Score samples as a preprocessing shows them, a few at a time; over the student's classes, where it is mapped."""
    shown = replace(model, preprocess=variant.preprocess)
    asked = shown if mapped is None else mapped.of(shown)
    parts = []
    for start in range(0, len(split), AT_ONCE):
        rows = np.arange(start, min(start + AT_ONCE, len(split)))
        images = plain_images(split, rows, variant.preprocess)
        parts.append(score(asked, images.flip(1) if variant.flipped else images, require_finite=False))
    return torch.cat(parts)


def _steadiness(model: Opened, data: Splits) -> Finding:
    what = "asked twice it answers alike"
    try:
        problem = steadiness_problem(model, data)
    except ModelError as error:
        found, _, advice = str(error).partition("; ")
        return Finding(what, "broken", found, advice)
    if problem is None:
        return Finding(what, "ok", "alone and beside other images")
    return Finding(what, "suspicious", *problem)


def _leaves_itself(model: TorchClassifier) -> Finding:
    """Tell whether a pass changes weights or buffers: here they are put back, elsewhere its answers would drift."""
    what, changed = "a pass leaves weights and buffers alone", changed_by_a_pass(model.clone())
    if not changed:
        return Finding(what, "ok", "none is another afterwards")
    weights = {name for name, _ in model.module.named_parameters()} & set(changed)
    named = f"{changed[0]}{f' and {len(changed) - 1} more' if len(changed) > 1 else ''}"
    advice = "let the module change them in train mode only"
    return Finding(what, "broken" if weights else "suspicious", f"in evaluation mode it changes {named}", advice)


def _finite(finite: bool, split: Split) -> Finding:
    what = "answers are finite"
    if finite:
        return Finding(what, "ok", f"on {len(split):,} samples")
    return Finding(what, "broken", "some are NaN or infinite", "check the weights and the range of pixels")


def _logits(plain: Float[Tensor, "N C"]) -> Finding:
    """Tell probabilities from logits: a softmax of probabilities is nearly flat, and all partitions read it."""
    what = "answers are logits"
    if sum_to_one(plain):
        evidence = "every answer is positive and sums to 1: probabilities"
        return Finding(what, "suspicious", evidence, "return logits, or the logarithm of the probabilities")
    low, high = plain.min().item(), plain.max().item()
    return Finding(what, "ok", f"they lie between {low:.3g} and {high:.3g}")


def _variety(plain: Float[Tensor, "N C"]) -> Finding:
    counts = plain.argmax(1).bincount(minlength=plain.shape[1])
    most, given = 100.0 * counts.max().item() / len(plain), int((counts > 0).sum())
    evidence = f"{given} of {plain.shape[1]} classes are given, the commonest to {most:.1f}% of the samples"
    if given == 1 and plain.shape[1] > 1:
        advice = "check the weights: this model answers one class to everything"
        return Finding("answers vary", "broken" if len(plain) >= FEW else "suspicious", evidence, advice)
    return Finding("answers vary", "ok", evidence)


def _telling(model: Opened, split: Split, plain: Float[Tensor, "N C"]) -> Finding:
    """Tell whether a head looks trained, and say by what."""
    what, (told, drawn) = "the head looks trained", told_and_drawn(model, split, plain)
    evidence = f"its answers tell {100 * told:.1f}% of what they could"
    evidence += "" if drawn is None else f", those of a copy with random weights {100 * drawn:.1f}%"
    if looks_trained(told, drawn) or plain.shape[1] < 2 or len(plain) < FEW:
        return Finding(what, "ok", evidence)
    return Finding(what, "suspicious", evidence, "give trained weights, or answers that are not scaled down")


def told_and_drawn(model: Opened, split: Split, plain: Float[Tensor, "N C"]) -> tuple[float, float | None]:
    """Return the share of what answers could tell of samples that they do tell; and that of random weights, if known.

    Args:
        model: Whose answers they are.
        split: Some of it is shown to a copy with random weights.
        plain: Its answers to the split.
    """
    copy = random_copy(model)
    if not isinstance(copy, TorchClassifier) or copy.fingerprint == model.fingerprint:
        return _information(plain), None
    random = ask_as(copy, split.take(np.arange(min(AT_ONCE, len(split)))), Variant("its own", model.preprocess))
    return _information(plain), _information(random) if bool(random.isfinite().all()) else 0.0


def looks_trained(told: float, drawn: float | None) -> bool:
    """Tell a trained head: that of random weights gives all samples nearly the same probabilities."""
    return told >= max(TELLING, 2 * min(drawn or 0.0, 0.25))


def _information(logits: Float[Tensor, "N C"]) -> float:
    """Return the mutual information of sample and answer, as a share of the entropy of all answers: 1 if all are sure.

    Samples that are all of one class, and known to be, tell little of ln C but most of what they could.
    """
    probs = logits.double().softmax(1)
    mean = probs.mean(0)
    within, overall = (-(p * p.clamp(min=1e-12).log()).sum(-1).mean().item() for p in (probs, mean))
    return max(0.0, overall - within) / max(overall, 1e-12)


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
    answered = Predictions(model.name, plain, torch.from_numpy(split.labels), split.ids, "", "")
    published = as_published(model, answered)
    return [
        _better_than_chance(model, answered, split),
        *([published] if published else []),
        _order(model, data, answered),
        _better_variant(model, split, answered.correct, progress),
    ]


def _better_than_chance(model: Opened, answered: Predictions, split: Split) -> Finding:
    what, problem = "better than chance", chance_problem(answered, model.spec)
    if problem is None:
        return Finding(
            what, "ok", f"{answered.accuracy:.1f}% right on {len(split):,} samples of the {split.name} split"
        )
    if too_few_to_tell(answered):
        return Finding(what, "suspicious", f"{problem.found}: too few samples to tell", "give more with labels")
    return Finding(what, "broken", problem.found, "give trained weights, or see below")


def as_published(model: Opened, answered: Predictions) -> Finding | None:
    """Compare with the accuracy that stands beside the weights, where one does: torchvision's."""
    known = published_accuracy(model.spec)
    if known is None:
        return None
    published, measured_on = known
    evidence = f"{answered.accuracy:.1f}% here, {published:.1f}% published on {measured_on}"
    right, n = int(answered.correct.sum()), len(answered.preds)
    if stats.binom.cdf(right, n, max(0.0, (published - FAR_OFF) / 100)) >= LEVEL:
        return Finding("as published", "ok", evidence)
    advice = f"if these are pictures of {measured_on}, see below what is off; others may be harder"
    return Finding("as published", "suspicious", evidence, advice)


def _order(model: Opened, data: Splits, answered: Predictions) -> Finding:
    """Look at the order of classes on every split with labels."""
    what, seen = "classes in the data's order", []
    for part in labelled_parts(data):
        part = enough_to_tell(part, len(data.classes))
        assert part.labels is not None
        same = np.array_equal(part.ids, answered.ids)
        preds = answered.preds if same else ask_as(model, part, Variant("its own", model.preprocess)).argmax(1)
        asked = (preds, part.labels, "the labels", model.spec, data.classes)
        problem = class_order_problem(*asked, split=part.name)
        if problem is not None:
            return Finding(what, "suspicious", *problem)
        seen.append(f"{100 * (preds.numpy() == part.labels).mean():.1f}% of {part.name}")
    return Finding(what, "ok", f"the labels agree: {', '.join(seen)}")


def _better_variant(model: Opened, split: Split, correct: Tensor, progress: Progress) -> Finding:
    """Try other preprocessings on the same samples, and name the best one that is far better than the model's own."""
    tried, found, failed = list(variants(model, split)), [], 0
    for done, variant in enumerate(tried, 1):
        try:
            logits = ask_as(model, split, variant)
        except Exception:  # a model of one size takes no other; the module is its user's and may raise anything
            failed += 1
            continue
        finally:
            progress("trying other preprocessings", done, len(tried))
        assert split.labels is not None
        points = gained(logits.argmax(1) == torch.from_numpy(split.labels), correct, len(tried))
        if points is not None:
            found.append((points, variant))
    what = "preprocessing"
    if not tried:
        return Finding(what, "ok", f"of {model.preprocess.kind}, nothing else is tried")
    skipped = f"; {failed} could not be asked" if failed else ""
    if not found:
        none = f"none of {len(tried) - failed} others is better by {LIFT:g} points or more{skipped}"
        return Finding(what, "ok", none)
    points, best = max(found, key=lambda each: each[0])
    own = 100.0 * correct.double().mean().item()
    evidence = f"{best.what}: {own + points:.1f}% right instead of {own:.1f}%{skipped}"
    return Finding(what, "suspicious", evidence, *how_to_ask(model, best))


def gained(right: Bool[Tensor, " N"], correct: Bool[Tensor, " N"], tried: int) -> float | None:
    """Return by how many points one of so many variants is better; None where that is little, or may be chance."""
    won, lost = int((right & ~correct).sum()), int((correct & ~right).sum())
    points = 100.0 * (won - lost) / len(correct)
    return points if points >= LIFT and stats.binom.sf(won - 1, won + lost, 0.5) < LEVEL / tried else None
