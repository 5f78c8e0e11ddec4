"""The figures of a transfer."""

from collections.abc import Sequence
from typing import Any

from matplotlib.ticker import MaxNLocator

from .figures import FIRST, INK, LINE, SECOND, SOFT, Canvas, Drawing, Mark, draw, scatter
from .words import interval, number, points, shorten

Rows = Sequence[dict[str, Any]]


def deltas(summary: dict[str, Any]) -> Drawing:
    """Draw the change of the returned student and of the end of training, each with its interval."""
    sides = [("returned", summary, "o", FIRST), ("end of training", summary["ungated"], "s", SECOND)]

    def paint(canvas: Canvas) -> None:
        axes = canvas.axes[0]
        for place, (name, side, marker, colour) in enumerate(sides):
            delta, (low, high) = side["transfer_delta"], side["interval"]
            axes.plot([low, high], [place, place], color=colour, solid_capstyle="round")
            mark = [Mark(f"{name}: {points(delta)} points ({interval(side['interval'])})")]
            scatter(axes, canvas, f"delta-{place}", [delta], [place], mark, marker=marker, color=colour, markersize=6)
            axes.annotate(points(delta), (delta, place), (0, 7), textcoords="offset points", ha="center", color=INK)
        axes.axvline(0, color=SOFT, linewidth=1)
        axes.set_yticks([0, 1], [name for name, *_ in sides])
        axes.set_ylim(1.5, -0.7)
        axes.margins(x=0.15)
        axes.grid(False, axis="y")
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.set_xlabel("points of accuracy, 95% interval")

    text = "; ".join(f"{n}: {points(s['transfer_delta'])} points, {interval(s['interval'])}" for n, s, *_ in sides)
    return draw("change", f"Change of accuracy. {text}", (5, 1.75), paint)


def gate(steps: Rows, verdict: dict[str, Any], max_loss: float | None) -> Drawing:
    """Draw the delta on the gate part at each point of the path."""
    alphas = [step["alpha"] for step in steps]
    estimates = [step["delta"]["estimate"] for step in steps]

    def paint(canvas: Canvas) -> None:
        axes = canvas.axes[0]
        axes.axhline(0, color=SOFT, linewidth=1)
        if max_loss is not None:
            axes.axhline(-max_loss, color=SOFT, linewidth=1, linestyle=(0, (4, 3)))
            axes.annotate(
                f"largest loss: −{max_loss:g}", (0, -max_loss), (2, -9), textcoords="offset points", color=SOFT, size=8
            )
        for alpha, step in zip(alphas, steps, strict=True):
            axes.plot([alpha, alpha], [step["delta"]["low"], step["delta"]["high"]], color=FIRST)
        text = [
            Mark(f"α = {a:g}: {points(e)} points ({points(s['delta']['low'])} to {points(s['delta']['high'])})")
            for a, e, s in zip(alphas, estimates, steps, strict=True)
        ]
        scatter(axes, canvas, "gate", alphas, estimates, text, marker="o", color=FIRST)
        if verdict["verdict"] == "accepted" and verdict.get("alpha") in alphas:
            place = alphas.index(verdict["alpha"])
            axes.plot(alphas[place], estimates[place], "o", markersize=13, markerfacecolor="none", markeredgecolor=INK)
            axes.annotate(
                "taken", (alphas[place], estimates[place]), (-11, 5), textcoords="offset points", ha="right", color=INK
            )
        axes.set_xlim(0, max(alphas) * 1.08)
        axes.set_xticks([0, *alphas])
        axes.set_xlabel("α: from the old weights (0) to the new (1)")
        axes.set_ylabel("change, points")

    text = "; ".join(f"α {a:g}: {points(e)}" for a, e in zip(alphas, estimates, strict=True))
    return draw("gate", f"Change of accuracy along the path, in points. {text}", (5, 3.1), paint)


