import json
import time
from dataclasses import dataclass, field, replace

import digits
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import crossteach
from crossteach.answers.prediction import images_per_second, predict, stored_blocks
from crossteach.cli import main
from crossteach.data.cut import tune_and_gate
from crossteach.errors import ConfigError, DataError, LabelSpaceError, RunFolderError
from crossteach.models import random_copy
from crossteach.scouting import folder as scout_folder
from crossteach.scouting import scout as scouting
from crossteach.scouting.folder import open_scout
from crossteach.types import Classifier, Preprocess


@dataclass
class Box:
    """A classifier that only answers, as slowly as asked."""

    model: Classifier
    seconds: float
    spec: str
    name: str
    preprocess: Preprocess
    n_classes: int
    classes: None = None
    n_parameters: int = 0
    family: str = "other"
    fingerprint: str = "box"
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    asked: list[int] = field(default_factory=list)

    @classmethod
    def around(cls, model, seconds=0.0):
        return cls(model, seconds, model.spec, model.name, model.preprocess, model.n_classes)

    def logits(self, images):
        self.asked.append(len(images))
        time.sleep(self.seconds)
        return self.model.logits(images)


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> digits.Digits:
    return digits.make(tmp_path_factory.mktemp("digits"))


@pytest.fixture(scope="module")
def models(task):
    return [crossteach.load_model(task.model(name)) for name in ("convolutional", "dense", "linear")]


@pytest.fixture(scope="module")
def data(task):
    return crossteach.load_data(task.data)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return crossteach.Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def found(models, data, store):
    return crossteach.scout(models, data, store, embeddings="none", controls=True).summary


def test_each_model_is_described(found, models, data):
    for model, row in zip(models, found["models"], strict=True):
        answered = predict(model, data.test)
        assert row["accuracy"] == pytest.approx(answered.accuracy)
        assert row["accuracy_top5"] is None  # ten classes
        assert row["params"] == model.n_parameters
        assert row["temperature"] > 0
        assert 0 <= row["ece_calibrated"] <= 1
        assert row["images_per_second"] > 100
    assert (found["n_test"], found["n_selection"], found["n_transfer"]) == (447, 450, 900)


def test_every_ordered_pair_is_described(found, models, data):
    logits = [predict(model, data.test).logits for model in models]
    labels = torch.from_numpy(data.test.labels)
    assert len(found["pairs"]) == 6
    for pair in found["pairs"]:
        s, t = ([m["name"] for m in found["models"]].index(pair[who]) for who in ("student", "teacher"))
        assert pair["positive_flips_percent"] == pytest.approx(found["positive_flips"][s][t])
        assert pair["negative_flips_percent"] == pytest.approx(found["positive_flips"][t][s])
        probs = [logits[k].softmax(1) for k in (s, t)]
        right = ((probs[0] + probs[1]).argmax(1) == labels).double().mean().item()
        assert pair["ceilings"]["mean_probability"] == pytest.approx(100 * right)
        surer = torch.where((probs[1].amax(1) > probs[0].amax(1))[:, None], probs[1], probs[0])
        assert pair["ceilings"]["most_confident"] == pytest.approx(100 * (surer.argmax(1) == labels).double().mean())
    mean = sum(z.softmax(1) for z in logits).argmax(1)
    assert found["ceilings"]["mean_probability"] == pytest.approx(100 * (mean == labels).double().mean().item())
    any_right = torch.stack([z.argmax(1) == labels for z in logits]).any(0)
    assert found["ceilings"]["oracle"] == pytest.approx(100 * any_right.double().mean().item())


def test_teachers_are_ranked_on_selection_alone(found, models, data, store):
    """Other labels on the test split change what is reported of it, and not the ranking."""
    wrong = replace(data, test=replace(data.test, labels=(data.test.labels + 1) % 10))
    other = crossteach.scout(models, wrong, store, embeddings="none", ensembles=False).summary
    assert other["ranking"] == found["ranking"]
    assert other["models"][0]["temperature"] == found["models"][0]["temperature"]
    assert other["positive_flips"] != found["positive_flips"]
    assert other["pairs"][0]["ceilings"]["mean_probability"] is None
    for row in found["ranking"]:
        gains = [teacher["predicted_gain"] for teacher in row["teachers"]]
        assert gains == sorted(gains, reverse=True) and len(gains) == 2
    predicted = {(r["student"], t["teacher"]): t["predicted_gain"] for r in found["ranking"] for t in r["teachers"]}
    assert predicted == {(p["student"], p["teacher"]): p["predicted_gain"] for p in found["pairs"]}


