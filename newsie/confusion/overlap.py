r"""Overlap of labels, from the probabilities alone: the labels that share the mass of an article.

Let a be the best label of an article. If the model is calibrated, the probability p_b of another label b is
the probability that the article is b. Summed over the articles read as a,

    S[a, b] = sum over articles read as a of p_b

is the expected confusion matrix, without a gold label. As p_b < p_a there, S[a, b] + S[b, a] is also the sum
of min(p_a, p_b) over the articles that either label leads: the mass that the two share.

Large labels share much with all others. Frequencies alone would give

    E[a, b] = r_a c_b  for a != b

with the row sums (how unsure the model is about articles read as a) and column sums (how often b is
in what is left) of S: the quasi-independence of Goodman 1968 (JASA 63). The diagonal is left out, because
rows sum to 1: what a gives to itself it cannot give to others, and the negative correlation that follows must
not count as a finding. Pairs that share more would raise E elsewhere, so they are left out and E is fitted
again until no more are found.

A pair overlaps if S[a, b] + S[b, a] is more than `minimum_lift` times E[a, b] + E[b, a], beyond chance
at a false discovery rate of 5 %. Both directions are tested together, because a model that is surer of one
label than of another biases each direction alone. The minimum lift is 1.5, because this biases the sum as
well, but by less. `docs/confusion.md` tabulates false alarms and power.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from newsie.confusion.predictions import Answers
from newsie.metrics.estimates import (
    Estimate,
    jackknife_variance,
    q_values,
    student_quantile,
    student_tail,
)

__all__ = ["MINIMUM_LIFT", "Overlap", "OverlapPair", "find_overlap", "shared_mass"]

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

MINIMUM_LIFT = 1.5
MINIMUM_LABELS = 5
"""The fewest labels for which overlap is tested.