def curve(epochs: Rows) -> Drawing:
    """Draw the loss over the epochs, and accuracy or (without labels) agreement with the closest model."""
    watched = next((key for key in ("tune_accuracy", "tune_agreement") if key in epochs[0]), "")
    scored = [e for e in epochs if isinstance(e.get(watched), int | float)]
    what = watched.removeprefix("tune_")

    def paint(canvas: Canvas) -> None:
        panels = [("loss on the transfer set", epochs, "loss", FIRST, "o", 4)]
        panels += [(f"{what} on the tune part, %", scored, watched, SECOND, "s", 2)] if scored else []
        for axes, (title, rows, key, colour, marker, digits) in zip(canvas.axes, panels, strict=True):
            x, y = [row["epoch"] for row in rows], [row[key] for row in rows]
            axes.plot(x, y, color=colour)
            marks = [Mark(f"epoch {a}: {number(b, digits)}") for a, b in zip(x, y, strict=True)]
            scatter(axes, canvas, key, x, y, marks, marker=marker, color=colour, markersize=4.5)
            axes.set_title(title)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.set_xlim(min(x) - 0.3, max(x) + 0.3)
            axes.margins(y=0.15)
        canvas.axes[-1].set_xlabel("epoch")

    text = f"Loss from {number(epochs[0]['loss'], 4)} to {number(epochs[-1]['loss'], 4)} in {len(epochs)} epochs"
    if scored:
        ends = scored[0][watched], scored[-1][watched]
        text += f"; {what} on the tune part from {number(ends[0])} to {number(ends[1])} %"
    return draw("epochs", text, (5, 3.4 if scored else 1.9), paint, panels=2 if scored else 1)


def reliability(bins: Rows, calibration: dict[str, Any]) -> Drawing:
    """Draw accuracy against confidence, before and after."""
    sides = [("before", "o", SOFT, (0, (4, 2))), ("after", "s", FIRST, "solid")]

    def paint(canvas: Canvas) -> None:
        axes = canvas.axes[0]
        axes.plot([0, 100], [0, 100], color=LINE, linewidth=1.2)
        axes.annotate("as right as confident", (50, 50), (6, -12), textcoords="offset points", color=SOFT, size=8)
        for name, marker, colour, line in sides:
            rows = [row for row in bins if row["student"] == name]
            x, y = [100 * row["confidence"] for row in rows], [100 * row["accuracy"] for row in rows]
            axes.plot(x, y, color=colour, linestyle=line)
            marks = [
                Mark(f"{name}: {a:.1f} % confident, {b:.1f} % right, {row['samples']:,} samples")
                for a, b, row in zip(x, y, rows, strict=True)
            ]
            ece = calibration.get(name)
            label = f"{name}, ECE {ece:.4f}" if isinstance(ece, float) else name
            scatter(axes, canvas, name, x, y, marks, marker=marker, color=colour, markersize=4.5, label=label)
        axes.set_xlim(0, 102)
        axes.set_ylim(0, 102)
        axes.set_xlabel("mean confidence in the bin, %")
        axes.set_ylabel("right, %")
        axes.legend(loc="upper left", handletextpad=0.2)

    text = f"Accuracy against confidence; calibration error {number(calibration.get('before'), 4)} before, "
    return draw("reliability", text + f"{number(calibration.get('after'), 4)} after", (5, 3.6), paint)


def classes(rows: Rows, kept: bool, most: int = 20) -> Drawing:
    """Draw the classes that moved most: gained to the right, lost to the left."""
    shown = [row for row in rows if row["gained"] or row["lost"]][:most]

    def paint(canvas: Canvas) -> None:
        axes = canvas.axes[0]
        places = list(range(len(shown)))
        axes.barh(places, [row["gained"] for row in shown], color=FIRST, height=0.7, label="gained")
        axes.barh(places, [-row["lost"] for row in shown], color=SECOND, height=0.7, label="lost", hatch="////")
        axes.axvline(0, color=SOFT, linewidth=1)
        axes.set_yticks(places, [shorten(row["name"], 24) for row in shown])
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.grid(False, axis="y")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.xaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
        axes.set_xlabel("test samples" + (", end of training" if kept else ""))
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)

    text = "; ".join(f"{row['name']} +{row['gained']} −{row['lost']}" for row in shown[:5])
    return draw("classes", f"Samples gained and lost by class. {text}", (5, 1 + 0.2 * len(shown)), paint)
