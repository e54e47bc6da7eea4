"""Labels that are likely wrong: confident learning, by cleanlab.

A gold label is suspect where the model is at least 90 % sure of another label, and cleanlab thinks
that the gold label is wrong: the model is surer of the other label than it usually is of that label's
own articles (Northcutt, Jiang & Chuang 2021, arXiv 1911.00068). This takes probabilities for articles
that the model did not learn from.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from newsie.confusion.answers import Answers
from newsie.confusion.extras import extra
from newsie.confusion.sentences import count
from newsie.printable import one_line

__all__ = ["MAX_EXAMINED", "SURE", "Suspects", "describe_suspects", "find_suspects"]

SURE = 0.9
"""The least probability of another label that makes a gold label suspect."""

MAX_EXAMINED = 50_000
"""Articles that are examined: evenly spaced ones, where there are more."""


@dataclass(frozen=True, eq=False)
class Suspects:
    """Articles whose gold label is likely wrong.

    Attributes:
        examined_rows: the articles that were examined.
        rows: those with a suspect label, the likeliest first.
        expected: the number of wrong answers among those of which the model is at least 90 % sure, by
            its own probabilities.
        crossing: (C, C) of the examined articles, how many cleanlab thinks carry one label of a
            pair and belong to the other, both ways.
    """

    examined_rows: NDArray[np.int64] = field(repr=False)
    rows: NDArray[np.int64]
    expected: float
    crossing: NDArray[np.float64] = field(repr=False)

    @property
    def beyond_chance(self) -> bool:
        """True where there are more suspects than the model should make mistakes."""
        return len(self.rows) > self.expected + 2 * math.sqrt(self.expected)


def describe_suspects(answers: Answers, suspects: Suspects) -> str:
    """The number of suspects in a sentence; empty where there is none."""
    rows, examined = suspects.rows, len(suspects.examined_rows)
    if not len(rows):
        return ""
    of = f" of {examined:,} examined" if examined < len(answers.labelled) else ""
    counts = np.bincount(answers.gold[rows], minlength=answers.classes)
    most = np.flatnonzero(counts == counts.max())
    where = ""
    if len(most) == 1:
        label = one_line(answers.labels[int(most[0])])
        where = f"; more in {label} ({int(counts.max()):,}) than in any other label"
    return (
        f"{count(len(rows), 'gold label')}{of} may be wrong: the model is at least 90 % sure of another "
        f"label (by its own probabilities it should be wrong about {suspects.expected:,.0f} times there)"
        f"{where}."
    )


def find_suspects(answers: Answers) -> Suspects:
    """Examine the articles that have a gold label; there must be some.

    Raises:
        MissingExtraError: cleanlab is not installed.
    """
    find_issues = extra("cleanlab.filter").find_label_issues
    find_overlaps = extra("cleanlab.dataset").find_overlapping_classes
    rows = answers.labelled
    if len(rows) > MAX_EXAMINED:
        rows = rows[np.linspace(0, len(rows) - 1, MAX_EXAMINED).astype(int)]
    # cleanlab knows no label without articles: these are left out, and what they were given.
    sure = rows[answers.confidence[rows] >= SURE]
    expected = float((1 - answers.confidence[sure].astype(np.float64)).sum())
    present, gold = np.unique(answers.gold[rows], return_inverse=True)
    crossing = np.zeros((answers.classes, answers.classes))
    if len(present) < 2:
        return Suspects(rows, rows[:0], expected, crossing)
    p = np.asarray(answers.probabilities[rows][:, present], dtype=np.float64)
    p = (p + 1e-9) / (p + 1e-9).sum(axis=1, keepdims=True)
    with warnings.catch_warnings():
        # A label's only article is never suspect, and cleanlab warns of each.
        warnings.filterwarnings("ignore", "May not flag all label issues", UserWarning)
        found = find_issues(gold, p, return_indices_ranked_by="self_confidence", n_jobs=1)
    pairs = find_overlaps(gold, p)
    a, b = (present[pairs[f"Class Index {side}"].to_numpy()] for side in "AB")
    crossing[a, b] = crossing[b, a] = pairs["Num Overlapping Examples"].to_numpy()
    suspect = rows[found]
    suspect = suspect[answers.confidence[suspect] >= SURE]
    return Suspects(rows, suspect, expected, crossing)
