"""Labels that are likely wrong, found by confident learning with cleanlab.

Northcutt, Jiang & Chuang 2021 (arXiv 1911.00068): a label is suspect if the model is surer of another
label than it usually is of that label's own articles. The probabilities must be for articles that the
model was not trained on. A suspect is sure if its other label has a probability of 90 % or more.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from newsie.confusion.predictions import Answers
from newsie.confusion.sentences import count
from newsie.extras import extra
from newsie.printable import one_line

__all__ = ["MAX_EXAMINED", "SURE", "Suspects", "describe_suspects", "find_suspects"]

SURE = 0.9
"""The least probability of another label at which the model is sure that the gold label is wrong."""

MAX_EXAMINED = 50_000
"""The most articles that are examined; if there are more, evenly spaced ones are taken."""


@dataclass(frozen=True, eq=False)
class Suspects:
    """Articles whose gold label is likely wrong.

    Attributes:
        examined_rows: the rows that were examined.
        rows: the rows with a suspect label, the likeliest first.
        sure_rows: those of them for which the model is at least 90 % sure of the other label.
        expected: the number of wrong predictions with a probability of at least 90 % to be expected among the
            examined articles, by the model's own probabilities.
        crossing: (C, C) number of examined articles that carry one label of a pair and belong to the other,
            both ways, by cleanlab's estimate.
    """

    examined_rows: NDArray[np.int64] = field(repr=False)
    rows: NDArray[np.int64]
    sure_rows: NDArray[np.int64]
    expected: float
    crossing: NDArray[np.float64] = field(repr=False)

    @property
    def beyond_chance(self) -> bool:
        """True if there are more sure suspects than the model should make sure mistakes."""
        return len(self.sure_rows) > self.expected + 2 * math.sqrt(self.expected)


def describe_suspects(answers: Answers, suspects: Suspects) -> str:
    """Return the number of suspects in a sentence; empty if there are none."""
    rows, examined, sure = suspects.rows, len(suspects.examined_rows), len(suspects.sure_rows)
    if not len(rows):
        return ""
    of = f" of {examined:,} examined" if examined < len(answers.labelled) else ""
    which = ":" if sure == len(rows) else f"; in {f'{sure:,}' if sure else 'none'} of them"
    counts = np.bincount(answers.gold[rows], minlength=answers.classes)
    most = np.flatnonzero(counts == counts.max())
    where = ""
    if len(most) == 1:
        label = one_line(answers.labels[int(most[0])])
        where = f"; more in {label} ({int(counts.max()):,}) than in any other label"
    return (
        f"{count(len(rows), 'gold label')}{of} may be wrong{which} the model is at least 90 % sure of "
        f"another label (by its own probabilities it should be wrong about {suspects.expected:,.0f} times "
        f"there){where}."
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
    # cleanlab cannot handle labels without articles, so they and their probabilities are left out.
    certain = rows[answers.confidence[rows] >= SURE]
    expected = float((1 - answers.confidence[certain].astype(np.float64)).sum())
    present, gold = np.unique(answers.gold[rows], return_inverse=True)
    crossing = np.zeros((answers.classes, answers.classes))
    if len(present) < 2:
        return Suspects(rows, rows[:0], rows[:0], expected, crossing)
    p = np.asarray(answers.probabilities[rows][:, present], dtype=np.float64)
    p = (p + 1e-9) / (p + 1e-9).sum(axis=1, keepdims=True)
    with warnings.catch_warnings():
        # A label's only article is never suspect, and cleanlab warns about each one.
        warnings.filterwarnings("ignore", "May not flag all label issues", UserWarning)
        found = find_issues(gold, p, return_indices_ranked_by="self_confidence", n_jobs=1)
    pairs = find_overlaps(gold, p)
    a, b = (present[pairs[f"Class Index {side}"].to_numpy()] for side in "AB")
    crossing[a, b] = crossing[b, a] = pairs["Num Overlapping Examples"].to_numpy()
    suspect = rows[found]
    sure = suspect[answers.confidence[suspect] >= SURE]
    return Suspects(rows, suspect, sure, expected, crossing)
