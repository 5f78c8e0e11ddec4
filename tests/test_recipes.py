"""Every recipe runs, on a small task and for one epoch."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import digits
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from safetensors.torch import save_file

import crossteach
from crossteach.data.views import small_warp
from crossteach.sweeping.plan import read_plan

ROOT = Path(__file__).parent.parent
SHORT = ["--set", "optim.epochs=1", "--set", "optim.lr=0.01", "--set", "views.count=1"]


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> digits.Digits:
    return digits.make(tmp_path_factory.mktemp("digits"))


def run(script: str, *arguments: object) -> str:
    command = [sys.executable, str(ROOT / script), *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    told = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert told.returncode == 0, told.stderr
    return told.stdout


def test_forgetting(task, tmp_path):
    pair = ["--student", task.student, "--teacher", task.teacher, "--data", task.data]
    shown = run("recipes/forgetting.py", *pair, "--out", tmp_path / "run", *SHORT)
    assert re.search(r"gained \d+\.\d\d%, forgotten \d+\.\d\d%", shown)


def test_who_teaches(task):
    shown = run("recipes/who_teaches.py", task.student, task.teacher, "--data", task.data)
    assert len([line for line in shown.splitlines() if line.startswith(("| convolutional", "| dense"))]) == 8


def test_against_controls(task, tmp_path):
    pair = ["--student", task.student, "--teacher", task.teacher, "--data", task.data]
    shown = run("recipes/against_controls.py", *pair, "--out", tmp_path / "run", *SHORT)
    for method in ("self", "xe", "self+labels", "kl", "kl+dp", "kl+dp-unsupervised", "xe+dp"):
        assert f"| `{method}` |" in shown


def test_pairs(task, tmp_path):
    models = [task.student, task.teacher]
    chosen = ["--methods", "self", "xe", "kl+dp", "--data", task.data, "--workers", "1"]
    shown = run("recipes/pairs.py", *models, *chosen, "--out", tmp_path / "study", *SHORT)
    assert "6/6 kl+dp" in shown
    assert re.search(r"\| `kl\+dp` \| 2 \|.* to (xe|self) \|", shown)


def test_gate_level():
    """The simulation itself: bounds for all alphas at once keep to the level, a bound for each alone does not."""
    shown = re.findall(
        r"at once (\d+\.\d)%, each alone (\d+\.\d)%", run("benchmarks/gate_level.py", "--times", 1000, "--samples-only")
    )
    assert len(shown) == 2
    assert all(float(at_once) <= 13 < float(alone) for at_once, alone in shown)


def test_step_time():
    shown = run("benchmarks/step_time.py", "--cases", "demo", "--rounds", 1)
    assert len(re.findall(r"stored \S+ / plain: \d\.\d+", shown)) == 4
    assert re.search(r"live kl\+dp / \(plain \+ tutors\): \d\.\d+", shown)


@pytest.mark.slow
def test_gpu_on_a_cpu():
    shown = run("benchmarks/gpu.py", "--smoke", "--device", "cpu", "--workers", 1, "--cases", "resnet50")
    assert re.search(r"steps a second: plain \d+\.\d+, live \d+\.\d+, stored kl\+dp \d+\.\d+, tutors", shown)
    assert re.search(r"interrupted .*resumed: weights differ .* by 0\.0e\+00 at most, losses by 0\.0e\+00 in 2", shown)
    assert re.search(r"absurd learning rate: diverged .*, old weights kept: True", shown)


def test_label_maps(tmp_path):
    short = [*SHORT, "--set", "optim.steps=5", "--epochs", 1, "--methods", "kl+dp-unsupervised"]
    shown = run("recipes/label_maps.py", *short, "--out", tmp_path / "runs")
    assert re.search(r"\| `kl\+dp-unsupervised` \| 82\.02 [+-]\d\.\d\d \|.*\| 85\.12 ", shown)


def test_claims(task):
    shown = run("recipes/claims.py", task.student, task.teacher, "--data", task.data)
    assert "| convolutional | dense |" in shown
    assert re.search(r"Randomly initialised teachers: \d+\.\d\d to \d+\.\d\d% positive flips", shown)
    assert re.search(r"Areas closer than chance by pictures, p < 0.05: \d+ of \d+", shown)


def test_tables_and_ranking(task, tmp_path):
    """Three models, every ordered pair: the sweep, its tables, and how well the ranking agreed."""
    plan = tmp_path / "plan.yaml"
    models = "".join(f'  - "{task.model(name)}"\n' for name in ("convolutional", "dense", "linear"))
    settings = "{optim.epochs: 1, optim.lr: 0.01, views.count: 1}"
    text = f"data: {task.data}\nmodels:\n{models}methods: [self, xe, kl, kl+dp]\nsettings: {settings}\n"
    plan.write_text(text)
    out = tmp_path / "out"
    command = [sys.executable, "-m", "crossteach.cli", "sweep", str(plan), "--out", str(out), "--quiet"]
    assert subprocess.run(command, capture_output=True).returncode == 0
    results = out / "results.parquet"
    shown = run("recipes/tables.py", results)
    assert re.search(r"\| `kl\+dp` \| ungated \| 6 \|.* to `(xe|self)` \|", shown)
    for title in ("Students, ungated", "What the delta goes with", "ensemble's gain", "criterion without labels"):
        assert title in shown
    assert re.search(
        r"\| `kl` \| \d+\.\d%, \d+\.\d%, \d+\.\d% \| .* \| 32\.5%, 32\.5%, 0\.0% \| -0\.30, -6\.76 \|", shown
    )
    ranked = run("recipes/ranking.py", results, "--data", task.data, "--methods", "kl+dp")
    assert len([line for line in ranked.splitlines() if line.startswith("| `kl+dp` |")]) == 5


def test_pictures_show_the_means_that_the_page_of_the_study_gives(tmp_path):
    shown = run("recipes/pictures.py", ROOT / "benchmarks" / "STUDY_CPU_2026-11-24.parquet", "--out", tmp_path)
    assert [Path(line).name for line in shown.splitlines()] == ["gap.svg", "conditions.svg"]
    assert (tmp_path / "gap.svg").read_text().count(" from ") == 2 * 132
    found = re.findall(
        r"<title>(.*?), (.*?): mean (.*?), worst (.*?)</title>", (tmp_path / "conditions.svg").read_text()
    )
    means = {(name, method): float(mean) for name, method, mean, _ in found}
    assert len(means) == 6 * 3
    page = (ROOT / "docs" / "study.md").read_text().replace("−", "-")
    for name, start in (("five teachers at once", "| six students"), ("Fashion-MNIST", "| Fashion-MNIST")):
        row = next(line for line in page.splitlines() if line.startswith(start))
        told = [float(mean) for mean in re.findall(r" ([+-]\d\.\d\d) \(", row)]
        assert told == [means[name, method] for method in ("xe", "xe+dp", "kl+dp-unsupervised")]


def test_every_part_of_the_study_is_a_plan(tmp_path, monkeypatch):
    """The plans are read and their jobs counted; the models and files that they name exist."""
    monkeypatch.syspath_prepend(str(ROOT / "recipes"))
    monkeypatch.chdir(ROOT)
    import study

    jobs = {}
    for part, plan in study.plans(tmp_path).items():
        path = tmp_path / f"{part}.yaml"
        path.write_text(yaml.safe_dump(plan, sort_keys=False))
        read = read_plan(path)
        jobs[part] = len(read.jobs())
        for spec in read.models:
            weights = spec.partition("@")[2].partition("?")[0]
            assert not weights or (ROOT / weights).is_file()
    assert jobs["core"] == 2 * 132 + 4 * 12
    assert jobs["paper"] == 2 * 132 + 12
    assert jobs["seeds"] == 2 * 2 * 10
    assert jobs["fresh"] == jobs["shifted"] == jobs["small-1"] == jobs["small-10"] == 2 * 20 + 2 * 12
    assert jobs["teachers"] == 6 * len(study.TEAMS)
    assert jobs["fashion"] == 5 * 30 + 4 * 6
    assert jobs["fashion-search"] == 14 * 12 + 2 * 6 and {s for s, _ in study.FASHION_TWELVE} == set(study.FASHION)
    assert len(set(study.TWENTY)) == 20 and {s for s, _ in study.TWENTY} == set(study.GLYPHS)


def test_the_data_of_the_study_are_cut_and_corrupted_as_told(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "recipes"))
    import study

    study.prepare(tmp_path)
    glyphs = crossteach.load_data("glyphs")
    fresh, shifted = (crossteach.load_data(f"npz:{tmp_path / name}.npz") for name in ("fresh", "shifted"))
    assert len(fresh.train) + len(fresh.selection) == len(glyphs.selection)
    assert [len(s) for s in (shifted.train, shifted.selection)] == [len(glyphs.train), len(glyphs.selection)]
    pixels = [
        data.test.inputs.read(data.test.input_rows(np.arange(200)), None, None) for data in (glyphs, fresh, shifted)
    ]
    assert (pixels[0] == pixels[1]).all()
    changed = (pixels[2] - pixels[0]).abs().mean((1, 2, 3))
    assert (changed > 0.01).all()
    assert (fresh.test.labels == glyphs.test.labels).all() and (shifted.test.labels == glyphs.test.labels).all()


def test_thresholds(task):
    shown = run("recipes/thresholds.py", task.student, task.teacher, "--data", task.data)
    rows = [line.split("|") for line in shown.splitlines() if line.startswith(("| supervised", "| unsup", "| calib"))]
    assert len(rows) == 3 * 6
    shares = [int(row[5].strip(" %")) for row in rows[:6]]
    assert shares == sorted(shares, reverse=True)


def test_scout_scale():
    shown = run("benchmarks/scout_scale.py", "--models", 3, "--samples", 600, "--classes", 20).splitlines()
    assert [json.loads(line)["pairs"] for line in shown] == [6, 6]


def test_the_plans_of_the_pool_study_can_be_read(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "recipes")
    monkeypatch.chdir(ROOT)
    from pool_study import DIRTY, plans

    parts = plans("npz:pool.npz", Path("dirty"), Path("out"))
    assert {f"dirty-{kind}" for kind in DIRTY} < set(parts)
    assert parts.pop("rounds")["pairs"] == []  # of students that are not taught yet
    for name, content in parts.items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(content))
        plan = read_plan(tmp_path / f"{name}.yaml")
        assert (name.endswith("-seen") or name.startswith("labels")) != bool(plan.pools)
        lengths = {job.config.optim.steps for job in plan.jobs()}
        kind = name.partition("-")[0]
        longer = {"long": 6400, "epochs": None, **dict.fromkeys(("twice", "search", "tries", "mixing", "room"), 3200)}
        assert lengths == {longer.get(kind, 1600)}


def test_the_pool_study_gathers_and_tells(task, tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(ROOT / "recipes")
    import pool_study
    import pool_tables

    arrays = dict(np.load(task.folder / "digits.npz"))
    np.savez(tmp_path / "pool.npz", x=arrays["x_train"][400:])
    few = {key: arrays[key][:400] for key in ("x_train", "y_train")}
    np.savez(tmp_path / "few.npz", **{**arrays, **few})
    content = {
        "data": f"npz:{tmp_path / 'few.npz'}",
        "pools": [f"npz:{tmp_path / 'pool.npz'}"],
        "models": [task.student, task.teacher],
        "methods": [{"method": "auto", "name": "pool"}],
        "settings": {"optim.steps": 20, "optim.lr": 0.01},
    }
    monkeypatch.setattr(pool_study, "plans", lambda pool, dirty, out: {"pairs": content})
    monkeypatch.setattr(pool_study, "PARTS", ["pairs"])
    monkeypatch.setattr(sys, "argv", ["pool_study.py", "--out", str(tmp_path / "out")])
    pool_study.main()
    pool_tables.table(pool_tables.by_method([tmp_path / "out" / "pool_study.parquet"]))
    told = capsys.readouterr().out
    assert "pairs: 2 of 2 jobs are whole" in told and "| 2 | pool | all |" in told
    found = wrong_of_all = forgot = right_of_all = 0
    for ledger in (tmp_path / "out" / "pairs" / "jobs").glob("*/samples.parquet"):
        for row in pq.read_table(ledger).to_pylist():
            tutors = {row["pred_before"] == row["label"], row["pred_teacher_0"] == row["label"]}
            after = row["pred_ungated"] == row["label"]
            wrong_of_all, found = wrong_of_all + (tutors == {False}), found + (tutors == {False} and after)
            right_of_all, forgot = right_of_all + (tutors == {True}), forgot + (tutors == {True} and not after)
    cells = pool_tables.beyond(tmp_path / "out" / "pairs").split(" | ")
    assert cells[:2] == ["| pairs", str(wrong_of_all)] and cells[2].startswith(f"{found} (")
    assert cells[4] == str(right_of_all) and cells[5].startswith(f"{forgot} (")
    assert wrong_of_all and right_of_all


def test_methods_of_the_pool_study_are_compared_pair_by_pair(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "recipes")
    from pool_tables import against

    def row(method: str, student: str, teachers: list[str], selection: float, test: float) -> dict[str, object]:
        team = {"teachers": teachers, "teacher_name": " + ".join(teachers), "teacher": " + ".join(teachers)}
        deltas = {"ungated_selection_delta": selection, "ungated_transfer_delta": test}
        return {"method": method, "student": f"py:{student}", "student_name": student, "n_test": 9, **team, **deltas}

    base, both = "pool, all teachers", ["a", "b"]
    again, taught = "a second round, all taught teachers", ["run:a", "run:b"]
    rows = [
        *(row(base, "mlp", both, 1.0, 2.0), row(base, "cnn", both, 0.0, 1.0)),
        *(row(again, "mlp", taught, 0.5, 0.25), row(again, "cnn", taught, 0.5, 0.75)),
        *(row("roomy", "mlp_head", both, 2.0, 2.5), row("roomy", "cnn_wide", both, 1.0, 0.5)),
        row("one", "mlp", ["a"], 9.0, 9.0),
        *({**row("other data", student, both, 9.0, 9.0), "n_test": 8} for student in ("mlp", "cnn")),
    ]
    methods = {name: [r for r in rows if r["method"] == name] for name in dict.fromkeys(r["method"] for r in rows)}
    told = list(against(methods, base))
    assert told == [
        f"{again} − {base}: selection +0.50 (0.00), test +0.50 (0.25), higher on test in 2; 2 pairs",
        f"roomy − {base}: selection +1.00 (0.00), test +0.00 (0.50), higher on test in 1; 2 pairs",
    ]
    same = [{**r, "method": "same"} for r in methods[base]]
    assert "test +0.00 (0.00), higher on test in 0, 95% +0.00" in next(
        against({base: methods[base], "same": same}, base)
    )


def test_a_filter_that_evens_a_pool_keeps_as_many_of_each_class(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "recipes"))
    from filtered_pools import even

    given = torch.tensor([0] * 50 + [1] * 8 + [2] * 2)
    kept = even(torch.stack(2 * [9.0 * torch.eye(3)[given]]))
    assert torch.bincount(given[kept]).tolist() == [10, 8, 2]
    assert not torch.equal(kept.nonzero()[:10, 0], torch.arange(10)), "drawn by lot, not the first"


def test_agreement_on_the_line_tells_that_all_models_are_worse(monkeypatch):
    """Models that err alone: agreement falls faster than accuracy then, so the estimates are low."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.syspath_prepend(str(ROOT / "recipes"))
    from gained import by_confidence, on_the_line

    random = torch.Generator().manual_seed(0)
    labels = torch.randint(10, (20_000,), generator=random)

    def answers(accuracies: list[float]) -> torch.Tensor:
        rows = [torch.rand(len(labels), generator=random) < accuracy for accuracy in accuracies]
        return torch.stack([torch.where(row, labels, (labels + 1 + k) % 10) for k, row in enumerate(rows)])

    there, here = answers([0.95, 0.9, 0.85, 0.8]), answers([0.85, 0.77, 0.71, 0.65])
    truth = torch.tensor([[0.95, 0.9, 0.85, 0.8], [0.85, 0.77, 0.71, 0.65]]).double()
    assert (on_the_line(there, labels, there) - truth[0]).abs().max() < 0.01
    found = on_the_line(there, labels, here)
    assert (found < truth[0] - 0.05).all()
    assert (found - truth[1]).abs().max() < 0.08
    logits = (2.0 + 4.0 * torch.rand(len(labels), 1, generator=random)) * torch.eye(10)[there[0]]
    told = by_confidence(logits, labels, logits)
    assert all(abs(value - 0.95) < 0.03 for value in told.values()), told


