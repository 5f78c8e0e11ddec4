import io

import numpy as np
import pyarrow.parquet as pq
import pytest

from crossteach.functional.statistics import two_way_bootstrap
from crossteach.sweeping.study import SCHEMA, describe_methods, to_parquet


def row(method: str, student: str, teacher: str | None, seed: int, delta: float, labels: bool) -> dict[str, object]:
    empty: dict[str, object] = dict.fromkeys(SCHEMA.names)
    mine = {"method": method, "base_method": method, "student": student, "teacher": teacher, "seed": seed}
    mine |= {
        "control": teacher is None,
        "reads_labels": labels,
        "verdict": "accepted" if delta > 0 else "kept_original",
    }
    for prefix in ("", "ungated_"):
        mine |= {f"{prefix}transfer_delta": delta, f"{prefix}p_value": 0.5, f"{prefix}interval_high": delta + 1}
    return {**empty, **mine}


STUDENTS = ("a", "b", "c")


def study() -> list[dict[str, object]]:
    rng = np.random.default_rng(0)
    rows = []
    for seed in (0, 1):
        for s in STUDENTS:
            rows += [row("self", s, None, seed, float(rng.normal(0, 0.1)), labels=False)]
            rows += [row("xe", s, None, seed, float(rng.normal(1, 0.1)), labels=True)]
            for t in STUDENTS:
                if s != t:
                    rows += [row("kl+dp", s, t, seed, float(rng.normal(2, 1)), labels=True)]
                    rows += [row("kl", s, t, seed, float(rng.normal(-1, 1)), labels=False)]
    return rows


def test_a_claim_is_the_paired_difference_to_the_best_control_with_the_same_labels():
    rows = study()
    described = {d["method"]: d for d in describe_methods(rows)}
    assert described["self"]["gated"]["claim"] is described["xe"]["ungated"]["claim"] is None
    assert described["kl"]["gated"]["claim"]["control"] == "self"
    claim = described["kl+dp"]["ungated"]["claim"]
    assert claim["control"] == "xe"
    expected = np.full((3, 3), np.nan)
    for i, s in enumerate(STUDENTS):
        for j, t in enumerate(STUDENTS):
            if i != j:
                pairs = [
                    r["transfer_delta"] - c["transfer_delta"]
                    for seed in (0, 1)
                    for r in rows
                    for c in rows
                    if (r["method"], r["student"], r["teacher"], r["seed"]) == ("kl+dp", s, t, seed)
                    if (c["method"], c["student"], c["seed"]) == ("xe", s, seed)
                ]
                expected[i, j] = np.mean(pairs)
    oracle = two_way_bootstrap(expected)
    assert claim["estimate"] == pytest.approx(oracle.estimate)
    assert (claim["low"], claim["high"]) == pytest.approx((oracle.low, oracle.high))


def test_each_method_is_summarised():
    described = {d["method"]: d["gated"] for d in describe_methods(study())}
    deltas = [r["transfer_delta"] for r in study() if r["method"] == "kl"]
    assert described["kl"]["runs"] == 12
    assert described["kl"]["mean_delta"] == pytest.approx(np.mean(deltas))
    assert described["kl"]["worst_delta"] == min(deltas)
    assert described["kl"]["coverage"] == pytest.approx(100 * np.mean(np.array(deltas) > 0))


def test_without_a_fitting_control_there_is_no_claim():
    rows = [r for r in study() if r["method"] in ("kl", "xe")]
    assert describe_methods(rows)[-1]["gated"]["claim"] is None
    assert describe_methods([]) == []


def test_a_table_without_rows_has_its_columns():
    assert pq.read_table(io.BytesIO(to_parquet([]))).schema.names == SCHEMA.names
