"""A person verifies a transfer: a few labels, where they say most, decide which weights are returned.

The old and the new student differ on a few of the test samples, and only there can one be better. A random draw of
those is shown to a person, and the labels give the change on all test samples with an exact interval.
"""

import csv
import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from jaxtyping import Int

from ..data import load_data
from ..data.pictures import write_pictures
from ..errors import ConfigError, DataError, RunFolderError, first_line
from ..files import make_folder, write_bytes, write_json
from ..functional.averaging import State
from ..functional.finite import Drawn, net_interval
from ..functional.statistics import Interval
from ..labels_file import ASK, FEWEST, read_labels, require_free_word, written_id
from ..runs import RunFolder, read_json
from ..types import Split, TrainableClassifier
from .ask_page import Question, render_page
from .gate import Verdict

ORIGINAL, CANDIDATE, RETURNED = "original", "candidate", "student"
"""Folders of a run: the student as it was, the new one that is judged, and the one of these that is returned."""
PAGE, FOUND = "ask.html", "verify.json"


def keep_both(
    run: RunFolder,
    original: TrainableClassifier,
    copy: TrainableClassifier,
    verdict: Verdict,
    returned: State,
    ended: State,
) -> None:
    """Save the student as it was and the new one, so that a verification may return either.

    The new one is what the gate has accepted, which may be a point on the way, or else the end of training.

    Args:
        run: Where they go.
        original: The student as it was.
        copy: Of the student; its module is changed.
        verdict: Of the gate.
        returned: The weights that the gate returned.
        ended: The weights of the end of training.
    """
    original.save(str(make_folder(run.path / ORIGINAL)))
    copy.module.load_state_dict(returned if verdict == "accepted" else ended)
    copy.save(str(make_folder(run.path / CANDIDATE)))


@dataclass(frozen=True)
class Differences:
    """What the old and the new student answer on the test samples of a run."""

    run: Path
    config: Mapping[str, Any]
    classes: tuple[str, ...]
    old: Int[np.ndarray, " N"]
    new: Int[np.ndarray, " N"]
    ids: Int[np.ndarray, " N"]

    @cached_property
    def digest(self) -> str:
        """Of the samples and of what the two answer."""
        return hashlib.blake2b(self.ids.tobytes() + self.old.tobytes() + self.new.tobytes(), digest_size=8).hexdigest()

    @cached_property
    def order(self) -> Int[np.ndarray, " D"]:
        """The samples on which they differ, in the order in which they are asked about: a draw by lot, always the same.

        It depends on what the two answer, so labels of another run are labels of other samples.
        """
        rows = np.flatnonzero(self.old != self.new)
        seed = int.from_bytes(bytes.fromhex(self.digest), "little")
        return np.random.default_rng(seed).permutation(rows)


def verify(
    run: str | Path, ask: int | None = None, labels: str | Path | None = None, data: Split | None = None
) -> dict[str, Any]:
    """Ask a person for labels where they say most, or read them and decide which weights the run returns.

    Args:
        run: The folder of a transfer whose test samples have no labels.
        ask: How many samples to ask about: written as `ask.html`, which works in any browser, and `ask.csv`. Labels
            that `ask.csv` holds already stay in it.
        labels: A file of answers: columns `sample` and `label`, as the page saves and `ask.csv` has them.
        data: The test split, where the run was made of data that no spec opens again.

    Returns:
        The content of `verify.json`: `changed` (% of the answers), `asked`, `answered`, and once there are answers
        `delta` (points), `interval` and `verdict`.

    Raises:
        RunFolderError: If the folder holds no such run.
        ConfigError: If there is nothing to ask, or too few answers.
        DataError: If the answers are not about this run.
    """
    found = read_differences(Path(run))
    if not len(found.order):
        raise ConfigError(f"the old and the new student of {run} answer alike on all {len(found.ids)} test samples")
    kept = _kept(found.run)
    if ask is not None:
        kept |= _ask(found, ask, data)
    if labels is not None:
        kept = _decide(found, kept, Path(labels))
    known: dict[str, Any] = {
        "changed": 100.0 * len(found.order) / len(found.ids),
        "samples": len(found.ids),
        "differing": len(found.order),
        **{"asked": 0, "answered": 0, "delta": None, "interval": None, "verdict": "unverified", "looks": []},
        **kept,
    }
    undecided = known["answered"] and known["verdict"] == "unverified"
    known["labels_needed"] = labels_needed(found, known, found.config["config"]["gate"]) if undecided else None
    write_json(found.run / FOUND, known)
    return known