def test_students_with_more_room_answer_as_before_and_mixed_images_are_the_same_again(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "recipes")
    import pool_tries
    from safetensors.torch import load_file

    images, u = torch.rand(8, 1, 32, 32), torch.rand(8, pool_tries.mixed.draws)
    for name in pool_tries.WIDER:
        weights = ROOT / "recipes" / "mid_zoo" / f"{name[:5]}.safetensors"
        old = pool_tries.build(name[:5], 100).eval()
        old.load_state_dict(load_file(weights))
        wider = pool_tries.widen(name, weights).eval()
        assert sum(p.numel() for p in wider.parameters()) > sum(p.numel() for p in old.parameters())
        assert torch.allclose(wider(images), old(images), atol=1e-5)
        wider(images).sum().backward()
        assert all(p.grad is not None for p in wider.parameters()), "what is new learns"
    np.savez(tmp_path / "pool.npz", x_train=np.full((3, 32, 32), 255, np.uint8))
    monkeypatch.setattr(pool_tries, "POOL", tmp_path / "pool.npz")
    pool_tries.bank.cache_clear()
    u[:, 7] = torch.linspace(0, 1, 8)
    mixed = pool_tries.mixed(images, u)
    assert torch.equal(mixed[0], small_warp(images, u, 0.5)[0]), "no weight, no other image"
    assert (mixed[7] >= 0.5).all() and torch.equal(mixed[3:4], pool_tries.mixed(images[3:4], u[3:4]))
    pool_tries.bank.cache_clear()


