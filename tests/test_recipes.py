"""Every recipe runs, on a small setting and for one epoch."""

import gzip
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import digits
import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
SHORT = ["--set", "optim.epochs=1", "--set", "optim.lr=0.01", "--set", "views.count=1"]


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> digits.Digits:
    return digits.make(tmp_path_factory.mktemp("digits"))


def run(script: str, *arguments: object) -> str:
    command = [sys.executable, str(ROOT / script), *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    told = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert told.returncode == 0, told.stderr
    return told.stdout


def test_forgetting(setting, tmp_path):
    pair = ["--student", setting.student, "--teacher", setting.teacher, "--data", setting.data]
    shown = run("recipes/forgetting.py", *pair, "--out", tmp_path / "run", *SHORT)
    assert re.search(r"gained \d+\.\d\d%, forgotten \d+\.\d\d%", shown)


def test_who_teaches(setting):
    shown = run("recipes/who_teaches.py", setting.student, setting.teacher, "--data", setting.data)
    assert len([line for line in shown.splitlines() if line.startswith(("| convolutional", "| dense"))]) == 8


def test_against_controls(setting, tmp_path):
    pair = ["--student", setting.student, "--teacher", setting.teacher, "--data", setting.data]
    shown = run("recipes/against_controls.py", *pair, "--out", tmp_path / "run", *SHORT)
    for method in ("self", "xe", "self+labels", "kl", "kl+dp", "kl+dp-unsupervised", "xe+dp"):
        assert f"| `{method}` |" in shown


def test_pairs(setting, tmp_path):
    models = [setting.student, setting.teacher]
    chosen = ["--methods", "self", "xe", "kl+dp", "--data", setting.data, "--workers", "1"]
    shown = run("recipes/pairs.py", *models, *chosen, "--out", tmp_path / "study", *SHORT)
    assert "6/6 kl+dp" in shown
    assert re.search(r"\| `kl\+dp` \| 2 \|.* to (xe|self) \|", shown)


def test_fashion_mnist(tmp_path):
    rng = np.random.default_rng(0)
    folder = tmp_path / "idx"
    folder.mkdir()
    for stem, count in (("train", 300), ("t10k", 200)):
        labels = np.arange(count, dtype=np.uint8) % 10
        images = rng.integers(0, 60, (count, 28, 28), dtype=np.uint8)
        images[np.arange(count), labels * 2 + 4] = 255  # a bright line whose height is the class
        header = bytes((0, 0, 8, 3)) + b"".join(n.to_bytes(4, "big") for n in images.shape)
        (folder / f"{stem}-images-idx3-ubyte.gz").write_bytes(gzip.compress(header + images.tobytes()))
        header = bytes((0, 0, 8, 1)) + count.to_bytes(4, "big")
        (folder / f"{stem}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(header + labels.tobytes()))
    arguments = ["--folder", folder, "--out", tmp_path / "out", "--models", "mlp", "resnet", "--most-epochs", "30"]
    shown = run("recipes/fashion_mnist.py", *arguments, *SHORT)
    assert "14/14" in shown
    assert "### Gated" in shown


def test_gate_level():
    """The simulation itself: bounds for all alphas at once keep to the level, a bound for each alone does not."""
    shown = re.findall(r"at once (\d+\.\d)%, each alone (\d+\.\d)%", run("benchmarks/gate_level.py"))
    assert len(shown) == 2
    assert all(float(at_once) <= 13 < float(alone) for at_once, alone in shown)


def test_step_time(setting):
    pair = ["--student", setting.student, "--teacher", setting.teacher, "--data", setting.data]
    shown = run("benchmarks/step_time.py", *pair, "--repeats", 1)
    assert re.search(r"live / \(plain \+ tutors\): \d\.\d+", shown)


def test_claims(setting):
    shown = run("recipes/claims.py", setting.student, setting.teacher, "--data", setting.data)
    assert "| convolutional | dense |" in shown
    assert re.search(r"Randomly initialised teachers: \d+\.\d\d to \d+\.\d\d% positive flips", shown)
    assert re.search(r"Areas closer than chance by pictures, p < 0.05: \d+ of \d+", shown)


def test_study_and_ranking(setting, tmp_path):
    """Three models, every ordered pair: the sweep, its tables, and how well the ranking agreed."""
    plan = tmp_path / "plan.yaml"
    models = "".join(f'  - "{setting.model(name)}"\n' for name in ("convolutional", "dense", "linear"))
    settings = "{optim.epochs: 1, optim.lr: 0.01, views.count: 1}"
    text = f"data: {setting.data}\nmodels:\n{models}methods: [self, xe, kl+dp]\nsettings: {settings}\n"
    plan.write_text(text)
    shown = run("recipes/study.py", "--plan", plan, "--out", tmp_path / "out")
    assert re.search(r"\| `kl\+dp` \| ungated \| 6 \|.* to `(xe|self)` \|", shown)
    for title in ("Students, ungated", "What the delta goes with", "ensemble's gain", "criterion without labels"):
        assert title in shown
    results = tmp_path / "out" / "results.parquet"
    ranked = run("recipes/ranking.py", results, "--data", setting.data, "--methods", "kl+dp")
    assert len([line for line in ranked.splitlines() if line.startswith("| `kl+dp` |")]) == 5


def test_scout_scale():
    shown = run("benchmarks/scout_scale.py", "--models", 3, "--samples", 600, "--classes", 20).splitlines()
    assert [json.loads(line)["pairs"] for line in shown] == [6, 6]
