"""Three published language identifiers as torch modules: fastText's lid.176, py3langid and lande.

    python recipes/languages_figures.py --out FOLDER       # fetches the packages, writes FOLDER/lid176.safetensors, ...
    py:recipes/languages_models.py:lid176@FOLDER/lid176.safetensors

A module takes what its `tokenizer` makes of UTF-8 strings (a dict of tensors by name, or one tensor) and gives logits
[N, C] for its `classes`. All of a tokenizer's tables are buffers, so that the weights alone are the whole model. Sizes
are those of one release; languages_weights.py tells where each comes from and how it is rebuilt.

| model | classes | learns | what it reads |
|---|---|---|---|
| `lid176` | 176 | 0.80 M | mean over words and character 2- to 4-grams, a choice at each of 175 nodes of a tree |
| `py3langid` | 142 | 14.2 M | naive Bayes: log counts of byte n-grams that an automaton finds |
| `lande` | 50 | 0.08 M | frequencies of 620 character n-grams, one hidden layer |
"""

import csv
import re
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

CHUNK = 4096
"""Strings that a tokenizer reads at once."""
PRIME = np.uint32(16777619)
"""Of the 32-bit hash of Fowler, Noll and Vo."""

LID176 = (
    "en ru de fr it ja es ceb tr pt uk eo pl sv nl he zh hu ar ca fi cs fa sr el vi bg ko no mk ro id th hy da ta hi "
    "hr sh be ka te kk war lt gl sk bn eu sl kn ml mr et az ms sq la bs nn ur lv my tt af oc nds ky ast tl is ia si "
    "gu km br ba uz bo pa vo als ne cy jbo fy mn lb ce ug tg sco sa cv jv min io or as new ga mg an ckb sw bar lmo yi "
    "arz mhr azb sah pnb su bpy pms ilo wuu ku ps ie xmf yue gom li mwl kw sd hsb scn gd pam bh mai vec mt dv wa mzn "
    "am qu eml cbk tk rm os vls yo lo lez so myv diq mrj dsb frr ht gn bxr kv sc nah krc bcl nap gv av rue xal pfl "
    "dty hif co lrc vep tyv"
)
PY3LANGID = (
    "af am ar as az be bg bn br bs ca cs cy da de el en eo es et eu fa fi fr fy ga gd gl gu ha he hi hr ht hu hy id "
    "ig is it ja jv ka kk km kn ko ku ky la lg ln lo lt lv mg mk ml mn mr ms my ne nl no om or pa pl ps pt qu ro ru "
    "sa si sk sl so sq sr sr-Latn sv sw ta te th tl tr ug uk ur uz vi xh yo zh zu zxx ace bcl dz ext gcf gom grc gug "
    "hbo kik nso pcm rw se sn st uz-Cyrl an ary crh fo fuv gcr guw kab lb lij ltg uzs wa sdh arz ba mt nn oc tg tk tt "
    "vec vo wuu yue"
)
LANDE = (
    "afr ara aze bel ben bul cat ces ckb cmn dan deu ell eng est eus fin fra hau heb hin hrv hun hye ind isl ita jpn "
    "kat kaz kor lit mar mkd nld nob pes pol por ron run rus slk spa srp swe tgl tur ukr vie"
)


