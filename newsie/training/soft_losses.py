"""Distillation losses between the predictions of student and teacher, by the names that recipes use.

All take the logits of student and teacher (b, C), target labels (b,) and the temperature T of both, and
return the loss of each article (b,). All but `top_label_loss` are multiplied by T^2. Without this factor
the gradient would shrink with 1 / T^2, and the meaning of alpha would depend on T.
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
"""The weight of the non-target labels in `decoupled_loss`; the target's is 1."""

STANDARDISED_WEIGHT = 10.0
"""The factor of `standardised_loss`. At alpha = 0.1 its weight against gold labels is 9 to 0.1, as in the
authors' code (base temperature 2). Z-scores are small, so their divergence alone would count for little."""


def soft_loss(student: Tensor, teacher: Tensor, target: Tensor, temperature: float) -> Tensor:
    """Return the divergence between the soft labels of teacher and student.

    T^2 * KL(softmax(t / T) || softmax(s / T)), Hinton, Vinyals, Dean 2015 (arXiv 1503.02531).
    The target is not used.
    """
    log_student = F.log_softmax(student.float() / temperature, dim=-1)
    log_teacher = F.log_softmax(teacher.float() / temperature, dim=-1)
    return temperature**2 * _divergence(log_student, log_teacher)


def standardise(logits: Tensor, epsilon: float = 1e-6) -> Tensor:
    """Return each row's z-scores: (b, C) -> (b, C) of mean 0 and standard deviation 1.

    Sun et al., CVPR 2024 (arXiv 2403.01427): the student need not copy the scale of the teacher's logits.
    """
    logits = logits.float()
    centred = logits - logits.mean(dim=-1, keepdim=True)
    return centred / (logits.std(dim=-1, keepdim=True, unbiased=False) + epsilon)


def standardised_loss(
    student: Tensor, teacher: Tensor, target: Tensor, temperature: float
) -> Tensor:
    """Return `soft_loss` between the z-scores of the logits (arXiv 2403.01427), times 10.

    With two labels the z-scores are 1 and -1 at any confidence, so such a task uses `soft_loss` itself.
    """
    if student.shape[-1] == 2:
        return soft_loss(student, teacher, target, temperature)
    apart = soft_loss(standardise(student), standardise(teacher), target, temperature)
    return STANDARDISED_WEIGHT * apart


def decoupled_loss(student: Tensor, teacher: Tensor, target: Tensor, temperature: float) -> Tensor:
    """Return separate losses of target and other labels, summed (Zhao et al., CVPR 2022, arXiv 2203.08679).

    With p = softmax(z / T), y the target, b = (p_y, 1 - p_y) and o = p without y, normalised to 1:

        T^2 * (KL(b_t || b_s) + 8 * KL(o_t || o_s))

    With the teacher's 1 - p_y in place of 8 this equals `soft_loss`, in which the other labels count less
    the more confident the teacher is.
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
    """Return the DIST loss, which matches correlations (Huang et al., NeurIPS 2022, arXiv 2205.10536).

    With p = softmax(z / T) and Pearson's r:

        T^2 * ((1 - r over the labels of an article) + (1 - r over the articles of a label))

    The second part is a mean over labels, and the same for all articles of the micro-batch. With two labels
    the first part is 0 or 2 and has no gradient, but the second has. The target is not used.
    """
    p_student, p_teacher = (torch.softmax(z.float() / temperature, -1) for z in (student, teacher))
    by_article = 1 - _pearson(p_student, p_teacher)  # (b,)
    by_label = 1 - _pearson(p_student.T, p_teacher.T)  # (C,)
    return temperature**2 * (by_article + by_label.mean())


def top_label_loss(student: Tensor, teacher: Tensor, target: Tensor, temperature: float) -> Tensor:
    """Return the cross entropy with the teacher's most probable label, -log softmax(s)[argmax t].

    This is hard distillation. Neither temperature nor target is used.
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
    """Return KL(teacher || student) of log probabilities: (b, C), (b, C) -> (b,)."""
    return F.kl_div(log_student, log_teacher, reduction="none", log_target=True).sum(dim=-1)


def _pearson(a: Tensor, b: Tensor, epsilon: float = 1e-8) -> Tensor:
    """Return the correlation of the rows of (n, m) and (n, m), (n,); 0 if a row is constant."""
    a, b = a - a.mean(dim=-1, keepdim=True), b - b.mean(dim=-1, keepdim=True)
    # The squared norm has a gradient at 0, but the norm has none.
    scale = ((a**2).sum(-1) * (b**2).sum(-1) + epsilon**2).sqrt()
    return (a * b).sum(-1) / scale
