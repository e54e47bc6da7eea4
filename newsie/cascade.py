"""The cascade: a small student answers what it is sure of, and passes the rest on to the larger one.

Whether a task's answer stands depends on the article and the task alone: not on the articles beside it, and
not on the other tasks that are asked for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from newsie.bundle import Bundle, CascadeRule
from newsie.evaluation import softmax
from newsie.labels import LabelSpace
from newsie.runtime import Ids, Logits, Model, Student

__all__ = ["Cascade", "PassedOn", "open_model"]

_Ask = Callable[[Ids, Sequence[str]], Logits]


class PassedOn(NamedTuple):
    """How many articles went on to the larger student.

    Attributes:
        articles: all that were answered.
        passed_on: those of them of which some answer came from the larger student.
    """

    articles: int
    passed_on: int

    @property
    def share(self) -> float:
        """Of all articles, 0 to 1; 0 before the first."""
        return self.passed_on / self.articles if self.articles else 0.0


class Cascade:
    """Two students behind one face.

    Its logits are on the scale of the larger student: divided by that one's calibration
    temperatures, they are calibrated, whoever gave them.

    Args:
        first: the small student.
        last: the larger one.
        rule: when the first one's answer stands.
        calibration: task -> calibration temperature of the larger student.
        labels: what both answer.
    """

    def __init__(
        self,
        first: Model,
        last: Model,
        rule: CascadeRule,
        calibration: Mapping[str, float],
        labels: LabelSpace,
    ) -> None:
        self._first, self._last = first, last
        self._rule, self._calibration = rule, calibration
        self._thresholds = {
            task.name: np.array([rule.thresholds[task.name][label] for label in task.labels])
            for task in labels.tasks
        }
        self._lock = threading.Lock()
        self._count = PassedOn(0, 0)

    @property
    def passed_on(self) -> PassedOn:
        """Counts since the cascade was opened."""
        return self._count

    def run_batch(self, ids: Ids, tasks: Sequence[str]) -> Logits:
        """See `Model.run_batch`."""
        return self._merge(ids, self._first.run_batch(ids, tasks), self._last.run_batch)

    def run(self, ids: Ids, tasks: Sequence[str]) -> Logits:
        """See `Model.run`."""
        return self._merge(ids, self._first.run(ids, tasks), self._last.run)

    def _merge(self, ids: Ids, logits: Logits, ask: _Ask) -> Logits:
        unsure = {task: self.unsure(task, rows) for task, rows in logits.items()}
        rows = np.flatnonzero(np.logical_or.reduce([*unsure.values()]))
        self._note(len(ids), len(rows))
        for task, answer in logits.items():
            answer *= self._calibration[task] / self._rule.calibration[task]
        if len(rows):
            answers = ask([ids[int(row)] for row in rows], list(logits))
            for task, column in unsure.items():
                own = column[rows]
                logits[task][rows[own]] = answers[task][own]
        return logits

    def unsure(self, task: str, logits: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Which of the first student's answers, (N, C), do not stand: (N,)."""
        confidence = softmax(logits / self._rule.calibration[task]).max(axis=1)
        return np.asarray(confidence <= self._thresholds[task][logits.argmax(axis=1)])

    def _note(self, articles: int, passed_on: int) -> None:
        with self._lock:
            self._count = PassedOn(
                self._count.articles + articles, self._count.passed_on + passed_on
            )


def open_model(bundle: Bundle, *, pad_id: int, threads: int) -> Student | Cascade:
    """The student of a bundle, or its cascade.

    Raises:
        BundleError: a graph cannot be used, or does not fit the label space.
    """
    manifest = bundle.manifest
    last = Student(bundle.model_path, manifest.label_space, pad_id=pad_id, threads=threads)
    if manifest.cascade is None:
        return last
    first = Student(bundle.first_path, manifest.label_space, pad_id=pad_id, threads=threads)
    return Cascade(first, last, manifest.cascade, manifest.calibration, manifest.label_space)
