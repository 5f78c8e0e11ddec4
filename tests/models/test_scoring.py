import numpy as np
import pytest
import torch
from torch import nn

from crossteach import Store, from_module, load_data, load_model, predict
from crossteach.config import ScoringConfig
from crossteach.data.views import plain_images
from crossteach.errors import ModelError
from crossteach.models.cost import ELEMENT, count_cost
from crossteach.models.scoring import CHUNK, ask_as, batch_rows, score
from crossteach.types import Preprocess


class Answers:
    """Just enough of a classifier."""

    def __init__(self, module):
        self.module, self.spec, self.preprocess = module, "py:zoo.py:net", Preprocess()

    def logits(self, images):
        return self.module(images)


@pytest.fixture(autouse=True)
def _unchecked(unchecked):
    """Let half a classifier pass for one."""


def net(width):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1),
        nn.GELU(),
        nn.Conv2d(12, 16, 3, stride=2),
        nn.Flatten(),
        nn.LayerNorm(16 * 49),
        nn.Linear(16 * 49, width),
        nn.ReLU(),
        nn.Linear(width, 10),
    )


def images(n=300):
    return torch.rand(n, 1, 16, 16, generator=torch.Generator().manual_seed(1))


def test_scoring_leaves_the_model_as_it_was():
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Sequential(nn.Dropout(0.5), nn.Flatten()), nn.Linear(784, 3)
    )
    module[0].eval()  # a part that its owner froze
    before = {name: value.clone() for name, value in module.state_dict().items()}
    flags = [part.training for part in module.modules()]
    random = torch.get_rng_state()
    first, second = score(Answers(module), images(5)), score(Answers(module), images(5))
    assert torch.equal(first, second)
    assert [part.training for part in module.modules()] == flags == [True, False, True, True, True, True, True]
    assert torch.equal(torch.get_rng_state(), random)
    after = module.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert not first.requires_grad and first.dtype == torch.float32
    module.eval()
    assert torch.allclose(first, module(images(5)), atol=1e-6)


def test_a_model_that_fails_gets_its_mode_back():
    module = nn.Sequential(nn.Dropout(), nn.Linear(3, 2))
    with pytest.raises(ModelError, match=r"does not accept images of \[1, 16, 16\]"):
        score(Answers(module), images(5))
    assert module.training and module[0].training


@pytest.mark.parametrize("threads", [1, 2])
def test_a_sample_gets_the_same_bits_in_any_batch(threads):
    classifier, batch = Answers(net(32).eval()), images()
    torch.set_num_threads(threads)
    try:
        together = score(classifier, batch)
        assert together.shape == (300, 10)
        for start, stop in ((0, 1), (1, 8), (100, CHUNK + 100), (290, 300)):
            assert torch.equal(score(classifier, batch[start:stop]), together[start:stop])
        order = torch.randperm(300, generator=torch.Generator().manual_seed(0))
        assert torch.equal(score(classifier, batch[order]), together[order])
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_answers_that_are_not_finite_are_refused(wrong):
    class Spoilt(nn.Module):
        def forward(self, batch):
            scores = batch.flatten(1)[:, :4].clone()
            scores[2, 1] = wrong
            return scores

    with pytest.raises(ModelError, match=r"'py:zoo.py:net' answers NaN or infinite logits on 3 of 300 samples"):
        score(Answers(Spoilt()), images())


def test_half_precision_is_scored_in_float32():
    module = nn.Sequential(nn.Flatten(), nn.Linear(256, 3)).to(torch.bfloat16)
    assert score(Answers(nn.Sequential(module)), images(3).bfloat16()).dtype == torch.float32


# how many images at once


SIZES = {"resnet18": 96, "tf_efficientnet_lite0": 160, "mobilenetv3_small_050": 64}


