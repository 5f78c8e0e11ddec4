"""Several teachers: all at once, one after the other, or each alone with the original, then averaged.

Every lesson of a sequence or of a soup is a whole transfer in a folder of its own (`lesson-1`, …). So an interrupted
curriculum resumes, and what each teacher contributed can be read there and in `lessons` of the summary.
"""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..answers.class_order import labelled_parts
from ..answers.compact import compact
from ..answers.prediction import discard_predictions, predict, score_split
from ..answers.store import Store
from ..answers.tutors import discard_views
from ..config import CurriculumConfig, TransferConfig
from ..data import RawPool, load_pools
from ..data.cut import tune_and_gate
from ..errors import MissingLabelsError
from ..functional.averaging import State, average, snapshot
from ..runs import RunFolder, open_run
from ..scouting.matching import Given
from ..scouting.ranking import predicted_gain
from ..types import Classifier, Progress, Split, Splits, TrainableClassifier, no_progress
from .crew import ALONE, Crew
from .following import follow
from .gate import GateResult, Verdict
from .lesson import TransferResult, describe_mappings, read_result, teach
from .path import Choice, choose_weights, gather_evidence, predict_after, with_own_statistics
from .plan import TrainingPlan
from .setup import TransferSetup, describe, open_setup
from .state import TrainingState
from .summary import summarise, write_transfer
from .verification import keep_both

TAKEN: tuple[Verdict, ...] = ("accepted", "unverified")
"""Verdicts by which a lesson changes the student."""


def transfer(
    student: Classifier,
    teachers: Sequence[Classifier],
    data: Splits | None,
    out: str | Path,
    config: TransferConfig | None = None,
    store: Store | None = None,
    overwrite: bool = False,
    progress: Progress = no_progress,
    pools: Sequence[str | RawPool] = (),
    label_map: Given = None,
    crew: Crew = ALONE,
) -> TransferResult:
    """Teach a student what its teachers know and it does not; return it better, or as it was.

    Args:
        student: The pretrained model that learns, a `TrainableClassifier`. It is not changed: a copy is trained.
        teachers: One or more models, which may be black boxes; none for the controls that need none. Their classes are
            the student's, or a label map says where they belong, or equal names do.
        data: Train teaches, selection decides, test reports. None where there are only pools: then nothing is verified.
        out: The run folder. A half-done run of the same configuration resumes, a whole one is read.
        config: Settings; the defaults suit small and large models alike. `curriculum` says how several teachers teach.
        store: Where tutors' answers are kept; None takes the user's cache folder.
        overwrite: Whether to empty a folder that another configuration has used.
        progress: Told what is being done.
        pools: Unlabelled images that teach too, beside those that the data have: specs, or what `pool_from` makes.
        label_map: Which class of the student each class of a teacher belongs to: a csv or YAML file, a mapping
            `{teacher class: student class}` (`{teacher: {…}}` for several), or `propose:FILE.csv`, which writes a map
            to look at.
        crew: Those who train the student together, one process a device, each with the same arguments: `join_crew()`
            in a program that a launcher has started several times.

    Returns:
        The student, the summary, and the folder in which both stand.

    Raises:
        ModelError: If the student cannot learn, or a model is not what it should be.
        LabelSpaceError: If models and data do not share their classes.
        MissingLabelsError: If the method, or the order of teachers, reads labels that the data do not have.
        ConfigError: If the settings do not fit together.
        RunFolderError: If another configuration has used the folder.
        FolderInUseError: If another process fills the folder.
    """
    with crew.leader_first():
        store = store or Store()
        data = load_pools(data, pools, progress, store)
        asked = (student, teachers, data, config or TransferConfig(), store, progress)
        setup = open_setup(*asked, label_map=label_map, crew=crew)
    if crew.rank:
        follow(setup)
        return read_result(setup.student, RunFolder(Path(out)))
    with open_run(Path(out), describe(setup), overwrite).working() as run:
        result = read_result(setup.student, run) if run.is_whole else _in_order(setup, run)
    crew.tell(None)
    return result


