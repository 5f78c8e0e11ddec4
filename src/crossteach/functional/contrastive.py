"""Contrastive baselines: the student's features are pulled towards a teacher's, not its answers.

Both losses are modules of one shape, ``(student features, teacher features, labels) -> loss``. What a module learns and
remembers is its own state, trained and kept beside the student.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


def similarity_divergence(
    student: Float[Tensor, "N F"], teacher: Float[Tensor, "N G"], temperature: float
) -> Float[Tensor, ""]:
    """Return the mean KL divergence between who is like whom to the teacher, and to the student, in nats.

    For each sample the cosine similarities to the others of the batch, divided by the temperature, become a
    distribution over them. The two models need not have the same number of features.

    Args:
        student: Features in training.
        teacher: Features of the same samples, without gradient.
        temperature: Below 1 it looks at the nearest.

    Example:
        >>> similarity_divergence(torch.eye(3), 2 * torch.eye(3, 5), 0.1).item()
        0.0
    """
    ours, theirs = (_others(features, temperature) for features in (student, teacher.detach()))
    return F.kl_div(ours, theirs, reduction="batchmean", log_target=True)


def _others(features: Float[Tensor, "N F"], temperature: float) -> Float[Tensor, "N N-1"]:
    """Return the logarithm of how a sample's likeness is spread over the others."""
    directions = F.normalize(features, dim=1)
    likeness = directions @ directions.T / temperature
    n = len(likeness)
    apart = ~torch.eye(n, dtype=torch.bool, device=features.device)
    return likeness[apart].view(n, n - 1).log_softmax(1)


def info_nce(
    anchors: Float[Tensor, "N D"],
    positives: Float[Tensor, "N D"],
    negatives: Float[Tensor, "M D"],
    same: Bool[Tensor, "N N+M"],
    temperature: float,
) -> Float[Tensor, ""]:
    """Return the mean cross-entropy of finding an anchor's own positive among all positives and the negatives.

    Args:
        anchors: Directions of one model, of length 1.
        positives: Directions of the other model for the same samples.
        negatives: Directions of the other model for samples before.
        same: Whether a candidate is of the anchor's class, and so no negative of it.
        temperature: Of the similarities.

    Source: van den Oord, Li and Vinyals, "Representation Learning with Contrastive Predictive Coding" (2018).
    """
    scores = anchors @ torch.cat([positives, negatives]).T / temperature
    own = torch.arange(len(anchors), device=anchors.device)
    excluded = same & (own[:, None] != torch.arange(same.shape[1], device=same.device))
    return F.cross_entropy(scores.masked_fill(excluded, -math.inf), own)


class SimilarityMatching(nn.Module):
    """Contrastive distillation (CD): the batch's feature similarities are matched. It learns and remembers nothing."""

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

    Each model's features pass a linear head of their own; a sample's two directions shall find each other among those
    of other classes. Negatives are the batch and the last `negatives` directions before it.

    Sources: Tian, Krishnan and Isola, "Contrastive Representation Distillation" (ICLR 2020), whose loss is a binary NCE
    over two banks of N x D; the queue is that of He et al., "Momentum Contrast" (CVPR 2020).
    """

    classes: Tensor
    student_queue: Tensor
    teacher_queue: Tensor
    place: Tensor

    def __init__(self, student: int, teacher: int, width: int, negatives: int, temperature: float) -> None:
        """Take the numbers of features of both models, of the heads, and of the samples that are remembered."""
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
        """Put a batch in the place of the oldest."""
        size = len(self.classes)
        ours, theirs, labels = ours[-size:], theirs[-size:], labels[-size:]
        rows = (self.place + torch.arange(len(labels), device=labels.device)) % size
        self.student_queue[rows], self.teacher_queue[rows], self.classes[rows] = ours, theirs, labels
        self.place.copy_((self.place + len(labels)) % size)
