"""What is refused, what is read again, and that nothing is left of an export that failed."""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
import torch
from commands import call
from exports import VIT, digest_of

from crossteach import export_run
from crossteach.errors import ExportError, MissingExtraError, RunFolderError, TrustError

FAULTY = """
import torch
from torch import nn


class Faulty(nn.Module):
    def __init__(self):
        super().__init__()
        self.dense = nn.Linear(64, 10)

    def forward(self, images):
        logits = self.dense(images.flatten(1))
        return logits * 2 if len(images) > 3 else logits


def faulty():
    torch.manual_seed(0)
    return Faulty()


def sizeless():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))
"""
"""A model whose answer depends on how many images it is asked: what no trace holds."""


@pytest.fixture(scope="module")
def strange(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("code") / "strange.py"
    path.write_text(FAULTY)
    return path


@pytest.mark.parametrize("to", ["torch", "onnx"])
def test_an_export_that_would_answer_otherwise_is_refused_and_nothing_is_left_of_it(teach, strange, tmp_path, to):
    run = teach(f"py:{strange}:faulty?pretrained=false&channels=1&size=8")
    with pytest.raises(ExportError, match=r"cannot capture|answers otherwise.*nothing was written"):
        export_run(run, to, tmp_path / "export", trust=True)
    assert not list(tmp_path.iterdir())


def test_the_run_is_only_read_and_a_second_export_is_read_too(teach, task, tmp_path):
    run, folder = teach(task.student), tmp_path / "export"
    before = digest_of(run)
    made = export_run(run, "onnx", folder, trust=True)
    assert digest_of(run) == before
    written, stamp = digest_of(folder), (folder / "model.onnx").stat().st_mtime_ns
    assert export_run(run, "onnx", folder, trust=True) == made
    assert (folder / "model.onnx").stat().st_mtime_ns == stamp
    export_run(run, "onnx", folder, overwrite=True, trust=True)
    assert digest_of(folder) == written and (folder / "model.onnx").stat().st_mtime_ns != stamp
    assert set(made["files"]) | {"export.json"} == set(written)
    assert [path.name for path in tmp_path.iterdir()] == ["export"]


def test_a_used_folder_needs_overwrite_and_a_foreign_one_is_never_touched(teach, task, tmp_path):
    run, folder = teach(task.student), tmp_path / "export"
    export_run(run, "onnx", folder, trust=True)
    with pytest.raises(RunFolderError, match=r"another export \(to was \"onnx\", is \"torch\"\).*--overwrite"):
        export_run(run, "torch", folder, trust=True)
    export_run(run, "torch", folder, overwrite=True, trust=True)
    assert (folder / "model.pt2").is_file() and not (folder / "model.onnx").exists()
    (folder / "mine.txt").write_text("mine")
    foreign = digest_of(folder)
    for out, says in ((folder, "other files"), (folder / "mine.txt", "is a file"), (run, "other files")):
        with pytest.raises(RunFolderError, match=says):
            export_run(run, "onnx", out, overwrite=True, trust=True)
    assert digest_of(folder) == foreign
    (folder / "mine.txt").unlink()
    (folder / "model.pt2").unlink()
    with pytest.raises(RunFolderError, match=r"lacks model\.pt2"):
        export_run(run, "torch", folder, trust=True)


def test_the_original_weights_are_exported_where_they_were_kept_and_that_is_said(teach, task, tmp_path):
    from safetensors.torch import load_file

    made = export_run(teach(task.student, "optim.lr=1e-9"), "torch", tmp_path / "export", trust=True)
    assert made["original"] and "original weights" in made["notes"][0]
    assert "These are the original weights" in (tmp_path / "export" / "README.md").read_text()
    ours, theirs = (
        load_file(tmp_path / "export" / "model.safetensors"),
        load_file(task.folder / "convolutional.safetensors"),
    )
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def damaged(run: Path, folder: Path, **changes: object) -> Path:
    """Copy a run, and change what its summary says."""
    shutil.copytree(run, folder)
    summary = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps(summary | changes))
    return folder


