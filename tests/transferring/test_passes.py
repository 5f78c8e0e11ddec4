"""How a student is asked in a training step changes speed and memory, not what it learns, nor its names."""

from collections.abc import Callable

import digits
import numpy as np
import pytest
import torch
from torch import nn

import crossteach
from crossteach import TransferConfig, load_data, load_model, with_settings
from crossteach.answers.tutors import LiveTutors
from crossteach.data.views import Views, augmentation
from crossteach.errors import ModelError
from crossteach.transferring.methods import METHODS
from crossteach.transferring.passes import _without_unreached, arranged, require_arranged
from crossteach.transferring.plan import TrainingPlan
from crossteach.transferring.sources import Source
from crossteach.transferring.training import train
from crossteach.types import TrainableClassifier

SMALL = crossteach.Preprocess(size=(8, 8), channels=1)
IMAGES = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> digits.Digits:
    return digits.make(tmp_path_factory.mktemp("digits"))


def taught(
    task: digits.Digits, student: TrainableClassifier, *settings: str, samples: int = 40
) -> dict[str, torch.Tensor]:
    """Train a student a few steps, and return its weights."""
    config = with_settings(TransferConfig(), ["optim.batch_size=16", "optim.epochs=1", *settings])
    split = load_data(task.data).train.take(np.arange(samples))
    tutors = LiveTutors([load_model(task.student), load_model(task.teacher)])
    source = Source(split, Views(0, 2, augmentation("warp")), 16, tutors)
    train(student, TrainingPlan(METHODS["xe+dp"], config, (source,), 0.05, 1))
    return student.module.state_dict()


def require_same(plain: dict[str, torch.Tensor], arranged: dict[str, torch.Tensor]) -> None:
    assert list(plain) == list(arranged)
    for name, value in plain.items():
        assert torch.allclose(value, arranged[name], atol=1e-5), name
        assert value.is_contiguous() and arranged[name].is_contiguous()


def vision_transformer() -> TrainableClassifier:
    torch.manual_seed(0)
    return load_model("timm:test_vit?pretrained=false&num_classes=10&img_size=32&size=32&channels=3")


def transformer() -> TrainableClassifier:
    from transformers import ViTConfig, ViTForImageClassification

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = ViTConfig(**sizes, image_size=8, patch_size=4, num_channels=1, num_labels=10)
    return crossteach.from_module(ViTForImageClassification(config), SMALL)


def count_calls(layer: nn.Module) -> list[int]:
    """Count how often a layer begins to compute: to compute it anew ends early, where nothing more is needed."""
    calls: list[int] = []
    layer.register_forward_pre_hook(lambda *_: calls.append(1))
    return calls


@pytest.mark.parametrize(
    ("make", "inside"),
    [
        (vision_transformer, lambda m: m.blocks[0].mlp),
        (transformer, lambda m: m.vit.layers[0].mlp),
    ],
)
def test_activations_are_computed_anew_where_a_model_offers_it(
    task, make: Callable[[], TrainableClassifier], inside: Callable[[nn.Module], nn.Module]
):
    plain, anew = make(), make()
    passes = []
    for student, settings in ((plain, ()), (anew, ("compute.checkpointing=true",))):
        calls = count_calls(inside(student.module))
        taught(task, student, *settings)
        passes.append(len(calls))
    assert passes[1] == passes[0] + 3, "three steps, each of which asks once more"
    require_same(plain.module.state_dict(), anew.module.state_dict())
    calls = count_calls(inside(anew.module))
    anew.logits(torch.rand(2, 1, 8, 8).requires_grad_()).sum().backward()
    assert len(calls) == 1, "nothing of it stays"


def test_a_student_that_offers_no_checkpointing_is_refused_in_one_line(task):
    compute = with_settings(TransferConfig(), ["compute.checkpointing=true"]).compute
    with pytest.raises(ModelError, match=r"offers no activation checkpointing .* raise optim\.accumulate"):
        require_arranged(load_model(task.student), compute, IMAGES)
    of_timm = load_model("timm:convit_tiny?pretrained=false&num_classes=10")
    with pytest.raises(ModelError, match="offers no activation checkpointing; drop"):
        require_arranged(of_timm, compute, torch.rand(2, 3, 224, 224))


def test_channels_last_teaches_the_same(task):
    plain, last = load_model(task.student), load_model(task.student)
    taught(task, plain)
    before = last.module[0].weight.stride()
    compute = with_settings(TransferConfig(), ["compute.channels_last=true"]).compute
    with arranged(last, compute):
        assert last.module[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert last.module[0].weight.stride() == before
    require_same(plain.module.state_dict(), taught(task, last, "compute.channels_last=true"))


class Viewer(nn.Module):
    """A module that lays its activations out anew without a look at their strides."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.convolution, self.head, self.how = nn.Conv2d(1, 4, 3, padding=1), nn.Linear(256, 10), how

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found = self.convolution(images)
        flat = found.view(len(images), -1) if self.how == "view" else found.as_strided((len(images), 256), (256, 1))
        return self.head(flat)


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (Viewer("view"), "cannot answer as compute"),
        (Viewer("as_strided"), "answers otherwise by"),
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), "has no 2d convolution"),
    ],
)
def test_channels_last_is_refused_where_it_is_not_safe(module, said):
    student = crossteach.from_module(module, SMALL)
    compute = with_settings(TransferConfig(), ["compute.channels_last=true"]).compute
    with pytest.raises(ModelError, match=said):
        require_arranged(student, compute, IMAGES)


def test_a_compiled_student_learns_the_same_and_keeps_its_names(task):
    plain, compiled = load_model(task.teacher), load_model(task.teacher)
    wanted = taught(task, plain, samples=32)
    require_same(wanted, taught(task, compiled, "compute.compile=true", samples=32))


def test_weights_that_no_answer_depends_on_are_left_out_while_several_train():
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    module[1].register_module("spare", nn.Linear(3, 3))
    student = crossteach.from_module(module, SMALL)
    spare = module[1].spare.weight
    with _without_unreached(student, IMAGES):
        assert not spare.requires_grad and module[1].weight.requires_grad
        assert all(p.grad is None for p in module.parameters())
    assert spare.requires_grad
