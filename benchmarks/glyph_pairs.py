"""Data of 1,024 classes from the embedded glyphs: two characters of one type family side by side, 32x32 grey.

    python benchmarks/glyph_pairs.py [--out runs/glyph_pairs]
    train="python -m crossteach.demo.train_checkpoints --zoo recipes/mid_zoo.py --out runs/glyph_pairs"
    $train --data "npz:runs/glyph_pairs/pairs.npz" --most-epochs 60 res_a mix_a cnn_a

A class is an ordered pair of 32 characters; each is squeezed to half of its width. Which two images stand side by side
is drawn with a seed, always from one family, so the splits hold other families as those of `glyphs` do. `pairs.npz` has
12 samples a class to train and to test on and 6 to select, `pool.npz` 40 a class from the families of `glyphs:pool`.
"""

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crossteach.models.py import DEMO

CHARACTERS = "abcdefghijklmnopqrstuvwxyzABDEGR"
SAMPLES = {"train": 12, "val": 6, "test": 12}
POOL_SAMPLES = 40
Drawn = dict[str, NDArray[np.generic]]


def draw_pairs(images: Drawn, part: str, samples: int, rng: np.random.Generator) -> Drawn:
    """Draw so many samples of every class.

    Args:
        images: The arrays of an archive of single characters, `class_names` among them.
        part: The split of it that is read.
        samples: Of each class.
        rng: Draws families and faces.

    Returns:
        `x_PART` uint8 [N, 32, 32], `y_PART` and `group_PART` [N].
    """
    x, y, group = (images[f"{key}_{part}"] for key in ("x", "y", "group"))
    names = images["class_names"].tolist()
    narrow = ((x[:, :, 0::2].astype(np.uint16) + x[:, :, 1::2] + 1) // 2).astype(np.uint8)
    rows: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for row, (family, label) in enumerate(zip(group, y, strict=True)):
        rows[family, names[label]].append(row)
    families = [f for f in np.unique(group) if all(rows[f, character] for character in CHARACTERS)]
    drawn: list[tuple[NDArray[np.uint8], int, str]] = []
    for label, (left, right) in enumerate((a, b) for a in CHARACTERS for b in CHARACTERS):
        for family in rng.choice(families, samples):
            halves = [narrow[rng.choice(rows[family, character])] for character in (left, right)]
            drawn.append((np.concatenate(halves, 1), label, family))
    arrays = (np.array(values) for values in zip(*drawn, strict=True))
    return dict(zip((f"x_{part}", f"y_{part}", f"group_{part}"), arrays, strict=True))


def main() -> None:
    """Write both files."""
    parser = argparse.ArgumentParser(description="Pairs of glyphs: 1,024 classes.")
    parser.add_argument("--out", type=Path, default=Path("runs/glyph_pairs"))
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    names = np.array([left + right for left in CHARACTERS for right in CHARACTERS])
    pairs: Drawn = {}
    with np.load(DEMO / "glyphs.npz") as glyphs, np.load(DEMO / "pool.npz") as pool:
        for part, samples in SAMPLES.items():
            pairs |= draw_pairs(dict(glyphs), part, samples, rng)
        fresh = draw_pairs(dict(pool), "train", POOL_SAMPLES, rng)
    for name, found in (("pairs.npz", pairs), ("pool.npz", fresh)):
        np.savez(out / name, class_names=names, **found)
        print(name, ", ".join(f"{key} {value.shape}" for key, value in found.items() if key.startswith("x")))


if __name__ == "__main__":
    main()
