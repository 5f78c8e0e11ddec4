"""A model that answers over other classes than its own, and is the same model in all else."""

import pytest
import torch
from torch import nn

from crossteach import from_module, load_data, load_model, predict
from crossteach.answers.check import steadiness_problem
from crossteach.answers.mapping import describe_mapping, mapping_notes
from crossteach.answers.store import Store
from crossteach.config import ScoringConfig
from crossteach.models import MappedClassifier, random_copy
from crossteach.models.mapped import known_by, partial_knowledge
from crossteach.models.scoring import ask_as, set_batch
from crossteach.types import TrainableClassifier


class Columns(nn.Module):
    """A module that answers some of another one's classes, in any order."""

    def __init__(self, inner: nn.Module, columns: list[int]) -> None:
        super().__init__()
        self.inner, self.columns = inner, columns

    def forward(self, images):
        return self.inner(images)[:, self.columns]


@pytest.fixture(scope="module")
def glyphs():
    data = load_data("glyphs")
    return data.test.take(torch.randperm(len(data.test), generator=torch.Generator().manual_seed(0))[:300].numpy())


@pytest.fixture(scope="module")
def model():
    return load_model("demo:convnet")


def columns(model, order, name="columns"):
    return from_module(Columns(model.module, order), model.preprocess, name=name)


def test_a_permuted_model_answers_the_same_bits(model, glyphs):
    order = torch.randperm(100, generator=torch.Generator().manual_seed(1))
    mapped = MappedClassifier(columns(model, order.tolist()), order.numpy(), glyphs_classes())
    assert torch.equal(predict(mapped, glyphs).logits, predict(model, glyphs).logits)
    assert partial_knowledge(mapped) is None and known_by([model, mapped]) is None


def glyphs_classes():
    return tuple(map(str, range(100)))


def test_a_part_of_the_classes_is_known_and_the_others_have_no_probability(model, glyphs):
    part, belongs = columns(model, list(range(30, 50))), torch.arange(30, 50).numpy()
    mapped = MappedClassifier(part, belongs, glyphs_classes())
    said = predict(mapped, glyphs)
    assert said.knows.nonzero().flatten().tolist() == list(range(30, 50))
    inside = predict(model, glyphs).logits[:, 30:50].softmax(1)
    torch.testing.assert_close(said.logits.softmax(1)[:, 30:50], inside, atol=1e-6, rtol=1e-4)
    assert mapped.notes[-1] == (
        "20 of the 20 classes of columns stand for 20 of 100, as given; the frozen student teaches the samples of the "
        "other 80"
    )
    assert mapping_notes([model, mapped], glyphs, Store()) == []


def test_what_lies_outside_is_told_once_and_kept(model, glyphs):
    belongs = torch.where(torch.arange(100) < 60, torch.arange(100) // 2, -1).numpy()
    mapped, store = MappedClassifier(model, belongs, [f"pair {i}" for i in range(30)]), Store()
    found = describe_mapping(mapped, glyphs, store)
    probs = predict(model, glyphs).logits.softmax(1)
    assert found["outside"] == pytest.approx(100 * probs[:, 60:].sum(1).mean().item(), abs=1e-3)
    assert (found["used"], found["known"], found["classes"]) == (60, 30, 100)
    mapped.outside = None  # would fail if it were asked again
    assert describe_mapping(mapped, glyphs, store) == found
    assert mapping_notes([mapped], glyphs, store)[0].startswith(f"{found['outside']:.1f}% of what convnet says")


def test_a_part_of_a_model_that_wavers_is_found_to_waver(model):
    """Classes without probability stand far below the others; they must not hide what differs among these."""

    class Wavers(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = model.module

        def forward(self, images):
            return self.inner(images)[:, :20] + 0.5 * torch.rand(len(images), 20)

    mapped = MappedClassifier(from_module(Wavers(), model.preprocess), torch.arange(20).numpy(), glyphs_classes())
    assert "differ from pass to pass" in steadiness_problem(mapped, load_data("glyphs")).found


def test_it_is_the_same_model_in_all_but_its_classes(model):
    belongs = torch.arange(100).flip(0).numpy()
    mapped = MappedClassifier(model, belongs, glyphs_classes())
    other = MappedClassifier(model, torch.arange(100).numpy(), glyphs_classes())
    assert len({model.fingerprint, mapped.fingerprint, other.fingerprint}) == 3
    assert (mapped.spec, mapped.name, mapped.family) == (model.spec, model.name, model.family)
    assert mapped.n_parameters == model.n_parameters and mapped.device == model.device
    assert not isinstance(mapped, TrainableClassifier)
    ask_as([mapped], ScoringConfig(8, "bfloat16"))
    assert set_batch(mapped) == set_batch(model) == 8 and model.scoring_precision == "bfloat16"
    ask_as([mapped], ScoringConfig())
    assert model.scoring_precision == mapped.scoring_precision == "float32"
    mapped.notes = (*mapped.notes, "memory ran out")
    assert model.notes[-1] == "memory ran out" and mapped.notes[-2:] == ("memory ran out", mapped._own_note)
    copy = random_copy(mapped)
    assert isinstance(copy, MappedClassifier) and copy.belongs.equal(mapped.belongs)
    assert copy.fingerprint != mapped.fingerprint