def test_fonts_of_the_glyphs_are_left_out_of_the_pool_and_foreign_letters_are_drawn(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "recipes")
    import matplotlib
    from dirty_pools import draw_foreign
    from glyph_pool import SAME_DESIGN, draw_faces, nearest_designs

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    families, left_out = draw_faces(folder)
    assert not families and left_out["family with a name of the glyphs"] > 0, "DejaVu is one of theirs"
    monkeypatch.setattr("glyph_pool.read_superfamilies", lambda: ({}, {}))
    faces = [face for members in draw_faces(folder)[0].values() for face in members]
    near = {face.family: found for face, found in zip(faces, nearest_designs(faces), strict=True)}
    assert near["DejaVu Sans"][1] == "DejaVu" and near["DejaVu Sans"][0] < SAME_DESIGN, "it is found by its outline too"
    letters = draw_foreign(folder / "DejaVuSans.ttf")
    assert letters.shape[1:] == (32, 32) and len(letters) > 40


def test_the_plans_of_published_models_can_be_read(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "recipes")
    monkeypatch.chdir(ROOT)
    from published_models import PARTS, plans

    parts = plans(Path("types"), Path("languages"), Path("pages"))
    assert list(parts) == PARTS
    for name, content in parts.items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(content))
        plan = read_plan(tmp_path / f"{name}.yaml")
        assert plan.pools and plan.jobs()


