"""Scores of arms and differences between two of them, with intervals over both seeds and test articles.

A value is a mean over seeds of a mean over tasks. Its interval adds two variances: that between seeds
(Student's distribution: other labelled articles, teacher, order) and that of the test articles (the
delete-a-group jackknife of `newsie.metrics.estimates`). The interaction of seeds and articles is in both,
so that intervals are a little wide. Both arms of a difference have the same seeds and articles, so that
effects which they share cancel out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from newsie.labels import IGNORE
from newsie.metrics.estimates import (
    Estimate,
    jackknife_variance,
    student_quantile,
    student_tail,
)
from newsie.metrics.evaluation import accuracy, macro_f1

__all__ = ["MEASURES", "Contrast", "Measure", "Verdict", "contrast", "estimate", "measured"]

Measure = Literal["macro_f1", "accuracy"]
Verdict = Literal["holds", "does not hold", "too close to call"]
MEASURES: tuple[Measure, ...] = ("macro_f1", "accuracy")
_METRICS = {"macro_f1": macro_f1, "accuracy": accuracy}

BLOCKS = 40
"""The number of blocks of test articles that are left out, one at a time."""

Labels = Mapping[str, NDArray[np.int64]]
Values = NDArray[np.float64]


def measured(predicted: Sequence[Labels], gold: Labels, measure: Measure) -> Values:
    """Return a metric (S, 1 + B) by seed: on all articles, then without each of B blocks of articles.

    Args:
        predicted: by seed, (N,) labels by task.
        gold: (N,) by task; IGNORE if there is none.
        measure: the metric; tasks are averaged.
    """
    total = len(next(iter(gold.values())))
    # Neighbours in a file, often of one day or outlet, are in different blocks.
    block = np.arange(total) % min(BLOCKS, total)
    kept = [np.ones(total, bool), *(block != b for b in range(block.max() + 1))]
    return np.array([[_mean_over_tasks(p, gold, measure, k) for k in kept] for p in predicted])


def _mean_over_tasks(
    predicted: Labels, gold: Labels, measure: Measure, kept: NDArray[np.bool_]
) -> float:
    metric, values = _METRICS[measure], []
    for task, column in gold.items():
        chosen = kept & (column != IGNORE)
        if chosen.any():
            values.append(metric(predicted[task][chosen], column[chosen]))
    return float(np.mean(values))


def estimate(values: Values) -> Estimate:
    """Return the mean over seeds of values from `measured`; its interval is infinite for one seed."""
    seeds = len(values)
    mean = float(values[:, 0].mean())
    if seeds < 2:
        return Estimate(mean, -math.inf, math.inf)
    between = student_quantile(seeds) * values[:, 0].std(ddof=1) / math.sqrt(seeds)
    without = values[:, 1:].mean(axis=0)
    within = student_quantile(len(without)) * math.sqrt(float(jackknife_variance(without)))
    half = math.hypot(between, within)
    return Estimate(mean, mean - half, mean + half)


@dataclass(frozen=True)
class Contrast:
    """The difference between two arms.

    Attributes:
        first, second: names of the arms.
        measure: the metric.
        difference: first - second, with its 95 % interval.
        p: two-sided p of a paired t-test over the seeds alone.
        wins: number of seeds for which the first is better.
        seeds: number of seeds.
        attack: name of the attack on the articles; empty for none.
    """

    first: str
    second: str
    measure: Measure
    difference: Estimate
    p: float
    wins: int
    seeds: int
    attack: str = ""

    @property
    def verdict(self) -> Verdict:
        """The verdict on the claim that the first arm is better."""
        if self.difference.low > 0:
            return "holds"
        return "does not hold" if self.difference.high < 0 else "too close to call"


def contrast(
    names: tuple[str, str], first: Values, second: Values, measure: Measure, attack: str = ""
) -> Contrast:
    """Compare the values from `measured` of two arms on the same seeds and articles."""
    difference = first - second
    by_seed = difference[:, 0]
    return Contrast(
        *names,
        measure,
        estimate(difference),
        _paired_p(by_seed),
        int((by_seed > 0).sum()),
        len(by_seed),
        attack,
    )


def _paired_p(differences: Values) -> float:
    """Return the two-sided p of a t-test that the mean difference is 0; 1 for fewer than two seeds."""
    seeds = len(differences)
    if seeds < 2:
        return 1.0
    error = differences.std(ddof=1) / math.sqrt(seeds)
    if error == 0:
        return 1.0 if differences.mean() == 0 else 0.0
    return float(2 * student_tail(abs(differences.mean()) / error, seeds))
