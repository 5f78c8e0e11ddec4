"""The page on which a person labels samples: one file that works offline, one key an answer."""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import jinja2

from ..files import picture_uri


@dataclass(frozen=True)
class Question:
    """One sample to be labelled."""

    sample: str
    file: str
    """Its picture, relative to the run folder."""
    answers: tuple[str, str]
    """What the old and the new student answer; the page shows them in an order drawn by lot."""


def render_page(run: Path, questions: Sequence[Question], draw: str) -> str:
    """Return the page with all pictures inside; nothing in it says which student gave which answer.

    Args:
        run: Where the pictures lie.
        questions: In the order of their draw.
        draw: Names the draw: a browser shows the answers again that were given on a page of fewer questions.
    """
    lot = random.Random(0)  # the same page every time; the order says nothing
    asked = []
    for question in questions:
        options = list(question.answers)
        lot.shuffle(options)
        asked.append({"sample": question.sample, "picture": picture_uri(run / question.file), "options": options})
    return _template().render(asked=_script_json(asked), count=len(asked), draw=draw)


def _script_json(value: object) -> str:
    """Write JSON that may stand inside a script: a class may be called </script>."""
    return json.dumps(value).replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


@cache
def _template() -> jinja2.Template:
    source = (Path(__file__).parent / "ask.html.jinja").read_text(encoding="utf-8")
    return jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(source)
