"""Render ``glyphs.npz``, the embedded data set: 100 characters in many free fonts, 32x32 grey.

The three splits hold different superfamilies (one foundry's one design, clones included), so a
model is always tested on designs that it has never seen. Needs Debian 12 with the packages in
``LICENCES`` installed, and ``pip install numpy pillow``::

    python -m crossteach.demo.make_glyphs --out glyphs.npz

Same fonts and same Pillow, same bytes. ``FONTS.md`` is written next to the archive.
"""

import argparse
import io
import re
import subprocess
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ..files import write_bytes

Images = NDArray[np.uint8]  # [N, 32, 32], ink 255 on 0

CLASS_NAMES = [chr(code) for code in range(33, 127)] + list("äöüßéñ")
SIDE = 32
MARGIN = 1
OVERSAMPLING = 4
GREY_STEP = 17  # 16 grey levels: 0, 17, ... 255
INK = 3 * GREY_STEP  # anything darker is the edge of a stroke
MIN_X_HEIGHT = 7
MAX_FACES_PER_SUPERFAMILY = 4
MIN_STYLE_DISTANCE = 5.0  # mean absolute grey difference that makes two faces two styles
FACES_PER_SPLIT = {"train": 132, "val": 66, "test": 66}
SPLIT_SEED = 1
FONT_FOLDERS = [Path("/usr/share/fonts"), Path("/usr/share/texmf/fonts")]
FIXED_DATE = (2000, 1, 1, 0, 0, 0)

# Licence of the fonts (not of the packaging), read in each package's copyright file.
LICENCES = {
    "OFL": """
        amiga anonymous-pro arapey averia-gwf b612 blankenburg breip cabin
        cabinsketch cantarell cardo cherrybomb cmu comfortaa comic-neue compagnon courier-prime
        croscore crosextra-caladea dancingscript dosis dotgothic16 ebgaramond elstob essays1743
        eurofurence fantasque-sans ferrite-core firacode gamaliel gemunu-libre georgewilliams
        gfs-artemisia gfs-didot gfs-neohellenic hermit hosny-amiri inconsolata inter
        jetbrains-mono junction junicode jura karla kaushanscript klaudia-berenika kristi lato
        league-mono league-spartan leckerli-one lemonada linuxlibertine lobstertwo lxgw-wenkai
        manrope millimetre monofur monoid mononoki morisawa-bizud-gothic mplus noto-core
        okolaks oldstandard oxygen play quattrocento quicksand reggae rocknroll routed-gothic
        sil-akatab sil-andika sil-charis sil-gentium-basic sil-harmattan sil-lateef
        sil-sophia-nubian sixtyfour smc-chilanka smc-gayathri smc-manjari smiley-sans sora stick
        train triod-postnaja vollkorn yanone-kaffeesatz yrsa-rasa yusei-magic""",
    "GPL with font exception": """
        adf-accanthis adf-baskervald adf-berenis adf-gillius adf-ikarius adf-irianis adf-libris
        adf-mekanus adf-oldania adf-romande adf-switzera adf-tribun adf-universalis osifont
        sjfonts tiresias tlwg-laksaman-otf tlwg-purisa-otf tlwg-sawasdee-otf""",
    "Apache-2.0": "clear-sans open-sans roboto-slab roboto-unhinted",
    "BSD": "3270 go spleen",
    "MIT": "agave fanwood hack lindenhill",
    "Bitstream Vera": "dejavu-core dejavu-extra",
    "GUST Font License": "texgyre",
    "CC0-1.0": "fantasma",
    "public domain": "glasstty goudybookletter prociono tuffy",
    "ParaType Free Font License": "paratype",
}

