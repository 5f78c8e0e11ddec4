"""Writes the report of a run folder: reads it, makes the page, and fills the template."""

import base64
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import DictLoader, Environment, StrictUndefined, UndefinedError
from markupsafe import Markup

from ..errors import RunFolderError, first_line
from ..files import make_folder, write_bytes
from . import words
from .page import Page
from .reading import Kind, Run, open_folder
from .scout import scout_page
from .sweep import sweep_page
from .tables import Tables
from .transfer import transfer_page

PAGES: dict[Kind, Callable[[Run, Tables], Page]] = {
    "scout": scout_page,
    "transfer": transfer_page,
    "sweep": sweep_page,
}

FOREIGN = (AttributeError, IndexError, KeyError, TypeError, ValueError, UndefinedError)
"""What a key that is missing or of another type raises: the files are the user's, and anything may be in them."""


@dataclass(frozen=True)
class Report:
    """What a report has written."""

    path: Path
    figures: tuple[Path, ...]
    tables: tuple[Path, ...]
    seconds: float


def write_report(folder: str | Path) -> Path:
    """Write the report of a run folder.

    Args:
        folder: The folder of a scout, a transfer or a sweep that has come to its end.

    Returns:
        The HTML file: one file that needs nothing else.

    Raises:
        RunFolderError: If there is no folder, no run in it, or a run that is not whole.
    """
    return make_report(folder).path


def make_report(folder: str | Path) -> Report:
    """Write the report of a run folder, and say which files it has; see `write_report`."""
    started = time.perf_counter()
    run = open_folder(Path(folder))
    tables = Tables(run.path)
    try:
        page = PAGES[run.kind](run, tables)
        html = render(page)
    except FOREIGN as error:
        why = f"{type(error).__name__}: {first_line(error)}"
        raise RunFolderError(f"{run.path} holds a run of another shape than crossteach writes ({why})") from error
    figures = []
    for drawing in page.drawings:
        path = make_folder(run.path / "figures") / f"{drawing.name}.svg"
        write_bytes(path, drawing.file)
        figures.append(path)
    target = run.path / "report.html"
    write_bytes(target, html.encode("utf-8", "replace"))
    return Report(target, tuple(figures), tuple(tables.files), round(time.perf_counter() - started, 2))


def render(page: Page) -> str:
    """Fill a page's template; its style and script are written into it, and nothing else may run or be fetched."""
    sources = {p.name: p.read_text(encoding="utf-8") for p in (files(__package__) / "templates").iterdir()}
    environment = Environment(
        loader=DictLoader(sources), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "number": words.number,
        "points": words.points,
        "p_value": words.p_value,
        "interval": words.interval,
        "shorten": words.shorten,
        "embed": embed,
    }
    script = sources["report.js"]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template(page.template).render(
        page.context,
        style=Markup(sources["style.css"]),
        script=Markup(script),
        script_hash=digest,
        drawings={drawing.name: drawing for drawing in page.drawings},
    )


def embed(content: Any) -> Markup:
    """Write JSON that may stand in a page: no name in it can end the script that holds it."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)
