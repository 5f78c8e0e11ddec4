"""Cut snippets of real source files out of packages: selection and test with labels, and a pool without.

    python recipes/file_types_data.py --out runs/file_types

With all 452 packages, 26 classes: 1,569 snippets of 1,000 bytes of 125 projects select, 1,608 of 120 projects test, and
35,282 of 340 projects are the pool, a fifth of them of other types. Of 200 bytes there are 1,632, 1,635 and 34,373.
Rare are ini (8 and 17 at 1,000 bytes), csv in test (20) and batch in selection (29). It takes some minutes and 350 MB
of downloads, and needs Debian 12's apt, npm and pip. A package that cannot be had is named, and the parts are dealt
anew without it.

The packages that `recipes/file_types/packages.csv` names are downloaded into `OUT/packages/data` with the ordinary
clients (Debian 12: `apt-get source` and `apt-get download`; `npm pack`; `pip download`), nothing is installed, and none
of it enters this repository. Their licences are free ones, another each: Debian's main, and MIT, BSD, Apache, ISC, NCSA
or GPL-3 as the packages of npm and PyPI say. A label is the suffix of a file, or its name (Makefile).

A group is a project: packages of one project bear one group, and a group stands in one part only. Files that several
groups hold, generated ones and other projects' code inside a project are left out. A snippet most of whose lines stand
in a snippet of another part is left out too, so that no boilerplate is learnt. Selection and test take as many of every
class, from as many groups as there are; the pool takes as many of every group, of whatever type, and no label is read.

Written are `snippets_1000.parquet` and `snippets_200.parquet` (selection and test) and `pool_1000.parquet` and
`pool_200.parquet`, with the columns `text` (bytes), `label`, `group`, `split`, and `path` to look a snippet up; and in
`others_1000.parquet` and `others_200.parquet` types that guesslang knows and not all three models, out of the
projects of which the pool has no file: what a student must not lose.
"""

import argparse
import csv
import hashlib
import random
import re
import subprocess
import sys
import tarfile
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

PACKAGES = Path(__file__).parent / "file_types" / "packages.csv"
APT = Path("/etc/apt")
SIZES = (1000, 200)
"""Bytes of a snippet."""
PER_CLASS = 66
"""Snippets of a class in selection and in test."""
POOL = 36_000
PER_FILE = 4
"""Snippets of one file at most."""
SHARED_LINES = 0.5
"""A snippet with more of its lines than this in another part is left out."""
LONG_LINE = 20
"""Shorter lines say nothing of where they come from."""
LARGEST = 2_000_000
PARTS = ("selection", "test", "pool", "pool", "pool")
"""To which part the groups go in turn."""
SUFFIXES = {
    "asm": ".asm .s",
    "batch": ".bat .cmd",
    "c": ".c .h .cc .cpp .cxx .hpp",
    "cs": ".cs",
    "css": ".css",
    "csv": ".csv",
    "go": ".go",
    "html": ".html .htm .xhtml",
    "ini": ".ini",
    "java": ".java",
    "javascript": ".js .mjs .cjs",
    "json": ".json",
    "latex": ".tex .sty",
    "lisp": ".lisp",
    "makefile": ".mk",
    "markdown": ".md",
    "perl": ".pl .pm",
    "php": ".php",
    "powershell": ".ps1 .psm1",
    "python": ".py",
    "ruby": ".rb",
    "rust": ".rs",
    "shell": ".sh",
    "sql": ".sql",
    "xml": ".xml",
    "yaml": ".yaml .yml",
}
LABELS = {suffix: label for label, suffixes in SUFFIXES.items() for suffix in suffixes.split()}
NAMES = {"makefile": "makefile", "gnumakefile": "makefile", "makefile.am": "makefile", "setup.cfg": "ini"}
OTHERS = {
    "clj": ".clj",
    "cmake": ".cmake",
    "coffee": ".coffee",
    "dart": ".dart",
    "erl": ".erl",
    "ex": ".ex .exs",
    "f90": ".f90",
    "groovy": ".groovy .gradle",
    "hs": ".hs",
    "jl": ".jl",
    "kt": ".kt",
    "lua": ".lua",
    "ml": ".ml .mli",
    "pas": ".pas",
    "r": ".r",
    "scala": ".scala",
    "swift": ".swift",
    "toml": ".toml",
    "vba": ".vba",
}
"""Types that guesslang knows by these names, and that are no shared class."""
FOREIGN = re.compile(
    r"(^|/)(vendor|third[_-]?party|3rdparty|extern|externals?|node_modules|deps|autom4te\.cache|debian)/|\.min\.|"
    r"(^|/)(ltmain\.sh|depcomp|missing|install-sh|config\.(guess|sub)|mkinstalldirs|test-driver|compile)$",
    re.IGNORECASE,
)
"""Code of other projects inside a project, and what generators write into all."""


