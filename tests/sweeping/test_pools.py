"""Pools in a plan: their tutors answer once before the students learn, and controls may leave them out."""

import json

import digits
import numpy as np
import pyarrow.parquet as pq
import pytest

from crossteach import Store
from crossteach.errors import ConfigError, MissingLabelsError
from crossteach.sweeping import plan_cost, sweep
from crossteach.sweeping.plan import read_plan

EPOCH = {"optim.epochs": 1, "optim.lr": 0.01, "optim.batch_size": 32, "views.count": 2}


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    made = digits.make(tmp_path_factory.mktemp("digits"))
    arrays = dict(np.load(made.folder / "digits.npz"))
    np.savez(made.folder / "pool.npz", x=arrays["x_train"][300:])
    few = {key: arrays[key][:300] for key in ("x_train", "y_train")}
    np.savez(made.folder / "few.npz", **{**arrays, **few})
    return made


def plan(path, task, methods, **more):
    content = {
        "data": f"npz:{task.folder / 'few.npz'}",
        "pools": [f"npz:{task.folder / 'pool.npz'}"],
        "pairs": [[task.student, task.teacher]],
        "methods": methods,
        "settings": EPOCH,
        **more,
    }
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
    return path


CONTROL = {"method": "xe", "name": "xe, seen", "settings": {"pool.share": 0, "optim.steps": 25}}


def test_a_sweep_teaches_on_pools_and_asks_tutors_once(task, tmp_path):
    path, store = plan(tmp_path / "plan.yaml", task, [CONTROL, "kl+dp-learned", "kl"]), Store(tmp_path / "store")
    expected = plan_cost(path, tmp_path / "out", store)
    rows = 300, len(np.load(task.folder / "pool.npz")["x"])
    steps = -(-rows[0] // 8)  # of a batch of 32 the pool has 24, and train takes the most batches
    assert steps > -(-rows[1] // 24)
    assert expected["cost"]["views"] == 2 * (rows[0] + 2 * rows[1]), (
        "one pass of train and two of the pool, of each tutor"
    )
    found = sweep(path, tmp_path / "out", store)
    assert (found["done"], found["failed"]) == (3, [])
    table = {row["method"]: row for row in pq.read_table(tmp_path / "out" / "results.parquet").to_pylist()}
    folder = lambda method: tmp_path / "out" / "jobs" / table[method]["job"]  # noqa: E731
    summaries = {method: json.loads((folder(method) / "summary.json").read_text()) for method in table}
    pool = summaries["kl"]["pool"]
    assert pool["used"] + sum(pool["dropped"].values()) == rows[1] and summaries["kl"]["training"]["steps"] == steps
    assert summaries["xe, seen"]["pool"]["dropped"] == {"left out by pool.share=0": rows[1]}
    assert summaries["xe, seen"]["pool"]["taught"] == {"label": 0} and summaries["xe, seen"]["training"]["steps"] == 25
    assert plan_cost(path, tmp_path / "out", store)["cost"]["views"] == 0


def test_a_pool_makes_other_jobs(task, tmp_path):
    with_pool, without = (plan(tmp_path / f"{k}.yaml", task, ["kl"], pools=p) for k, p in (("a", []), ("b", None)))
    names = [{job["job"] for job in plan_cost(p, tmp_path / p.stem)["jobs"]} for p in (with_pool, without)]
    assert names[0] == names[1]
    pooled = plan_cost(plan(tmp_path / "c.yaml", task, ["kl"]), tmp_path / "c")["jobs"]
    assert {job["job"] for job in pooled}.isdisjoint(names[0])


def test_wrong_pools_are_refused_before_anything_runs(task, tmp_path):
    with pytest.raises(ConfigError, match="'pools' must be a list of specs"):
        read_plan(plan(tmp_path / "plan.yaml", task, ["kl"], pools=[3]))
    with pytest.raises(ConfigError, match=r"set pool\.share=0"):
        plan_cost(plan(tmp_path / "plan.yaml", task, ["xe"]), tmp_path / "out")
    with pytest.raises(MissingLabelsError, match="so nothing can be measured"):
        plan_cost(plan(tmp_path / "plan.yaml", task, ["kl"], data=None), tmp_path / "out")
