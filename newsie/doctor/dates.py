"""Checks of publication dates, and of how the shares of the labels change over time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from newsie.data.dates import read_date
from newsie.doctor.findings import MAX_EXAMPLES, Example, Finding, Severity
from newsie.doctor.label_checks import spelled
from newsie.doctor.reading import NewsFile
from newsie.texts import plural

__all__ = ["check_dates", "check_drift", "drift"]

MIN_ARTICLES = 100
MIN_SIDE = 20
"""The fewest articles on each side of the moment that divides them."""

MIN_DRIFT = 0.1
RESAMPLES = 200


def check_dates(file: NewsFile) -> Iterator[Finding]:
    """Find the range of dates, and dates that cannot be parsed."""
    if file.columns.published is None:
        return
    moments = [read_date(article.published) for article in file.articles]
    known = sorted(m for m in moments if m is not None)
    strange = [
        i for i, m in enumerate(moments) if m is None and (file.articles[i].published or "").strip()
    ]
    if strange:
        yield Finding(
            "dates-unreadable",
            Severity.warning,
            f"{plural(len(strange), 'date', 'dates')} in column {file.columns.published!r} cannot "
            "be read",
            "Write dates as 2024-05-31, 2024-05-31T18:00:00Z, as feeds do (Fri, 31 May 2024 18:00:00 "
            "GMT) or as seconds or milliseconds since 1970. They are needed for splitting by "
            "time and for seeing drift.",
            len(strange),
            examples=tuple(
                Example(file.articles[i].published or "", file.numbers[i])
                for i in strange[:MAX_EXAMPLES]
            ),
            rows=tuple(file.numbers[i] for i in strange),
        )
    if known:
        without = len(moments) - len(known)
        yield Finding(
            "dates",
            Severity.note,
            f"Articles from {known[0]:%Y-%m-%d} to {known[-1]:%Y-%m-%d}"
            + (f", {without:,} without a date" if without else ""),
            "Test on the newest ones: that is what the student will be asked about.",
            len(known),
            details={"first": known[0].isoformat(), "last": known[-1].isoformat()},
        )


def check_drift(file: NewsFile, task: str) -> Iterator[Finding]:
    """Find labels whose share differs between the older and the newer half of the articles."""
    pairs = [
        (moment, label)
        for article, label in zip(file.articles, spelled(file, task), strict=True)
        if label is not None and (moment := read_date(article.published)) is not None
    ]
    if len(pairs) < MIN_ARTICLES:
        return
    pairs.sort(key=lambda pair: pair[0])
    half = _middle([moment for moment, _ in pairs])
    if half is None:
        return
    names, labels = np.unique([label for _, label in pairs], return_inverse=True)
    distance, by_chance = drift(labels, half, len(names))
    if distance < MIN_DRIFT or distance <= by_chance:
        return
    old = np.bincount(labels[:half], minlength=len(names)) / half
    new = np.bincount(labels[half:], minlength=len(names)) / (len(labels) - half)
    order = np.argsort(-np.abs(new - old))
    yield Finding(
        "label-drift",
        Severity.warning,
        f"The labels shift over time: {distance:.0%} of the articles would have to change label to "
        f"make the newer ones like the older (chance alone: {by_chance:.0%})",
        "Old articles teach old habits. Test on the newest ones, and if a section was renamed, "
        "give it one name.",
        len(names),
        task,
        tuple(
            Example(
                str(names[i]),
                note=f"{old[i]:.1%} of the articles before {pairs[half][0]:%Y-%m-%d}, "
                f"{new[i]:.1%} since",
            )
            for i in order[:MAX_EXAMPLES]
        ),
        details={
            "distance": distance,
            "by_chance": by_chance,
            "from": pairs[half][0].isoformat(),
            "shares": {
                str(n): [float(a), float(b)] for n, a, b in zip(names, old, new, strict=True)
            },
        },
    )


def _middle(moments: Sequence[datetime]) -> int | None:
    """Return the position nearest to the middle of N sorted moments at which the moment changes, so that
    articles of one moment stay together. Return None if nearly all are of one moment."""
    changes = [i for i in range(1, len(moments)) if moments[i - 1] != moments[i]]
    nearest = min(changes, key=lambda i: abs(2 * i - len(moments)), default=0)
    return nearest if min(nearest, len(moments) - nearest) >= MIN_SIDE else None


def drift(labels: NDArray[np.int64], half: int, classes: int, seed: int = 0) -> tuple[float, float]:
    """Return the total variation distance between the labels before and after a point, and its chance level.

        1/2 sum over labels of |share before - share after|

    Args:
        labels: (N,) class indices in order of time.
        half: number of labels before the point.
        classes: number of classes.
        seed: seed of the random orders.

    Returns:
        The distance, and its 99th percentile over random orders of the same labels.
    """
    total = np.bincount(labels, minlength=classes)

    def distance(before: NDArray[np.int64]) -> NDArray[np.float64]:
        shares = before / half - (total - before) / (len(labels) - half)
        return np.asarray(np.abs(shares).sum(axis=-1) / 2, dtype=np.float64)

    random = np.random.default_rng(seed)
    drawn = random.multivariate_hypergeometric(total, half, size=RESAMPLES, method="marginals")
    found = distance(np.bincount(labels[:half], minlength=classes))
    return float(found), float(np.quantile(distance(drawn), 0.99))
