"""Predictions for many articles: the probabilities of a model, checked once and read in chunks.

N articles, C labels. `probabilities` are (N, C), float32 or float64, and may be memory-mapped. No step
of the analysis copies them whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from newsie.errors import InputError, LabelError
from newsie.labels import IGNORE

__all__ = ["Answers", "fault_of", "read_answers"]

Floats = NDArray[np.floating[Any]]
Indices = NDArray[np.int64]

TOLERANCE = 1e-3
"""The largest deviation of an article's summed probabilities from 1, for float16 and printed figures."""

BLOCKS = 40
"""The number of blocks that articles are dealt into for delete-one-block jackknife intervals."""

_CHUNK = 4_000_000  # probabilities held in memory at a time


@dataclass(frozen=True, eq=False)
class Answers:
    """Probabilities for N articles, with the quantities derived from them that are used most.

    Attributes:
        labels: the C names.
        probabilities: (N, C).
        gold: class indices (N,), IGNORE where there is no gold label.
        predicted: the best label (N,).
        second: the second best label (N,).
        confidence: probability of the best label (N,).
        runner_up: probability of the second best label (N,).
    """

    labels: tuple[str, ...]
    probabilities: Floats
    gold: Indices
    predicted: Indices
    second: Indices
    confidence: NDArray[np.float32]
    runner_up: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.predicted)

    @property
    def classes(self) -> int:
        """The number of labels, C."""
        return len(self.labels)

    @property
    def labelled(self) -> Indices:
        """The rows with a gold label."""
        return np.flatnonzero(self.gold != IGNORE)

    @cached_property
    def occurring(self) -> NDArray[np.bool_]:
        """A mask (C,) of the labels that occur as gold or predicted.

        Only articles with a gold label count; if there are none, all articles count.
        """
        rows = self.labelled if len(self.labelled) else slice(None)
        found = np.zeros(self.classes, bool)
        found[self.predicted[rows]] = True
        found[self.gold[self.labelled]] = True
        return found

    @property
    def block_count(self) -> int:
        """The number of blocks, B."""
        return min(BLOCKS, len(self))

    @property
    def blocks(self) -> Indices:
        """The block of each article, (N,), dealt in turn: 0 to B - 1."""
        return np.arange(len(self)) % self.block_count

    def chunks(self) -> Iterator[slice]:
        """Yield slices of the articles, each small enough to hold its probabilities in memory."""
        return _chunks(*self.probabilities.shape)

    def columns(self, labels: Sequence[int]) -> NDArray[np.float32]:
        """Return the probabilities of the given labels, (len(labels), N)."""
        found = np.empty((len(labels), len(self)), np.float32)
        for chunk in self.chunks():
            found[:, chunk] = self.probabilities[chunk][:, list(labels)].T
        return found

    def sums(self, groups: Indices, count: int, *, squared: bool = False) -> NDArray[np.float64]:
        """Return the probabilities, or their squares, summed over the articles of each group, (count, C).

        Args:
            groups: (N,) numbers below `count`; articles with a negative one are left out.
            count: number of groups.
            squared: sum the squares.
        """
        total = np.zeros((count, self.classes))
        for chunk in self.chunks():
            group = groups[chunk]
            order = np.argsort(group, kind="stable")
            order = order[np.searchsorted(group[order], 0) :]
            if not len(order):
                continue
            values = np.asarray(self.probabilities[chunk][order], dtype=np.float64)
            found, starts = np.unique(group[order], return_index=True)
            total[found] += np.add.reduceat(values**2 if squared else values, starts, axis=0)
        return total


def read_answers(
    labels: Sequence[str],
    probabilities: ArrayLike,
    gold: ArrayLike | Sequence[str | None] | None = None,
) -> Answers:
    """Check probabilities and find the two best labels of each article.

    Args:
        labels: C names.
        probabilities: (N, C); rows sum to 1.
        gold: (N,) class indices with IGNORE (-100) for no label, or names with None, NaN or "" for no label.

    Raises:
        InputError: there are no articles or fewer than two labels, the shapes do not match, or a row holds
            something that is not a probability or does not sum to 1.
        LabelError: a gold label is not among the labels.
    """
    names = tuple(labels)
    p = _array(probabilities, "probabilities")
    _check_shape(names, p)
    n = len(p)
    predicted, second = np.empty(n, np.int64), np.empty(n, np.int64)
    confidence, runner_up = np.empty(n, np.float32), np.empty(n, np.float32)
    for chunk in _chunks(*p.shape):
        part = np.array(p[chunk])
        _check_rows(part, chunk.start)
        rows = np.arange(len(part))
        predicted[chunk] = best = part.argmax(axis=1)
        confidence[chunk] = part[rows, best]
        part[rows, best] = -1
        second[chunk] = next_best = part.argmax(axis=1)
        runner_up[chunk] = part[rows, next_best]
    return Answers(names, p, _indices(gold, names, n), predicted, second, confidence, runner_up)


