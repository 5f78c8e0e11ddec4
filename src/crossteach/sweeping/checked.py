"""Whether the models of a plan are what they should be, found out before any job runs."""

from collections.abc import Iterator

import torch

from ..answers.check import chance_problem, name_weak, order_notes, order_problems, refuse_or_say, steadiness_problem
from ..answers.compact import PredictedClasses
from ..answers.mapping import mapping_notes
from ..answers.prediction import predict
from ..answers.store import Store
from ..data.cut import stratified_sample
from ..models.mapped import partial_knowledge
from ..models.scoring import provenance
from ..types import Classifier, Splits

ASKED = 5000
"""Samples of the selection split that every model of a plan is asked about."""


class CheckedModels:
    """What the models of a plan, opened one at a time, answer on some of the selection split."""

    def __init__(self, data: Splits, store: Store) -> None:
        self._classes, self._data, self._store = data.classes, data, store
        self._some = data.selection.take(stratified_sample(data.selection, min(len(data.selection), ASKED)))
        self._said: dict[str, PredictedClasses] = {}
        self._forced: dict[str, bool] = {}
        self._notes: list[str] = []

    def check(self, model: Classifier, learns: bool, force: bool) -> None:
        """Ask a model what a job would ask it first.

        Args:
            model: Of the plan.
            learns: Whether it is a student, which must be better than chance.
            force: Whether all its jobs go on with what is refused.

        Raises:
            ModelError: If it is not what it should be.
        """
        said = self._ask(model)
        self._notes += mapping_notes([model], self._some, self._store)
        found = [steadiness_problem(model, self._data), chance_problem(said, model.spec) if learns else ""]
        self._notes += refuse_or_say([problem for problem in found if problem], force)
        self._said[model.spec], self._forced[model.spec] = said, force

    def _ask(self, model: Classifier) -> PredictedClasses:
        """Return the classes that a model gives; they are kept in the store, its logits are not."""
        key = {"kind": "predicted classes", **provenance(model, self._some.fingerprint)}
        if (known := self._store.recall(key)) is None:
            known = {"preds": predict(model, self._some).preds.tolist()}
            self._store.remember(key, known)
        labels = None if self._some.labels is None else torch.from_numpy(self._some.labels)
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
        if self._some.labels is None:  # each job compares its teachers with its student
            return tuple(self._notes)
        return (*self._notes, *self._of_all())

    def _of_all(self) -> Iterator[str]:
        specs, said = list(self._said), list(self._said.values())
        for spec, problem in order_problems(specs, said, self._classes, "").items():
            yield from refuse_or_say([problem], self._forced[spec])
        yield from order_notes(self._classes)
        yield from name_weak([f"model {each.model}" for each in said], said)
