"""The pages say what is there: links, paths of modules, the order of folders, figures of the study."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from crossteach import functional

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "crossteach"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").glob("*.md")])
FOLDERS = [path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()]
NUMBER = r"(?<![\w.-])[+-]?\d[\d,]*(?:\.\d+)?%?"


def names(pages: list[Path]) -> list[str]:
    return [page.relative_to(ROOT).as_posix() for page in pages]


def anchors(page: Path) -> set[str]:
    """Name the headings of a page as GitHub does."""
    heads = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_every_link_leads_to_a_file_that_is_there(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    missing = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"https?:", link):
            path, _, anchor = link.partition("#")
            target = page.parent / path if path else page
            if not target.exists() or (anchor and anchor not in anchors(target)):
                missing.append(link)
    assert not missing


def test_every_module_that_a_page_or_its_picture_names_is_there():
    start = "|".join(sorted([*FOLDERS, "recipes", "benchmarks", "tests"]))
    named = {
        path
        for page in [*PAGES, *(ROOT / "docs").glob("*.svg")]
        for path in re.findall(rf"(?<![\w/.])((?:{start})/[\w/]+\.py)", page.read_text())
        if not path.endswith("/xyz.py")  # an example
    }
    missing = [path for path in named if not (PACKAGE / path).is_file() and not (ROOT / path).is_file()]
    assert not missing


def test_the_folders_stand_in_the_order_in_which_they_may_import():
    """The table's first column is the import contract, read from below; one layer may hold two files."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = [set(layer.split(" | ")) for layer in reversed(contracts[0]["layers"])]
    text = (ROOT / "docs" / "architecture.md").read_text()
    table = text.partition("| in `src/crossteach/` |")[2].partition("\n\n")[0]
    rows = [name.rstrip("/").removesuffix(".py") for name in re.findall(r"^\| `([\w./]+)` \|", table, re.MULTILINE)]
    for layer in layers:
        assert set(rows[: len(layer)]) == layer
        rows = rows[len(layer) :]
    assert not rows


def test_every_figure_on_the_page_of_the_study_is_on_record():
    tables = ""
    for rows in sorted((ROOT / "benchmarks").glob("STUDY_*.parquet")):
        command = [sys.executable, str(ROOT / "recipes" / "tables.py"), str(rows)]
        tables += subprocess.run(command, capture_output=True, text=True, check=True).stdout
    page, record = ((ROOT / "docs" / name).read_text() for name in ("study.md", "study/record.md"))
    known = {figure.lstrip("+-") for figure in figures(record + tables)}
    told = re.sub(r"\]\([^)]*\)|`[^`]*`|^\d\. |Table \d|[Pp]icture \d|table \d", "", page, flags=re.MULTILINE)
    assert not {figure for figure in figures(told) if figure.lstrip("+-") not in known}


def figures(text: str) -> set[str]:
    return {figure.rstrip(",") for figure in re.findall(NUMBER, text.replace("−", "-"))}


PUBLIC = ROOT / "docs" / "functional.md"


def test_the_example_for_loops_of_your_own_runs_and_prints_what_the_page_says():
    """Delta and its interval may move with the threads of a machine, the rest does not."""
    page = PUBLIC.read_text()
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    told = re.search(r"It prints:\n\n```text\n(.*?)```", page, re.DOTALL)[1]
    done = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, check=True)
    assert re.sub("delta .*", "", done.stdout) == re.sub("delta .*", "", told)
    deltas = [float(re.search(r"delta (\S+)", shown)[1]) for shown in (done.stdout, told)]
    assert deltas[0] == pytest.approx(deltas[1], abs=0.1)


TYPES = {"EXPERTISE_SHARES", "Interval", "StudyInterval", "StudySummary", "AreaSimilarity", "EnsembleAccuracies"}
"""What public functions take or return; their docstrings tell of it."""


def test_every_public_function_stands_on_the_page_and_what_the_page_names_is_there():
    page = PUBLIC.read_text()
    told = {name for row in re.findall(r"^\| (`.*?) \|", page, re.MULTILINE) for name in re.findall(r"`(\w+)", row)}
    named = set(re.findall(r"`(\w+)[`(]", page))
    missing = set(functional.__all__) - named
    assert not missing - TYPES
    assert not told - set(functional.__all__) - {"crossteach"}
