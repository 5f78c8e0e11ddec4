import io

import numpy as np
import pyarrow.parquet as pq
import pytest

from crossteach.functional.study import study_interval
from crossteach.sweeping.study import SCHEMA, compare, describe_methods, mean_delta, net_by_group, to_parquet


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
    oracle = study_interval(expected, STUDENTS, STUDENTS)
    assert claim["over"] == ["students", "teachers"], "no answers of samples are kept here"
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


def in_groups(rows, rng):
    """Give rows the answers of 40 test samples in four groups."""
    sizes = [10, 10, 15, 5]
    for r in rows:
        for prefix in ("", "ungated_"):
            net = rng.integers(-3, 5, 4)
            r |= {"group_sizes": sizes, f"{prefix}group_net": net.tolist()}
            r[f"{prefix}transfer_delta"] = 100 * float(net.sum()) / 40
    return rows


def test_a_claim_speaks_for_other_test_samples_where_their_answers_are_kept():
    rows = in_groups([r for r in study() if r["method"] in ("kl+dp", "xe")], np.random.default_rng(3))
    sizes = np.array(rows[0]["group_sizes"])
    values, by_group = np.full((3, 3), np.nan), np.zeros(4)
    for i, s in enumerate(STUDENTS):
        for j, t in enumerate(STUDENTS):
            if i != j:
                of = {
                    m: np.mean([r["group_net"] for r in rows if r["method"] == m and r["student"] == s and key(r)], 0)
                    for m, key in (("kl+dp", lambda r, t=t: r["teacher"] == t), ("xe", lambda r: True))
                }
                difference = 100 * (of["kl+dp"] - of["xe"])
                values[i, j] = difference.sum() / 40
                by_group += difference / sizes / 6
    oracle = study_interval(values, STUDENTS, STUDENTS, by_group, sizes)
    mine, others = ([r for r in rows if r["method"] == m] for m in ("kl+dp", "xe"))
    found = compare(mine, others, "", STUDENTS, STUDENTS)
    assert found.over == ("students", "teachers", "test samples")
    assert (found.estimate, found.low, found.high) == pytest.approx((oracle.estimate, oracle.low, oracle.high))
    claim = next(d for d in describe_methods(rows) if d["method"] == "kl+dp")["gated"]["claim"]
    assert (claim["low"], claim["high"], claim["over"]) == (found.low, found.high, list(found.over))
    others[0]["group_sizes"] = [20, 20]  # another test set: nothing is shared
    assert "test samples" not in compare(mine, others, "", STUDENTS, STUDENTS).over


def test_a_mean_alone_is_a_difference_to_nothing():
    rows = in_groups([r for r in study() if r["method"] in ("kl+dp", "xe")], np.random.default_rng(3))
    mine = [r for r in rows if r["method"] == "kl+dp"]
    found = mean_delta(mine, "", STUDENTS, STUDENTS)
    nothing = [{**r, "transfer_delta": 0.0, "group_net": [0] * len(r["group_net"])} for r in mine]
    assert found == compare(mine, nothing, "", STUDENTS, STUDENTS) and found.over[-1] == "test samples"
    assert found.estimate == pytest.approx(np.mean([r["transfer_delta"] for r in mine]))
    alone = [r for r in rows if r["method"] == "xe"]
    assert mean_delta(alone, "", STUDENTS, []).over == ("students", "test samples")


def test_one_pair_makes_no_interval():
    rows = [row("self", "a", None, 0, 0.0, labels=False), row("kl", "a", "b", 0, 0.1, labels=False)]
    claim = describe_methods(rows)[-1]["gated"]["claim"]
    assert claim == {"control": "self", "estimate": 0.1, "low": None, "high": None, "over": []}


def test_what_each_group_gained_is_what_a_loop_counts():
    rng = np.random.default_rng(0)
    samples = {name: rng.integers(0, 4, 500) for name in ("label", "pred_before", "pred_after", "pred_ungated")}
    samples |= {"id": rng.permutation(10_000)[:500], "group": rng.integers(0, 7, 500)}
    found = net_by_group(samples)
    for g in range(7):
        rows = np.flatnonzero(samples["group"] == g)
        assert found["group_sizes"][g] == len(rows)
        for name, after in (("group_net", "pred_after"), ("ungated_group_net", "pred_ungated")):
            right = [(samples[p][rows] == samples["label"][rows]).sum() for p in (after, "pred_before")]
            assert found[name][g] == right[0] - right[1]
    del samples["group"]
    alone = net_by_group(samples)
    assert len(alone["group_sizes"]) == 256 and sum(alone["group_sizes"]) == 500
    assert sum(alone["group_net"]) == sum(found["group_net"]) and max(alone["group_sizes"]) == 2