@pytest.mark.parametrize(("name", "size"), SIZES.items())
def test_a_sample_of_a_real_model_gets_the_same_bits_in_any_batch(name, size):
    model = load_model(f"timm:{name}?pretrained=false&num_classes=10&size={size}")
    pictures = torch.rand(37, 3, size, size, generator=torch.Generator().manual_seed(0))
    rows = batch_rows(model, pictures)
    together = score(model, pictures)
    for start, stop in ((0, 1), (5, 8), (3, 36), (36, 37)):
        assert torch.equal(score(model, pictures[start:stop]), together[start:stop]), rows
    order = torch.randperm(37, generator=torch.Generator().manual_seed(0))
    assert torch.equal(score(model, pictures[order]), together[order])


def asked_rows(model, pictures):
    """Score, and return the size of each batch that the module itself has met."""
    sizes: list[int] = []
    with torch.no_grad():
        score(model, pictures[:1])  # the batch is chosen once
        watching = model.module.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
        score(model, pictures)
    watching.remove()
    return sizes


def test_the_batch_follows_from_what_an_image_costs():
    large = load_model("timm:resnet18?pretrained=false&num_classes=10&size=224")
    pictures = torch.rand(10, 3, 224, 224)
    rows = batch_rows(large, pictures)
    assert rows == 4, "two billion multiply-adds and more an image"
    assert asked_rows(large, pictures) == [4, 4, 4], "padded by half a batch, not to 128"
    assert asked_rows(large, pictures[:1]) == [4]
    quick = load_model("timm:resnet18?pretrained=false&num_classes=10&size=32")
    assert asked_rows(quick, torch.rand(200, 3, 32, 32)) == [128, 128], "small images cost little"
    assert batch_rows(load_model("demo:mlp"), torch.rand(2, 1, 32, 32)) == CHUNK


def test_a_batch_that_was_set_is_used_and_its_answers_have_a_table_of_their_own(tmp_path):
    model, data, store = load_model("demo:convnet"), load_data("glyphs"), Store(tmp_path)
    part = data.test.take(np.arange(150))
    before = predict(model, part, store)
    ask_as([model], ScoringConfig(16))
    assert asked_rows(model, plain_images(part, np.arange(40), model.preprocess)) == [16, 16, 16]
    after = predict(model, part, store)
    assert torch.allclose(before.logits, after.logits, atol=1e-3)
    assert len(list(tmp_path.rglob("*.rows"))) == 2
    ask_as([model], ScoringConfig())
    assert torch.equal(predict(model, part, store).logits, before.logits)
    with pytest.raises(ModelError, match=r"does not let its batch be set; drop scoring\.batch=8"):
        ask_as([Answers(nn.Flatten())], ScoringConfig(8))


def test_half_precision_is_asked_for_and_its_answers_have_a_table_of_their_own(tmp_path):
    model, data, store = load_model("demo:convnet"), load_data("glyphs"), Store(tmp_path)
    part = data.test.take(np.arange(150))
    before = predict(model, part, store)
    ask_as([model, Answers(nn.Flatten())], ScoringConfig(precision="bfloat16"))
    after = predict(model, part, store)
    assert after.logits.dtype == torch.float32 and not torch.equal(before.logits, after.logits)
    assert (before.logits - after.logits).abs().max() < 0.02 * before.logits.abs().max()
    assert (before.preds == after.preds).float().mean() > 0.97
    images = plain_images(part, np.arange(40), model.preprocess)
    assert torch.equal(score(model, images[:3]), score(model, images)[:3]), "whatever stands beside a sample"
    assert model.logits(images).dtype == torch.float32, "a training step has a precision of its own"
    ask_as([model], ScoringConfig())
    assert torch.equal(predict(model, part, store).logits, before.logits)


class Hungry(nn.Module):
    """Needs more memory than there is where a batch holds more than so many images."""

    def __init__(self, most):
        super().__init__()
        self.most, self.linear = most, nn.Linear(64, 10)

    def forward(self, batch):
        if len(batch) > self.most:
            torch.empty(1 << 60)
        return self.linear(batch.flatten(1))


