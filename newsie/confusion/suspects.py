"""Labels that are likely wrong: confident learning, by cleanlab.

Northcutt, Jiang & Chuang 2021 (arXiv 1911.00068): a label is suspect where the model is surer of
another one than it usually is of that one's own articles. It takes probabilities for articles that
the model did not learn from.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from newsie.confusion.answers import Answers
from newsie.confusion.extras import extra

__all__ = ["MAX_EXAMINED", "Suspects", "find_suspects"]

MAX_EXAMINED = 50_000
"""Articles that are examined: evenly spaced ones, where there are more."""


@dataclass(frozen=True, eq=False)
class Suspects:
    """Articles whose gold label is likely wrong.

    Attributes:
        examined_rows: the articles looked at.
        rows: those with a suspect label, the likeliest first.
        crossing: (C, C) of the examined articles, how many cleanlab thinks carry one label of a
            pair and belong to the other, both ways.
    """

    examined_rows: NDArray[np.int64] = field(repr=False)
    rows: NDArray[np.int64]
    crossing: NDArray[np.float64] = field(repr=False)


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
    present, gold = np.unique(answers.gold[rows], return_inverse=True)
    crossing = np.zeros((answers.classes, answers.classes))
    if len(present) < 2:
        return Suspects(rows, rows[:0], crossing)
    p = np.asarray(answers.probabilities[rows][:, present], dtype=np.float64)
    p = (p + 1e-9) / (p + 1e-9).sum(axis=1, keepdims=True)
    with warnings.catch_warnings():
        # A label's only article is never suspect, and cleanlab warns of each.
        warnings.filterwarnings("ignore", "May not flag all label issues", UserWarning)
        found = find_issues(gold, p, return_indices_ranked_by="self_confidence", n_jobs=1)
    pairs = find_overlaps(gold, p)
    a, b = (present[pairs[f"Class Index {side}"].to_numpy()] for side in "AB")
    crossing[a, b] = crossing[b, a] = pairs["Num Overlapping Examples"].to_numpy()
    return Suspects(rows, rows[found], crossing)
