"""What is foreign in a pool: samples of which the tutors together know less than of what they are meant for.

Of a pool like the selection split a twentieth falls below the confidence that a twentieth of that falls below. These
are its hardest samples, and they teach most, so nothing is left out of such a pool. Where more than `TOLERATED` times
as many fall below, the pool holds something else too, and what falls below is left out.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..answers.prediction import predict_all
from ..answers.tutors import Tutors
from ..functional.label_spaces import ensemble_probs
from ..types import Split
from .setup import TransferSetup
from .sources import Source

TOLERATED, CHANCE = 2.0, 3.0
"""How many times as many strangers as the selection split a pool may hold, and standard errors of that count."""
AT_ONCE = 4096
"""Samples whose answers are read at once."""
REASON = "of which the tutors are less sure than of the selection split"


@dataclass(frozen=True)
class LeftOut:
    """The samples of a pool that were taken for foreign, those of which the tutors are least sure first."""

    split: Split
    rows: Int[np.ndarray, " n"]
    confidence: Float[np.ndarray, " n"]
    """Of the tutors' mean-probability ensemble."""
    preds: Int[np.ndarray, " n"]
    """What the ensemble takes them for."""


def leave_out_foreign(setup: TransferSetup, source: Source, tune: Split) -> tuple[Source, LeftOut | None]:
    """Let only those samples of a pool teach of which the tutors' ensemble is sure enough.

    Sure enough is what exceeds a quantile (`pool.drop_below`) of the ensemble's confidence on the tune part of the
    selection split, which no label is needed for. Nothing is left out where no more than twice that share falls below,
    or where that could be chance.

    Args:
        setup: Its tutors, and the quantile.
        source: A pool; its tutors answer one view of every sample.
        tune: The tune part.
    """
    share = setup.config.pool.drop_below
    assert source.tutors is not None, "strangers are told by the tutors' answers"
    known = setup.known
    least = _ensemble(predict_all(setup.tutors, tune, setup.store), known)[0].quantile(share)
    view = source.views.shown(1)[0] if source.views.count else 0
    confidence, preds = _on_view(source, source.tutors, view, known)
    kept = confidence >= least
    below = 1 - kept.double().mean().item()
    by_chance = CHANCE * math.sqrt(share * (1 - share) / len(tune))  # the quantile is that of so many samples
    if below <= TOLERATED * share + by_chance or not bool(kept.any()):
        return source, None
    gone = torch.nonzero(~kept)[:, 0]
    gone = gone[confidence[gone].argsort(stable=True)]
    left = LeftOut(source.split, gone.numpy(), confidence[gone].numpy(), preds[gone].numpy())
    return replace(source, rows=torch.nonzero(kept)[:, 0].numpy()), left


def _on_view(
    source: Source, tutors: Tutors, number: int, known: Bool[Tensor, "K C"] | None
) -> tuple[Float[Tensor, " N"], Int[Tensor, " N"]]:
    """Return confidence and class of the ensemble on one view of every sample."""
    parts = []
    for start in range(0, len(source.split), AT_ONCE):
        rows = np.arange(start, min(start + AT_ONCE, len(source.split)))
        batch = source.views.batch(source.split, rows, np.full(len(rows), number))
        parts.append(_ensemble(tutors.logits(batch), known))
    return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])


def _ensemble(
    tutors: Float[Tensor, "K N C"], known: Bool[Tensor, "K C"] | None
) -> tuple[Float[Tensor, " N"], Int[Tensor, " N"]]:
    """Return how sure the ensemble is, and of which class."""
    highest = ensemble_probs(tutors, known).max(1)
    return highest.values, highest.indices
