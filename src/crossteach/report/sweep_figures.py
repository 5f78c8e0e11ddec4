"""The figures of a sweep."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from .figures import COLOURS, FIRST, INK, PAPER, SECOND, SOFT, Canvas, Drawing, Mark, draw, scatter
from .sweep_runs import ENDED, RETURNED, SIDES, Matrix, Runs
from .words import VERDICTS, number, points, shorten

STYLES = ((RETURNED, "o", FIRST), (ENDED, "s", SECOND))
DOTS = 2000
"""Runs up to which the distribution shows every one."""
NAMED = 400
"""Pairs of a method that are drawn and named; of more, those furthest from the median."""
ROWS = 40
"""Students that a figure shows; of more, those that gained most and least."""
NUMBERED, LABELLED = 16, 60
"""Up to this many models, the cells of a matrix bear numbers, its sides names."""
FAR = 8.0
"""Points beyond which an axis shrinks what is far away: a collapse would hide all else."""
GOLDEN = 0.618034


def distribution(runs: Runs, methods: Sequence[str]) -> Drawing:
    """Draw how the deltas of each method are spread."""
    dots = len(runs) <= DOTS
    found = {(m, prefix): _known(runs, m, prefix) for m in methods for prefix in SIDES}

    def paint(canvas: Canvas) -> None:
        axes = canvas.axes[0]
        axes.axvline(0, color=SOFT, linewidth=1)
        for place, method in enumerate(methods):
            for i, (prefix, marker, colour) in enumerate(STYLES):
                deltas, y = np.sort(found[method, prefix]), place + (0.2 if i else -0.2)
                if not len(deltas):
                    continue
                if dots:
                    spread = y + 0.26 * ((GOLDEN * np.arange(len(deltas))) % 1 - 0.5)
                    axes.plot(deltas, spread, ".", color=colour, markersize=3.5, markeredgewidth=0, alpha=0.4)
                low, middle, high = np.quantile(deltas, (0.25, 0.5, 0.75))
                axes.plot(deltas[[0, -1]], [y, y], color=colour, linewidth=1)
                axes.plot([low, high], [y, y], color=colour, linewidth=5, alpha=0.5, solid_capstyle="butt")
                axes.plot([middle, middle], [y - 0.13, y + 0.13], color=INK, linewidth=1.4)
                text = Mark(
                    f"{shorten(method, 48)}, {SIDES[prefix]}: mean {points(float(deltas.mean()))}, "
                    f"median {points(float(middle))}, half of {len(deltas):,} runs from {points(float(low))} to "
                    f"{points(float(high))}, worst {points(float(deltas[0]))}"
                )
                style = {"marker": marker, "color": colour, "markersize": 6, "markeredgecolor": PAPER}
                scatter(axes, canvas, f"mean-{place}-{i}", [deltas.mean()], [y], [text], **style)
        _legend(axes, [(SIDES[prefix], {"marker": marker, "color": colour}) for prefix, marker, colour in STYLES])
        _rows(axes, [shorten(method, 26) for method in methods])
        _hold(axes, "x", np.concatenate(list(found.values())), FAR)
        axes.set_xlabel("change of accuracy, points")

    text = "; ".join(f"{m} {points(_mean(found[m, RETURNED]))}" for m in methods)
    return draw(
        "methods", f"How the changes of each method are spread. Mean: {text}", (5, 1 + 0.55 * len(methods)), paint
    )


def students(name: str, runs: Runs, method: str, control: str | None, span: np.ndarray) -> Drawing:
    """Draw the mean of each student with one method, and its worst and best run, beside what the control gave it.

    Args:
        name: The file's stem.
        runs: All runs.
        method: Whose runs are drawn.
        control: What the method is compared with.
        span: Deltas of all methods: their figures have the same axis.
    """
    rows = {row["student"]: row for row in runs.measured(("student",), runs.of(method))}
    ordered = sorted(rows, key=lambda spec: -rows[spec]["mean"])
    shown = ordered if len(ordered) <= ROWS else [*ordered[: ROWS // 2], *ordered[-ROWS // 2 :]]
    ended, beside = runs.means(method, ENDED), runs.means(control, RETURNED) if control else {}
    every = runs.groups(("student",), runs.of(method))
    deltas = {spec: runs.columns["transfer_delta"][every[spec,]] for spec in shown}

    def paint(canvas: Canvas) -> None:
        axes = canvas.axes[0]
        axes.axvline(0, color=SOFT, linewidth=1)
        for place, spec in enumerate(shown):
            axes.plot([deltas[spec].min(), deltas[spec].max()], [place, place], color=FIRST, linewidth=1.2)
        series = [
            (SIDES[ENDED], "s", ended, {"color": SECOND, "markerfacecolor": PAPER, "markersize": 5}),
            (control or "", "D", beside, {"color": INK, "markerfacecolor": PAPER, "markersize": 5}),
            (SIDES[RETURNED], "o", {spec: rows[spec]["mean"] for spec in shown}, {"color": FIRST, "markersize": 6}),
        ]
        legend = []
        for i, (label, marker, means, style) in enumerate(series):
            places = [place for place, spec in enumerate(shown) if spec in means]
            x = [means[shown[place]] for place in places]
            marks = [
                Mark(f"{shorten(runs.names[shown[p]], 48)}, {shorten(label, 40)}: {points(value)} points")
                for p, value in zip(places, x, strict=True)
            ]
            scatter(axes, canvas, f"students-{i}", x, places, marks, marker=marker, **style)
            legend += [(shorten(label, 20), {"marker": marker, **style})] if x else []
        _legend(axes, legend[::-1])
        _rows(axes, [shorten(runs.names[spec], 26) for spec in shown])
        _hold(axes, "x", span, FAR)
        axes.set_xlabel("mean change, points; line: worst to best run, returned")

    text = f"Mean change of each student with {method}: {runs.names[ordered[0]]} {points(rows[ordered[0]]['mean'])}"
    text += f" to {runs.names[ordered[-1]]} {points(rows[ordered[-1]]['mean'])}"
    return draw(name, text, (5, 1.1 + 0.24 * len(shown)), paint)


def reach(runs: Runs, methods: Sequence[str]) -> np.ndarray:
    """Return what the figures of students hold: every returned delta, and every mean at the end of training."""
    ended = [value for method in methods for value in runs.means(method, ENDED).values()]
    return np.concatenate([*(_known(runs, method, RETURNED) for method in methods), ended])


def matrix(name: str, runs: Runs, method: str, sides: Sequence[Matrix], full: float) -> Drawing:
    """Draw what each student (row) gained from each teacher (column): blue is gain, orange is loss."""
    height, width = sides[0].deltas.shape
    cell = 0.5 if max(height, width) <= NUMBERED else 0.28 if max(height, width) <= LABELLED else 6 / max(height, width)

    def paint(canvas: Canvas) -> None:
        for axes, found in zip(canvas.axes, sides, strict=True):
            known = np.isfinite(found.deltas)
            value = np.where(known, found.deltas, 0.0)
            image = np.empty((*value.shape, 4))
            for colour, sign in ((FIRST, value >= 0), (SECOND, value < 0)):
                image[sign, :3] = to_rgb(COLOURS[colour][1])
            image[..., 3] = np.where(known, 0.04 + 0.7 * np.minimum(1.0, np.abs(value) / full), 0.0)
            axes.imshow(image, interpolation="none", aspect="equal")
            if max(value.shape) <= NUMBERED:
                for i, j in np.argwhere(known).tolist():
                    axes.text(j, i, points(float(value[i, j])), ha="center", va="center", color=INK, size=7)
            axes.grid(False)
            for spine in axes.spines.values():
                spine.set_visible(False)
            rows, columns = (
                [shorten(runs.names[spec], 20) for spec in specs] if max(value.shape) <= LABELLED else []
                for specs in (found.students, found.teachers)
            )
            axes.set_yticks(range(len(rows)), rows)
            axes.set_xticks(range(len(columns)), columns, rotation=90)
            axes.tick_params(length=0)
            axes.set_title(f"{SIDES[found.prefix]}; full colour: {number(full)} points")
            axes.set_ylabel("student")
        canvas.axes[-1].set_xlabel("teacher")

    text = f"Change of each student (row) by each teacher (column) with {method}, in points"
    size = max(3.0, cell * width) + 1.4, (max(1.2, cell * height) + 1.5) * len(sides)
    return draw(name, text, size, paint, panels=len(sides))


def gap(name: str, runs: Runs, method: str, ranges: Sequence[np.ndarray]) -> Drawing:
    """Draw what each run changed against how far its teacher stands above its student.

    Args:
        name: The file's stem.
        runs: All runs.
        method: Whose runs are drawn.
        ranges: Accuracy differences and deltas of all methods: their figures have the same axes.
    """
    x, y = differences(runs, method)
    places = runs.taught(method)[np.isfinite(x)]
    x, y = x[np.isfinite(x)], y[np.isfinite(x)]
    chosen = np.sort(np.argsort(-np.abs(y - np.median(y)), kind="stable")[:NAMED])
    accepted = runs.columns["verdict"][places] == "accepted"

    def paint(canvas: Canvas) -> None:
        axes = canvas.axes[0]
        axes.axhline(0, color=SOFT, linewidth=1)
        axes.axvline(0, color=SOFT, linewidth=1)
        if len(x) > NAMED:
            _band(axes, x, y)
        kinds = (("accepted by the gate", "o", FIRST, True), ("not accepted", "s", SECOND, False))
        for i, (label, marker, colour, taken) in enumerate(kinds):
            mine = chosen[accepted[chosen] == taken]
            marks = [_pair(runs, int(places[k])) for k in mine]
            fill = {"markerfacecolor": colour, "markeredgewidth": 0} if taken else {"markerfacecolor": "none"}
            style = {"marker": marker, "color": colour, "markersize": 5 if len(x) <= 60 else 3.8, "alpha": 0.75, **fill}
            scatter(axes, canvas, f"gap-{i}", x[mine], y[mine], marks, label=label, **style)
        _hold(axes, "x", ranges[0], np.inf)
        _hold(axes, "y", ranges[1], FAR)
        axes.set_xlabel("accuracy of the teacher − of the student, points")
        axes.set_ylabel("change at the end of training")
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, handletextpad=0.1)

    text = f"Change with {method} against the difference in accuracy, {len(x):,} runs"
    return draw(name, text, (5, 3.3), paint)


def differences(runs: Runs, method: str) -> tuple[np.ndarray, np.ndarray]:
    """Return, for each run with a teacher, the difference in accuracy and the delta; ungated where that is known."""
    places = runs.taught(method)
    ended, returned = (runs.columns[f"{prefix}transfer_delta"][places] for prefix in (ENDED, RETURNED))
    return runs.columns["accuracy_difference"][places], np.where(np.isfinite(ended), ended, returned)


def sizes(runs: Runs, method: str) -> Drawing:
    """Draw the mean of each student against its number of parameters."""
    params = dict(zip(runs.columns["student"].tolist(), runs.columns["student_params"].tolist(), strict=True))
    means = {prefix: runs.means(method, prefix) for prefix in SIDES}
    shown = [params[spec] for spec in means[RETURNED] if params[spec] > 0]

    def paint(canvas: Canvas) -> None:
        axes = canvas.axes[0]
        axes.axhline(0, color=SOFT, linewidth=1)
        for i, (prefix, marker, colour) in enumerate(STYLES):
            known = [spec for spec in means[prefix] if params[spec] > 0]
            marks = [
                Mark(
                    f"{shorten(runs.names[spec], 48)}, {number(params[spec], 0)} parameters, {SIDES[prefix]}: "
                    f"{points(means[prefix][spec])} points"
                )
                for spec in known
            ]
            x, y = [params[spec] for spec in known], [means[prefix][spec] for spec in known]
            style = {"marker": marker, "color": colour, "markersize": 5, "alpha": 0.8, "markeredgewidth": 0}
            scatter(axes, canvas, f"sizes-{i}", x, y, marks, label=SIDES[prefix], **style)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5) if max(shown) < 30 * min(shown) else (1,)))
        axes.xaxis.set_major_formatter(lambda value, _: number(value, 0))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("parameters of the student")
        axes.set_ylabel("mean change, points")
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, handletextpad=0.1)

    return draw("sizes", f"Mean change of each student with {method} against its parameters", (5, 3.0), paint)


def _known(runs: Runs, method: str, prefix: str) -> np.ndarray:
    deltas = runs.columns[f"{prefix}transfer_delta"][runs.of(method)]
    return np.asarray(deltas[np.isfinite(deltas)])


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None


def _pair(runs: Runs, place: int) -> Mark:
    row = {key: values[place] for key, values in runs.columns.items()}
    student, teacher = (shorten(row[key] or "", 48) for key in ("student_name", "teacher_name"))
    ended, returned, stands = (
        points(None if np.isnan(row[key]) else float(row[key]))
        for key in ("ungated_transfer_delta", "transfer_delta", "accuracy_difference")
    )
    seed = f", seed {row['seed']}" if len(runs.seeds) > 1 else ""
    verdict = VERDICTS.get(row["verdict"], row["verdict"])
    return Mark(
        f"{student} taught by {teacher}{seed}: {ended} points at the end of training, {returned} returned ({verdict}); "
        f"the teacher stands at {stands}"
    )


def _band(axes: Axes, x: np.ndarray, y: np.ndarray, count: int = 12) -> None:
    """Draw median and quartiles along the axis, in parts that hold as many runs each."""
    parts = [part for part in np.array_split(np.argsort(x, kind="stable"), count) if len(part)]
    middle = [float(x[part].mean()) for part in parts]
    low, median, high = np.array([np.quantile(y[part], (0.25, 0.5, 0.75)) for part in parts]).T
    axes.fill_between(middle, low, high, color=SOFT, alpha=0.3, linewidth=0)
    axes.plot(middle, median, color=INK)


def _rows(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0, labelcolor=INK)


def _legend(axes: Axes, entries: Sequence[tuple[str, dict[str, Any]]]) -> None:
    handles = [Line2D([], [], linestyle="none", label=label, **style) for label, style in entries]
    axes.legend(handles=handles, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=len(handles), handletextpad=0.1)


def _hold(axes: Axes, which: Literal["x", "y"], values: np.ndarray, far: float) -> None:
    """Let an axis hold values with a margin around; where some lie beyond `far`, shrink what is far away."""
    low, high = float(values.min()), float(values.max())
    margin = 0.06 * (high - low) or 1.0
    low, high = low - margin, high + margin
    if max(-low, high) > far:
        axis = axes.xaxis if which == "x" else axes.yaxis
        (axes.set_xscale if which == "x" else axes.set_yscale)("symlog", linthresh=1.0)
        axis.set_major_formatter(lambda value, _: f"{value:g}".replace("-", "−"))
        axis.set_minor_formatter(NullFormatter())
        low, high = low - 0.5 * abs(low), high + 0.5 * abs(high)
    (axes.set_xlim if which == "x" else axes.set_ylim)(low, high)
