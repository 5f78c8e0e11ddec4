"""Is this model what its user thinks it is? Checked before anything is trained."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy import stats
from torch import Tensor, nn

from ..data.texts import fixed_texts
from ..errors import CrossteachError, DataError, LabelSpaceError, MissingLabelsError, ModelError, first_line
from ..models.asking import digest_of_state, fixed_inputs
from ..models.mapped import MappedClassifier
from ..models.scoring import answers_by_sample, score
from ..types import NO_ANSWER, Classifier, Predictions, Progress, Splits, TrainableClassifier
from .class_order import MOST_CLASSES, class_order_problem, labelled_parts
from .compact import PredictedClasses
from .mapping import mapping_notes
from .prediction import predict
from .problem import Problem, refuse_or_say
from .store import Store

Answered = Predictions | PredictedClasses
"""What a model said about a split."""

CHANCE_LEVEL = 1e-3
"""A model is better than chance when chance would do as well with less than this probability."""
NEAR_CHANCE = 0.1
"""Share of the way from chance to all right below which a model is near chance."""
FAR_BELOW = 2 / 3
"""Share of the best model's accuracy below which a model is far below it, from `FAR_POINTS` points on."""
FAR_POINTS = 10.0
CONSTANT = 20
"""Samples from which a model that gives all of them one class tells nothing."""
COUNTED = 5
"""Samples from which a class counts as one that a model knows or does not know."""
FEW_CLASSES = 6
"""Classes from which it is asked how many of them a model knows."""
KNOWN_REFUSED, KNOWN_NAMED = 1 / 3, 1 / 2
"""Share of the classes below which a student is refused, and below which any model is named."""
STEADY = 1e-3
"""By how much two answers to one image may differ, as a share of the spread of the logits."""
ASKED_AGAIN = (6, 4, 2, 0, 5, 3, 1)
"""Which fixed images are asked about again: in batches of 2, 4 and 8 each stands beside others than the first time."""


def require_label_space(classifier: Classifier, data: Splits) -> None:
    """Raise LabelSpaceError if a model does not score the data's classes in the data's order."""
    expected = len(data.classes)
    if classifier.n_classes != expected:
        raise LabelSpaceError(
            f"{classifier.spec!r} scores {classifier.n_classes} classes but {data.spec!r} has {expected}"
            f"{_odd_classes(classifier, data)}; all models of a transfer and the data must share their classes: give "
            "a teacher a --label-map, pick a model with these classes, or remove what is no class from the data"
        )
    if classifier.classes is not None and classifier.classes != data.classes:
        pairs = enumerate(zip(classifier.classes, data.classes, strict=True))
        index, (own, theirs) = next((i, pair) for i, pair in pairs if pair[0] != pair[1])
        raise LabelSpaceError(
            f"class {index} of {classifier.spec!r} is {own!r} but in {data.spec!r} it is {theirs!r}; "
            "order the classes alike"
        )


def _odd_classes(classifier: Classifier, data: Splits) -> str:
    """Name the classes of the data that the model does not know, or else those that look least like classes."""
    if classifier.classes is not None:
        unknown = [repr(name) for name in data.classes if name not in classifier.classes]
        return f", of which the model does not know {', '.join(unknown[:3])}" if unknown else ""
    splits = [split.labelled() for split in (data.train, data.selection, data.test)]
    labels = [split.labels for split in splits if split.labels is not None]
    if len(data.classes) < classifier.n_classes or not labels:
        return ""
    counts = np.bincount(np.concatenate(labels), minlength=len(data.classes))
    fewest = [f"{data.classes[i]!r} ({counts[i]})" for i in np.argsort(counts, kind="stable")[:3]]
    return f", the smallest of them {', '.join(fewest)} samples"


