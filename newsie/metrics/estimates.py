"""Estimates with 95 % confidence intervals, and false discovery rates of many tests.

Shares get Wilson's interval, the F1 of a label a transformed Wilson interval, and differences of shares
Newcombe's (different articles) or Agresti and Min's (the same articles). None of them has width 0 on few
articles. Other statistics are computed again with one of up to 40 blocks of articles left out at a time:
the delete-a-group jackknife (Kott 2001, Journal of Official Statistics 17), whose cost does not grow with
the number of articles.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from newsie.errors import MissingExtraError

__all__ = [
    "Estimate",
    "Interval",
    "Z",
    "f1_score",
    "jackknife",
    "jackknife_variance",
    "mean",
    "newcombe",
    "paired",
    "q_values",
    "share",
    "student_quantile",
    "student_tail",
]

Floats = NDArray[np.float64]

Z = 1.959963984540054
"""The 97.5 % quantile of the normal distribution, for 95 % intervals."""


@dataclass(frozen=True)
class Interval:
    """The bounds of a 95 % confidence interval."""

    low: float
    high: float


@dataclass(frozen=True)
class Estimate:
    """A value with the bounds of its 95 % confidence interval."""

    value: float
    low: float
    high: float

    @property
    def interval(self) -> Interval:
        """The interval without the value."""
        return Interval(self.low, self.high)

    def map(self, function: Any) -> Estimate:
        """Return an increasing function of the value and of its interval."""
        return Estimate(function(self.value), function(self.low), function(self.high))

    def within(self, least: float, most: float) -> Estimate:
        """Return the same value with its interval clipped to what is possible."""
        # In this order a NaN bound becomes the limit.
        return Estimate(self.value, max(least, self.low), min(most, self.high))


def share(count: float, total: float) -> Estimate | None:
    """Return a proportion with Wilson's interval (Wilson 1927); None if the total is 0."""
    if total <= 0:
        return None
    p, z2 = count / total, Z * Z / total
    middle = (p + z2 / 2) / (1 + z2)
    half = Z * math.sqrt(p * (1 - p) / total + z2 / (4 * total)) / (1 + z2)
    return Estimate(p, max(0.0, min(p, middle - half)), min(1.0, max(p, middle + half)))


def f1_score(right: int, union: int) -> Estimate | None:
    """Return the F1 of a label with its interval; None without articles.

    J = TP / (TP + FP + FN) is a proportion, and F1 is the increasing function 2 J / (1 + J) of it (Hand,
    Christen & Kirielle 2021, "F*: an interpretable transformation of the F-measure", Machine Learning
    110). The interval is Wilson's for J, transformed likewise (Lam, Gopal & Qian 2023, arXiv 2309.14621).

    Args:
        right: TP, articles of the label that are predicted as it.
        union: TP + FP + FN, articles that have the label or are predicted as it.
    """
    jaccard = share(right, union)
    return None if jaccard is None else jaccard.map(lambda j: 2 * j / (1 + j))


def mean(value: float, standard_error: float) -> Estimate:
    """Return a mean with its normal interval."""
    return Estimate(value, value - Z * standard_error, value + Z * standard_error)


def newcombe(first: Estimate, second: Estimate) -> Estimate:
    """Return first - second for Wilson shares of different articles (Newcombe 1998, method 10)."""
    d = first.value - second.value
    down = math.hypot(first.value - first.low, second.high - second.value)
    up = math.hypot(first.high - first.value, second.value - second.low)
    return Estimate(d, d - down, d + up)


def paired(only_first: int, only_second: int, total: int) -> Estimate:
    """Return the difference of two shares of the same articles, (only_first - only_second) / total.

    The interval is Wald's with half an article added to each cell (Agresti & Min 2005, Statistics
    in Medicine 24, "Simple improved confidence intervals for comparing matched proportions").

    Args:
        only_first: articles that count in the first share alone.
        only_second: articles that count in the second share alone.
        total: number of all articles.
    """
    b, c, n = only_first + 0.5, only_second + 0.5, total + 2
    middle = (b - c) / n
    half = Z * math.sqrt(max(0.0, b + c - (b - c) ** 2 / n)) / n
    value = (only_first - only_second) / total
    return Estimate(value, max(-1.0, middle - half), min(1.0, middle + half))


def jackknife_variance(without: ArrayLike) -> Floats:
    """Return the variance of a statistic from its values (B, ...) without each block; infinite for B = 1."""
    values = np.asarray(without, dtype=np.float64)
    blocks = len(values)
    if blocks < 2:
        return np.full(values.shape[1:], np.inf)
    return np.asarray((blocks - 1) / blocks * ((values - values.mean(axis=0)) ** 2).sum(axis=0))


def jackknife(value: float, without: ArrayLike) -> Estimate:
    """Return a statistic with Student's interval, from its values (B,) without each of B blocks."""
    values = np.asarray(without, dtype=np.float64)
    if len(values) < 2:
        return Estimate(value, -math.inf, math.inf)
    half = student_quantile(len(values)) * math.sqrt(float(jackknife_variance(values)))
    return Estimate(value, value - half, value + half)


def student_quantile(blocks: int) -> float:
    """Return the 97.5 % quantile of Student's distribution for a variance from that many blocks."""
    return float(_scipy_stats().t.ppf(0.975, blocks - 1))


def student_tail(t: ArrayLike, blocks: int) -> Floats:
    """Return P(T >= t) for a variance from that many blocks."""
    return np.asarray(_scipy_stats().t.sf(t, blocks - 1), dtype=np.float64)


def q_values(p_values: ArrayLike) -> Floats:
    """Return q-values: for each p-value, the false discovery rate among all tests with as small a p-value.

    Benjamini & Hochberg 1995; valid for tests that depend on each other positively.
    """
    p = np.asarray(p_values, dtype=np.float64)
    return np.asarray(_scipy_stats().false_discovery_control(p)) if p.size else p


def _scipy_stats() -> Any:
    try:
        return import_module("scipy.stats")
    except ImportError as error:
        raise MissingExtraError("an analysis of confusion", "scipy", "analysis") from error
