"""Classes that nothing shows: they are found, said, and keep what the old student says of them."""

import digits
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import torch.nn.functional as F

import crossteach
from crossteach import TransferConfig, TransferLoss, load_data, load_model, pool_from, transfer, with_settings
from crossteach.functional import keep_absent
from crossteach.transferring.absent import labelled_classes

SHOWN = 5
QUICK = ["optim.steps=150", "optim.batch_size=32", "views.count=2", "pool.drop_below=0"]


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return digits.make(tmp_path_factory.mktemp("digits"))


@pytest.fixture(scope="module")
def half(task):
    """Digits whose train, selection and pool show the classes 0 to 4; the test has all."""
    arrays = np.load(task.folder / "digits.npz")
    few = {
        name: (arrays[f"x_{name}"][rows], arrays[f"y_{name}"][rows])
        for name, rows in ((n, arrays[f"y_{n}"] < SHOWN) for n in ("train", "val"))
    }
    labelled = tuple(each[:100] for each in few["train"])
    test = (arrays["x_test"], arrays["y_test"])
    data = crossteach.from_arrays(labelled, test, few["val"], classes=list("0123456789"), duplicates="keep")
    return data, few["train"][0][100:]


def run(task, half, out, *settings):
    data, pool = half
    models = [load_model(spec, like=data) for spec in (task.student, task.teacher)]
    config = with_settings(TransferConfig(), [*QUICK, *settings])
    return transfer(models[0], models[1:], data, out, config, pools=[pool_from(pool)])


def change(folder, absent):
    """Return by how much the end of training has more right of the absent classes, or of the shown ones."""
    table = pq.read_table(folder / "samples.parquet").to_pydict()
    label, before, after = (np.array(table[name]) for name in ("label", "pred_before", "pred_ungated"))
    rows = (label >= SHOWN) == absent
    return 100 * ((after == label)[rows].mean() - (before == label)[rows].mean())


def test_classes_that_nothing_shows_are_kept(task, half, tmp_path):
    """Taught so hard that a third of them would be forgotten, they lose less than half of that."""
    hard = ["method=kl", "optim.lr=0.2", "optim.stop_below=0"]
    kept, lost = (run(task, half, tmp_path / on, *hard, f"partition.keep_absent={on}") for on in ("true", "false"))
    assert kept.summary["training"]["absent_classes"] == 10 - SHOWN
    assert lost.summary["training"]["absent_classes"] == 0
    assert change(lost.folder, absent=True) < -20
    assert change(kept.folder, absent=True) > 0.5 * change(lost.folder, absent=True)
    assert change(kept.folder, absent=False) >= 0
    (said,) = [note for note in kept.notes if "keep_absent" in note]
    assert said.startswith("5 of 10 classes (5, 6, 7, …) stand neither in labels nor")
    assert "kl" in kept.summary["method"] and "frozen student" in kept.summary["training"]["taught"]


def test_a_pool_shows_classes_that_labels_lack(task, half, tmp_path):
    data = half[0]
    whole = np.load(task.folder / "digits.npz")["x_train"]
    result = run(task, (data, whole), tmp_path / "run", "optim.steps=3", "optim.lr=0.01", "method=kl+dp-unsupervised")
    assert result.summary["training"]["absent_classes"] == 0
    assert labelled_classes(data).tolist() == [True] * SHOWN + [False] * SHOWN
    alone = transfer(
        load_model(task.student), [load_model(task.teacher)], None, tmp_path / "alone",
        with_settings(TransferConfig(), [*QUICK, "optim.steps=3"]), pools=[pool_from(half[1])],
    )  # fmt: skip
    assert alone.summary["training"]["absent_classes"] == 10 - SHOWN, "without any label the tutors' agreement tells"


def test_where_all_classes_are_shown_nothing_changes(task, tmp_path):
    models = load_model(task.student), [load_model(task.teacher)]
    runs = [
        transfer(*models, load_data(task.data), tmp_path / kept,
                 with_settings(TransferConfig(), ["optim.steps=5", "optim.lr=0.01", f"partition.keep_absent={kept}"]))
        for kept in ("true", "false")
    ]  # fmt: skip
    first, second = (load_model(f"run:{result.folder}").module.state_dict() for result in runs)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not [note for note in runs[0].notes if "keep_absent" in note]


def test_targets_keep_the_absent_probability_and_share_the_rest_as_the_tutor_does():
    random = torch.Generator().manual_seed(0)
    frozen, teacher = torch.randn(2, 7, 6, generator=random)
    shown = torch.tensor([True, True, False, True, False, True])
    found = keep_absent(frozen, teacher, shown).softmax(1)
    for row in range(7):
        old, new = frozen[row].softmax(0).tolist(), teacher[row].softmax(0).tolist()
        of_shown = sum(p for p, is_shown in zip(old, shown, strict=True) if is_shown)
        all_shown = sum(p for p, is_shown in zip(new, shown, strict=True) if is_shown)
        wanted = [
            b * of_shown / all_shown if is_shown else a for a, b, is_shown in zip(old, new, shown.tolist(), strict=True)
        ]
        assert found[row].tolist() == pytest.approx(wanted, rel=1e-5)


def test_a_loop_of_ones_own_can_keep_them_too():
    random = torch.Generator().manual_seed(0)
    student, frozen, teacher = torch.randn(3, 8, 4, generator=random)
    labels, shown = torch.tensor([0, 1] * 4), torch.tensor([True, True, False, False])
    loss, _ = TransferLoss("xe+dp", shown=shown)(student.requires_grad_(), frozen, [teacher], labels)
    plain = TransferLoss("xe+dp")
    targets = keep_absent(frozen, plain.targets(torch.stack([frozen, teacher]), labels, None, 8)[0], shown)
    among = F.cross_entropy(student[:, :2], labels)
    kl = F.kl_div(student.log_softmax(1), targets.log_softmax(1), reduction="batchmean", log_target=True)
    assert loss.item() == pytest.approx((0.5 * kl + 0.5 * among).item(), rel=1e-5)
    (gradient,) = torch.autograd.grad(F.cross_entropy(student[:, :2], labels), student)
    assert not gradient[:, 2:].any(), "cross-entropy does not push absent classes down"
