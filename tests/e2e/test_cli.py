import gzip
import json
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import digits
import numpy as np
import pytest
import torch
from commands import call, draw_on_terminal, start
from disks import small_disk

QUICK = ["--set", "optim.epochs=2", "--set", "optim.lr=0.01", "--set", "views.count=1", "--quiet"]


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> digits.Digits:
    return digits.make(tmp_path_factory.mktemp("digits"))


def transfer(task: digits.Digits, out: Path, *more: object) -> list[object]:
    given = ["transfer", "--student", task.student, "--teacher", task.teacher, "--data", task.data]
    return [*given, "--out", out, *QUICK, *more]


def test_help_is_quick_and_loads_no_torch():
    check = "import sys, crossteach, crossteach.cli\n"
    check += "try: crossteach.cli.main(['--help'])\nexcept SystemExit: pass\n"
    check += "heavy = {'torch', 'numpy', 'scipy', 'timm', 'pyarrow', 'matplotlib', 'jinja2'} & set(sys.modules)\n"
    check += "assert not heavy, heavy\n"
    started = time.perf_counter()
    told = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert time.perf_counter() - started < 3  # a second on an idle machine
    for command in ("demo", "scout", "transfer", "export", "sweep", "report"):
        assert command in told.stdout


def test_transfer_prints_one_json_document_and_nothing_else(task, tmp_path, capsys):
    code, out, err = call(capsys, *transfer(task, tmp_path / "run", "--json", "--store", tmp_path / "store"))
    assert (code, err) == (0, "")
    assert json.loads(out) == json.loads((tmp_path / "run" / "summary.json").read_text())
    assert any((tmp_path / "store").iterdir())
    again = call(capsys, *transfer(task, tmp_path / "run", "--json"))
    assert (again[0], json.loads(again[1])) == (0, json.loads(out))


def test_a_store_that_cannot_take_the_answers_is_one_line_before_any_work(task, tmp_path, capsys):
    out, store = tmp_path / "run", tmp_path / "store"
    with small_disk(store, "96k") as remount:
        code, printed, err = call(capsys, *transfer(task, out, "--store", store))
        assert (code, printed) == (1, "")
        assert err == (
            f"crossteach: the answers to keep take about 0.1 MB at {store} and 0.1 MB are free; free some space, give "
            "another --store, or keep less with --set store.keep=20\n"
        )
        remount("size=4m,ro")
        code, printed, err = call(capsys, *transfer(task, out, "--store", store))
        assert (code, printed, err.count("\n")) == (1, "", 1)
        assert err.startswith(f"crossteach: cannot write {store}: Read-only file system; give a folder")
        assert not out.exists() and not list(store.iterdir())
        remount("rw")
        assert call(capsys, *transfer(task, out, "--store", store))[0] == 0
        remount("ro")  # what holds all answers needs no room
        again = tmp_path / "again"
        assert call(capsys, *transfer(task, again, "--store", store))[0] == 0
        assert (again / "student" / "model.safetensors").read_bytes() == (
            out / "student" / "model.safetensors"
        ).read_bytes()


def test_transfer_shows_a_table(task, tmp_path, capsys):
    code, out, _ = call(capsys, *transfer(task, tmp_path / "run", "--max-loss", 5, "--time-budget", 5, "--seed", 3))
    assert code == 0
    for word in ("convolutional", "dense", "xe+dp", "run:"):
        assert word in out
    kept = json.loads((tmp_path / "run" / "config.json").read_text())["config"]
    assert (kept["gate"]["max_loss"], kept["time_budget"], kept["seed"]) == (5, 5, 3)


def test_without_labels_the_terminal_says_what_speaks_for_the_student(task, tmp_path, capsys):
    arguments = transfer(task, tmp_path / "run")
    code, out, _ = call(capsys, *[task.unlabelled if part == task.data else part for part in arguments])
    assert code == 0
    shown = " ".join(out.split())
    assert "Nothing could be verified; on held-out samples, without labels: agreement with the ensemble" in shown


@pytest.mark.parametrize(
    ("more", "method"),
    [((), "kl+dp"), (("--method", "xe"), "xe"), (("--set", "method=kl"), "kl"), (("--method", "auto"), "xe+dp")],
)
def test_the_papers_recipe_names_its_method_and_may_be_overridden(task, tmp_path, capsys, more, method):
    code, out, _ = call(capsys, *transfer(task, tmp_path / "run", "--compat", "paper", "--json", *more))
    assert code == 0
    assert json.loads(out)["method"] == method
    kept = json.loads((tmp_path / "run" / "config.json").read_text())["config"]
    assert kept["optim"]["schedule"] == "constant"
    shown = call(capsys, *transfer(task, tmp_path / "run", "--compat", "paper", *more))[1]
    assert "Nothing could be verified" not in shown, "there are labels: the gate was not asked"