def test_a_part_of_published_models_keeps_the_methods_that_are_asked_for(monkeypatch, capsys):
    monkeypatch.syspath_prepend(ROOT / "recipes")
    import argparse

    from published_models import chosen_methods, plans

    plan = plans(Path("types"), Path("languages"), Path("pages"))["languages-lid176"]
    assert chosen_methods(argparse.ArgumentParser(), plan, None) == plan
    kept = chosen_methods(argparse.ArgumentParser(), plan, ["seen", "learned"])
    assert [method["name"] for method in kept["methods"]] == ["seen", "learned"] and kept["pairs"] == plan["pairs"]
    with pytest.raises(SystemExit):
        chosen_methods(argparse.ArgumentParser(), plan, ["heard"])
    assert "no method 'heard' in this part; expected learned, most confident" in capsys.readouterr().err


def test_the_road_ends_with_what_all_labels_would_have_told(task, tmp_path, monkeypatch):
    """Every changed answer is asked about, so the person's estimate is the truth."""
    monkeypatch.syspath_prepend(ROOT / "recipes")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    import published_road

    with np.load(task.folder / "digits.npz") as arrays:
        np.savez(tmp_path / "pool.npz", x=arrays["x_train"][600:])
    plan = {
        "data": f"{task.data}?train_samples=300",
        "pools": [f"npz:{tmp_path / 'pool.npz'}"],
        "pairs": [[task.student, task.teacher]],
        "settings": {"optim.steps": 30, "optim.lr": 0.01, "views.count": 1},
    }
    said = dict(published_road.walk(plan, tmp_path / "road"))
    assert list(said) == [
        *("scout", "transfer", "gate", "verify", "all labels of test"),
        *("export --to torch", "export --to onnx", "report"),
    ]
    counted = re.fullmatch(
        r"(\w+): (\S+) \(95%: \S+ to \S+\) by (\d+) labels for (\d+) changed answers", said["verify"]
    )
    assert counted and counted[3] == counted[4] and counted[2] == said["all labels of test"] != "+0.00"
    assert "model.pt2" in said["export --to torch"] and Path(said["report"]).is_file()
    hidden = crossteach.load_data(f"npz:{tmp_path / 'road' / 'digits.npz'}")
    assert hidden.test.labels is None and hidden.selection.labels is not None


