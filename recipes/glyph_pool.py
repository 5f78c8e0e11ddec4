r"""Render a pool for the glyphs: the same 100 characters in type families that no split of `glyphs` holds.

    apt-get download texlive-fonts-extra        # Debian 12, 509 MB; nothing of it enters this repository
    mkdir fonts && dpkg-deb --fsys-tarfile texlive-fonts-extra_*.deb | tar -x -C fonts --wildcards '*.otf' '*.ttf'
    python recipes/glyph_pool.py --fonts fonts --out runs/glyph_pool.npz

A family is a folder of the package. It is left out whole if one of its fonts bears the name of a design of `glyphs`, or
looks like one: some are the text fonts of other packages under another name. The pool that the package embeds
(`glyphs:pool`) is made by

    python recipes/glyph_pool.py --fonts fonts --faces 2 --licence "open font license" \
        --out src/crossteach/demo/pool.npz

The file holds `x_train`, `y_train` and
`group_train`: as a pool its labels are not read, and as `--data` they say what labelling it would have given. The list
of families is written beside it, and stands in recipes/glyph_pool.md.
"""

import argparse
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from fontTools.ttLib import TTFont

import crossteach
from crossteach.demo.make_glyphs import (
    CLASS_NAMES,
    UNUSABLE_STYLE,
    Face,
    Images,
    Split,
    draw_characters,
    drop_shared_images,
    find_flaw,
    find_gap,
    open_font,
    read_superfamilies,
    spread_styles,
    write_archive,
)

FACES_PER_FAMILY = 8
LICENCE_NAMES = (0, 13, 14)
"""Entries of a font's name table that state its licence: copyright, licence, and where that is found."""
SMALLER = 0.85
"""Each font is drawn at the size of the glyphs, and at this share of it."""
SAME_DESIGN = 7.5
"""Mean absolute grey difference below which a font has the design of a group of the glyphs: the last clone is XCharter
of Charter (7.3), and the first that is none is Merriweather beside Yrsa (7.9)."""


@dataclass(frozen=True)
class Drawn(Face):
    """A font file that is drawn."""

    path: Path


def states(path: Path, licence: str) -> bool:
    """Say whether a font states a licence."""
    with TTFont(path, lazy=True) as font:
        stated = " ".join(font["name"].getDebugName(number) or "" for number in LICENCE_NAMES)
    return licence.lower() in stated.lower()


def draw_faces(folder: Path) -> tuple[dict[str, list[Drawn]], Counter[str]]:
    """Draw every usable font below a folder, by family; count those left out, by reason."""
    known = list(read_superfamilies()[0])
    drawn: defaultdict[str, list[Drawn]] = defaultdict(list)
    named: set[str] = set()
    left_out: Counter[str] = Counter()
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in {".otf", ".ttf"}):
        family, style = (name or "" for name in open_font(path, 20).getname())
        if any(family.startswith(prefix) for prefix in known):
            named.add(path.parent.name)
        images = "style not usable" if UNUSABLE_STYLE.search(f"{family} {style}") else draw(path)
        if isinstance(images, str):
            left_out[images] += 1
        else:
            drawn[path.parent.name].append(Drawn(path.parent.name, family, "texlive-fonts-extra", images, path))
    for family in named & set(drawn):
        left_out["family with a name of the glyphs"] += len(drawn.pop(family))
    return dict(drawn), left_out


def draw(path: Path) -> Images | str:
    """Draw the 100 characters of a font, or say why that cannot be done."""
    try:
        if find_gap(path):
            return "characters missing"
        images = draw_characters(path)
    except (OSError, ValueError, ZeroDivisionError):  # what FreeType does not draw
        return "cannot be drawn"
    return find_flaw(images) or images


def nearest_designs(faces: list[Drawn]) -> list[tuple[float, str]]:
    """Return how far each face is from the nearest group of the glyphs, and which that is.

    The distance is the mean over the characters of the smallest mean absolute grey difference to any image of the
    group that shows the character.
    """
    with np.load(Path(crossteach.__file__).parent / "demo" / "glyphs.npz") as glyphs:
        parts = ("train", "val", "test")
        images, labels, groups = (
            np.concatenate([glyphs[f"{key}_{part}"] for part in parts]) for key in ("x", "y", "group")
        )
    names, code = np.unique(groups, return_inverse=True)
    ours = torch.from_numpy(np.stack([face.images for face in faces])).flatten(2).float()
    total, count = torch.zeros(len(faces), len(names)), torch.zeros(len(names))
    for label in range(len(CLASS_NAMES)):
        rows = np.flatnonzero(labels == label)
        apart = torch.cdist(ours[:, label], torch.from_numpy(images[rows]).flatten(1).float(), p=1) / images[0].size
        for group in np.unique(code[rows]):
            total[:, group] += apart[:, code[rows] == group].amin(1)
            count[group] += 1
    nearest = (total / count).min(1)
    return [(float(d), str(names[g])) for d, g in zip(nearest.values, nearest.indices, strict=True)]


def main() -> None:
    """Render the pool and the list of its families."""
    parser = argparse.ArgumentParser(description="Render a pool for the glyphs.")
    parser.add_argument("--fonts", type=Path, required=True, help="folder of .otf and .ttf files")
    parser.add_argument("--out", type=Path, default=Path("runs/glyph_pool.npz"))
    parser.add_argument("--faces", type=int, default=FACES_PER_FAMILY, help="of a family at most")
    parser.add_argument("--licence", help="only families of which every font states it")
    options = parser.parse_args()
    families, left_out = draw_faces(options.fonts)
    faces = [face for family in sorted(families) for face in families[family]]
    close: dict[str, str] = {}
    for face, (distance, design) in zip(faces, nearest_designs(faces), strict=True):
        if distance < SAME_DESIGN:
            close.setdefault(face.superfamily, f"{design} ({distance:.1f})")
    for family in close:
        left_out["family with a design of the glyphs"] += len(families.pop(family))
    for family in [
        f
        for f, members in families.items()
        if options.licence is not None and not all(states(face.path, options.licence) for face in members)
    ]:
        left_out[f"family of which not every font states {options.licence!r}"] += len(families.pop(family))
    chosen: dict[str, list[Drawn]] = {
        name: [face for _, face in spread_styles(members, options.faces)] for name, members in sorted(families.items())
    }
    picks = [face for members in chosen.values() for face in members]
    drawn = [face.images for face in picks] + [draw_characters(face.path, SMALLER) for face in picks]
    images = np.stack(drawn, axis=1)
    pool = Split(
        images.reshape(-1, *images.shape[2:]),
        np.repeat(np.arange(len(CLASS_NAMES)), len(drawn)),
        np.tile(np.array([face.superfamily for face in (*picks, *picks)]), len(CLASS_NAMES)),
    )
    kept = drop_shared_images({"train": pool})["train"]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_archive(options.out, {"train": kept})
    lines = [f"{reason}: {n} fonts left out" for reason, n in sorted(left_out.items())]
    lines += [f"{name}: looks like {design}, left out" for name, design in sorted(close.items())]
    lines += [f"{name}: {len(members)} fonts" for name, members in chosen.items()]
    options.out.with_suffix(".md").write_text(
        f"# Families of the glyph pool\n\n{len(kept.labels)} images, {len(picks)} fonts, {len(chosen)} families"
        f"{'' if options.licence is None else f', all under the {options.licence}'}.\n\n"
        + "".join(f"- {line}\n" for line in lines),
        encoding="utf-8",
    )
    print(f"{len(kept.labels)} images of {len(picks)} fonts in {len(chosen)} families in {options.out}")


if __name__ == "__main__":
    main()
