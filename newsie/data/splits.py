"""Train, validation and test splits, by a hash of the id or by date."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from newsie.data.dates import read_date
from newsie.errors import InputError

__all__ = ["split_by_date", "split_by_hash"]


def split_by_hash(
    ids: Sequence[str],
    fractions: Mapping[str, float],
    *,
    seed: int = 0,
    groups: NDArray[np.int64] | None = None,
) -> NDArray[np.str_]:
    """Return the split of each article, (N,), from its id alone. Adding articles moves no other one.

    Args:
        ids: N ids, none empty.
        fractions: split -> share of the articles, in order; they sum to 1.
        seed: the seed; another one gives other splits.
        groups: (N,) index of the first article in each article's group, from `duplicate_groups`; a
            group goes into the split of that article.

    Raises:
        InputError: the fractions do not sum to 1, or an article has no id.
    """
    bounds = _bounds(fractions)
    if groups is not None and len(groups) != len(ids):
        raise InputError(f"{len(ids)} ids but {len(groups)} groups; one for each article")
    empty = next((position for position, id_ in enumerate(ids) if not id_), None)
    if empty is not None:
        raise InputError(
            f"article number {empty + 1} has no id, so its split would not be stable; give every "
            "article an id"
        )
    points = np.array([_point(id_, seed) for id_ in ids], dtype=np.float64)
    if groups is not None:
        points = points[groups]
    names = np.array(list(fractions), dtype=np.str_)
    return names[np.searchsorted(bounds, points, side="right")]


def _bounds(fractions: Mapping[str, float]) -> NDArray[np.float64]:
    """Return the inner bounds between the splits on [0, 1)."""
    values = list(fractions.values())
    if not values or any(not 0 <= v <= 1 for v in values) or not math.isclose(sum(values), 1):
        raise InputError(
            f"fractions must be between 0 and 1 and sum to 1; given: {dict(fractions)}, which sum "
            f"to {sum(values):g}"
        )
    return np.cumsum(values)[:-1]


def _point(id_: str, seed: int) -> float:
    """Return a number in [0, 1) that depends on id and seed only, the same on every machine."""
    data = f"{seed}\0{id_}".encode("utf-8", "surrogatepass")
    digest = hashlib.blake2b(data, digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53


def split_by_date(
    dates: Sequence[str | None], bounds: Mapping[str, str | None]
) -> NDArray[np.str_]:
    """Return the split of each article, (N,), by publication date: train on the past, test on the future.

    Args:
        dates: N dates, in a format that `read_date` parses.
        bounds: split -> its end, exclusive, in order; None for the last one, e.g.
            {"train": "2022-04-01", "test": None}.

    Raises:
        InputError: a date is missing or cannot be read, or the bounds are not in order.
    """
    *ends, last = bounds.values() or (None,)
    if not bounds or last is not None or None in ends:
        raise InputError(
            f"each split needs an end but the last, which has None; given: {dict(bounds)}"
        )
    limits = [_seconds(end, "bound", n) for n, end in enumerate(ends, 1)]
    if limits != sorted(set(limits)):
        raise InputError(f"the bounds must rise; given: {dict(bounds)}")
    points = [_seconds(date, "article", n) for n, date in enumerate(dates, 1)]
    names = np.array(list(bounds), dtype=np.str_)
    return names[np.searchsorted(np.array(limits), np.array(points), side="right")]


def _seconds(date: str | None, what: str, number: int) -> float:
    """Return the Unix time of a date. A date without a zone is taken as UTC."""
    moment = read_date(date)
    if moment is None:
        given = "no date" if not date else f"the date {date!r}"
        raise InputError(
            f"{what} number {number} has {given}; needed: ISO 8601, e.g. 2022-04-01, the date of a feed, "
            "or seconds since 1970; or split by hash"
        )
    return moment.timestamp()
