"""Twelve architectures for studies: the demo's four and eight more, with families, norms and sizes that differ.

    python -m crossteach.demo.train_checkpoints --zoo recipes/zoo.py --out recipes/zoo [NAME ...]
    python -m crossteach.demo.train_checkpoints --zoo recipes/zoo.py --out recipes/zoo --tail [NAME ...]

Their weights are in recipes/zoo/ (together under 1 MB). The first command trained them until validation stalled, the
second for a fixed length after that, so that no weights were picked on the selection split. A spec reads
`py:recipes/zoo.py:vit@recipes/zoo/vit.safetensors`. They read 32x32 grey images in [0, 1].
"""

import torch
from torch import Tensor, nn

from crossteach.demo import zoo as demo
from crossteach.demo.zoo import MeanHead, MixerBlock, Patches, convnet, describe, mixer, mlp, resnet

__all__ = ["convnet", "mixer", "mlp", "resnet"]

RATES = {
    **demo.RATES,
    "convnet_wide": 3e-3,
    "convnet_plain": 2e-3,
    "convnet_small": 3e-3,
    "resnet_bn": 3e-3,
    "mlp_wide": 1e-3,
    "mixer_deep": 2e-3,
    "vit": 2e-3,
    "vit_deep": 2e-3,
}
"""Peak rate of AdamW for each architecture."""

STRENGTHS = {"mixer_deep": 0.5}
"""How far the views of a model's training departed from its images; 1 where nothing is said."""

TAIL_STRENGTHS = {"mlp": 0.5, "mlp_wide": 0.5, "vit": 0.5}
"""The same of the tail: 1, or the strength of a transfer's views where plain fine-tuning on those still gained more
than half a point."""


def convolutions(widths: tuple[int, ...], norm: bool, num_classes: int) -> nn.Module:
    """Stack convolutions of stride 2, with or without batch norm, and a linear head."""
    layers: list[nn.Module] = []
    for inputs, outputs in zip((1, *widths), widths, strict=False):
        layers += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=not norm)]
        layers += [nn.BatchNorm2d(outputs)] if norm else []
        layers += [nn.ReLU(inplace=True)]
    side = 32 >> len(widths)
    head = [nn.Flatten(), nn.Dropout(0.1), nn.Linear(widths[-1] * side * side, num_classes)]
    return describe(nn.Sequential(*layers, *head))


def convnet_wide(num_classes: int = 100) -> nn.Module:
    """Three convolutions with batch norm, wider than the demo's."""
    return convolutions((4, 10, 12), True, num_classes)


def convnet_plain(num_classes: int = 100) -> nn.Module:
    """Three convolutions without any norm."""
    return convolutions((4, 8, 10), False, num_classes)


def convnet_small(num_classes: int = 100) -> nn.Module:
    """Four convolutions with batch norm and a small head."""
    return convolutions((3, 6, 12, 16), True, num_classes)


class Residual(nn.Module):
    """Two convolutions with batch norm, added to their input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(width)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """Add what the two convolutions find."""
        hidden = torch.relu(self.first_norm(self.first(x)))
        return torch.relu(x + self.second_norm(self.second(hidden)))


def resnet_bn(num_classes: int = 100, width: int = 6) -> nn.Module:
    """Two residual blocks with batch norm over 64 patches, pooled to 16 places."""
    body = [nn.Conv2d(1, width, 4, stride=4), Residual(width), Residual(width), nn.AvgPool2d(2), nn.Flatten()]
    return describe(nn.Sequential(*body, nn.Linear(width * 16, num_classes)))


def mlp_wide(num_classes: int = 100, width: int = 32) -> nn.Module:
    """One hidden dense layer on raw pixels, and dropout."""
    hidden = [nn.Linear(32 * 32, width), nn.GELU(), nn.Dropout(0.1)]
    return describe(nn.Sequential(nn.Flatten(), *hidden, nn.Linear(width, num_classes)))


def mixer_deep(num_classes: int = 100, width: int = 24) -> nn.Module:
    """Two Mixer blocks, narrower than the demo's one."""
    blocks = [MixerBlock(16, width), MixerBlock(16, width)]
    return describe(nn.Sequential(Patches(8, width, 16), *blocks, MeanHead(width, num_classes)))


def transformer(width: int, depth: int, num_classes: int) -> nn.Module:
    """Stack pre-norm attention blocks over 16 patches."""
    blocks = [
        nn.TransformerEncoderLayer(
            width, 4, 2 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        for _ in range(depth)
    ]
    return describe(nn.Sequential(Patches(8, width, 16), *blocks, MeanHead(width, num_classes)))


def vit(num_classes: int = 100) -> nn.Module:
    """One attention block."""
    return transformer(32, 1, num_classes)


def vit_deep(num_classes: int = 100) -> nn.Module:
    """Two narrower attention blocks."""
    return transformer(24, 2, num_classes)
