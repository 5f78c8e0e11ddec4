"""One lesson on small real models: what is asked, what is noted, and what survives an interruption."""

import json

import digits
import numpy as np
import pytest
import torch

import crossteach
from crossteach import Store, TransferConfig, load_data, load_model, transfer, with_settings
from crossteach.answers import tutors
from crossteach.errors import FolderInUseError
from crossteach.files import holding
from crossteach.transferring import lesson

QUICK = ["optim.epochs=2", "optim.lr=0.01", "optim.batch_size=64", "views.count=4"]


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> digits.Digits:
    return digits.make(tmp_path_factory.mktemp("digits"))


def run(task, out, *settings, store, data=None, teachers=None, **more):
    config = with_settings(TransferConfig(), [*QUICK, *settings])
    teachers = [load_model(task.teacher)] if teachers is None else teachers
    return transfer(load_model(task.student), teachers, load_data(data or task.data), out, config, store, **more)


def tables(store: Store, kind: str) -> list[dict[str, object]]:
    found = [json.loads(path.read_text()) for path in store.folder.glob("*/*/manifest.json")]
    return [manifest for manifest in found if manifest["kind"] == kind]


@pytest.mark.parametrize(
    ("epochs", "first", "views"), [(1, 0, {0}), (2, 3, {0, 3}), (4, 0, {0, 1, 2, 3}), (9, 0, {0, 1, 2, 3})]
)
def test_only_views_that_an_epoch_shows_are_asked_for(task, tmp_path, epochs, first, views):
    store = Store(tmp_path / "store")
    run(task, tmp_path / "run", f"optim.epochs={epochs}", f"views.first={first}", store=store)
    assert {manifest["view"] for manifest in tables(store, "views")} == views
    assert len(tables(store, "views")) == 2 * len(views), "of the frozen student and of its teacher"


def test_answers_in_between_two_lessons_are_freed(task, tmp_path):
    store, teachers = Store(tmp_path / "store"), [load_model(task.teacher), load_model(task.model("linear"))]
    settings = ("curriculum.order=sequential", "gate.ask=false", "optim.epochs=1", "method=kl+dp")
    done = run(task, tmp_path / "run", *settings, store=store, teachers=teachers)
    assert done.summary["lessons"][0]["verdict"] == "unverified", "else the original teaches both lessons"
    kept = {load_model(spec).fingerprint for spec in (task.student, task.teacher, task.model("linear"))}
    assert {manifest["model"] for kind in ("views", "predictions") for manifest in tables(store, kind)} == kept


class StopHereError(Exception):
    pass


def test_notes_survive_a_resume(task, tmp_path, monkeypatch):
    """What was found out before training is noted once, and stays noted when the run goes on."""
    settings = ("optim.lr=none", "method=xe", "optim.epochs=3")
    with_labels = tmp_path / "labelled.npz"
    with np.load(task.folder / "digits.npz") as archive:
        np.savez(with_labels, **{key: archive[key] for key in archive.files if key != "y_val"})
    data = f"npz:{with_labels}"
    whole = run(task, tmp_path / "whole", *settings, store=Store(tmp_path / "a"), data=data, teachers=[])
    assert any("no labels to probe" in note for note in whole.notes)
    keep = lesson._checkpoint

    def stop(*arguments):
        keep(*arguments)
        raise StopHereError

    with monkeypatch.context() as patched:
        patched.setattr(lesson, "_checkpoint", stop)
        with pytest.raises(StopHereError):
            run(task, tmp_path / "cut", *settings, store=Store(tmp_path / "b"), data=data, teachers=[])
    resumed = run(task, tmp_path / "cut", *settings, store=Store(tmp_path / "b"), data=data, teachers=[])
    assert {**resumed.summary, "seconds": 0} == {**whole.summary, "seconds": 0}
    assert resumed.notes == whole.notes


def test_a_second_transfer_into_a_folder_in_use_is_one_line(task, tmp_path):
    out = tmp_path / "run"
    with holding(out), pytest.raises(FolderInUseError, match=r"run is in use by process \d+ on .*; wait for its end"):
        run(task, out, store=Store(tmp_path / "store"))
    first = run(task, out, store=Store(tmp_path / "store"))
    with holding(out):  # a whole folder is only read
        assert run(task, out, store=Store(tmp_path / "store")).summary == first.summary


def test_clamped_logits_are_noted_by_every_run_that_reads_them(task, tmp_path):
    teacher, store = load_model(task.teacher), Store(tmp_path / "store")
    with torch.no_grad():
        teacher.module[3].weight.mul_(1e5)
    first = run(task, tmp_path / "first", store=store, teachers=[teacher])
    assert any("were clamped" in note for note in first.notes)
    asked = []
    second = run(
        task, tmp_path / "second", "seed=1", store=store, teachers=[teacher], progress=lambda *a: asked.append(a[0])
    )
    assert "tutors answer" not in asked
    assert [n for n in second.notes if "clamped" in n] == [n for n in first.notes if "clamped" in n]


def test_clamped_logits_are_counted_as_a_loop_counts(task, tmp_path):
    teacher, store, data = load_model(task.teacher), Store(tmp_path), load_data(task.data)
    with torch.no_grad():
        teacher.module[3].weight.mul_(1e5)
    views = crossteach.data.views.Views(0, 2, crossteach.data.views.augmentation("warp"))
    found = tutors.fill_store([teacher], data.train, views, store)
    again = tutors.fill_store([teacher], data.train, views, store, shown=[1])
    counts = []
    for number in range(2):
        batch = views.batch(data.train, np.arange(len(data.train)), np.full(len(data.train), number))
        with torch.no_grad():
            scores = teacher.logits(batch.images(teacher.preprocess))
        counts.append(sum(float(s) - float(row.max()) <= tutors.LOWEST for row in scores for s in row))
    assert found.clamped == pytest.approx(sum(counts), abs=2)
    assert again.clamped == pytest.approx(counts[1], abs=1) and counts[1] > 0


def test_the_divergence_stop_is_off_where_a_sample_would_decide(task, tmp_path):
    """With 44 pictures and no selection split, a single picture was asked whether the student is ruined."""
    with np.load(task.folder / "digits.npz") as archive:
        few = {"x_train": archive["x_train"][:44], "x_test": archive["x_test"], "y_test": archive["y_test"]}
        np.savez(tmp_path / "few.npz", **few)
    done = run(task, tmp_path / "run", store=Store(tmp_path / "store"), data=f"npz:{tmp_path / 'few.npz'}")
    assert done.summary["gate"]["verdict"] == "unverified"
    assert any("the divergence stop is off" in note for note in done.notes)
    assert not done.summary["training"]["diverged"]