@dataclass(frozen=True)
class Snippet:
    """A piece of a file."""

    text: bytes
    label: str | None
    group: str
    path: str


@dataclass(frozen=True)
class Package:
    """A row of the list: how it is fetched, and what group its files have."""

    source: str
    name: str
    version: str
    group: str
    """A name, an expression that finds it in the path of a file, or empty: the package's own name."""

    @property
    def pattern(self) -> str:
        """Return the pattern of its file's name."""
        name = self.name.replace("/", "-").lstrip("@")
        return {"source": f"{name}_*.orig.tar.*[!c]", "binary": f"{name}_*.deb"}.get(
            self.source, f"{name}-{self.version}*.{'tgz' if self.source == 'npm' else 'whl'}"
        )

    def group_of(self, path: str) -> str | None:
        """Name the group of a file; None where the package's files have groups and this one has none."""
        if "(" not in self.group:
            return self.group or self.name
        found = re.search(self.group, path)
        return None if found is None else f"{self.name}/{found[1]}"


def read_packages() -> list[Package]:
    """Read the list of packages."""
    with PACKAGES.open(encoding="utf-8", newline="") as file:
        return [Package(row["from"], row["package"], row["version"], row["group"]) for row in csv.DictReader(file)]


def fetch(packages: list[Package], folder: Path) -> None:
    """Download the packages that are not there yet; say which cannot be had."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [package for package in packages if not any(folder.glob(package.pattern))]
    names = {source: [p.name for p in wanted if p.source == source] for source in ("source", "binary")}
    commands = [["apt-get", "--quiet", "download", *names["binary"]]] if names["binary"] else []
    if names["source"]:
        options = source_lists(folder / "apt")
        subprocess.run(["apt-get", "--quiet", *options, "update"], check=True, stdout=sys.stderr)
        commands.append(["apt-get", "--quiet", *options, "source", "--download-only", *names["source"]])
    commands += [["npm", "pack", "--silent", f"{p.name}@{p.version}"] for p in wanted if p.source == "npm"]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    commands += [[*pip, f"{p.name}=={p.version}"] for p in wanted if p.source == "wheel"]
    for command in commands:
        subprocess.run(command, cwd=folder, check=False, stdout=sys.stderr)  # what is missing is told below
    missing = [package.name for package in wanted if not any(folder.glob(package.pattern))]
    if missing:
        print(f"{len(missing)} of {len(packages)} packages cannot be had: {' '.join(missing)}")


def source_lists(folder: Path) -> list[str]:
    """Let apt read the sources of the packages that this machine is set up for, and leave its own lists alone."""
    for name in ("sources", "lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for path in [*APT.glob("sources.list"), *APT.glob("sources.list.d/*.list"), *APT.glob("sources.list.d/*.sources")]:
        text = re.sub(r"^(Types:\s*)deb\s*$", r"\1deb-src", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        text = re.sub(r"^deb ", "deb-src ", text, flags=re.MULTILINE)
        (folder / "sources" / path.name.replace("sources.list", "own.list")).write_text(text, encoding="utf-8")
    folder = folder.resolve()
    settings = {
        "Dir::Etc::sourcelist": "/dev/null",
        "Dir::Etc::sourceparts": folder / "sources",
        "Dir::State::lists": folder / "lists",
        "Dir::Cache": folder / "cache",
    }
    return [f"-o={key}={value}" for key, value in settings.items()]


def read_files(archive: Path) -> Iterator[tuple[str, bytes]]:
    """Read the files of an archive that are of use; nothing is written to disk."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            for entry in wheel.infolist():
                if of_use(entry.filename, entry.file_size):
                    yield entry.filename, wheel.read(entry)
        return
    unpack = ["dpkg-deb", "--fsys-tarfile", archive] if archive.suffix == ".deb" else ["cat", archive]
    with (
        subprocess.Popen(unpack, stdout=subprocess.PIPE) as command,
        tarfile.open(fileobj=command.stdout, mode="r|*") as tar,
    ):
        for member in tar:
            if member.isfile() and of_use(member.name, member.size):
                content = tar.extractfile(member)
                yield member.name, b"" if content is None else content.read()


