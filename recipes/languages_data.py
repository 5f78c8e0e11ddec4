"""Short strings in 79 languages out of free packages: labelled ones for training, selection and test, and a pool.

    python recipes/languages_figures.py --out FOLDER      # writes FOLDER/strings.parquet, strings_12, strings_others

Columns: `text` of 12 to 80 characters, `label` (null in the pool), `group`, `split` (train, selection, test, pool).

- Labelled: captions of the pictures of Debian's tuxpaint-stamps-default (GPL-2), the interface strings of Django
  (BSD-3-Clause), and the messages of six Debian packages. A caption, or a message, and all its translations are one
  group, in whatever package it stands, and a group stands on one side. The original is English; a translation that
  reads like it is left out, as is a text with places to fill in, markup or an address, and a text that two languages
  share. In each split each language has as many strings as there are, up to a bound, captions and messages in turn.
- The pool: messages of other packages, without those that are labelled above in any language, and words of hunspell's
  dictionaries, two and more joined. It keeps to the languages that the models share, with a bound for each package and
  language, and knows nothing else of them.

`strings_12` has the first 12 characters of the same strings. `strings_others` has a test of the languages that not all
three models know, under the code that a model has for them: what a student must not lose. Strings keep the licences of
their packages (GPL, LGPL, MPL, BSD and others); none enters this repository. Debian's packages are those of this
system's release; another gives other strings.
"""

import hashlib
import re
import struct
import subprocess
import tarfile
import unicodedata
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from languages_weights import fetch

DJANGO = "5.2.19"
PICTURES = "tuxpaint-stamps-default"
LABELLED = ("nautilus-data", "gnome-control-center-data", "libgtk-3-common", "synaptic", "thunar-data", "pidgin-data")
OTHERS = (
    "aisleriot atril-common baobab caja-common cheese-common cinnamon-l10n coreutils deja-dup eom-common "
    "epiphany-browser-data evince-common evolution-common file-roller gedit-common geany-common gimp-data "
    "gnome-calendar gnome-chess gnome-clocks gnome-mahjongg gnome-maps gnome-software-common gparted-common lightsoff "
    "lxpanel-data mate-control-center-common mate-panel-common mate-utils-common pluma-common quadrapassel "
    "rhythmbox-data seahorse shotwell-common simple-scan totem-common vlc-l10n xfce4-settings xfdesktop4-data"
)
"""Packages whose messages are the pool's."""
DICTIONARIES = (
    "af ar be bg bn bs ca cs da de-de el en-us es eu fr-classical gd gl gu he hi hr hu id is it kk kmr ko lo lt lv ml "
    "mn ne nl no pl pt-pt ro ru si sk sl sr sv sw te th tr uk uz vi"
)
"""Languages of hunspell whose words are the pool's."""
SHORTEST, LONGEST = 12, 80
LETTERS = 0.7
"""Share of the characters of a string that must be letters."""
BOUNDS = {"train": 60, "selection": 60, "test": 80}
"""Strings of one language in a split."""
FEWEST = 20
"""A language with fewer strings in the test is left out of what is labelled."""
SHARES = {"train": 0.3, "selection": 0.3, "test": 0.4}
OF_A_PACKAGE, OF_A_DICTIONARY = 40, 150
"""Strings of one language that the pool takes from each."""
NOT_PLAIN = re.compile(r"[%{}<>\\$@#=|\n\t]|https?:|www\.")
NAMES = {"nb": "no", "nn": "no", "fil": "tl", "iw": "he", "in": "id", "kmr": "ku"}
"""Codes of locales that have another name among the classes."""
SCRIPTS = {"sr@latin", "sr@Latn", "sr@ijekavian", "sr@ijekavianlatin", "uz@cyrillic", "uz@Cyrl", "ca@valencia"}
"""Locales with a modifier that are the language itself."""


def build(out: Path) -> pd.DataFrame:
    """Read what FOLDER has, or build it from the packages."""
    path = out / "strings.parquet"
    if not path.exists():
        sources = [pictures(out), django(out), *(messages(name, out) for name in LABELLED)]
        labelled = pd.concat(sources, ignore_index=True)
        others = pd.concat(
            [
                *(messages(name, out) for name in OTHERS.split()),
                *(words(f"hunspell-{name}", out) for name in DICTIONARIES.split()),
            ]
        )
        shared = labelled.label.isin(shared_classes())
        others = others[others.label.isin(shared_classes()) & ~others.group.isin(set(labelled.group))]
        rest = cut(labelled[~shared])
        write(rest[rest.split == "test"], out / "strings_others.parquet")
        write(pd.concat([cut(labelled[shared]), pooled(others, set(labelled.text))]), path)
    return pd.read_parquet(path)


def write(frame: pd.DataFrame, path: Path) -> None:
    """Write a file under another name and give it its own when it is whole."""
    frame[["text", "label", "group", "split"]].to_parquet(path.with_suffix(".part"), index=False)
    path.with_suffix(".part").rename(path)