def _chunks(articles: int, classes: int) -> Iterator[slice]:
    step = max(1, _CHUNK // classes)
    return (slice(start, min(start + step, articles)) for start in range(0, articles, step))


def _array(values: Any, what: str) -> NDArray[Any]:
    try:
        found: NDArray[Any] = np.asanyarray(values)
    except ValueError as error:  # raised for rows of unequal length
        raise InputError(f"{what} are no array: {error}") from error
    return found


def _check_shape(labels: tuple[str, ...], p: NDArray[Any]) -> None:
    if len(labels) < 2:
        raise InputError(
            f"{len(labels)} label(s) {list(labels)}: nothing can be confused; give at least 2"
        )
    if len(set(labels)) != len(labels):
        raise InputError(f"each label once; given: {list(labels)}")
    if p.ndim != 2 or p.shape[1] != len(labels):
        raise InputError(
            f"probabilities are {p.shape}; for {len(labels)} labels they must be (N, {len(labels)})"
        )
    if not len(p):
        raise InputError("there is no article; give the probabilities of at least one")
    if not np.issubdtype(p.dtype, np.floating):
        raise InputError(f"probabilities are of type {p.dtype}; give float32 or float64")


def fault_of(row: NDArray[Any]) -> str | None:
    """Return what is wrong with the probabilities of an article (C,) as a verb phrase, or None."""
    total = row.sum(dtype=np.float64)
    if not np.isfinite(row).all():
        return f"hold {row[~np.isfinite(row)][0]}, which is no number"
    if row.min() < 0:
        return f"hold {row.min():g}, and no probability is below 0"
    return None if abs(total - 1) <= TOLERANCE else f"sum to {total:g} and not to 1"


def _check_rows(part: NDArray[Any], first: int) -> None:
    """Raise InputError, naming the row and the fault, unless every row is a distribution."""
    sums = part.sum(axis=1, dtype=np.float64)
    bad = ~((abs(sums - 1) <= TOLERANCE) & (part.min(axis=1) >= 0))  # true for NaN too
    if not bad.any():
        return
    row = int(bad.argmax())
    raise InputError(
        f"the probabilities of article {first + row:,} (from 0) {fault_of(part[row])}; that is so for "
        f"{int(bad.sum()):,} of the {len(part):,} articles around it. Give a softmax over the labels; "
        "logits are turned into one by newsie.metrics.evaluation.softmax"
    )


def _indices(
    gold: ArrayLike | Sequence[str | None] | None, labels: tuple[str, ...], n: int
) -> Indices:
    if gold is None:
        return np.full(n, IGNORE, np.int64)
    given = _array(gold, "gold labels")
    if given.shape != (n,):
        raise InputError(f"gold labels are {given.shape}; for {n:,} articles they must be ({n},)")
    if given.dtype.kind in "OU":
        # pandas marks a missing name with NaN, which alone is not equal to itself. Compare as
        # objects, because numpy turns NaN among strings into a string.
        names = np.asarray(gold, dtype=object).tolist()
        return _named([name if name == name else None for name in names], labels)
    if given.dtype.kind not in "iu":
        raise InputError(f"gold labels are of type {given.dtype}; give class indices or names")
    unknown = (given != IGNORE) & ((given < 0) | (given >= len(labels)))
    if unknown.any():
        raise LabelError(
            f"gold label {given[unknown][0]} of article {int(unknown.argmax()):,} is no class "
            f"index of {len(labels)} labels; allowed are 0 to {len(labels) - 1}, and {IGNORE} for none"
        )
    return given.astype(np.int64)


def _named(gold: list[Any], labels: tuple[str, ...]) -> Indices:
    index: dict[Any, int] = {label: i for i, label in enumerate(labels)} | {None: IGNORE}
    index.setdefault("", IGNORE)
    unknown = [name for name in dict.fromkeys(gold) if name not in index]
    if unknown:
        raise LabelError(
            f"gold labels that are not among the labels: {', '.join(map(repr, unknown[:5]))}; "
            f"allowed: {', '.join(labels)}, and None or '' for none"
        )
    return np.array([index[name] for name in gold], np.int64)
