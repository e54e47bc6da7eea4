"""The cascade: a small student passes articles that it is unsure of to a larger one.

Whether a prediction of the small student is kept depends on the article and the task alone, not on the
other articles of the batch or the other requested tasks.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from newsie.bundles.bundle import Bundle, CascadeRule
from newsie.bundles.manifest import FIRST, MODEL
from newsie.graph.graph import Graph
from newsie.inference.student import Ids, Logits, Model, Running, Student
from newsie.labels import LabelSpace
from newsie.metrics.evaluation import softmax

__all__ = ["Cascade", "PassedOn", "open_model"]

_Unsure = dict[str, NDArray[np.bool_]]


class PassedOn(NamedTuple):
    """The number of articles passed on to the larger student.

    Attributes:
        articles: number of articles classified.
        passed_on: number of these with a prediction by the larger student.
    """

    articles: int
    passed_on: int

    @property
    def share(self) -> float:
        """The share of all articles that were passed on, 0 to 1; 0 before the first."""
        return self.passed_on / self.articles if self.articles else 0.0


class Cascade:
    """Two students behind one interface.

    The logits are on the scale of the larger student: divided by its calibration temperatures they are
    calibrated, whichever student produced them.

    Args:
        first: the small student.
        last: the larger student.
        rule: when the small student's prediction is kept.
        calibration: task -> calibration temperature of the larger student.
        labels: the label space of both.
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
        """The counts since the cascade was opened."""
        return self._count

    @property
    def window_articles(self) -> int:
        """The window size of the small student, which sees all articles; see `Model.window_articles`."""
        return self._first.window_articles

    def run_batch(self, ids: Ids, tasks: Sequence[str]) -> Logits:
        """Return logits by task; see `Model.run_batch`."""
        logits = self._first.run_batch(ids, tasks)
        unsure, rows = self._judge(logits)
        if not len(rows):
            return logits
        return _merge(logits, unsure, rows, self._last.run_batch([ids[r] for r in rows], tasks))

    def run(self, ids: Ids, tasks: Sequence[str]) -> Logits:
        """Return logits by task; see `Model.run`."""
        return self.start(ids, tasks).result()

    def start(self, ids: Ids, tasks: Sequence[str]) -> Running:
        """Wait for the small student, and start the larger one; see `Model.start`."""
        logits = self._first.run(ids, tasks)
        unsure, rows = self._judge(logits)
        running = self._last.start([ids[r] for r in rows], tasks)
        return running.then(lambda answers: _merge(logits, unsure, rows, answers))

    def _judge(self, logits: Logits) -> tuple[_Unsure, NDArray[np.intp]]:
        """Return the unsure predictions of the small student by task, (N,), and the rows with any such.

        The small student's logits are rescaled in place to the scale of the larger student.
        """
        unsure = {task: self.unsure(task, rows) for task, rows in logits.items()}
        for task, answer in logits.items():
            answer *= self._calibration[task] / self._rule.calibration[task]
        passed_on = np.logical_or.reduce([*unsure.values()])
        rows = np.flatnonzero(passed_on)
        self._note(len(passed_on), len(rows))
        return unsure, rows

    def unsure(self, task: str, logits: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Return a mask (N,) of the small student's predictions (N, C) that are not kept."""
        confidence = softmax(logits / self._rule.calibration[task]).max(axis=1)
        return np.asarray(confidence <= self._thresholds[task][logits.argmax(axis=1)])

    def _note(self, articles: int, passed_on: int) -> None:
        with self._lock:
            self._count = PassedOn(
                self._count.articles + articles, self._count.passed_on + passed_on
            )


def _merge(logits: Logits, unsure: _Unsure, rows: NDArray[np.intp], answers: Logits) -> Logits:
    """Replace the small student's unsure logits by those of the larger student for the given rows."""
    for task, column in unsure.items():
        own = column[rows]
        logits[task][rows[own]] = answers[task][own]
    return logits


def open_model(
    bundle: Bundle, contents: Mapping[str, bytes], *, pad_id: int, threads: int
) -> Student | Cascade:
    """Open the student or the cascade of a bundle, from its verified `Bundle.contents`.

    Raises:
        BundleError: a graph cannot be used, or does not fit the label space.
    """
    manifest = bundle.manifest

    def open_student(name: str) -> Student:
        graph = Graph(bundle.path / name, contents[name])
        return Student(graph, manifest.label_space, pad_id=pad_id, threads=threads)

    last = open_student(MODEL)
    if manifest.cascade is None:
        return last
    return Cascade(
        open_student(FIRST), last, manifest.cascade, manifest.calibration, manifest.label_space
    )
