"""Data sets of the `datasets` library: `hf:NAME` from the hub or its cache, `hf:FOLDER` from a disk."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import DataError, MissingExtraError, SpecError, first_line
from ..specs import Spec
from ..types import NO_LABEL, Kind, SplitName, Splits
from .arrow import ArrowPictures
from .assemble import SPLIT_NAMES, RawSplit, default_ids
from .encoded_splits import LISTED_OPTIONS, PICTURE_OPTIONS, Listed, listed_pool, listed_splits
from .label_words import LabelWords, collect_words, word_of
from .listed import TEXT_OPTIONS, text_pool, text_splits
from .look import shown
from .table import TablePart

COLUMN_OPTIONS = {"label", "group"}
"""Options that name columns, beside the one of the samples: `image` or `text`."""
SPLIT_OPTIONS: dict[str, SplitName] = {"train": "train", "val": "selection", "test": "test"}
"""Options that name splits."""
HUB_OPTIONS: dict[Kind, set[str]] = {
    "image": {*LISTED_OPTIONS, *COLUMN_OPTIONS, *SPLIT_OPTIONS, "config", "image"},
    "text": {*TEXT_OPTIONS, *COLUMN_OPTIONS, *SPLIT_OPTIONS, "config", "text"},
}
POOL_OPTIONS = {*PICTURE_OPTIONS, "image", "text", "longest", "group", "train", "config"}
IMAGES, TEXTS, LABELS = ("image", "img"), ("text",), ("label", "labels")
"""What columns are mostly called."""
NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
"""A name on the hub."""
SAVED = ("dataset_dict.json", "state.json")
"""What a folder holds that `save_to_disk` wrote."""


def load_hf(spec: Spec) -> Splits:
    """Open `hf:NAME` or `hf:FOLDER` by the `datasets` library: pictures stay encoded, in files mapped to memory.

    A folder is one that `save_to_disk` wrote, or holds pictures in class folders or parquet files, as the hub has them.
    A name is read from the library's cache or fetched from the hub. Nothing in it runs code.

    The columns are found by their types: the pictures (`Image`), or where there are none the texts (the column of
    strings that is called text, or the only one); and the labels (`ClassLabel`, else a column called label). The
    classes are those of the label column, in its order; −1 says that a sample has no label.

    Options, beside those of pictures or texts and of all data:
        `image=COLUMN` or `text=COLUMN`, `label=COLUMN`, `group=COLUMN`. `train=NAME`, `val=NAME`, `test=NAME` say which
        split is which. `config=NAME` chooses one of several configurations. `class_order=text|numbers` where labels are
        no ClassLabel. `longest=BYTES` cuts texts.

    Raises:
        SpecError: If an option is out of range.
        MissingExtraError: If `datasets` is not installed.
        DataError: If the data cannot be read, a column is unclear, or labels are no single classes.
    """
    spec.refuse_unknown(HUB_OPTIONS["image"] | HUB_OPTIONS["text"])
    found, notes = choose_splits(spec, open_datasets(spec))
    features = found["train"].features
    group = _group_column(spec, features)
    kind = _kind_of_samples(spec, features)
    spec.refuse_unknown(HUB_OPTIONS[kind])
    if kind == "text":  # a label may be a string too
        label = choose_column(spec, "label", features, _names_classes, LABELS)
        item = _text_column(spec, features, {label, group})
    else:
        item = choose_column(spec, "image", features, holds_pictures, IMAGES)
        label = choose_column(spec, "label", features, _names_classes, LABELS)
    for dataset in found.values():
        for column in filter(None, (item, label, group)):
            _require_column(spec, dataset, column)
    classes = _class_names(spec, found, label)
    labels = {name: read_labels(spec, dataset, label) for name, dataset in found.items()}
    groups = {name: _groups(spec, dataset, group) for name, dataset in found.items()}
    if "test" in labels and (labels["test"].codes == NO_LABEL).all() and "selection" in labels:
        notes.append("test has no labels, so nothing is reported; ?test=NAME takes another split for it")
    if kind == "text":
        texts = {
            name: TablePart(_texts(spec, dataset, item), labels[name], groups[name]) for name, dataset in found.items()
        }
        return text_splits(spec, texts, [*notes, *_empty_notes(texts)], classes)
    parts = {
        name: Listed(
            f"{name} of {spec.text!r}",
            _pictures(spec, dataset, item),
            labels[name],
            default_ids(name, len(dataset)),
            groups[name],
        )
        for name, dataset in found.items()
    }
    return listed_splits(spec, parts, notes, classes)


def hf_pool(spec: Spec, channels: int | None) -> tuple[RawSplit, list[str]]:
    """Take the pictures or texts of the train split as a pool, or of the only split; labels are not read.

    Raises:
        MissingExtraError: If `datasets` is not installed.
        DataError: If the data cannot be read, or the column of pictures or texts is unclear.
    """
    datasets = open_datasets(spec)
    name = spec.options.get("train", "train" if len(datasets) > 1 else next(iter(datasets)))
    if name not in datasets:
        raise DataError(f"{spec.text!r} has no split {name!r}; it has {_listed(datasets)}: name one by ?train=NAME")
    dataset = datasets[name]
    group = _group_column(spec, dataset.features)
    kind = _kind_of_samples(spec, dataset.features)
    if kind == "text":
        item = _text_column(spec, dataset.features, {*LABELS, group})
    else:
        item = choose_column(spec, "image", dataset.features, holds_pictures, IMAGES)
    for column in filter(None, (item, group)):
        _require_column(spec, dataset, column)
    groups = _groups(spec, dataset, group)
    if kind == "text":
        part = TablePart(_texts(spec, dataset, item), None, groups)
        raw, notes = text_pool(spec, part)
        return raw, [*_empty_notes({"pool": part}), *notes]
    return listed_pool(spec, Listed(f"{name} of {spec.text!r}", _pictures(spec, dataset, item), group=groups), channels)


def open_datasets(spec: Spec) -> dict[str, Any]:
    """Open all splits of a data set, by their names; one that has no splits is all train.

    Raises:
        MissingExtraError: If `datasets` is not installed.
        DataError: If there is no such data set, or it cannot be read.
    """
    try:
        import datasets
    except ImportError:
        raise MissingExtraError(f"{spec.text!r} needs datasets; pip install 'crossteach[hf]'") from None
    name, folder = str(spec.path), spec.path
    if not folder.is_dir() and not NAME.fullmatch(name):
        raise DataError(f"no folder {shown(folder)} for {spec.text!r}, and no name of a data set as ORG/NAME")
    quiet = datasets.utils.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        if any((folder / file).is_file() for file in SAVED):
            opened = datasets.load_from_disk(name)
        else:
            opened = datasets.load_dataset(name, spec.options.get("config"))
    except Exception as error:  # its builders raise anything
        where = "the folder" if folder.is_dir() else "no folder of this name, and the hub or its cache"
        raise DataError(
            f"{spec.text!r} cannot be opened: {where} says {first_line(error)!r}; give a folder that save_to_disk "
            "wrote, one of pictures or parquet files, or a name that is in the cache or can be fetched"
        ) from error
    finally:
        if not quiet:
            datasets.enable_progress_bars()
    return dict(opened) if isinstance(opened, datasets.DatasetDict) else {"train": opened}


def choose_splits(spec: Spec, datasets: Mapping[str, Any]) -> tuple[dict[SplitName, Any], list[str]]:
    """Find train, selection and test among the splits of a data set, by their names or by options.

    Returns:
        Those that are there, and a note of those that are not read.

    Raises:
        DataError: If a split that an option names is not there, or none is train.
    """
    taken: dict[SplitName, str] = {}
    for key, split in SPLIT_OPTIONS.items():
        if key in spec.options:
            taken[split] = spec.options[key]
            if taken[split] not in datasets:
                raise DataError(f"{spec.text!r} has no split {taken[split]!r}; it has {_listed(datasets)}")
    for name, words in SPLIT_NAMES.items():
        usual = next((word for word in words if word in datasets and word not in taken.values()), None)
        if name not in taken and usual is not None:
            taken[name] = usual
    if "train" not in taken:
        raise DataError(
            f"{spec.text!r} has no train split; it has {_listed(datasets)}: say which is which by "
            "?train=NAME&val=NAME&test=NAME, and what is not named is cut from train"
        )
    if len(set(taken.values())) < len(taken):
        raise DataError(f"{spec.text!r} names one split twice; give train, val and test different ones")
    rest = [name for name in datasets if name not in taken.values()]
    notes = [f"the splits {', '.join(map(shown, rest))} of {spec.text} are not read"] if rest else []
    return {name: datasets[taken[name]] for name in SPLIT_NAMES if name in taken}, notes


def choose_column(
    spec: Spec, key: str, features: Mapping[str, Any], fits: Callable[[Any], bool], usual: Sequence[str]
) -> str:
    """Find a column by its type, or by what it is mostly called.

    Args:
        spec: May name it by an option.
        key: The option, and what the column is for.
        features: The types of the columns that may be it, by their names.
        fits: Tells by its feature whether a column is such a one.
        usual: What it is mostly called.

    Raises:
        DataError: If none or several could be it.
    """
    if spec.options.get(key):
        return spec.options[key]
    fitting = [name for name, feature in features.items() if fits(feature)]
    fitting = fitting or [name for name in usual if name in features]
    preferred = [name for name in usual if name in fitting] or fitting
    if len(fitting) == 1 or (preferred and preferred[0] in usual):
        return preferred[0]
    several = f"the columns {', '.join(map(shown, fitting))} could be" if fitting else "no column is clearly"
    raise DataError(f"in {spec.text!r} {several} the {key}; it has {_listed(features)}: name one by ?{key}=COLUMN")


def read_labels(spec: Spec, dataset: Any, column: str) -> LabelWords:
    """Read the labels of a split.

    Raises:
        DataError: If a sample has several, or they are no words or numbers.
    """
    import datasets

    feature = dataset.features[column]
    values = _column(spec, dataset, column)
    if isinstance(feature, datasets.ClassLabel):
        codes = np.array(values.fill_null(-1).to_numpy(), np.int64)
        return LabelWords(tuple(feature.names or ()), np.where(codes < 0, NO_LABEL, codes))
    if isinstance(feature, datasets.Value):
        return collect_words(map(word_of, values.to_pylist()))
    raise DataError(
        f"column {shown(column)!r} of {spec.text!r} holds {_type_of(feature)}, not one label a sample; crossteach "
        "teaches classifiers with one class a sample: name a column of single labels by ?label=COLUMN"
    )


def holds_pictures(feature: Any) -> bool:
    """Tell whether a column holds pictures, by its feature."""
    import datasets

    return isinstance(feature, datasets.Image)


def _kind_of_samples(spec: Spec, features: Mapping[str, Any]) -> Kind:
    """Tell pictures from texts, by the column that is named, else by the types of all.

    Raises:
        SpecError: If columns of both are named.
    """
    named = [kind for kind in HUB_OPTIONS if spec.options.get(kind)]
    if len(named) > 1:
        raise SpecError(f"{spec.text!r} names a column of pictures and one of texts; give image= or text=")
    has_pictures = any(name in IMAGES or holds_pictures(feature) for name, feature in features.items())
    return named[0] if named else "text" if not has_pictures and any(map(_holds_text, features.values())) else "image"


def _text_column(spec: Spec, features: Mapping[str, Any], others: Collection[str | None]) -> str:
    """Find the column of texts, which is none of the others.

    Raises:
        DataError: If none or several could be it, or the one that is named holds no texts.
    """
    left = {name: feature for name, feature in features.items() if name not in others}
    column = choose_column(spec, "text", left, _holds_text, TEXTS)
    if column in features and not _holds_text(features[column]):
        raise DataError(
            f"column {shown(column)!r} of {spec.text!r} holds {_type_of(features[column])}, no texts; name a column of "
            "strings by ?text=COLUMN"
        )
    return column


def _holds_text(feature: Any) -> bool:
    import datasets

    return isinstance(feature, datasets.Value) and feature.dtype in ("string", "large_string")


def _names_classes(feature: Any) -> bool:
    import datasets

    return isinstance(feature, datasets.ClassLabel)


def _class_names(spec: Spec, found: Mapping[SplitName, Any], column: str) -> list[str] | None:
    """Return the classes that the label column names; None where its labels are words or numbers.

    Raises:
        DataError: If two splits name other classes.
    """
    features = {name: dataset.features.get(column) for name, dataset in found.items()}
    names = {name: getattr(feature, "names", None) for name, feature in features.items()}
    for name, classes in names.items():
        if classes != names["train"]:
            raise DataError(
                f"train and {name} of {spec.text!r} name other classes in column {shown(column)!r}, or in another "
                "order; give splits whose labels mean the same"
            )
    return names["train"]


def _pictures(spec: Spec, dataset: Any, column: str) -> ArrowPictures:
    return ArrowPictures(_column(spec, dataset, column), f"column {shown(column)!r} of {spec.text!r}")


def _texts(spec: Spec, dataset: Any, column: str) -> list[str]:
    return [text or "" for text in _column(spec, dataset, column).to_pylist()]


def _empty_notes(parts: Mapping[SplitName, TablePart]) -> list[str]:
    """Say how many texts are empty."""
    empty = {name: part.items.count("") for name, part in parts.items()}
    return [f"{count} of {len(parts[name].items)} texts of {name} are empty" for name, count in empty.items() if count]


def _group_column(spec: Spec, features: Mapping[str, Any]) -> str | None:
    """Return the column of groups: the one that is named, else one called group; an empty name reads none."""
    return spec.options.get("group", "group" if "group" in features else "") or None


def _groups(spec: Spec, dataset: Any, column: str | None) -> np.ndarray | None:
    if column is None:
        return None
    words = map(word_of, _column(spec, dataset, column).to_pylist())
    return np.array([word or f"row {row}" for row, word in enumerate(words)], str)


def _column(spec: Spec, dataset: Any, column: str) -> Any:
    """Return a column as Arrow has it: not copied where it lies in a file, not decoded.

    Raises:
        DataError: If its cells lie outside its file: Arrow itself would read there, or end the process.
    """
    import pyarrow

    cells = dataset.select_columns([column]).with_format("arrow")[:].column(column)
    try:
        cells.validate(full=True)
    except pyarrow.ArrowException as error:
        raise DataError(
            f"column {shown(column)!r} of {spec.text!r} is damaged ({first_line(error)}); fetch or write it again"
        ) from error
    return cells


def _require_column(spec: Spec, dataset: Any, column: str) -> None:
    if column not in dataset.features:
        raise DataError(f"{spec.text!r} has no column {shown(column)!r}; it has {_listed(dataset.features)}")


def _type_of(feature: Any) -> str:
    return str(getattr(feature, "dtype", None) or type(feature).__name__)


def _listed(names: Mapping[str, Any]) -> str:
    return ", ".join(map(shown, list(names)[:20]))
