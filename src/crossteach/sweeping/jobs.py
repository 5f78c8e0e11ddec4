"""What a sweep's workers run: one tutor's answers, or one transfer. Models and data stay loaded between jobs."""

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from ..answers.prediction import keep_answers
from ..answers.store import Store
from ..answers.tutors import fill_store
from ..config import ScoringConfig, TransferConfig
from ..data import load_data
from ..data.label_map import LabelMap
from ..data.label_space import fit_label_space
from ..errors import FolderInUseError, RunFolderError
from ..models import MappedClassifier, Opened, TorchClassifier, load_model
from ..models.scoring import CHUNK, ask_as
from ..scouting.matching import map_model
from ..settings import changed
from ..transferring.curriculum import transfer
from ..types import Classifier, Split, Splits
from .asked import AskedViews
from .plan import as_word
from .together import train_together

KEPT_BYTES = 512 << 20
"""Weights that a worker keeps loaded beside those it works with."""
PART_ROWS, PARTS = 64 * CHUNK, 4
"""A long pass is cut into so many parts for each worker, of so many samples at least: opening a model takes time."""


@dataclass(frozen=True)
class Place:
    """What all jobs of a sweep share: data and pools, store and device."""

    data: str | None
    store: Path
    device: str
    trust: bool = False
    """Whether code of saved students runs that this user has not saved."""
    pools: tuple[str, ...] = ()
    label_map: LabelMap | None = None


@dataclass(frozen=True)
class TutorPass:
    """One tutor, and all views that it has to answer."""

    place: Place
    model: str
    views: tuple[AskedViews, ...]
    classes: tuple[str, ...]
    """Of the students."""
    rows: range | None = None
    """Of every split that it answers on; None is all."""


@dataclass(frozen=True)
class TransferJob:
    """One transfer."""

    place: Place
    student: str
    teachers: tuple[str, ...]
    config: TransferConfig
    out: Path
    devices: int = 1
    """Processes that train the student together, each on a device of its own."""


def fill_answers(asked: TutorPass) -> int:
    """Store a model's answers on the views that jobs will show, and on the plain samples of the other splits.

    Returns:
        How many answers were not in the store.
    """
    (opened,) = _models((asked.model,), asked.place)
    model = map_model(opened, asked.classes, asked.place.label_map)
    data, store = _data(asked.place.data, asked.place.pools, asked.place.store), Store(asked.place.store)
    told: list[int] = []

    def tell(what: str, done: int, total: int) -> None:
        told[-1] = done

    for scoring in {views.scoring: None for views in asked.views} or (ScoringConfig(),):
        ask_as([model], scoring)  # once: a batch that is halved where memory runs out stays so
        for split in (data.selection, data.test):
            if rows := _part(asked, split):
                told.append(0)
                keep_answers(model, split, store, tell, rows)
        for views in (views for views in asked.views if views.scoring == scoring):
            split = data.taught[views.source]
            if rows := _part(asked, split):
                told.append(0)
                fill_store([model], split, views.views(data), store, tell, views.numbers, rows=rows)
    return sum(told)


def _part(asked: TutorPass, split: Split) -> range:
    """Return the rows of a split that a pass answers on."""
    every = range(len(split))
    return every if asked.rows is None else every[asked.rows.start : asked.rows.stop]


def parts_of(whole: TutorPass, data: Splits, workers: int) -> list[TutorPass]:
    """Cut a pass into passes over other rows each, so that so many workers share it; a short one stays whole.

    Parts begin where a pass over all rows would begin a chunk, so together they give its bits.
    """
    taught = (data.taught[views.source] for views in whole.views)
    longest = max(len(split) for split in (data.selection, data.test, *taught))
    size = max(PART_ROWS, CHUNK * math.ceil(longest / (CHUNK * PARTS * workers)))
    return [replace(whole, rows=range(start, start + size)) for start in range(0, max(longest, 1), size)]


def run_transfer(job: TransferJob) -> None:
    """Fill a run folder; a whole one is left as it is, a half-done one goes on."""
    if job.devices > 1:
        train_together(job.devices, job.place.device, _arguments(job))
        return
    student, *opened = _models((job.student, *job.teachers), job.place)
    data, store = _data(job.place.data, job.place.pools, job.place.store), Store(job.place.store)
    classes = fit_label_space(data, (student,)).classes
    teachers = [map_model(teacher, classes, job.place.label_map) for teacher in opened]
    try:
        transfer(student, teachers, data, job.out, job.config, store)
    except FolderInUseError:
        raise
    except RunFolderError:  # half done on another device, or with a damaged checkpoint
        transfer(student, teachers, data, job.out, job.config, store, overwrite=True)


def _arguments(job: TransferJob) -> list[str]:
    """Return a transfer as a command line."""
    place, config = job.place, changed(job.config.to_dict())
    given = [("--student", job.student), *(("--teacher", teacher) for teacher in job.teachers)]
    given += [("--data", place.data)] if place.data is not None else []
    given += [("--pool", pool) for pool in place.pools]
    given += [("--label-map", place.label_map.file or place.label_map.source)] if place.label_map is not None else []
    given += [("--set", f"{key}={as_word(value)}") for key, value in config.items()]
    given += [("--out", str(job.out)), ("--store", str(place.store))]
    return ["transfer", *(word for pair in given for word in pair), "--quiet", *(["--trust"] if place.trust else [])]


@lru_cache(maxsize=1)
def _data(spec: str | None, pools: tuple[str, ...], store: Path) -> Splits:
    return load_data(spec, pools, store=Store(store))


_LOADED: dict[tuple[str, str], Opened] = {}
"""The models that this process has opened, the one used last at the end."""


def _models(specs: tuple[str, ...], place: Place) -> list[Opened]:
    """Open models, or take those that are open; close those unused for longest when they weigh too much."""
    for spec in specs:
        key = spec, place.device
        _LOADED[key] = _LOADED.pop(key) if key in _LOADED else _load(spec, place)
    for key in list(_LOADED)[: -len(specs)]:
        if sum(state_bytes(model) for model in _LOADED.values()) > KEPT_BYTES:
            del _LOADED[key]
    return [_LOADED[spec, place.device] for spec in specs]


def _load(spec: str, place: Place) -> Opened:
    return load_model(spec, place.trust, _data(place.data, place.pools, place.store)).to(place.device)


def state_bytes(model: Classifier) -> int:
    """Return how many bytes a model's weights and buffers take, or a black box's file."""
    if isinstance(model, MappedClassifier):
        return state_bytes(model.inner)
    if isinstance(model, TorchClassifier):
        return sum(value.nbytes for value in model.module.state_dict().values())
    return int(getattr(model, "n_bytes", 0))
