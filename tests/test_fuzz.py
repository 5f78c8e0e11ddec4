"""A slice of benchmarks/fuzz.py: bad input of every kind opens or gets one line, and nothing else happens."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CASES = {"reports": 4, "pictures": 6, "hf folders": 6, "timm folders": 6}
"""Of kinds that take long; of the others 12."""


@pytest.fixture(scope="module")
def fuzz():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import fuzz

        yield fuzz
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))


@pytest.fixture(scope="module")
def box(fuzz, tmp_path_factory):
    """The good files, without a sweep, whose processes take long to start."""
    box = fuzz.Box(tmp_path_factory.mktemp("box"))
    with pytest.MonkeyPatch.context() as patch:
        for name, place in box.places.items():
            (box.root / place).mkdir(parents=True, exist_ok=True)
            patch.setenv(name, str(box.root / place))
        (box.root / "work").mkdir()
        patch.chdir(box.root / "work")
        fuzz.make_good(box.good, sweep=False)
        yield box


@pytest.fixture(scope="module")
def watch(fuzz, box):
    return fuzz.Watch(box.root)


def test_bad_input_opens_or_gets_one_line(fuzz, box, watch, unchecked, monkeypatch):
    for name, place in box.places.items():
        monkeypatch.setenv(name, str(box.root / place))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # read where the library is imported
    cache = str(box.root / box.places["HF_HOME"] / "datasets")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", cache)  # so is this
    fuzz.warm(box, watch)
    outcomes = [fuzz.run_case(kind, n, box, watch) for kind in fuzz.KINDS for n in range(1, 1 + CASES.get(kind, 12))]
    assert not [each for each in outcomes if each.result == "finding"]
    refused = {each.kind for each in outcomes if each.result == "refused"}
    assert refused == set(fuzz.KINDS), "a kind whose files are never refused is not bad"


@pytest.mark.parametrize(
    ("action", "says"),
    [
        (lambda case: 1 / 0, "ZeroDivisionError"),
        (lambda case: exec(case.code()), "code of a file ran"),
        (lambda case: (Path.cwd() / "left").write_text("x"), "left"),
        (lambda case: (case.good / "zoo.py").write_text("x"), "zoo.py"),
        (lambda case: (case.folder / "new").mkdir(), "case/new"),
        (lambda case: Path("/tmp/crossteach-fuzz-elsewhere").open("w").close(), "writes /tmp/crossteach"),
        (lambda case: __import__("subprocess").run(["true"]), "subprocess.Popen"),
    ],
)
def test_what_no_input_may_do_is_found(fuzz, box, watch, monkeypatch, action, says):
    kept = (box.good / "zoo.py").read_text()
    monkeypatch.setitem(fuzz.KINDS, "spoilt", lambda case: lambda: action(case))
    try:
        outcome = fuzz.run_case("spoilt", 0, box, watch)
    finally:
        (box.good / "zoo.py").write_text(kept)
        (box.root / "work" / "left").unlink(missing_ok=True)
        Path("/tmp/crossteach-fuzz-elsewhere").unlink(missing_ok=True)
    assert outcome.result == "finding" and says in outcome.why


def test_a_case_is_the_same_whenever_it_is_made(fuzz, box, watch):
    first, again = (fuzz.run_case("label maps", 3, box, watch) for _ in range(2))
    assert (first.result, first.why) == (again.result, again.why)


@pytest.mark.slow
def test_the_script_goes_on_where_it_stopped_and_outlives_what_kills_it(fuzz, tmp_path):
    import subprocess

    command = [sys.executable, ROOT / "benchmarks" / "fuzz.py", "--out", tmp_path / "fuzz", "--kinds", "settings"]
    for cases in (20, 60):
        done = subprocess.run([*command, "--cases", str(cases)], capture_output=True, text=True, check=True)
        assert f"| settings | {cases} |" in done.stdout
    assert len((tmp_path / "fuzz" / "cases.jsonl").read_text().splitlines()) == 60
