"""The training losses.

Every loss here is a sum over the articles of a micro-batch, divided by the number of articles that count
in the whole batch of the optimizer step. So the gradients of micro-batches and processes add up to the
gradient of the whole batch, however it is split.
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
    """A function from logits by task, (b, C) each, and their micro-batch to a scalar loss."""

    def __call__(self, logits: Logits, batch: MicroBatch) -> Tensor: ...


def hard_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the summed cross entropy with gold labels: -sum_n log softmax(z_n)[y_n].

    Args:
        logits: (b, C).
        labels: (b,) class indices; IGNORE where an article has no label.
    """
    return F.cross_entropy(logits.float(), labels, ignore_index=IGNORE, reduction="sum")


@dataclass(frozen=True)
class HardLoss:
    """The weighted sum over tasks of the mean cross entropy over articles with a gold label.

    Attributes:
        weights: the factor of each task; the default is 1.
        absent: class indices by task that no article has. They are left out of the softmax, so that the
            model does not unlearn them.
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
        """Return the (b, C) logits, with minus infinity for absent labels."""
        absent = (self.absent or {}).get(task)
        if not absent:
            return logits
        return logits.index_fill(-1, torch.tensor(absent, device=logits.device), -torch.inf)


@dataclass(frozen=True)
class DistillationLoss:
    """The weighted sum over tasks of alpha * hard loss + (1 - alpha) * soft loss.

    The hard loss is the mean over the articles with a gold label for the task. The soft loss is the mean
    over all articles, since the teacher predicts every task of every article.

    Attributes:
        temperature: the softmax temperature of the student.
        alpha: the weight of the hard loss.
        soft: the name of the soft loss, see `SOFT_LOSSES`.
        final_alpha: the weight of the hard loss at the end of training, if it changes (linearly). From 0
            to 1 it is teacher annealing (Clark et al. 2019, arXiv 1907.04829). Articles without a gold
            label keep the initial weight of the soft loss.
        sparse: leave out the soft loss where there is no gold label.
        weights: the factor of each task; the default is 1.
        teacher_temperature: the softmax temperature of the teacher; must equal `temperature`.
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
        """Return the loss that a recipe configures."""
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
        """Return the sum over articles of a task's soft losses, each times its weight."""
        known = labels != IGNORE
        target = torch.where(known, labels, teacher.argmax(dim=-1))
        losses = SOFT_LOSSES[self.soft](answer, teacher, target, self.temperature)
        unlabelled = 0.0 if self.sparse else 1 - self.alpha
        return (torch.where(known, 1 - alpha, unlabelled) * losses).sum()
