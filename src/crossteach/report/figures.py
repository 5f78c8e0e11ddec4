"""Figures: drawn by matplotlib once, written as a file and put into the page, where they take the page's colours."""

import io
import re
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import escape
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"

INK, SOFT, LINE, PAPER, FIRST, SECOND = "#0a0101", "#0a0202", "#0a0303", "#0a0404", "#0a0505", "#0a0606"
"""Placeholder colours: replaced by variables in the page, by real colours in the file."""
COLOURS = {
    INK: ("--ink", "#1d2528"),
    SOFT: ("--soft", "#566268"),
    LINE: ("--line", "#d8dee1"),
    PAPER: ("--paper", "#ffffff"),
    FIRST: ("--first", "#1a66a3"),
    SECOND: ("--second", "#b4500f"),
}
SETTINGS = {
    "svg.fonttype": "none",
    "svg.hashsalt": "crossteach",
    "text.parse_math": False,
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.labelcolor": SOFT,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": SOFT,
    "ytick.labelcolor": SOFT,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "legend.labelcolor": INK,
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "lines.linewidth": 1.6,
}
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


@dataclass(frozen=True)
class Mark:
    """A drawn point: the text that shows under the mouse pointer, and the pair of models that it stands for."""

    text: str
    pair: str = ""


@dataclass(frozen=True)
class Drawing:
    """A finished figure."""

    name: str
    text: str
    """What it shows, for those who do not see it."""
    inline: Markup
    file: bytes


@dataclass
class Canvas:
    """A figure that is being drawn."""

    figure: Figure
    axes: Sequence[Axes]
    marks: dict[str, Sequence[Mark]] = field(default_factory=dict)
    """Names of the points drawn under each gid, in their order."""


Draw = Callable[[Canvas], None]


def draw(name: str, text: str, size: tuple[float, float], paint: Draw, panels: int = 1) -> Drawing:
    """Draw a figure.

    Args:
        name: The file's stem.
        text: What it shows, for those who do not see it.
        size: Width and height in inches of 72 units; 5 wide suits a phone.
        paint: Draws on the canvas.
        panels: How many axes stand under each other.
    """
    with _drawing():
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(panels, 1, squeeze=False)
        canvas = Canvas(figure, list(grid[:, 0]))
        paint(canvas)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    root = ET.fromstring(buffer.getvalue())
    _tidy(root, name)
    _name_marks(root, name, canvas.marks)
    return Drawing(name, text, _inline(root, text), _file(root, text))


@contextmanager
def _drawing() -> Iterator[None]:
    """Set matplotlib up for the length of one drawing; a name in a script that its font lacks gives no warning."""
    with matplotlib.rc_context(SETTINGS), warnings.catch_warnings():  # type: ignore[arg-type]
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def _tidy(root: ET.Element, name: str) -> None:
    """Drop what the page does not need, and make ids the figure's own: a page holds several figures."""
    for child in list(root):
        if child.tag == f"{{{SVG}}}metadata" or child.find(f"{{{SVG}}}style") is not None:
            root.remove(child)
    content = ET.tostring(root, encoding="unicode")
    used = {*re.findall(r'href="#([^"]+)"', content), *re.findall(r"url\(#([^)]+)\)", content)}
    for element in root.iter():
        identity = element.get("id")
        if identity is not None:
            if identity in used or identity.startswith("marks-"):
                element.set("id", f"{name}-{identity}")
            else:
                del element.attrib["id"]
        for key, value in element.attrib.items():
            if key == f"{{{XLINK}}}href" or key == "clip-path":
                element.set(key, value.replace("#", f"#{name}-", 1))
            elif key in ("d", "x", "y", "width", "height"):
                element.set(key, re.sub(r"(\.\d\d)\d+", r"\1", " ".join(value.split())))
            elif key == "transform":
                element.set(key, re.sub(r"(\.\d\d\d)\d+", r"\1", value))
            elif key == "style":
                element.set(key, re.sub(r"font-family: [^;]+", f"font-family: {FONT}", value))
        if element.get("transform", "").startswith("rotate(-0 "):
            del element.attrib["transform"]


def _name_marks(root: ET.Element, name: str, marks: Mapping[str, Sequence[Mark]]) -> None:
    for gid, named in marks.items():
        group = root.find(f".//*[@id='{name}-{gid}']")
        drawn = [] if group is None else list(group.iter(f"{{{SVG}}}use"))
        assert len(drawn) == len(named), f"{len(drawn)} marks of {gid} drawn, {len(named)} named"
        styles = {element.get("style", "") for element in drawn}
        if len(styles) == 1 and group is not None:
            group.set("style", styles.pop())
            for element in drawn:
                element.attrib.pop("style", None)
        for element, mark in zip(drawn, named, strict=True):
            ET.SubElement(element, f"{{{SVG}}}title").text = mark.text
            if mark.pair:
                element.set("data-pair", mark.pair)


def _text(root: ET.Element) -> str:
    ET.register_namespace("", SVG)
    ET.register_namespace("xlink", XLINK)
    return ET.tostring(root, encoding="unicode")


def _inline(root: ET.Element, text: str) -> Markup:
    """Return the figure as a part of a page: its colours are the page's variables."""
    width, height = root.get("viewBox", "0 0 1 1").split()[2:]
    body = "".join(_text(child) for child in root)
    body = body.replace(f' xmlns="{SVG}"', "").replace(f' xmlns:xlink="{XLINK}"', "").replace("xlink:href", "href")
    for colour, (variable, _) in COLOURS.items():
        body = body.replace(colour, f"var({variable})")
    return Markup(
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(text)}" '
        f'style="--width:{float(width) * 1.3:.0f}px">{body}</svg>'
    )


def _file(root: ET.Element, text: str) -> bytes:
    """Return the figure as a file of its own, on white."""
    title = ET.Element(f"{{{SVG}}}title")
    title.text = text
    ground = ET.Element(f"{{{SVG}}}rect", {"width": "100%", "height": "100%", "fill": COLOURS[PAPER][1]})
    root.insert(0, ground)
    root.insert(0, title)
    content = _text(root)
    root.remove(title)
    root.remove(ground)
    for colour, (_, real) in COLOURS.items():
        content = content.replace(colour, real)
    return ('<?xml version="1.0" encoding="utf-8"?>\n' + content + "\n").encode("utf-8", "replace")


def scatter(axes: Axes, canvas: Canvas, gid: str, x: Any, y: Any, marks: Sequence[Mark], **style: Any) -> None:
    """Draw points that have names."""
    if len(marks):
        axes.plot(x, y, linestyle="none", gid=f"marks-{gid}", **style)
        canvas.marks[f"marks-{gid}"] = marks