def of_use(path: str, size: int) -> bool:
    """Say whether a file may be cut."""
    return min(SIZES) <= size <= LARGEST and not FOREIGN.search(path)


def label_of(path: str) -> str | None:
    """Name the class of a file by its suffix or name; None for all other types.

    Example:
        >>> label_of("src/tree.HPP"), label_of("GNUmakefile"), label_of("notes.txt")
        ('c', 'makefile', None)
    """
    name = path.rpartition("/")[2].lower()
    return NAMES.get(name) or LABELS.get(Path(name).suffix)


def cut(text: bytes, size: int, draw: random.Random) -> list[bytes]:
    """Cut snippets that begin at random lines and do not overlap; a shorter file is one snippet."""
    starts = [0, *(found.end() for found in re.finditer(rb"\n", text) if found.end() + size <= len(text))]
    taken: list[int] = []
    for start in draw.sample(starts, min(len(starts), 4 * PER_FILE)):
        if len(taken) < PER_FILE and all(abs(start - other) >= size for other in taken):
            taken.append(start)
    snippets = (text[start : start + size] for start in taken)
    return [snippet for snippet in snippets if len(snippet.strip()) >= 0.8 * min(size, len(text))]


def read_snippets(packages: list[Package], folder: Path) -> dict[int, dict[str, list[list[Snippet]]]]:
    """Cut every file of every package: by size and group, one list of snippets a file."""
    cuts: dict[int, dict[str, list[list[Snippet]]]] = {size: defaultdict(list) for size in SIZES}
    seen: set[bytes] = set()
    for package in packages:
        for archive in sorted(folder.glob(package.pattern)):
            for path, text in sorted(read_files(archive)):
                group, digest = package.group_of(path), hashlib.blake2b(text, digest_size=16).digest()
                if group is None or digest in seen or b"\0" in text:
                    continue
                seen.add(digest)
                label, place = label_of(path), f"{package.name}:{path}"
                for size in SIZES:
                    pieces = cut(text, size, random.Random(f"{size} {place}"))
                    if pieces:
                        cuts[size][group].append([Snippet(piece, label, group, place) for piece in pieces])
    return cuts


def share_groups(cuts: dict[str, list[list[Snippet]]]) -> dict[str, str]:
    """Give every group a part, so that each part gets its share of the groups of every class.

    The groups are dealt class by class, that with the fewest groups first.
    """
    holders: defaultdict[str, set[str]] = defaultdict(set)
    for group, files in sorted(cuts.items()):
        for file in files:
            holders[file[0].label or ""].add(group)
    part: dict[str, str] = {}
    for label in sorted(holders, key=lambda label: (label == "", len(holders[label]), label)):
        free = sorted(holders[label] - set(part))
        random.Random(f"parts {label}").shuffle(free)
        part |= dict(zip(free, cycle(PARTS), strict=False))
    return part


def take_turns(groups: dict[str, list[list[Snippet]]], count: int) -> list[Snippet]:
    """Take one snippet of every group in turn until there are enough, or no more.

    A group gives a second snippet of a file when each of its files has given one.
    """
    queues = []
    for group, files in sorted(groups.items()):
        order = random.Random(group).sample(files, len(files))
        queues.append([file[turn] for turn in range(PER_FILE) for file in order if turn < len(file)])
    turns = range(max(map(len, queues), default=0))
    return [queue[turn] for turn in turns for queue in queues if turn < len(queue)][:count]


def long_lines(snippet: Snippet) -> set[bytes]:
    """Return the lines that tell where a snippet comes from."""
    return {line.strip() for line in snippet.text.split(b"\n") if len(line.strip()) >= LONG_LINE}


