"""The effect of a coarser label set: the probabilities of merged labels are summed.

Merging only raises one probability of an article. The best label becomes the merged one if it was one
of the two or if their sum is now greater, and stays the same otherwise, so the table of probabilities
need not be computed again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from newsie.confusion.predictions import Answers
from newsie.metrics.estimates import Estimate, jackknife

__all__ = ["Merge", "Tally", "merge_pair", "tally"]

Indices = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Tally:
    """Correct, gold and predicted articles per block and label, each (B, C)."""

    right: Indices
    gold: Indices
    predicted: Indices

    @property
    def macro_f1(self) -> Estimate:
        """The mean F1 of the labels that occur as gold; see `newsie.metrics.evaluation.macro_f1`."""
        found = jackknife(float(_macro_f1(self._all())), _macro_f1(self._without()))
        return found.within(0, 1)

    @property
    def accuracy(self) -> float:
        """The share of correct predictions."""
        return float(self.right.sum() / self.gold.sum())

    def f1(self, label: int) -> float:
        """Return the F1 of a label; 0 if it occurs neither as gold nor as predicted."""
        return float(_f1(self._all())[label])

    def gain(self, label: int, before: Tally, labels: tuple[int, int]) -> Estimate:
        """Return the F1 of a label less the better F1 of two labels in another tally of the articles."""

        def difference(now: Indices, then: Indices) -> Floats:
            return np.asarray(_f1(now)[..., label] - _f1(then)[..., list(labels)].max(axis=-1))

        value = float(difference(self._all(), before._all()))
        return jackknife(value, difference(self._without(), before._without())).within(-1, 1)

    def _all(self) -> Indices:
        return np.stack([part.sum(axis=0) for part in (self.right, self.gold, self.predicted)])

    def _without(self) -> Indices:
        parts = (self.right, self.gold, self.predicted)
        return np.stack([part.sum(axis=0) - part for part in parts])


@dataclass(frozen=True)
class Merge:
    """The effect of merging two labels, measured on the analysed articles.

    Attributes:
        f1_before: F1 of each of the two.
        f1_after: F1 of the merged label.
        gain: f1_after less the better F1 of the two before. Removing a label with a low F1 raises every mean
            over labels, whatever it is merged with; the gain rises only if the two labels are confused with
            each other.
        macro_f1_before, macro_f1_after: over all labels; there is one fewer after the merge.
        accuracy_before, accuracy_after: shares of correct predictions.
    """

    f1_before: tuple[float, float]
    f1_after: float
    gain: Estimate
    macro_f1_before: float
    macro_f1_after: float
    accuracy_before: float
    accuracy_after: float


def tally(gold: Indices, predicted: Indices, blocks: Indices, classes: int) -> Tally:
    """Count labelled articles by block; all arrays are (N,), the first two class indices."""
    size = int(blocks.max()) + 1

    def count(labels: Indices, where: Indices) -> Indices:
        key = where * classes + labels
        return np.bincount(key, minlength=size * classes).reshape(size, classes)

    right = gold == predicted
    return Tally(count(gold[right], blocks[right]), count(gold, blocks), count(predicted, blocks))


def merge_pair(answers: Answers, a: int, b: int, shared: NDArray[np.float32]) -> Merge:
    """Measure the effect of merging two labels; the predictions must have gold labels.

    Args:
        answers: all articles.
        a, b: class indices.
        shared: (N,) the summed probability of the two labels.
    """
    rows = answers.labelled
    gold, predicted = answers.gold[rows], answers.predicted[rows]
    blocks = np.unique(answers.blocks[rows], return_inverse=True)[1]
    before = tally(gold, predicted, blocks, answers.classes)
    wins = (predicted == b) | (shared[rows] > answers.confidence[rows])
    after = tally(
        np.where(gold == b, a, gold), np.where(wins, a, predicted), blocks, answers.classes
    )
    return Merge(
        f1_before=(before.f1(a), before.f1(b)),
        f1_after=after.f1(a),
        gain=after.gain(a, before, (a, b)),
        macro_f1_before=before.macro_f1.value,
        macro_f1_after=after.macro_f1.value,
        accuracy_before=before.accuracy,
        accuracy_after=after.accuracy,
    )


def _f1(counts: Indices) -> Floats:
    """Return the F1 of each label: (3, ..., C) correct, gold, predicted -> (..., C)."""
    right, gold, predicted = counts
    return np.asarray(2 * right / np.maximum(gold + predicted, 1))


def _macro_f1(counts: Indices) -> Floats:
    """Return the macro-F1: (3, ..., C) correct, gold, predicted -> (...)."""
    present = counts[1] > 0
    return np.asarray((_f1(counts) * present).sum(axis=-1) / np.maximum(present.sum(axis=-1), 1))
