"""Checks for duplicates: within a file, with different labels, or in the test file as well."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from newsie.data.articles import Article
from newsie.data.duplicates import duplicate_groups
from newsie.doctor.findings import MAX_EXAMPLES, Example, Finding, Severity
from newsie.doctor.label_checks import spelled
from newsie.doctor.reading import NewsFile
from newsie.texts import plural

__all__ = ["Copies", "check_copies", "check_leak", "find_copies"]

THRESHOLD = 0.8
"""The similarity of near duplicates, which is also the default of recipes."""

MUCH_LEAK = 0.01
"""The share of leaked test articles above which test scores are off by more than their uncertainty."""


@dataclass(frozen=True)
class Copies:
    """The duplicates among the articles.

    Attributes:
        groups: (N + M,) position of the first article in each article's group; the M articles of a
            test file follow the N of the file.
        exact: groups of articles with the same text among the N: lists of two or more positions, in
            order.
    """

    groups: NDArray[np.int64]
    exact: Sequence[Sequence[int]]


def find_copies(
    file: NewsFile,
    test: NewsFile | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Copies:
    """Find the duplicates within a file, and between it and a test file, as training does.

    Raises:
        MissingExtraError: datasketch is not installed.
    """
    articles = [*_compared(file), *(_compared(test) if test else ())]
    groups = duplicate_groups(articles, threshold=THRESHOLD, progress=progress)
    by_text: dict[tuple[str, str], list[int]] = defaultdict(list)
    for i, article in enumerate(articles[: len(file.articles)]):
        by_text[article.headline.casefold(), " ".join(article.body.casefold().split())].append(i)
    return Copies(groups, [found for found in by_text.values() if len(found) > 1])


def _compared(file: NewsFile) -> list[Article]:
    """Return the articles without site names in headlines, which differ from copy to copy."""
    return [
        replace(article, headline=headline)
        for article, headline in zip(file.articles, file.headlines, strict=True)
    ]


def check_copies(file: NewsFile, copies: Copies) -> Iterator[Finding]:
    """Find duplicates within a file, and those with different labels."""
    again = [i for found in copies.exact for i in found[1:]]
    if again:
        yield Finding(
            "exact-duplicates",
            Severity.warning,
            f"{plural(len(again), 'article is', 'articles are')} there before, word for word",
            "Training keeps one of each, and so does --fix.",
            len(again),
            examples=tuple(
                Example(file.headlines[found[0]], file.numbers[found[0]], _rows(file, found[1:]))
                for found in copies.exact[:MAX_EXAMPLES]
            ),
            rows=tuple(file.numbers[i] for i in sorted(again)),
        )
    exact = set(again)
    groups = copies.groups[: len(file.articles)]
    near = [i for i, first in enumerate(groups) if first != i and i not in exact]
    if near:
        yield Finding(
            "near-duplicates",
            Severity.note,
            f"{plural(len(near), 'article is', 'articles are')} nearly the same as another one",
            "Training keeps one of each; nothing to do. --fix leaves them in the file.",
            len(near),
            examples=tuple(
                Example(
                    file.headlines[i],
                    file.numbers[i],
                    f"like row {file.numbers[groups[i]]:,}: {file.headlines[groups[i]]}",
                )
                for i in near[:MAX_EXAMPLES]
            ),
            rows=tuple(file.numbers[i] for i in near),
        )
    for task in file.rules:
        yield from _check_conflicts(file, task, groups)


def _check_conflicts(file: NewsFile, task: str, groups: NDArray[np.int64]) -> Iterator[Finding]:
    labels = spelled(file, task)
    members: dict[int, list[int]] = defaultdict(list)
    for i, first in enumerate(groups):
        if labels[i] is not None:
            members[int(first)].append(i)
    found = [m for m in members.values() if len({labels[i] for i in m}) > 1]
    rows = sorted(file.numbers[i] for m in found for i in m)
    if found:
        yield Finding(
            "conflicting-labels",
            Severity.problem,
            f"{plural(len(found), 'article is', 'articles are')} there several times with "
            f"different labels ({len(rows):,} rows)",
            "Decide which label is right, or train on the first only, as training does by itself. "
            "--fix keeps one of each that are the same word for word and takes its label away.",
            len(found),
            task,
            tuple(
                Example(
                    file.headlines[m[0]],
                    file.numbers[m[0]],
                    ", ".join(f"row {file.numbers[i]:,}: {labels[i]!r}" for i in m[:MAX_EXAMPLES]),
                )
                for m in found[:MAX_EXAMPLES]
            ),
            tuple(rows),
        )


def check_leak(file: NewsFile, test: NewsFile, copies: Copies) -> Iterator[Finding]:
    """Find test articles that the file also contains, and labels that only one of the files has."""
    size = len(file.articles)
    own: dict[int, int] = {}
    for i, first in enumerate(copies.groups[:size]):
        own.setdefault(int(first), i)
    pairs = [(own[int(g)], i) for i, g in enumerate(copies.groups[size:]) if int(g) in own]
    if pairs:
        share = len(pairs) / len(test.articles)
        yield Finding(
            "test-leak",
            Severity.problem if share >= MUCH_LEAK else Severity.warning,
            f"{plural(len(pairs), 'test article', 'test articles')} ({share:.1%}) can be learnt by "
            "heart: the file to train on has them, too",
            "Figures on such a test file are too good. Training leaves these rows of the file "
            "out; other programs do not, so take them out of one of the files.",
            len(pairs),
            examples=tuple(
                Example(file.headlines[a], file.numbers[a], f"row {test.numbers[b]:,} of the test")
                for a, b in pairs[:MAX_EXAMPLES]
            ),
            rows=tuple(sorted({file.numbers[a] for a, _ in pairs})),
            details={"test_rows": [test.numbers[b] for _, b in pairs]},
        )
    for task in file.rules:
        yield from _check_unseen(file, test, task)


def _check_unseen(file: NewsFile, test: NewsFile, task: str) -> Iterator[Finding]:
    trained, tested = file.counts(task), test.counts(task)
    unseen = {label: n for label, n in tested.items() if label not in trained}
    if unseen:
        yield Finding(
            "test-labels",
            Severity.problem,
            f"{plural(len(unseen), 'label', 'labels')} of the test file "
            f"({plural(sum(unseen.values()), 'article', 'articles')}) cannot be learnt: the file "
            "to train on does not have them",
            "Write the labels of both files the same, or add articles to train on.",
            len(unseen),
            task,
            tuple(Example(label, note=f"{n:,} test articles") for label, n in unseen.items())[
                :MAX_EXAMPLES
            ],
            details={"labels": unseen},
        )
    untested = [label for label in trained if label not in tested]
    if untested:
        yield Finding(
            "untested-labels",
            Severity.warning,
            f"{plural(len(untested), 'label', 'labels')} cannot be measured: the test file has no "
            "article of them",
            "Add test articles of these labels.",
            len(untested),
            task,
            tuple(Example(label) for label in untested[:MAX_EXAMPLES]),
        )


def _rows(file: NewsFile, found: Sequence[int]) -> str:
    shown = ", ".join(f"{file.numbers[i]:,}" for i in found[:MAX_EXAMPLES])
    more = f" and {len(found) - MAX_EXAMPLES:,} more" if len(found) > MAX_EXAMPLES else ""
    return f"again in row {shown}{more}"