def build_short(out: Path, length: int = 12) -> pd.DataFrame:
    """Cut the strings to their first characters; what two languages or two splits share is left out."""
    path = out / f"strings_{length}.parquet"
    if not path.exists():
        frame = build(out)
        frame["text"] = frame.text.str.slice(0, length).str.strip()
        known = frame[frame.split != "pool"]
        known = known[known.groupby("text").label.transform("nunique") == 1]
        known = known[known.groupby("text").split.transform("nunique") == 1].drop_duplicates("text")
        pool = frame[(frame.split == "pool") & ~frame.text.isin(set(known.text))].drop_duplicates("text")
        write(pd.concat([known, pool]), path)
    return pd.read_parquet(path)


def shared_classes() -> set[str]:
    """Name the classes that lid.176, py3langid and CLD3 all know."""
    maps = [read_map(name) for name in ("lid176", "py3langid", "cld3")]
    return set.intersection(*(set(found.values()) for found in maps))


def read_map(name: str) -> dict[str, str]:
    """Read the shared class of each class of a model."""
    frame = pd.read_csv(Path(__file__).parent / "languages" / f"{name}.csv", keep_default_na=False)
    return dict(zip(frame.model_class, frame["class"], strict=True))


def cut(frame: pd.DataFrame) -> pd.DataFrame:
    """Part the groups by a number drawn from their names, and bound what each language has in a split."""
    frame = frame[frame.groupby("text").label.transform("nunique") == 1].drop_duplicates("text")
    share = frame.group.map(lambda group: draw(f"side {group}"))
    edges = np.cumsum(list(SHARES.values()))[:-1]
    frame = frame.assign(split=np.array(list(SHARES))[np.searchsorted(edges, share, side="right")])
    frame = frame.assign(order=frame.text.map(lambda text: draw(f"order {text}"))).sort_values("order")
    source = frame.group.str.split("/").str[0]
    turn = frame.groupby(["split", "label", source]).cumcount()
    frame = frame.assign(turn=turn).sort_values(["split", "label", "turn", "order"])
    frame = frame[frame.groupby(["split", "label"]).cumcount() < frame.split.map(BOUNDS)]
    tests = frame[frame.split == "test"].label.value_counts()
    return frame[frame.label.isin(tests.index[tests >= FEWEST])]


def pooled(frame: pd.DataFrame, known: set[str]) -> pd.DataFrame:
    """Leave out what is labelled, mix, and forget the languages."""
    frame = frame[~frame.text.isin(known)].drop_duplicates("text").reset_index(drop=True)
    order = frame.text.map(lambda text: draw(f"order {text}")).sort_values(kind="stable").index
    return frame.loc[order].assign(label=None, split="pool")


