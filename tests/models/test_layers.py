"""Families by what modules are made of, and every head of a model."""

import pytest
import timm
import torch
from torch import nn

from crossteach.errors import ModelError
from crossteach.models.layers import family_of, find_heads
from crossteach.transferring.adapting import describe_part, learning_weights

FAMILIES = {
    "transformer": (
        *("vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224", "swin_tiny_patch4_window7_224", "cait_xxs24_224"),
        *("convit_tiny", "twins_pcpvt_small", "coat_tiny", "pit_ti_224", "beit_base_patch16_224"),
    ),
    "convolutional": (
        "resnet18",
        "vgg11",
        "regnety_002",
        "efficientnet_lite0",
        "convnext_atto",
        "mobilenetv3_small_050",
    ),
    "mlp": ("mixer_s32_224", "resmlp_12_224"),
    "other": ("sequencer2d_s",),
}


@pytest.mark.parametrize(("family", "name"), [(family, name) for family, names in FAMILIES.items() for name in names])
def test_families_are_told_by_modules_and_not_by_names(family, name):
    with torch.device("meta"):
        module = timm.create_model(name, pretrained=False)
    assert family_of(module) == family
    type(module).__name__ = "Renamed"
    assert family_of(module) == family


@pytest.mark.parametrize("name", ["deit_tiny_distilled_patch16_224", "levit_128s"])
def test_a_distilled_transformer_has_two_heads(name):
    module = timm.create_model(name, pretrained=False, num_classes=7)
    heads = find_heads(module, 7)
    assert len(heads) == 2
    learning = learning_weights(module, "head", 7)
    assert {id(p) for head in heads for p in head.parameters()} <= {id(p) for p in learning}
    (note,) = describe_part(module, "head", 7, 0)
    assert note.startswith("optim.trains=head: ") and "of the model's weights learn (" in note


@pytest.mark.parametrize("name", ["regnety_002", "pit_ti_224", "vgg11", "resnet18", "vit_tiny_patch16_224"])
def test_the_last_block_is_no_more_than_half_of_a_model_and_is_said(name):
    """It once was 70 to 93% of some."""
    module = timm.create_model(name, pretrained=False, num_classes=7)
    every = sum(p.numel() for p in module.parameters())
    learning = sum(p.numel() for p in learning_weights(module, "last", 7))
    assert learning <= 0.55 * every, "a half, and the head"
    (note,) = describe_part(module, "last", 7, 0)
    assert note.startswith(f"optim.trains=last: {100 * learning / every:.2g}% of the model's weights learn")


@pytest.mark.parametrize("name", ["efficientvit_b0"])
def test_a_last_block_that_is_one_layer_of_most_weights_is_refused(name):
    module = timm.create_model(name, pretrained=False, num_classes=7)
    with pytest.raises(ModelError, match=r"last block before the head is one .*more than 50% of the model; use head"):
        learning_weights(module, "last", 7)


def test_what_learns_is_said_for_adapters_too():
    module = timm.create_model("vit_tiny_patch16_224", pretrained=False, num_classes=7)
    (note,) = describe_part(module, "lora", 7, 4)
    assert note.startswith("optim.trains=lora: adapters of rank 4 on ") and "% of the model's weights" in note
    assert describe_part(module, "all", 7, 0) == []


def test_layers_in_a_row_are_no_two_heads():
    module = nn.Sequential(nn.Flatten(), nn.Linear(20, 7), nn.ReLU(), nn.Linear(7, 7))
    assert find_heads(module, 7) == [module[3]]
