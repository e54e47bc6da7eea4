"""Comparison of two sets of predictions for the same articles, such as teacher and student or old and new."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from newsie.confusion.matrix import ConfusionMatrix
from newsie.confusion.overlap import FALSE_DISCOVERY_RATE
from newsie.confusion.predictions import Answers
from newsie.errors import InputError
from newsie.extras import extra
from newsie.metrics.estimates import Estimate, paired, q_values, share
from newsie.metrics.evaluation import Metric, accuracy, macro_f1, paired_difference

__all__ = ["ChangedPair", "ComparedMetric", "Comparison", "DifferentPair", "compare"]

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Kind = Literal["press", "models", "tasks"]


@dataclass(frozen=True)
class DifferentPair:
    """Articles that A labels `a` and B labels `b`.

    Attributes:
        articles: number of these articles.
        of: number of articles that A labels `a`.
        share: articles / of.
        reverse: share of the articles that A labels `b` that B labels `a`; None if A labels none `b`, or if
            one side lacks the label.
    """

    a: str
    b: str
    articles: int
    of: int
    share: Estimate
    reverse: Estimate | None


@dataclass(frozen=True)
class ComparedMetric:
    """A metric of both sides on the same articles, and a - b with its paired interval."""

    a: float
    b: float
    difference: Estimate


@dataclass(frozen=True)
class ChangedPair:
    """A confusion that one side has more often: shares of the articles of `gold`, and a - b.

    The interval is paired over the same articles. The q-value corrects over all confusions that differ at
    all (exact test of McNemar 1947, Benjamini & Hochberg).
    """

    gold: str
    predicted: str
    a: float
    b: float
    difference: Estimate
    q_value: float


@dataclass(frozen=True, eq=False)
class Comparison:
    """The comparison of predictions A and B for the same articles.

    Attributes:
        kind: the kind of comparison.
        task: the task that both models predict; "" if two tasks are compared.
        a, b: names of the two sides.
        labels_a, labels_b: their labels.
        articles: number of articles.
        agreement: share of articles with the same label on both sides.
        counts: (C_a, C_b) articles.
        pairs: the pairs of labels on which they differ, most articles first.
        accuracy, macro_f1: None without gold labels that both sides have.
        changes: confusions that differ beyond chance at a false discovery rate of 5 %, the greatest first.
    """

    kind: Kind
    task: str
    a: str
    b: str
    labels_a: tuple[str, ...]
    labels_b: tuple[str, ...]
    articles: int
    agreement: Estimate
    counts: Indices
    pairs: tuple[DifferentPair, ...]
    accuracy: ComparedMetric | None
    macro_f1: ComparedMetric | None
    changes: tuple[ChangedPair, ...]


def compare(
    first: Answers,
    second: Answers,
    *,
    names: tuple[str, str] = ("a", "b"),
    kind: Kind = "tasks",
    task: str = "",
    count: int = 20,
) -> Comparison:
    """Compare two sets of predictions, matching labels by name.

    Gold labels are those of `first` where `second` has the same one.

    Args:
        first, second: predictions for the same N articles in the same order.
        names: the names of the two sides.
        kind: the kind of comparison.
        task: the task that both sides predict, if it is the same.
        count: the number of pairs and changes to list.

    Raises:
        InputError: the numbers of articles differ.
    """
    if len(first) != len(second):
        raise InputError(
            f"{names[0]} answers {len(first):,} articles and {names[1]} {len(second):,}; compare "
            "answers to the same articles in the same order"
        )
    a, b = first.predicted, second.predicted
    shape = first.classes, second.classes
    counts = np.bincount(a * shape[1] + b, minlength=shape[0] * shape[1]).reshape(shape)
    agreement = share(_agreeing(first.labels, second.labels, counts), len(first))
    assert agreement is not None  # there is at least one article
    gold, one, two, union = _with_gold(first, second)
    metrics = [_compare_metric(metric, one, two, gold) for metric in _METRICS]
    return Comparison(
        kind=kind,
        task=task,
        a=names[0],
        b=names[1],
        labels_a=first.labels,
        labels_b=second.labels,
        articles=len(first),
        agreement=agreement,
        counts=counts,
        pairs=_pairs(first.labels, second.labels, counts, count),
        accuracy=metrics[0],
        macro_f1=metrics[1],
        changes=_changes(union, gold, one, two, count),
    )


_METRICS: tuple[Metric, ...] = ("accuracy", "macro_f1")


def _agreeing(a: tuple[str, ...], b: tuple[str, ...], counts: Indices) -> int:
    return sum(int(counts[a.index(label), b.index(label)]) for label in a if label in b)


def _pairs(
    a: tuple[str, ...], b: tuple[str, ...], counts: Indices, count: int
) -> tuple[DifferentPair, ...]:
    same = np.array(a)[:, None] == np.array(b)[None, :]
    off = np.where(same, 0, counts)
    order = np.argsort(-off, axis=None, kind="stable")[: np.count_nonzero(off)][:count]
    totals = counts.sum(axis=1)
    pairs = []
    for i, j in zip(*np.unravel_index(order, off.shape), strict=True):
        found = share(int(off[i, j]), int(totals[i]))
        assert found is not None  # the cell is not empty
        reverse = None
        if a[i] in b and b[j] in a:
            back = a.index(b[j])
            reverse = share(int(counts[back, b.index(a[i])]), int(totals[back]))
        pairs.append(DifferentPair(a[i], b[j], int(off[i, j]), int(totals[i]), found, reverse))
    return tuple(pairs)


def _with_gold(
    first: Answers, second: Answers
) -> tuple[Indices, Indices, Indices, tuple[str, ...]]:
    """Return gold labels and both predictions as indices into all labels, where the gold labels agree."""
    union = tuple(dict.fromkeys((*first.labels, *second.labels)))
    mine = np.arange(first.classes)
    theirs = np.array([union.index(label) for label in second.labels])
    known = (first.gold >= 0) & (second.gold >= 0)
    known[known] &= mine[first.gold[known]] == theirs[second.gold[known]]
    return mine[first.gold[known]], first.predicted[known], theirs[second.predicted[known]], union


def _compare_metric(
    metric: Metric, one: Indices, two: Indices, gold: Indices
) -> ComparedMetric | None:
    if not len(gold):
        return None
    measure = {"accuracy": accuracy, "macro_f1": macro_f1}[metric]
    a, b = measure(one, gold), measure(two, gold)
    return ComparedMetric(a, b, paired_difference(metric, one, two, gold))


def _changes(
    labels: tuple[str, ...], gold: Indices, one: Indices, two: Indices, count: int
) -> tuple[ChangedPair, ...]:
    if not len(gold):
        return ()
    counts_a, counts_b = (_count(labels, gold, answers) for answers in (one, two))
    both = _count(labels, gold[one == two], one[one == two])
    apart = counts_a + counts_b > 2 * both
    np.fill_diagonal(apart, val=False)
    rows, columns = np.nonzero(apart)
    a, b = ((counts - both)[rows, columns] for counts in (counts_a, counts_b))
    q = q_values(_mcnemar(a, b))
    support = np.bincount(gold, minlength=len(labels))
    found = np.flatnonzero(q <= FALSE_DISCOVERY_RATE)
    return tuple(
        ChangedPair(
            labels[rows[i]],
            labels[columns[i]],
            float(counts_a[rows[i], columns[i]] / support[rows[i]]),
            float(counts_b[rows[i], columns[i]] / support[rows[i]]),
            paired(int(a[i]), int(b[i]), int(support[rows[i]])),
            float(q[i]),
        )
        for i in found[np.argsort(-abs(a - b)[found], kind="stable")][:count]
    )


def _count(labels: tuple[str, ...], gold: Indices, predicted: Indices) -> Indices:
    return ConfusionMatrix.from_labels(labels, gold, predicted).counts


def _mcnemar(a: Indices, b: Indices) -> Floats:
    """Return p-values of a against b articles that only one side has, by the exact test of McNemar (1947)."""
    tail = extra("scipy.stats").binom.cdf(np.minimum(a, b), a + b, 0.5)
    return np.minimum(1.0, 2 * np.asarray(tail, dtype=np.float64))