# By style: "Superfamily = prefixes of its family names", parted by "|"; without prefixes
# the name itself is one. The longest prefix wins; a family that nothing here names is left
# out. Clones of one design stand together.
SUPERFAMILIES = {
    "sans": """
        Andika = Andika, Harmattan, Akatab | Avant Garde = TeX Gyre Adventor | Averia = Averia |
        DejaVu = DejaVu, Bitstream Vera, Hack | eurofurence = eurofurence, unifur, monofur |
        Helvetica = Liberation Sans, Arimo, FreeSans, TeX Gyre Heros, Garuda, Loma,
            Switzera ADF, Caliban |
        Klaudia = Klaudia, Berenika | Lato = Lato, Carlito |
        Noto Sans = Noto Sans, Noto Mono, Open Sans | B612 | BIZ UD | Cabin | Cantarell |
        Clear Sans | Comfortaa | Dosis | Gayathri | Gemunu Libre | GFS Neohellenic | Gillius ADF |
        Go | Ikarius ADF | Inter | Junction | Jura | Karla | Laksaman | League Spartan |
        Libris ADF | M PLUS | Manjari | Manrope | Mekanus ADF | Millimetre |
        okolaks | Oldania ADF | osifont | Oxygen | Play | PT | Quicksand | Roboto | Routed Gothic |
        Sawasdee | Smiley Sans | Sophia Nubian | Sora | Tiresias | Tuffy | Universalis ADF |
        Yanone Kaffeesatz""",
    "serif": """
        Bookman = TeX Gyre Bonum | Cambo = Caladea |
        Century Schoolbook = TeX Gyre Schola, Century Catalogue | Charter = Charis SIL |
        Computer Modern = CMU | Crimson = Amiri | Junicode = Junicode, Elstob |
        Libertine = Linux Libertine, Linux Biolinum | Palatino = TeX Gyre Pagella, GFS Didot |
        Times = Liberation Serif, Tinos, FreeSerif, TeX Gyre Termes, GFS Artemisia,
            Tribun ADF, Romande ADF, Scheherazade |
        Yrsa = Yrsa, Rasa | Accanthis ADF | Arapey | Baskervald ADF | Berenis ADF | Cardo |
        Caslon | Cupola | EB Garamond | Essays1743 | Fanwood | Gentium | Goudy Bookletter 1911 |
        Irianis ADF | Lateef | Linden Hill | Noto Serif | Old Standard TT | Prociono |
        Quattrocento | TriodPostnaja | Vollkorn""",
    "mono": """
        Courier = Liberation Mono, Cousine, FreeMono, TeX Gyre Cursor, Courier Prime |
        Fira = Fira Code | Agave | Amiga | Anonymous Pro | C-64 | Compagnon | DotGothic16 |
        Fantasque Sans Mono | Glass TTY VT220 | GWMonospace | Hermit | IBM 3270 | Inconsolata |
        JetBrains Mono | League Mono | Monoid | mononoki | Spleen""",
    "script": """
        Klee = Klee One, LXGW WenKai | Zapf Chancery = TeX Gyre Chorus | Breip | Chilanka |
        Comic Neue | Dancing Script | Delphine | Kaushan Script | Kristi | Lobster Two | Purisa |
        Steve | Yusei Magic""",
    "display": """
        Blankenburg | Cherry Bomb | Fantasma | Ferrite Core DX | Gamaliel | Leckerli One |
        Lemonada | Reggae One | RocknRoll One | Stick | Train One""",
}

# Too thin for 32 pixels, or without lower case.
UNUSABLE_STYLE = re.compile(
    r"Thin|Hairline|(Extra|Ultra) ?Light|SC\b|Small ?caps|Titling|Outline|Keyboard|Math",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Face:
    """One font file: the names it stands under, and its 100 characters drawn."""

    superfamily: str
    family: str
    package: str
    images: Images


AnyFace = TypeVar("AnyFace", bound=Face)


@dataclass(frozen=True)
class Split:
    """The samples of one split, row by row."""

    images: Images
    labels: NDArray[np.int64]
    groups: NDArray[np.str_]


def read_superfamilies() -> tuple[dict[str, str], dict[str, str]]:
    """Return superfamily by family-name prefix, and style by superfamily."""
    by_prefix: dict[str, str] = {}
    style_of: dict[str, str] = {}
    for style, entries in SUPERFAMILIES.items():
        for entry in entries.split("|"):
            name, _, prefixes = entry.partition("=")
            style_of[name.strip()] = style
            for prefix in (prefixes or name).split(","):
                by_prefix[prefix.strip()] = name.strip()
    return by_prefix, style_of


def licence_by_package() -> dict[str, str]:
    """Return the fonts' licence by Debian package name, in alphabetical order."""
    pairs = [(f"fonts-{word}", name) for name, words in LICENCES.items() for word in words.split()]
    return dict(sorted(pairs))


def list_font_files(folders: Sequence[Path]) -> Iterator[tuple[str, Path]]:
    """Yield ``(package, path)`` of the OpenType and TrueType files below ``folders``."""
    for package in licence_by_package():
        listing = subprocess.run(["dpkg-query", "--listfiles", package], capture_output=True, text=True, check=False)
        if listing.returncode != 0:
            raise SystemExit(f"expected Debian package {package}; run the command in FONTS.md")
        for path in sorted(map(Path, listing.stdout.splitlines())):
            is_font = path.suffix.lower() in {".ttf", ".otf"} and not path.is_symlink()
            if is_font and any(path.is_relative_to(folder) for folder in folders):
                yield package, path


def open_font(path: Path, size: float) -> ImageFont.FreeTypeFont:
    """Open a font file for drawing without ligatures and kerning."""
    return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)


