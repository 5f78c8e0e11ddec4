"""Which architectures of timm every target of `crossteach export` takes, with random weights.

    python benchmarks/exports.py [NAME ...]

Each is written, opened again by the library that the target is for, and asked one, three and eight fixed images.
Printed is the largest difference of two logits, or why there is no export. EXPORTS_CPU_2026-11-27.md has the result.
"""

import argparse
import tempfile
from pathlib import Path

import timm

import crossteach
from crossteach.exporting.checking import fixed_images, largest_difference
from crossteach.exporting.making import TARGETS
from crossteach.exporting.target import Exportable, Target

LARGER = (
    *("levit_128s", "deit_tiny_distilled_patch16_224", "swin_tiny_patch4_window7_224"),
    *("efficientnet_lite0", "convnext_atto"),
)
CLASSES = tuple(f"class {number}" for number in range(12))


def tried(what: Exportable, target: Target) -> str:
    with tempfile.TemporaryDirectory() as folder:
        try:
            target.write(what, Path(folder))
            ask = target.open(what, Path(folder))
            return f"{largest_difference(what.student, ask, fixed_images(what.shape), target.exact):.2g}"
        except crossteach.CrossteachError as error:
            return str(error)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=[*timm.list_models("test_*"), *LARGER])
    print("|".join(["", " architecture ", *(f" {name} " for name in TARGETS), ""]))
    print("|---" * (len(TARGETS) + 1) + "|")
    for name in parser.parse_args().names:
        student = crossteach.load_model(f"timm:{name}?pretrained=false&num_classes={len(CLASSES)}")
        size, channels = student.preprocess.size, student.preprocess.channels
        assert size is not None and channels is not None  # timm says both of every model
        what = Exportable(student, CLASSES, (channels, *size), None)
        print(f"| {name} | " + " | ".join(tried(what, target) for target in TARGETS.values()) + " |", flush=True)


if __name__ == "__main__":
    main()
