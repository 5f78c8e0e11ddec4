"""The page of a sweep."""

import json
import re
import shlex
import statistics
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import digits
import pyarrow.parquet as pq
import pytest
import scouts
import sweeps
from pages import expect, page, table, text, visible

from crossteach.sweeping import sweep
from crossteach.sweeping.executors import Ended, Task
from crossteach.sweeping.study import to_parquet


class Here:
    """The simplest executor: this process."""

    workers = 1

    def run(self, tasks: Sequence[Task], started: Callable[[Task], None]) -> Iterator[Ended]:
        for task in tasks:
            started(task)
            yield Ended(task, task.function(task.argument))

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep that has run."""
    folder = tmp_path_factory.mktemp("real")
    made = digits.make(folder)
    plan = {"data": made.data, "models": [made.student, made.teacher], "methods": ["self", "xe", "kl+dp"]}
    settings = {"optim.epochs": 1, "optim.lr": 0.1, "views.count": 1, "gate.max_loss": 5}
    (folder / "plan.yaml").write_text(json.dumps({**plan, "settings": settings}))
    sweep(folder / "plan.yaml", folder / "out", seed=3, executor=Here())
    return folder / "out"


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return pq.read_table(folder / "results.parquet").to_pylist()


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def deltas_of(rows: list[dict[str, Any]], prefix: str = "", **same: Any) -> list[float]:
    """Return the deltas of the rows that have all this in common."""
    return [row[f"{prefix}transfer_delta"] for row in rows if all(row[key] == value for key, value in same.items())]


def points(value: float) -> str:
    rounded = round(value, 2)
    return (f"{rounded:+.2f}" if rounded else "0.00").replace("-", "−")


def cells(html: str, caption: str) -> list[list[str]]:
    """Read the table of a page that has this caption, the headings first."""
    (found,) = [t for t in re.findall(r"<table.*?</table>", html, re.DOTALL) if f">{caption}" in t]
    rows = re.findall(r"<tr.*?</tr>", found, re.DOTALL)
    return [[text(cell).strip() for cell in re.findall(r"<t[hd].*?</t[hd]>", row, re.DOTALL)] for row in rows]


def test_a_real_sweep_says_in_words_what_it_found(real):
    html, rows = page(real), rows_of(real)
    told = text(html)
    mine = [row["transfer_delta"] for row in rows if row["method"] == "kl+dp"]
    assert len(mine) == 2
    assert "6 transfers among 2 models" in told
    verb = "gained" if mean(mine) >= 0 else "lost"
    assert f"With kl+dp, students {verb} {abs(mean(mine)):.2f} points on average" in told
    assert f"(median {points(statistics.median(mine))}, worst {points(min(mine))}; 2 runs)" in told
    assert f"The gate accepted {50 * sum(r['verdict'] == 'accepted' for r in rows if r['method'] == 'kl+dp')} %" in told
    control = {r["method"] for r in rows if r["control"]}
    best = max(control, key=lambda m: mean([r["transfer_delta"] for r in rows if r["method"] == m]))
    delta = {(r["method"], r["student"]): r["transfer_delta"] for r in rows}
    students = {r["student"] for r in rows}
    claim = mean([delta["kl+dp", s] - delta[best, s] for s in students])
    assert f"Against {best}, the best control that sees no more labels, that is {points(claim)} points" in told
    assert "No job of 6 failed" in told
    for word in ("convolutional", "dense", "data partitioning", "Repeat it", "Fingerprints"):
        assert word in told
    words = shlex.split(re.search(r"crossteach sweep .*?out-again", told)[0].replace("\\", ""))
    assert words == ["crossteach", "sweep", "out/plan.yaml", "--seed", "3", "--device", "cpu", "--out", "out-again"]


def test_the_methods_table_is_what_the_runs_say(tmp_path):
    folder = sweeps.write(tmp_path / "s", seeds=(0, 1))
    html, rows = page(folder), rows_of(folder)
    most = max(("kl+dp", "kl+dp-unsupervised"), key=lambda m: mean(deltas_of(rows, method=m)))
    assert f"With {most}, students gained" in text(html)
    assert text(html).index(f"{most} , returned") < text(html).index(f"{most} , end of training")
    for caption, prefix in (("What is returned", ""), ("The end of training", "ungated_")):
        heads, *lines = cells(html, caption)
        assert [line[0].split()[0] for line in lines] == list(sweeps.METHODS)
        for line in lines:
            shown = dict(zip(heads, line, strict=True))
            mine = [row for row in rows if row["method"] == shown["Method"].split()[0]]
            deltas = [row[f"{prefix}transfer_delta"] for row in mine]
            assert shown["Runs"] == str(len(deltas))
            assert shown["Mean"] == points(mean(deltas))
            assert shown["Median"] == points(statistics.median(deltas))
            assert shown["Worst"] == points(min(deltas))
            success = {
                s: mean([100.0 * (r[f"{prefix}transfer_delta"] > 0) for r in mine if r["student"] == s])
                for s in {r["student"] for r in mine}
            }
            assert shown["Mean success, %"] == f"{mean(list(success.values())):.1f}"
            assert shown["Median success, %"] == f"{statistics.median(success.values()):.1f}"
            assert shown["Worst success, %"] == f"{min(success.values()):.1f}"
            assert shown["Harm, %"] == f"{100 * mean([d < -0.1 for d in deltas]):.1f}"
            sure = [row[f"{prefix}interval_high"] < 0 for row in mine]
            assert shown["Sure harm, %"] == f"{100 * mean(sure):.1f}"


def test_the_matrix_holds_the_mean_over_seeds_and_the_control(tmp_path):
    folder = sweeps.write(tmp_path / "s", seeds=(0, 1))
    html, rows = page(folder), rows_of(folder)
    names = [f"model-{i:02}.a1_in1k" for i in range(4)]
    found = 0
    for method in ("kl+dp", "kl+dp-unsupervised"):
        for side, prefix in (("returned", ""), ("end of training", "ungated_")):
            heads, *lines, last = cells(html, f"{method}, {side}")
            assert heads[:6] == ["Student", *names, "mean"]
            control = heads[6].removesuffix(" (control)")
            for line in lines:
                for name, cell in zip(names, line[1:5], strict=True):
                    both = deltas_of(rows, prefix, student_name=line[0], teacher_name=name, method=method)
                    assert cell == ("·" if name == line[0] else points(mean(both)))
                    found += len(both)
                assert line[5] == points(mean(deltas_of(rows, prefix, student_name=line[0], method=method)))
                assert line[6] == points(mean(deltas_of(rows, prefix, student_name=line[0], method=control)))
            assert last[3] == points(mean(deltas_of(rows, prefix, teacher_name=names[2], method=method)))
    assert found == 4 * 4 * 3 * 2


def test_tables_hold_every_group(tmp_path):
    folder = sweeps.write(tmp_path / "s", n_models=6, seeds=(0, 1))
    html, rows = page(folder), rows_of(folder)
    heads, *lines = cells(html, "Students by method")
    assert len(lines) == 6 * 4
    for line in lines:
        shown = dict(zip(heads, line, strict=True))
        for prefix, end in (("", ""), ("ungated_", ", end")):
            mine = deltas_of(rows, prefix, student_name=shown["Student"], method=shown["Method"])
            assert shown[f"Mean{end}"] == points(mean(mine))
            assert shown[f"Worst{end}"] == points(min(mine))
            assert shown[f"Success{end}, %"] == f"{100 * mean([delta > 0 for delta in mine]):.0f}"
    assert [row["job"] for row in table(folder, "runs")] == [row["job"] for row in rows]
    for name, keys in (
        ("students", ("student", "method")),
        ("pairs", ("method", "student", "teacher")),
        ("families", ("method", "student_family", "teacher_family")),
    ):
        groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
        for row in rows:
            if None not in (key := tuple(row[k] for k in keys)):
                groups.setdefault(key, []).append(row)
        written = table(folder, name)
        assert len(written) == len(groups)
        for line in written:
            mine = groups[tuple(line["spec" if (name, k) == ("students", "student") else k] for k in keys)]
            assert int(line["runs"]) == len(mine)
            for prefix in ("", "ungated_"):
                deltas = [row[f"{prefix}transfer_delta"] for row in mine]
                assert float(line[f"{prefix}mean"]) == pytest.approx(mean(deltas), abs=1e-12)
                assert float(line[f"{prefix}worst"]) == min(deltas)
                assert float(line[f"{prefix}success"]) == pytest.approx(100 * mean([d > 0 for d in deltas]))
    bounds = {"under ¼": (0, 0.25), "¼ to ½": (0.25, 0.5), "½ to 2": (0.5, 2), "2 to 4": (2, 4), "over 4": (4, 1e9)}
    for line in table(folder, "sizes"):
        low, high = bounds[line["size"]]
        mine = [
            row["transfer_delta"]
            for row in rows
            if row["teacher_params"] and low <= row["teacher_params"] / row["student_params"] < high
            if row["method"] == line["method"]
        ]
        assert (int(line["runs"]), float(line["mean"])) == (len(mine), pytest.approx(mean(mine)))


def test_the_points_name_every_pair(tmp_path):
    folder = sweeps.write(tmp_path / "s")
    page(folder)
    names = {"methods", "sizes"} | {
        f"{k}-{m}" for k in ("students", "deltas", "gap") for m in ("kl-dp", "kl-dp-unsupervised")
    }
    assert {path.stem for path in (folder / "figures").iterdir()} == names
    told = [
        title.text or ""
        for title in ET.fromstring((folder / "figures" / "gap-kl-dp.svg").read_bytes()).iter(
            "{http://www.w3.org/2000/svg}title"
        )
    ]
    for row in rows_of(folder):
        if row["method"] == "kl+dp":
            start = (
                f"{row['student_name']} taught by {row['teacher_name']}: {points(row['ungated_transfer_delta'])} points"
            )
            (mark,) = [t for t in told if t.startswith(start)]
            assert f"{points(row['transfer_delta'])} returned" in mark
            assert mark.endswith(f"stands at {points(row['teacher_accuracy'] - row['accuracy_before'])}")


def test_the_same_files_give_the_same_page_and_no_model_is_loaded(tmp_path):
    folder = sweeps.write(tmp_path / "s", n_models=34)
    first = page(folder)
    kept = {path: path.read_bytes() for name in ("figures", "tables") for path in (folder / name).iterdir()}
    check = "import sys, crossteach\ncrossteach.write_report(sys.argv[1])\nassert 'torch' not in sys.modules\n"
    subprocess.run([sys.executable, "-c", check, folder], check=True)
    assert (folder / "report.html").read_text(encoding="utf-8") == first
    assert {path: path.read_bytes() for path in kept} == kept


def with_changes(**changes: Any) -> Callable[[list[sweeps.Row]], list[sweeps.Row]]:
    return lambda rows: [{**r, **{k: v(r) if callable(v) else v for k, v in changes.items()}} for r in rows]


def joined(rows: list[sweeps.Row]) -> list[sweeps.Row]:
    """Give every lesson a second teacher, gated one by one."""
    other = ("py:zoo.py:m9", "nine", "mlp")
    keys = ("teacher", "teacher_name", "teacher_family")
    ungated = {key: None for key in rows[0] if key.startswith("ungated_")}
    return [
        {**r, **ungated, **{k: f"{r[k]} + {more}" for k, more in zip(keys, other, strict=True)}} if r["teacher"] else r
        for r in rows
    ]


def collapsed(rows: list[sweeps.Row]) -> list[sweeps.Row]:
    place = next(i for i, r in enumerate(rows) if r["method"] == "kl+dp")
    rows[place] |= {"ungated_transfer_delta": -84.0, "transfer_delta": 0.0, "verdict": "diverged", "diverged": True}
    return rows


UNKNOWN = ("student_family", "teacher_family", "student_params", "teacher_params", "teacher_accuracy")
ODD: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "several teachers": ({"change": joined}, ("model-01.a1_in1k + nine", "convolutional + mlp")),
    "no labels": (
        {"change": with_changes(verdict="unverified")},
        ("32 runs unverified", "No label could confirm a run"),
    ),
    "one student": ({"change": lambda rows: [r for r in rows if r["student"].endswith("m0")]}, ("Students 1",)),
    "one run": (
        {"n_models": 2, "change": lambda rows: [r for r in rows if r["method"] == "kl+dp"][:1]},
        ("1 transfer among 2 models", "1 run)", "how much of it is transfer is not known"),
    ),
    "seeds": ({"seeds": (0, 1, 2)}, ("Seeds 0, 1, 2", "the mean of its seeds")),
    "controls only": (
        {"methods": ("self", "xe")},
        ("a control, students", "No whole job of this sweep had a teacher."),
    ),
    "a control with teachers": (
        {"methods": ("xe", "kl+ensemble", "kl+dp"), "change": with_changes(control=lambda r: r["method"] != "kl+dp")},
        ("kl+ensemble control", "kl+ensemble, returned"),
    ),
    "all kept": (
        {"change": with_changes(transfer_delta=0.0, ungated_transfer_delta=0.0, verdict="kept_original")},
        ("gained 0.00 points", "full at 1.00 points"),
    ),
    "a collapse": ({"change": collapsed}, ("−84.00", "1 run diverged")),
    "little known": (
        {"change": with_changes(**dict.fromkeys(UNKNOWN))},
        ("families of students and teachers are not known",),
    ),
    "many methods": (
        {"methods": [f"kl+dp T={i}" for i in range(8)]},
        ("2 more methods, those that gained least, in tables/pairs.csv",),
    ),
    "nothing": (
        {"change": lambda rows: [], "failed": [("a", "it <i>broke</i>"), ("b", "too")]},
        ("No job came to its end, so nothing is known. 2 of 2 jobs failed.", "it <i>broke</i>"),
    ),
}


@pytest.mark.parametrize("kind", ODD)
def test_odd_sweeps_have_a_page_too(tmp_path, kind):
    given, says = ODD[kind]
    html = page(sweeps.write(tmp_path / "s", **given))
    told = text(html)
    for words in says:
        assert words in told
    assert not re.search(r"\b(nan|None|inf)\b", told)
    assert not re.search(r"\bnan\b", re.sub(r"base64,[^\"]*", "", html))
    identities = re.findall(r' id="([^"]*)"', html)
    assert len(identities) == len(set(identities))


def test_failed_jobs_are_listed(tmp_path):
    failed = [(f"job-{i}", f"reason <{i}> & more") for i in range(60)]
    folder = sweeps.write(tmp_path / "s", failed=failed)
    told = text(page(folder))
    assert "60 of 92 jobs failed" in told
    assert "job-49 reason <49> & more" in told
    assert "job-50" not in told
    assert "10 more in tables/failed.csv" in told
    assert [(row["job"], row["reason"]) for row in table(folder, "failed")] == failed
    assert "# a comment, with <b>markup</b>" in told


def test_names_are_data_and_never_markup(tmp_path):
    name = "<i>x</i> {{ 7 * 7 }} bell\x07"
    change = with_changes(
        method=lambda r: f"{r['method']} {name}",
        student_family=scouts.NASTY[1],
        job=lambda r: f"{r['job']}{scouts.NASTY[0]}",
    )
    html = page(sweeps.write(tmp_path / "s", nasty=True, change=change, failed=[scouts.NASTY[:2]]))
    assert html.count("<script") == 1
    for markup in ("<script>alert", "<img src=x", "<i>x", "<b>markup", "\x07"):
        assert markup not in html
    told = text(html)
    for words in (*scouts.NASTY[:2], "kl+dp <i>x</i> {{ 7 * 7 }} bell\ufffd"):
        assert words in told
    assert all(path.suffix == ".svg" and path.is_file() for path in (tmp_path / "s" / "figures").iterdir())


def test_a_hundred_models_stay_small_and_the_tables_whole(tmp_path):
    folder = sweeps.write(tmp_path / "s", n_models=100)
    started = time.process_time()
    html = page(folder)
    assert time.process_time() - started < 40  # seven seconds on an idle machine
    assert len(html.encode()) < 1_500_000
    found = [
        tag for tag, attributes in visible(html).tags if tag == "table" and "deltas" in (attributes.get("class") or "")
    ]
    assert len(found) == 1
    assert html.count("data:image/png") == 4
    methods = [m for m in json.loads((folder / "sweep.json").read_text())["methods"] if not m["control"]]
    leading = max(methods, key=lambda m: m["gated"]["mean_delta"])
    heads, *lines = cells(html, f"{leading['method']}, returned")
    assert (len(heads), len(lines)) == (103, 101)
    assert "Its numbers are too many for this page" in text(html)
    assert len(table(folder, "pairs")) == 2 * 100 * 99
    assert len(table(folder, "runs")) == 2 * 100 * 99 + 200


def test_what_is_no_whole_sweep_is_one_line(tmp_path, capsys):
    folder = sweeps.write(tmp_path / "a b")
    whole = {name: (folder / name).read_bytes() for name in ("sweep.json", "results.parquet")}
    (folder / "sweep.json").unlink()
    expect(capsys, "not at its end (no sweep.json); run its command again", folder)
    expect(capsys, f"--out '{folder}'), it goes on where it stopped", folder)
    content, rows = json.loads(whole["sweep.json"]), rows_of(folder)
    method = content["methods"][0]
    for says, changed in (
        ("it has no 'models'", {k: v for k, v in content.items() if k != "models"}),
        ("its 'done' is 'all'", {**content, "done": "all"}),
        ("sweep.json counts other jobs", {**content, "done": 5}),
        ("sweep.json counts other jobs", {**content, "methods": content["methods"][:-1]}),
        ("it has no 'gated'", {**content, "methods": [{k: v for k, v in method.items() if k != "gated"}]}),
        (
            "its 'mean_delta' is 'high'",
            {**content, "methods": [{**method, "gated": {**method["gated"], "mean_delta": "high"}}]},
        ),
        ("another shape", {**content, "failed": [3]}),
        ("another shape", {**content, "models": ["x"]}),
    ):
        (folder / "sweep.json").write_text(json.dumps(changed))
        expect(capsys, says, folder)
    for says, damage in (
        ("sweep.json cannot be read", b"{cut"),
        ("it is not an object", b"[]"),
    ):
        (folder / "sweep.json").write_bytes(damage)
        expect(capsys, says, folder)
    (folder / "sweep.json").write_bytes(whole["sweep.json"])
    for says, damage in (
        ("results.parquet cannot be read", whole["results.parquet"][:500]),
        ("its column 'verdict' has gaps", to_parquet([{**row, "verdict": None} for row in rows])),
        ("its column 'transfer_delta' does not hold", to_parquet([{**row, "transfer_delta": None} for row in rows])),
        ("sweep.json counts other jobs", to_parquet(rows[1:])),
    ):
        (folder / "results.parquet").write_bytes(damage)
        expect(capsys, says, folder)
        expect(capsys, "run its sweep again: it writes this file anew and keeps its jobs", folder)
    (folder / "results.parquet").write_bytes(whole["results.parquet"])
    pq.write_table(pq.read_table(folder / "results.parquet").drop_columns(["teacher"]), folder / "results.parquet")
    expect(capsys, "it has no column 'teacher'", folder)
    (folder / "results.parquet").unlink()
    expect(capsys, "results.parquet cannot be read (it is not there)", folder)
    assert not (folder / "report.html").exists()
