import json

import pytest

from crossteach.cli import main
from crossteach.demo import script
from crossteach.models.py import DEMO

QUICK = ("optim.epochs=1", "optim.lr=0.003", "views.count=1", "gate.alphas=1")


def test_the_demo_compares_teaches_and_proves(tmp_path, capsys, monkeypatch):
    """The real demo on the real models and data, but for the length of its trainings."""
    monkeypatch.setattr(script, "SETTINGS", QUICK)
    main_exits_0(["demo", "--out", str(tmp_path), "--quiet"])
    shown = capsys.readouterr().out
    for word in ("mlp", "mixer", "resnet", "convnet", "xe+dp", "crossteach transfer --student"):
        assert word in shown
    folders = sorted(p.name for p in tmp_path.iterdir())
    assert folders == sorted(["scout", "resnet-mlp-kl", "resnet-xe", "resnet-mlp-auto", *STRONGER])
    assert all((tmp_path / name / "student" / "model.safetensors").is_file() for name in folders if name != "scout")
    found = json.loads((tmp_path / "scout" / "scout.json").read_text())
    accuracies = {m["name"]: m["accuracy"] for m in found["models"]}
    assert accuracies[script.WEAKER] < accuracies[script.STUDENT] < accuracies[script.STRONGER]
    assert max(accuracies.values()) - min(accuracies.values()) >= 8
    flips = [f for i, row in enumerate(found["positive_flips"]) for j, f in enumerate(row) if i != j]
    assert len(flips) == 12
    assert min(flips) >= 2
    main_exits_0(["demo", "--out", str(tmp_path), "--quiet", "--json"])
    again = json.loads(capsys.readouterr().out)
    assert again["scout"] == found
    assert [s["method"] for s in again["transfers"]] == ["kl", "xe", "xe+dp", "kl", "xe+dp"]


STRONGER = ["resnet-convnet-kl", "resnet-convnet-auto"]


def main_exits_0(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert not ended.value.code


def test_what_is_shipped_is_small():
    assert (DEMO / "glyphs.npz").stat().st_size <= 6e6
    checkpoints = list((DEMO / "checkpoints").glob("*.safetensors"))
    assert len(checkpoints) == 4
    assert all(path.stat().st_size < 1e6 for path in checkpoints)