def test_the_best_ensemble_is_chosen_on_selection_and_measured_on_test(task, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "recipes")
    monkeypatch.setenv("CROSSTEACH_STORE", str(tmp_path / "store"))
    from best_ensemble import add_best

    from crossteach.functional import fit_temperature

    data = crossteach.load_data(task.data)
    models = [crossteach.load_model(spec, like=data) for spec in (task.student, task.teacher)]
    selected, tested = ([crossteach.predict(model, split) for model in models] for split in (data.selection, data.test))
    labels = tested[0].labels
    heats = [fit_temperature(said.logits, said.labels) for said in selected]
    mean = sum(said.logits.softmax(1) for said in tested)
    calibrated = sum((said.logits / heat).softmax(1) for said, heat in zip(tested, heats, strict=True))
    right, right_calibrated = (100 * (probs.argmax(1) == labels).double().mean().item() for probs in (mean, calibrated))
    row = {"part": "digits", "student": task.student, "student_name": "s", "teachers": [task.teacher]}
    row |= {"teacher_name": "t", "accuracy_before": tested[0].accuracy, "ensemble_accuracy": right}
    rows, plans = [{**row}, {**row}], {"digits": {"data": task.data, "pools": []}}
    add_best(rows, plans)
    assert rows[0] == rows[1] and rows[0]["calibrated_accuracy"] == pytest.approx(right_calibrated)
    assert rows[0]["best_ensemble"] != "student" and rows[0]["best_accuracy"] > tested[0].accuracy
    with pytest.raises(SystemExit, match="other data"):
        add_best([{**row, "accuracy_before": 1.0}], plans)


