import json
from pathlib import Path

import pytest

from crossteach.exporting.licences import licence_of_all, licences_of, warnings_of


def test_the_licence_of_published_weights_is_what_timm_says_and_of_a_file_is_not_known():
    import timm

    nc = next(n for n in timm.list_pretrained() if timm.get_pretrained_cfg(n).license == "cc-by-nc-4.0")
    assert licences_of(f"timm:{nc}") == {f"timm:{nc}": "cc-by-nc-4.0"}
    assert licences_of("timm:resnet18.a1_in1k") == {"timm:resnet18.a1_in1k": "apache-2.0"}
    for spec in (
        "timm:resnet18?pretrained=false",
        "timm:resnet18@w.safetensors",
        "torchvision:resnet50",
        "py:a.py:b@c",
    ):
        assert licences_of(spec) == {spec: None}
    assert licences_of("module Sequential") == {"module Sequential": None}


def made(folder: Path, student: str, *teachers: str) -> str:
    folder.mkdir()
    config = {"student": {"spec": student}, "teachers": [{"spec": spec} for spec in teachers]}
    (folder / "config.json").write_text(json.dumps(config))
    return f"run:{folder}"


def test_a_student_of_a_run_brings_the_licences_of_all_that_it_came_from(tmp_path):
    first = made(tmp_path / "a", "demo:convnet", "timm:resnet18.a1_in1k")
    second = made(tmp_path / "b", first, "torchvision:resnet50")
    assert licences_of(second) == {
        "demo:convnet": "apache-2.0",
        "timm:resnet18.a1_in1k": "apache-2.0",
        "torchvision:resnet50": None,
    }
    itself = made(tmp_path / "c", f"run:{tmp_path / 'c'}")
    assert licences_of(itself) == {itself: None}, "a circle of runs is not known, and ends"
    assert licences_of(f"run:{tmp_path / 'gone'}") == {f"run:{tmp_path / 'gone'}": None}


@pytest.mark.parametrize(
    ("front", "licence"),
    [
        ("license: MIT", "mit"),
        ("license: other\nlicense_name: own-1", "own-1"),
        ("tags: []", None),
        ("license: [1]", None),
    ],
)
def test_the_licence_of_a_folder_for_transformers_is_what_its_card_says(tmp_path, front, licence):
    (tmp_path / "README.md").write_text(f"---\n{front}\n---\n# A model\n")
    assert licences_of(f"hf:{tmp_path}") == {f"hf:{tmp_path}": licence}
    assert licences_of("hf:nobody/nothing") == {"hf:nobody/nothing": None}


@pytest.mark.parametrize(
    ("student", "teacher", "together", "says"),
    [
        ("mit", "apache-2.0", "mit", []),
        ("mit", "cc-by-nc-4.0", "cc-by-nc-4.0", ["forbids commercial use"]),
        ("apple-amlr", "mit", "apple-amlr", ["forbids commercial use"]),
        ("fair-noncommercial-research-license", "mit", "fair-noncommercial-research-license", ["forbids commercial"]),
        ("cc-by-sa-4.0", "mit", "cc-by-sa-4.0", ["which asks for itself, but others are under mit"]),
        ("gpl-3.0", "cc-by-nc-4.0", None, ["forbids commercial", "asks for itself", "may be in conflict"]),
        ("cc-by-nd-4.0", "cc-by-nd-4.0", "cc-by-nd-4.0", ["nobody share", "nobody share"]),
        ("mit", None, None, ["is not known"]),
        (None, "mit", None, ["is not known"]),
        ("nvidia-open-model-license", "mit", "nvidia-open-model-license", []),
    ],
)  # fmt: skip
def test_conflicts_are_named_and_the_licence_of_the_whole_only_where_it_is_plain(student, teacher, together, says):
    assert licence_of_all({"s": student}, {"t": teacher}) == together
    warned = warnings_of({"s": student, "t": teacher})
    assert len(warned) == len(says) and all(word in line for word, line in zip(says, warned, strict=True))
