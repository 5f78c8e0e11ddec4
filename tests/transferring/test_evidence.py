import digits
import pytest
import torch

import crossteach
from crossteach.answers.prediction import score_split
from crossteach.data.views import Views, augmentation
from crossteach.transferring.evidence import Evidence, in_words, measure_evidence, speaks_for


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> digits.Digits:
    return digits.make(tmp_path_factory.mktemp("digits"))


def test_evidence_is_what_a_loop_counts(task):
    student, data = crossteach.load_model(task.student), crossteach.load_data(task.data)
    split, views = data.selection, Views(0, 1, augmentation("warp"))
    logits = score_split(student, split)
    ensemble = torch.arange(len(split)) % 10
    found = measure_evidence(student, logits, ensemble, split, views)
    said = logits.argmax(1).tolist()
    assert found.agreement == pytest.approx(
        100 * sum(a == b for a, b in zip(said, ensemble.tolist(), strict=True)) / 450
    )
    assert found.confidence == pytest.approx(100 * logits.softmax(1).max(1).values.mean().item(), abs=1e-4)
    unmoved = measure_evidence(student, logits, ensemble, split, Views(0, 1, augmentation("none")))
    assert unmoved.stability == 100
    assert found.stability < 100


@pytest.mark.parametrize(
    ("agreement", "stability", "verdict"), [(91, 80, True), (90, 85, False), (95, 79.9, False), (91, 95, True)]
)
def test_what_speaks_for_a_student(agreement, stability, verdict):
    before, after = Evidence(90, 80, 70), Evidence(agreement, stability, 60)
    assert speaks_for(before, after) is verdict
    assert in_words(before, after).endswith("these numbers did not tell gains from losses: a few labels do")


def test_evidence_is_gathered_where_no_label_decides(task, tmp_path):
    model, teacher = crossteach.load_model(task.student), crossteach.load_model(task.teacher)
    quick = ["optim.epochs=1", "optim.lr=0.01", "views.count=1"]
    for data, verdicts in ((task.data, ("accepted", "kept_original")), (task.unlabelled, ("unverified",))):
        config = crossteach.with_settings(crossteach.TransferConfig(), quick)
        out = tmp_path / verdicts[0]
        gate = crossteach.transfer(model, [teacher], crossteach.load_data(data), out, config).summary["gate"]
        assert gate["verdict"] in verdicts
        found = gate["label_free"]
        if data == task.data:
            assert found is None and not gate["evidence"]
            continue
        assert found["before"]["agreement"] > 50 and 0 < found["after"]["stability"] <= 100
        assert found["speaks_for"] == speaks_for(Evidence(**found["before"]), Evidence(**found["after"]))
        assert "agreement with the ensemble" in gate["evidence"]
