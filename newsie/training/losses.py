"""What the models minimise.

Every loss here is a sum over the articles of a micro-batch, divided by how many count in the whole
batch of the optimizer step. So the gradients of micro-batches and of processes simply add up to the
gradient of the whole batch, however it was cut.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from newsie.errors import TrainingError
from newsie.labels import IGNORE
from newsie.training.batches import MicroBatch

__all__ = ["DistillationLoss", "HardLoss", "Loss", "hard_loss", "soft_loss", "standardise"]

Logits = Mapping[str, Tensor]


class Loss(Protocol):
    """Logits by task, (b, C) each, and the micro-batch they answer -> a scalar."""

    def __call__(self, logits: Logits, batch: MicroBatch) -> Tensor: ...


def hard_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy with gold labels, summed: -sum_n log softmax(z_n)[y_n].

    Args:
        logits: (b, C).
        labels: (b,) class indices; IGNORE where there is none.
    """
    return F.cross_entropy(logits.float(), labels, ignore_index=IGNORE, reduction="sum")


def soft_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Distance between the soft labels of teacher and student, summed over articles.

    T^2 * sum_n KL(softmax(t_n / T) || softmax(s_n / T)), Hinton, Vinyals, Dean 2015 (arXiv 1503.02531).
    Without T^2 the gradient would fade with 1 / T^2, and alpha would mean something else at each T.

    Args:
        student: (b, C) logits.
        teacher: (b, C) logits.
        temperature: T, of both sides.
    """
    log_student = F.log_softmax(student.float() / temperature, dim=-1)
    log_teacher = F.log_softmax(teacher.float() / temperature, dim=-1)
    return temperature**2 * F.kl_div(log_student, log_teacher, reduction="sum", log_target=True)


def standardise(logits: Tensor, epsilon: float = 1e-6) -> Tensor:
    """Each row's z-score: (b, C) -> (b, C) of mean 0 and standard deviation 1.

    Sun et al., CVPR 2024 (arXiv 2403.01427): the student need not copy the scale of the teacher's logits.
    """
    logits = logits.float()
    centred = logits - logits.mean(dim=-1, keepdim=True)
    return centred / (logits.std(dim=-1, keepdim=True, unbiased=False) + epsilon)


@dataclass(frozen=True)
class HardLoss:
    """Sum over tasks of weight * mean cross entropy over the articles that have a gold label.

    Attributes:
        weights: factor by task; 1 where none is given.
    """

    weights: Mapping[str, float]

    def __call__(self, logits: Logits, batch: MicroBatch) -> Tensor:
        terms = [
            self.weights.get(task, 1.0)
            * hard_loss(logits[task], batch.labels[task])
            / max(batch.labelled[task], 1)
            for task in logits
        ]
        return torch.stack(terms).sum()


@dataclass(frozen=True)
class DistillationLoss:
    """alpha * hard loss + (1 - alpha) * soft loss, summed over tasks with their weights.

    The hard loss is a mean over the articles that have a gold label in the task, the soft loss one over
    all articles: the teacher answers every task of every article.

    Attributes:
        temperature: of the softmax of the student.
        alpha: share of the hard loss.
        standardised: compare z-scores of the logits instead of the logits.
        weights: factor by task; 1 where none is given.
        teacher_temperature: of the softmax of the teacher; must equal `temperature`.
    """

    temperature: float
    alpha: float
    standardised: bool = False
    weights: Mapping[str, float] | None = None
    teacher_temperature: float | None = None

    def __post_init__(self) -> None:
        if self.teacher_temperature not in (None, self.temperature):
            raise TrainingError(
                f"teacher and student must share one temperature while distilling; given: "
                f"{self.teacher_temperature} for the teacher, {self.temperature} for the student. At two "
                "temperatures the best student is one whose logits are wrong by their ratio"
            )

    def __call__(self, logits: Logits, batch: MicroBatch) -> Tensor:
        if batch.soft is None:
            raise TrainingError("distillation needs soft labels; the batches hold none")
        hard = HardLoss(self.weights or {})(logits, batch)
        transform = standardise if self.standardised else Tensor.float
        soft = torch.stack(
            [
                (self.weights or {}).get(task, 1.0)
                * soft_loss(transform(answer), transform(batch.soft[task]), self.temperature)
                / batch.size
                for task, answer in logits.items()
            ]
        ).sum()
        return self.alpha * hard + (1 - self.alpha) * soft