class Lid176(nn.Module):
    """Joulin et al. (2016), "Bag of Tricks for Efficient Text Classification", and "FastText.zip" of the same year."""

    classes = tuple(LID176.split())
    buckets = 2_000_000

    def __init__(self, words: int = 7235, ngrams: int = 42765, width: int = 16) -> None:
        super().__init__()
        nodes = len(self.classes) - 1
        self.bag = nn.EmbeddingBag(words + ngrams + 1, width, mode="mean", padding_idx=-1)
        self.nodes = nn.Linear(width, nodes, bias=False)
        self.register_buffer("words", torch.zeros(words, dtype=torch.int64))
        """Hashes of the known words, ascending: word i has row i. One of 600,000 other words is mistaken for one."""
        self.register_buffer("ngrams", torch.zeros(ngrams, dtype=torch.int64))
        """Buckets of the n-grams that were kept, ascending: they have the rows after those of the words."""
        self.register_buffer("paths", torch.zeros(len(self.classes), nodes, dtype=torch.int8))
        """What each class takes at each node: 1 right, -1 left, 0 where the node is not on its way."""

    def tokenizer(self, texts: list[bytes]) -> dict[str, Tensor]:
        """Find the rows of the words, of their n-grams and of the end of the line: ids [N, L], padded."""
        words, ngrams = self.words.cpu().numpy(), self.ngrams.cpu().numpy()
        end = find(words, fnv1a(b"</s>", np.array([0]), np.array([4])))
        owners, rows = [np.arange(len(texts))], [end.repeat(len(texts))]
        for start in range(0, len(texts), CHUNK):
            split = [text.replace(b"\0", b" ").split() for text in texts[start : start + CHUNK]]
            owner = np.arange(start, start + len(split)).repeat([len(found) for found in split])
            marked = [b"<%b>" % word for found in split for word in found]
            flat, edges = b"".join(marked), np.cumsum([0, *map(len, marked)])
            row = find(words, fnv1a(flat, edges[:-1] + 1, edges[1:] - 1))
            owners, rows = [*owners, owner[row >= 0]], [*rows, row[row >= 0]]
            word, starts, stops = character_ngrams(flat, edges, 2, 4)
            row = find(ngrams, fnv1a(flat, starts, stops) % self.buckets)
            owners, rows = [*owners, owner[word[row >= 0]]], [*rows, row[row >= 0] + len(words)]
        nothing = self.bag.num_embeddings - 1
        return {"ids": padded(np.concatenate(owners), np.concatenate(rows).astype(np.int32), len(texts), nothing)}

    def forward(self, ids: Tensor) -> Tensor:
        """Give the log of what the library answers: it adds 1e-5 to each choice, so the classes sum to 1 + 2e-5."""
        scores = self.nodes(self.bag(ids))  # [N, nodes]
        right, left = (self.paths > 0).to(scores.dtype), (self.paths < 0).to(scores.dtype)
        choices = torch.log(scores.sigmoid() + 1e-5) @ right.T
        return choices + torch.log((-scores).sigmoid() + 1e-5) @ left.T


class Py3Langid(nn.Module):
    """Lui and Baldwin (2012), "langid.py", as the fork py3langid trained it again.

    The library has two columns named `sr` and two named `uz`; here each column has a name of its own.
    """

    classes = tuple(PY3LANGID.split())

    def __init__(self, features: int = 100_053, states: int = 104_583, rows: int = 38_346) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(features + 1, len(self.classes), mode="sum", padding_idx=-1)
        self.prior = nn.Parameter(torch.zeros(len(self.classes)))
        self.register_buffer("moves", torch.zeros(rows, 256, dtype=torch.int32))
        """The state that follows, by a state's row and the byte that is read."""
        self.register_buffer("row_of", torch.zeros(states, dtype=torch.int32))
        self.register_buffer("feature_of", torch.zeros(states, dtype=torch.int32))
        """The feature that a state tells of; -1 for none."""

    def tokenizer(self, texts: list[bytes]) -> dict[str, Tensor]:
        """Count features: ids [N, L], log(1 + count) [N, L], and 1 / sqrt(bytes) [N], 0 where nothing was found."""
        n_features = self.bag.num_embeddings - 1
        keys, counts, lengths = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], []
        for start in range(0, len(texts), CHUNK):
            prepared = [as_py3langid_reads(text) for text in texts[start : start + CHUNK]]
            found = self.walk(prepared)  # [n, L]
            owner, place = np.nonzero(found >= 0)
            key, count = np.unique((start + owner) * n_features + found[owner, place], return_counts=True)
            keys, counts = [*keys, key], [*counts, count]
            lengths += [len(text) or 1 for text in prepared]
        owner, ids = np.divmod(np.concatenate(keys), n_features)
        weights = np.log1p(np.concatenate(counts).astype(np.float32))
        scale = np.isin(np.arange(len(texts)), owner) / np.sqrt(np.array(lengths))
        return {
            "ids": padded(owner, ids.astype(np.int32), len(texts), n_features),
            "weights": padded(owner, weights, len(texts), 0.0),
            "scale": torch.from_numpy(scale.astype(np.float32)),
        }

    def walk(self, texts: list[bytes]) -> np.ndarray:
        """Run the automaton over all strings at once; features [N, longest], -1 for none."""
        moves, row_of, feature_of = (table.cpu().numpy() for table in (self.moves, self.row_of, self.feature_of))
        lengths = np.array([len(text) for text in texts])
        order = np.argsort(-lengths, kind="stable")
        flat = np.frombuffer(b"".join(texts), np.uint8)
        begins = (np.cumsum(lengths) - lengths)[order]
        found = np.full((len(texts), max(lengths.max(), 1)), -1)
        state = np.zeros(len(texts), np.int32)
        for step, still in enumerate(np.searchsorted(-lengths[order], -np.arange(lengths.max()), side="left")):
            state = moves[row_of[state[:still]], flat[begins[:still] + step]]  # the longer ones stand in front
            found[order[:still], step] = feature_of[state]
        return found

    def forward(self, ids: Tensor, weights: Tensor, scale: Tensor) -> Tensor:
        """Add what features say of classes; the scale is the library's own, for probabilities at any length."""
        scale = scale[:, None]
        return self.bag(ids, per_sample_weights=weights * scale) + scale * self.prior


