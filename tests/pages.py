"""What tests of reports share: a page's text, its tags, its tables, and what the command complains of."""

import csv
from html.parser import HTMLParser
from pathlib import Path

import pytest

from crossteach import write_report
from crossteach.cli import main


def page(folder: Path) -> str:
    return write_report(folder).read_text(encoding="utf-8")


def table(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / "tables" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


class Visible(HTMLParser):
    """The text of a page, without its scripts and styles, and the tags that it opens."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._silent = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._silent = tag if tag in ("script", "style") else self._silent

    def handle_endtag(self, tag: str) -> None:
        self._silent = "" if tag == self._silent else self._silent

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.words.append(data)


def visible(html: str) -> Visible:
    parser = Visible()
    parser.feed(html)
    return parser


def text(html: str) -> str:
    return " ".join(" ".join(visible(html).words).split())


def expect(capsys, says: str, folder: Path) -> None:
    with pytest.raises(SystemExit) as end:
        main(["report", str(folder)])
    told = capsys.readouterr()
    assert (end.value.code, told.out) == (1, "")
    assert told.err.startswith("crossteach: ")
    assert told.err.count("\n") == 1
    assert says in told.err
