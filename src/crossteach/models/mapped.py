"""A model whose classes are not the student's: it answers over the student's, as a label map says."""

import hashlib
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ..config import ScoringPrecision
from ..functional.label_spaces import known_classes, known_together, map_logits, probability_outside
from ..functional.unanswered import answered
from ..types import Classifier, Family, Split

Answers = Callable[[Split, Int[np.ndarray, " n"]], Float[Tensor, "n C"]]
"""Positions in a split -> what is known of these samples; a row of NaN is no answer."""


class MappedClassifier:
    """A classifier that answers over other classes than its own: a black box, it may teach and not learn.

    What its own classes say is added up in the classes that they belong to; see `functional.map_logits`.
    """

    def __init__(
        self,
        inner: Classifier,
        belongs: Int[np.ndarray, " T"],
        classes: Sequence[str],
        how: str = "as given",
        file: str | None = None,
    ) -> None:
        """Take a model, the class of the student that each of its classes belongs to (−1: none), and its names.

        Args:
            inner: Any model that answers.
            belongs: As many as it has classes.
            classes: Of the student.
            how: How they were found, for the note.
            file: The label map that said so, where it is a file: for the command that repeats a run.
        """
        self.inner, self.belongs = inner, torch.from_numpy(belongs.astype(np.int64))
        self.how, self.file = how, file
        self.classes: tuple[str, ...] | None = tuple(classes)
        self.n_classes = len(classes)
        self.knows: Bool[Tensor, " C"] = known_classes(self.belongs, self.n_classes)
        self.spec, self.name, self.preprocess = inner.spec, inner.name, inner.preprocess
        self._own_note = self._describe()

    def of(self, other: Classifier) -> "MappedClassifier":
        """Map the classes of another model in the same way."""
        assert self.classes is not None
        return MappedClassifier(other, self.belongs.numpy(), self.classes, self.how, self.file)

    def _describe(self) -> str:
        used, known = int((self.belongs >= 0).sum()), int(self.knows.sum())
        left = self.n_classes - known
        rest = f"; the frozen student teaches the samples of the other {left}" if left else ""
        return (
            f"{used} of the {len(self.belongs)} classes of {self.name} stand for {known} of {self.n_classes}, "
            f"{self.how}{rest}"
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """What the model has to say, and how its classes were mapped."""
        return (*getattr(self.inner, "notes", ()), self._own_note)

    @notes.setter
    def notes(self, said: tuple[str, ...]) -> None:
        if hasattr(self.inner, "notes"):
            self.inner.notes = tuple(note for note in said if note != self._own_note)

    @property
    def module(self) -> nn.Module:
        """The model's module; a black box has none."""
        found: nn.Module = self.inner.module  # type: ignore[attr-defined]
        return found

    @property
    def scoring_batch(self) -> int | None:
        """Images that the model is asked at once; some do not let it be set."""
        batch: int | None = self.inner.scoring_batch  # type: ignore[attr-defined]
        return batch

    @scoring_batch.setter
    def scoring_batch(self, rows: int | None) -> None:
        self.inner.scoring_batch = rows  # type: ignore[attr-defined]

    @property
    def scoring_precision(self) -> ScoringPrecision:
        """In which the model is asked; black boxes do not let it be set."""
        precision: ScoringPrecision = self.inner.scoring_precision  # type: ignore[attr-defined]
        return precision

    @scoring_precision.setter
    def scoring_precision(self, precision: ScoringPrecision) -> None:
        self.inner.scoring_precision = precision  # type: ignore[attr-defined]

    @property
    def n_parameters(self) -> int:
        """Of the model."""
        return self.inner.n_parameters

    @property
    def family(self) -> Family:
        """Of the model."""
        return self.inner.family

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.inner.device

    @property
    def fingerprint(self) -> str:
        """Hash of the model's own, and of where its classes belong."""
        hashed = hashlib.blake2b(f"{self.inner.fingerprint} {self.n_classes}".encode(), digest_size=16)
        hashed.update(self.belongs.numpy().tobytes())
        return hashed.hexdigest()

    def logits(self, images: Float[Tensor, "N c h w"]) -> Float[Tensor, "N C"]:
        """Score images over the student's classes, on the CPU."""
        return map_logits(self.inner.logits(images).float().cpu(), self.belongs, self.n_classes)

    @property
    def answers(self) -> Answers | None:
        """What a table says of samples, over the student's classes; None for a model that looks at them."""
        inner: Answers | None = getattr(self.inner, "answers", None)
        return None if inner is None else lambda split, index: self._mapped(inner(split, index))

    def _mapped(self, said: Float[Tensor, "N T"]) -> Float[Tensor, "N C"]:
        mapped = said.new_full((len(said), self.n_classes), math.nan)
        rows = answered(said)
        mapped[rows] = map_logits(said[rows], self.belongs, self.n_classes)
        return mapped

    def outside(self, logits: Float[Tensor, "N T"]) -> Float[Tensor, " N"]:
        """Return the probability that lies outside the map, from logits over the model's own classes."""
        return probability_outside(logits, self.belongs)


def file_of_map(model: Classifier) -> dict[str, str]:
    """Return the file of the label map that a model was mapped by, as `label_map`; nothing where there is none."""
    file: str | None = getattr(model, "file", None)
    return {} if file is None else {"label_map": file}


def partial_knowledge(model: Classifier) -> Bool[Tensor, " C"] | None:
    """Mark the classes that a model knows; None where it knows all."""
    knows: Bool[Tensor, " C"] | None = getattr(model, "knows", None)
    return None if knows is None or bool(knows.all()) else knows


def known_by(models: Sequence[Classifier]) -> Bool[Tensor, "K C"] | None:
    """Mark the classes that each model knows, the frozen student first; None where each knows all."""
    return known_together([partial_knowledge(model) for model in models])
