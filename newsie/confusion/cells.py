"""Example articles for a cell of the table: those nearest the border between its two labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from newsie.confusion.predictions import Answers

__all__ = ["Cell", "find_cells"]

MAX_CELLS = 150
ARTICLES = 3


@dataclass(frozen=True)
class Cell:
    """A cell: its labels, the row numbers of some of its articles, and the two labels' probabilities."""

    row_label: str
    column_label: str
    rows: tuple[int, ...]
    probabilities: tuple[tuple[float, float], ...]


def find_cells(answers: Answers) -> tuple[Cell, ...]:
    """Return the 150 fullest off-diagonal cells, with their articles nearest the border first.

    Rows are gold labels and columns predicted labels. An article is nearer the border the more
    probability its gold label has. Without gold labels, rows are the best label, columns the second best,
    and the probability of the second best counts.
    """
    c, labelled = answers.classes, answers.labelled
    if len(labelled):
        rows = labelled[answers.gold[labelled] != answers.predicted[labelled]]
        cell = answers.gold[rows] * c + answers.predicted[rows]
        closeness = _gold_probability(answers, rows)
    else:
        rows = np.arange(len(answers))
        cell, closeness = answers.predicted * c + answers.second, answers.runner_up
    counts = np.bincount(cell, minlength=c * c)
    fullest = np.argsort(-counts, kind="stable")[: min(MAX_CELLS, np.count_nonzero(counts))]
    order = np.lexsort((-closeness, cell))
    starts = np.searchsorted(cell[order], fullest)
    found = []
    for key, start in zip(fullest.tolist(), starts.tolist(), strict=True):
        shown = rows[order[start : start + min(ARTICLES, int(counts[key]))]]
        names = answers.labels[key // c], answers.labels[key % c]
        both = answers.probabilities[shown][:, [key // c, key % c]].tolist()
        found.append(Cell(*names, tuple(shown.tolist()), tuple((p, q) for p, q in both)))
    return tuple(found)


def _gold_probability(answers: Answers, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    found = np.empty(len(rows), np.float32)
    for chunk in answers.chunks():
        low, high = np.searchsorted(rows, [chunk.start, chunk.stop])
        part = rows[low:high]
        found[low:high] = answers.probabilities[part, answers.gold[part]]
    return found