With 3 labels, what each gives to the others fits any pattern of pairs. With 4, the overlap of two cannot
be told from that of the other two.
"""
MINIMUM_ARTICLES = 100

FALSE_DISCOVERY_RATE = 0.05
_ROUNDS = 10
_STEPS = 100  # steps of proportional fitting
_KEPT = 200  # pairs listed


@dataclass(frozen=True)
class OverlapPair:
    """Two labels and the mass that they share.

    Attributes:
        labels: the two.
        mass: shared mass in articles, the sum of min(p_a, p_b) over the articles that either leads.
        expected: the mass that frequencies alone would give.
        lift: mass / expected.
        p_value: one-sided p-value of a lift above the minimum.
        q_value: q-value over all pairs (Benjamini & Hochberg).
        overlapping: True if the q-value is at most 5 %.
        articles: number of articles whose best two labels these are.
        shares: the share of b in what the articles read as a give to other labels, and the reverse.
    """

    labels: tuple[str, str]
    mass: float
    expected: float
    lift: Estimate
    p_value: float
    q_value: float
    overlapping: bool
    articles: int
    shares: tuple[float, float]


@dataclass(frozen=True, eq=False)
class _Table:
    """All pairs of labels; each array is (C, C).

    Attributes:
        labels: the C names.
        mass: S.
        expected: E.
        log_error: the standard error of the logarithm of the lift.
        p, q: p-values and q-values, above the diagonal.
        best_two: number of articles by best and second best label.
        quantile: half the width of an interval, in standard errors.
    """

    labels: tuple[str, ...]
    mass: Floats
    expected: Floats
    log_error: Floats
    p: Floats
    q: Floats
    best_two: NDArray[np.int64]
    quantile: float

    def pair(self, a: int, b: int) -> OverlapPair:
        """Return the pair of two class indices, the lower first."""
        mass = float(self.mass[a, b] + self.mass[b, a])
        expected = float(self.expected[a, b] + self.expected[b, a])
        lift, error = mass / expected, float(self.log_error[a, b])
        # The error is NaN if one block holds all of the mass.
        factor = math.exp(min(self.quantile * error, 700)) if math.isfinite(error) else math.inf
        rest = np.maximum(self.mass.sum(axis=1), np.finfo(np.float64).tiny)
        q = float(self.q[a, b])
        return OverlapPair(
            labels=(self.labels[a], self.labels[b]),
            mass=mass,
            expected=expected,
            lift=Estimate(lift, lift / factor, lift * factor if lift else math.inf),
            p_value=float(self.p[a, b]),
            q_value=q,
            overlapping=q <= FALSE_DISCOVERY_RATE,
            articles=int(self.best_two[a, b] + self.best_two[b, a]),
            shares=(float(self.mass[a, b] / rest[a]), float(self.mass[b, a] / rest[b])),
        )


@dataclass(frozen=True)
class Overlap:
    """The pairs that share mass, ordered by how much they exceed the expected mass.

    Attributes:
        minimum_lift: the least multiple of the expected mass for a pair to overlap.
        tested: number of pairs.
        overlapping: number of pairs that overlap.
        pairs: the first 200.
        table: every pair.
    """

    minimum_lift: float
    tested: int
    overlapping: int
    pairs: tuple[OverlapPair, ...]
    table: _Table = field(repr=False)

    def find(self, first: str, second: str) -> OverlapPair | None:
        """Return the pair of two labels, in any order; None if the two are expected to share nothing."""
        a, b = sorted(map(self.table.labels.index, (first, second)))
        known = self.table.expected[a, b] + self.table.expected[b, a] > 0
        return self.table.pair(a, b) if known else None


def shared_mass(answers: Answers) -> Floats:
    """Return S for each block of articles, (B, C, C): rows are the label read, columns the other labels."""
    c, blocks = answers.classes, answers.block_count
    groups = answers.blocks * c + answers.predicted
    mass = answers.sums(groups, blocks * c).reshape(blocks, c, c)
    mass[:, np.arange(c), np.arange(c)] = 0
    return mass


def find_overlap(answers: Answers, *, minimum_lift: float = MINIMUM_LIFT) -> Overlap | None:
    """Find the pairs of labels that share more mass than their frequencies alone would give.

    Returns:
        None for fewer than 5 labels or 100 articles, which are too few to test.
    """
    if answers.classes < MINIMUM_LABELS or len(answers) < MINIMUM_ARTICLES:
        return None
    mass = shared_mass(answers)
    expected, without, p, q = _test(mass, minimum_lift)
    c = answers.classes
    best_two = np.bincount(answers.predicted * c + answers.second, minlength=c * c)
    table = _Table(
        labels=answers.labels,
        mass=mass.sum(axis=0),
        expected=expected,
        log_error=_log_lift_error(mass, without),
        p=p,
        q=q,
        best_two=best_two.reshape(c, c),
        quantile=student_quantile(answers.block_count),
    )
    return _collect(table, minimum_lift)


def _test(mass: Floats, minimum_lift: float) -> tuple[Floats, Floats, Floats, Floats]:
    """Return the expected mass, that without each block, p-values and q-values, from the mass (B, C, C)."""
    blocks, c = mass.shape[:2]
    total = mass.sum(axis=0)
    rest = total - mass
    upper = np.triu(np.ones((c, c), bool), 1)
    kept = ~np.eye(c, dtype=bool)
    for _ in range(_ROUNDS):
        expected, without = _fit(total, kept), _fit(rest, kept)
        excess = _both(total - minimum_lift * expected)
        error = np.sqrt(jackknife_variance(_both(rest - minimum_lift * without)))
        # Leaving out one of B blocks leaves (B - 1) / B of a sum, so its error is scaled back.
        error *= blocks / (blocks - 1)
        t = np.divide(excess, error, out=np.full((c, c), -np.inf), where=error > 0)
        p, q = np.ones((c, c)), np.ones((c, c))
        p[upper] = student_tail(t[upper], blocks)
        q[upper] = q_values(p[upper])
        smaller = _without_pairs(kept, q <= FALSE_DISCOVERY_RATE)
        if (smaller == kept).all():
            break
        kept = smaller
    return expected, without, p, q


def _fit(mass: Floats, kept: Mask) -> Floats:
    """Return r_a c_b for every cell of (..., C, C), with the row and column sums of the kept cells.

    Iterative proportional fitting (Deming & Stephan 1940).
    """
    weights = kept.astype(np.float64)
    rows, columns = (mass * weights).sum(axis=-1), (mass * weights).sum(axis=-2)
    tiny = np.finfo(np.float64).tiny
    c = columns / np.maximum(columns.sum(axis=-1, keepdims=True), tiny)
    for _ in range(_STEPS):
        r = rows / np.maximum(c @ weights.T, tiny)
        before, c = c, columns / np.maximum(r @ weights, tiny)
        if np.abs(c - before).max() <= 1e-9 * c.max():
            break
    r = rows / np.maximum(c @ weights.T, tiny)
    return np.asarray(r[..., :, None] * c[..., None, :])


def _without_pairs(kept: Mask, found: Mask) -> Mask:
    """Return the cells to fit to: no pairs that were found, but at least half of each row and column."""
    c = len(kept)
    smaller = kept & ~(found | found.T)
    full = (smaller.sum(axis=1) < (c - 1) / 2) | (smaller.sum(axis=0) < (c - 1) / 2)
    smaller[full], smaller[:, full] = kept[full], kept[:, full]
    return np.asarray(smaller)


def _both(table: Floats) -> Floats:
    return np.asarray(table + np.swapaxes(table, -1, -2))


def _log_lift_error(mass: Floats, without: Floats) -> Floats:
    rest = _both(mass.sum(axis=0) - mass)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.sqrt(jackknife_variance(np.log(rest / _both(without))))


def _collect(table: _Table, minimum_lift: float) -> Overlap:
    c = len(table.labels)
    excess = _both(table.mass - table.expected)
    upper = np.triu(np.ones((c, c), bool), 1) & (_both(table.expected) > 0)
    order = np.argsort(np.where(upper, -excess, np.inf), axis=None, kind="stable")
    first = np.unravel_index(order[: min(_KEPT, upper.sum())], (c, c))
    overlapping = int((table.q <= FALSE_DISCOVERY_RATE).sum())
    pairs = tuple(table.pair(int(a), int(b)) for a, b in zip(*first, strict=True))
    return Overlap(minimum_lift, int(upper.sum()), overlapping, pairs, table)
