"""Calibration temperatures, and the check of the accuracy that int8 loses."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from newsie.errors import QualityGateError
from newsie.labels import IGNORE
from newsie.metrics.evaluation import fit_calibration_temperature

__all__ = ["accuracy_lost", "calibrate", "check_quality", "labelled_rows"]

Logits = Mapping[str, NDArray[np.float32]]
Labels = Mapping[str, NDArray[np.int64]]


def calibrate(
    logits: Logits, labels: Labels, otherwise: Mapping[str, float] | None = None
) -> dict[str, float]:
    """Return the temperature of each task that maximises the likelihood of held-out gold labels.

    Guo et al. 2017 (arXiv 1706.04599).

    Args:
        logits: (N, C) by task, of articles that were not trained on.
        labels: (N,) class indices by task; IGNORE where an article has no label.
        otherwise: temperatures for tasks without labelled articles; the default is 1.
    """
    temperatures = {}
    for task, values in logits.items():
        known = labels[task] != IGNORE
        temperatures[task] = (
            fit_calibration_temperature(values[known], labels[task][known])
            if known.any()
            else (otherwise or {}).get(task, 1.0)
        )
    return temperatures


def labelled_rows(labels: Labels, most: Mapping[str, int], seed: int = 0) -> NDArray[np.int64]:
    """Return ascending rows such that every task has up to `most` labelled articles, drawn at random."""
    random = np.random.default_rng(seed)
    chosen = [
        random.permutation(np.flatnonzero(column != IGNORE))[: most[task]]
        for task, column in labels.items()
    ]
    return np.unique(np.concatenate(chosen))


def accuracy_lost(before: Logits, after: Logits, labels: Labels) -> dict[str, float]:
    """Return the accuracy each task loses from `before` to `after`, in points (0.5 = half a per cent)."""
    lost = {}
    for task, column in labels.items():
        known = column != IGNORE
        if known.any():
            right = [
                float((z[task][known].argmax(-1) == column[known]).mean()) for z in (before, after)
            ]
            lost[task] = 100 * (right[0] - right[1])
    return lost


def check_quality(lost: Mapping[str, float], limit: float) -> None:
    """Raise QualityGateError if int8 costs a task more than `limit` points of accuracy."""
    failed = {task: points for task, points in lost.items() if points > limit}
    if failed:
        table = "\n".join(f"  {task:<16}{points:+.2f} points" for task, points in lost.items())
        raise QualityGateError(
            f"int8 loses more than {limit:g} points of accuracy on {', '.join(failed)}: give it more "
            "articles, or train it longer or with another seed; a recipe sets the limit as "
            f"quality.max_int8_loss. Accuracy lost:\n{table}"
        )
