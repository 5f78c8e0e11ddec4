import pytest
import torch
from torch import nn

from crossteach.errors import ModelError
from crossteach.functional.averaging import SlowWeights, average, interpolate, snapshot


def net(seed):
    torch.manual_seed(seed)
    module = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(48, 2))
    module(torch.randn(4, 1, 6, 6))  # moves the statistics, and the integer count of batches
    return module


def same(a, b):
    return list(a) == list(b) and all(torch.equal(a[k], b[k]) and a[k].dtype == b[k].dtype for k in a)


def test_a_snapshot_shares_no_memory():
    module = net(0)
    kept = snapshot(module)
    copy = {name: value.clone() for name, value in kept.items()}
    with torch.no_grad():
        for value in module.state_dict().values():
            value.add_(1)
    assert same(kept, copy) and not same(kept, snapshot(module))
    assert not any(value.requires_grad for value in kept.values())


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_the_ends_of_the_path_are_the_weights_bit_for_bit(alpha):
    old, new = snapshot(net(0)), snapshot(net(1))
    old["1.num_batches_tracked"] += 5
    end = new if alpha else old
    found = interpolate(old, new, alpha)
    assert same(found, end)
    assert not {v.data_ptr() for v in found.values()} & {v.data_ptr() for v in end.values()}


def test_the_path_between_agrees_with_a_loop():
    old, new = snapshot(net(0)), snapshot(net(1))
    new["1.num_batches_tracked"] += 5
    found = interpolate(old, new, 0.3)
    assert list(found) == list(new)
    for name, value in found.items():
        if name == "1.num_batches_tracked":
            assert value.item() == 6 and value.dtype == torch.int64
            continue
        pairs = zip(old[name].flatten().tolist(), new[name].flatten().tolist(), strict=True)
        assert value.flatten().tolist() == pytest.approx([0.7 * a + 0.3 * b for a, b in pairs], abs=1e-6)


def test_the_path_between_equals_is_the_same_point():
    old = snapshot(net(0))
    assert same(interpolate(old, snapshot(net(0)), 0.7), old)


@pytest.mark.parametrize("every", [1, 2, 3])
def test_slow_weights_agree_with_a_loop(every):
    module = net(0)
    slow, expected = SlowWeights(module, 0.9, every), module[3].weight.flatten().tolist()
    for step in range(1, 8):
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(torch.randn_like(parameter))
        module[1].num_batches_tracked += 1
        live = snapshot(module)
        slow.update(module, step)
        assert same(snapshot(module), live)
        if step % every == 0:
            expected = [0.9 * a + 0.1 * b for a, b in zip(expected, module[3].weight.flatten().tolist(), strict=True)]
        assert slow.state["3.weight"].flatten().tolist() == pytest.approx(expected, abs=1e-5)
        assert slow.state["1.num_batches_tracked"].item() == 1 + step // every * every
        assert not slow.state["3.weight"].requires_grad


@pytest.mark.parametrize(("momentum", "follows"), [(0.0, True), (1.0, False)])
def test_the_ends_of_momentum(momentum, follows):
    module = net(0)
    before, slow = snapshot(module), SlowWeights(module, momentum, 1)
    with torch.no_grad():
        module[3].weight.mul_(2)
    slow.update(module, 1)
    assert torch.equal(slow.state["3.weight"], (snapshot(module) if follows else before)["3.weight"])


def test_weights_that_do_not_fit_together_are_refused():
    small, large = snapshot(nn.Linear(2, 2)), snapshot(nn.Linear(2, 3))
    with pytest.raises(ModelError, match="of different architectures"):
        interpolate(small, large, 0.5)
    with pytest.raises(ModelError, match="weights 1 and 2 of a soup are of different architectures"):
        average([small, large])
    with pytest.raises(ModelError, match="none are given"):
        average([])
