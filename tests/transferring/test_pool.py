"""Pools in a transfer: they teach beside train or alone, resume bit for bit, and their summary adds up."""

import json
from pathlib import Path

import digits
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from commands import call

import crossteach as package
from crossteach import Store, TransferConfig, load_data, load_model, pool_from, transfer, with_settings
from crossteach.errors import ConfigError, MissingLabelsError

QUICK = ["optim.epochs=2", "optim.lr=0.01", "optim.batch_size=32", "views.count=2"]


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return digits.make(tmp_path_factory.mktemp("digits"))


@pytest.fixture(scope="module")
def few(task):
    """100 labelled digits teach, the 800 others are a pool."""
    arrays = dict(np.load(task.folder / "digits.npz"))
    np.savez(task.folder / "pool.npz", x=arrays["x_train"][100:])
    arrays["x_train"], arrays["y_train"] = arrays["x_train"][:100], arrays["y_train"][:100]
    np.savez(task.folder / "few.npz", **arrays)
    return f"npz:{task.folder / 'few.npz'}", f"npz:{task.folder / 'pool.npz'}"


def run(task, few, out, *settings, pools=None, data=None, **given):
    models = load_model(task.student), [load_model(task.teacher)]
    opened = load_data(few[0]) if data is None else data
    config = with_settings(TransferConfig(), [*QUICK, *settings])
    return transfer(*models, opened, out, config, pools=[few[1]] if pools is None else pools, **given)


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_a_pool_teaches_and_the_summary_says_what_became_of_it(task, few, tmp_path):
    s = run(task, few, tmp_path / "run", "method=kl+dp-unsupervised").summary
    pool = s["pool"]
    assert (pool["samples"], pool["used"] + sum(pool["dropped"].values())) == (800, 800)
    assert not pool["dropped"], "a pool like the selection split holds no strangers"
    assert pool["sources"] == [{"spec": few[1], "samples": 800, "used": pool["used"], "dropped": pool["dropped"]}]
    steps = s["training"]["steps"]
    assert steps == 2 * -(-pool["used"] // 24), (
        "an epoch is one pass through the larger source; 24 of 32 are of the pool"
    )
    assert sum(pool["taught"].values()) == pytest.approx(2 * pool["used"])
    assert s["training"]["taught"]["label"] == 0 and s["gate"]["verdict"] in ("accepted", "kept_original")
    json.dumps(s, allow_nan=False)


def test_labelled_samples_follow_the_labels_and_the_pool_does_not(task, few, tmp_path):
    s = run(task, few, tmp_path / "run", "method=self+labels").summary
    assert s["pool"]["taught"] == {"frozen student": 2 * s["pool"]["used"], "label": 0}
    assert s["training"]["taught"]["label"] > 0


@pytest.mark.parametrize(
    "method", ["xe+dp-learned", "kl+dp-learned", "kl+dp", "kl+dp-soft", "kl+dp-calibrated", "kl+ensemble"]
)
def test_stored_and_live_tutors_teach_the_same_bits(task, few, tmp_path, method):
    ended = [
        run(task, few, tmp_path / live, f"method={method}", f"views.live={live}", store=Store(tmp_path / f"s{live}"))
        for live in ("true", "false")
    ]
    assert same(*(result.student.module for result in ended))
    assert ended[0].summary["pool"] == ended[1].summary["pool"]


class StopHereError(Exception):
    pass


@pytest.mark.parametrize("method", ["xe+dp-learned", "kl+dp-calibrated"])
def test_an_interrupted_run_resumes_to_the_same_bits(task, few, tmp_path, method):
    settings = [f"method={method}", "optim.epochs=4"]
    whole = run(task, few, tmp_path / "whole", *settings)
    an_epoch = whole.summary["training"]["steps"] // 4

    def stop(what, done, total):
        if what == "training" and done > 2 * an_epoch:
            raise StopHereError

    with pytest.raises(StopHereError):
        run(task, few, tmp_path / "cut", *settings, progress=stop)
    resumed = run(task, few, tmp_path / "cut", *settings)
    assert same(whole.student.module, resumed.student.module)
    assert whole.summary["pool"] == resumed.summary["pool"]
    assert whole.summary["training"]["taught"] == resumed.summary["training"]["taught"]