def test_what_only_the_gate_reads_ranks_no_teacher(models, data, store):
    """A transfer's gate tests the student of a chosen teacher: on samples that did not choose it."""
    selection = replace(data.selection, group=np.arange(len(data.selection)) // 9)
    _, gate = tune_and_gate(selection)
    labels = selection.labels.copy()
    held = np.isin(selection.ids, gate.ids)
    labels[held] = (labels[held] + 1) % 10
    ranked = [
        crossteach.scout(models, replace(data, selection=part), store, embeddings="none", ensembles=False).summary
        for part in (selection, replace(selection, labels=labels))
    ]
    assert ranked[0]["ranking"] == ranked[1]["ranking"]
    assert [m["temperature"] for m in ranked[0]["models"]] == [m["temperature"] for m in ranked[1]["models"]]


def test_controls_know_what_chance_knows(found, models):
    assert [c["of"] for c in found["controls"]] == [m.name for m in models]
    for control in found["controls"]:
        assert control["accuracy"] < 35  # ten classes
        assert all(0 <= flips < control["accuracy"] for flips in control["positive_flips"].values())
    copy = random_copy(models[0])
    again = random_copy(models[0])
    assert copy.fingerprint == again.fingerprint != models[0].fingerprint
    for drawn, learnt in zip(copy.module.parameters(), models[0].module.parameters(), strict=True):
        assert drawn.ndim == 1 or not torch.isclose(drawn, learnt).all()


def test_a_black_box_has_no_random_copy(models):
    assert random_copy(Box.around(models[0])) is None


def test_models_of_one_name_are_told_apart():
    assert scouting.unique_names(["a", "b", "a", "a"]) == ["a", "b", "a#2", "a#3"]


def test_selection_without_labels_ranks_nobody(task, models, store):
    unlabelled = crossteach.load_data(task.unlabelled)
    found = crossteach.scout(models[:2], unlabelled, store, embeddings="none").summary
    assert found["ranking"] is None
    assert found["pairs"][0]["predicted_gain"] is None
    assert found["pairs"][0]["partition"]["supervised"] is None
    assert found["pairs"][0]["partition"]["calibrated"] is None
    assert 0 < found["pairs"][0]["partition"]["unsupervised"]["teacher_share"] < 100
    assert found["models"][0]["temperature"] is None
    assert any("no labels" in note for note in found["notes"])


def test_a_large_transfer_set_is_drawn_from(models, data, store, monkeypatch):
    monkeypatch.setattr(scouting, "MOST_TRANSFER_SAMPLES", 200)
    found = crossteach.scout(models[:2], data, store, embeddings="none").summary
    assert found["n_transfer"] == 200
    assert "partitions are tried on 200 of 900 transfer samples" in found["notes"]


def test_blocks_hold_what_was_stored(models, data, store):
    whole = torch.stack([predict(model, data.test, store).logits for model in models])
    blocks = list(stored_blocks(models, data.test, store))
    assert torch.equal(torch.cat([logits for logits, _ in blocks], 1), whole)
    assert torch.cat([labels for _, labels in blocks]).tolist() == data.test.labels.tolist()


def test_a_slow_model_is_timed_on_few_images(models, data):
    slow = Box.around(models[0], seconds=0.3)
    rate = images_per_second(slow, data.test)
    assert slow.asked == [8]
    assert 8 / 0.6 < rate < 8 / 0.3


def test_a_folder_holds_flips_by_class_and_pictures(models, data, store, tmp_path, monkeypatch):
    found = open_scout(models, data, tmp_path / "s", store, embeddings="none")
    rows = pq.read_table(tmp_path / "s" / "classes.parquet").to_pylist()
    for index, pair in enumerate(found["pairs"]):
        s, t = divmod(index, 2)
        t += t >= s
        mine = [r for r in rows if (r["student"], r["teacher"]) == (s, t)]
        assert sum(r["positive"] for r in mine) == pair["positive_flips"]
        assert sum(r["negative"] for r in mine) == pair["negative_flips"]
        assert [r["class"] for r in mine] == sorted({r["class"] for r in mine})
    shown = json.loads((tmp_path / "s" / "pictures.json").read_text())
    assert len(shown) == 6
    for pair in shown:
        assert 0 < len(pair["samples"]) <= 12
        for sample in pair["samples"]:
            assert sample["teacher_says"] == sample["label"] != sample["student_says"]
            assert str(data.test.labels[sample["sample"]]) == sample["label"]
            assert (tmp_path / "s" / sample["file"]).is_file()
    monkeypatch.setattr(scouting, "predict", None)  # a whole folder is read, and nobody asked again
    assert open_scout(models, data, tmp_path / "s", store, embeddings="none") == found
    with pytest.raises(RunFolderError, match="another configuration"):
        open_scout(models, data, tmp_path / "s", store, embeddings="none", controls=True)


def test_pictures_stay_few(models, data, store, tmp_path, monkeypatch):
    monkeypatch.setattr(scout_folder, "MOST_PICTURES", 15)
    found = open_scout(models, data, tmp_path / "s", store, embeddings="none")
    shown = json.loads((tmp_path / "s" / "pictures.json").read_text())
    assert 1 <= len(shown) < 6
    assert (shown[0]["student"], shown[0]["teacher"]) == (
        found["ranking"][0]["student"],
        found["ranking"][0]["teachers"][0]["teacher"],
    )
    assert len(list((tmp_path / "s" / "pictures").iterdir())) <= 15


def test_closeness_is_measured_once(models, data, store, tmp_path, monkeypatch):
    np.save(tmp_path / "e.npy", np.random.default_rng(0).standard_normal((10, 3)))
    source = str(tmp_path / "e.npy")
    first = crossteach.scout(models[:2], data, store, embeddings=source, ensembles=False).summary
    assert first["semantics"]["missing"] == "" and first["semantics"]["source"]
    assert first["pairs"][0]["similarity"]["100"]["p_value"] > 0
    monkeypatch.setattr(scouting, "class_similarity", None)
    again = crossteach.scout(models[:2], data, store, embeddings=source, ensembles=False).summary
    assert again["pairs"] == first["pairs"]


def test_wrong_models_are_one_clear_line(models, data, task, store, tmp_path):
    with pytest.raises(ConfigError, match="at least two, not 1"):
        crossteach.scout(models[:1], data, store)
    with pytest.raises(ConfigError, match="is the same model as"):
        crossteach.scout([models[0], models[1], models[0].clone()], data, store)
    nine = crossteach.load_model(f"py:{digits.SOURCE}:dense?pretrained=false&channels=1&size=8&num_classes=9")
    with pytest.raises(LabelSpaceError, match=r"scores 9 classes but .* has 10"):
        crossteach.scout([models[0], nine], data, store)
    with pytest.raises(ConfigError):
        crossteach.scout(models, data, store, embeddings="nowhere.npy")
    np.save(tmp_path / "short.npy", np.ones((9, 3)))
    with pytest.raises(DataError, match="9"):
        crossteach.scout(models, data, store, embeddings=str(tmp_path / "short.npy"))
    assert not list(tmp_path.glob("s*/"))


def test_answers_to_other_samples_are_not_compared(models, data, store):
    ours = crossteach.scout(models[:2], data, store, embeddings="none").answers
    backwards = replace(data, test=data.test.take(np.arange(len(data.test))[::-1].copy()))
    theirs = crossteach.scout(models[:2], backwards, store, embeddings="none").answers
    mixed = replace(ours, test=(ours.test[0], theirs.test[1]))
    with pytest.raises(DataError, match="the same in another order"):
        scouting.compare(mixed, data.classes, scouting.class_similarity(data.classes, "none"))


def test_the_command_line_takes_it_all(task, tmp_path, capsys):
    arguments = ["scout", task.student, task.teacher, "--data", task.data, "--out", str(tmp_path / "s")]
    with pytest.raises(SystemExit) as end:
        main([*arguments, "--controls", "--embeddings", "none", "--no-ensembles", "--quiet"])
    assert not end.value.code
    told = capsys.readouterr().out
    assert "Which teacher first" in told and "not measured" in told
    kept = json.loads((tmp_path / "s" / "scout.json").read_text())
    assert len(kept["controls"]) == 2
    assert kept["semantics"]["missing"]
