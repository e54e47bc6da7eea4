"""What the models minimise.

Every loss here is a sum over the articles of a micro-batch, divided by how many count in the whole
batch of the optimizer step. So the gradients of micro-batches and of processes simply add up to the
gradient of the whole batch, however it was cut.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from newsie.errors import TrainingError
from newsie.labels import IGNORE
from newsie.training.batches import MicroBatch
from newsie.training.config import DistillationConfig, SoftLossName
from newsie.training.soft_losses import SOFT_LOSSES

__all__ = ["DistillationLoss", "HardLoss", "Loss", "hard_loss"]

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


@dataclass(frozen=True)
class HardLoss:
    """Sum over tasks of weight * mean cross entropy over the articles that have a gold label.

    Attributes:
        weights: factor by task; 1 where none is given.
        absent: task -> class indices that no article has; they stay out of the softmax, and so are not
            unlearnt.
    """

    weights: Mapping[str, float]
    absent: Mapping[str, Sequence[int]] | None = None

    def __call__(self, logits: Logits, batch: MicroBatch) -> Tensor:
        terms = [
            self.weights.get(task, 1.0)
            * hard_loss(self._present(task, logits[task]), batch.labels[task])
            / max(batch.labelled[task], 1)
            for task in logits
        ]
        return torch.stack(terms).sum()

    def _present(self, task: str, logits: Tensor) -> Tensor:
        """(b, C) logits, minus infinity where no article has the label."""
        absent = (self.absent or {}).get(task)
        if not absent:
            return logits
        return logits.index_fill(-1, torch.tensor(absent, device=logits.device), -torch.inf)


@dataclass(frozen=True)
class DistillationLoss:
    """alpha * hard loss + (1 - alpha) * soft loss, summed over tasks with their weights.

    The hard loss is a mean over the articles that have a gold label in the task, the soft loss one over
    all articles: the teacher answers every task of every article.

    Attributes:
        temperature: of the softmax of the student.
        alpha: share of the hard loss.
        soft: name of the soft loss, see `SOFT_LOSSES`.
        final_alpha: share of the hard loss at the end of training, where it is another one: the share
            changes linearly. From 0 to 1 it is teacher annealing (Clark et al. 2019, arXiv 1907.04829).
            Articles without a gold label keep the soft loss as it is at the beginning.
        sparse: leave out the soft loss where there is no gold label.
        weights: factor by task; 1 where none is given.
        teacher_temperature: of the softmax of the teacher; must equal `temperature`.
        absent: see `HardLoss`.
    """

    temperature: float
    alpha: float
    soft: SoftLossName = "kl"
    final_alpha: float | None = None
    sparse: bool = False
    weights: Mapping[str, float] | None = None
    teacher_temperature: float | None = None
    absent: Mapping[str, Sequence[int]] | None = None

    def __post_init__(self) -> None:
        if self.teacher_temperature not in (None, self.temperature):
            raise TrainingError(
                f"teacher and student must share one temperature while distilling; given: "
                f"{self.teacher_temperature} for the teacher, {self.temperature} for the student. At two "
                "temperatures the best student is one whose logits are wrong by their ratio"
            )

    @classmethod
    def of(
        cls,
        config: DistillationConfig,
        weights: Mapping[str, float],
        absent: Mapping[str, Sequence[int]] | None = None,
    ) -> DistillationLoss:
        """The loss that a recipe asks for."""
        return cls(
            config.temperature,
            config.alpha,
            config.loss,
            config.final_alpha,
            config.sparse,
            weights,
            absent=absent,
        )

    def __call__(self, logits: Logits, batch: MicroBatch) -> Tensor:
        if batch.soft is None:
            raise TrainingError("distillation needs soft labels; the batches hold none")
        weights, alpha = self.weights or {}, self._alpha_at(batch.progress)
        soft = torch.stack(
            [
                weights.get(task, 1.0)
                * self._soft_part(answer, batch.soft[task], batch.labels[task], alpha)
                / (max(batch.labelled[task], 1) if self.sparse else batch.size)
                for task, answer in logits.items()
            ]
        ).sum()
        return alpha * HardLoss(weights, self.absent)(logits, batch) + soft

    def _alpha_at(self, progress: float) -> float:
        final = self.alpha if self.final_alpha is None else self.final_alpha
        return self.alpha + progress * (final - self.alpha)

    def _soft_part(self, answer: Tensor, teacher: Tensor, labels: Tensor, alpha: float) -> Tensor:
        """The soft losses of a task, each times its article's share, summed."""
        known = labels != IGNORE
        target = torch.where(known, labels, teacher.argmax(dim=-1))
        losses = SOFT_LOSSES[self.soft](answer, teacher, target, self.temperature)
        unlabelled = 0.0 if self.sparse else 1 - self.alpha
        return (torch.where(known, 1 - alpha, unlabelled) * losses).sum()
