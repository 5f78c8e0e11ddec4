"""Two things to try that might make more of a pool: mixed images as views, and room in the student for what is new.

    python recipes/pool_tries.py            # writes the students with more room into runs/wider
    python recipes/pool_study.py mixing room-head room-wide

`mixed` is an augmentation (`views.augmentation=recipes/pool_tries.py:mixed`): a usual view with another image of the
pool laid over it. The factories build a student of recipes/mid_zoo.py with more weights, which answers as it did before
it is taught: what is new ends in zeros. docs/pool.md has the figures.
"""

import argparse
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from crossteach.code import read_code
from crossteach.data.views import small_warp
from crossteach.demo.zoo import describe
from crossteach.errors import ModelError

POOL = Path("runs/glyph_pool.npz")
BANK, HEAVIEST = 4096, 0.5
"""Images of the pool that are laid over others, and the largest weight that one has."""
ZOO = Path(__file__).with_name("mid_zoo.py")
HIDDEN = 4
"""Width of the new layer behind the features, in features."""


@lru_cache(maxsize=1)
def bank() -> Tensor:
    """Draw the images that are laid over others, [BANK, 1, 32, 32] in [0, 1]."""
    with np.load(POOL) as archive:
        images = archive["x_train"]
    chosen = np.random.default_rng(0).permutation(len(images))[:BANK]
    return torch.from_numpy(images[np.sort(chosen)]).unsqueeze(1).float() / 255


def mixed(images: Tensor, u: Tensor) -> Tensor:
    """Warp images [n, 1, 32, 32] as usual, and lay another over each, at a weight between 0 and HEAVIEST."""
    others = bank()[(u[:, 6] * len(bank())).long()]
    weight = HEAVIEST * u[:, 7, None, None, None]
    return (1 - weight) * small_warp(images, u, 0.5) + weight * others


mixed.draws = 8


class Roomy(nn.Module):
    """A linear head with a small dense network beside it, whose answer begins as zero."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        width = linear.in_features
        self.linear = linear
        self.more = nn.Sequential(
            nn.Linear(width, HIDDEN * width), nn.GELU(), nn.Linear(HIDDEN * width, linear.out_features)
        )
        nn.init.zeros_(self.more[-1].weight)
        nn.init.zeros_(self.more[-1].bias)

    def forward(self, features: Tensor) -> Tensor:
        """Add both answers."""
        logits: Tensor = self.linear(features) + self.more(features)
        return logits


def build(name: str, num_classes: int) -> nn.Module:
    """Build an architecture of the mid-size models."""
    module: nn.Module = read_code(str(ZOO), "the mid-size models", ModelError).function(name)(num_classes)
    return module


def mlp_b_head(num_classes: int = 100) -> nn.Module:
    """mlp_b with a dense layer more behind its features."""
    module = build("mlp_b", num_classes)
    module[-1] = Roomy(module[-1])
    return module


def mix_a_head(num_classes: int = 100) -> nn.Module:
    """mix_a with a dense layer more behind its features."""
    module = build("mix_a", num_classes)
    module[-1].linear = Roomy(module[-1].linear)
    return module


class Beside(nn.Module):
    """Two networks whose answers are added; that of the second begins as zero."""

    def __init__(self, old: nn.Module, new: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.old, self.new = old, new
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Add both answers."""
        logits: Tensor = self.old(images) + self.new(images)
        return logits


def mlp_b_wide(num_classes: int = 100) -> nn.Module:
    """mlp_b with 64 hidden units more: twice as wide."""
    new = build("mlp_b", num_classes)
    return describe(Beside(build("mlp_b", num_classes), new, new[-1]))


def mix_a_wide(num_classes: int = 100) -> nn.Module:
    """mix_a with three Mixer blocks more beside its own."""
    new = build("mix_a", num_classes)
    return describe(Beside(build("mix_a", num_classes), new, new[-1].linear))


WIDER = {"mlp_b_head": mlp_b_head, "mix_a_head": mix_a_head, "mlp_b_wide": mlp_b_wide, "mix_a_wide": mix_a_wide}


def widen(name: str, weights: Path) -> nn.Module:
    """Build a student with more room, from the weights of the one that it was."""
    torch.manual_seed(0)
    module, kept = WIDER[name](), load_file(weights)
    if name.endswith("_wide"):
        module.old.load_state_dict(kept)
        return module
    own = module.state_dict()
    head = next(key for key in own if key.endswith("linear.weight")).removesuffix("linear.weight")
    moved = {key if key in own else key.replace(head, f"{head}linear."): tensor for key, tensor in kept.items()}
    module.load_state_dict({**own, **moved})
    return module


def main() -> None:
    """Write the students with more room."""
    parser = argparse.ArgumentParser(description="Write the students with more room.")
    parser.add_argument("--out", type=Path, default=Path("runs/wider"))
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    for name in WIDER:
        weights = Path(__file__).parent / "mid_zoo" / f"{name[:5]}.safetensors"
        module = widen(name, weights)
        save_file(
            {key: tensor.contiguous() for key, tensor in module.state_dict().items()}, out / f"{name}.safetensors"
        )
        print(f"{name}: {sum(p.numel() for p in module.parameters())} weights")


if __name__ == "__main__":
    main()
