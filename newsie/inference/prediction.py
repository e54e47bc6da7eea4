"""The predictions for one article."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from newsie.errors import InputError
from newsie.labels import LabelSpace

__all__ = ["Prediction"]


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """The predictions for one article.

    Attributes:
        labels: the label space of the model.
        probabilities: task -> (C,) float64, summing to 1, in the order of the task's labels.
        truncated: True if the article was longer than the model reads, and its end was cut off.
    """

    labels: LabelSpace
    probabilities: Mapping[str, NDArray[np.float64]]
    truncated: bool

    def __repr__(self) -> str:
        best = ", ".join(
            f"{task}={self.label(task)} {self.confidence(task):.2f}" for task in self.tasks
        )
        return f"Prediction({best})"

    @property
    def tasks(self) -> tuple[str, ...]:
        """The names of the predicted tasks."""
        return tuple(self.probabilities)

    @property
    def scores(self) -> dict[str, dict[str, float]]:
        """The probabilities by task and label, the best label first."""
        return {task: dict(self.top(task)) for task in self.probabilities}

    def top(self, task: str, k: int | None = None) -> list[tuple[str, float]]:
        """Return the k best labels of a task with their probabilities, the best first; None means all."""
        if k is not None and k < 1:
            raise InputError(f"k is {k}; at least 1 label, or None for all")
        names, probabilities = self.labels[task].labels, self._of(task)
        # Stable, so that equal probabilities keep the order of the labels.
        order = np.argsort(-probabilities, kind="stable")[:k]
        return [(names[i], float(probabilities[i])) for i in order]

    def label(self, task: str) -> str:
        """Return the most probable label of a task."""
        return self.labels[task].labels[int(self._of(task).argmax())]

    def confidence(self, task: str) -> float:
        """Return the probability of the most probable label of a task."""
        return float(self._of(task).max())

    def to_json(self, k: int | None = None) -> dict[str, list[dict[str, Any]]]:
        """Return task -> [{"label", "score"}] for JSON: the k best (None: all), the best first."""
        return {
            task: [{"label": label, "score": score} for label, score in self.top(task, k)]
            for task in self.probabilities
        }

    def _of(self, task: str) -> NDArray[np.float64]:
        self.labels[task]  # raises for a task that the model does not have
        try:
            return self.probabilities[task]
        except KeyError:
            raise InputError(
                f"task {task!r} was not asked for; asked for: {', '.join(self.probabilities)}"
            ) from None
