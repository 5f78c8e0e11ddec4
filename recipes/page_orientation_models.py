"""OriNet, a published classifier of the orientation of pages, as a torch module.

    python recipes/page_orientation.py --out runs/pages        # fetches the weights and checks every number
    py:recipes/page_orientation_models.py:orinet@runs/pages/orinet.safetensors

Four blocks of two convolutions, as VGG has them, 1.2 million weights, pages of 320 px. Batch norm is folded into the
published convolutions. Class k says that the page was turned clockwise by that many degrees.

Example:
    >>> import torch
    >>> orinet()(torch.zeros(2, 3, 320, 320)).shape
    torch.Size([2, 4])
"""

from pathlib import Path

from jaxtyping import Float
from torch import Tensor, nn

ANGLES = ("0", "90", "180", "270")
"""Degrees by which a page is turned clockwise: the classes of both models, in their order."""
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def block(given: int, made: int, stride: int = 1) -> tuple[nn.Module, ...]:
    """Two convolutions, and half the pixels a side."""
    first, second = nn.Conv2d(given, made, 3, stride, 1), nn.Conv2d(made, made, 3, 1, 1)
    return first, nn.ReLU(), second, nn.ReLU(), nn.MaxPool2d(2)


class OriNet(nn.Module):
    """The network of the package `occular-deskew`, without the average over four rotations that the package takes."""

    classes = ANGLES
    pretrained_cfg = {"input_size": (3, 320, 320), "interpolation": "bilinear", "crop_pct": 1.0, **IMAGENET}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(*block(3, 32, stride=2), *block(32, 64), *block(64, 128), *block(128, 256))
        self.head = nn.Sequential(nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, len(ANGLES)))

    def forward(self, images: Float[Tensor, "N 3 320 320"]) -> Float[Tensor, "N 4"]:
        """Return logits."""
        return self.head(self.body(images).mean((2, 3)))


def orinet() -> nn.Module:
    """Build OriNet."""
    return OriNet()


def spec(model: str, place: Path) -> str:
    """Write how `lcnet` or `orinet` opens, whose weights lie in a folder."""
    if model == "lcnet":
        return f"timm:lcnet_100@{place}/lcnet.safetensors?num_classes={len(ANGLES)}"
    return f"py:recipes/page_orientation_models.py:orinet@{place}/orinet.safetensors"
