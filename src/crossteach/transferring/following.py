"""What the leader of a crew tells the others to do with it, and how they do it.

The leader runs a transfer as a process alone would. Whenever it trains, or lets tutors answer for the store, it says
so; the others set up the same from their own copies of models and data, and do their share.
"""

from dataclasses import dataclass, replace
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
from jaxtyping import Int

from ..answers.tutors import LiveTutors, fill_store, layout_for
from ..models.scoring import set_batch
from ..types import TrainableClassifier
from .plan import TrainingPlan
from .setup import TransferSetup
from .sources import Source
from .state import TrainingState
from .training import train

FALLBACK_RATES = {"sgd": 0.01, "adamw": 0.001}
"""Where the method reads labels and the selection split has none to probe with."""
FOUND = ("lr", "table_lr", "epochs", "max_steps", "temperatures", "judge", "shown")
"""What a plan holds that was found out."""

Rows = Int[np.ndarray, " n"]


@runtime_checkable
class Order(Protocol):
    """What the others are told to do."""

    def follow(self, whole: TransferSetup, now: TransferSetup) -> TransferSetup:
        """Do it, and return the setup of the lesson that is under way.

        Args:
            whole: Of the whole transfer.
            now: Of the lesson under way; the same where there is one lesson.
        """
        ...


def follow(setup: TransferSetup) -> None:
    """Do what the leader says, until it says that all is done."""
    now, nothing = setup, cast(Order | None, None)
    while (order := setup.crew.tell(nothing)) is not None:
        now = order.follow(setup, now)


@dataclass(frozen=True)
class Answer:
    """Let the tutors answer views of a source: each process other views, so that no two write to one table."""

    place: int
    """Of the source among those of the lesson."""
    shown: tuple[int, ...]
    """Numbers of the views."""

    def follow(self, whole: TransferSetup, now: TransferSetup) -> TransferSetup:
        """Fill this process's share of the tables."""
        self.fill_share(now)
        return now

    def fill_share(self, setup: TransferSetup) -> None:
        """Fill the tables of every so manieth view, and wait for the others."""
        source, crew = setup.sources[self.place], setup.crew
        mine = self.shown[crew.rank :: crew.size]
        if mine:
            fill_store(setup.tutors, source.split, source.views, setup.store, setup.progress, mine)
        crew.wait()


@dataclass(frozen=True)
class Train:
    """Train the lesson's student with the leader."""

    found: dict[str, Any]
    """Of the plan: what was found out before."""
    rows: tuple[Rows | None, ...]
    """Which samples of each source teach."""
    batches: tuple[int | None, ...]
    """How many images the leader asks each tutor at once: its answers stand in the store under that."""
    state: TrainingState | None
    """Where an interrupted training stood."""

    def follow(self, whole: TransferSetup, now: TransferSetup) -> TransferSetup:
        """Train a copy of the student; its weights are the leader's, and are thrown away."""
        for tutor, batch in zip(now.tutors, self.batches, strict=True):
            if set_batch(tutor) != batch:
                tutor.scoring_batch = batch  # type: ignore[attr-defined]
        plan = replace(bare_plan(now), **self.found)
        sources = tuple(replace(source, rows=rows) for source, rows in zip(plan.sources, self.rows, strict=True))
        plan = replace(plan, sources=sources)
        plan = replace(plan, sources=tuple(with_tutors(now, s, plan.steps) for s in sources))
        state = None if self.state is None else replace(self.state, taught=None, taught_of_pools=None, epoch_loss=None)
        train(now.student.clone(), plan, state, crew=now.crew)
        return now


def train_together(
    setup: TransferSetup,
    student: TrainableClassifier,
    plan: TrainingPlan,
    state: TrainingState | None = None,
    **more: Any,
) -> TrainingState:
    """Train a copy of the setup's student as `train` does, and let the others of the crew train with it.

    Args:
        setup: Of the lesson.
        student: A copy of its student.
        plan: What it is taught.
        state: Where an interrupted training stood.
        more: What else `train` takes; the others save, measure and show nothing.
    """
    found = {name: getattr(plan, name) for name in FOUND}
    batches = tuple(set_batch(tutor) for tutor in setup.tutors)
    setup.crew.tell(Train(found, tuple(source.rows for source in plan.sources), batches, state))
    return train(student, plan, state, crew=setup.crew, **more)


def answer_together(setup: TransferSetup, source: Source, steps: int, temperature: float | None = None) -> Source:
    """Let the tutors answer on the views of a source that so many steps show, each process of the crew on its share.

    Their answers are read for a temperature: that of the loss, unless another is given.
    """
    if setup.crew.size > 1 and _from_store(setup, source):
        place = next(place for place, each in enumerate(setup.sources) if each.split is source.split)
        order = setup.crew.tell(Answer(place, _shown(source, steps)))
        order.fill_share(setup)
    return with_tutors(setup, source, steps, temperature)


def with_tutors(setup: TransferSetup, source: Source, steps: int, temperature: float | None = None) -> Source:
    """Let the tutors answer on the views of a source that so many steps show, or get them ready to answer live."""
    if not setup.tutors:
        return source
    temperature = temperature or setup.config.partition.temperature
    if not _from_store(setup, source):
        layouts = [layout_for(tutor, source.split, source.views, setup.store) for tutor in setup.tutors]
        return replace(source, tutors=LiveTutors(setup.tutors, layouts, temperature))
    asked = (setup.tutors, source.split, source.views, setup.store, setup.progress)
    return replace(source, tutors=fill_store(*asked, _shown(source, steps), temperature))


def _from_store(setup: TransferSetup, source: Source) -> bool:
    """Tell whether answers of tutors on a source's views are kept."""
    return bool(setup.tutors) and not setup.config.views.live and source.views.count > 0


def _shown(source: Source, steps: int) -> tuple[int, ...]:
    """Return the numbers of the views that so many steps show."""
    return source.views.shown(source.passes(steps))


def bare_plan(setup: TransferSetup) -> TrainingPlan:
    """Return the plan of a lesson as its settings say it: nothing is found out yet, and no tutor asked."""
    optim = setup.config.optim
    return TrainingPlan(
        setup.method,
        setup.config,
        setup.sources,
        optim.lr or FALLBACK_RATES["sgd"],
        optim.epochs,
        features=setup.features,
        known=setup.known,
        table_lr=optim.table_lr,
    )
