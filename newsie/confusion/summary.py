"""The five things worth knowing, in plain sentences with figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice

import numpy as np

from newsie.confusion.analysis import Analysis
from newsie.confusion.comparison import Comparison
from newsie.confusion.groups import Group, GroupPair
from newsie.confusion.intervals import Estimate
from newsie.confusion.pairs import SURE
from newsie.confusion.reliability import smallest_promise
from newsie.confusion.sentences import count, interval, percent

__all__ = ["summarise"]

SENTENCES = 5

_SERVED = 0.9  # the precision whose threshold is told
_WEAKEST = 10  # articles that a label must have to be told as the weakest


def summarise(
    analyses: Mapping[str, Analysis], comparisons: Sequence[Comparison] = ()
) -> tuple[str, ...]:
    """Up to five sentences; most are about the task with the most confused articles.

    Args:
        analyses: task -> analysis.
        comparisons: of answers to the same articles.
    """
    tasks = sorted(analyses, key=lambda task: -_confused_articles(analyses[task]))
    said = _sentences(tasks, analyses, comparisons)
    return tuple(islice(said, SENTENCES))


def _sentences(
    tasks: Sequence[str], analyses: Mapping[str, Analysis], comparisons: Sequence[Comparison]
) -> Iterator[str]:
    main = analyses[tasks[0]]
    where = f"{tasks[0]}: " if len(tasks) > 1 else ""
    yield from _told(where, main, (_most_confused, _why))
    # A model to compare with was asked for, and so were groups: both are told.
    compared = sorted(comparisons, key=lambda comparison: comparison.kind != "models")
    said = [_named(comparison, where) + _compared(comparison) for comparison in compared]
    yield from said[:1]
    yield from _told(where, main, (_drift, _suspects))
    yield from said[1:]
    yield from _told(where, main, (_threshold,))
    for task in tasks[1:]:
        yield from _told(f"{task}: ", analyses[task], (_most_confused,))
    overlapping = (_most_overlapping,) if main.matrix else ()
    yield from _told(where, main, (_best_merge, _weakest, *overlapping))


def _told(
    where: str, analysis: Analysis, tellers: Sequence[Callable[[Analysis], str]]
) -> Iterator[str]:
    for tell in tellers:
        if sentence := tell(analysis):
            yield where + sentence


def _confused_articles(analysis: Analysis) -> int:
    if analysis.matrix is None:
        return 0
    return int(analysis.matrix.counts.sum() - np.trace(analysis.matrix.counts))


def _most_confused(analysis: Analysis) -> str:
    if analysis.matrix is None:
        return _without_gold(analysis)
    if not (pairs := analysis.matrix.most_confused(1)):
        labelled = len(analysis.answers.labelled)
        return f"every article with a gold label got it: {count(labelled, 'article')}."
    pair = pairs[0]
    index = analysis.answers.labels.index
    back = analysis.matrix.normalised()[index(pair.predicted), index(pair.gold)]
    reverse = "" if np.isnan(back) else f"; the reverse happens to {percent(back)}"
    return (
        f"the most frequent mistake is {pair.gold} read as {pair.predicted}: "
        f"{count(pair.articles, 'article')}, {interval(pair.share)} of {pair.gold}{reverse}."
    )


def _without_gold(analysis: Analysis) -> str:
    if analysis.overlap is None:
        return (
            "there are no gold labels, and too few labels or articles to tell from the "
            "probabilities alone which labels overlap."
        )
    return _most_overlapping(analysis) or (
        f"of {count(analysis.overlap.tested, 'pair')} of labels, none shares surely more than "
        f"{analysis.overlap.minimum_lift:g} times the probability that their frequencies alone would "
        "give."
    )


def _most_overlapping(analysis: Analysis) -> str:
    pairs = (
        [pair for pair in analysis.overlap.pairs if pair.overlapping] if analysis.overlap else []
    )
    if not pairs:
        return ""
    pair = pairs[0]
    a, b = pair.labels
    return (
        f"{a} and {b} overlap most: they share {pair.lift.value:.1f} times the probability that "
        f"their frequencies alone would give [{pair.lift.low:.1f}, {pair.lift.high:.1f}], and are "
        f"the best two labels of {count(pair.articles, 'article')}."
    )


def _why(analysis: Analysis) -> str:
    if analysis.matrix is None or not analysis.pairs:
        return ""
    pair = analysis.pairs[0]
    assert pair.evidence is not None  # there are gold labels
    e, (a, b) = pair.evidence, pair.labels
    them = "them" if e.examined == pair.confusions else f"{e.examined:,} examined"
    reason = {
        "overlap": f"in {e.shared:,} of {them} the model sees both labels",
        "noise": f"in {e.suspect:,} of {them} the model is at least 90 % sure that the gold label is "
        "wrong",
        "scarce": "one of the two has few articles or is hardly ever given",
        "unclear": f"in {e.shared:,} of {them} the model sees both labels, in {e.suspect:,} it is at "
        "least 90 % sure that the gold label is wrong",
    }[pair.verdict]
    return (
        f"both ways together, {a} and {b} are confused most, in {count(pair.confusions, 'article')}; "
        f"{reason}. {pair.advice.sentence}"
    )


def _threshold(analysis: Analysis) -> str:
    if analysis.calibration is None:
        return ""
    found = next(t for t in analysis.calibration.thresholds if t.wanted == _SERVED)
    labelled = len(analysis.answers.labelled)
    if found.threshold is None or found.precision is None or found.lower is None:
        if labelled < (least := smallest_promise(_SERVED)):
            return (
                f"too few articles have a gold label ({labelled:,}) to promise that "
                f"{percent(_SERVED)} of answers are right, at any confidence: it takes {least}."
            )
        surest = min(
            analysis.calibration.risk_coverage, key=lambda point: abs(point.coverage - 0.1)
        )
        return (
            f"no confidence promises that {percent(_SERVED)} of answers are right; of the surest "
            f"{percent(surest.coverage)} of articles {percent(surest.accuracy)} are."
        )
    promise = (
        f"right in {percent(found.precision)} of cases (at least {100 * found.lower:.1f} %, with 95 % "
        "confidence)"
    )
    if found.coverage == 1:
        return f"all answers together are {promise}."
    return (
        f"to be right in {percent(_SERVED)} of cases, answer from a confidence of "
        f"{percent(found.threshold)} on: these answers are {promise}, and {percent(found.coverage)} of "
        "all."
    )


def _suspects(analysis: Analysis) -> str:
    if analysis.suspects is None or not len(analysis.suspects.rows):
        return ""
    answers, rows = analysis.answers, analysis.suspects.rows
    rows = rows[answers.confidence[rows] >= SURE]
    if not len(rows):
        return ""
    examined = analysis.suspects.examined_rows
    sure = examined[answers.confidence[examined] >= SURE]
    expected = float((1 - answers.confidence[sure].astype(np.float64)).sum())
    if len(rows) <= expected + 2 * math.sqrt(expected):
        return ""  # no more than it should be wrong itself
    counts = np.bincount(answers.gold[rows], minlength=answers.classes)
    of = f" of {len(examined):,} examined" if len(examined) < len(answers.labelled) else ""
    return (
        f"{count(len(rows), 'gold label')}{of} may be wrong: the model is at least 90 % sure of another "
        f"label (by its own probabilities it should be wrong about {expected:,.0f} times there); "
        f"more in {answers.labels[int(counts.argmax())]} ({int(counts.max()):,}) than in any other label."
    )


def _best_merge(analysis: Analysis) -> str:
    advised = (p for p in analysis.pairs if p.advice.action == "merge")
    merges = [(p.merged, p.labels) for p in advised if p.merged]
    if not merges:
        return ""
    merged, (a, b) = max(merges, key=lambda item: item[0].gain.value)
    return (
        f"merging {a} and {b} brings the most of all pairs: together they are found with an F1 of "
        f"{merged.f1_after:.2f}, alone with {merged.f1_before[0]:.2f} and {merged.f1_before[1]:.2f}."
    )


def _weakest(analysis: Analysis) -> str:
    if analysis.matrix is None:
        return ""
    metrics = [(m.f1, m) for m in analysis.matrix.label_metrics() if m.f1 and m.support >= _WEAKEST]
    f1, weakest = min(metrics, key=lambda item: item[0].value, default=(None, None))
    if f1 is None or weakest is None or f1.value == 1:
        return ""
    return (
        f"{weakest.label} is found worst of the labels with {_WEAKEST} articles or more: its F1 is "
        f"{f1.value:.2f} [{f1.low:.2f}, {f1.high:.2f}]."
    )


def _drift(analysis: Analysis) -> str:
    if analysis.groups is None:
        return ""
    found: list[tuple[Group, GroupPair]] = [
        (group, pair)
        for group in analysis.groups.groups
        for pair in group.pairs
        if pair.q_value <= 0.05
    ]
    if not found:
        return ""
    # Of two groups alone both differ alike: the one with more of it is told.
    group, pair = max(
        found, key=lambda item: (round(_surely(item[1].difference), 6), item[1].share.value)
    )
    others = pair.share.value - pair.difference.value
    return (
        f"{interval(pair.share)} of the {pair.gold} articles of {group.name} are read as "
        f"{pair.predicted}, and {percent(others)} of all others."
    )


def _surely(difference: Estimate) -> float:
    """How far a difference is from 0 at least."""
    return max(difference.low, -difference.high)


def _named(comparison: Comparison, where: str) -> str:
    """The task of a comparison, where there are several."""
    return f"{comparison.task}: " if where and comparison.task else ""


def _compared(comparison: Comparison) -> str:
    if comparison.kind == "models" and comparison.accuracy is not None:
        a, b, difference = (getattr(comparison.accuracy, n) for n in ("a", "b", "difference"))
        chance = "" if difference.low > 0 or difference.high < 0 else ", not beyond chance"
        return (
            f"{comparison.a} is right in {100 * a:.1f} % of cases and {comparison.b} in "
            f"{100 * b:.1f} %: a difference of {100 * difference.value:+.1f} points "
            f"[{100 * difference.low:+.1f}, {100 * difference.high:+.1f}]{chance}; they agree on "
            f"{percent(comparison.agreement.value)} of the articles."
        )
    if not comparison.pairs:
        return f"{comparison.a} and {comparison.b} give the same label to every article."
    pair = comparison.pairs[0]
    return (
        f"{comparison.b} files {interval(pair.share)} of what {comparison.a} calls {pair.a} under "
        f"{pair.b} ({pair.articles:,} of {count(pair.of, 'article')}); the two agree on "
        f"{percent(comparison.agreement.value)} of all articles."
    )
