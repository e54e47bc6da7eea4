"""Hard confusion: how often articles of one label are predicted as another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from newsie.errors import InputError
from newsie.metrics.estimates import Estimate, f1_score, share

__all__ = ["ConfusedPair", "ConfusionMatrix", "LabelMetrics"]

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class LabelMetrics:
    """The metrics of one label.

    Attributes:
        label: its name.
        support: number of articles with this gold label.
        predicted: number of articles predicted as this label.
        precision: share of the predicted articles whose gold label this is; None if there are none.
        recall: share of the articles of this gold label that are predicted as it; None if there are none.
        f1: 2 TP / (support + predicted); None if both are 0.
    """

    label: str
    support: int
    predicted: int
    precision: Estimate | None
    recall: Estimate | None
    f1: Estimate | None


@dataclass(frozen=True)
class ConfusedPair:
    """A direction of confusion: articles of `gold` that are predicted as `predicted`.

    Attributes:
        articles: number of articles.
        share: share of the articles of `gold`.
    """

    gold: str
    predicted: str
    articles: int
    share: Estimate


@dataclass(frozen=True, eq=False)
class ConfusionMatrix:
    """Counts of gold and predicted labels.

    Attributes:
        labels: C names.
        counts: (C, C) articles, rows gold, columns predicted.
    """

    labels: tuple[str, ...]
    counts: Indices

    def __post_init__(self) -> None:
        c = len(self.labels)
        if self.counts.shape != (c, c):
            raise InputError(f"counts are {self.counts.shape}; {c} labels need ({c}, {c})")
        if self.counts.dtype.kind not in "iu" or (self.counts < 0).any():
            raise InputError("counts are numbers of articles: whole and not below 0")

    @classmethod
    def from_labels(
        cls, labels: Sequence[str], gold: ArrayLike, predicted: ArrayLike
    ) -> ConfusionMatrix:
        """Count pairs of class indices, both (N,) and within 0 to C - 1."""
        y, p = np.asarray(gold, np.int64), np.asarray(predicted, np.int64)
        c = len(labels)
        if y.shape != p.shape or y.ndim != 1:
            raise InputError(f"gold {y.shape} and predicted {p.shape} must both be (N,)")
        if len(y) and (min(y.min(), p.min()) < 0 or max(y.max(), p.max()) >= c):
            raise InputError(f"class indices of {c} labels are 0 to {c - 1}")
        counts = np.bincount(y * c + p, minlength=c * c).reshape(c, c)
        return cls(tuple(labels), counts)

    @cached_property
    def support(self) -> Indices:
        """The number of articles of each gold label, (C,)."""
        return np.asarray(self.counts.sum(axis=1))

    @cached_property
    def predicted(self) -> Indices:
        """The number of articles predicted as each label, (C,)."""
        return np.asarray(self.counts.sum(axis=0))

    def normalised(self, by: Literal["gold", "predicted"] = "gold") -> Floats:
        """Return shares (C, C) of each row (by gold) or column (by predicted); NaN if that is empty."""
        total = self.support[:, None] if by == "gold" else self.predicted[None, :]
        with np.errstate(invalid="ignore"):
            return np.asarray(self.counts / total, dtype=np.float64)

    @property
    def accuracy(self) -> Estimate | None:
        """The share of articles predicted as their gold label; None without articles."""
        return share(int(np.trace(self.counts)), int(self.counts.sum()))

    def label_metrics(self) -> tuple[LabelMetrics, ...]:
        """Return the precision, recall and F1 of each label, with 95 % intervals.

        Precision and recall are proportions, with Wilson's interval; for F1 see `f1_score`.
        """
        right = np.diagonal(self.counts)
        return tuple(
            LabelMetrics(
                label,
                int(support),
                int(predicted),
                share(int(tp), int(predicted)),
                share(int(tp), int(support)),
                f1_score(int(tp), int(support + predicted - tp)),
            )
            for label, tp, support, predicted in zip(
                self.labels, right, self.support, self.predicted, strict=True
            )
        )

    def most_confused(self, k: int | None = None) -> tuple[ConfusedPair, ...]:
        """Return the k directions with the most articles, the most first; None means all that occur."""
        off = self.counts.copy()
        np.fill_diagonal(off, 0)
        order = np.argsort(-off, axis=None, kind="stable")[: np.count_nonzero(off)][:k]
        pairs = []
        for row, column in zip(*np.unravel_index(order, off.shape), strict=True):
            found = share(int(off[row, column]), int(self.support[row]))
            assert found is not None  # the cell is not empty
            names = self.labels[row], self.labels[column]
            pairs.append(ConfusedPair(*names, int(off[row, column]), found))
        return tuple(pairs)
