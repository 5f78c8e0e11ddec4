import json

import pytest

import crossteach
from crossteach.cli import main
from crossteach.demo import script
from crossteach.errors import SpecError
from crossteach.models.py import DEMO

QUICK = ("optim.epochs=1", "optim.lr=0.003", "views.count=1", "gate.alphas=1")


def test_the_demo_compares_teaches_and_proves(tmp_path, capsys, monkeypatch):
    """The real demo on the real models and data, but for the length of its trainings and the size of its pool."""
    monkeypatch.setattr(script, "SETTINGS", QUICK)
    monkeypatch.setattr(script, "POOL", f"{script.POOL}?samples=1500")
    main_exits_0(["demo", "--out", str(tmp_path), "--quiet"])
    shown = capsys.readouterr().out
    for word in ("mlp", "mixer", "resnet", "convnet", "xe+dp", "crossteach transfer --student"):
        assert word in shown
    folders = sorted(p.name for p in tmp_path.iterdir())
    assert folders == sorted(["scout", *FROM_WEAKER, *FROM_STRONGER])
    assert all((tmp_path / name / "student" / "model.safetensors").is_file() for name in folders if name != "scout")
    found = json.loads((tmp_path / "scout" / "scout.json").read_text())
    accuracies = {m["name"]: m["accuracy"] for m in found["models"]}
    assert accuracies["mlp"] < accuracies["resnet"] and accuracies["mlp"] < accuracies["convnet"]
    assert max(accuracies.values()) - min(accuracies.values()) >= 8
    flips = [f for i, row in enumerate(found["positive_flips"]) for j, f in enumerate(row) if i != j]
    assert len(flips) == 12
    assert min(flips) >= 2
    main_exits_0(["demo", "--out", str(tmp_path), "--quiet", "--json"])
    again = json.loads(capsys.readouterr().out)
    assert again["scout"] == found
    assert [s["method"] for s in again["transfers"]] == METHODS
    assert [s["pool"] is not None for s in again["transfers"]] == [False, False, True, False, True]


FROM_WEAKER = ["resnet-mlp-kl", "resnet-mlp-auto", "resnet-mlp-auto-pool"]
FROM_STRONGER = ["mlp-convnet-auto", "mlp-convnet-auto-pool"]


METHODS = ["kl", "xe+dp", "xe+dp-learned", "xe+dp", "xe+dp-learned"]


def main_exits_0(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert not ended.value.code


def test_what_is_shipped_is_small():
    assert (DEMO / "glyphs.npz").stat().st_size + (DEMO / "pool.npz").stat().st_size <= 6e6
    checkpoints = list((DEMO / "checkpoints").glob("*.safetensors"))
    assert len(checkpoints) == 4
    assert all(path.stat().st_size < 1e6 for path in checkpoints)


def test_the_embedded_pool_is_of_other_families_and_is_no_data():
    data = crossteach.load_data("glyphs", ["glyphs:pool"])
    (pool,) = data.pools
    assert pool.found == 16323 and len(pool.split) > 14000
    mine = set(pool.split.group_names)
    theirs = set(data.train.group_names) | set(data.selection.group_names) | set(data.test.group_names)
    assert len(mine) == 46 and not mine & theirs
    with pytest.raises(SpecError, match="--data glyphs --pool glyphs:pool"):
        crossteach.load_data("glyphs:pool")
