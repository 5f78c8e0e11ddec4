"""What a module is made of, told by its modules: real architectures of timm, and some whose names say nothing."""

import pytest
import timm
import torch
from torch import nn

from crossteach.models.layers import family_of, find_head, find_heads

FAMILIES = {
    "cait_xxs24_224": "transformer",
    "convit_tiny": "transformer",
    "sequencer2d_s": "other",
    "twins_svt_small": "transformer",
    "twins_pcpvt_small": "transformer",
    "coat_tiny": "transformer",
    "pit_ti_224": "transformer",
    "swin_tiny_patch4_window7_224": "transformer",
    "xcit_nano_12_p16_224": "transformer",
    "mobilevit_xxs": "transformer",
    "vit_tiny_patch16_224": "transformer",
    "convmixer_768_32": "convolutional",
    "convnext_atto": "convolutional",
    "efficientvit_b0": "convolutional",
    "poolformer_s12": "convolutional",
    "regnety_002": "convolutional",
    "tf_efficientnet_lite0": "convolutional",
    "vgg11": "convolutional",
    "gmlp_ti16_224": "mlp",
    "mixer_s32_224": "mlp",
    "resmlp_12_224": "mlp",
}


def unfilled(name, n_classes=7):
    """An architecture without memory for its weights."""
    try:
        with torch.device("meta"):
            return timm.create_model(name, pretrained=False, num_classes=n_classes)
    except (RuntimeError, NotImplementedError):  # it computes something of its weights when it is made
        return timm.create_model(name, pretrained=False, num_classes=n_classes)


@pytest.mark.parametrize("name", FAMILIES)
def test_families_of_real_architectures(name):
    assert family_of(unfilled(name)) == FAMILIES[name]


def test_a_family_does_not_follow_from_a_name():
    class ConvNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.MultiheadAttention(8, 2)

    class AttentionTransformer(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 8, 3), nn.Linear(8, 7)

    class Query(nn.Module):
        """Makes queries, whatever it is called."""

        def __init__(self):
            super().__init__()
            self.q, self.k, self.v = (nn.Linear(8, 8) for _ in range(3))

    assert family_of(ConvNet()) == "transformer"
    assert family_of(AttentionTransformer()) == "convolutional"
    assert family_of(nn.Sequential(nn.Conv2d(3, 8, 16, stride=16), Query())) == "transformer"
    assert family_of(nn.Sequential(nn.LSTM(8, 8), nn.Linear(8, 7))) == "other"


@pytest.mark.parametrize(
    ("name", "heads"),
    [
        ("deit_tiny_distilled_patch16_224", ["head", "head_dist"]),
        ("pit_ti_distilled_224", ["head", "head_dist"]),
        ("levit_128s", ["head.linear", "head_dist.linear"]),
        ("crossvit_9_240", ["head.0", "head.1"]),
        ("deit_tiny_patch16_224", ["head"]),
        ("resnet18", ["fc"]),
        ("vgg11", ["head.fc"]),
        ("swin_tiny_patch4_window7_224", ["head.fc"]),
        ("coat_tiny", ["head"]),
    ],
)
def test_all_heads_of_a_model_are_found(name, heads):
    module = unfilled(name)
    names = {id(part): key for key, part in module.named_modules()}
    assert [names[id(head)] for head in find_heads(module, 7)] == heads
    assert names[id(find_head(module, 7))] == heads[-1]


def test_layers_as_wide_as_there_are_classes_are_no_heads():
    last = nn.Linear(7, 7)
    assert find_heads(nn.Sequential(nn.Linear(3, 7), nn.ReLU(), last), 7) == [last]
    deep = nn.Sequential(nn.Linear(3, 7), nn.Linear(7, 5), nn.Linear(5, 7))
    assert find_heads(deep, 7) == [deep[2]], "one feeds the other"
    assert find_heads(nn.Linear(3, 5), 7) == []
