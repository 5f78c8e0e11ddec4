"""What a student and its teachers reach together, by the best way that the selection split can choose.

    python recipes/published_models.py --best benchmarks/PUBLISHED_CPU_2026-11-27.parquet

The mean of the probabilities, which every summary has, is not the best way where a tutor is far too sure of itself or
hardly sure at all: then a teacher alone, at the cost of one model, may have more right. So the ways are asked on the
selection split, by cross-validation over whole groups, and the one with the most right there is measured on test:

| way | the answer |
|---|---|
| `student`, `teacher NAME` | of one alone; what a teacher does not know stays with the student |
| `NAME as it is` | of one teacher, also where the student takes a sample for a class that the teacher lacks |
| `ensemble`, `calibrated mean` | the mean probability; with each model's logits divided by its temperature |
| `most confident`, `calibrated`, `soft`, `learned` | the targets of the rules of a transfer (docs/method.md) |
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

import crossteach
from crossteach import Classifier
from crossteach.answers.prediction import predict_all
from crossteach.data.label_space import fit_label_space
from crossteach.functional import RuleInputs, best_promise, ensemble_probs, promises
from crossteach.functional.promise import Rule, fit_inputs, rules_of
from crossteach.models.mapped import known_by
from crossteach.scouting.matching import share_classes
from crossteach.types import Split, Splits

MEAN, CALIBRATED = "ensemble", "calibrated mean"
SAME = 0.05
"""Points that rounding may change."""
NUMBERS = ("calibrated_accuracy", "learned_accuracy", "best_accuracy")
"""Columns that are added to rows, beside the name of the way, `best_ensemble`."""


def calibrated_mean(tutors: Float[Tensor, "K N C"], inputs: RuleInputs) -> Float[Tensor, "N C"]:
    """Return the logarithm of the mean of the calibrated probabilities."""
    temperatures = torch.tensor(inputs.temperatures)[:, None, None]
    return ensemble_probs(tutors / temperatures, inputs.known).log()


def as_it_is(number: int) -> Rule:
    """Return what one tutor says, whatever it knows."""
    return lambda tutors, inputs: tutors[number]


def ways_of(names: tuple[str, ...], known: Bool[Tensor, "K C"] | None) -> dict[str, Rule]:
    """Name the ways that are no rules of a transfer."""
    partly = () if known is None else [k for k, some in enumerate(known.tolist()) if not all(some)]
    return {CALIBRATED: calibrated_mean, **{f"{names[k - 1]} as it is": as_it_is(k) for k in partly}}


def measure(models: Sequence[Classifier], data: Splits) -> dict[str, Any]:
    """Choose the best way on selection and measure each on test: `way`, and what is right in % by the name of a way."""
    data = fit_label_space(data, models[:1])
    models = [models[0], *share_classes(models[1:], data.classes)]
    known, names, store = known_by(models), tuple(model.name for model in models[1:]), crossteach.Store()

    def asked(split: Split) -> tuple[Float[Tensor, "K N C"], Int[Tensor, " N"]]:
        assert split.labels is not None, "selection and test have labels"
        return predict_all(models, split, store), torch.from_numpy(split.labels)

    more = ways_of(names, known)
    tutors, labels = asked(data.selection)
    found = promises(tutors, labels, names, data.selection.group, known, more)
    learnt, every = fit_inputs(tutors, labels, known), {**rules_of(names), **more}
    tutors, labels = asked(data.test)
    right = {name: 100 * (every[name](tutors, learnt).argmax(1) == labels).double().mean().item() for name in found}
    return {
        "way": best_promise(found),
        "selection": {name: promise.accuracy for name, promise in found.items()},
        "test": right,
    }


def tell(title: str, found: dict[str, Any]) -> None:
    """Print what each way has right."""
    print(f"\n| {title} | on selection | on test |\n|---|---|---|")
    for way in sorted(found["test"], key=found["selection"].__getitem__, reverse=True):
        print(f"| {way} | {found['selection'][way]:.1f} | {found['test'][way]:.1f} |")


def add_best(rows: list[dict[str, Any]], plans: dict[str, dict[str, Any]]) -> None:
    """Add to the rows of runs what is the best way, and what it, the calibrated mean and the learned rule have right.

    Args:
        rows: With the `part` that they come from; nothing else of them changes, and nothing is trained.
        plans: Of each part; its pools are opened for teachers that are tables of answers, which speak of them.

    Raises:
        SystemExit: If student and mean have not the same share right as when the row was made: these are other data.
    """
    known: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in rows:
        asked = (row["part"], row["student"], *row["teachers"])
        if asked not in known:
            plan = plans[row["part"]]
            tables = any(spec.startswith("predictions:") for spec in row["teachers"])
            splits = crossteach.load_data(plan["data"], pools=plan["pools"] if tables else ())
            known[asked] = measure([crossteach.load_model(spec, like=splits) for spec in asked[1:]], splits)
            tell(f"{row['part']}: {row['student_name']} and {row['teacher_name']}", known[asked])
        found = known[asked]
        apart = found["test"]["student"] - row["accuracy_before"], found["test"][MEAN] - row["ensemble_accuracy"]
        if max(map(abs, apart)) > SAME:
            raise SystemExit(f"{asked[0]}: student and mean have {apart} points more right than in the row: other data")
        row["calibrated_accuracy"], row["learned_accuracy"] = found["test"][CALIBRATED], found["test"]["learned"]
        row["best_accuracy"], row["best_ensemble"] = found["test"][found["way"]], found["way"]
