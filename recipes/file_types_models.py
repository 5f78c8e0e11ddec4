"""Three published classifiers of file types as torch modules: Magika 0.5, Magika 1.0 and guesslang.

    python recipes/file_types_weights.py --out runs/file_types      # fetches the weights and checks every number
    py:recipes/file_types_models.py:magika_10@runs/file_types/magika_10.safetensors

A module reads bytes as its makers' own code does (`tokenizer`) and returns logits, of which the softmax is what they
publish. Their code does not ask the model below 16 bytes (Magika 0.5), 8 bytes (Magika 1.0) and 20 characters
(guesslang); these modules answer always. Nothing is left out while they train: the published files hold no dropout.

Makers and licences of the weights: Magika is Google's (Apache-2.0, as its packages say); guesslang is Y. Somda's (MIT),
converted by Microsoft for VS Code (MIT, as its package says).

Example:
    >>> model = guesslang()
    >>> model(model.tokenizer([b"import sys", b""])).shape
    torch.Size([2, 54])
"""

import csv
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

PADDING = 256
"""Magika's token for places where a text has no byte."""
BLOCK = 4096
"""Magika strips white space from blocks of this size at the beginning and at the end, no further in."""
BUCKETS = 5000
"""How many buckets guesslang hashes pairs of bytes into; one more is the padding."""
PAIRS = 10_000
"""Of so many pairs of bytes guesslang reads the first."""


def names(text: str) -> tuple[str, ...]:
    """Read names that white space separates."""
    return tuple(text.split())


MAGIKA_05 = names("""
    ai apk appleplist asm asp batch bmp bzip c cab cat chm coff crx cs css csv deb dex dmg doc docx elf emf eml epub
    flac gif go gzip hlp html ico ini internetshortcut iso jar java javabytecode javascript jpeg json latex lisp lnk
    m3u macho makefile markdown mht mp3 mp4 mscompress msi mum odex odp ods odt ogg outlook pcap pdf pebin pem perl
    php png postscript powershell ppt pptx python pythonbytecode rar rdf rpm rst rtf ruby rust scala sevenzip shell
    smali sql squashfs svg swf symlinktext tar tga tiff torrent ttf txt unknown vba wav webm webp winregistry wmf
    xar xls xlsb xlsx xml xpi xz yaml zip zlibstream
""")
MAGIKA_10 = names("""
    3gp ace ai aidl apk applebplist appleplist asm asp autohotkey autoit awk batch bazel bib bmp bzip c cab cat chm
    clojure cmake cobol coff coffeescript cpp crt crx cs csproj css csv dart deb dex dicom diff dm dmg doc
    dockerfile docx dsstore dwg dxf elf elixir emf eml epub erb erlang flac flv fortran gemfile gemspec gif
    gitattributes gitmodules go gradle groovy gzip h5 handlebars haskell hcl hlp htaccess html icns ico ics
    ignorefile ini internetshortcut ipynb iso jar java javabytecode javascript jinja jp2 jpeg json jsonl julia
    kotlin latex lha lisp lnk lua m3u m4 macho makefile markdown matlab mht midi mkv mp3 mp4 mscompress msi mum npy
    npz nupkg objectivec ocaml odp ods odt ogg one onnx otf outlook parquet pascal pcap pdb pdf pebin pem perl php
    pickle png po postscript powershell ppt pptx prolog proteindb proto psd python pythonbytecode pytorch qt r
    randombytes randomtxt rar rdf rpm rst rtf ruby rust scala scss sevenzip sgml shell smali snap solidity sql
    sqlite squashfs srt stlbinary stltext sum svg swf swift tar tcl textproto tga thumbsdb tiff toml torrent tsv ttf
    twig txt typescript vba vcxproj verilog vhdl vtt vue wasm wav webm webp winregistry wmf woff woff2 xar xls xlsb
    xlsx xml xpi xz yaml yara zig zip zlibstream
""")
GUESSLANG = names("""
    asm bat c cs cpp clj cmake cbl coffee css csv dart dm dockerfile ex erl f90 go groovy hs html ini java js json
    jl kt lisp lua makefile md matlab mm ml pas pm php ps1 prolog py r rb rs scala sh sql swift tex toml ts v vba
    xml yaml
""")