def test_a_set_number_of_steps_ends_there(task, few, tmp_path):
    s = run(task, few, tmp_path / "run", "optim.steps=45", "method=kl").summary
    assert s["training"]["steps"] == 45
    assert sum(s["training"]["taught"].values()) < 45 * 32 + 1


def test_several_teachers_one_after_the_other_pass_through_the_pool(task, few, tmp_path):
    student, teachers = load_model(task.student), [load_model(task.teacher), load_model(task.model("linear"))]
    for order in ("sequential", "soup"):
        config = with_settings(TransferConfig(), [*QUICK, f"curriculum.order={order}", "method=kl+dp-unsupervised"])
        s = transfer(student, teachers, load_data(few[0]), tmp_path / order, config, pools=[few[1]]).summary
        lessons = [json.loads(path.read_text())["pool"] for path in (tmp_path / order).glob("lesson-*/summary.json")]
        assert sum(s["pool"]["taught"].values()) == pytest.approx(2 * sum(lesson["used"] for lesson in lessons))
        assert s["pool"]["used"] == max(lesson["used"] for lesson in lessons)


def test_statistics_of_batch_norm_are_estimated_on_all_sources(task, few, tmp_path):
    s = run(task, few, tmp_path / "run", "optim.train_statistics=true", "gate.max_loss=100").summary
    assert s["gate"]["path"]


def test_a_pool_of_another_size_teaches_too(task, few, tmp_path):
    large = np.random.default_rng(0).integers(0, 256, (60, 12, 12), np.uint8)
    assert run(task, few, tmp_path / "run", pools=[pool_from(large, "large")]).summary["pool"]["used"] == 60


def test_a_pool_alone_teaches_and_nothing_is_verified(task, few, tmp_path):
    result = transfer(
        load_model(task.student), [load_model(task.teacher)], None, tmp_path / "run",
        with_settings(TransferConfig(), QUICK), pools=[few[1]],
    )  # fmt: skip
    s = result.summary
    assert (s["gate"]["verdict"], s["method"], s["accuracy_before"], s["transfer_delta"]) == (
        *("unverified", "kl+dp-unsupervised"),
        *(None, None),
    )
    ledger = pq.read_table(tmp_path / "run" / "samples.parquet")
    assert "label" not in ledger.column_names and s["n_test"] == len(ledger)
    differs = np.array(ledger["pred_before"]) != np.array(ledger["pred_after"])
    assert s["changed"] == pytest.approx(100 * differs.mean())
    assert not same(result.student.module, load_model(task.student).module)
    shown = json.loads((tmp_path / "run" / "pictures.json").read_text())
    assert len(shown["changed"]) == min(12, int(differs.sum()))


def test_the_labels_may_cover_a_part_of_the_classes(task, few, tmp_path):
    arrays = dict(np.load(task.folder / "few.npz"))
    for part in ("train", "val", "test"):
        some = arrays[f"y_{part}"] < 4
        arrays[f"x_{part}"], arrays[f"y_{part}"] = arrays[f"x_{part}"][some], arrays[f"y_{part}"][some]
    del arrays["class_names"]
    np.savez(tmp_path / "part.npz", **arrays)
    result = run(task, few, tmp_path / "run", data=load_data(f"npz:{tmp_path / 'part.npz'}"))
    assert any("labels 4 of the models' 10 classes" in note for note in result.notes)
    assert any("6 of 10 classes have no sample on the gate part" in note for note in result.notes)


@pytest.mark.parametrize(
    ("settings", "error", "told"),
    [
        (["method=xe"], ConfigError, "learns from labels, and the samples of a pool have none"),
        (["method=cd"], ConfigError, "learns from labels, and the samples of a pool have none"),
        (["pool.share=2"], ConfigError, r"pool.share must lie in \[0, 1\]"),
        (["pool.views=0"], ConfigError, "pool.views must be at least 1"),
        (["optim.steps=0"], ConfigError, "optim.steps must be at least 1"),
    ],
)
def test_wrong_settings_are_refused_in_one_line(task, few, tmp_path, settings, error, told):
    with pytest.raises(error, match=told):
        run(task, few, tmp_path / "run", *settings)