class Lande(nn.Module):
    """A tiny network, trained on sentences of Tatoeba by the author of the npm package of that name."""

    classes = tuple(LANDE.split())

    def __init__(self, ngrams: int = 620, width: int = 120) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(ngrams, width), nn.ReLU(), nn.Linear(width, len(self.classes)))
        self.register_buffer("ngrams", torch.zeros(ngrams, dtype=torch.int64))
        """Up to four UTF-16 units in one number, the last in its lowest bits; ascending."""

    def tokenizer(self, texts: list[bytes]) -> Tensor:
        """Measure how often each known n-gram stands among the n-grams of its length: [N, ngrams]."""
        ngrams = self.ngrams.cpu().numpy()
        counts = np.zeros((len(texts), len(ngrams)), np.float32)
        for start in range(0, len(texts), CHUNK):
            coded = [as_lande_reads(text).encode("utf-16-le") for text in texts[start : start + CHUNK]]
            units = np.frombuffer(b"".join(coded), np.uint16).astype(np.int64)
            lengths = np.array([len(text) // 2 for text in coded])
            ends = np.cumsum(lengths)
            owner = np.arange(len(coded)).repeat(lengths)
            key, tail = np.zeros(len(units), np.int64), np.append(units, np.zeros(3, np.int64))
            for n in range(1, 5):  # the n units from a place on
                key = key << 16 | tail[n - 1 : n - 1 + len(units)]
                column = find(ngrams, key)
                hits = np.flatnonzero((np.arange(len(units)) + n <= ends[owner]) & (column >= 0))
                np.add.at(counts, (start + owner[hits], column[hits]), 1 / (lengths[owner[hits]] - n + 1))
        return torch.from_numpy(counts)

    def forward(self, frequencies: Tensor) -> Tensor:
        """One hidden layer."""
        logits: Tensor = self.layers(frequencies)
        return logits


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


def lid176(classes: str = "") -> nn.Module:
    """Build fastText's identifier, its classes named by a table of `renamed` if one is given."""
    return renamed(Lid176(), classes)


def py3langid(classes: str = "") -> nn.Module:
    """Build py3langid's."""
    return renamed(Py3Langid(), classes)


def lande(classes: str = "") -> nn.Module:
    """Build lande's."""
    return renamed(Lande(), classes)


def fnv1a(flat: bytes, starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
    """Hash spans of bytes as fastText does: FNV-1a of 32 bits where a byte above 127 counts as a negative number.

    Example:
        >>> fnv1a(b"cat", np.array([1]), np.array([2]))  # of the a
        array([3826002220])
    """
    values = np.frombuffer(flat + b"\0", np.int8).astype(np.int32).view(np.uint32)
    hashes = np.full(len(starts), 2166136261, np.uint32)
    for step in range((stops - starts).max(initial=0)):
        going = np.flatnonzero(starts + step < stops)
        hashes[going] = (hashes[going] ^ values[starts[going] + step]) * PRIME
    return hashes.astype(np.int64)


def character_ngrams(
    flat: bytes, edges: np.ndarray, least: int, most: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """List the n-grams of UTF-8 characters within words: the word of each, its first byte, the byte after its last.

    Args:
        flat: The words, one after the other.
        edges: Where each begins, and the length of all.
        least: Characters of the shortest; at least 2, for fastText leaves out some of one character.
        most: Characters of the longest.

    Example:
        >>> word, starts, stops = character_ngrams(b"<a><b>", np.array([0, 3, 6]), 2, 3)
        >>> [b"<a><b>"[i:j] for i, j in zip(starts, stops)], word.tolist()
        ([b'<a', b'a>', b'<b', b'b>', b'<a>', b'<b>'], [0, 0, 1, 1, 0, 1])
    """
    begins = np.flatnonzero((np.frombuffer(flat, np.uint8) & 0xC0) != 0x80)
    word = np.searchsorted(edges, begins, side="right") - 1
    bounds, owner = np.append(begins, len(flat)), np.append(word, -1)
    found = []
    for n in range(least, most + 1):
        first = np.flatnonzero(word[: max(len(word) - n + 1, 0)] == word[n - 1 :])
        found.append((owner[first], bounds[first], bounds[first + n]))
    words, starts, stops = zip(*found, strict=True)
    return np.concatenate(words), np.concatenate(starts), np.concatenate(stops)


def find(known: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Find the place of each wanted number among ascending known ones; -1 where it is not there.

    Example:
        >>> find(np.array([3, 5, 9]), np.array([9, 4, 3]))
        array([ 2, -1,  0])
    """
    place = np.searchsorted(known, wanted).clip(max=len(known) - 1)
    return np.where(known[place] == wanted, place, -1)


def padded(owner: np.ndarray, values: np.ndarray, n: int, nothing: Any) -> Tensor:
    """Lay each owner's values in a row, in order, and fill up with nothing: [n, the most that one has].

    Example:
        >>> padded(np.array([0, 2, 0]), np.array([7, 8, 9]), 3, -1)
        tensor([[ 7,  9],
                [-1, -1],
                [ 8, -1]])
    """
    order = np.argsort(owner, kind="stable")
    counts = np.bincount(owner, minlength=n)
    table = np.full((n, max(counts.max(initial=0), 1)), nothing, values.dtype)
    place = np.arange(len(owner)) - (np.cumsum(counts) - counts).repeat(counts)
    table[owner[order], place] = values[order]
    return torch.from_numpy(table)


def as_py3langid_reads(text: bytes) -> bytes:
    """Compose characters, and lower what is all in capitals; bytes that are no UTF-8 stay."""
    try:
        string = text.decode()
    except UnicodeDecodeError:
        return text
    return unicodedata.normalize("NFC", string.lower() if string.isupper() else string).encode()


class _Letters(dict[int, str | None]):
    """What lande makes of a character: a hyphen is a space, letters, marks and spaces stay, the rest goes."""

    def __missing__(self, code: int) -> str | None:
        character = chr(code)
        stays = unicodedata.category(character)[0] in "LM" or character.isspace() or character == "\ufeff"
        self[code] = " " if character == "-" else character if stays else None
        return self[code]


LETTERS = _Letters()


def as_lande_reads(text: bytes) -> str:
    """Leave letters, marks and single spaces, in lower case, with a space on either side."""
    words = re.sub(r"\s{2,}", " ", text.decode(errors="replace").translate(LETTERS))
    return f" {words.lower().strip()} "
