import math

import pytest
import torch
import torch.nn.functional as F

from crossteach.functional.contrastive import (
    RepresentationDistillation,
    SimilarityMatching,
    info_nce,
    similarity_divergence,
)


def features(seed, n=6, width=4):
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed))


def cosine(a, b):
    return float(a @ b / (a.norm() * b.norm()))


@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_similarity_divergence_agrees_with_a_plain_loop(temperature):
    ours, theirs = features(0), features(1, width=9)
    total = 0.0
    for i in range(6):
        others = [j for j in range(6) if j != i]
        p, q = (
            torch.tensor([cosine(x[i], x[j]) / temperature for j in others], dtype=torch.double).softmax(0)
            for x in (theirs, ours)
        )
        total += float((p * (p / q).log()).sum())
    assert similarity_divergence(ours, theirs, temperature).item() == pytest.approx(total / 6, rel=1e-4)


def test_what_is_turned_and_scaled_alike_is_alike():
    ours = features(0)
    turn = torch.linalg.qr(features(1, 4, 4)).Q
    assert similarity_divergence(ours, 3 * ours @ turn, 0.1).item() == pytest.approx(0, abs=1e-5)
    assert similarity_divergence(ours, features(2), 0.1).item() > 0.1


def test_only_the_student_learns_from_the_similarities():
    ours, theirs = features(0).requires_grad_(), features(1).requires_grad_()
    SimilarityMatching(0.5)(ours, theirs, torch.zeros(6).long()).backward()
    assert ours.grad is not None and theirs.grad is None


def test_info_nce_agrees_with_a_plain_loop():
    anchors, positives, negatives = (F.normalize(features(s, n), dim=1) for s, n in ((0, 4), (1, 4), (2, 5)))
    classes, before = [0, 1, 0, 2], [2, 2, 1, 0, 3]
    same = torch.tensor([[a == b for b in classes + before] for a in classes])
    candidates = torch.cat([positives, negatives])
    total = 0.0
    for i in range(4):
        scores = {j: float(anchors[i] @ candidates[j]) / 0.3 for j in range(9) if j == i or not same[i, j]}
        total += math.log(sum(math.exp(s) for s in scores.values())) - scores[i]
    assert info_nce(anchors, positives, negatives, same, 0.3).item() == pytest.approx(total / 4, rel=1e-5)


def test_a_sample_alone_has_nothing_to_be_told_from():
    loss = RepresentationDistillation(4, 4, 3, 10, 0.1)
    assert loss(features(0, 1), features(1, 1), torch.tensor([5])).item() == 0
    assert similarity_divergence(features(0, 1), features(1, 1), 0.1).item() == 0


def test_the_queue_holds_the_last_batches_and_no_more():
    torch.manual_seed(0)
    loss = RepresentationDistillation(4, 6, 3, 10, 0.1)
    batches = [(features(s, 4), features(s + 9, 4, 6), torch.arange(4) + 4 * s) for s in range(4)]
    for batch in batches:
        loss(*batch)
    assert sorted(loss.classes.tolist()) == list(range(6, 16))
    for student, teacher, labels in batches[2:]:
        for row, label in enumerate(labels.tolist()):
            place = loss.classes.tolist().index(label)
            assert torch.allclose(loss.student_queue[place], F.normalize(loss.student_head(student[row]), dim=0))
            assert torch.allclose(loss.teacher_queue[place], F.normalize(loss.teacher_head(teacher[row]), dim=0))
    larger = features(7, 25), features(8, 25, 6), torch.arange(25)
    loss(*larger)
    assert sorted(loss.classes.tolist()) == list(range(15, 25))


def test_what_the_queue_holds_makes_the_task_harder_unless_it_is_of_the_same_class():
    torch.manual_seed(0)
    loss = RepresentationDistillation(4, 4, 3, 50, 0.1)
    alone = features(0, 1), features(1, 1), torch.tensor([3])
    assert [loss(*alone).item() for _ in range(3)] == [0, 0, 0]  # all that it remembers are of the same class
    loss(features(2), features(3), torch.arange(4, 10))
    assert loss(*alone).item() > 0


def test_heads_learn_and_features_of_the_teacher_do_not():
    loss = RepresentationDistillation(4, 6, 3, 10, 0.1)
    ours, theirs = features(0).requires_grad_(), features(1, 6, 6).requires_grad_()
    loss(ours, theirs, torch.arange(6)).backward()
    assert ours.grad is not None and theirs.grad is None
    assert all(p.grad is not None for p in loss.parameters()) and len(list(loss.parameters())) == 4
    assert {"student_queue", "teacher_queue", "classes", "place"} <= set(loss.state_dict())