def require_channels(classifier: Classifier, data: Splits) -> None:
    """Raise DataError if a model that reads text is shown images, or one is normalised for other channels."""
    reads, holds = classifier.preprocess.kind, data.test.inputs.kind
    if reads != holds:
        raise DataError(f"{classifier.spec!r} reads {reads} but {data.spec!r} holds {holds}; give data of its kind")
    if reads == "text":
        return
    channels = classifier.preprocess.channels or data.test.inputs.channels
    for name, values in (("mean", classifier.preprocess.mean), ("std", classifier.preprocess.std)):
        if len(values) not in (1, channels):
            raise DataError(f"{classifier.spec!r} has {len(values)} numbers as {name} but sees {channels} channels")


def require_test_labels(data: Splits) -> None:
    """Raise MissingLabelsError if nothing could be measured."""
    if data.test.labels is None:
        raise MissingLabelsError(f"the test split of {data.spec!r} has no labels, so nothing can be measured; add them")


def chance_problem(predictions: Answered, spec: str) -> Problem | None:
    """Say that a model answers like chance, or knows few of the classes; None if it does not."""
    if predictions.labels is None:
        return None
    found = _standing(predictions)
    right, n = int(predictions.correct.sum()), len(predictions.preds)
    if stats.binom.sf(right - 1, n, found.chance) > CHANCE_LEVEL:
        said = f"no more than always answering one class ({100 * found.chance:.1f}%)"
    elif found.known_share < KNOWN_REFUSED:
        said = f"all of them in {found.known} of {found.counted} classes"
    else:
        return None
    return Problem(f"{spec!r} has {right} of {n} right, {said}", "check its mean, std, size and the order of classes")


def lot_problem(predictions: Answered, spec: str) -> Problem | None:
    """Say that a model's answers have nothing to do with the labels; None if they have, or nobody can tell.

    Its own answers, dealt out to the samples by lot, are what it is compared with: a model that is weak, or right in
    few classes only, may still teach. It is judged on the classes that it knows.
    """
    said = _of_known(predictions)
    if said.labels is None or bool((said.labels == said.labels[:1]).all()):
        return None
    n, right = len(said.preds), int(said.correct.sum())
    given, there = (each.bincount(minlength=said.n_classes).double() / n for each in (said.preds, said.labels))
    by_lot = min(1.0, float(given @ there))
    at_most = stats.binomtest(right, n).proportion_ci(0.95).high
    too_few = n < CONSTANT if bool((given == 1).any()) else at_most > by_lot + NEAR_CHANCE * (1 - by_lot)
    if too_few or stats.binom.sf(right - 1, n, by_lot) <= CHANCE_LEVEL:
        return None
    return Problem(
        f"{spec!r} has {right} of {n} right, no more than its answers dealt out by lot ({100 * by_lot:.1f}%)",
        "check its mean, std, size and the order of classes",
    )


def too_few_to_tell(predictions: Answered) -> bool:
    """Tell whether a model that has no more right than chance may still be far above it: the samples are too few."""
    chance, right = _standing(predictions).chance, int(predictions.correct.sum())
    at_most = stats.binomtest(right, len(predictions.preds)).proportion_ci(0.95).high
    return bool(at_most > chance + NEAR_CHANCE * (1 - chance))


@dataclass(frozen=True)
class _Standing:
    """How a model stands against chance."""

    chance: float
    """What always answering one class, or guessing, has right."""
    counted: int
    """Classes with enough samples."""
    known: int
    """Those of them in which the model has any right."""

    @property
    def known_share(self) -> float:
        """Share of the counted classes that are known; 1 where too few are counted to tell."""
        return self.known / self.counted if self.counted >= FEW_CLASSES else 1.0


def _standing(predictions: Answered) -> _Standing:
    assert predictions.labels is not None
    classes = predictions.n_classes
    sizes = predictions.labels.bincount(minlength=classes)
    right = predictions.labels[predictions.correct].bincount(minlength=classes)
    counted = sizes >= COUNTED
    chance = max(float(sizes.max()) / len(predictions.labels), 1 / classes)
    return _Standing(chance, int(counted.sum()), int((counted & (right > 0)).sum()))