class Magika05(nn.Module):
    """Magika 0.5: an MLP on 384 pieces of four bytes, and the largest answer of all pieces."""

    classes = MAGIKA_05

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(257, 128)
        self.piece_norm = nn.LayerNorm(384, eps=1e-3)
        self.hidden_1 = nn.Linear(512, 256)
        self.hidden_2 = nn.Linear(256, 256)
        self.norm = nn.LayerNorm(256, eps=1e-3)
        self.head = nn.Linear(256, len(self.classes))

    def tokenizer(self, texts: list[bytes]) -> Int[Tensor, "N 1536"]:
        """Take 512 bytes each of the beginning, the middle and the end."""
        return torch.stack([torch.cat(pieces) for pieces in (self._pieces(text) for text in texts)])

    def _pieces(self, text: bytes) -> tuple[Tensor, Tensor, Tensor]:
        if len(text) < 2 * BLOCK + 512:
            beginning = middle = end = text.strip()
        else:
            beginning, end = text[:BLOCK].lstrip(), text[-BLOCK:].rstrip()
            trimmed = BLOCK - len(beginning)
            start = trimmed + (len(text) - trimmed - (BLOCK - len(end)) - 512) // 2
            middle = text[start : start + 512]
        return first_bytes(beginning, 512), middle_bytes(middle, 512), last_bytes(end, 512)

    def forward(self, tokens: Int[Tensor, "N 1536"]) -> Float[Tensor, "N 113"]:
        """Return logits."""
        pieces = F.gelu(self.embedding(tokens)).reshape(-1, 384, 512)
        pieces = self.piece_norm(pieces.mT).mT  # each feature over the pieces
        pieces = F.gelu(self.hidden_2(F.gelu(self.hidden_1(pieces))))
        return self.head(self.norm(pieces.amax(1)))


class Magika10(nn.Module):
    """Magika 1.0: a convolution over 512 pieces of four bytes, and the largest answer of all places."""

    classes = MAGIKA_10

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(257, 64)
        self.piece_norm = nn.LayerNorm(512, eps=1e-6)
        self.convolution = nn.Conv1d(256, 512, 5)
        self.norm = nn.LayerNorm(512, eps=1e-6)
        self.head = nn.Linear(512, len(self.classes))

    def tokenizer(self, texts: list[bytes]) -> Int[Tensor, "N 2048"]:
        """Take 1,024 bytes each of the beginning and of the end."""
        return torch.stack(
            [
                torch.cat((first_bytes(text[:BLOCK].lstrip(), 1024), last_bytes(text[-BLOCK:].rstrip(), 1024)))
                for text in texts
            ]
        )

    def forward(self, tokens: Int[Tensor, "N 2048"]) -> Float[Tensor, "N 214"]:
        """Return logits."""
        pieces = F.gelu(self.embedding(tokens), approximate="tanh").reshape(-1, 512, 256).mT
        places = F.gelu(self.convolution(self.piece_norm(pieces)), approximate="tanh")  # N 512 508
        return self.head(self.norm(places.amax(2)))


class Guesslang(nn.Module):
    """guesslang: pairs of bytes, hashed; an MLP on the mean of their embeddings beside a linear model on their sum."""

    classes = GUESSLANG

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.EmbeddingBag(BUCKETS + 1, 70, mode="mean", padding_idx=BUCKETS)
        self.hidden_1 = nn.Linear(70, 512)
        self.hidden_2 = nn.Linear(512, 32)
        self.deep = nn.Linear(32, len(self.classes))
        self.wide = nn.EmbeddingBag(BUCKETS + 1, len(self.classes), mode="sum", padding_idx=BUCKETS)

    def tokenizer(self, texts: list[bytes]) -> Int[Tensor, "N L"]:
        """Hash the pairs of neighbouring bytes of UTF-8 with plain line ends; rows end in padding."""
        rows = [torch.tensor([BUCKETS])]  # no table without columns, if all texts are empty
        for text in texts:
            plain = text.decode("utf-8", "replace").replace("\r\n", "\n").encode()
            codes = np.frombuffer(plain[: PAIRS + 1], np.uint8)
            rows.append(torch.from_numpy(PAIR_BUCKETS[codes[:-1], codes[1:]]))
        return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=BUCKETS)[1:]

    def forward(self, pairs: Int[Tensor, "N L"]) -> Float[Tensor, "N 54"]:
        """Return logits."""
        hidden = F.relu(self.hidden_2(F.relu(self.hidden_1(self.embedding(pairs)))))
        return self.deep(hidden) + self.wide(pairs)


