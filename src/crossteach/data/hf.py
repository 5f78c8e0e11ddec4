"""Data sets of the `datasets` library: `hf:NAME` from the hub or its cache, `hf:FOLDER` from a disk."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import DataError, MissingExtraError, first_line
from ..specs import Spec
from ..types import NO_LABEL, SplitName, Splits
from .arrow import ArrowPictures
from .assemble import SPLIT_NAMES, RawSplit, default_ids
from .encoded_splits import LISTED_OPTIONS, PICTURE_OPTIONS, Listed, listed_pool, listed_splits
from .label_words import LabelWords, collect_words, word_of
from .look import shown

COLUMN_OPTIONS = {"image", "label", "group"}
"""Options that name columns."""
SPLIT_OPTIONS: dict[str, SplitName] = {"train": "train", "val": "selection", "test": "test"}
"""Options that name splits."""
HUB_OPTIONS = {*LISTED_OPTIONS, *COLUMN_OPTIONS, *SPLIT_OPTIONS, "config"}
POOL_OPTIONS = {*PICTURE_OPTIONS, "image", "group", "train", "config"}
IMAGES, LABELS = ("image", "img"), ("label", "labels")
"""What columns are mostly called."""
NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
"""A name on the hub."""
SAVED = ("dataset_dict.json", "state.json")
"""What a folder holds that `save_to_disk` wrote."""


def load_hf(spec: Spec) -> Splits:
    """Open `hf:NAME` or `hf:FOLDER` by the `datasets` library: pictures stay encoded, in files mapped to memory.

    A folder is one that `save_to_disk` wrote, or holds pictures in class folders or parquet files, as the hub has them.
    A name is read from the library's cache or fetched from the hub. Nothing in it runs code.

    The columns are found by their types: the pictures (`Image`) and the labels (`ClassLabel`, else a column called
    label). The classes are those of the label column, in its order; −1 says that a sample has no label.

    Options, beside those of pictures and of all data:
        `image=COLUMN`, `label=COLUMN`, `group=COLUMN`. `train=NAME`, `val=NAME`, `test=NAME` say which split is which.
        `config=NAME` chooses one of several configurations. `class_order=text|numbers` where labels are no ClassLabel.

    Raises:
        SpecError: If an option is out of range.
        MissingExtraError: If `datasets` is not installed.
        DataError: If the data cannot be read, a column is unclear, or labels are no single classes.
    """
    spec.refuse_unknown(HUB_OPTIONS)
    found, notes = choose_splits(spec, open_datasets(spec))
    image = choose_column(spec, "image", found["train"], holds_pictures, IMAGES)
    label = choose_column(spec, "label", found["train"], _names_classes, LABELS)
    group = _group_column(spec, found["train"])
    classes = _class_names(spec, found, label)
    parts = {}
    for name, dataset in found.items():
        for column in filter(None, (image, label, group)):
            _require_column(spec, dataset, column)
        parts[name] = Listed(
            f"{name} of {spec.text!r}",
            _pictures(spec, dataset, image),
            read_labels(spec, dataset, label),
            default_ids(name, len(dataset)),
            _groups(spec, dataset, group),
        )
    test = parts.get("test")
    if test is not None and test.labels is not None and (test.labels.codes == NO_LABEL).all() and "selection" in parts:
        notes.append("test has no labels, so nothing is reported; ?test=NAME takes another split for it")
    return listed_splits(spec, parts, notes, classes)


def hf_pool(spec: Spec, channels: int | None) -> tuple[RawSplit, list[str]]:
    """Take the pictures of the train split as a pool, or of the only split; labels are not read.

    Raises:
        MissingExtraError: If `datasets` is not installed.
        DataError: If the data cannot be read, or the column of pictures is unclear.
    """
    datasets = open_datasets(spec)
    name = spec.options.get("train", "train" if len(datasets) > 1 else next(iter(datasets)))
    if name not in datasets:
        raise DataError(f"{spec.text!r} has no split {name!r}; it has {_listed(datasets)}: name one by ?train=NAME")
    dataset = datasets[name]
    image = choose_column(spec, "image", dataset, holds_pictures, IMAGES)
    group = _group_column(spec, dataset)
    for column in filter(None, (image, group)):
        _require_column(spec, dataset, column)
    part = Listed(f"{name} of {spec.text!r}", _pictures(spec, dataset, image), group=_groups(spec, dataset, group))
    return listed_pool(spec, part, channels)


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


def choose_column(spec: Spec, key: str, dataset: Any, fits: Callable[[Any], bool], usual: Sequence[str]) -> str:
    """Find a column by its type, or by what it is mostly called.

    Args:
        spec: May name it by an option.
        key: The option, and what the column is for.
        dataset: Has `features`.
        fits: Tells by its feature whether a column is such a one.
        usual: What it is mostly called.

    Raises:
        DataError: If none or several could be it.
    """
    features = dataset.features
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
        f"column {shown(column)!r} of {spec.text!r} holds {type(feature).__name__}, not one label a sample; crossteach "
        "teaches classifiers with one class a sample: name a column of single labels by ?label=COLUMN"
    )


def holds_pictures(feature: Any) -> bool:
    """Tell whether a column holds pictures, by its feature."""
    import datasets

    return isinstance(feature, datasets.Image)


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


def _group_column(spec: Spec, dataset: Any) -> str | None:
    """Return the column of groups: the one that is named, else one called group; an empty name reads none."""
    return spec.options.get("group", "group" if "group" in dataset.features else "") or None


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


def _listed(names: Mapping[str, Any]) -> str:
    return ", ".join(map(shown, list(names)[:20]))