def check_answers(
    student: TrainableClassifier,
    teachers: Sequence[Classifier],
    data: Splits,
    store: Store,
    progress: Progress,
    force: bool,
    look: Callable[[Classifier], Problem | None] = lambda model: None,
) -> list[str]:
    """Ask every model of a transfer about the selection split, and see whether it is what its user thinks it is.

    The student must be better than chance, and the teachers' answers must have to do with the labels. Every model must
    give an image the same answer whenever it is asked, and count the classes in the order of the labels, on every split
    that has some. A model that is near chance, or far below another, is named.

    Args:
        student: The model that is about to learn.
        teachers: The models that it learns from.
        data: The selection split is read, its labels if there are any, and samples of test and train with a label.
        store: Where the answers are kept.
        progress: Told how many samples are done.
        force: Whether to say what is wrong instead of refusing it.
        look: Looks at each model once more, when they are steady and in order.

    Returns:
        Notes, one sentence each.

    Raises:
        ModelError: If a model is not what it should be, and `force` is not given; or if it changes when it is asked.
    """
    models = [student, *teachers]
    found = [problem for model in models if (problem := steadiness_problem(model, data))]
    answered = [predict(model, data.selection, store, progress) for model in models]
    specs, orders = [model.spec for model in models], dict[str, Problem]()
    for part in labelled_parts(data) or [data.selection]:
        said = [predict(model, part, store, progress) for model in models]
        orders = order_problems(specs, said, data.classes, "what the student says", part.name) | orders
    found += orders.values()
    if force or not found:
        found += filter(None, map(look, models))
    found += filter(None, [chance_problem(answered[0], student.spec)])
    found += filter(None, map(lot_problem, answered[1:], specs[1:]))
    roles = ["student", *(f"teacher {teacher.name}" for teacher in teachers)]
    notes = [*mapping_notes(teachers, data.selection, store), *refuse_or_say(found, force)]
    return [*notes, *order_notes(data.classes), *name_weak(roles, answered)]


def order_problems(
    specs: Sequence[str], answered: Sequence[Answered], classes: Sequence[str], first: str, split: str = "selection"
) -> dict[str, Problem]:
    """Say which models count the classes in another order than the data, each by its spec.

    Args:
        specs: Name the models.
        answered: Their answers on one split.
        classes: Names of the data's classes.
        first: What the answers of the first model are called: where there are no labels, the others are compared with
            them.
        split: The name of the split.
    """
    labels = answered[0].labels
    reference, what = (answered[0].preds, first) if labels is None else (labels, "the labels")
    found = {}
    for k, (spec, said) in enumerate(zip(specs, answered, strict=True)):
        others = [
            other.accuracy / 100
            for other in (*answered[:k], *answered[k + 1 :])
            if labels is not None and bool(other.answered.any())
        ]
        best, rows = max(others, default=0.0), known_rows(said, reference) & (reference != NO_ANSWER)
        asked = said.preds[rows], reference[rows].numpy()
        problem = class_order_problem(*asked, what, spec, classes, best, split)
        if problem is not None:
            found[spec] = problem
    return found


def known_rows(said: Answered, classes: Int[Tensor, " N"]) -> Bool[Tensor, " N"]:
    """Mark the samples that a model answers and whose class it knows: the others say nothing of it."""
    return said.answered if said.knows is None else said.answered & said.knows[classes]


def _of_known(said: Answered) -> Answered:
    """Return what a model said of the labelled samples that it answers and whose class it knows."""
    if said.labels is None or (said.knows is None and bool(said.answered.all())):
        return said
    rows = known_rows(said, said.labels)
    return PredictedClasses(
        model=said.model, n_classes=said.n_classes, preds=said.preds[rows], labels=said.labels[rows]
    )


def order_notes(classes: Sequence[str]) -> list[str]:
    """Say that not every order of classes is checked, where they are too many."""
    if len(classes) <= MOST_CLASSES:
        return []
    return [f"of more than {MOST_CLASSES:,} classes no order is tried but that of their names as text or as numbers"]


