"""WordNet's nouns: what a synset's words are, and how few steps lead from one to another.

Read from the file `data.noun` of WordNet 3.0, whose offsets are ImageNet's class ids (Debian's `wordnet-base`; NLTK's
corpus `wordnet` carries the same file).
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

WORDNET_FOLDERS = (
    "/usr/share/wordnet",
    "/usr/share/wordnet/dict",
    "/usr/share/wordnet-3.0/dict",
    "/usr/local/WordNet-3.0/dict",
)


@dataclass(frozen=True)
class Synset:
    """One noun meaning."""

    words: tuple[str, ...]
    hypernyms: tuple[int, ...]
    """Offsets of what it is a kind of, or an instance of."""


@dataclass(frozen=True, repr=False)
class WordNet:
    """The nouns of WordNet, as its file `data.noun` has them: a synset's id is the byte at which its line starts.

    Source: Miller, "WordNet: A Lexical Database for English" (CACM 1995); the manual page wndb(5WN).
    """

    path: Path
    data: bytes

    @classmethod
    def find(cls) -> "WordNet | None":
        """Read the file from `$WNSEARCHDIR`, or from where systems put it; None where it is not."""
        own = os.environ.get("WNSEARCHDIR")
        for folder in (own,) if own else WORDNET_FOLDERS:
            path = Path(folder) / "data.noun"
            if path.is_file():
                return cls(path, path.read_bytes())
        return None

    def synset(self, offset: int) -> Synset | None:
        """Return the noun at an offset; None where there is none, as in another version of WordNet."""
        fields = self.data[offset : self.data.find(b"\n", offset)].partition(b"|")[0].decode("latin-1").split()
        if fields[:1] != [f"{offset:08d}"]:
            return None
        end = 4 + 2 * int(fields[3], 16)  # a word and a number each; then how many pointers; then four fields each
        pointers = zip(fields[end + 1 :: 4], fields[end + 2 :: 4], strict=False)
        words = tuple(word.replace("_", " ") for word in fields[4:end:2])
        return Synset(words, tuple(int(to) for symbol, to in pointers if symbol in ("@", "@i")))

    def steps_up(self, offset: int) -> dict[int, int]:
        """Return how many steps up each hypernym is, at the least; the synset itself is 0 away."""
        steps, level, edge = {offset: 0}, 0, [offset]
        while edge:
            level += 1
            synsets = [self.synset(o) for o in edge]
            above = {up for synset in synsets if synset for up in synset.hypernyms}
            edge = sorted(above - steps.keys())
            steps |= dict.fromkeys(edge, level)
        return steps


def path_similarity(wordnet: WordNet, offsets: Sequence[int]) -> Float[np.ndarray, "C C"]:
    """Return 1 / (1 + fewest steps) of every pair of synsets.

    The way leads up to a common hypernym and down again; 0 where two synsets have none in common.

    Source: Rada et al., "Development and Application of a Metric on Semantic Nets" (IEEE SMC 1989).
    """
    ways = [wordnet.steps_up(offset) for offset in offsets]
    column = {hypernym: i for i, hypernym in enumerate(sorted(set().union(*ways)))}
    steps = np.full((len(column), len(offsets)), np.inf)
    for i, way in enumerate(ways):
        steps[[column[hypernym] for hypernym in way], i] = list(way.values())
    fewest = np.empty((len(offsets), len(offsets)))
    for i, way in enumerate(ways):
        shared = [column[hypernym] for hypernym in way]  # some twenty of the thousands of hypernyms
        fewest[i] = (steps[shared] + steps[shared, i, None]).min(axis=0)
    return 1 / (1 + fewest)
