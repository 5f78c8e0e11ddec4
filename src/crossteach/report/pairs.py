"""The pairs of a scout: all of them for the tables, the most important numbers of each for the page."""

import json
from collections.abc import Iterator
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from .reading import Run, clean, damaged, require
from .words import NUMBER, shorten

Pair = dict[str, Any]

SHOWN_CLASSES = 20
"""Of a pair's histogram."""
SHOWN_NAMES = 12
"""Of an area of expertise."""
PICTURES_BYTES, PAGE_BYTES = 900_000, 2_300_000
"""What pictures may take, and what pairs and pictures may take together: a page stays under 3 MB."""
A_PAIR_ELSEWHERE = 700
"""Bytes of a pair in the page's tables and figures."""


class Pairs:
    """Every ordered pair of a scout, student and teacher."""

    DISAGREEMENT: ClassVar = (
        "student",
        "teacher",
        "student_says",
        "teacher_says",
        "count",
        "student_right",
        "teacher_right",
    )

    def __init__(self, run: Run, summary: dict[str, Any]) -> None:
        """Complete the pairs of a summary with the numbers of its matrix.

        Raises:
            RunFolderError: If a pair names a model that the scout does not have.
        """
        self._run = run
        self.models = [model["name"] for model in summary["models"]]
        self._place = {name: i for i, name in enumerate(self.models)}
        accuracy, matrix = [model["accuracy"] for model in summary["models"]], summary["positive_flips"] or []
        self.all: list[Pair] = []
        for pair in summary.get("pairs") or []:
            require(pair, run.path / "scout.json", student=str, teacher=str)
            pair["student"], pair["teacher"] = clean(pair["student"]), clean(pair["teacher"])
            s, t = self._place.get(pair["student"]), self._place.get(pair["teacher"])
            if s is None or t is None:
                raise damaged(run.path / "scout.json", f"it has a pair of {pair['student']} and {pair['teacher']}")
            pair |= {"index": (s, t), "key": f"{s}-{t}", "positive": matrix[s][t], "negative": matrix[t][s]}
            pair.setdefault("accuracy_difference", accuracy[t] - accuracy[s])
            self.all.append(pair)
        given = summary.get("classes")
        self.classes = [clean(name) for name in given] if isinstance(given, list) else self._mentioned()
        self._class = {name: i for i, name in reversed(list(enumerate(self.classes)))}
        self._counts = run.columns("classes.parquet", ("student", "teacher", "class", "positive", "negative"))

    def _mentioned(self) -> list[str]:
        """List the classes of a scout by an older version, which did not keep their names."""
        names = (clean(name) for pair in self.all for name in pair.get("expertise", {}).get("100", []))
        return list(dict.fromkeys(names))

    def shown(self, most: int) -> list[Pair]:
        """Return the pairs that a page shows: in their order, those with the most flips where there are too many."""
        kept = {p["key"] for p in sorted(self.all, key=lambda p: -p["positive"])[:most]}
        return [pair for pair in self.all if pair["key"] in kept]

    def first(self) -> Pair | None:
        """Return the pair to look at first: the largest predicted gain, else the most flips."""

        def promise(pair: Pair) -> tuple[float, float]:
            gain = pair.get("predicted_gain")
            return (gain if isinstance(gain, NUMBER) else -np.inf, pair["positive"])

        return max(self.all, key=promise, default=None)

    @cached_property
    def _rows(self) -> dict[tuple[int, int], np.ndarray]:
        """Class, positive and negative flips of each pair, most positive flips first."""
        if self._counts is None:
            return {}
        c = {
            key: np.asarray(self._counts[key], np.int64)
            for key in ("student", "teacher", "class", "positive", "negative")
        }
        inside = (c["class"] >= 0) & (c["class"] < len(self.classes))
        if not inside.all():
            raise damaged(self._run.path / "classes.parquet", "it counts classes that scout.json does not name")
        order = np.lexsort((c["class"], -c["negative"], -c["positive"], c["teacher"], c["student"]))
        table = np.stack([c[key][order] for key in ("class", "positive", "negative")], axis=1)
        pair = np.stack([c["student"][order], c["teacher"][order]], axis=1)
        starts = np.flatnonzero(np.r_[True, (np.diff(pair, axis=0) != 0).any(1)][: len(pair)])
        parts = np.split(table, starts[1:]) if len(pair) else []
        return {(int(s), int(t)): part for (s, t), part in zip(pair[starts].tolist(), parts, strict=True)}

    def histogram(self, pair: Pair) -> list[list[int]]:
        """Return class, positive and negative flips, most positive flips first; empty where they are not kept."""
        rows = self._rows.get(pair["index"])
        return [] if rows is None else rows.tolist()

    def by_class(self) -> Iterator[list[Any]]:
        """Yield every pair's positive flips in every class; the negative ones are those of the reversed pair."""
        for pair in self.all:
            counts = np.zeros(len(self.classes), np.int64)
            rows = self._rows.get(pair["index"])
            if rows is not None:
                counts[rows[:, 0]] = rows[:, 1]
            yield [pair["student"], pair["teacher"], *counts.tolist()]

    @property
    def has_counts(self) -> bool:
        """Whether flips by class are kept."""
        return self._counts is not None

    def areas(self) -> Iterator[tuple[Any, ...]]:
        """Yield every area of expertise, with all its classes."""
        for pair in self.all:
            held = pair.get("expertise_share") or {}
            for share, names in (pair.get("expertise") or {}).items():
                row = (pair["student"], pair["teacher"], share, held.get(share), len(names))
                yield (*row, "; ".join(clean(name) for name in names))

    def disagreements(self) -> Iterator[tuple[Any, ...]]:
        """Yield the most frequent disagreements of every pair."""
        for pair in self.all:
            for row in pair.get("disagreements") or []:
                yield (pair["student"], pair["teacher"], *(row.get(key) for key in self.DISAGREEMENT[2:]))

    def embedded(self, most: int) -> dict[str, Any]:
        """Return what the page's script shows of each pair: names once, pairs by numbers."""
        first = self.first()
        pairs = self.shown(most)
        compact = {pair["key"]: self._compact(pair) for pair in pairs}
        taken = len(json.dumps(compact, ensure_ascii=False).encode()) + A_PAIR_ELSEWHERE * len(pairs)
        images, samples, left_out = self._pictures(first, min(PICTURES_BYTES, PAGE_BYTES - taken))
        return {
            "models": [shorten(name, 60) for name in self.models],
            "classes": [shorten(name, 60) for name in self.classes],
            "chosen": first["key"] if first else "",
            "pairs": compact,
            "counted": self.has_counts,
            "images": images,
            "samples": samples,
            "leftOut": left_out,
        }

    def _compact(self, pair: Pair) -> dict[str, Any]:
        rows = self._rows.get(pair["index"])
        histogram = [] if rows is None else rows[:SHOWN_CLASSES].tolist()
        keys = {"gain": "predicted_gain", "differ": "disagreement", "ceilings": "ceilings", "partition": "partition"}
        found = {
            "counts": [pair.get("positive_flips"), pair.get("negative_flips")],
            "rates": [pair["positive"], pair["negative"]],
            "difference": pair["accuracy_difference"],
            "entropy": [pair.get("entropy"), pair.get("uniform_entropy")],
            **{short: pair.get(key) for short, key in keys.items()},
            "classes": histogram,
            "more": 0 if rows is None else max(0, len(rows) - SHOWN_CLASSES),
            "areas": self._areas(pair),
            "says": [
                [self._number(d.get("student_says")), self._number(d.get("teacher_says"))]
                + [d.get(key) for key in ("count", "student_right", "teacher_right")]
                for d in pair.get("disagreements") or []
            ],
        }
        return {key: rounded(value) for key, value in found.items() if value not in (None, [])}

    def _areas(self, pair: Pair) -> list[list[Any]]:
        """Return share, share held, number of classes, the first of them, and their similarity by names and by WordNet.

        An area holds the one before it; where its first classes are the same, they are not written again.
        """
        rows: list[list[Any]] = []
        last: list[int | str] = []
        for share, names in (pair.get("expertise") or {}).items():
            alike = [(pair.get(key) or {}).get(share) or {} for key in ("similarity", "wordnet")]
            measured = [[found["relative"], found.get("p_value")] if "relative" in found else 0 for found in alike]
            held = (pair.get("expertise_share") or {}).get(share)
            first = [self._number(name) for name in names[:SHOWN_NAMES]]
            rows.append([share, held, len(names), 0 if first == last else first, *measured])
            last = first
        return rows

    def _number(self, name: object) -> int | str:
        """Return a class as its number; one that the scout does not list stays a name."""
        known = clean(name)
        return self._class.get(known, known)

    def _pictures(self, first: Pair | None, most: int) -> tuple[dict[str, str], dict[str, Any], int]:
        """Embed samples, those of the first pair before others, up to `most` bytes."""
        found = self._run.json("pictures.json")
        entries = [e for e in found if isinstance(e, dict)] if isinstance(found, list) else []
        chosen = (first["student"], first["teacher"]) if first else ()
        entries.sort(key=lambda entry: (entry.get("student"), entry.get("teacher")) != chosen)
        images: dict[str, str] = {}
        samples: dict[str, Any] = {}
        left, left_out = most, 0
        keys = ("label", "student_says", "student_confidence", "teacher_says", "teacher_confidence", "sample")
        for entry in entries:
            s, t = (self._place.get(clean(entry.get(key))) for key in ("student", "teacher"))
            for sample in entry.get("samples", []):
                file = str(sample.get("file", ""))
                uri = images.get(file) or self._run.picture(file)
                cost = 0 if file in images else len(uri or "")
                if s is None or t is None or uri is None or cost > left:
                    left_out += 1
                    continue
                left -= cost
                images[file] = uri
                shown = [clean(v) if isinstance(v, str) else v for v in (sample.get(key) for key in keys)]
                samples.setdefault(f"{s}-{t}", []).append([file, *shown])
        return images, rounded(samples), left_out


def rounded(content: Any) -> Any:
    """Shorten numbers to what a page shows."""
    if isinstance(content, float):
        return round(content, 4) if np.isfinite(content) else None
    if isinstance(content, list):
        return [rounded(value) for value in content]
    if isinstance(content, dict):
        return {key: rounded(value) for key, value in content.items()}
    return content