def test_scout_compares_and_is_read_again(task, tmp_path, capsys):
    arguments = ["scout", task.student, task.teacher, "--data", task.data, "--out", tmp_path / "s", "--quiet"]
    code, out, _ = call(capsys, *arguments, "--json")
    found = json.loads(out)
    assert code == 0
    assert found == json.loads((tmp_path / "s" / "scout.json").read_text())
    assert [m["name"] for m in found["models"]] == ["convolutional", "dense"]
    a, b = (m["accuracy"] for m in found["models"])
    flips = found["positive_flips"]
    assert flips[0][1] - flips[1][0] == pytest.approx(b - a)
    assert found["ceilings"]["oracle"] == pytest.approx(a + flips[0][1])
    seconds = found["seconds"]
    assert json.loads(call(capsys, *arguments, "--json")[1])["seconds"] == seconds
    assert "convolutional" in call(capsys, *arguments)[1]


def test_progress_is_drawn_on_a_terminal_and_only_there(task, tmp_path):
    loud = [part for part in transfer(task, tmp_path / "run") if part != "--quiet"]
    loud += ["--set", "optim.epochs=10", "--set", "optim.batch_size=16", "--json"]
    process, out, drawn = draw_on_terminal(lambda stderr: start(*loud, stderr=stderr))
    assert process.returncode == 0, drawn.decode()
    json.loads(out)
    text = drawn.decode()
    assert "Traceback" not in text
    for what in ("convolutional on test", "tutors answer", "training", "/s"):
        assert what in text


def test_usage_errors_exit_2(capsys):
    for arguments in (["transfer"], ["scout", "--nonsense"], ["nonsense"]):
        code, _, err = call(capsys, *arguments)
        assert code == 2
        assert "Error" in err or "Usage" in err


def expect(capsys, says: str, *arguments: object) -> None:
    """The command exits 1 with one line on standard error that says this, and nothing on standard output."""
    code, out, err = call(capsys, *arguments)
    assert (code, out) == (1, "")
    assert err.startswith("crossteach: ")
    assert err.count("\n") == 1
    assert says in err
    assert "Traceback" not in err


def npz(path: Path, source: digits.Digits, **changes: np.ndarray | None) -> str:
    with np.load(source.folder / "digits.npz") as archive:
        arrays = {**{key: archive[key] for key in archive.files}, **changes}
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return f"npz:{path}"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("magic:wand", "unknown data"),
        ("npz:{tmp}/none.npz", "no file"),
        ("npz:{tmp}/text.npz", "not a whole .npz"),
        ("npz:{tmp}/cut.npz", "not a whole .npz"),
        ("npz:{tmp}/pickled.npz", "holds Python objects, which only pickle reads"),
        ("npz:{tmp}/outside.npz", "labels of the train split"),
        ("npz:{tmp}/negative.npz", "but -1 occurs"),
        ("npz:{tmp}/short.npz", "900 samples but 899 labels"),
        ("npz:{tmp}/empty.npz", "is empty"),
        ("npz:{tmp}/nan.npz", "NaN"),
        ("npz:{tmp}/seven.npz", "seven.npz' has 7"),
        ("folder:{tmp}/none", "no folder"),
        ("idx:{tmp}/cut", "cut short"),
        ("sklearn:iris", "only sklearn:digits"),
        ("npz:{tmp}/outside.npz?selection=half", "does not know"),
    ],
)
def test_bad_data_is_one_line(task, tmp_path, capsys, data, says):
    labels = np.load(task.folder / "digits.npz")["y_train"]
    images = np.load(task.folder / "digits.npz")["x_train"]
    (tmp_path / "text.npz").write_text("not an archive")
    (tmp_path / "cut.npz").write_bytes((task.folder / "digits.npz").read_bytes()[:5000])
    npz(tmp_path / "pickled.npz", task, x_train=np.array([{"a": 1}], dtype=object))
    npz(tmp_path / "outside.npz", task, y_train=np.where(labels == 3, 10, labels))
    npz(tmp_path / "negative.npz", task, y_train=np.where(labels == 3, -1, labels))
    npz(tmp_path / "short.npz", task, y_train=labels[:-1])
    npz(tmp_path / "empty.npz", task, x_train=images[:0], y_train=labels[:0])
    npz(tmp_path / "nan.npz", task, x_train=np.where(images > 250, np.nan, images / 255.0))
    few = {f"y_{k}": np.load(task.folder / "digits.npz")[f"y_{k}"] % 7 for k in ("train", "val", "test")}
    npz(tmp_path / "seven.npz", task, class_names=np.array(list("abcdefg")), **few)
    (tmp_path / "cut").mkdir()
    header = bytes((0, 0, 8, 3)) + (5).to_bytes(4, "big") + (2).to_bytes(4, "big") * 2
    (tmp_path / "cut" / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(header + bytes(3)))
    arguments = ["transfer", "--student", task.student, "--teacher", task.teacher, "--out", tmp_path / "run"]
    expect(capsys, says, *arguments, "--data", data.format(tmp=tmp_path), *QUICK)
    assert not (tmp_path / "run").exists()


