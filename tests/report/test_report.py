import csv
import itertools
import json
import re
import shlex
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import digits
import numpy as np
import pyarrow.parquet as pq
import pytest
import scouts
import sweeps
from pages import expect, page, table, text, visible

from crossteach import TransferConfig, load_data, load_model, transfer, with_settings, write_report
from crossteach.cli import main
from crossteach.errors import RunFolderError
from crossteach.report.words import transfer_command

QUICK = ["optim.epochs=2", "optim.batch_size=32", "views.count=1"]


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> digits.Digits:
    return digits.make(tmp_path_factory.mktemp("digits"))


@pytest.fixture(scope="module")
def runs(task, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Real transfers: one that the gate takes, one that it does not, one without a teacher."""
    folder = tmp_path_factory.mktemp("runs")
    teacher, data = load_model(task.teacher), load_data(task.data)
    given = {
        "taken": ([teacher], ["optim.lr=0.1", "gate.max_loss=5", "seed=3"]),
        "kept": ([teacher], ["optim.lr=0.9", "optim.epochs=1", "method=kl"]),
        "alone": ([], ["optim.lr=0.01", "method=self"]),
    }
    for name, (teachers, settings) in given.items():
        config = with_settings(TransferConfig(), [*QUICK, *settings])
        transfer(load_model(task.student), teachers, data, folder / name, config)
    return {name: folder / name for name in given}


def copy(run: Path, to: Path) -> Path:
    to.mkdir()
    for path in run.rglob("*"):
        if path.is_file():
            (to / path.relative_to(run)).parent.mkdir(parents=True, exist_ok=True)
            (to / path.relative_to(run)).write_bytes(path.read_bytes())
    return to


def summary(folder: Path) -> dict:
    return json.loads((folder / "summary.json").read_text())


def embedded(html: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)[1])


def test_a_transfer_says_its_result_in_words(runs):
    s = summary(runs["taken"])
    assert s["gate"]["verdict"] == "accepted"
    told = text(page(runs["taken"]))
    assert "convolutional learnt from dense" in told
    assert f"{s['accuracy_before']:.2f} → {s['accuracy_after']:.2f} %, {s['transfer_delta']:+.2f} points" in told
    assert "accepted by the gate" in told
    assert f"{s['ungated_transfer_delta']:+.2f}".replace("-", "−") in told
    for heading in ("What was asked", "The gate", "Training", "Gain and loss by class", "Calibration", "Repeat it"):
        assert heading in told
    assert s["fingerprints"]["student"] in told


def test_an_original_that_was_kept_is_called_that(runs):
    s = summary(runs["kept"])
    assert s["gate"]["verdict"] in ("kept_original", "diverged")
    told = text(page(runs["kept"]))
    assert "convolutional stays as it was" in told
    assert f"{s['ungated_transfer_delta']:+.2f}".replace("-", "−") in told
    assert "at the end of training: the returned student is the original" in told
    assert json.loads((runs["kept"] / "pictures.json").read_text())["of"] == "ungated"


def test_what_rules_promised_stands_on_the_page(runs):
    told, found = text(page(runs["taken"])), summary(runs["taken"])["promise"]["rules"]
    rows = {row["rule"]: float(row["accuracy"]) for row in table(runs["taken"], "promised")}
    assert rows == {name: rule["accuracy"] for name, rule in found.items()} and {"student", "ensemble"} <= set(rows)
    assert list(rows.values()) == sorted(rows.values(), reverse=True)
    assert "What each rule promised" in told and "most confident" in told


@pytest.mark.parametrize(
    "promise", ["much", {"rules": ["student"]}, {"rules": {"student": "91"}}, {"rules": {"a": {}}}]
)
def test_a_promise_that_is_none_is_left_out(runs, tmp_path, promise):
    folder = shutil.copytree(runs["taken"], tmp_path / "run")
    (folder / "summary.json").write_text(json.dumps({**summary(folder), "promise": promise}))
    assert "What each rule promised" not in text(page(folder))


def test_a_control_has_no_teacher(runs):
    told = text(page(runs["alone"]))
    assert "without a teacher" in told or "stays as it was" in told
    assert "Only the teacher right" not in told and "What each rule promised" not in told


def test_changes_by_class_and_the_bins_add_up_to_the_summary(runs):
    for name in ("taken", "kept"):
        page(runs[name])
        s, rows = summary(runs[name]), table(runs[name], "classes")
        assert len(rows) == 10
        for key, ungated in (("knowledge_gain", "gained"), ("knowledge_loss", "lost")):
            assert sum(int(row[ungated]) for row in rows) == round(s[key] * s["n_test"] / 100)
            assert sum(int(row[f"{ungated}_ungated"]) for row in rows) == round(s["ungated"][key] * s["n_test"] / 100)
        flips = sum(int(row["positive_flips"]) for row in rows)
        assert flips == round(s["positive_flips"] * s["n_test"] / 100)
        bins = table(runs[name], "reliability")
        for side in ("before", "after"):
            mine = [row for row in bins if row["student"] == side]
            assert sum(int(row["samples"]) for row in mine) == s["n_test"]
            gaps = [int(row["samples"]) * abs(float(row["accuracy"]) - float(row["confidence"])) for row in mine]
            assert sum(gaps) / s["n_test"] == pytest.approx(s["calibration"][side], abs=1e-6)
    assert [row["epoch"] for row in table(runs["taken"], "epochs")] == ["1", "2"]
    assert len(table(runs["taken"], "gate")) == 4
    assert sum(int(row["samples"]) for row in table(runs["taken"], "taught")) == 2 * 900


def test_the_command_gives_the_same_configuration(runs):
    config = json.loads((runs["taken"] / "config.json").read_text())
    words = shlex.split(transfer_command(config, "again").replace("\\\n", ""))
    assert words[:2] == ["crossteach", "transfer"]
    options = list(zip(words[2::2], words[3::2], strict=True))
    given = [value for key, value in options if key == "--set"]
    given += [f"{key[2:]}={value}" for key, value in options if key in ("--seed", "--method")]
    assert with_settings(TransferConfig(), given).to_dict() == config["config"]
    assert dict(options)["--student"] == config["student"]["spec"]
    assert text(page(runs["taken"])).count("--set gate.max_loss=5") == 1


def test_awkward_values_survive_the_shell():
    changes = ["views.augmentation=my file.py:f", "gate.alphas=0.5,1", "optim.train_statistics=true", "time_budget=2.5"]
    settings = with_settings(TransferConfig(), changes).to_dict()
    config = {"student": {"spec": "py:a b.py:f?x=1&y='2'"}, "teachers": [], "data": {"spec": "npz:$HOME"}}
    words = shlex.split(transfer_command({**config, "config": settings, "device": "cpu"}, "o").replace("\\\n", ""))
    assert "py:a b.py:f?x=1&y='2'" in words
    assert "npz:$HOME" in words
    given = [value for key, value in itertools.pairwise(words) if key == "--set"]
    assert with_settings(TransferConfig(), given).to_dict() == settings


def test_the_same_files_give_the_same_page_and_no_model_is_loaded(runs):
    first = page(runs["taken"])
    files = [*(runs["taken"] / "figures").iterdir(), *(runs["taken"] / "tables").iterdir()]
    kept = {path: path.read_bytes() for path in files}
    assert page(runs["taken"]) == first
    assert {path: path.read_bytes() for path in files} == kept
    check = "import sys, crossteach\ncrossteach.write_report(sys.argv[1])\nassert 'torch' not in sys.modules\n"
    started = time.process_time()
    subprocess.run([sys.executable, "-c", check, runs["taken"]], check=True)
    assert time.process_time() - started < 10  # two seconds on an idle machine
    assert page(runs["taken"]) == first


def test_a_page_needs_nothing_else(runs, tmp_path):
    pages = [page(runs["taken"]), page(runs["kept"]), page(scouts.write(tmp_path / "s", nasty=True))]
    pages += [page(sweeps.write(tmp_path / "w", nasty=True))]
    for html in pages:
        found = visible(html).tags
        assert not [t for t, _ in found if t in ("link", "iframe", "object", "embed", "base") and (t, _) != ICON]
        for _, attributes in found:
            for key in ("src", "href", "xlink:href", "action", "srcset", "poster", "formaction"):
                assert (attributes.get(key) or "#").startswith(("#", "data:"))
            assert not [key for key in attributes if key.startswith("on")]
        assert set(re.findall(r"url\((.)", html)) <= {"#"}
        assert "@import" not in html
        assert len(html.encode()) < 3_000_000


ICON = ("link", {"rel": "icon", "href": "data:,"})


def test_pages_are_built_for_ears_and_keyboards(runs, tmp_path):
    for html in (page(runs["taken"]), page(scouts.write(tmp_path / "s")), page(sweeps.write(tmp_path / "w"))):
        tags = visible(html).tags
        identities = [attributes["id"] for _, attributes in tags if "id" in attributes]
        assert len(identities) == len(set(identities))
        assert dict(tags)["html"]["lang"] == "en"
        assert [t for t, _ in tags].count("h1") == 1
        assert [t for t, _ in tags].count("table") == [t for t, _ in tags].count("caption")
        assert all(a.get("scope") in ("col", "row") for t, a in tags if t == "th")
        assert all(a.get("alt") for t, a in tags if t == "img")
        assert all(a.get("role") == "img" and a.get("aria-label") for t, a in tags if t == "svg")
        levels = [int(t[1]) for t, _ in tags if re.fullmatch(r"h\d", t)]
        assert all(b <= a + 1 for a, b in itertools.pairwise(levels))
        known = set(identities)
        for _, attributes in tags:
            assert (attributes.get("href") or "#main")[1:] in known | {"ata:,"}
            assert set((attributes.get("aria-labelledby") or "").split()) <= known


def test_figures_are_files_too(runs, tmp_path):
    write_report(runs["taken"])
    scout = scouts.write(tmp_path / "s", nasty=True)
    write_report(scout)
    expected = {
        runs["taken"]: {"change", "gate", "epochs", "reliability", "classes"},
        scout: {"flips", "knowledge", "histogram"},
    }
    for folder, names in expected.items():
        assert {path.stem for path in (folder / "figures").iterdir()} == names
        for path in (folder / "figures").iterdir():
            root = ET.fromstring(path.read_bytes())
            assert root.tag == "{http://www.w3.org/2000/svg}svg"
            assert b"var(--" not in path.read_bytes()
            assert not re.search(rb"#0a0[1-6]0[1-6]", path.read_bytes())
    points = ET.fromstring((scout / "figures" / "knowledge.svg").read_bytes()).iter("{http://www.w3.org/2000/svg}title")
    assert sum(" taught by " in (point.text or "") for point in points) == 12


def test_old_folders_say_what_is_missing(runs, tmp_path):
    old = copy(runs["taken"], tmp_path / "old")
    names = ("classes.parquet", "pictures.json", "metrics.jsonl", "samples.parquet", "config.json")
    (old / "classes.parquet").unlink()
    (old / "pictures.json").unlink()
    told = text(page(old))
    assert "classes are numbered" in told
    s = summary(old)
    assert sum(int(row["gained"]) for row in table(old, "classes")) == round(s["knowledge_gain"] * s["n_test"] / 100)
    for name in names:
        (old / name).unlink(missing_ok=True)
    told = text(page(old))
    for name in names:
        assert name in told
    told = text(page(scouts.write_old(tmp_path / "scout")))
    for what in ("No ranking", "4 models on npz:some data.npz"):
        assert what in told
    assert not embedded((tmp_path / "scout" / "report.html").read_text())["counted"]


def test_names_are_data_and_never_markup(tmp_path):
    folder = scouts.write(tmp_path / "s", nasty=True)
    html = page(folder)
    assert "<script>alert" not in html
    assert "<img src=x" not in html
    assert html.count("<script") == 2
    assert "\x07" not in html and "\x1b" not in html
    data = embedded(html)
    assert data["classes"][:3] == list(scouts.NASTY[:3])
    assert data["classes"][4] == "{{ 7 * 7 }}"
    assert data["classes"][5] == "bell\ufffd and \ufffd[31m"
    assert data["classes"][9].endswith("a…") and len(data["classes"][9]) == 60
    assert scouts.NASTY[0] in text(html)
    with (folder / "tables" / "flips_by_class.csv").open(encoding="utf-8", newline="") as file:
        assert next(csv.reader(file))[2:7] == list(scouts.NASTY[:5])


def test_a_transfer_escapes_its_names_too(runs, tmp_path):
    folder = copy(runs["taken"], tmp_path / "run")
    content = (folder / "summary.json").read_text().replace('"convolutional"', json.dumps(scouts.NASTY[1]))
    (folder / "summary.json").write_text(content.replace('"dense"', json.dumps(scouts.NASTY[0])))
    pictures = json.loads((folder / "pictures.json").read_text())
    for entry in pictures["gained"] + pictures["lost"]:
        entry |= {"label": scouts.NASTY[2], "file": entry["file"], "after": scouts.NASTY[0]}
    pictures["gained"].append({**pictures["gained"][0], "file": "../secret.png"})
    (tmp_path / "secret.png").write_bytes(b"secret")
    (folder / "pictures.json").write_text(json.dumps(pictures))
    html = page(folder)
    assert "<script>alert" not in html and "<img src=x" not in html
    assert html.count("<script") == 1
    assert scouts.NASTY[1] in text(html)
    assert "1 more in pictures/" in text(html)


def test_many_models_and_classes_stay_small_and_the_tables_whole(tmp_path):
    folder = scouts.write(tmp_path / "s", n_models=32, n_classes=1000, n_test=10_000)
    started = time.process_time()
    html = page(folder)
    assert time.process_time() - started < 30
    assert len(html.encode()) < 3_000_000
    data = embedded(html)
    assert len(data["pairs"]) == 992
    for pair in data["pairs"].values():
        assert len(pair["classes"]) == 20
        assert all(len(area[3] or []) <= 12 for area in pair["areas"])
    found = pq.read_table(folder / "classes.parquet").to_pydict()
    rows = table(folder, "flips_by_class")
    assert len(rows) == 992
    written = sum(int(count) for row in rows for name, count in row.items() if name.startswith("class "))
    assert written == sum(found["positive"])
    first = np.flatnonzero((np.array(found["student"]) == 0) & (np.array(found["teacher"]) == 1))
    expected = sorted((-found["positive"][i], -found["negative"][i], found["class"][i]) for i in first)[:20]
    assert data["pairs"]["0-1"]["classes"] == [[c, -p, -n] for p, n, c in expected]
    assert len(table(folder, "pairs")) == 992
    assert (folder / "tables" / "expertise.csv").read_bytes().count(b"\n") == 1 + 992 * 5
    assert len(table(folder, "ranking")) == 992


def test_more_pairs_than_a_page_holds_are_counted(tmp_path):
    folder = scouts.write(tmp_path / "s", n_models=34, n_classes=5, n_test=200)
    html = page(folder)
    assert len(embedded(html)["pairs"]) == 1000
    assert "122 more pairs" in text(html)
    assert len(table(folder, "pairs")) == 34 * 33


def test_what_is_no_run_is_one_line(runs, tmp_path, capsys):
    expect(capsys, "does not exist", tmp_path / "none")
    (tmp_path / "file").write_text("mine")
    expect(capsys, "is a file", tmp_path / "file")
    (tmp_path / "empty").mkdir()
    expect(capsys, "it is empty", tmp_path / "empty")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("mine")
    expect(capsys, "holds no run (thesis.tex)", tmp_path / "other")
    half = copy(runs["taken"], tmp_path / "half")
    (half / "summary.json").unlink()
    expect(capsys, "not at its end (no summary.json)", half)
    assert not (tmp_path / "other" / "report.html").exists()


def test_damaged_files_are_one_line(runs, tmp_path, capsys):
    run, whole = copy(runs["taken"], tmp_path / "run"), (runs["taken"] / "summary.json").read_text()
    changed = json.loads(whole)
    cases = {
        "summary.json cannot be read": whole[:200],
        "it is not an object": "[]",
        "it has no 'student'": "{}",
        "its 'accuracy_before' is 'high'": json.dumps({**changed, "accuracy_before": "high"}),
        "its 'interval' is": json.dumps({**changed, "interval": [1]}),
        "another shape": json.dumps({**changed, "training": []}),
    }
    for says, content in cases.items():
        (run / "summary.json").write_text(content)
        expect(capsys, says, run)
    (run / "summary.json").write_text(whole)
    for name in ("samples.parquet", "classes.parquet", "metrics.jsonl", "pictures.json", "config.json"):
        (run / name).write_bytes(b"{cut")
        expect(capsys, f"{name} cannot be read", run)
        (run / name).write_bytes((runs["taken"] / name).read_bytes())
    scout = scouts.write(tmp_path / "scout")
    content = json.loads((scout / "scout.json").read_text())
    for says, changes in (
        ("rows of 4 numbers", {"positive_flips": [[1.0]]}),
        ("two or more of different names", {"models": content["models"][:1] * 2}),
        ("it has a pair of", {"pairs": [{"student": "x", "teacher": "y"}]}),
        ("classes that scout.json does not name", {"classes": ["one"]}),
    ):
        (scout / "scout.json").write_text(json.dumps({**content, **changes}))
        expect(capsys, says, scout)


def test_a_damaged_comparison_without_labels_is_one_line(tmp_path, capsys):
    """All that the page reads of samples without labels is looked at before it is drawn, labels of a person too."""
    scout = scouts.write(tmp_path / "scout")
    content = json.loads((scout / "scout.json").read_text())
    count = len(content["models"])
    square = [[0.5] * count for _ in range(count)]
    labelled = {"answered": 3, "gain": square, "error": square, "ranking": []}
    pool = {"pools": [{"pool": "folder:more", "asked": 10}], "by": "judge", "ranking": [], "questions": 2}
    pool |= {"disagreement": square, "expected_gain": square, "expected_accuracy": [50.0] * count, "labelled": labelled}
    (scout / "scout.json").write_text(json.dumps({**content, "pool": pool}))
    assert "by 3 labels that a person gave" in text(page(scout))
    rows = table(scout, "unlabelled")
    assert len(rows) == count * (count - 1) and {row["gain"] for row in rows} == {"0.5"}
    (scout / "scout.json").write_text(json.dumps({**content, "pool": {**pool, "labelled": None}}))
    assert "that a person gave" not in text(page(scout))
    for says, changes in (
        (f"its 'gain' are not {count} rows", {"labelled": {**labelled, "gain": [[1.0]]}}),
        (f"its 'error' are not {count} rows", {"labelled": {"answered": 3, "gain": square}}),
        (f"its 'error' are not {count} rows", {"labelled": {**labelled, "error": [["much"] * count] * count}}),
        ("its 'answered' is 'three'", {"labelled": {**labelled, "answered": "three"}}),
        ("its 'labelled' is '[1]'", {"labelled": [1]}),
        ("its 'pools' is 'x'", {"pools": ["x"]}),
        ("it has no 'asked'", {"pools": [{"pool": "x"}]}),
    ):
        (scout / "scout.json").write_text(json.dumps({**content, "pool": {**pool, **changes}}))
        expect(capsys, says, scout)
    (scout / "scout.json").write_text(json.dumps({**content, "pool": 3}))
    expect(capsys, "its 'pool' is '3'", scout)


def test_the_command_prints_where_the_page_is(runs, capsys):
    for more in ([], ["--json", "--seed", "1", "--device", "cpu", "--overwrite", "--quiet", "--store", "s"]):
        with pytest.raises(SystemExit) as end:
            main(["report", str(runs["taken"]), *more])
        assert end.value.code == 0
        told = capsys.readouterr()
        assert told.err == ""
        path = json.loads(told.out)["report"] if more else told.out.strip()
        assert path == str(runs["taken"] / "report.html")
    found = json.loads(told.out)
    assert sorted(found) == ["figures", "report", "seconds", "tables"]
    for path in found["figures"] + found["tables"]:
        assert Path(path).is_file()


def test_a_new_run_in_the_folder_takes_the_old_report_away(task, tmp_path):
    def run(seed: int) -> None:
        config = with_settings(TransferConfig(), [*QUICK, "optim.lr=0.01", f"seed={seed}"])
        student, teacher = load_model(task.student), load_model(task.teacher)
        transfer(student, [teacher], load_data(task.data), tmp_path / "run", config, overwrite=True)

    run(0)
    write_report(tmp_path / "run")
    run(1)
    left = {path.name for path in (tmp_path / "run").iterdir()}
    assert not left & {"report.html", "figures", "tables"}


def test_a_scout_that_python_refuses_is_no_traceback(tmp_path):
    folder = scouts.write(tmp_path / "s")
    (folder / "pictures.json").write_text('[{"student": 3, "samples": 4}]')
    with pytest.raises(RunFolderError, match="another shape"):
        write_report(folder)
