"""Reliability of probabilities: calibration, risk and coverage, and thresholds.

All of it is computed from two figures per article: the confidence, which is the probability of its best
label, and whether that is its gold label.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from newsie.errors import InputError
from newsie.extras import extra
from newsie.metrics.estimates import Estimate, share
from newsie.metrics.evaluation import confidence_bins

__all__ = [
    "Calibration",
    "CoveragePoint",
    "ReliabilityBin",
    "Threshold",
    "calibration",
    "find_threshold",
    "smallest_promise",
]

WANTED_PRECISIONS = (0.8, 0.9, 0.95, 0.99)
COVERAGES = tuple(share / 20 for share in range(1, 21))
"""The shares of articles at which a threshold is tried: 5 %, 10 %, ... all."""

_POINTS = 100


@dataclass(frozen=True)
class ReliabilityBin:
    """Articles of similar confidence: their number, mean confidence, and accuracy."""

    articles: int
    confidence: float
    accuracy: Estimate


@dataclass(frozen=True)
class CoveragePoint:
    """The surest `coverage` of the articles, all with at least `threshold`, and their accuracy."""

    coverage: float
    threshold: float
    accuracy: float


@dataclass(frozen=True)
class Threshold:
    """The confidence from which predictions reach a required precision.

    Attributes:
        wanted: the required precision.
        threshold: the confidence; None if none of those tried is sure to reach the precision.
        coverage: share of the articles of at least that confidence.
        precision: their precision on the analysed articles.
        lower: the lower bound of the precision at 95 % confidence, corrected for the search.
    """

    wanted: float
    threshold: float | None
    coverage: float
    precision: float | None
    lower: float | None


@dataclass(frozen=True)
class Calibration:
    """The calibration of a task: how far its probabilities can be trusted.

    Attributes:
        expected_calibration_error: as in `newsie.metrics.evaluation`.
        bins: bins of about equally many articles, the least sure first; ties stay together.
        risk_coverage: accuracy of the surest 1 %, 2 %, ... 100 % (El-Yaniv & Wiener 2010); articles of equal
            confidence each count with their mean accuracy.
        thresholds: the thresholds for a precision of 80, 90, 95 and 99 %.
    """

    expected_calibration_error: float
    bins: tuple[ReliabilityBin, ...]
    risk_coverage: tuple[CoveragePoint, ...]
    thresholds: tuple[Threshold, ...]


def calibration(confidence: ArrayLike, correct: ArrayLike) -> Calibration:
    """Return the calibration of N articles.

    Args:
        confidence: (N,) probability of the best label.
        correct: (N,) True if that is the gold label.

    Raises:
        InputError: there are no articles, or the shapes differ.
    """
    p, right = _checked(confidence, correct)
    bins = _bins(p, right)
    error = sum(b.articles * abs(b.accuracy.value - b.confidence) for b in bins) / len(p)
    surest = np.argsort(-p, kind="stable")
    return Calibration(
        expected_calibration_error=error,
        bins=bins,
        risk_coverage=_risk_coverage(p[surest], right[surest]),
        thresholds=tuple(find_threshold(p, right, wanted) for wanted in WANTED_PRECISIONS),
    )


def find_threshold(
    confidence: ArrayLike,
    correct: ArrayLike,
    wanted: float,
    *,
    coverages: Sequence[float] = COVERAGES,
) -> Threshold:
    """Return the lowest confidence from which predictions reach a required precision, at 95 % confidence.

    As many thresholds are tried as there are coverages, and the best is chosen on the same articles. Each
    must therefore pass at its share of the error: the exact lower bound of Clopper & Pearson (1934) at
    1 - 0.05 / 20 must reach the precision, as in the selection with guaranteed risk of Geifman &
    El-Yaniv 2017 (arXiv 1705.08500). The guarantee holds for further articles of the same kind.
    """
    if not 0 < wanted < 1:
        raise InputError(f"a precision of {wanted} is wanted; give a share below 1, like 0.95")
    p, right = _checked(confidence, correct)
    surest = np.argsort(-p, kind="stable")
    ranked, hits = p[surest], np.cumsum(right[surest])
    for coverage in sorted(coverages, reverse=True):
        # Include all articles that are as sure as the last one.
        last = ranked[max(1, round(coverage * len(p))) - 1]
        n = int(np.searchsorted(-ranked, -last, side="right"))
        lower = _lower_bound(int(hits[n - 1]), n, 0.05 / len(coverages))
        if lower >= wanted:
            return Threshold(wanted, float(last), n / len(p), float(hits[n - 1] / n), lower)
    return Threshold(wanted, None, 0.0, None, None)


def smallest_promise(wanted: float) -> int:
    """Return the fewest articles, all of them correct, from which a precision can be guaranteed at all."""
    return math.ceil(math.log(0.05 / len(COVERAGES)) / math.log(wanted))


def _checked(
    confidence: ArrayLike, correct: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    p, right = np.asarray(confidence, np.float64), np.asarray(correct, bool)
    if p.ndim != 1 or p.shape != right.shape or not len(p):
        raise InputError(
            f"confidence {p.shape} and correct {right.shape} must both be (N,), with N above 0"
        )
    return p, right


def _bins(p: NDArray[np.float64], right: NDArray[np.bool_]) -> tuple[ReliabilityBin, ...]:
    bins = []
    for part in confidence_bins(p):
        accuracy = share(int(right[part].sum()), len(part))
        assert accuracy is not None  # no part is empty
        bins.append(ReliabilityBin(len(part), float(p[part].mean()), accuracy))
    return tuple(bins)


def _risk_coverage(
    ranked: NDArray[np.float64], right: NDArray[np.bool_]
) -> tuple[CoveragePoint, ...]:
    _, tie, tied = np.unique(-ranked, return_inverse=True, return_counts=True)
    hits = np.cumsum((np.bincount(tie, right) / tied)[tie])
    sizes = np.unique(np.ceil(np.linspace(0, len(ranked), _POINTS + 1)[1:]).astype(int))
    return tuple(
        CoveragePoint(n / len(ranked), float(ranked[n - 1]), float(hits[n - 1] / n)) for n in sizes
    )


def _lower_bound(hits: int, n: int, alpha: float) -> float:
    return float(extra("scipy.stats").beta.ppf(alpha, hits, n - hits + 1)) if hits else 0.0
