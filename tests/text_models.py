"""Models that read text, small enough to be trained in a test: factories for `py:` specs and for tests themselves."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Letters(nn.Module):
    """Bags of hashed letter n-grams: it is given texts as bytes by its tokenizer."""

    def __init__(self, n_classes: int = 3, ngram: int = 2, buckets: int = 512) -> None:
        super().__init__()
        self.ngram, self.buckets = ngram, buckets
        self.bag = nn.EmbeddingBag(buckets + 1, 16, mode="mean", padding_idx=buckets)
        self.head = nn.Linear(16, n_classes)

    def tokenizer(self, texts: Sequence[bytes]) -> Tensor:
        grams = [[hash_of(t[i : i + self.ngram]) % self.buckets for i in range(max(1, len(t) - 1))] for t in texts]
        longest = max(map(len, grams))
        return torch.tensor([row + [self.buckets] * (longest - len(row)) for row in grams])

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.bag(ids))


class Words(nn.Module):
    """The same from whole words; its tokenizer returns a mapping."""

    def __init__(self, n_classes: int = 3, buckets: int = 512) -> None:
        super().__init__()
        self.buckets = buckets
        self.embed = nn.Embedding(buckets, 16)
        self.head = nn.Linear(16, n_classes)

    def tokenizer(self, texts: Sequence[bytes]) -> dict[str, Tensor]:
        words = [[hash_of(w) % self.buckets for w in t.split()] or [0] for t in texts]
        longest = max(map(len, words))
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in words])
        return {"ids": ids, "lengths": torch.tensor([len(row) for row in words])}

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        mask = (torch.arange(ids.shape[1])[None] < lengths[:, None]).float()[..., None]
        return self.head((self.embed(ids) * mask).sum(1) / mask.sum(1))


def hash_of(piece: bytes) -> int:
    value = 2166136261
    for byte in piece:
        value = (value ^ byte) * 16777619 % 2**32
    return value


def letters(**arguments: int) -> nn.Module:
    return Letters(**arguments)


def words(**arguments: int) -> nn.Module:
    return Words(**arguments)
