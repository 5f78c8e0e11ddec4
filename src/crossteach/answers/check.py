"""Is this model what its user thinks it is? Checked before anything is trained."""

from scipy import stats

from ..errors import DataError, LabelSpaceError, MissingLabelsError, ModelError
from ..types import Classifier, Predictions, Splits

CHANCE_LEVEL = 1e-3
"""A model is better than chance when chance would do as well with less than this probability."""


def require_label_space(classifier: Classifier, data: Splits) -> None:
    """Raise LabelSpaceError if a model does not score the data's classes in the data's order."""
    expected = len(data.classes)
    if classifier.n_classes != expected:
        raise LabelSpaceError(
            f"{classifier.spec!r} scores {classifier.n_classes} classes but {data.spec!r} has {expected}; "
            "all models of a transfer and the data must share their classes: pick a model with these classes"
        )
    if classifier.classes is not None and classifier.classes != data.classes:
        pairs = enumerate(zip(classifier.classes, data.classes, strict=True))
        index, (own, theirs) = next((i, pair) for i, pair in pairs if pair[0] != pair[1])
        raise LabelSpaceError(
            f"class {index} of {classifier.spec!r} is {own!r} but in {data.spec!r} it is {theirs!r}; "
            "order the classes alike"
        )


def require_channels(classifier: Classifier, data: Splits) -> None:
    """Raise DataError if a model with normalisation for other channels is shown this data."""
    channels = classifier.preprocess.channels or data.test.inputs.channels
    for name, values in (("mean", classifier.preprocess.mean), ("std", classifier.preprocess.std)):
        if len(values) not in (1, channels):
            raise DataError(f"{classifier.spec!r} has {len(values)} numbers as {name} but sees {channels} channels")


def require_test_labels(data: Splits) -> None:
    """Raise MissingLabelsError if nothing could be measured."""
    if data.test.labels is None:
        raise MissingLabelsError(f"the test split of {data.spec!r} has no labels, so nothing can be measured; add them")


def require_better_than_chance(predictions: Predictions, spec: str) -> None:
    """Raise ModelError if a model that is about to learn answers like chance: its input is probably not its own."""
    if predictions.labels is None:
        return
    right, n = int(predictions.correct.sum()), len(predictions.labels)
    share = float(predictions.labels.bincount().max()) / n
    chance = max(share, 1 / predictions.logits.shape[1])
    if stats.binom.sf(right - 1, n, chance) > CHANCE_LEVEL:
        raise ModelError(
            f"{spec!r} has {right} of {n} right, no more than always answering one class ({100 * chance:.1f}%); "
            "check its mean, std, size and the order of classes, or go on with --force (in a sweep: force: true)"
        )
