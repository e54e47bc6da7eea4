"""Labels that are likely wrong: confident learning, by cleanlab.

Northcutt, Jiang & Chuang 2021 (arXiv 1911.00068): a label is suspect where the model is surer of
another one than it usually is of that one's own articles. It takes probabilities for articles that
the model did not learn from. The suspects are counted once, here; a sure one is a suspect whose other
label has a probability of 90 % or more.
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
"""From this probability of another label on, the model is sure that the gold label is wrong."""

MAX_EXAMINED = 50_000
"""Articles that are examined: evenly spaced ones, where there are more."""


@dataclass(frozen=True, eq=False)
class Suspects:
    """Articles whose gold label is likely wrong.

    Attributes:
        examined_rows: the articles that were examined.
        rows: those with a suspect label, the likeliest first.
        sure_rows: those of them in which the model is at least 90 % sure of the other label.
        expected: the number of wrong answers among the examined ones of which the model is at least 90 %
            sure, by its own probabilities.
        crossing: (C, C) of the examined articles, how many cleanlab thinks carry one label of a
            pair and belong to the other, both ways.
    """

    examined_rows: NDArray[np.int64] = field(repr=False)
    rows: NDArray[np.int64]
    sure_rows: NDArray[np.int64]
    expected: float
    crossing: NDArray[np.float64] = field(repr=False)

    @property
    def beyond_chance(self) -> bool:
        """True where there are more sure suspects than the model should make sure mistakes."""
        return len(self.sure_rows) > self.expected + 2 * math.sqrt(self.expected)


def describe_suspects(answers: Answers, suspects: Suspects) -> str:
    """The number of suspects in a sentence; empty where there is none."""
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
    # cleanlab knows no label without articles: these are left out, and what they were given.
    certain = rows[answers.confidence[rows] >= SURE]
    expected = float((1 - answers.confidence[certain].astype(np.float64)).sum())
    present, gold = np.unique(answers.gold[rows], return_inverse=True)
    crossing = np.zeros((answers.classes, answers.classes))
    if len(present) < 2:
        return Suspects(rows, rows[:0], rows[:0], expected, crossing)
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
    sure = suspect[answers.confidence[suspect] >= SURE]
    return Suspects(rows, suspect, sure, expected, crossing)
