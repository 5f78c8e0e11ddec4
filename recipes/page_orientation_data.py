"""Crops of rendered pages, upright or turned: labelled ones for training, selection and test, and a pool.

    python recipes/page_orientation.py --out runs/pages        # writes OUT/pages.npz and OUT/pool.npz

A page has paragraphs, headings, lists and tables of real text in one of 33 languages: messages of six Debian packages,
in a font of another. Of each page come four crops of a few words' width: skewed by up to 28 degrees, blurred, pale,
noisy, saved as JPEG, then turned by 0, 90, 180 or 270 degrees clockwise. All crops of a page are one group. Train,
selection, test and pool have other fonts, and other messages: a message stands on one side in all its translations. The
pool knows no label. Packages are downloaded, not installed, and are those of this system's release; none of it enters
this repository.
"""

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from fontTools.ttLib import TTFont
from languages_data import draw, files_of, messages
from page_orientation_models import ANGLES
from PIL import Image, ImageDraw, ImageFilter, ImageFont

SIZE = 256
"""Pixels a side of a crop."""
SAMPLES = {"train": 1000, "val": 1000, "test": 2000, "pool": 6000}
OF_A_PAGE = 4
SHARES = {"train": 0.15, "val": 0.2, "test": 0.25, "pool": 0.4}
"""Of the messages."""
TEXTS = ("nautilus-data", "gnome-control-center-data", "libgtk-3-common", "synaptic", "thunar-data", "pidgin-data")
LANGUAGES = "bg ca cs da de el en es et eu fi fr ga gl hr hu id is it lt lv nl no pl pt ro ru sk sl sr sv tr uk"
FONTS = {
    "train": "liberation2 play crosextra-caladea adf-gillius anonymous-pro arapey clear-sans adf-verana",
    "val": "dejavu-core cantarell gfs-didot karla adf-baskervald jetbrains-mono quicksand yrsa-rasa",
    "test": "open-sans ebgaramond courier-prime adf-libris oldstandard cabin go sil-gentium comic-neue vollkorn",
    "pool": (
        "paratype manrope crosextra-carlito tuffy b612 jura comfortaa adf-romande adf-tribun adf-accanthis "
        "gfs-artemisia gfs-neohellenic inconsolata mononoki oxygen quattrocento fanwood lindenhill prociono cardo stix "
        "opendyslexic averia-serif-gwf averia-sans-gwf roboto-slab dosis"
    ),
}
"""Debian's packages `fonts-NAME`, small ones."""
FACES = 4
"""Of a package."""
ODD = re.compile(r"sc|caps|smcp|symbol|math|icon|swash|initial|ornament|shadow|outline|bullet|condensed", re.IGNORECASE)
"""In the name of a file that has no letters for running text."""
FEWEST = 40
"""Messages that a font must be able to write, to be used for a language."""
SHEET, TYPE = (1000, 1300), (12, 23)
"""Pixels of a page, and the range of the size of its font."""
WIDTH, SKEW = (8, 20), 28
"""Of a crop: its side in sizes of its font, and by how many degrees at most it is skewed."""
BLUR, NOISE, CONTRAST, QUALITY = 1.0, 4, (0.5, 1), (20, 80)
"""Most pixels of blur, most deviation of the noise, and ranges of the contrast that is left and of JPEG's quality."""


@dataclass(frozen=True)
class Face:
    """A font file, and which characters it has."""

    file: bytes
    letters: frozenset[str]

    def at(self, pixels: int) -> ImageFont.FreeTypeFont:
        """Open it at a size."""
        return ImageFont.truetype(io.BytesIO(self.file), pixels)


def make_data(out: Path) -> None:
    """Write what is not there yet."""
    if not (out / "pages.npz").exists():
        strings = read_strings(out)
        arrays = {part: crops(part, strings[part], read_faces(part, out)) for part in ("train", "val", "test")}
        write(out / "pages.npz", arrays)
        write(out / "pool.npz", {"pool": crops("pool", strings["pool"], read_faces("pool", out))})


def read_strings(out: Path) -> dict[str, pd.DataFrame]:
    """Read messages of the packages, and part them by a number drawn from the English."""
    frame = pd.concat([messages(name, out) for name in TEXTS]).drop_duplicates("text")
    frame = frame[frame.label.isin(LANGUAGES.split())]
    share = frame.group.map(lambda group: draw(f"page {group}"))
    side = np.array(list(SHARES))[np.searchsorted(np.cumsum(list(SHARES.values()))[:-1], share, side="right")]
    return dict(tuple(frame.groupby(side)))


