"""The figures of a scout."""

from collections.abc import Sequence
from typing import Any

from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from .figures import FIRST, INK, SECOND, SOFT, Canvas, Drawing, Mark, draw, scatter
from .pairs import SHOWN_CLASSES, Pair, Pairs
from .words import number, points, shorten

NUMBERED = 16
"""Up to this many models, the cells of the matrix bear numbers."""


def largest(matrix: Sequence[Sequence[float]]) -> float:
    """Return the largest cell off the diagonal, to shade the others by; 1 where all are 0."""
    return max((cell for i, row in enumerate(matrix) for j, cell in enumerate(row) if i != j), default=0) or 1


def flips(summary: dict[str, Any]) -> Drawing:
    """Draw the flip matrix: the darker a cell, the more the teacher knows that the student does not."""
    names = [shorten(model["name"], 20) for model in summary["models"]]
    matrix = summary["positive_flips"]
    count = len(names)
    darkest = largest(matrix)
    side = max(3.0, 0.55 * count if count <= NUMBERED else 0.28 * count)

    def paint(canvas: Canvas) -> None:
        axes = canvas.axes[0]
        for i, row in enumerate(matrix):
            for j, cell in enumerate(row):
                if i == j:
                    continue
                axes.add_patch(
                    Rectangle((j - 0.48, i - 0.48), 0.96, 0.96, color=FIRST, alpha=0.65 * cell / darkest, lw=0)
                )
                if count <= NUMBERED:
                    axes.text(j, i, f"{cell:.1f}", ha="center", va="center", color=INK, size=8)
        axes.set_xlim(-0.5, count - 0.5)
        axes.set_ylim(count - 0.5, -0.5)
        axes.set_aspect("equal")
        axes.grid(False)
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.set_xticks(range(count), names, rotation=90)
        axes.set_yticks(range(count), names)
        axes.tick_params(length=0)
        axes.set_xlabel("teacher")
        axes.set_ylabel("student")

    text = "Share of the test samples, in %, that the teacher (column) has right and the student (row) wrong"
    return draw("flips", text, (side + 1.4, side + 1.2), paint)


def knowledge(pairs: Pairs, shown: Sequence[Pair]) -> Drawing:
    """Draw complementary knowledge against the difference in accuracy, a point for each pair."""
    sides = (
        ("teacher stronger", "^", FIRST, [p for p in shown if p["accuracy_difference"] > 0]),
        ("teacher weaker or equal", "v", SECOND, [p for p in shown if p["accuracy_difference"] <= 0]),
    )
    size = 7.0 if len(shown) <= 60 else 4.0

    def paint(canvas: Canvas) -> None:
        axes = canvas.axes[0]
        axes.axvline(0, color=SOFT, linewidth=1)
        for place, (label, marker, colour, side) in enumerate(sides):
            marks = [
                Mark(
                    f"{shorten(p['student'], 48)} taught by {shorten(p['teacher'], 48)}: "
                    f"{number(p['positive'])} % only the teacher right, {points(p['accuracy_difference'])} points",
                    p["key"],
                )
                for p in side
            ]
            x, y = [p["accuracy_difference"] for p in side], [p["positive"] for p in side]
            style = {"marker": marker, "color": colour, "markersize": size, "markeredgewidth": 0, "alpha": 0.75}
            scatter(axes, canvas, f"side-{place}", x, y, marks, label=label, **style)
        axes.margins(0.08)
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
        axes.set_xlabel("accuracy of the teacher − of the student, points")
        axes.set_ylabel("only the teacher right, %")
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, handletextpad=0.1)

    weaker = sides[1][3]
    most = max((p["positive"] for p in weaker), default=None)
    text = f"Complementary knowledge of {len(shown)} pairs against the difference in accuracy"
    text += f"; a teacher that is not stronger knows up to {number(most)} % that its student does not" if weaker else ""
    return draw("knowledge", text, (5, 3.7), paint)


def histogram(pairs: Pairs, pair: Pair) -> Drawing:
    """Draw the flips of one pair by class, the most positive first."""
    rows = pairs.histogram(pair)[:SHOWN_CLASSES]

    def paint(canvas: Canvas) -> None:
        axes = canvas.axes[0]
        places = list(range(len(rows)))
        axes.barh(places, [row[1] for row in rows], color=FIRST, height=0.7, label="only the teacher right")
        axes.barh(
            places, [-row[2] for row in rows], color=SECOND, height=0.7, label="only the student right", hatch="////"
        )
        axes.axvline(0, color=SOFT, linewidth=1)
        axes.set_yticks(places, [shorten(pairs.classes[row[0]], 24) for row in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.grid(False, axis="y")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.xaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
        axes.set_xlabel("test samples")
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)

    text = f"Classes in which {pair['teacher']} is right and {pair['student']} wrong most often"
    return draw("histogram", text, (5, 1 + 0.2 * len(rows)), paint)
