"""Clusters: the labels that are near each other, and the coarser label sets that follow.

The distance of two labels is lower the more of their probability mass crosses:

    d(a, b) = 1 - 2 s,   s = (M_ab + M_ba) / (M_aa + M_ab + M_ba + M_bb)

with M the soft confusion: 0 if the two cannot be told apart, 1 if neither ever gets any of the other's
mass. Average linkage (Sokal & Michener 1958) makes the dendrogram. Its groups are what Hinton,
Vinyals & Dean 2015 (arXiv 1503.02531, section 5) give to specialists: labels often predicted together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from newsie.confusion.predictions import Answers
from newsie.confusion.soft import SoftConfusion
from newsie.extras import extra
from newsie.metrics.estimates import Estimate, share

__all__ = ["Clusters", "Cut", "LabelMerge", "cluster_labels", "label_distances"]

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

NEAR = 0.5
"""The distance of the suggested cut: here a quarter of the mass of two labels crosses."""

_CUTS = 30  # the most cuts listed


@dataclass(frozen=True)
class LabelMerge:
    """A step of the dendrogram.

    Attributes:
        left, right: class indices, or C + the number of an earlier merge.
        distance: mean distance between the labels of the two clusters.
        size: number of labels in the new cluster.
    """

    left: int
    right: int
    distance: float
    size: int


@dataclass(frozen=True)
class Cut:
    """A coarser label set.

    Attributes:
        labels: number of labels left.
        distance: the distance of the last merge made.
        groups: the clusters of two labels or more.
        accuracy, macro_f1: with the probabilities of each group summed; None without gold labels.
    """

    labels: int
    distance: float
    groups: tuple[tuple[str, ...], ...]
    accuracy: Estimate | None
    macro_f1: float | None


@dataclass(frozen=True)
class Clusters:
    """The dendrogram of the labels.

    Attributes:
        order: the labels that occur, in the order of the leaves.
        merges: the steps, one fewer than these labels, nearest first.
        cuts: coarser label sets, the finest first; at most 30.
        suggested: number of labels of the suggested cut; None if no two labels are near.
    """

    order: tuple[str, ...]
    merges: tuple[LabelMerge, ...]
    cuts: tuple[Cut, ...]
    suggested: int | None


def label_distances(soft: SoftConfusion) -> Floats:
    """Return the distances (C, C), 0 to 1; a label without articles is at 1 from all others."""
    m = np.nan_to_num(soft.mean)
    own = np.diagonal(m)
    crossing = m + m.T
    total = own[:, None] + own[None, :] + crossing
    known = soft.support > 0
    valid = (total > 0) & known[:, None] & known[None, :]
    shared = np.divide(crossing, total, out=np.zeros_like(m), where=valid)
    distances = np.clip(1 - 2 * shared, 0, 1)
    np.fill_diagonal(distances, 0)
    return np.asarray(distances)


def cluster_labels(answers: Answers, soft: SoftConfusion) -> Clusters | None:
    """Return the dendrogram of the labels that occur, with the quality of each coarser label set.

    Returns:
        None if fewer than three labels occur.

    Raises:
        MissingExtraError: scipy is not installed.
    """
    leaves = np.flatnonzero(answers.occurring)
    if len(leaves) < 3:
        return None
    hierarchy = extra("scipy.cluster.hierarchy")
    distances = label_distances(soft)[np.ix_(leaves, leaves)]
    steps = hierarchy.linkage(distances[np.triu_indices(len(leaves), 1)], method="average")
    # scipy numbers clusters from the number of leaves on; here they are numbered from C on.
    number = [*leaves.tolist(), *range(answers.classes, answers.classes + len(steps))]
    merges = tuple(
        LabelMerge(number[int(a)], number[int(b)], float(d), int(n)) for a, b, d, n in steps
    )
    near = sum(merge.distance <= NEAR for merge in merges)
    return Clusters(
        order=tuple(answers.labels[number[i]] for i in hierarchy.leaves_list(steps)),
        merges=merges,
        cuts=_cuts(answers, leaves.tolist(), merges, near),
        # A cut that merges everything is not a label set.
        suggested=len(leaves) - near if 0 < near < len(leaves) - 1 else None,
    )


def _cuts(
    answers: Answers, leaves: list[int], merges: tuple[LabelMerge, ...], near: int
) -> tuple[Cut, ...]:
    """Return the label sets after 1, 2, ... merges, until two labels are left."""
    c, most = answers.classes, len(leaves) - 2
    counts = _count(answers, merges) if len(answers.labelled) else None
    chosen = set(np.unique(np.linspace(1, most, min(most, _CUTS)).astype(int)).tolist()) | {near}
    members: dict[int, tuple[int, ...]] = {i: (i,) for i in leaves}
    cuts = []
    for step, merge in enumerate(merges[:most]):
        members[c + step] = members.pop(merge.left) + members.pop(merge.right)
        if step + 1 not in chosen:
            continue
        groups = sorted(tuple(sorted(group)) for group in members.values() if len(group) > 1)
        names = tuple(tuple(answers.labels[i] for i in group) for group in groups)
        accuracy = macro_f1 = None
        if counts is not None:
            right, gold, predicted = counts[:, step]
            present = gold > 0
            f1 = 2 * right[present] / (gold + predicted)[present]
            accuracy, macro_f1 = share(int(right.sum()), int(gold.sum())), float(f1.mean())
        cuts.append(Cut(most + 1 - step, merge.distance, names, accuracy, macro_f1))
    return tuple(cuts)


def _count(answers: Answers, merges: tuple[LabelMerge, ...]) -> Indices:
    """Return (3, steps, 2 C - 1) correct, gold and predicted articles of each cluster after each merge."""
    c, rows = answers.classes, answers.labelled
    counts = np.zeros((3, len(merges), 2 * c - 1), np.int64)
    for chunk in answers.chunks():
        low, high = np.searchsorted(rows, [chunk.start, chunk.stop])
        chosen = rows[low:high]
        p = answers.probabilities[chunk][chosen - chunk.start].T.astype(np.float32, order="C")
        columns = dict(enumerate(p))
        gold, best = answers.gold[chosen].copy(), answers.predicted[chosen].copy()
        confidence = answers.confidence[chosen].copy()
        for step, merge in enumerate(merges):
            new = c + step
            columns[new] = merged = columns.pop(merge.left) + columns.pop(merge.right)
            best[(best == merge.left) | (best == merge.right) | (merged > confidence)] = new
            np.maximum(confidence, merged, out=confidence, where=best == new)
            gold[(gold == merge.left) | (gold == merge.right)] = new
            for table, labels in zip(counts, (gold[gold == best], gold, best), strict=True):
                table[step] += np.bincount(labels, minlength=2 * c - 1)
    return counts