def test_what_is_no_finished_transfer_is_one_line(teach, task, tmp_path):
    run = teach(task.student)
    half = damaged(run, tmp_path / "half")
    (half / "summary.json").rename(half / "checkpoint.pt")
    scout = tmp_path / "scout"
    scout.mkdir()
    (scout / "scout.json").write_text("{}")
    cases = {
        tmp_path / "absent": "there is no folder",
        tmp_path: "no finished transfer",
        half: "not at its end",
        scout: "no transfer but a scout",
        teach(task.student, "optim.lr=100"): "diverged",
        damaged(run, tmp_path / "a", gate=3): "damaged",
        damaged(run, tmp_path / "b", interval=None): "damaged",
        damaged(run, tmp_path / "c", teachers=[]): "damaged",
    }
    for path, says in cases.items():
        with pytest.raises(RunFolderError, match=says):
            export_run(path, "onnx", tmp_path / "export", trust=True)
    assert not (tmp_path / "export").exists()


def test_a_student_that_does_not_fit_a_target_is_told_which_do(teach, task, strange, tmp_path):
    run = teach(task.student)
    for to in ("timm", "hf"):
        with pytest.raises(ExportError, match=f"py: model, which --to {to} cannot hold.*fit it: torch, onnx$"):
            export_run(run, to, tmp_path / "export", trust=True)
    with pytest.raises(ExportError, match="--to must be one of timm, hf, torch, onnx, not 'tflite'"):
        export_run(run, "tflite", tmp_path / "export", trust=True)
    with pytest.raises(TrustError, match="--trust"):
        export_run(run, "onnx", tmp_path / "export")
    sizeless = teach(f"py:{strange}:sizeless?pretrained=false&channels=1")
    with pytest.raises(ExportError, match="give these by --data"):
        export_run(sizeless, "onnx", tmp_path / "export", trust=True)
    assert export_run(sizeless, "onnx", tmp_path / "export", data=task.data, trust=True)["input"] == [1, 8, 8]


def test_the_command_prints_one_document_or_a_few_lines(teach, tmp_path, capsys):
    given = ["export", teach(VIT), "--to", "timm", "--out", tmp_path / "export"]
    code, out, error = call(capsys, *given, "--json")
    assert (code, error) == (0, "")
    kept = json.loads((tmp_path / "export" / "export.json").read_text())
    assert json.loads(out) == {"out": str(tmp_path / "export"), **kept, "url": None}
    code, out, error = call(capsys, *given)
    assert (code, error) == (0, "")
    assert "logits bit for bit on 8 fixed images" in out and "is not known: ask before you share" in " ".join(
        out.split()
    )
    code, out, error = call(capsys, *given[:3], "tflite", *given[4:])
    assert (code, out) == (1, "") and error.startswith("crossteach: --to must be one of") and error.count("\n") == 1


def test_no_folder_of_this_machine_stands_in_an_export(teach, task, tmp_path):
    export_run(teach(task.student), "torch", tmp_path / "export", data=task.data, trust=True)
    for name, content in digest_of(tmp_path / "export").items():
        assert str(task.folder).encode() not in content, name
        assert b"/tests/" not in content or name == "model.pt2", name


def test_a_model_that_onnx_has_no_words_for_is_one_line_and_no_graph_is_printed(teach, tmp_path, capfd):
    run = teach("timm:test_vit4?pretrained=false&num_classes=10&img_size=32&size=32")  # root mean square norms
    code, out, error = call(capfd, "export", run, "--to", "onnx", "--out", tmp_path / "export")
    assert (code, out, error.count("\n")) == (1, "", 1)
    assert "torch cannot write 'test_vit4' as ONNX" in error and "--to torch" in error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("to", "package", "says"),
    [
        ("onnx", "onnxruntime", "--to onnx needs onnxruntime; pip install 'crossteach[onnx]'"),
        ("hf", "transformers", "--to hf needs transformers; pip install 'crossteach[hf]'"),
        ("torch", "huggingface_hub", "the model card needs huggingface-hub; pip install huggingface-hub"),
    ],
)
def test_a_missing_package_is_one_line_that_says_what_to_install(teach, tmp_path, monkeypatch, to, package, says):
    run = teach(VIT)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=f"^{re.escape(says)}$"):
        export_run(run, to, tmp_path / "export")
    assert not list(tmp_path.iterdir())