def test_a_table_of_texts_loses_the_labels_of_its_test_rows_alone(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "recipes")
    import pandas as pd
    from published_road import known_answers, without_test_labels

    rows = [(f"{split} {k}", "ab"[k % 2], split) for split in ("train", "selection", "test") for k in range(8)]
    pd.DataFrame(rows, columns=["text", "label", "split"]).to_parquet(tmp_path / "texts.parquet")
    (tmp_path / "road").mkdir()
    spec = f"csv:{tmp_path}/texts.parquet?text=text"
    hidden = crossteach.load_data(without_test_labels(spec, tmp_path / "road"))
    assert hidden.test.labels is None and len(hidden.train.labels) == 8 and hidden.selection.labels is not None
    assert set(known_answers(spec)) == set(hidden.test.ids.tolist())
    assert sorted(known_answers(spec).values()) == ["a"] * 4 + ["b"] * 4


def test_the_model_of_letters_learns_and_is_opened_by_its_spec(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "recipes")
    import text

    import crossteach

    module = text.letters()
    words = [f"{stem}{number}" for number in range(64) for stem in ("der Baum ", "the tree ")]
    labels = [number % 2 for number in range(128)]
    text.train(module, (words, labels, words), 0.05, 3)
    save_file(module.state_dict(), tmp_path / "letters.safetensors")
    opened = crossteach.load_model(f"py:{ROOT / 'recipes' / 'text.py'}:letters@{tmp_path / 'letters.safetensors'}")
    data = crossteach.from_texts((words, labels), (words, labels), selection_from="test", duplicates="keep")
    scored = crossteach.predict(opened, data.test).logits
    assert opened.classes == text.LANGUAGES and (scored.argmax(1).numpy() == data.test.labels).all()
