"""How many copies of images are found as nearly equal, and how many different images are taken for copies.

    python benchmarks/near_duplicates.py            # needs Debian's dataset-fashion-mnist

Copies are made of 2,000 images of the glyphs' test split, of 2,000 of Fashion-MNIST, and of 120 cuts of two photos.
Different images are 5,000 of Fashion-MNIST's training split beside these 2,000; of the glyphs, those of train beside
those of test: other type families, where a full stop or a bar looks alike in many of them.
"""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance
from sklearn.datasets import load_sample_images

import crossteach
from crossteach.data.arrays import ArrayInputs
from crossteach.data.near import FAR, Sketches, near_any, sketch
from crossteach.types import Split, no_progress

Images = np.ndarray  # [N, h, w] uint8


def as_jpeg(quality: int) -> Callable[[Image.Image], Image.Image]:
    """Save and open again, with loss."""

    def change(image: Image.Image) -> Image.Image:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality)
        return Image.open(buffer)

    return change


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG, quality 75": as_jpeg(75),
    "JPEG, quality 40": as_jpeg(40),
    "brightness × 0.8": lambda image: ImageEnhance.Brightness(image).enhance(0.8),
    "contrast × 0.8": lambda image: ImageEnhance.Contrast(image).enhance(0.8),
    "three quarters of the size": lambda image: image.resize(
        (image.width * 3 // 4, image.height * 3 // 4), Image.Resampling.BILINEAR
    ),
    "2% cut off each side": lambda image: image.crop(
        (image.width * 0.02, image.height * 0.02, image.width * 0.98, image.height * 0.98)
    ),
}


def sketched(images: Images) -> Sketches:
    """Sketch images of one size."""
    return sketch(Split("pool", ArrayInputs(images, "images"), np.arange(len(images))), no_progress, "looking")


def pixels(split: Split, count: int) -> Images:
    """Return the first grey images of a split."""
    read = split.inputs.read(split.input_rows(np.arange(min(count, len(split)))), None, None)
    return (255 * read[:, 0].numpy()).round().astype(np.uint8)


def cuts() -> Images:
    """Cut two photographs into overlapping squares."""
    found = []
    for photograph in load_sample_images().images:
        grey = photograph.mean(2).astype(np.uint8)
        rows, columns = (range(0, side - 160, 53) for side in grey.shape)
        found += [grey[y : y + 160, x : x + 160] for y in rows for x in columns]
    return np.stack(found)


def main() -> None:
    """Print both tables."""
    glyphs = crossteach.load_data("glyphs")
    fashion = crossteach.load_data("idx:/usr/share/datasets/fashion-mnist")
    kinds = {"glyphs": pixels(glyphs.test, 2000), "Fashion-MNIST": pixels(fashion.test, 2000), "photographs": cuts()}
    known = {name: sketched(images) for name, images in kinds.items()}
    print(f"Share of copies found, in % (thumbnails that differ by at most {FAR}):\n")
    print(f"| change | {' | '.join(kinds)} |\n|---|{'---|' * len(kinds)}")
    for what, change in CHANGES.items():
        shares = []
        for name, images in kinds.items():
            copies = np.stack([np.asarray(change(Image.fromarray(image))) for image in images])
            shares.append(f"{100 * near_any(sketched(copies), known[name]).mean():.1f}")
        print(f"| {what} | {' | '.join(shares)} |")
    others = {"glyphs": pixels(glyphs.train, 5000), "Fashion-MNIST": pixels(fashion.train, 5000)}
    print("\nShare of different images taken for copies, in %:\n\n| data | share |\n|---|---|")
    for name, images in others.items():
        print(f"| {name} | {100 * near_any(sketched(images), known[name]).mean():.1f} |")


if __name__ == "__main__":
    main()
