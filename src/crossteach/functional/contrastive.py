"""Contrastive baselines: losses that compare the features of student and teacher, not their answers.

Both losses are modules called with (student features, teacher features, labels). What a module learns and remembers is
its own state, trained and kept beside the student.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


def similarity_divergence(
    student: Float[Tensor, "N F"], teacher: Float[Tensor, "N G"], temperature: float
) -> Float[Tensor, ""]:
    """Return the mean KL divergence from the teacher's similarities of samples to the student's, in nats.

    For each sample, a softmax turns its cosine similarities to the other samples of the batch, divided by the
    temperature, into a distribution over these. The two models may have different numbers of features.

    Args:
        student: Features in training.
        teacher: Features of the same samples, without gradient.
        temperature: Above 0; the lower it is, the more the most similar samples count.

    Example:
        >>> similarity_divergence(torch.eye(3), 2 * torch.eye(3, 5), 0.1).item()
        0.0
    """
    ours, theirs = (_others(features, temperature) for features in (student, teacher.detach()))
    return F.kl_div(ours, theirs, reduction="batchmean", log_target=True)


def _others(features: Float[Tensor, "N F"], temperature: float) -> Float[Tensor, "N N-1"]:
    """Return, for each sample, the log-softmax of its similarities to the others."""
    directions = F.normalize(features, dim=1)
    similarity = directions @ directions.T / temperature
    n = len(similarity)
    apart = ~torch.eye(n, dtype=torch.bool, device=features.device)
    return similarity[apart].view(n, n - 1).log_softmax(1)


def info_nce(
    anchors: Float[Tensor, "N D"],
    positives: Float[Tensor, "N D"],
    negatives: Float[Tensor, "M D"],
    same: Bool[Tensor, "N N+M"],
    temperature: float,
) -> Float[Tensor, ""]:
    """Return the mean cross-entropy of finding an anchor's own positive among all positives and negatives, in nats.

    Args:
        anchors: Features of one model, each row of length 1.
        positives: Features of the other model for the same samples, likewise.
        negatives: Features of the other model for earlier samples, likewise.
        same: Whether a candidate (the positives, then the negatives) has the anchor's class; it is then left out.
        temperature: The cosine similarities are divided by it.

    Example:
        >>> nothing, same = torch.zeros(0, 2), torch.eye(2, dtype=torch.bool)
        >>> round(info_nce(torch.eye(2), torch.eye(2), nothing, same, 1.0).item(), 3)
        0.313

    Source: van den Oord, Li and Vinyals, "Representation Learning with Contrastive Predictive Coding" (2018).
    """
    scores = anchors @ torch.cat([positives, negatives]).T / temperature
    own = torch.arange(len(anchors), device=anchors.device)
    excluded = same & (own[:, None] != torch.arange(same.shape[1], device=same.device))
    return F.cross_entropy(scores.masked_fill(excluded, -math.inf), own)


class SimilarityMatching(nn.Module):
    """Contrastive distillation (CD): `similarity_divergence` as a module. It learns and remembers nothing."""

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(
        self, student: Float[Tensor, "N F"], teacher: Float[Tensor, "N G"], labels: Int[Tensor, " N"]
    ) -> Float[Tensor, ""]:
        """Return the divergence of similarities; labels are not read."""
        return similarity_divergence(student, teacher, self.temperature)


class RepresentationDistillation(nn.Module):
    """Contrastive representation distillation (CRD), with a bounded queue in place of a bank of all samples.

    A linear head of its own projects each model's features to `width` numbers. The two projections of one sample should
    be more similar to each other than to those of other classes. Negatives are the rest of the batch and the last
    `negatives` samples before it.

    Sources: Tian, Krishnan and Isola, "Contrastive Representation Distillation" (ICLR 2020), whose loss is a binary NCE
    over two banks of N x D; the queue is that of He et al., "Momentum Contrast" (CVPR 2020).
    """

    classes: Tensor
    student_queue: Tensor
    teacher_queue: Tensor
    place: Tensor

    def __init__(self, student: int, teacher: int, width: int, negatives: int, temperature: float) -> None:
        """Make the heads and the empty queue.

        Args:
            student: Number of the student's features.
            teacher: Number of the teacher's features.
            width: Number of features after projection.
            negatives: How many samples the queue holds.
            temperature: As in `info_nce`.
        """
        super().__init__()
        self.student_head, self.teacher_head = nn.Linear(student, width), nn.Linear(teacher, width)
        self.temperature = temperature
        self.register_buffer("student_queue", torch.zeros(negatives, width))
        self.register_buffer("teacher_queue", torch.zeros(negatives, width))
        self.register_buffer("classes", torch.full((negatives,), -1))
        self.register_buffer("place", torch.zeros((), dtype=torch.long))

    def forward(
        self, student: Float[Tensor, "N F"], teacher: Float[Tensor, "N G"], labels: Int[Tensor, " N"]
    ) -> Float[Tensor, ""]:
        """Return the loss of both directions, student to teacher and back, and remember the batch."""
        ours = F.normalize(self.student_head(student), dim=1)
        theirs = F.normalize(self.teacher_head(teacher.detach()), dim=1)
        known = self.classes >= 0
        same = labels[:, None] == torch.cat([labels, self.classes[known]])
        loss = info_nce(ours, theirs, self.teacher_queue[known], same, self.temperature)
        loss = loss + info_nce(theirs, ours, self.student_queue[known], same, self.temperature)
        self._remember(ours.detach(), theirs.detach(), labels)
        return loss

    @torch.no_grad()
    def _remember(self, ours: Float[Tensor, "N D"], theirs: Float[Tensor, "N D"], labels: Int[Tensor, " N"]) -> None:
        """Let a batch replace the oldest samples of the queue."""
        size = len(self.classes)
        ours, theirs, labels = ours[-size:], theirs[-size:], labels[-size:]
        rows = (self.place + torch.arange(len(labels), device=labels.device)) % size
        self.student_queue[rows], self.teacher_queue[rows], self.classes[rows] = ours, theirs, labels
        self.place.copy_((self.place + len(labels)) % size)
