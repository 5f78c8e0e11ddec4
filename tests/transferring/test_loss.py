import pytest
import torch
import torch.nn.functional as F

from crossteach.config import PartitionConfig
from crossteach.errors import ConfigError, LabelSpaceError, MissingLabelsError
from crossteach.functional import Judge
from crossteach.transferring.loss import NO_LABEL, TransferLoss
from crossteach.transferring.methods import METHODS

N, C = 40, 5
ANSWERING = [name for name, method in METHODS.items() if method.features is None]


def logits(seed: int) -> torch.Tensor:
    return 2 * torch.randn(N, C, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def batch():
    labels = torch.randint(C, (N,), generator=torch.Generator().manual_seed(9))
    return logits(0).requires_grad_(), logits(1), [logits(2)], labels


def call(method: str, batch, labels="all", **changes):
    student, frozen, teachers, known = batch
    judge = Judge(torch.ones(2, 9), torch.zeros(2), torch.zeros(2, 9), torch.ones(2, 9), torch.zeros(2, C))
    loss_of = TransferLoss(method, temperatures=(1.0, 2.0), judge=judge, **changes)
    teachers = teachers if METHODS[method.removesuffix("+mcl")].teachers else []
    return loss_of(student, frozen, teachers, known if isinstance(labels, str) else labels, torch.rand(N))


def kl(student: torch.Tensor, target: torch.Tensor) -> float:
    p = target.softmax(0)
    return float((p * (p.log() - student.log_softmax(0))).sum())


@pytest.mark.parametrize("method", ANSWERING)
def test_every_method_that_compares_answers_is_a_loss(batch, method):
    loss, shares = call(method, batch)
    loss.backward()
    assert loss.isfinite() and batch[0].grad.isfinite().all()
    rows = 3 if METHODS[method].teachers else 2
    assert shares.shape == (rows, N)
    assert torch.allclose(shares.sum(0), torch.ones(N))


def test_the_partition_is_what_a_loop_over_samples_gives(batch):
    student, frozen, (teacher,), labels = batch
    found = call("kl+dp", batch)
    expected, tutors = 0.0, []
    for i in range(N):
        y = int(labels[i])
        knows_more = teacher[i].softmax(0)[y] > frozen[i].softmax(0)[y]
        tutors.append(int(knows_more))
        expected += kl(student[i].detach(), teacher[i] if knows_more else frozen[i]) / N
    assert found.loss.item() == pytest.approx(expected, rel=1e-5)
    assert found.tutor.tolist() == tutors


def test_labels_and_partition_have_half_each(batch):
    student, _, _, labels = batch
    half = call("xe+dp", batch).loss
    assert half.item() == pytest.approx(
        0.5 * call("kl+dp", batch).loss.item() + 0.5 * F.cross_entropy(student, labels).item(), rel=1e-5
    )
    own = call("xe+dp", batch, partition=PartitionConfig(kl_weight=1.0)).loss
    assert own.item() == pytest.approx(call("kl+dp", batch).loss.item(), rel=1e-6)


def test_samples_without_a_label_follow_the_rule_that_reads_none(batch):
    student, frozen, (teacher,), labels = batch
    mixed = labels.clone()
    mixed[::3] = NO_LABEL
    found = call("xe+dp", batch, labels=mixed)
    expected = 0.0
    for i in range(N):
        if mixed[i] == NO_LABEL:
            knows_more = teacher[i].softmax(0).max() > frozen[i].softmax(0).max()
            expected += kl(student[i].detach(), teacher[i] if knows_more else frozen[i])
        else:
            y = int(labels[i])
            knows_more = teacher[i].softmax(0)[y] > frozen[i].softmax(0)[y]
            divergence = kl(student[i].detach(), teacher[i] if knows_more else frozen[i])
            expected += 0.5 * divergence - 0.5 * float(student[i].detach().log_softmax(0)[y])
        assert int(found.tutor[i]) == int(knows_more)
    assert found.loss.item() == pytest.approx(expected / N, rel=1e-5)
    none = torch.full((N,), NO_LABEL)
    assert torch.equal(call("kl+dp", batch, labels=none).loss, call("kl+dp-unsupervised", batch, labels=none).loss)


def test_fine_tuning_reads_only_samples_with_a_label(batch):
    student, _, _, labels = batch
    mixed = labels.clone()
    mixed[5:] = NO_LABEL
    loss, shares = call("xe", batch, labels=mixed)
    assert loss.item() == pytest.approx(F.cross_entropy(student[:5], labels[:5]).item(), rel=1e-6)
    assert shares[-1].tolist() == [1.0] * 5 + [0.0] * (N - 5)
    nothing = call("xe", batch, labels=torch.full((N,), NO_LABEL)).loss
    nothing.backward()
    assert nothing.item() == 0 and not batch[0].grad.any()


def test_tutors_get_no_gradient(batch):
    student, frozen, (teacher,), labels = batch
    frozen.requires_grad_()
    teacher.requires_grad_()
    TransferLoss("xe+dp")(student, frozen, [teacher], labels).loss.backward()
    assert frozen.grad is None and teacher.grad is None and student.grad is not None


def test_what_does_not_fit_is_one_clear_line(batch):
    student, frozen, teachers, labels = batch
    with pytest.raises(ConfigError, match="compares features"):
        TransferLoss("cd")
    with pytest.raises(ConfigError, match="needs temperatures"):
        TransferLoss("kl+dp-calibrated")
    with pytest.raises(ConfigError, match="needs judge="):
        TransferLoss("kl+dp-learned")
    with pytest.raises(ConfigError, match="unknown method"):
        TransferLoss("magic")
    with pytest.raises(MissingLabelsError, match="reads labels"):
        TransferLoss("xe+dp")(student, frozen, teachers)
    with pytest.raises(ConfigError, match="needs a teacher"):
        TransferLoss("kl+dp")(student, frozen, [], labels)
    with pytest.raises(ConfigError, match="takes one teacher, not 2"):
        TransferLoss("kl")(student, frozen, [*teachers, *teachers])


def test_models_of_other_classes_are_refused(batch, unchecked):
    student, frozen, teachers, labels = batch
    with pytest.raises(LabelSpaceError, match=r"are \[40, 5\] but those of teacher 1 are \[40, 4\]"):
        TransferLoss("kl+dp")(student, frozen, [teachers[0][:, :4]], labels)
