import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax, rel_entr, softmax

from crossteach.errors import ConfigError, MissingLabelsError
from crossteach.functional.losses import cross_entropy, kl_divergence, mixed, top_kl_divergence


def logits(seed, n=7, c=5, scale=3.0):
    return scale * torch.randn(n, c, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_kl_agrees_with_scipy_and_torch_distributions(temperature):
    student, target = logits(0), logits(1)
    total = 0.0
    for s, t in zip(student.double().numpy(), target.double().numpy(), strict=True):
        total += rel_entr(softmax(t / temperature), softmax(s / temperature)).sum()
    found = kl_divergence(student, target, temperature).item()
    assert found == pytest.approx(temperature**2 * total / len(student), rel=1e-5)
    of_torch = torch.distributions.kl_divergence(
        torch.distributions.Categorical(logits=target / temperature),
        torch.distributions.Categorical(logits=student / temperature),
    )
    assert found == pytest.approx(temperature**2 * of_torch.mean().item(), rel=1e-5)


@given(seed=st.integers(0, 10_000), c=st.integers(1, 6), scale=st.sampled_from([0.1, 3.0, 30.0]))
def test_kl_is_never_negative_and_zero_for_equals(seed, c, scale):
    p, q = logits(seed, c=c, scale=scale), logits(seed + 1, c=c, scale=scale)
    assert kl_divergence(p, q).item() >= -1e-6
    assert kl_divergence(p, p).item() == 0
    assert kl_divergence(p + 8, p).item() == pytest.approx(0, abs=1e-4 * scale)


def test_temperature_scales_the_logits_and_keeps_the_size_of_the_gradient():
    student, target = logits(0), logits(1)
    assert kl_divergence(student, target, 4.0).item() == pytest.approx(
        16 * kl_divergence(student / 4, target / 4).item(), rel=1e-5
    )
    norms = []
    for temperature in (50.0, 100.0):
        leaf = logits(0).requires_grad_()
        kl_divergence(leaf, target, temperature).backward()
        norms.append(leaf.grad.norm().item())
    assert norms[0] == pytest.approx(norms[1], rel=0.1)


def test_kl_of_a_certain_target_is_finite():
    certain = torch.tensor([[0.0, -100.0, -60000.0]])
    assert kl_divergence(logits(0, n=1, c=3), certain).isfinite()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("top", [1, 2, 3, 4])
def test_kl_of_the_largest_classes_agrees_with_a_loop(temperature, top):
    student, target = logits(0), logits(1)
    total = 0.0
    for s, t in zip(student.double().numpy(), target.double().numpy(), strict=True):
        p, q = softmax(t / temperature), softmax(s / temperature)
        kept = sorted(range(5), key=lambda c: -p[c])[:top]
        total += sum(p[c] * np.log(p[c] / q[c]) for c in kept)
        p_rest, q_rest = 1 - sum(p[c] for c in kept), 1 - sum(q[c] for c in kept)
        total += p_rest * np.log(p_rest / q_rest)
    expected = temperature**2 * total / len(student)
    assert top_kl_divergence(student, target, top, temperature).item() == pytest.approx(expected, rel=1e-4)


@given(seed=st.integers(0, 10_000), c=st.integers(1, 6), scale=st.sampled_from([0.1, 3.0, 30.0]))
def test_adding_up_classes_only_loses_information(seed, c, scale):
    student, target = logits(seed, c=c, scale=scale), logits(seed + 1, c=c, scale=scale)
    full = kl_divergence(student, target)
    assert torch.equal(top_kl_divergence(student, target, c), full)
    found = [top_kl_divergence(student, target, top).item() for top in range(1, c + 1)]
    assert all(-1e-6 <= less <= more + 1e-5 * scale for less, more in itertools.pairwise(found))
    assert found[-1] == full.item()
    if c > 1:
        assert found[-2] == pytest.approx(full.item(), rel=1e-4, abs=1e-5)  # a tail of one class is that class


def test_the_student_is_not_told_how_the_rest_is_spread():
    target = torch.tensor([[4.0, 1.0, 0.5, -1.0]])
    leaf = torch.tensor([[3.0, 0.0, 2.0, 1.0]], requires_grad=True)
    top_kl_divergence(leaf, target, 1).backward()
    rest = leaf.detach()[0, 1:].softmax(0)
    assert leaf.grad.isfinite().all()
    assert torch.allclose(leaf.grad[0, 1:] / leaf.grad[0, 1:].sum(), rest)  # its own spread is kept
    certain = torch.tensor([[0.0, -60000.0, -60000.0, -60000.0]])
    assert top_kl_divergence(leaf, certain, 2).isfinite()


def test_cross_entropy_takes_logits():
    student, labels = logits(0), torch.tensor([0, 1, 2, 3, 4, 0, 1])
    expected = -log_softmax(student.double().numpy(), axis=1)[np.arange(7), labels.numpy()].mean()
    assert cross_entropy(student, labels).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("weight", [0.0, 0.5, 0.68, 1.0])
def test_mixed_weighs_the_two(weight):
    student, target, labels = logits(0), logits(1), torch.tensor([0, 1, 2, 3, 4, 0, 1])
    expected = weight * kl_divergence(student, target, 2.0) + (1 - weight) * cross_entropy(student, labels)
    assert mixed(student, target, labels, weight, 2.0).item() == pytest.approx(expected.item(), rel=1e-6)


def test_mixed_needs_only_what_has_weight():
    student, target, labels = logits(0), logits(1), torch.tensor([0, 1, 2, 3, 4, 0, 1])
    assert torch.equal(mixed(student, None, labels, 0.0), cross_entropy(student, labels))
    assert torch.equal(mixed(student, target, None, 1.0), kl_divergence(student, target))
    assert torch.equal(mixed(student, target, None, 1.0, 2.0, 3), top_kl_divergence(student, target, 3, 2.0))


def test_no_gradient_reaches_the_targets():
    student, target = logits(0).requires_grad_(), logits(1).requires_grad_()
    mixed(student, target, torch.tensor([0, 1, 2, 3, 4, 0, 1]), 0.5, 2.0).backward()
    assert target.grad is None
    assert student.grad is not None and student.grad.abs().sum() > 0


def test_a_term_without_what_it_needs_is_refused():
    with pytest.raises(ConfigError, match=r"kl_weight=0\.5 needs targets and none are given"):
        mixed(logits(0), None, torch.zeros(7, dtype=torch.long), 0.5)
    with pytest.raises(MissingLabelsError, match=r"kl_weight=0\.5 needs labels and none are given"):
        mixed(logits(0), logits(1), None, 0.5)