def find_gap(path: Path) -> str | None:
    """Say which character of the 100 a font file lacks, blank ones included, if any."""
    font = open_font(path, 40)
    missing = bytes(font.getmask("\U0010fffd"))  # a noncharacter, so .notdef
    for name in CLASS_NAMES:
        mask = bytes(font.getmask(name))
        if mask == missing or not any(mask):
            return f"no {name}"
    return None


def draw_characters(path: Path, share: float = 1.0) -> Images:
    """Draw the 100 characters of a font, each centred on its ink from left to right.

    All share one scale and one baseline: the largest scale at which every one fits in the box, or a share of that.
    """
    probe = open_font(path, 200)
    boxes = np.array([probe.getbbox(name, anchor="ls") for name in CLASS_NAMES])
    left, top, right, bottom = boxes.T
    highest, lowest = top.min(), bottom.max()
    scale = share * (SIDE - 2 * MARGIN) / max(lowest - highest, (right - left).max())
    font = open_font(path, 200 * scale * OVERSAMPLING)
    images = np.zeros((len(CLASS_NAMES), SIDE, SIDE), np.uint8)
    for index, name in enumerate(CLASS_NAMES):
        canvas = Image.new("L", (SIDE * OVERSAMPLING, SIDE * OVERSAMPLING))
        ink_centre = np.array([left[index] + right[index], highest + lowest]) / 2
        x, y = (SIDE / 2 - ink_centre * scale) * OVERSAMPLING
        ImageDraw.Draw(canvas).text((x, y), name, fill=255, font=font, anchor="ls")
        images[index] = np.asarray(canvas.reduce(OVERSAMPLING))
    return np.round(images / GREY_STEP).astype(np.uint8) * np.uint8(GREY_STEP)


def find_flaw(images: Images) -> str | None:
    """Say why the drawn characters of a face are no Latin text font, if so."""
    image_of = dict(zip(CLASS_NAMES, images, strict=True))
    if min(image.max() for image in images) < INK:
        return "glyph too faint"
    if np.count_nonzero((image_of["x"] > INK).any(axis=1)) < MIN_X_HEIGHT:
        return "lower case too small"
    if any(np.array_equal(image_of[a], image_of[b]) for a, b in ("äa", "öo", "üu", "ée", "ñn")):
        return "accents not drawn"
    if len({image.tobytes() for image in images}) < 95:
        return "one glyph for several characters"
    if shape_likeness(image_of["\\"], image_of["/"][:, ::-1]) < 0.5:
        return "another sign for the backslash"
    likeness = [shape_likeness(image_of[a], image_of[a.upper()]) for a in "abdeghnqrt"]
    return "lower case drawn as capitals" if np.median(likeness) > 0.7 else None


