"""Soft confusion: the mean probability that articles of one label give to another.

A hard confusion counts 51 to 49 and 99 to 1 alike. The mean probability does not, and so needs fewer
articles to show that two labels are close.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from newsie.confusion.predictions import Answers
from newsie.metrics.estimates import Estimate, mean

__all__ = ["SoftConfusion", "SoftPair", "soft_confusion"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class SoftPair:
    """A direction: the mean probability that articles of `row` give to `column`."""

    row: str
    column: str
    probability: Estimate


@dataclass(frozen=True, eq=False)
class SoftConfusion:
    """Mean probability of each label, for the articles of each label.

    Attributes:
        labels: C names.
        rows: the label that decides an article's row, gold or predicted.
        mean: (C, C); each row sums to 1, and is NaN if the label has no article.
        standard_error: (C, C) standard errors of the means; NaN for fewer than 2 articles.
        support: (C,) number of articles of each row.
    """

    labels: tuple[str, ...]
    rows: Literal["gold", "predicted"]
    mean: Floats
    standard_error: Floats
    support: NDArray[np.int64]

    def estimate(self, row: int, column: int) -> Estimate:
        """Return a mean with its 95 % interval, clipped to 0 and 1; unknown for fewer than 2 articles."""
        found = mean(float(self.mean[row, column]), float(self.standard_error[row, column]))
        return found.within(0, 1)

    def most_confused(self, k: int | None = None) -> tuple[SoftPair, ...]:
        """Return the k directions with the greatest mean probability, the greatest first; None means all."""
        off = np.nan_to_num(self.mean, nan=-1.0)
        np.fill_diagonal(off, -1)
        order = np.argsort(-off, axis=None, kind="stable")[: np.count_nonzero(off >= 0)][:k]
        return tuple(
            SoftPair(self.labels[row], self.labels[column], self.estimate(row, column))
            for row, column in zip(*np.unravel_index(order, off.shape), strict=True)
        )


def soft_confusion(answers: Answers) -> SoftConfusion:
    """Return the soft confusion by gold label, or by predicted label without gold labels."""
    known = bool(len(answers.labelled))
    rows, c = answers.gold if known else answers.predicted, answers.classes
    support = np.bincount(rows[rows >= 0], minlength=c)
    total, squares = answers.sums(rows, c), answers.sums(rows, c, squared=True)
    n = support[:, None].astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = total / n
        variance = np.maximum(squares / n - means**2, 0) * n / np.where(n > 1, n - 1, np.nan)
        error = np.sqrt(variance / n)
    return SoftConfusion(answers.labels, "gold" if known else "predicted", means, error, support)