def without_shared(snippets: list[Snippet], *others: list[Snippet]) -> list[Snippet]:
    """Leave out what stands, whole or in most of its lines, in another part; and what stands twice."""
    texts = {snippet.text.strip() for other in others for snippet in other}
    lines = set().union(*(long_lines(snippet) for other in others for snippet in other))
    kept = []
    for snippet in snippets:
        own = long_lines(snippet)
        text = snippet.text.strip()
        if text not in texts and len(own & lines) <= SHARED_LINES * len(own):
            texts.add(text)
            kept.append(snippet)
    return kept


def make_parts(cuts: dict[str, list[list[Snippet]]], part: dict[str, str]) -> dict[str, list[Snippet]]:
    """Draw selection, test and pool."""
    drawn: dict[str, list[Snippet]] = {"selection": [], "test": []}
    for name, snippets in drawn.items():
        for label in SUFFIXES:
            of_label = {
                group: [file for file in files if file[0].label == label]
                for group, files in cuts.items()
                if part[group] == name
            }
            snippets += take_turns(of_label, PER_CLASS)
    drawn["pool"] = take_turns({group: files for group, files in cuts.items() if part[group] == "pool"}, POOL)
    drawn["test"] = without_shared(drawn["test"])
    drawn["selection"] = without_shared(drawn["selection"], drawn["test"])
    drawn["pool"] = without_shared(drawn["pool"], drawn["test"], drawn["selection"])
    return drawn


def others(cuts: dict[str, list[list[Snippet]]], part: dict[str, str]) -> list[Snippet]:
    """Take snippets of types that are no shared class, as many of every one, out of groups that are not the pool's."""
    taken: list[Snippet] = []
    for label, suffixes in OTHERS.items():
        of_label = {
            group: [file for file in files if Path(file[0].path).suffix.lower() in suffixes.split()]
            for group, files in cuts.items()
            if part[group] != "pool"
        }
        taken += [replace(snippet, label=label) for snippet in take_turns(of_label, PER_CLASS)]
    return without_shared(taken)


def write(path: Path, parts: dict[str, list[Snippet]]) -> None:
    """Write parts as one table, whole or not at all; the pool has no labels."""
    rows = [
        {
            "text": snippet.text,
            "label": None if name == "pool" else snippet.label,
            "group": snippet.group,
            "split": name,
            "path": snippet.path,
        }
        for name, snippets in parts.items()
        for snippet in snippets
    ]
    kinds = {"text": pa.binary(), "label": pa.string(), "group": pa.string(), "split": pa.string(), "path": pa.string()}
    partial = path.with_name(path.name + ".partial")
    pq.write_table(pa.Table.from_pylist(rows, pa.schema(kinds)), partial, compression="zstd")
    partial.replace(path)


def make_data(out: Path) -> None:
    """Write the tables, and say what stands in them; tables that are there stay."""
    if all((out / f"{name}_{size}.parquet").is_file() for name in ("snippets", "pool", "others") for size in SIZES):
        return
    packages = read_packages()
    fetch(packages, out / "packages" / "data")
    cuts = read_snippets(packages, out / "packages" / "data")
    part = share_groups(cuts[SIZES[0]])
    for size in SIZES:
        of_size = {group: files for group, files in cuts[size].items() if group in part}
        parts = {**make_parts(of_size, part), "others": others(of_size, part)}
        for name, snippets in parts.items():
            groups, labels = {s.group for s in snippets}, Counter(s.label for s in snippets)
            unlabelled = labels.pop(None, 0)
            print(
                f"{size} bytes, {name}: {len(snippets):,} snippets of {len(groups)} groups, {len(labels)} classes"
                + (f", {unlabelled:,} of other types" if unlabelled else "")
            )
            print("    " + ", ".join(f"{label} {count}" for label, count in sorted(labels.items())))
        write(out / f"snippets_{size}.parquet", {name: parts[name] for name in ("selection", "test")})
        for name in ("pool", "others"):
            write(out / f"{name}_{size}.parquet", {name: parts[name]})


def main() -> None:
    """Fetch the packages and cut them."""
    parser = argparse.ArgumentParser(description="Cut snippets of real source files out of packages.")
    parser.add_argument("--out", type=Path, default=Path("runs/file_types"))
    make_data(parser.parse_args().out)


if __name__ == "__main__":
    main()