def _in_order(setup: TransferSetup, run: RunFolder) -> TransferResult:
    """Let the teachers teach in the order that the settings name; a half-done run goes on."""
    order = setup.config.curriculum.order
    if order == "parallel" or len(setup.teachers) < 2:  # one teacher needs no order
        return teach(setup, run)
    tune, gate = tune_and_gate(setup.data.selection)
    in_order = {"sequential": _one_after_the_other, "soup": _one_by_one}[order]
    return _finish(setup, run, in_order(setup, setup.teachers, run, tune, gate))


@dataclass(frozen=True)
class CurriculumOutcome:
    """The end of a curriculum: its lessons, the verdict and the weights."""

    lessons: tuple[TransferResult, ...]
    verdict: GateResult
    returned: State
    ended: State
    """The weights before the last question to the gate."""
    notes: tuple[str, ...] = ()


def _one_after_the_other(
    setup: TransferSetup, teachers: Sequence[Classifier], run: RunFolder, tune: Split, gate: Split
) -> CurriculumOutcome:
    """Let the student that one teacher has taught be the student, and the frozen student, of the next."""
    student, lessons = setup.student, []
    ordered = order_teachers(setup.student, teachers, tune, setup.config.curriculum, setup.store)
    for number, teacher in enumerate(ordered, 1):
        result = _lesson(setup, run, number, student, teacher)
        lessons.append(result)
        if student is not setup.student:
            _discard_answers(setup, student)
        if result.summary["gate"]["verdict"] in TAKEN:
            student = result.student
    verdict, old, returned = _verdict(lessons), snapshot(setup.student.module), snapshot(student.module)
    gained = None if gate.labels is None else _points(setup, returned, gate)
    asked = gate.labels is None and verdict in TAKEN
    found = gather_evidence(setup, setup.student.clone(), old, returned, gate) if asked else None
    groups = None if gate.group is None else len(np.unique(gate.group))
    reached = GateResult(verdict, float(verdict in TAKEN), gained, label_free=found, groups=groups)
    return CurriculumOutcome(tuple(lessons), reached, returned, returned)


def _discard_answers(setup: TransferSetup, student: TrainableClassifier) -> None:
    """Free what a student between two lessons has answered: it is never asked again."""
    data = setup.data
    if setup.views.count:
        for source in setup.sources:
            discard_views(student, source.split, source.views, setup.store)
    for split in (data.selection, data.test, *tune_and_gate(data.selection), *labelled_parts(data)):
        discard_predictions(student, split, setup.store)


def _verdict(lessons: Sequence[TransferResult]) -> Verdict:
    """Return one verdict for all lessons: that of a lesson that was taken, else diverged if all did, else kept."""
    verdicts: list[Verdict] = [lesson.summary["gate"]["verdict"] for lesson in lessons]
    left: Verdict = "diverged" if set(verdicts) == {"diverged"} else "kept_original"
    return next((v for v in TAKEN if v in verdicts), left)


def _one_by_one(
    setup: TransferSetup, teachers: Sequence[Classifier], run: RunFolder, tune: Split, gate: Split
) -> CurriculumOutcome:
    """Let each teacher teach the original, average the students that were taken, and ask the gate once more."""
    lessons = tuple(_lesson(setup, run, number, setup.student, teacher) for number, teacher in enumerate(teachers, 1))
    taken = [x for x in lessons if x.summary["gate"]["verdict"] in TAKEN]
    old = snapshot(setup.student.module)
    if not taken:
        return CurriculumOutcome(
            lessons, GateResult(_verdict(lessons), 0.0, None if gate.labels is None else 0.0), old, old
        )
    states = {x.folder.name: snapshot(x.student.module) for x in taken}
    chosen, notes = list(states), []
    if setup.config.curriculum.average == "greedy" and tune.labels is not None:
        chosen = _greedy(setup, states, tune)
    elif setup.config.curriculum.average == "greedy":
        notes.append("a greedy soup needs labels on the selection split: all students that were taken are averaged")
    soup = _soup(setup, [states[name] for name in chosen])
    whole = replace(setup, method=replace(setup.method, alpha=1.0))  # the lessons have stepped back already
    choice: Choice = choose_weights(
        whole, setup.student.clone(), TrainingState(weights=soup), _nothing_more(setup), gate
    )
    notes.append(f"the soup is the mean of {len(chosen)} of {len(lessons)} students: {', '.join(chosen)}")
    return CurriculumOutcome(lessons, choice.verdict, choice.returned, soup, (*notes, *choice.notes))