@pytest.mark.parametrize("most", [1, 8, 100])
def test_where_memory_runs_out_the_batch_is_halved_until_it_fits_and_that_is_said(most, tmp_path):
    pictures = torch.rand(300, 1, 8, 8)
    model = from_module(Hungry(most), Preprocess((8, 8), 1), name="hungry")
    expected = model.module.linear(pictures.flatten(1))
    assert torch.allclose(score(model, pictures), expected, atol=1e-5)
    assert model.scoring_batch == 1 << (most.bit_length() - 1)
    assert model.notes[0] == "hungry: memory ran out at 128 images at once, so it is asked 64 at once"
    assert len(model.notes) == 7 - (most.bit_length() - 1)
    assert torch.equal(score(model, pictures[7:9]), score(model, pictures)[7:9])


def test_answers_from_before_and_after_memory_ran_out_do_not_mix_in_the_store(tmp_path):
    pixels, labels = np.random.default_rng(0).integers(0, 256, (300, 8, 8)).astype(np.uint8), np.arange(300) % 10
    np.savez(tmp_path / "d.npz", **{f"x_{k}": pixels for k in ("train", "test")}, y_train=labels, y_test=labels)
    data = load_data(f"npz:{tmp_path / 'd.npz'}?duplicates=keep")
    model, store = from_module(Hungry(8), Preprocess((8, 8), 1)), Store(tmp_path)
    kept = predict(model, data.test, store)
    assert torch.equal(kept.logits, predict(model, data.test, store).logits)
    fresh = from_module(model.module, Preprocess((8, 8), 1))
    fresh.scoring_batch = 8
    assert torch.equal(predict(fresh, data.test, store).logits, kept.logits)


def test_a_model_for_which_one_image_is_too_much_is_refused_with_what_helps():
    class Never(Hungry):
        def forward(self, batch):
            return super().forward(batch) if batch.sum() == 0 else torch.empty(1 << 60)

    model = from_module(Never(8), Preprocess((8, 8), 1))
    with pytest.raises(ModelError, match=r"than its device has for one image of \[1, 8, 8\]; use --device cpu"):
        score(model, torch.rand(3, 1, 8, 8))


def test_the_cost_of_an_image_is_that_of_its_layers():
    """Against the multiply-adds that the papers state."""
    for name, billions in (("resnet18", 1.82), ("tf_efficientnet_lite0", 0.40), ("vit_tiny_patch16_224", 1.08)):
        model = load_model(f"timm:{name}?pretrained=false")
        image = torch.zeros(1, 3, 224, 224)
        writes = []

        def count(layer, _, returned, writes=writes):
            if not any(True for _ in layer.children()):
                writes.append(returned.numel())

        watching = [part.register_forward_hook(count) for part in model.module.modules()]
        with torch.no_grad():
            model.logits(image)
        for watched in watching:
            watched.remove()
        cost = count_cost(model, image)
        assert (cost - ELEMENT * sum(writes)) / 1e9 == pytest.approx(billions, rel=0.1), name


def test_counting_the_cost_leaves_no_trace():
    model = load_model("timm:resnet18?pretrained=false&num_classes=10&size=64")
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    image, random = torch.rand(1, 3, 64, 64), torch.get_rng_state()
    first, second = (count_cost(model, image) for _ in range(2))
    assert first == second
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, before[name]) for name, value in model.module.state_dict().items())
    assert not any(part._forward_hooks for part in model.module.modules())


def test_a_model_that_takes_no_single_image_is_asked_in_full_batches():
    module = nn.Sequential(nn.Flatten(), nn.Linear(256, 10), nn.BatchNorm1d(10, track_running_stats=False))
    assert batch_rows(Answers(module), torch.rand(3, 1, 16, 16)) == CHUNK
