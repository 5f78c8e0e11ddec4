"""Two pictures of a study: from whom a student gains, and on which data.

    python recipes/pictures.py benchmarks/STUDY_CPU_2026-11-24.parquet --out docs/study

It writes `gap.svg`: the delta of every pair against how much better or worse the teacher is. It writes
`conditions.svg`: mean, worst and best delta on each data set, beside plain fine-tuning. The rows are those that
recipes/study.py gathers. Deltas are in points on the test split.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from matplotlib.lines import Line2D
from tables import BASES, beside, grouped, ungated

from crossteach.report.figures import FIRST, INK, PAPER, SECOND, SOFT, Canvas, Drawing, Mark, draw, scatter

Row = dict[str, Any]

SERIES = (
    ("xe", "fine-tuning, no teacher", "D", INK),
    ("xe+dp", "xe+dp: with labels", "o", FIRST),
    ("kl+dp-unsupervised", "kl+dp-unsupervised: no labels", "s", SECOND),
)
"""Methods, what they are called in a picture, and how they are drawn."""

CONDITIONS = {
    "core": "glyphs, 132 pairs",
    "teachers": "five teachers at once",
    "small-10": "a tenth of the images",
    "small-1": "a hundredth",
    "fresh": "new images",
    "fashion": "Fashion-MNIST",
}
"""Parts of the study, from the top of the picture to its end. `shifted` has changes of another size."""


def legend(canvas: Canvas, shown: Sequence[tuple[str, str, str, str]], hollow: str = "") -> None:
    """Explain markers and colours above the picture, and what a hollow marker means where there are any."""
    style = {"linestyle": "none", "markersize": 6}
    handles = [
        Line2D([], [], marker=marker, color=colour, markeredgecolor=PAPER, label=label, **style)
        for _, label, marker, colour in shown
    ]
    if hollow:
        handles.append(Line2D([], [], marker="o", color=SOFT, markerfacecolor=PAPER, label=hollow, **style))
    canvas.figure.legend(handles=handles, loc="outside upper center", ncols=2, handletextpad=0.2)


def gap(core: list[Row]) -> Drawing:
    """Draw the delta of every pair against the teacher's lead in accuracy."""
    series = SERIES[1:]

    def paint(canvas: Canvas) -> None:
        axes = canvas.axes[0]
        axes.axhline(0, color=SOFT, linewidth=1)
        axes.axvline(0, color=SOFT, linewidth=1)
        for method, _, marker, colour in series:
            mine = [r for r in core if r["method"] == method]
            lead = [r["teacher_accuracy"] - r["accuracy_before"] for r in mine]
            marks = [
                Mark(f"{r['student_name']} from {r['teacher_name']}, {method}: {r['ungated_transfer_delta']:+.2f}")
                for r in mine
            ]
            style = {"color": colour, "marker": marker, "markersize": 4, "markeredgewidth": 0, "alpha": 0.65}
            scatter(axes, canvas, method.replace("+", "-"), lead, ungated(mine), marks, **style)
        axes.set_xlabel("accuracy of the teacher − accuracy of the student, points")
        axes.set_ylabel("change of the student, points")
        legend(canvas, series)

    return draw("gap", "Change of the student against the lead of the teacher, every pair", (6, 3.6), paint)


def runs(parts: dict[str, list[Row]], part: str, method: str) -> list[Row]:
    """Return a method's runs of a part; where the part has no control of its own, that of the same students."""
    rows = beside(parts[part], parts.get(BASES.get(part, ""), []))
    wanted = f"{method}, parallel" if part == "teachers" and method != "xe" else method
    return [r for r in rows if r["method"] == wanted]


def conditions(parts: dict[str, list[Row]]) -> Drawing:
    """Draw mean, worst and best end of training on each data set; a hollow mark is the mean of what is returned."""
    shown = [part for part in CONDITIONS if part in parts]

    def paint(canvas: Canvas) -> None:
        axes = canvas.axes[0]
        axes.axvline(0, color=SOFT, linewidth=1)
        for place, part in enumerate(shown):
            for i, (method, _, marker, colour) in enumerate(SERIES):
                mine = runs(parts, part, method)
                y, deltas = place + 0.26 * (i - 1), ungated(mine)
                if not len(deltas):
                    continue
                returned = float(np.mean([r["transfer_delta"] for r in mine]))
                axes.plot([deltas.min(), deltas.max()], [y, y], color=colour, linewidth=1.2)
                text = f"{CONDITIONS[part]}, {method}: mean {deltas.mean():+.2f}, worst {deltas.min():+.2f}"
                hollow = {"marker": marker, "color": colour, "markersize": 6, "markerfacecolor": PAPER}
                full = {"marker": marker, "color": colour, "markersize": 6, "markeredgecolor": PAPER}
                scatter(
                    axes,
                    canvas,
                    f"r-{place}-{i}",
                    [returned],
                    [y],
                    [Mark(f"{text}, returned {returned:+.2f}")],
                    **hollow,
                )
                scatter(axes, canvas, f"e-{place}-{i}", [deltas.mean()], [y], [Mark(text)], **full)
        axes.set_yticks(range(len(shown)), [CONDITIONS[part] for part in shown])
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        axes.set_ylim(len(shown) - 0.5, -0.5)
        axes.set_xlabel("mean change of accuracy, points; line: worst to best run")
        legend(canvas, SERIES, "hollow: what the gate returns")

    return draw("conditions", "Mean, worst and best change on each data set", (6, 1.2 + 0.6 * len(shown)), paint)


def main() -> None:
    """Draw both pictures."""
    parser = argparse.ArgumentParser(description="Pictures of a study.")
    parser.add_argument("results", type=Path, help="study.parquet of recipes/study.py")
    parser.add_argument("--out", type=Path, default=Path("docs/study"))
    arguments = parser.parse_args()
    parts = dict(grouped(pq.read_table(arguments.results).to_pylist(), "part"))
    arguments.out.mkdir(parents=True, exist_ok=True)
    for drawing in (gap(parts["core"]), conditions(parts)):
        path = arguments.out / f"{drawing.name}.svg"
        path.write_bytes(drawing.file)
        print(path)


if __name__ == "__main__":
    main()