def draw(name: str) -> float:
    """Draw a number in [0, 1) that depends on the name alone."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=6).digest()) / 2**48


def pictures(out: Path) -> pd.DataFrame:
    """Read the captions of the pictures: the first line is English, the others say their locale."""
    rows = []
    for _, data in files_of(PICTURES, r"\.txt$", out):
        english, *others = data.decode(errors="replace").splitlines() or [""]
        lines = [("en", english), *(line.partition(".utf8=")[::2] for line in others)]
        rows += [(text, locale, english, f"picture/{name_of(english)}") for locale, text in lines]
    return plain(rows)


def django(out: Path) -> pd.DataFrame:
    """Read the catalogues of Django and of what comes with it."""
    rows = set()
    for path in fetch("Django", DJANGO, out).rglob("LC_MESSAGES/*.mo"):
        rows.update(catalogue(path.read_bytes(), path.parent.parent.name))
    return plain(rows)


def messages(package: str, out: Path) -> pd.DataFrame:
    """Read the catalogues of a Debian package; of one for the pool, a bounded number of strings a language."""
    rows = set()
    for name, data in files_of(package, r"locale/[^/]+/LC_MESSAGES/.*\.mo$", out):
        rows.update(catalogue(data, name.split("locale/")[1].split("/")[0]))
    return bounded(plain(rows), OF_A_PACKAGE) if package in OTHERS.split() else plain(rows)


def words(package: str, out: Path) -> pd.DataFrame:
    """Join words of a dictionary, drawn in the order of the draws of their names, to strings of 12 to 60 characters."""
    files = dict(files_of(package, r"hunspell/[^/]+\.(dic|aff)$", out))
    rows = []
    for name, data in files.items():
        aff = files.get(name.removesuffix(".dic") + ".aff", b"")
        if not name.endswith(".dic") or not aff:
            continue
        named = re.search(rb"^\s*SET\s+(\S+)", aff, re.MULTILINE)
        lines = data.decode(named[1].decode() if named else "latin-1", errors="ignore").splitlines()[1:]
        found = [word for line in lines if (word := re.split(r"[/\t ]", line)[0]).isalpha() and len(word) > 2]
        random = np.random.default_rng(round(draw(name) * 2**32))
        for _ in range(OF_A_DICTIONARY if found else 0):
            text = ""
            wanted = random.integers(SHORTEST, 40)
            while len(text) < wanted:
                text = f"{text} {found[random.integers(len(found))]}".strip()
            rows.append((text, Path(name).stem, "", f"words/{name}/{len(rows)}"))
    return bounded(plain(rows), OF_A_DICTIONARY)


def bounded(frame: pd.DataFrame, most: int) -> pd.DataFrame:
    """Take a bounded number of strings a language."""
    order = frame.text.map(lambda text: draw(f"bound {text}")).sort_values(kind="stable").index
    return frame.loc[order].groupby("label").head(most)


def plain(rows: Iterable[tuple[str, str, str, str]]) -> pd.DataFrame:
    """Tidy (text, locale, English, group) and leave out what is no plain text in its language."""
    kept = set()
    for text, locale, english, group in rows:
        language, tidied = language_of(locale), tidy(text)
        if language is None or not SHORTEST <= len(tidied) <= LONGEST or NOT_PLAIN.search(text):
            continue
        foreign = language != "en" and tidied.casefold() == tidy(english).casefold()
        if not foreign and sum(map(is_letter, tidied)) >= LETTERS * len(tidied) and "\ufffd" not in tidied:
            kept.add((tidied, language, group))
    return pd.DataFrame(sorted(kept), columns=["text", "label", "group"])


@cache
def is_letter(character: str) -> bool:
    """Tell letters, and marks that stand on them."""
    return unicodedata.category(character)[0] in "LM"


def name_of(english: str) -> str:
    """Name what is said, in whatever language, by a hash of the English."""
    return hashlib.blake2b(tidy(english).casefold().encode(), digest_size=6).hexdigest()


@lru_cache(1 << 16)
def tidy(text: str) -> str:
    """Compose characters, take out the marks of keys (`_File`, `&File`, `(_F)`), and leave single spaces."""
    text = re.sub(r"\([_&]\w\)", "", text).replace("_", "").replace("&", "").replace("...", "").replace("…", "")
    return " ".join(unicodedata.normalize("NFC", text).split())


def language_of(locale: str) -> str | None:
    """Name the class of a locale; None for one in another script than its language has."""
    code, _, modifier = locale.partition("@")
    code = re.split(r"[_.-]", code)[0]
    if modifier and f"{code}@{modifier}" not in SCRIPTS:
        return None
    return NAMES.get(code, code)


def catalogue(data: bytes, locale: str) -> Iterator[tuple[str, str, str, str]]:
    """Read a .mo file of gettext: singular translations, and each message once as English."""
    order = "<" if data[:4] == b"\xde\x12\x04\x95" else ">"
    count, originals, translations = struct.unpack_from(f"{order}3I", data, 8)
    pairs = []
    for place in range(count):
        pair = []
        for table in (originals, translations):
            length, start = struct.unpack_from(f"{order}2I", data, table + 8 * place)
            pair.append(data[start : start + length].split(b"\0")[0])
        pairs.append(pair)
    header = re.search(rb"charset=([\w-]+)", dict(pairs).get(b"", b""))
    charset = header[1].decode() if header else "utf-8"
    for original, translation in pairs:
        english = original.rpartition(b"\x04")[2].decode(errors="replace")
        group = f"message/{name_of(english)}"
        if english and original != translation:
            yield translation.decode(charset, errors="replace"), locale, english, group
            yield english, "en", english, group


def files_of(package: str, pattern: str, out: Path) -> Iterator[tuple[str, bytes]]:
    """Read files of a Debian package, which is downloaded if it is not there, and not installed."""
    command = ["dpkg-deb", "--fsys-tarfile", str(fetch_debian(package, out))]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE) as reader,
        tarfile.open(fileobj=reader.stdout, mode="r|") as archive,
    ):
        empty = True
        for member in archive:
            file = archive.extractfile(member) if member.isfile() and re.search(pattern, member.name) else None
            if file is not None:
                empty = False
                yield member.name, file.read()
    if empty:
        raise SystemExit(f"the Debian package {package} has no {pattern}: take another one in languages_data.py")


def fetch_debian(package: str, out: Path) -> Path:
    """Download a Debian package as this system's sources have it; one that is there already is taken."""
    folder = out / "packages" / "debian"
    if not list(folder.glob(f"{package}_*.deb")):
        with_parts = folder / f".{package}.part"
        with_parts.mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "download", "--quiet", package], cwd=with_parts, check=True, capture_output=True)
        next(with_parts.glob("*.deb")).rename(folder / next(with_parts.glob("*.deb")).name)
        with_parts.rmdir()
    return sorted(folder.glob(f"{package}_*.deb"))[-1]
