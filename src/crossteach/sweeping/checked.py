"""Whether the models of a plan are what they should be, found out before any job runs."""

from collections.abc import Iterator

import torch

from ..answers.check import chance_problem, lot_problem, name_weak, order_notes, order_problems, steadiness_problem
from ..answers.class_order import labelled_parts
from ..answers.compact import PredictedClasses
from ..answers.mapping import mapping_notes
from ..answers.prediction import predict
from ..answers.problem import Problem, refuse_or_say
from ..answers.store import Store
from ..data.cut import stratified_sample
from ..models.mapped import partial_knowledge
from ..models.scoring import provenance
from ..scouting.quick import quick_problem
from ..types import Classifier, Split, Splits

ASKED = 5000
"""Samples of a split that every model of a plan is asked about."""


class CheckedModels:
    """What the models of a plan, opened one at a time, answer on some of each split with labels."""

    def __init__(self, data: Splits, store: Store) -> None:
        self._classes, self._data, self._store = data.classes, data, store
        some = data.selection.take(stratified_sample(data.selection, min(len(data.selection), ASKED)))
        self._parts = [some, *(part for part in labelled_parts(data) if part.name != "selection")]
        self._said: dict[str, list[PredictedClasses]] = {}
        self._found: dict[str, list[Problem]] = {}
        self._forced: dict[str, bool] = {}
        self._notes: list[str] = []

    def check(self, model: Classifier, learns: bool, force: bool) -> None:
        """Ask a model what a job would ask it first.

        Args:
            model: Of the plan.
            learns: Whether it is a student, which must be better than chance; a teacher's answers must have to do with
                the labels.
            force: Whether all its jobs go on with what is refused.

        Raises:
            ModelError: If it is not what it should be.
        """
        said = [self._ask(model, part) for part in self._parts]
        self._notes += mapping_notes([model], self._parts[0], self._store)
        self._notes += refuse_or_say([p for p in [steadiness_problem(model, self._data)] if p], force)
        at_chance = (chance_problem if learns else lot_problem)(said[0], model.spec)
        looked = quick_problem(model, self._data, self._store)
        self._found[model.spec] = [problem for problem in (looked, at_chance) if problem]
        self._said[model.spec], self._forced[model.spec] = said, force

    def _ask(self, model: Classifier, part: Split) -> PredictedClasses:
        """Return the classes that a model gives; they are kept in the store, its logits are not."""
        key = {"kind": "predicted classes", **provenance(model, part.fingerprint)}
        if (known := self._store.recall(key)) is None:
            known = {"preds": predict(model, part).preds.tolist()}
            self._store.remember(key, known)
        labels = None if part.labels is None else torch.from_numpy(part.labels)
        return PredictedClasses(
            model=model.name,
            n_classes=model.n_classes,
            preds=torch.tensor(known["preds"]),
            labels=labels,
            knows=partial_knowledge(model),
        )

    def compared(self) -> tuple[str, ...]:
        """Return what is to be said of the models, once all of them are checked.

        Raises:
            ModelError: If one counts the classes in another order than the data.
        """
        return (*self._notes, *self._of_all())

    def _of_all(self) -> Iterator[str]:
        specs, problems = list(self._said), dict[str, Problem]()
        for part, *said in zip(self._parts, *self._said.values(), strict=True):
            if part.labels is not None:  # without, each job compares its teachers with its student
                problems = order_problems(specs, said, self._classes, "", part.name) | problems
        for spec in specs:  # another order first: in a wrong one no figure says anything
            order = [problems[spec]] if spec in problems else []
            yield from refuse_or_say([*order, *self._found[spec]], self._forced[spec])
        yield from order_notes(self._classes)
        on_selection = [said[0] for said in self._said.values()]
        yield from name_weak([f"model {each.model}" for each in on_selection], on_selection)