def _nothing_more(setup: TransferSetup) -> TrainingPlan:
    """Return a plan that only gives the views of the setup: nothing is trained by it."""
    return TrainingPlan(setup.method, setup.config, setup.sources, 1.0, 1)


def _soup(setup: TransferSetup, states: Sequence[State]) -> State:
    """Average students, with statistics of their own where training changes them; one alone stays as it is."""
    if len(states) == 1:
        return dict(states[0])
    return with_own_statistics(setup, setup.student.clone(), average(states), _nothing_more(setup))


def _greedy(setup: TransferSetup, states: dict[str, State], tune: Split) -> list[str]:
    """Begin with the best student, and keep each further one with which the soup is no worse on the tune part."""
    alone = {name: _points(setup, state, tune) for name, state in states.items()}
    order = sorted(states, key=lambda name: -alone[name])
    chosen, best = order[:1], alone[order[0]]
    for name in order[1:]:
        with_it = _points(setup, _soup(setup, [states[n] for n in (*chosen, name)]), tune)
        if with_it >= best:
            chosen, best = [*chosen, name], with_it
    return chosen


def order_teachers(
    student: Classifier, teachers: Sequence[Classifier], tune: Split, config: CurriculumConfig, store: Store
) -> list[Classifier]:
    """Put teachers into the order in which they teach, by what the tune part says of them.

    Raises:
        MissingLabelsError: If the order needs labels that the selection split does not have.
    """
    if config.sequence == "given":
        return list(teachers)
    if tune.labels is None:
        raise MissingLabelsError(
            f"curriculum.sequence={config.sequence} needs labels on the selection split, which has none; use given"
        )
    reduced = {id(t): compact(predict(t, tune, store)) for t in teachers}
    if config.sequence == "scout":
        own = compact(predict(student, tune, store))
        return sorted(teachers, key=lambda t: -predicted_gain(own, reduced[id(t)]))
    sign = 1 if config.sequence == "ascending" else -1
    return sorted(teachers, key=lambda t: sign * reduced[id(t)].accuracy)


def _lesson(
    setup: TransferSetup, run: RunFolder, number: int, student: TrainableClassifier, teacher: Classifier
) -> TransferResult:
    """Do one transfer from one teacher, in a folder of its own."""
    lesson = _open_lesson(setup, number, student, teacher)
    place = next(place for place, each in enumerate(setup.teachers) if each is teacher)
    setup.crew.tell(LessonOrder(number, place, dict(student.module.state_dict())))
    return teach(lesson, open_run(run.path / f"lesson-{number}", describe(lesson)))


def _open_lesson(setup: TransferSetup, number: int, student: TrainableClassifier, teacher: Classifier) -> TransferSetup:
    single = lesson_config(setup.config, number, len(setup.teachers))
    return open_setup(student, [teacher], setup.data, single, setup.store, setup.progress, crew=setup.crew)


@dataclass(frozen=True)
class LessonOrder:
    """Tells the others of a crew to begin with a lesson: another student, one of the teachers."""

    number: int
    teacher: int
    """Its position among the teachers of the transfer."""
    state: State
    """Of the student that this lesson teaches."""

    def follow(self, whole: TransferSetup, now: TransferSetup) -> TransferSetup:
        """Set the lesson up; the leader has, so that all answers are in the store."""
        student = whole.student.clone()
        student.module.load_state_dict(self.state)
        return _open_lesson(whole, self.number, student, whole.teachers[self.teacher])


def lesson_config(config: TransferConfig, number: int, lessons: int) -> TransferConfig:
    """Return the settings of one lesson of several: its epochs, its share of the time, and the views it begins with.

    Args:
        config: Of all lessons together.
        number: Of the lesson, from 1.
        lessons: How many there are.
    """
    lengths = lesson_epochs(config, lessons)
    budget = None if config.time_budget is None else config.time_budget / lessons
    optim = replace(config.optim, epochs=lengths[number - 1])
    views = replace(config.views, first=config.views.first + sum(lengths[: number - 1]))
    return replace(config, curriculum=CurriculumConfig(), optim=optim, views=views, time_budget=budget)


