"""Ways to compare a student's answer with its teacher's: one function each, by the name that recipes use.

All take logits of student and teacher (b, C), target labels (b,) and the temperature T of both sides,
and return the loss of each article (b,). All are multiplied by T^2: without it the gradient would fade
with 1 / T^2, and alpha would mean something else at each T.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from newsie.training.config import SoftLossName

__all__ = [
    "SOFT_LOSSES",
    "SoftLoss",
    "correlation_loss",
    "decoupled_loss",
    "soft_loss",
    "standardise",
    "standardised_loss",
    "top_label_loss",
]

SoftLoss = Callable[[Tensor, Tensor, Tensor, float], Tensor]

OTHERS_WEIGHT = 8.0
"""Weight of the labels that are not the target's in `decoupled_loss`; that of the target is 1."""

STANDARDISED_WEIGHT = 10.0
"""Factor of `standardised_loss`: at alpha = 0.1 its share beside gold labels is 9 to 0.1, as in the authors'
code (base temperature 2). Z-scores are small numbers, whose divergence would count for little."""


def soft_loss(student: Tensor, teacher: Tensor, target: Tensor, temperature: float) -> Tensor:
    """Distance between the soft labels of teacher and student.

    T^2 * KL(softmax(t / T) || softmax(s / T)), Hinton, Vinyals, Dean 2015 (arXiv 1503.02531).
    The target is not looked at.
    """
    log_student = F.log_softmax(student.float() / temperature, dim=-1)
    log_teacher = F.log_softmax(teacher.float() / temperature, dim=-1)
    return temperature**2 * _divergence(log_student, log_teacher)


def standardise(logits: Tensor, epsilon: float = 1e-6) -> Tensor:
    """Each row's z-score: (b, C) -> (b, C) of mean 0 and standard deviation 1.

    Sun et al., CVPR 2024 (arXiv 2403.01427): the student need not copy the scale of the teacher's logits.
    """
    logits = logits.float()
    centred = logits - logits.mean(dim=-1, keepdim=True)
    return centred / (logits.std(dim=-1, keepdim=True, unbiased=False) + epsilon)


def standardised_loss(
    student: Tensor, teacher: Tensor, target: Tensor, temperature: float
) -> Tensor:
    """`soft_loss` between the z-scores of the logits (arXiv 2403.01427), times 10.

    Two labels have the z-scores 1 and -1, however sure one is of them; such a task is compared by
    `soft_loss` itself.
    """
    if student.shape[-1] == 2:
        return soft_loss(student, teacher, target, temperature)
    apart = soft_loss(standardise(student), standardise(teacher), target, temperature)
    return STANDARDISED_WEIGHT * apart


def decoupled_loss(student: Tensor, teacher: Tensor, target: Tensor, temperature: float) -> Tensor:
    """Target and other labels apart (Zhao et al., CVPR 2022, arXiv 2203.08679).

    With p = softmax(z / T), y the target, b = (p_y, 1 - p_y) and o = p without y, summed up to 1:

        T^2 * (KL(b_t || b_s) + 8 * KL(o_t || o_s))

    With 1 - p_y of the teacher in place of 8 this is `soft_loss`: there, the surer the teacher is, the
    less the labels beside the target count.
    """
    others = F.one_hot(target, student.shape[-1]) == 0  # (b, C)
    sides = []
    for logits in (student, teacher):
        log_p = F.log_softmax(logits.float() / temperature, dim=-1)
        inside = log_p.gather(1, target[:, None])  # (b, 1)
        rest = log_p.masked_fill(~others, -torch.inf)
        outside = torch.logsumexp(rest, dim=-1, keepdim=True)  # (b, 1)
        sides.append((torch.cat([inside, outside], dim=-1), (rest - outside)[others]))
    (both_s, rest_s), (both_t, rest_t) = sides
    shape = (len(student), -1)
    among_others = _divergence(rest_s.view(shape), rest_t.view(shape))
    return temperature**2 * (_divergence(both_s, both_t) + OTHERS_WEIGHT * among_others)


def correlation_loss(
    student: Tensor, teacher: Tensor, target: Tensor, temperature: float
) -> Tensor:
    """DIST (Huang et al., NeurIPS 2022, arXiv 2205.10536): order and proportion, not exact values.

    With p = softmax(z / T) and Pearson's r:

        T^2 * ((1 - r over the labels of an article) + (1 - r over the articles of a label))

    The second part is a mean over labels, and the same for all articles of the micro-batch. Of two
    labels the first part is 0 or 2 and teaches nothing; the second still does. The target is not
    looked at.
    """
    p_student, p_teacher = (torch.softmax(z.float() / temperature, -1) for z in (student, teacher))
    by_article = 1 - _pearson(p_student, p_teacher)  # (b,)
    by_label = 1 - _pearson(p_student.T, p_teacher.T)  # (C,)
    return temperature**2 * (by_article + by_label.mean())


def top_label_loss(student: Tensor, teacher: Tensor, target: Tensor, temperature: float) -> Tensor:
    """Cross entropy with the teacher's most probable label, -log softmax(s)[argmax t]: hard distillation.

    Neither temperature nor target are looked at.
    """
    return F.cross_entropy(student.float(), teacher.argmax(dim=-1), reduction="none")


SOFT_LOSSES: Mapping[SoftLossName, SoftLoss] = {
    "kl": soft_loss,
    "standardised": standardised_loss,
    "decoupled": decoupled_loss,
    "correlation": correlation_loss,
    "top": top_label_loss,
}


def _divergence(log_student: Tensor, log_teacher: Tensor) -> Tensor:
    """KL(teacher || student) of log probabilities (b, C): (b,)."""
    return F.kl_div(log_student, log_teacher, reduction="none", log_target=True).sum(dim=-1)


def _pearson(a: Tensor, b: Tensor, epsilon: float = 1e-8) -> Tensor:
    """Correlation of the rows of (n, m) and (n, m): (n,); 0 where a row is constant."""
    a, b = a - a.mean(dim=-1, keepdim=True), b - b.mean(dim=-1, keepdim=True)
    # The square of the norm has a gradient at 0, the norm has none.
    scale = ((a**2).sum(-1) * (b**2).sum(-1) + epsilon**2).sqrt()
    return (a * b).sum(-1) / scale
