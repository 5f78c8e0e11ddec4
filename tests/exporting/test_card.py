"""The model card: what it tells, by the hub's own reader; what comes from names does no harm."""

import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import ModelCard

from crossteach import export_run
from crossteach.exporting.card import base_models, plain
from crossteach.exporting.reading import command, read_story, without_folders


def changed(run: Path, folder: Path, names: list[str] | None = None, **changes: object) -> Path:
    """Copy a run; change class names and what its summary says."""
    shutil.copytree(run, folder)
    summary = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps(summary | changes))
    if names:
        pq.write_table(pa.table({"class": np.arange(len(names)), "name": names}), folder / "classes.parquet")
        model = json.loads((folder / "student" / "model.json").read_text())
        (folder / "student" / "model.json").write_text(json.dumps(model | {"classes": None}))
    return folder


def test_the_card_tells_the_figures_of_the_summary_to_the_hubs_own_reader(teach, task, tmp_path):
    run = teach(task.student)
    export_run(run, "onnx", tmp_path / "export", trust=True)
    summary = json.loads((run / "summary.json").read_text())
    card = ModelCard.load(tmp_path / "export" / "README.md")
    assert card.data.pipeline_tag == "image-classification" and card.data.library_name == "onnx"
    assert {"crossteach", "knowledge-transfer"} <= set(card.data.tags) and card.data.license is None
    (result,) = card.data.eval_results
    assert result.metric_value == round(summary["accuracy_after"], 2) and result.dataset_name == "npz:digits.npz"
    low, high = summary["interval"]
    told = f"{summary['transfer_delta']:+.2f} points ({low:+.2f} to {high:+.2f})"
    assert told in card.text
    for key in ("accuracy_before", "teacher_accuracy", "knowledge_gain", "knowledge_loss"):
        assert f"{summary[key]:.2f}%" in card.text
    for name, print_ in (("student", summary["fingerprints"]["student"]), ("data", summary["fingerprints"]["data"])):
        assert print_ in card.text, name
    assert "is not known: ask before you share" in card.text


def test_the_command_on_the_card_is_the_one_that_made_the_run(teach, task):
    from crossteach import TransferConfig, with_settings

    run = teach(task.student)
    words = shlex.split(command(read_story(run), run))
    assert words[:2] == ["crossteach", "transfer"] and words[-1] == run.name
    assert (
        words[words.index("--student") + 1] == "py:small.py:convolutional@convolutional.safetensors?channels=1&size=8"
    )
    given = [words[at + 1] for at, word in enumerate(words) if word == "--set"]
    kept = json.loads((run / "config.json").read_text())
    assert with_settings(TransferConfig(), given).to_dict() == kept["config"] | {"method": kept["method"]}


NASTY = ["<script>alert(1)</script>", "a|b", "```\nrm -rf", "*bold* _it_", "[x](javascript:1)", "{{ 7 * 7 }}", "---"]


def test_names_from_files_are_shown_and_do_nothing(teach, task, tmp_path):
    run = changed(
        teach(task.student),
        tmp_path / "run",
        [*NASTY, "g", "ok", "\x1b[31m"],
        student="</td><img src=x>|\n# h",
        method="`x`\n---\n",
    )
    export_run(run, "onnx", tmp_path / "export", trust=True)
    text = (tmp_path / "export" / "README.md").read_text()
    card = ModelCard(text)
    body = re.sub(r"```.*?```", "", card.text, flags=re.DOTALL)
    assert "<script" not in body and "<img" not in body and "{{" not in body
    assert "&lt;script&gt;" in body and r"a\|b" in body and r"\[x\](javascript:1)" in body
    assert len(re.findall(r"^# ", body, re.MULTILINE)) == 1
    assert text.count("```") == 4, "two blocks, opened and closed"
    for row in re.findall(r"^\|.*$", body, re.MULTILINE):
        assert len(re.findall(r"(?<!\\)\|", row)) in (3, 4), row


@pytest.mark.parametrize("text", [*NASTY, "\x1b[31mred", "café"])
def test_an_escaped_text_is_shown_as_it_is(text):
    import html

    shown = html.unescape(re.sub(r"\\([\\`*_\[\]|#~!{}$])", r"\1", plain(text)))
    assert shown == " ".join(text.split()) and "<" not in plain(text)


def verified(run: Path, folder: Path, verdict: str) -> Path:
    copied = changed(run, folder)
    told = {"verdict": verdict, "answered": 40, "delta": 1.5, "interval": [0.25, 3.0]}
    (copied / "verify.json").write_text(json.dumps(told))
    return copied


def test_without_labels_the_card_says_that_nothing_was_verified_or_what_a_person_found(teach, task, tmp_path):
    run = teach(task.student, data=task.unlabelled, name="blind")
    summary = json.loads((run / "summary.json").read_text())
    cases = {
        run: "Of the test samples",
        verified(run, tmp_path / "yes", "accepted"): r"Accepted by 40 labels .*: \+1.50 points .*\+0.25 to \+3.00",
        verified(run, tmp_path / "no", "kept_original"): "The original weights were kept, by 40 labels",
        verified(run, tmp_path / "open", "unverified"): "Not verified yet",
    }
    for number, (each, says) in enumerate(cases.items()):
        export_run(each, "onnx", tmp_path / f"export{number}", trust=True)
        card = ModelCard.load(tmp_path / f"export{number}" / "README.md")
        assert re.search(says, card.text)
        if summary["accuracy_before"] is None:
            assert card.data.eval_results is None and "| accuracy |" not in card.text


def test_a_base_model_is_named_where_the_hub_knows_it(teach, task):
    from dataclasses import replace

    story = read_story(teach(task.student))
    for spec, known in (
        ("timm:test_vit.r160_in1k", ["timm/test_vit.r160_in1k"]),
        ("timm:test_vit?pretrained=false", []),
        ("timm:test_vit@weights.safetensors", []),
        ("hf:ORG/NAME", ["ORG/NAME"]),
        ("hf:/home/me/model", []),
        ("py:zoo.py:small@w.pt", []),
        ("module Net", []),
    ):
        assert base_models(replace(story, spec=spec)) == known, spec


def test_specs_are_shown_without_the_folders_of_this_machine():
    for spec, shown in (
        ("npz:/home/me/a b/d.npz", "npz:d.npz"),
        ("folder:/home/me/data/", "folder:data/"),
        ("folder:~/data?x=1/2", "folder:data?x=1/2"),
        ("npz:../x/d.npz", "npz:d.npz"),
        ("npz:data/d.npz", "npz:data/d.npz"),
        ("timm:resnet18@/w/r.pt", "timm:resnet18@r.pt"),
        ("torchvision:resnet50/IMAGENET1K_V2", "torchvision:resnet50/IMAGENET1K_V2"),
        ("py:/a/zoo.py:small@/b/c.pt?size=8", "py:zoo.py:small@c.pt?size=8"),
    ):
        assert without_folders(spec) == shown
