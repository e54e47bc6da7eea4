"""The predictions by publisher or by month: confusion per group, and its drift over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from newsie.confusion.matrix import ConfusedPair, ConfusionMatrix
from newsie.confusion.overlap import FALSE_DISCOVERY_RATE
from newsie.confusion.predictions import Answers
from newsie.errors import InputError
from newsie.extras import extra
from newsie.metrics.estimates import Estimate, newcombe, q_values, share

__all__ = ["Group", "GroupPair", "Groups", "compare_groups"]

Indices = NDArray[np.int64]

MAX_GROUPS = 40
MINIMUM_ARTICLES = 50
"""The fewest articles with a gold label for a group to be reported."""


@dataclass(frozen=True)
class GroupPair:
    """A direction of confusion within a group.

    Attributes:
        share: the share of the group's articles of `gold`.
        difference: the difference from all other articles of `gold`.
        q_value: the q-value of the difference, over all groups and pairs (Fisher's exact test, Benjamini &
            Hochberg).
        beyond_chance: True if the q-value is at most 5 %.
    """

    gold: str
    predicted: str
    share: Estimate
    difference: Estimate
    q_value: float
    beyond_chance: bool = False


@dataclass(frozen=True)
class Group:
    """The articles of a publisher or a month.

    Attributes:
        articles: number of articles with a gold label.
        accuracy: share of correct predictions.
        difference: the accuracy less that of all other articles; None if there are no others.
        pairs: the overall most frequent confusions whose gold label occurs in the group.
    """

    name: str
    articles: int
    accuracy: Estimate
    difference: Estimate | None
    pairs: tuple[GroupPair, ...]


@dataclass(frozen=True)
class Groups:
    """The groups that are large enough to compare.

    Attributes:
        by: "publisher" or "month".
        groups: months in order, publishers largest first.
        left_out: number of groups that are too small or beyond the limit.
    """

    by: str
    groups: tuple[Group, ...]
    left_out: int


def compare_groups(
    answers: Answers,
    names: Sequence[str | None],
    *,
    by: str,
    pairs: Sequence[ConfusedPair],
) -> Groups:
    """Compare each group with all other articles; only articles with a gold label count.

    Args:
        answers: N articles.
        names: (N,) group of each article; "" or None if it has none.
        by: the kind of group; "month" keeps them in order.
        pairs: the directions of confusion to compare.

    Raises:
        InputError: the number of names differs from the number of articles.
        MissingExtraError: scipy is not installed.
    """
    if len(names) != len(answers):
        raise InputError(f"{len(names):,} names of groups for {len(answers):,} articles")
    rows = answers.labelled
    named = np.array([name or "" for name in names], dtype=object)[rows].astype(str)
    found, group = np.unique(named, return_inverse=True)
    sizes = np.bincount(group, minlength=len(found))
    large = [i for i in np.argsort(-sizes, kind="stable") if sizes[i] >= MINIMUM_ARTICLES]
    chosen = [int(i) for i in large if found[i]][:MAX_GROUPS]
    if by == "month":
        chosen.sort()
    index = {label: i for i, label in enumerate(answers.labels)}
    cells = [(index[pair.gold], index[pair.predicted]) for pair in pairs]
    everybody = _count(answers, rows)
    groups = tuple(
        _group(str(found[i]), _count(answers, rows[group == i]), everybody, cells, answers.labels)
        for i in chosen
    )
    return Groups(by, _corrected(groups), int(sum(map(bool, found.tolist()))) - len(chosen))


def _count(answers: Answers, rows: Indices) -> Indices:
    """Return the counts (C, C) of the given rows, gold by predicted."""
    gold, predicted = answers.gold[rows], answers.predicted[rows]
    return ConfusionMatrix.from_labels(answers.labels, gold, predicted).counts


def _group(
    name: str,
    mine: Indices,
    everybody: Indices,
    cells: Sequence[tuple[int, int]],
    labels: tuple[str, ...],
) -> Group:
    rest = everybody - mine
    accuracy = ConfusionMatrix(labels, mine).accuracy
    others = ConfusionMatrix(labels, rest).accuracy
    assert accuracy is not None  # no group is empty
    pairs = (_pair(mine, rest, cell, labels) for cell in cells)
    return Group(
        name,
        int(mine.sum()),
        accuracy,
        newcombe(accuracy, others) if others else None,
        tuple(pair for pair in pairs if pair),
    )


def _pair(
    mine: Indices, rest: Indices, cell: tuple[int, int], labels: tuple[str, ...]
) -> GroupPair | None:
    gold, predicted = cell
    total, other_total = int(mine[gold].sum()), int(rest[gold].sum())
    here, there = share(int(mine[cell]), total), share(int(rest[cell]), other_total)
    if here is None or there is None:
        return None
    p = _fisher(int(mine[cell]), total, int(rest[cell]), other_total)
    return GroupPair(labels[gold], labels[predicted], here, newcombe(here, there), p)


def _corrected(groups: tuple[Group, ...]) -> tuple[Group, ...]:
    """Return the groups with the p-values of all their pairs corrected to q-values."""
    q = iter(q_values([pair.q_value for group in groups for pair in group.pairs]).tolist())

    def pair(p: GroupPair) -> GroupPair:
        corrected = next(q)
        beyond_chance = corrected <= FALSE_DISCOVERY_RATE
        return replace(p, q_value=corrected, beyond_chance=beyond_chance)

    return tuple(
        Group(g.name, g.articles, g.accuracy, g.difference, tuple(map(pair, g.pairs)))
        for g in groups
    )


def _fisher(hits: int, total: int, other_hits: int, other_total: int) -> float:
    table = [[hits, total - hits], [other_hits, other_total - other_hits]]
    return float(extra("scipy.stats").fisher_exact(table).pvalue)
