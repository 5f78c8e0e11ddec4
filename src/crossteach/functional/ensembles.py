"""What the averaged probabilities of models reach: of every pair, and of all together."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .unanswered import answered


@dataclass(frozen=True)
class EnsembleAccuracies:
    """Accuracies of mean-probability ensembles, in %."""

    pairs: Float[Tensor, "M M"]
    """Of each two models; a model with itself is the model."""
    together: float
    """Of all models."""


def ensemble_accuracies(
    blocks: Iterable[tuple[Float[Tensor, "M B C"], Int[Tensor, " B"]]], n_models: int
) -> EnsembleAccuracies:
    """Return the accuracy of the mean probability of every two models, and of all.

    The work grows with pairs × samples × classes. So samples come in blocks, of which all models' probabilities fit
    into the processor's cache, and each unordered pair is computed once.

    Args:
        blocks: Logits of all models on some samples, and their labels. Some tens of samples a block are fastest. A
            model without an answer (a row of NaN) has no part in a mean; what no model of a mean answers is not right.
        n_models: How many models a block holds.

    Example:
        >>> logits = torch.tensor([[[2.0, 0.0]], [[0.0, 3.0]]])
        >>> ensemble_accuracies([(logits, torch.tensor([1]))], 2).pairs
        tensor([[  0., 100.],
                [100., 100.]], dtype=torch.float64)
    """
    right = torch.zeros(n_models, n_models, dtype=torch.long)
    together = samples = 0
    for logits, labels in blocks:
        said, probs = answered(logits), logits.softmax(2)
        if not bool(said.all()):
            probs = probs.nan_to_num(0.0)
        for model in range(n_models):
            sums = probs[model:] + probs[model]
            preds = torch.from_numpy(sums.numpy().argmax(2))  # several times faster than torch's
            right[model, model:] += ((preds == labels) & (said[model:] | said[model])).sum(1)
        together += int(((probs.sum(0).argmax(1) == labels) & said.any(0)).sum())
        samples += len(labels)
    counts = torch.triu(right) + torch.triu(right, 1).T
    return EnsembleAccuracies(100.0 * counts.double() / max(samples, 1), 100.0 * together / max(samples, 1))
