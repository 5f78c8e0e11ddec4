"""Pools as people have them: half of them foreign, corrupted, or badly unbalanced. Made from the glyph pool.

    python recipes/dirty_pools.py --pool runs/glyph_pool.npz --fonts fonts --out runs/dirty

`--pool` and `--fonts` are those of recipes/glyph_pool.py. Each file holds half of the glyph pool and as much of
something else: `letters` are Greek and Cyrillic letters of the same fonts, `fashion` pictures of Fashion-MNIST
(Debian's dataset-fashion-mnist), `noise` the other half under strong blur, noise or fading. `clean` is that half alone,
and `unbalanced` holds of each class a share that falls from all to a hundredth.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from study import corrupted

import crossteach
from crossteach.demo.make_glyphs import MARGIN, OVERSAMPLING, SIDE, UNUSABLE_STYLE, open_font

FOREIGN = "ЖЦЧШЩЪЫЭЮЯДФБГЛИЙПжцчшщъыэюядфбгли" + "ΓΔΘΛΞΠΣΦΨΩαβγδεζηθλμξπρστφχψω"
FASHION = "/usr/share/datasets/fashion-mnist"


def draw_foreign(path: Path) -> np.ndarray:
    """Draw the foreign letters that a font has, each as large as fits."""
    font = open_font(path, 200)
    missing, drawn = bytes(font.getmask("\U0010fffd")), []
    for letter in FOREIGN:
        mask = bytes(font.getmask(letter))
        if mask == missing or not any(mask):
            continue
        left, top, right, bottom = font.getbbox(letter, anchor="ls")
        scale = 0.7 * (SIDE - 2 * MARGIN) / max(bottom - top, right - left)
        canvas = Image.new("L", (SIDE * OVERSAMPLING, SIDE * OVERSAMPLING))
        x, y = ((SIDE / 2 - (a + b) / 2 * scale) * OVERSAMPLING for a, b in ((left, right), (top, bottom)))
        large = open_font(path, 200 * scale * OVERSAMPLING)
        ImageDraw.Draw(canvas).text((x, y), letter, fill=255, font=large, anchor="ls")
        drawn.append(np.asarray(canvas.reduce(OVERSAMPLING)))
    return np.array(drawn, np.uint8).reshape(-1, SIDE, SIDE)


def foreign_letters(folder: Path) -> np.ndarray:
    """Draw the foreign letters of all fonts below a folder."""
    found = []
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in {".otf", ".ttf"}):
        if UNUSABLE_STYLE.search(" ".join(name or "" for name in open_font(path, 20).getname())):
            continue
        try:
            found.append(draw_foreign(path))
        except (OSError, ValueError, ZeroDivisionError):
            continue
    return np.unique(np.concatenate(found), axis=0)


def main() -> None:
    """Write the pools."""
    parser = argparse.ArgumentParser(description="Pools that are half foreign, corrupted or unbalanced.")
    parser.add_argument("--pool", type=Path, default=Path("runs/glyph_pool.npz"))
    parser.add_argument("--fonts", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/dirty"))
    options = parser.parse_args()
    with np.load(options.pool) as archive:
        images, labels = archive["x_train"], archive["y_train"]
    rng = np.random.default_rng(0)
    order = rng.permutation(len(images))
    half, other = images[order[: len(order) // 2]], images[order[len(order) // 2 :]]
    clothes = crossteach.load_data(f"idx:{FASHION}").train
    rows = np.sort(rng.permutation(len(clothes))[: len(half)])
    worn = clothes.inputs.read(clothes.input_rows(rows), None, None)[:, 0].numpy() * 255
    letters = foreign_letters(options.fonts)
    letters = letters[rng.permutation(len(letters))[: len(half)]]
    kept = rng.random(len(labels)) < 10.0 ** (-2 * labels / labels.max())
    made = {
        "clean": half,
        "letters": np.concatenate([half, letters]),
        "fashion": np.concatenate([half, np.pad(worn, ((0, 0), (2, 2), (2, 2))).round().astype(np.uint8)]),
        "noise": np.concatenate([half, corrupted(other.astype(np.float64)).round().clip(0, 255).astype(np.uint8)]),
        "unbalanced": images[kept],
    }
    options.out.mkdir(parents=True, exist_ok=True)
    for name, pool in made.items():
        np.savez_compressed(options.out / f"{name}.npz", x=pool)
        print(f"{name}: {len(pool)} images, {len(half) if name != 'unbalanced' else len(pool)} of them glyphs")


if __name__ == "__main__":
    main()