def read_differences(run: Path) -> Differences:
    """Read what the old and the new student of a run answer.

    Raises:
        RunFolderError: If the folder holds no whole transfer, or one that needs no verification.
    """
    for name in ("summary.json", "config.json", "samples.parquet"):
        if not (run / name).is_file():
            raise RunFolderError(f"{run} holds no whole transfer (no {name}); give the --out folder of one")
    try:
        labelled = "label" in pq.read_schema(run / "samples.parquet").names
        accepted = read_json(run / "summary.json")["gate"]["verdict"] == "accepted"
        judged = "pred_after" if accepted else "pred_ungated"
        answers = pq.read_table(run / "samples.parquet", columns=["pred_before", judged, "id"])
        names = pq.read_table(run / "classes.parquet", columns=["name"])["name"].to_pylist()
    except (OSError, ValueError, KeyError) as error:
        raise RunFolderError(f"{run} cannot be read ({first_line(error)}); run its command again") from error
    if labelled:
        raise RunFolderError(f"the test samples of {run} have labels: summary.json says already what they tell")
    if not (run / CANDIDATE).is_dir():
        raise RunFolderError(
            f"{run} kept no new weights to verify: its training diverged, or it is an earlier version's"
        )
    old, new, ids = (column.to_numpy() for column in answers.columns)
    return Differences(run, read_json(run / "config.json"), tuple(names), old, new, ids)


def _kept(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = read_json(run / FOUND) if (run / FOUND).is_file() else {}
    return found


def _ask(found: Differences, wanted: int, data: Split | None) -> dict[str, Any]:
    """Write the page and the list of the first samples of the draw; what a person has filled in there stays."""
    if wanted < FEWEST:
        raise ConfigError(f"--ask must be at least {FEWEST}, not {wanted}: fewer labels decide nothing")
    require_free_word(found.classes)
    listed = found.run / ASK
    known = read_answers(found, listed).labels if listed.is_file() else ()
    rows = found.order[: max(wanted, len(known))]
    split = _test_split(found) if data is None else data
    if not np.array_equal(split.ids, found.ids):
        raise DataError(f"the test samples are not those of {found.run}; give the data that the run had, unchanged")
    files = write_pictures(split, rows.tolist(), found.run)
    questions = [
        Question(
            sample=written_id(int(found.ids[row])),
            file=files[int(row)],
            answers=(found.classes[found.old[row]], found.classes[found.new[row]]),
        )
        for row in rows.tolist()
    ]
    write_bytes(found.run / PAGE, render_page(found.run, questions, found.digest).encode())
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("sample", "file", "label"))
    labels = [label or "" for label in known] + [""] * (len(questions) - len(known))
    writer.writerows((q.sample, q.file, label) for q, label in zip(questions, labels, strict=True))
    write_bytes(listed, table.getvalue().encode())
    return {"asked": len(rows)}


def _test_split(found: Differences) -> Split:
    """Open the run's test split again."""
    spec = found.config["data"]["spec"]
    return load_data(spec, found.config["pools"] if spec is None else ()).test


@dataclass(frozen=True)
class Answers:
    """What a person said of the first samples of the draw."""

    labels: tuple[str | None, ...]
    """In the order of the draw; None for one that was skipped."""

    @property
    def answered(self) -> int:
        """How many have a label."""
        return sum(label is not None for label in self.labels)


