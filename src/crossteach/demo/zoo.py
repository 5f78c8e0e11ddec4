"""The four architectures of the demo: small, different, plain torch."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

GREY_32: dict[str, Any] = {"input_size": (1, 32, 32), "mean": (0.09,), "std": (0.27,)}
"""Mean and spread of the glyphs' training pixels."""

RATES = {"convnet": 3e-3, "resnet": 3e-3, "mixer": 2e-3, "mlp": 1e-3}
"""Rate of AdamW for each architecture."""


def describe(module: nn.Module) -> nn.Module:
    """Attach what the module wants done to pixels."""
    module.pretrained_cfg = dict(GREY_32)  # type: ignore[assignment]
    return module


def convnet(num_classes: int = 100) -> nn.Module:
    """Three plain convolutions with batch norm."""

    def block(inputs: int, outputs: int) -> list[nn.Module]:
        convolution = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
        return [convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]

    body = [*block(1, 3), *block(3, 6), *block(6, 8)]
    return describe(nn.Sequential(*body, nn.Flatten(), nn.Dropout(0.1), nn.Linear(8 * 16, num_classes)))


def mlp(num_classes: int = 100, width: int = 18) -> nn.Module:
    """Two hidden dense layers on raw pixels."""
    hidden = [nn.Linear(32 * 32, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()]
    return describe(nn.Sequential(nn.Flatten(), *hidden, nn.Linear(width, num_classes)))


class Residual(nn.Module):
    """Two convolutions with group norm, added to their input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.GroupNorm(4, width)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Float[Tensor, "N W h w"]) -> Float[Tensor, "N W h w"]:
        """Add what the two convolutions find."""
        hidden = torch.relu(self.norm(self.first(x)))
        return torch.relu(x + self.second(hidden))


def resnet(num_classes: int = 100, width: int = 4) -> nn.Module:
    """A residual block with group norm over 64 patches, pooled to 16 places."""
    body = [nn.Conv2d(1, width, 4, stride=4), Residual(width), nn.AvgPool2d(2), nn.Flatten()]
    return describe(nn.Sequential(*body, nn.Linear(width * 16, num_classes)))


class Patches(nn.Module):
    """Cut an image into patches and embed each."""

    def __init__(self, patch: int, width: int, tokens: int) -> None:
        super().__init__()
        self.cut = nn.Conv2d(1, width, patch, stride=patch)
        self.place = nn.Parameter(torch.randn(tokens, width) * 0.02)

    def forward(self, images: Float[Tensor, "N 1 h w"]) -> Float[Tensor, "N T W"]:
        """Return one token a patch."""
        tokens: Tensor = self.cut(images).flatten(2).transpose(1, 2) + self.place
        return tokens


class MixerBlock(nn.Module):
    """Mix the tokens, then the channels, each with a small dense network."""

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.token_norm, self.channel_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.tokens = nn.Sequential(nn.Linear(tokens, 2 * tokens), nn.GELU(), nn.Linear(2 * tokens, tokens))
        self.channels = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Float[Tensor, "N T W"]) -> Float[Tensor, "N T W"]:
        """Mix both ways, added to the input."""
        x = x + self.tokens(self.token_norm(x).transpose(1, 2)).transpose(1, 2)
        mixed: Tensor = x + self.channels(self.channel_norm(x))
        return mixed


class MeanHead(nn.Module):
    """Average the tokens and score the classes."""

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.linear = nn.Linear(width, num_classes)

    def forward(self, x: Float[Tensor, "N T W"]) -> Float[Tensor, "N C"]:
        """Return logits."""
        logits: Tensor = self.linear(self.norm(x.mean(1)))
        return logits


def mixer(num_classes: int = 100, width: int = 32, depth: int = 1) -> nn.Module:
    """An MLP-Mixer over 16 patches of 8x8 pixels."""
    blocks = [MixerBlock(16, width) for _ in range(depth)]
    return describe(nn.Sequential(Patches(8, width, 16), *blocks, MeanHead(width, num_classes)))