def test_a_method_that_needs_labels_is_refused_where_there_is_only_a_pool(task, few, tmp_path):
    models = load_model(task.student), [load_model(task.teacher)]
    for method, told in (("kl+dp", "needs labels on the transfer set"), ("kl+dp-learned", "labelled samples or more")):
        config = with_settings(TransferConfig(), [*QUICK, f"method={method}"])
        with pytest.raises(MissingLabelsError, match=told):
            transfer(*models, None, tmp_path / "run", config, pools=[few[1]])


def test_the_command_takes_pools_with_data_and_without(task, few, tmp_path, capsys):
    asked = ["transfer", "--student", task.student, "--teacher", task.teacher, "--pool", few[1], "--quiet"]
    asked += [word for setting in QUICK for word in ("--set", setting)]
    code, out, _ = call(capsys, *asked, "--json", "--data", few[0], "--out", tmp_path / "with")
    assert code == 0 and json.loads(out)["pool"]["samples"] == 800
    code, out, _ = call(capsys, *asked, "--out", tmp_path / "alone")
    assert code == 0 and "answers changed" in out and "Nothing could be verified" in out
    for folder, told in (("with", "none was left out"), ("alone", "No test sample has a label")):
        code, out, err = call(capsys, "report", tmp_path / folder)
        assert code == 0, err
        page = Path(out.strip()).read_text()
        assert told in page and "Who taught on the pool" in page and few[1] in page
    code, _, err = call(capsys, "transfer", "--student", task.student, "--out", tmp_path / "none")
    assert code == 1 and "neither data nor a pool is given" in err


def test_the_public_names_are_there():
    assert package.pool_from is pool_from and package.PoolConfig().share == 0.75


def test_what_is_foreign_is_left_out_counted_and_shown(task, few, tmp_path):
    digits_left = np.load(task.folder / "pool.npz")["x"]
    noise = np.random.default_rng(0).integers(0, 256, digits_left.shape, np.uint8)
    half = pool_from(np.concatenate([digits_left, noise]), "half")
    found = {
        share: run(task, few, tmp_path / str(share), f"pool.drop_below={share}", "method=kl+dp-soft", pools=[half])
        for share in (0.1, 0)
    }
    pool, whole = (result.summary["pool"] for result in found.values())
    reason = "of which the tutors are less sure than of the selection split"
    assert whole["used"] == 1600 and reason not in whole["dropped"]
    assert pool["dropped"][reason] == 1600 - pool["used"] and pool["sources"][0]["used"] == pool["used"]
    assert sum(pool["taught"].values()) == pytest.approx(2 * pool["used"])
    shown = json.loads((tmp_path / "0.1" / "pictures.json").read_text())["left_out"]
    assert len(shown) == 12 and all((tmp_path / "0.1" / entry["file"]).is_file() for entry in shown)
    assert [e["confidence"] for e in shown] == sorted(e["confidence"] for e in shown)
    assert sum(entry["sample"] >= 800 for entry in shown) >= 10, "the strangest are noise"
    kept = pool["used"]
    settings = ["views.live=true", "method=kl+dp-soft", "pool.drop_below=0.1"]
    live = run(task, few, tmp_path / "live", *settings, pools=[half]).summary["pool"]
    assert live["used"] == kept


def test_single_samples_of_train_may_have_no_label(task, few, tmp_path):
    arrays = dict(np.load(task.folder / "few.npz"))
    arrays["y_train"][::2] = -100
    np.savez(tmp_path / "half.npz", **arrays)
    data = load_data(f"npz:{tmp_path / 'half.npz'}")
    for method in ("xe+dp", "xe"):
        s = run(task, few, tmp_path / method, f"method={method}", data=data, pools=[]).summary
        assert s["pool"] is None and s["training"]["taught"]["label"] == (0 if method == "xe+dp" else 2 * 50)
        assert sum(s["training"]["taught"].values()) == (2 * 100 if method == "xe+dp" else 2 * 50)


def test_where_the_pool_fills_the_batch_no_label_is_read(task, few, tmp_path):
    """auto then is the default without labels, and a method that reads labels is refused."""
    found = run(task, few, tmp_path / "run", "pool.share=1").summary
    assert found["method"] == "kl+dp-learned" and found["training"]["taught"]["label"] == 0
    with pytest.raises(MissingLabelsError, match=r"needs labels, but with pool.share=1 only pools teach"):
        run(task, few, tmp_path / "other", "pool.share=1", "method=xe+dp")