def _decide(found: Differences, kept: dict[str, Any], path: Path) -> dict[str, Any]:
    """Read answers, estimate the change, and return the weights that the gate allows."""
    answers = read_answers(found, path)
    if answers.answered < FEWEST:
        raise ConfigError(f"{path} has {answers.answered} answers, and fewer than {FEWEST} decide nothing; give more")
    said = hashlib.blake2b(repr(answers.labels).encode(), digest_size=8).hexdigest()
    looks = [look for look in kept.get("looks", []) if look["answers"] != said]
    judged = conclude(found, answers, len(looks) + 1, found.config["config"]["gate"])
    returned = CANDIDATE if judged["verdict"] == "accepted" else ORIGINAL
    if judged["verdict"] != "unverified":
        for source in sorted((found.run / returned).iterdir()):
            write_bytes(found.run / RETURNED / source.name, source.read_bytes())
    looks.append({"answers": said, **judged})
    return {**kept, **judged, "looks": looks}


def conclude(found: Differences, answers: Answers, look: int, gate: Mapping[str, Any]) -> dict[str, Any]:
    """Estimate the change on all test samples, and say what follows.

    Who looks again when there are more labels has more chances to be wrong. So the first look has half of the error
    that the level allows, the second a quarter, and so on: over all looks together the level holds. A skipped sample
    counts as lost in the lower bound and as won in the upper one.

    Args:
        found: The two students' answers.
        answers: Of a person.
        look: Its number, from 1.
        gate: Settings of the run's gate: its level and largest loss.
    """
    rows = found.order[: len(answers.labels)]
    pairs = zip(rows.tolist(), answers.labels, strict=True)
    told = [(found.classes[found.old[row]], found.classes[found.new[row]], label) for row, label in pairs if label]
    wins, losses = sum(new == label for _, new, label in told), sum(old == label for old, _, label in told)
    skipped = len(rows) - len(told)

    def interval(level: float) -> Interval:
        shared = 1 - (1 - level) / 2**look
        low, high = (
            net_interval(Drawn(len(found.ids), len(found.order), len(rows), won, lost), shared)
            for won, lost in ((wins, losses + skipped), (wins + skipped, losses))
        )
        estimate = 100.0 * (wins - losses) * len(found.order) / len(told) / len(found.ids)
        return Interval(estimate, low.low, high.high)

    shown, one_sided = interval(0.95), interval(1 - 2 * (1 - gate["level"]))
    verdict: Verdict = "unverified"
    if one_sided.estimate > 0 and one_sided.low > -gate["max_loss"]:
        verdict = "accepted"
    elif one_sided.estimate <= 0 or len(rows) == len(found.order):
        verdict = "kept_original"
    return {
        "answered": len(told),
        "skipped": skipped,
        "wins": wins,
        "losses": losses,
        "neither": len(told) - wins - losses,
        "delta": shown.estimate,
        "interval": [shown.low, shown.high],
        "bound": one_sided.low,
        "verdict": verdict,
    }


def read_answers(found: Differences, path: Path) -> Answers:
    """Read a file of answers.

    Raises:
        DataError: If it is no such file, about other samples, or has an answer that is no class.
    """
    like = f"{ASK} as `crossteach verify {found.run} --ask` writes it"
    given = read_labels(path, like, found.ids[found.order], found.classes)
    return Answers(tuple(given.get(place) for place in range(max(given, default=-1) + 1)))


def labels_needed(found: Differences, known: Mapping[str, Any], gate: Mapping[str, Any]) -> int | None:
    """Say how many labels would let the gate accept, were the others as those that are known; None if none would."""
    if not known["answered"] or known["wins"] <= known["losses"]:
        return None
    every, share = len(found.order), 1 / known["answered"]
    for count in np.unique(np.linspace(known["answered"], every, 25).round().astype(int)).tolist():
        wins, losses = int(known["wins"] * share * count), int(np.ceil(known["losses"] * share * count))
        error = (1 - gate["level"]) / 2 ** (len(known["looks"]) + 1)
        drawn = Drawn(len(found.ids), every, count, min(wins, count - losses), losses)
        if net_interval(drawn, 1 - 2 * error).low > -gate["max_loss"]:
            return int(count)
    return None
