"""Who is right? Learnt from labelled samples: how probably each tutor is right, told from the tutors' answers alone.

Confidence against confidence is a guess: a weak model may be sure of itself. A `Judge` holds a logistic regression for
each tutor. It reads how sure the tutor is, what the others say of its class and of their own, and how often it was
right where it gave this class before. It takes a few hundred labelled samples that have trained none of the models.

Source: ours; docs/method.md has the figures.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..errors import DataError
from .unanswered import answered, fill_unanswered

SHRUNK = 8.0
"""Samples of a tutor's mean accuracy that are added to its record in each class."""
STRENGTH = 0.1
"""C of the logistic regression: smaller is more regular. Chosen, as the exponent of `learned`, by what targets have
right on groups of the selection split that the judge has not seen: benchmarks/judge.py."""
FEWEST = 50
"""Labelled samples from which a judge is learnt."""
MOST_FIT = 2_500
"""Labelled samples that are enough: a judge learns a dozen numbers for each tutor, and the tutors' logits are large."""
CLIP = 12.0
"""Largest log-odds that a feature may have: beyond them models of float16 say nothing."""


@dataclass(frozen=True)
class Judge:
    """What was learnt about K tutors over C classes."""

    weights: Float[Tensor, "K F"]
    """Of the features, less their centre and divided by their scale."""
    bias: Float[Tensor, " K"]
    centre: Float[Tensor, "K F"]
    scale: Float[Tensor, "K F"]
    record: Float[Tensor, "K C"]
    """Log-odds that a tutor is right where it answers a class."""

    def __call__(self, tutors: Float[Tensor, "K N C"]) -> Float[Tensor, "K N"]:
        """Return the log-odds that each tutor is right on each sample.

        Args:
            tutors: Logits, in the order in which the judge has learnt them; where there is no answer (a row of NaN),
                tutor 0 is taken to answer for it.
        """
        tutors = fill_unanswered(tutors)
        weights, bias, centre, scale, record = (
            part.to(tutors.device) for part in (self.weights, self.bias, self.centre, self.scale, self.record)
        )
        preds = tutors.max(2).indices
        features = _features(tutors, preds, record.gather(1, preds))
        even = (features - centre[:, None]) / scale[:, None]
        return (even * weights[:, None]).sum(2) + bias[:, None]


def _features(
    tutors: Float[Tensor, "K N C"], preds: Int[Tensor, "K N"], record: Float[Tensor, "K N"]
) -> Float[Tensor, "K N F"]:
    """Return what a judge reads of each tutor on each sample.

    Args:
        tutors: Logits.
        preds: The class that each tutor gives.
        record: Log-odds that each tutor is right where it gives the class that it gives.
    """
    probs = tutors.softmax(2)
    best = probs.gather(2, preds[..., None]).squeeze(2)
    second = probs.scatter(2, preds[..., None], 0).amax(2)
    sure = _odds(best)
    margin = (best.log() - second.clamp(min=1e-8).log()).clamp(max=CLIP)
    entropy = -(probs * probs.clamp(min=1e-12).log()).sum(2)
    others = len(tutors) - 1
    features = [sure, margin, entropy, record]
    if others:
        of_class = probs.gather(2, preds.T.expand(len(tutors), -1, -1)).permute(2, 0, 1)
        mine = torch.eye(len(tutors), dtype=torch.bool, device=tutors.device)[..., None]
        support = of_class.masked_fill(mine, 0).sum(1) / others
        same = preds[:, None] == preds
        agree = (same.sum(1) - 1) / others
        rival = sure.expand_as(of_class).masked_fill(same, -CLIP).amax(1)
        rival_record = record.expand_as(of_class).masked_fill(same, -CLIP).amax(1)
        features += [_odds(support), agree, rival, rival_record, sure - rival]
    return torch.stack(features, 2)


def _odds(probs: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    return torch.logit(probs.double(), eps=1e-7).clamp(-CLIP, CLIP).to(probs.dtype)


def fit_judge(tutors: Float[Tensor, "K N C"], labels: Int[Tensor, " N"], strength: float = STRENGTH) -> Judge:
    """Learn how to tell which tutor is right.

    Args:
        tutors: Logits of each tutor on labelled samples that have trained none of them; on the CPU. From samples that
            a tutor has no answer to (a row of NaN) nothing is learnt about it; beside the others it seems to say there
            what tutor 0 says.
        labels: Class ids.
        strength: C of the logistic regression.

    Raises:
        DataError: If there are too few samples.

    Example:
        >>> labels = torch.arange(60) % 3
        >>> good, bad = 4.0 * torch.eye(3)[labels], 4.0 * torch.eye(3)[(labels + (labels == 0)) % 3]
        >>> judge = fit_judge(torch.stack([good, bad]), labels)
        >>> (judge(torch.stack([good, bad])).argmax(0)[labels == 0] == 0).all()
        tensor(True)
    """
    from sklearn.linear_model import LogisticRegression

    if len(labels) < FEWEST:
        raise DataError(f"a judge of tutors learns from {FEWEST} labelled samples or more, not {len(labels)}")
    said, tutors = answered(tutors), fill_unanswered(tutors)
    preds = tutors.max(2).indices
    right = preds == labels
    counts, hits, prior = _records(preds, right & said, said, tutors.shape[2])
    record = torch.logit((hits + SHRUNK * prior) / (counts + SHRUNK))
    own_counts, own_hits = counts.gather(1, preds) - said.float(), hits.gather(1, preds) - (right & said).float()
    without = torch.logit((own_hits + SHRUNK * prior) / (own_counts + SHRUNK))  # a sample does not vouch for itself
    features = _features(tutors, preds, without).double()
    centre, scale = features.mean(1), features.std(1, correction=0).clamp(min=1e-3)
    weights, bias = torch.zeros_like(centre), torch.zeros(len(tutors), dtype=torch.float64)
    for k, rows in enumerate(said):
        of_own = right[k][rows]
        if bool(of_own.all()) or not bool(of_own.any()):
            bias[k] = _odds(of_own.double().mean()) if len(of_own) else 0.0
            continue
        even = ((features[k][rows] - centre[k]) / scale[k]).numpy()
        fitted = LogisticRegression(C=strength, max_iter=1000).fit(even, of_own.numpy())
        weights[k], bias[k] = torch.from_numpy(fitted.coef_[0]), float(fitted.intercept_[0])
    return Judge(weights.float(), bias.float(), centre.float(), scale.float(), record.float())


def _records(
    preds: Int[Tensor, "K N"], right: Bool[Tensor, "K N"], said: Bool[Tensor, "K N"], classes: int
) -> tuple[Float[Tensor, "K C"], Float[Tensor, "K C"], Float[Tensor, "K 1"]]:
    """Count, for each tutor and class, how often it gave the class and was right; and its mean accuracy."""
    counts = torch.zeros(len(preds), classes).scatter_add_(1, preds, said.float())
    hits = torch.zeros(len(preds), classes).scatter_add_(1, preds, right.float())
    prior = ((right.float().sum(1) + 1) / (said.float().sum(1) + 2))[:, None]
    return counts, hits, prior