def read_faces(part: str, out: Path) -> list[list[Face]]:
    """Read the fonts of a part, those of each package together."""
    return [list(faces_of(f"fonts-{name}", out)) for name in FONTS[part].split()]


def faces_of(package: str, out: Path) -> Iterator[Face]:
    """Read some font files of a package."""
    found = {Path(name).name: data for name, data in files_of(package, r"\.(ttf|otf)$", out)}
    plain = sorted(name for name in found if not ODD.search(name.partition("-")[2]))
    for name in [plain[place] for place in np.unique(np.linspace(0, len(plain) - 1, FACES).round().astype(int))]:
        yield face(found[name])


def face(file: bytes) -> Face:
    """Read which characters a font has."""
    with TTFont(io.BytesIO(file), lazy=True) as font:
        return Face(file, frozenset(map(chr, font.getBestCmap())))


def crops(part: str, strings: pd.DataFrame, faces: list[list[Face]]) -> dict[str, np.ndarray]:
    """Render pages until there are enough crops: images [n, SIZE, SIZE], labels and groups [n]."""
    languages = {name: rows.text.tolist() for name, rows in strings.groupby("label")}
    images, labels, groups = [], [], []
    number = 0
    while len(images) < SAMPLES[part]:
        name = f"{part}-{number}"
        random = np.random.default_rng(round(draw(name) * 2**32))
        number += 1
        family = faces[random.integers(len(faces))]
        language = list(languages)[random.integers(len(languages))]
        used = family[random.integers(len(family))]
        texts = [text for text in languages[language] if used.letters.issuperset(text)]
        if len(texts) < FEWEST:
            continue
        pixels = int(random.integers(*TYPE))
        sheet = page(texts, used, pixels, random)
        for _ in range(OF_A_PAGE):
            label = int(random.integers(len(ANGLES)))
            images.append(turned(worn(cut(sheet, pixels, random), random), label))
            labels.append(label)
            groups.append(name)
    found = {"x": np.stack(images), "y": np.array(labels), "group": np.array(groups)}
    return {key: rows[: SAMPLES[part]] for key, rows in found.items()}


def page(texts: list[str], used: Face, pixels: int, random: np.random.Generator) -> Image.Image:
    """Set a page of one or two columns, dark on light."""
    ink, paper = int(random.integers(0, 90)), int(random.integers(200, 256))
    sheet = Image.new("L", SHEET, paper)
    pen = ImageDraw.Draw(sheet)
    margin, gap = 60, 40
    columns = int(random.integers(1, 3))
    width = (SHEET[0] - 2 * margin - gap * (columns - 1)) // columns
    for column in range(columns):
        left, y = margin + column * (width + gap), margin
        while y < SHEET[1] - margin:
            y = BLOCKS[random.choice(len(BLOCKS), p=CHANCES)](pen, texts, used, pixels, (left, y, width), ink, random)
            y += int(pixels * random.uniform(0.5, 1.5))
    return sheet


Place = tuple[int, int, int]
"""Left, top and width."""


def lines(
    pen: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont, place: Place, ink: int, lead: float
) -> int:
    """Write text, broken into lines, and return where the next may stand."""
    left, y, width = place
    step, line = int(font.size * lead), ""
    for word in text.split():
        longer = f"{line} {word}".strip()
        if line and font.getlength(longer) > width:
            pen.text((left, y), line, ink, font)
            y, longer = y + step, word
        line = longer
    pen.text((left, y), line, ink, font)
    return y + step


def paragraph(
    pen: ImageDraw.ImageDraw,
    texts: list[str],
    used: Face,
    pixels: int,
    place: Place,
    ink: int,
    random: np.random.Generator,
) -> int:
    """Write some messages one after the other."""
    chosen = random.choice(texts, random.integers(3, 9))
    text = " ".join(said if said.endswith((".", "!", "?", ":")) else f"{said}." for said in chosen)
    return lines(pen, text, used.at(pixels), place, ink, random.uniform(1.2, 1.6))