def test_bad_models_are_one_line(task, tmp_path, capsys):
    (tmp_path / "pickle.pt").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    weights = task.folder / "convolutional.safetensors"
    cases = {
        "magic:wand": "unknown model",
        task.teacher.replace("dense.safe", "none.safe"): "no weights file",
        task.teacher.replace(str(task.folder / "dense.safetensors"), str(weights)): "do not fit",
        task.teacher.replace(str(task.folder / "dense.safetensors"), str(tmp_path / "pickle.pt")): "pickle",
        f"py:{digits.SOURCE}:dense?num_classes=7&pretrained=false&channels=1&size=8": "scores 7 classes",
    }
    for spec, says in cases.items():
        arguments = ["transfer", "--student", task.student, "--teacher", spec, "--data", task.data]
        expect(capsys, says, *arguments, "--out", tmp_path / "run", *QUICK)
    same = ["scout", task.student, task.student, "--data", task.data, "--out", tmp_path / "s"]
    expect(capsys, "the same model", *same)
    expect(capsys, "at least two", "scout", task.student, "--data", task.data, "--out", tmp_path / "s")
    assert not (tmp_path / "run").exists()


def test_bad_settings_are_one_line(task, tmp_path, capsys):
    for more, says in (
        (["--set", "optim.speed=3"], "unknown setting 'optim.speed'"),
        (["--set", "optim.lr=-1"], "optim.lr must be above 0"),
        (["--set", "optim.lr"], "KEY=VALUE"),
        (["--method", "magic"], "unknown method"),
        (["--device", "tpu"], "--device must be"),
        (["--max-loss", "-1"], "gate.max_loss"),
    ):
        expect(capsys, says, *transfer(task, tmp_path / "run", *more))
    arguments = ["transfer", "--student", task.student, "--teacher", task.teacher, "--data", task.unlabelled]
    expect(capsys, "needs labels", *arguments, "--method", "kl+dp", "--out", tmp_path / "run")


def test_bad_folders_are_one_line_and_nothing_is_written_over(task, tmp_path, capsys):
    assert call(capsys, *transfer(task, tmp_path / "run"))[0] == 0
    before = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}
    expect(capsys, "another configuration (config.seed was 0, is 1)", *transfer(task, tmp_path / "run", "--seed", 1))
    assert {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()} == before
    (tmp_path / "file").write_text("mine")
    expect(capsys, "is a file", *transfer(task, tmp_path / "file"))
    expect(capsys, "cannot write", *transfer(task, tmp_path / "file" / "run"))
    expect(capsys, "cannot write", *transfer(task, "/proc/nowhere/run"))
    assert (tmp_path / "file").read_text() == "mine"


def test_a_full_disk_is_one_line(task, tmp_path):
    """No file may grow beyond the limit: at 10 kB a table of the store meets it, at 20 kB the checkpoint does."""
    store = tmp_path / "store"
    for limit in (10_000, 20_000):
        process = start(
            *transfer(task, tmp_path / f"run{limit}", "--store", store, "--set", "views.count=0"),
            preexec_fn=lambda limit=limit: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        )
        _, err = process.communicate(timeout=120)
        assert process.returncode == 1, err
        assert err.startswith("crossteach: cannot write")
        assert err.count("\n") == 1
        assert not list(tmp_path.glob("run*/summary.json"))


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -9)])
def test_an_interrupted_command_goes_on_where_it_stopped(task, tmp_path, capsys, number, code):
    long = ["--set", "optim.epochs=12", "--set", "optim.batch_size=16"]
    process = start(*transfer(task, tmp_path / "run", *long))
    wait_for(tmp_path / "run" / "checkpoint.pt", process)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    if code == 130:
        assert err == "crossteach: interrupted; the same command goes on where it stopped\n"
    assert not (tmp_path / "run" / "summary.json").exists()
    reached = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["state"]["step"]
    assert reached >= 1
    assert call(capsys, *transfer(task, tmp_path / "run", *long))[0] == 0
    assert call(capsys, *transfer(task, tmp_path / "whole", *long))[0] == 0
    name = "student/model.safetensors"
    assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    ends = [json.loads((tmp_path / k / "summary.json").read_text())["ungated"] for k in ("run", "whole")]
    assert ends[0] == ends[1]