def shape_likeness(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Correlate two glyphs after stretching the ink of each to the same square."""
    squares = []
    for image in (a, b):
        rows, columns = np.nonzero(image > INK)
        ink = image[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        square = Image.fromarray(ink).resize((16, 16), Image.Resampling.BILINEAR)
        flat = np.asarray(square, dtype=np.float64).ravel()
        squares.append((flat - flat.mean()) / flat.std())
    return float((squares[0] * squares[1]).mean())


def spread_styles(faces: Sequence[AnyFace], most: int = MAX_FACES_PER_SUPERFAMILY) -> list[tuple[float, AnyFace]]:
    """Pick well-separated faces of one superfamily, so many at most.

    Returns:
        ``(distance, face)`` pairs: the most typical face first, then farthest-point picks, as
        long as they are ``MIN_STYLE_DISTANCE`` away from every earlier pick.
    """
    stack = np.stack([face.images.ravel() for face in faces]).astype(np.int16)
    distances = np.array([[np.abs(a - b).mean() for b in stack] for a in stack])
    picks = [int(distances.sum(axis=1).argmin())]
    reach = [float("inf")]
    while len(picks) < min(len(faces), most):
        nearest = distances[:, picks].min(axis=1)
        if nearest.max() < MIN_STYLE_DISTANCE:
            break
        picks.append(int(nearest.argmax()))
        reach.append(float(nearest.max()))
    return [(distance, faces[pick]) for distance, pick in zip(reach, picks, strict=True)]


def draw_splits(style_of: Mapping[str, str], seed: int) -> dict[str, str]:
    """Assign superfamilies to splits at random, with the same mix of styles in each."""
    rng = np.random.default_rng(seed)
    shares = {split: n / sum(FACES_PER_SPLIT.values()) for split, n in FACES_PER_SPLIT.items()}
    split_of: dict[str, str] = {}
    total: Counter[str] = Counter()
    for style in SUPERFAMILIES:
        members = sorted(name for name in style_of if style_of[name] == style)
        here: Counter[str] = Counter()
        for n_drawn, index in enumerate(rng.permutation(len(members)), start=1):
            n_total = sum(total.values()) + 1
            lack = {split: share * (n_drawn + n_total) - here[split] - total[split] for split, share in shares.items()}
            split = max(lack, key=lambda name: lack[name])
            split_of[members[index]] = split
            here[split] += 1
            total[split] += 1
    return split_of


def pick_faces(superfamilies: Sequence[Sequence[Face]], n_faces: int) -> list[Face]:
    """Choose the faces of a split: one of each superfamily, then the most distinct ones."""
    ranked = [pick for faces in superfamilies for pick in spread_styles(faces)]
    ranked.sort(key=lambda pick: -pick[0])
    return sorted((face for _, face in ranked[:n_faces]), key=lambda face: face.superfamily)


def stack_split(faces: Sequence[Face]) -> Split:
    """Line up the characters of faces, sorted by class (the archive gets smaller)."""
    images = np.stack([face.images for face in faces], axis=1)  # [100, faces, 32, 32]
    names = np.array([face.superfamily for face in faces])
    return Split(
        images.reshape(-1, SIDE, SIDE),
        np.repeat(np.arange(len(CLASS_NAMES)), len(faces)),
        np.tile(names, len(CLASS_NAMES)),
    )


def drop_shared_images(splits: Mapping[str, Split]) -> dict[str, Split]:
    """Keep each image once, and none that has two labels or stands in two splits."""
    labels_of: defaultdict[bytes, set[int]] = defaultdict(set)
    splits_of: defaultdict[bytes, set[str]] = defaultdict(set)
    for name, split in splits.items():
        for image, label in zip(split.images, split.labels, strict=True):
            labels_of[image.tobytes()].add(int(label))
            splits_of[image.tobytes()].add(name)
    kept: dict[str, Split] = {}
    dropped: Counter[str] = Counter()
    for name, split in splits.items():
        seen: set[bytes] = set()
        rows = []
        for row, image in enumerate(split.images):
            key = image.tobytes()
            if len(labels_of[key]) > 1:
                dropped["with two labels"] += 1
            elif len(splits_of[key]) > 1:
                dropped["in two splits"] += 1
            elif key in seen:
                dropped["repeated in a split"] += 1
            else:
                seen.add(key)
                rows.append(row)
        kept[name] = Split(split.images[rows], split.labels[rows], split.groups[rows])
    print("images dropped:", ", ".join(f"{n} {reason}" for reason, n in sorted(dropped.items())))
    return kept


def write_archive(path: Path, splits: Mapping[str, Split]) -> None:
    """Write an LZMA ``.npz`` whose bytes do not depend on the clock."""
    arrays: dict[str, NDArray[np.generic]] = {"class_names": np.array(CLASS_NAMES)}
    for name, split in splits.items():
        arrays |= {
            f"x_{name}": split.images,
            f"y_{name}": split.labels,
            f"group_{name}": split.groups,
        }
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for key, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, np.ascontiguousarray(array), allow_pickle=False)
            info = zipfile.ZipInfo(f"{key}.npy", FIXED_DATE)
            info.compress_type = zipfile.ZIP_LZMA
            info.create_system = 3
            archive.writestr(info, member.getvalue())
    write_bytes(path, packed.getvalue())


def write_font_table(path: Path, chosen: Mapping[str, Sequence[Face]]) -> None:
    """Write ``FONTS.md``: which fonts were drawn, their licences, and their splits."""
    licences = licence_by_package()
    counts = Counter(
        (face.superfamily, face.family, face.package, split) for split, faces in chosen.items() for face in faces
    )
    lines = [
        "# Fonts drawn in `glyphs.npz`",
        "",
        f"1. On Debian 12: `apt-get install --no-install-recommends {' '.join(licences)}`",
        f"2. `pip install numpy pillow=={PIL.__version__}`",
        "3. `python -m crossteach.demo.make_glyphs --out glyphs.npz`",
        "",
        "The archive holds pictures of single characters, no font data.",
        "",
        "| superfamily | family | faces | Debian package | licence | split |",
        "|---|---|---|---|---|---|",
    ]
    for (name, family, package, split), n in sorted(counts.items()):
        lines.append(f"| {name} | {family} | {n} | {package} | {licences[package]} | {split} |")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def load_faces(folders: Sequence[Path]) -> dict[str, list[Face]]:
    """Draw every usable face, by superfamily, and say how many were left out and why."""
    by_prefix, _ = read_superfamilies()
    drawn: defaultdict[str, list[Face]] = defaultdict(list)
    left_out: Counter[str] = Counter()
    for package, path in list_font_files(folders):
        family, style = (name or "" for name in open_font(path, 20).getname())
        prefixes = [prefix for prefix in by_prefix if family.startswith(prefix)]
        if not prefixes or UNUSABLE_STYLE.search(f"{family} {style}"):
            left_out["family not listed" if not prefixes else "style not usable"] += 1
            continue
        if find_gap(path):
            left_out["characters missing"] += 1
            continue
        images = draw_characters(path)
        if flaw := find_flaw(images):
            left_out[flaw] += 1
            continue
        superfamily = by_prefix[max(prefixes, key=len)]
        drawn[superfamily].append(Face(superfamily, family, package, images))
    print("faces usable:", sum(map(len, drawn.values())))
    for reason, n in sorted(left_out.items()):
        print(f"faces left out, {reason}: {n}")
    return dict(drawn)


def print_summary(splits: Mapping[str, Split]) -> None:
    """Print the size and the balance of each split."""
    for name, split in splits.items():
        groups = Counter(split.groups.tolist())
        largest, n_largest = groups.most_common(1)[0]
        per_class = np.bincount(split.labels, minlength=len(CLASS_NAMES))
        print(
            f"{name}: {len(split.labels)} images, {len(groups)} superfamilies, largest "
            f"{largest} {n_largest / len(split.labels):.1%}, per class "
            f"{per_class.min()} to {per_class.max()}"
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Render the data set and its table of fonts."""
    here = Path(__file__).parent
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=here / "glyphs.npz", metavar="FILE")
    parser.add_argument("--fonts-dir", type=Path, nargs="+", default=FONT_FOLDERS, metavar="DIR")
    options = parser.parse_args(arguments)

    faces = load_faces(options.fonts_dir)
    style_of = {name: style for name, style in read_superfamilies()[1].items() if name in faces}
    split_of = draw_splits(style_of, SPLIT_SEED)
    chosen = {
        split: pick_faces([faces[name] for name in sorted(faces) if split_of[name] == split], n)
        for split, n in FACES_PER_SPLIT.items()
    }
    splits = drop_shared_images({split: stack_split(picks) for split, picks in chosen.items()})
    print_summary(splits)
    write_archive(options.out, splits)
    write_font_table(options.out.with_name("FONTS.md"), chosen)
    print(f"wrote {options.out.name}, {options.out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
