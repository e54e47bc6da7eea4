"""Checks of labels: too few, too many, numbers instead of names, inconsistent spellings."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from difflib import SequenceMatcher
from itertools import combinations

from newsie.data.label_names import NUMBER, combined_labels, placeholders, plain_label, spellings
from newsie.doctor.findings import MAX_EXAMPLES, Example, Finding, Severity
from newsie.doctor.reading import NewsFile
from newsie.texts import plural

__all__ = ["check_labels", "spelled"]

MIN_ARTICLES = 20
"""The fewest articles of a label. By default, training drops labels with fewer."""

MANY_LABELS = 300
DOMINANT = 0.8
ALIKE = 0.86
"""The lowest ratio of matching characters at which two labels may be spellings of one."""


def check_labels(file: NewsFile, task: str) -> Iterator[Finding]:
    """Find problems with the labels of a task."""
    counts = file.counts(task)
    merged = dict(Counter(x for x in spelled(file, task) if x is not None).most_common())
    yield from _check_number_of_labels(file, task, merged)
    yield from _check_combined(task, counts)
    yield from _check_placeholders(task, counts)
    yield from _check_spellings(task, counts)
    yield from _check_lookalikes(task, merged)
    yield from _check_rare(task, merged)
    yield from _check_shape(file, task, merged)


def spelled(file: NewsFile, task: str) -> list[str | None]:
    """Return the N labels of a task, each in its most frequent spelling, or None if missing."""
    better = spellings(file.counts(task))
    return [None if x is None else better.get(x, x) for x in file.labels(task)]


def _check_number_of_labels(
    file: NewsFile, task: str, counts: Mapping[str, int]
) -> Iterator[Finding]:
    labelled, column = sum(counts.values()), file.rules[task].column
    shown = tuple(Example(label, note=f"{n:,} articles") for label, n in list(counts.items())[:3])
    if len(counts) < 2:
        what = (
            f"all {labelled:,} articles have the label {next(iter(counts))!r}"
            if counts
            else ("no article has a label")
        )
        yield Finding(
            "one-label" if counts else "no-labels",
            Severity.problem,
            f"Nothing can be learnt from column {column!r}: {what}",
            "A student learns to tell labels apart, so it needs two at least. Check that this is "
            "the right column (--task), or add articles of other labels.",
            len(counts),
            task,
            shown,
        )
    elif len(counts) > max(MIN_ARTICLES, labelled / 2):
        yield Finding(
            "labels-are-texts",
            Severity.problem,
            f"Column {column!r} hardly repeats: {len(counts):,} different labels for "
            f"{labelled:,} articles",
            "This looks like a column of names, texts or ids, not of labels. Name the right "
            "column with --task COLUMN.",
            len(counts),
            task,
            shown,
        )
    elif len(counts) > MANY_LABELS:
        yield Finding(
            "many-labels",
            Severity.warning,
            f"{len(counts):,} labels are more than a student tells apart well; on average a label "
            f"has {labelled / len(counts):.0f} articles",
            f"Merge them into {MANY_LABELS} or fewer, or check that this is the right column "
            "(--task COLUMN).",
            len(counts),
            task,
            shown,
        )
    if counts and all(NUMBER.fullmatch(label) for label in counts):
        yield Finding(
            "labels-are-numbers",
            Severity.problem,
            f"The labels are numbers ({', '.join(sorted(counts)[:4])}, ...)",
            "The student would answer with these numbers. Put names in their place, name them in "
            f"newsie retrain (--map {min(counts)}=NAME and so on), or name the column that has the "
            "names with --task COLUMN.",
            len(counts),
            task,
            shown,
        )


def _check_combined(task: str, counts: Mapping[str, int]) -> Iterator[Finding]:
    found = combined_labels(counts)
    if found:
        yield Finding(
            "label-combined",
            Severity.problem,
            found.describe(),
            "A task has one label for each article, so each combination would be learnt as a label "
            "of its own. Keep one label in each cell, or give each kind of label a column of its own.",
            len(found.counts),
            task,
            tuple(
                Example(label, note=plural(n, "article", "articles"))
                for label, n in list(found.counts.items())[:MAX_EXAMPLES]
            ),
            details={"labels": dict(found.counts), "separator": found.separator},
        )


def _check_placeholders(task: str, counts: Mapping[str, int]) -> Iterator[Finding]:
    found = placeholders(counts)
    if found:
        yield Finding(
            "label-placeholder",
            Severity.warning,
            f"{plural(len(found), 'label reads', 'labels read')} like none "
            f"({plural(sum(found.values()), 'article', 'articles')})",
            "They would be learnt and answered like any other label. If they mean that there is no "
            "label, leave these cells empty; --fix leaves them alone.",
            len(found),
            task,
            tuple(
                Example(label, note=plural(n, "article", "articles"))
                for label, n in list(found.items())[:MAX_EXAMPLES]
            ),
            details={"labels": found},
        )


def _check_spellings(task: str, counts: Mapping[str, int]) -> Iterator[Finding]:
    found = spellings(counts)
    if found:
        yield Finding(
            "label-spelling",
            Severity.problem,
            f"{plural(len(found), 'label is', 'labels are')} another one in other spelling "
            "(capitals, spaces, punctuation)",
            "Each spelling would be learnt as a label of its own. --fix gives all of them the "
            "most frequent spelling.",
            len(found),
            task,
            _pairs(found, counts),
            details={"spellings": found},
        )


def _check_lookalikes(task: str, counts: Mapping[str, int]) -> Iterator[Finding]:
    if len(counts) > MANY_LABELS:
        return
    found = {
        min(a, b, key=lambda label: counts[label]): max(a, b, key=lambda label: counts[label])
        for a, b in combinations(counts, 2)
        if _look_alike(a, b)
    }
    if found:
        yield Finding(
            "label-lookalike",
            Severity.warning,
            f"{plural(len(found), 'label looks', 'labels look')} like another one: misspelt, in "
            "other words, or a part of it",
            "If two of them mean the same, write them the same in the file, or say so in newsie "
            "retrain: --map theirs=ours. --fix leaves them alone.",
            len(found),
            task,
            _pairs(found, counts),
            details={"pairs": found},
        )


def _look_alike(a: str, b: str) -> bool:
    words_a, words_b = (set(re.findall(r"\w+", x.casefold())) - {"and", "the"} for x in (a, b))
    if NUMBER.fullmatch(a) or NUMBER.fullmatch(b):
        return False
    if words_a and words_b and (words_a <= words_b or words_b <= words_a):
        return True
    a, b = plain_label(a), plain_label(b)
    if min(len(a), len(b)) < 4:
        return False
    if _swapped(a, b):
        return True
    matcher = SequenceMatcher(None, a, b, autojunk=False)
    return matcher.real_quick_ratio() >= ALIKE and matcher.ratio() >= ALIKE


def _swapped(a: str, b: str) -> bool:
    """Return True if two labels differ in two swapped adjacent letters: "sport" and "sprot"."""
    places = [i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y]
    if len(a) != len(b) or len(places) != 2:
        return False
    first, second = places
    return second == first + 1 and a[first] + a[second] == b[second] + b[first]


def _check_rare(task: str, counts: Mapping[str, int]) -> Iterator[Finding]:
    rare = {label: n for label, n in counts.items() if n < MIN_ARTICLES}
    if not rare or len(counts) < 2:
        return
    yield Finding(
        "label-too-few",
        Severity.warning,
        f"{plural(len(rare), 'label has', 'labels have')} fewer than {MIN_ARTICLES} articles "
        f"({sum(rare.values()):,} articles in all)",
        f"Collect {MIN_ARTICLES} articles or more for each, merge them with a wider label, or "
        "expect them to be left out or answered badly.",
        len(rare),
        task,
        tuple(
            Example(label, note=plural(n, "article", "articles"))
            for label, n in sorted(rare.items(), key=lambda item: item[1])[:MAX_EXAMPLES]
        ),
        details={"labels": rare},
    )


def _check_shape(file: NewsFile, task: str, counts: Mapping[str, int]) -> Iterator[Finding]:
    labelled = sum(counts.values())
    first = next(iter(counts), "")
    if len(counts) > 1 and counts[first] >= DOMINANT * labelled:
        share = counts[first] / labelled
        yield Finding(
            "label-dominates",
            Severity.warning,
            f"{share:.0%} of the articles are labelled {first!r}",
            "A model that always answers this label is right as often. Read the figures by label "
            "(macro-F1), and add articles of the other labels.",
            counts[first],
            task,
        )
    missing = [n for n, label in zip(file.numbers, file.labels(task), strict=True) if label is None]
    if missing and counts:
        yield Finding(
            "unlabelled",
            Severity.note,
            f"{plural(len(missing), 'article has', 'articles have')} no label",
            "They are of use: the student learns from what the teacher or the old student says "
            "about them.",
            len(missing),
            task,
            rows=tuple(missing),
        )


def _pairs(found: Mapping[str, str], counts: Mapping[str, int]) -> tuple[Example, ...]:
    def many(label: str) -> str:
        return f"{label!r} ({plural(counts[label], 'article', 'articles')})"

    order = sorted(found.items(), key=lambda pair: -counts[pair[0]])
    return tuple(Example(f"{many(a)} and {many(b)}") for a, b in order[:MAX_EXAMPLES])