def heading(
    pen: ImageDraw.ImageDraw,
    texts: list[str],
    used: Face,
    pixels: int,
    place: Place,
    ink: int,
    random: np.random.Generator,
) -> int:
    """Write a message larger."""
    return lines(pen, random.choice(texts), used.at(int(pixels * random.uniform(1.2, 2))), place, ink, 1.3)


def listed(
    pen: ImageDraw.ImageDraw,
    texts: list[str],
    used: Face,
    pixels: int,
    place: Place,
    ink: int,
    random: np.random.Generator,
) -> int:
    """Write messages below each other, numbered."""
    left, y, width = place
    font, lead = used.at(pixels), random.uniform(1.2, 1.6)
    for number, text in enumerate(random.choice(texts, random.integers(3, 7)), 1):
        pen.text((left, y), f"{number}.", ink, font)
        y = lines(pen, text, font, (left + 2 * pixels, y, width - 2 * pixels), ink, lead)
    return y


def table(
    pen: ImageDraw.ImageDraw,
    texts: list[str],
    used: Face,
    pixels: int,
    place: Place,
    ink: int,
    random: np.random.Generator,
) -> int:
    """Write a word and two numbers a row, now and then with rules."""
    left, y, width = place
    font, step, ruled = used.at(pixels), int(pixels * 1.5), random.random() < 0.5
    for text in random.choice(texts, random.integers(4, 9)):
        word = " ".join(text.split()[:2])
        pen.text((left, y), word[: max(4, int(width / pixels))], ink, font)
        for share, most in ((0.6, 100), (0.8, 10_000)):
            pen.text((left + int(share * width), y), f"{random.integers(most):,}", ink, font)
        y += step
        if ruled:
            pen.line((left, y - step // 6, left + width, y - step // 6), ink)
    return y


BLOCKS = (paragraph, heading, listed, table)
CHANCES = (0.55, 0.15, 0.15, 0.15)


def cut(sheet: Image.Image, pixels: int, random: np.random.Generator) -> Image.Image:
    """Cut a skewed square that holds ink out of a page, and bring it to SIZE."""
    side = int(pixels * random.uniform(*WIDTH))
    angle = random.uniform(-SKEW, SKEW)
    whole = side * 3 // 2  # what a square of that side covers at any skew
    for _ in range(50):
        left, top = random.integers(SHEET[0] - whole), random.integers(SHEET[1] - whole)
        piece = sheet.crop((left, top, left + whole, top + whole)).rotate(angle, Image.Resampling.BICUBIC)
        edge = (whole - side) // 2
        piece = piece.crop((edge, edge, edge + side, edge + side)).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
        values = np.asarray(piece)
        if (values < (int(values.min()) + int(values.max())) / 2).mean() > 0.03 and np.ptp(values) > 80:
            break
    return piece


def worn(piece: Image.Image, random: np.random.Generator) -> Image.Image:
    """Blur, take contrast, add a shadow and noise, and save as JPEG."""
    piece = piece.filter(ImageFilter.GaussianBlur(random.uniform(0, BLUR)))
    values = np.asarray(piece, np.float32)
    values = 255 - (255 - values) * random.uniform(*CONTRAST) - random.uniform(0, 60)
    shadow = np.linspace(-1, 1, SIZE) * random.uniform(0, 30)
    values += shadow[None] if random.random() < 0.5 else shadow[:, None]
    values += random.normal(0, random.uniform(0, NOISE), values.shape)
    file = io.BytesIO()
    Image.fromarray(values.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=int(random.integers(*QUALITY)))
    return Image.open(file)


def turned(piece: Image.Image, label: int) -> np.ndarray:
    """Turn a crop clockwise by a quarter as often as its label says."""
    return np.rot90(np.asarray(piece), -label)


def write(path: Path, parts: dict[str, dict[str, np.ndarray]]) -> None:
    """Write arrays as `npz:` reads them; those of a pool have no labels."""
    arrays: dict[str, np.ndarray] = {}
    for part, found in parts.items():
        suffix = "" if part == "pool" else f"_{part}"
        arrays |= {f"{key}{suffix}": rows for key, rows in found.items() if part != "pool" or key != "y"}
    if "pool" not in parts:
        arrays["class_names"] = np.array(ANGLES)
    partial = path.with_suffix(".part.npz")
    np.savez(partial, **arrays)
    partial.rename(path)
