"""Seven mid-size architectures, 65,000 to 354,000 weights, for what a pool of fresh images teaches.

    train="python -m crossteach.demo.train_checkpoints --zoo recipes/mid_zoo.py --out recipes/mid_zoo"
    $train --data "glyphs?train_samples=2634" [NAME ...]
    $train --data "glyphs?train_samples=2634" --tail [NAME ...]

Models of 10,000 weights cannot hold what they are taught; these can. They are trained on a fifth of the embedded
glyphs, so that there is much that they do not know. Their weights are in recipes/mid_zoo/. A spec reads
`py:recipes/mid_zoo.py:vit_a@recipes/mid_zoo/vit_a.safetensors`. They read 32x32 grey images in [0, 1].
"""

import torch
from torch import Tensor, nn

from crossteach.demo.zoo import MeanHead, MixerBlock, Patches, describe

RATES = {
    "mlp_b": 1e-3,
    "mlp_a": 1e-3,
    "vit_a": 1.5e-3,
    "mix_a": 1.5e-3,
    "cnn_b": 2e-3,
    "res_a": 2e-3,
    "cnn_a": 2e-3,
}
"""Peak rate of AdamW for each architecture."""


def dense(widths: tuple[int, ...], num_classes: int) -> nn.Module:
    """Stack dense layers on raw pixels, with dropout before the head."""
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in zip((32 * 32, *widths), widths, strict=False):
        layers += [nn.Linear(inputs, outputs), nn.GELU()]
    return describe(nn.Sequential(*layers, nn.Dropout(0.2), nn.Linear(widths[-1], num_classes)))


def mlp_a(num_classes: int = 100) -> nn.Module:
    """Two hidden dense layers."""
    return dense((256, 256), num_classes)


def mlp_b(num_classes: int = 100) -> nn.Module:
    """One narrow hidden dense layer: the weakest of the seven."""
    return dense((64,), num_classes)


def convolutions(widths: tuple[int, ...], norm: bool, num_classes: int) -> nn.Module:
    """Stack convolutions of stride 2, with or without batch norm, and a linear head."""
    layers: list[nn.Module] = []
    for inputs, outputs in zip((1, *widths), widths, strict=False):
        layers += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=not norm)]
        layers += [nn.BatchNorm2d(outputs)] if norm else []
        layers += [nn.ReLU(inplace=True)]
    side = 32 >> len(widths)
    head = [nn.Flatten(), nn.Dropout(0.2), nn.Linear(widths[-1] * side * side, num_classes)]
    return describe(nn.Sequential(*layers, *head))


def cnn_a(num_classes: int = 100) -> nn.Module:
    """Three convolutions with batch norm."""
    return convolutions((32, 64, 96), True, num_classes)


def cnn_b(num_classes: int = 100) -> nn.Module:
    """Four convolutions without any norm."""
    return convolutions((16, 32, 64, 96), False, num_classes)


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


def res_a(num_classes: int = 100, width: int = 40) -> nn.Module:
    """Two residual blocks over 64 patches, pooled to 16 places."""
    body = [nn.Conv2d(1, width, 4, stride=4), Residual(width), Residual(width), nn.AvgPool2d(2), nn.Flatten()]
    return describe(nn.Sequential(*body, nn.Dropout(0.2), nn.Linear(width * 16, num_classes)))


def mix_a(num_classes: int = 100, width: int = 64) -> nn.Module:
    """Three Mixer blocks over 16 patches of 8x8 pixels."""
    blocks = [MixerBlock(16, width) for _ in range(3)]
    return describe(nn.Sequential(Patches(8, width, 16), *blocks, MeanHead(width, num_classes)))


def vit_a(num_classes: int = 100, width: int = 64) -> nn.Module:
    """Three pre-norm attention blocks over 16 patches of 8x8 pixels."""
    blocks = [
        nn.TransformerEncoderLayer(
            width, 4, 2 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        for _ in range(3)
    ]
    return describe(nn.Sequential(Patches(8, width, 16), *blocks, MeanHead(width, num_classes)))