def name_weak(roles: Sequence[str], answered: Sequence[Answered]) -> list[str]:
    """Name every model that is near chance, knows few of the classes, or is far below the best of them.

    A model that knows a part of the classes is measured on the samples of these.

    Args:
        roles: What each model is called.
        answered: Its answers on one split; without labels none is named.
    """
    if any(said.labels is None for said in answered):
        return []
    answered = [_of_known(said) for said in answered]
    if any(not len(said.preds) for said in answered):
        return []
    best = max(range(len(answered)), key=lambda k: answered[k].accuracy)
    notes = []
    for k, said in enumerate(answered):
        found, top = _standing(said), answered[best].accuracy
        reasons = []
        if said.accuracy / 100 < found.chance + NEAR_CHANCE * (1 - found.chance):
            reasons.append(f"near what always answering one class has right ({100 * found.chance:.1f}%)")
        if found.known_share < KNOWN_NAMED:
            reasons.append(f"all of them in {found.known} of {found.counted} classes")
        if said.accuracy < FAR_BELOW * top and top - said.accuracy >= FAR_POINTS:
            reasons.append(f"far below the {top:.1f}% of the {roles[best]}")
        if reasons:
            hint = "check its mean, std, size and the order of classes"
            notes.append(
                f"the {roles[k]} has {said.accuracy:.1f}% right on the selection split, {', '.join(reasons)}: {hint}"
            )
    return notes


@torch.no_grad()
def steadiness_problem(classifier: Classifier, data: Splits) -> Problem | None:
    """Ask a model twice about fixed images, and say what differs; None if nothing does.

    A table of answers knows no such images, and is not asked. The second time they stand beside others, so that an
    answer that depends on the images beside it differs too.

    Raises:
        ModelError: If the model's weights or buffers are not as before afterwards.
    """
    classifier = classifier.inner if isinstance(classifier, MappedClassifier) else classifier  # its own spread
    if answers_by_sample(classifier):
        return None
    wanted, inputs = classifier.preprocess, data.test.inputs
    images = (
        fixed_texts()
        if wanted.kind == "text"
        else fixed_inputs(wanted.size or inputs.size or (32, 32), wanted.channels or inputs.channels)
    )
    module = getattr(classifier, "module", None)
    before = digest_of_state(module) if isinstance(module, nn.Module) else ""
    first, again_rows = score(classifier, images), list(ASKED_AGAIN)
    apart = _apart(first[again_rows], score(classifier, images[again_rows]))
    again = _apart(first, score(classifier, images)) if apart > STEADY else 0.0
    if isinstance(module, nn.Module) and digest_of_state(module) != before:
        raise ModelError(
            f"{classifier.spec!r} changes its own weights when it is asked, and they cannot be brought back; "
            "give a module whose forward pass leaves them alone"
        )
    if apart <= STEADY:
        return None
    how = "from pass to pass" if again > STEADY else "with the images that stand beside one"
    return Problem(
        f"the answers of {classifier.spec!r} differ {how}, by {100 * max(apart, again):.2g}% of their spread "
        "(dropout or batch statistics that evaluation mode does not switch off?)",
        "switch it off",
    )


def _apart(first: Float[Tensor, "N C"], second: Float[Tensor, "N C"]) -> float:
    """Return the largest difference of two answers, as a share of the spread of the first."""
    spread = first.std(correction=0).item() or 1.0
    return (first - second).abs().max().item() / spread


def train_mode_notes(student: TrainableClassifier, images: Float[Tensor, "N c h w"]) -> list[str]:
    """Ask a copy of a student in train mode, and return what it says of its answers: it may have auxiliary heads.

    Raises:
        ModelError: If it does not answer in train mode.
    """
    copy, device = student.clone(), student.device
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            copy.module.train()
            copy.logits(torch.cat([images, images]))  # batch norm takes no single image
    except CrossteachError:
        raise
    except Exception as error:  # the module is its user's and may raise anything
        raise ModelError(
            f"{student.spec!r} does not answer in train mode ({first_line(error)}); drop optim.train_statistics"
        ) from error
    known = getattr(student, "notes", ())
    return [note for note in getattr(copy, "notes", ()) if note not in known]