def lesson_epochs(config: TransferConfig, lessons: int) -> list[int]:
    """Say how many epochs each lesson has; a total budget is shared, and what is left over goes to the first ones.

    Example:
        >>> lesson_epochs(TransferConfig(curriculum=CurriculumConfig(budget="total")), 5)
        [2, 2, 2, 1, 1]
    """
    epochs = config.optim.epochs
    if config.curriculum.budget == "each":
        return [epochs] * lessons
    share, left = divmod(epochs, lessons)
    return [share + (number < left) for number in range(lessons)]


def _points(setup: TransferSetup, state: State, split: Split) -> float:
    """Return accuracy with these weights − the original student's, in points."""
    copy = setup.student.clone()
    copy.module.load_state_dict(state)
    right = score_split(copy, split).argmax(1).numpy() == split.labels
    return 100.0 * float(np.mean(right)) - predict(setup.student, split, setup.store).accuracy


def _finish(setup: TransferSetup, run: RunFolder, outcome: CurriculumOutcome) -> TransferResult:
    """Report the whole curriculum as one transfer, with a row for each lesson."""
    data, copy = setup.data, setup.student.clone()
    before = predict(setup.student, data.test, setup.store)
    teachers = tuple(predict(teacher, data.test, setup.store) for teacher in setup.teachers)
    found = predict_after(copy, outcome.ended, outcome.returned, data.test, before, teachers)
    lessons = [lesson.summary for lesson in outcome.lessons]
    gated = "each lesson was gated: `ungated` is what stood before the last question to the gate"
    notes = (*setup.notes, *_notes_of_lessons(setup, lessons), *outcome.notes, gated)
    summary = summarise(
        found,
        verdict=outcome.verdict,
        method=setup.method_name,
        data=data,
        training={
            "order": asdict(setup.config.curriculum),
            "epochs": sum(lesson["training"]["epochs"] for lesson in lessons),
            "diverged": "; ".join(filter(None, (lesson["training"]["diverged"] for lesson in lessons))),
        },
        pool=_pool_of(lessons),
        notes=notes,
        seconds=time.perf_counter() - setup.started,
    )
    summary["lessons"] = [_row(lesson) for lesson in lessons]
    summary["label_maps"] = describe_mappings(setup)
    if data.test.labels is None and outcome.verdict.verdict != "diverged":
        keep_both(run, setup.student, copy.clone(), outcome.verdict.verdict, outcome.returned, outcome.ended)
    write_transfer(run, data, copy, found, summary)
    return TransferResult(copy.clone(), summary, run.path, notes)


def _notes_of_lessons(setup: TransferSetup, lessons: Sequence[dict[str, Any]]) -> list[str]:
    """Return what the lessons noted beside what is noted of all of them."""
    known = set(setup.notes)
    return [
        f"lesson {number}: {note}"
        for number, lesson in enumerate(lessons, 1)
        for note in lesson["notes"]
        if note not in known
    ]


def _pool_of(lessons: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Say what became of the pools in the lesson that used most of them, and who taught in all lessons together."""
    pools = [lesson["pool"] for lesson in lessons if lesson["pool"]]
    if not pools:
        return None
    taught: Counter[str] = Counter()
    for pool in pools:
        taught.update(pool["taught"])
    return {**max(pools, key=lambda pool: pool["used"]), "taught": dict(taught)}


def _row(lesson: dict[str, Any]) -> dict[str, Any]:
    """Say what one teacher contributed: against the student as it stood before this lesson."""
    keys = ("accuracy_before", "accuracy_after", "transfer_delta", "knowledge_gain", "knowledge_loss", "transfer_rate")
    row = {"teacher": lesson["teachers"][0], **{key: lesson[key] for key in keys}}
    gate = lesson["gate"]
    row |= {"verdict": gate["verdict"], "alpha": gate["alpha"], "selection_delta": gate["selection_delta"]}
    return row | {"ungated_transfer_delta": lesson["ungated_transfer_delta"], "seconds": lesson["seconds"]}