def first_bytes(text: bytes, size: int) -> Int[Tensor, " size"]:
    """Take the first bytes; padding follows a short text."""
    return as_tokens(text[:size], 0, size)


def middle_bytes(text: bytes, size: int) -> Int[Tensor, " size"]:
    """Take the bytes in the middle; padding stands on both sides of a short text."""
    start = max(0, len(text) - size) // 2
    return as_tokens(text[start : start + size], max(0, size - len(text)) // 2, size)


def last_bytes(text: bytes, size: int) -> Int[Tensor, " size"]:
    """Take the last bytes; padding precedes a short text."""
    return as_tokens(text[-size:], max(0, size - len(text)), size)


def as_tokens(text: bytes, start: int, size: int) -> Int[Tensor, " size"]:
    """Put bytes into padding, from a place on."""
    tokens = torch.full((size,), PADDING)
    tokens[start : start + len(text)] = torch.from_numpy(np.frombuffer(text, np.uint8).astype(np.int64))
    return tokens


def hash_pairs() -> Int[np.ndarray, "256 256"]:
    """Name the bucket of every pair of bytes, which is hashed as first byte, space, second byte.

    TensorFlow.js hands single bytes on as text, so that all that are not ASCII become the same replacement character.
    """
    symbols = [bytes([code]) if code < 128 else "\ufffd".encode() for code in range(129)]
    hashed = [[fingerprint(first + b" " + second) % BUCKETS for second in symbols] for first in symbols]
    kind = np.minimum(np.arange(256), 128)
    return np.array(hashed)[np.ix_(kind, kind)]


def fingerprint(text: bytes) -> int:
    """Return FarmHash's 64-bit fingerprint of one to seven bytes.

    Source: FarmHash, `HashLen0to16`, as TensorFlow's StringToHashBucketFast uses it.
    """
    k0, k2, size = 0xC3A5C85C97CB3127, 0x9AE16A3B2F90404F, len(text)
    if size < 4:
        first = text[0] + (text[size // 2] << 8)
        return mix(first * k2 ^ (size + (text[-1] << 2)) * k0) * k2 % 2**64
    first, last = (int.from_bytes(four, "little") for four in (text[:4], text[-4:]))
    factor = k2 + 2 * size
    mixed = mix((size + (first << 3) ^ last) * factor)
    return mix((last ^ mixed) * factor) * factor % 2**64


def mix(number: int) -> int:
    """Mix the upper bits of 64 into the lower."""
    number %= 2**64
    return number ^ number >> 47


PAIR_BUCKETS = hash_pairs()


def renamed(module: nn.Module, table: str) -> nn.Module:
    """Give a module's classes the names of a table; classes that share a name are summed, and the others stay.

    Args:
        module: Its weights keep their names.
        table: A csv of `model_class,class`.
    """
    if not table:
        return module
    given = {row["model_class"]: row["class"] for row in read_csv(Path(table))}
    names = [given.get(name, name) for name in module.classes]
    classes = list(dict.fromkeys(names))
    groups = torch.tensor([classes.index(name) for name in names])
    apart = torch.where(torch.arange(len(classes))[:, None] == groups, 0.0, -torch.inf)
    module.register_buffer("apart", apart, persistent=False)
    module.register_forward_hook(lambda asked, _, logits: (logits[:, None] + asked.apart).logsumexp(2))
    module.classes = tuple(classes)
    return module


def read_csv(path: Path) -> list[dict[str, str]]:
    """Read a table of two named columns."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def magika_05(classes: str = "") -> nn.Module:
    """Build Magika 0.5 (113 classes, 0.28 million weights), its classes named by a table if one is given."""
    return renamed(Magika05(), classes)


def magika_10(classes: str = "") -> nn.Module:
    """Build Magika 1.0 (214 classes, 0.78 million weights)."""
    return renamed(Magika10(), classes)


def guesslang(classes: str = "") -> nn.Module:
    """Build guesslang (54 classes, 0.68 million weights)."""
    return renamed(Guesslang(), classes)
