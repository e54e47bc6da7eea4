"""The five main findings, in plain sentences with figures.

Every sentence takes its ranking and its rule from the analysis, as the page does: pairs stand in the
order of `Analysis.pairs`, "beyond chance" is `OverlapPair.overlapping`, `GroupPair.beyond_chance` or
`Suspects.beyond_chance`, and a superlative is used only if there is no tie.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice

import numpy as np

from newsie.confusion.analysis import Analysis
from newsie.confusion.comparison import Comparison
from newsie.confusion.groups import Group, GroupPair
from newsie.confusion.label_issues import describe_suspects
from newsie.confusion.pairs import scarcity
from newsie.confusion.reliability import smallest_promise
from newsie.confusion.sentences import count, decimal, interval, percent
from newsie.metrics.estimates import Estimate
from newsie.printable import one_line

__all__ = ["foremost_task", "headline", "summarise"]

SENTENCES = 5

_SERVED = 0.9  # the precision for which the summary gives a threshold
_WEAKEST = 10  # the fewest articles of a label named as the weakest
_FEW = 5  # with fewer articles, a headline gives their number and no share


def summarise(
    analyses: Mapping[str, Analysis], comparisons: Sequence[Comparison] = ()
) -> tuple[str, ...]:
    """Return up to five sentences, most of them about the task with the most confused articles.

    Args:
        analyses: task -> analysis.
        comparisons: comparisons of predictions for the same articles.
    """
    tasks = _by_confusions(analyses)
    sentences = _sentences(tasks, analyses, comparisons) if tasks else iter(())
    return tuple(islice(sentences, SENTENCES))


def foremost_task(analyses: Mapping[str, Analysis]) -> str | None:
    """Return the task that the summary begins with: the one with the most confused articles."""
    return next(iter(_by_confusions(analyses)), None)


def headline(analyses: Mapping[str, Analysis]) -> str:
    """Return the most frequent mistake of the foremost task, in a few words."""
    task = foremost_task(analyses)
    if task is None:
        return "nothing to report"
    analysis = analyses[task]
    if analysis.matrix is None:
        return _headline_without_gold(analysis)
    worst = next(iter(analysis.matrix.most_confused(1)), None)
    if worst is None:
        return "every article got its gold label"
    gold, predicted = _spaced(worst.gold), _spaced(worst.predicted)
    if worst.articles < _FEW:
        verb = "is" if worst.articles == 1 else "are"
        return f"{count(worst.articles, 'article')} of {gold} {verb} read as {predicted}"
    return f"{gold} is read as {predicted} in {percent(worst.share.value)} of cases"


def _headline_without_gold(analysis: Analysis) -> str:
    if analysis.overlap is None:
        return "too little to tell which labels overlap"
    pair = next((pair for pair in analysis.overlap.pairs if pair.overlapping), None)
    if pair is None:
        return "no two labels overlap beyond chance"
    return f"{_spaced(pair.labels[0])} and {_spaced(pair.labels[1])} overlap"


def _spaced(label: str) -> str:
    """Return a label in the form shown in large letters."""
    return one_line(label.replace("_", " "))


def _by_confusions(analyses: Mapping[str, Analysis]) -> list[str]:
    return sorted(analyses, key=lambda task: -_confused_articles(analyses[task]))


def _sentences(
    tasks: Sequence[str], analyses: Mapping[str, Analysis], comparisons: Sequence[Comparison]
) -> Iterator[str]:
    main = analyses[tasks[0]]
    where = f"{tasks[0]}: " if len(tasks) > 1 else ""
    yield from _about(where, main, (_most_confused, _why))
    # The user asked for a model to compare with, or for groups: both get a sentence.
    ordered = sorted(comparisons, key=lambda comparison: comparison.kind != "models")
    compared = [_named(comparison, where) + _compared(comparison) for comparison in ordered]
    yield from compared[:1]
    yield from _about(where, main, (_drift, _suspects))
    yield from compared[1:]
    yield from _about(where, main, (_threshold,))
    for task in tasks[1:]:
        yield from _about(f"{task}: ", analyses[task], (_most_confused,))
    overlapping = (_most_overlapping,) if main.matrix else ()
    yield from _about(where, main, (_best_merge, _weakest, *overlapping))


def _about(
    where: str, analysis: Analysis, writers: Sequence[Callable[[Analysis], str]]
) -> Iterator[str]:
    for write in writers:
        if sentence := write(analysis):
            yield where + sentence


def _confused_articles(analysis: Analysis) -> int:
    if analysis.matrix is None:
        return 0
    return int(analysis.matrix.counts.sum() - np.trace(analysis.matrix.counts))


def _most_confused(analysis: Analysis) -> str:
    if analysis.matrix is None:
        return _without_gold(analysis)
    if not (pairs := analysis.matrix.most_confused(2)):
        labelled = len(analysis.answers.labelled)
        return f"every article with a gold label got it: {count(labelled, 'article')}."
    pair = pairs[0]
    index = analysis.answers.labels.index
    back = analysis.matrix.normalised()[index(pair.predicted), index(pair.gold)]
    reverse = "" if np.isnan(back) else f"; the reverse happens to {percent(back)}"
    tie = len(pairs) == 2 and pairs[1].articles == pair.articles
    mistake = "one of the most frequent mistakes" if tie else "the most frequent mistake"
    gold = one_line(pair.gold)
    return (
        f"{mistake} is {gold} read as {one_line(pair.predicted)}: "
        f"{count(pair.articles, 'article')}, {interval(pair.share)} of {gold}{reverse}."
    )


def _without_gold(analysis: Analysis) -> str:
    if analysis.overlap is None:
        return (
            "there are no gold labels, and too few labels or articles to tell from the "
            "probabilities alone which labels overlap."
        )
    return _most_overlapping(analysis) or (
        f"of {count(analysis.overlap.tested, 'pair')} of labels, none overlaps beyond chance: none "
        f"shares surely more than {analysis.overlap.minimum_lift:g} times the probability that their "
        "frequencies alone would give."
    )


def _most_overlapping(analysis: Analysis) -> str:
    pairs = analysis.overlap.pairs if analysis.overlap else ()
    pair = next((pair for pair in pairs if pair.overlapping), None)
    if pair is None:
        return ""
    a, b = map(one_line, pair.labels)
    return (
        f"{a} and {b} overlap beyond chance: they share {decimal(pair.lift.value, 1)} times the probability "
        f"that their frequencies alone would give, and are the best two labels of "
        f"{count(pair.articles, 'article')}."
    )


def _why(analysis: Analysis) -> str:
    if analysis.matrix is None or not analysis.pairs:
        return ""
    pair = analysis.pairs[0]
    assert pair.evidence is not None  # there are gold labels
    e, (a, b) = pair.evidence, map(one_line, pair.labels)
    them = "them" if e.examined == pair.confusions else f"{e.examined:,} examined"
    reason = {
        "overlap": f"in {e.shared:,} of {them} the model sees both labels",
        "noise": f"in {e.suspect:,} of {them} the model is at least 90 % sure that the gold label is "
        "wrong",
        "scarce": scarcity(pair),
        "unclear": f"in {e.shared:,} of {them} the model sees both labels, in {e.suspect:,} it is at "
        "least 90 % sure that the gold label is wrong",
    }[pair.verdict]
    both = np.triu(analysis.matrix.counts + analysis.matrix.counts.T, 1)
    tie = np.count_nonzero(both == pair.confusions) > 1
    most = "among the pairs that are confused most" if tie else "confused most"
    return (
        f"both ways together, {a} and {b} are {most}, in {count(pair.confusions, 'article')}; "
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
        f"right in {percent(found.precision)} of cases (at least {decimal(100 * found.lower, 1)} %, with "
        "95 % confidence)"
    )
    if found.coverage == 1:
        return f"all answers together are {promise}."
    return (
        f"to be right in {percent(_SERVED)} of cases, answer from a confidence of "
        f"{percent(found.threshold)} on: these answers are {promise}, and {percent(found.coverage)} of "
        "all."
    )


def _suspects(analysis: Analysis) -> str:
    suspects = analysis.suspects
    if suspects is None or not suspects.beyond_chance:
        return ""
    return describe_suspects(analysis.answers, suspects)


def _best_merge(analysis: Analysis) -> str:
    advised = (p for p in analysis.pairs if p.advice.action == "merge")
    merges = [(p.merged, p.labels) for p in advised if p.merged]
    if not merges:
        return ""
    merged, labels = max(merges, key=lambda item: item[0].gain.value)
    a, b = map(one_line, labels)
    of = (
        f"the most useful of the {len(merges)} merges that are advised" if merges[1:] else "advised"
    )
    return (
        f"merging {a} and {b} is {of}: together they are found with an F1 of "
        f"{decimal(merged.f1_after, 2)}, alone with {decimal(merged.f1_before[0], 2)} and "
        f"{decimal(merged.f1_before[1], 2)}."
    )


def _weakest(analysis: Analysis) -> str:
    if analysis.matrix is None:
        return ""
    metrics = [(m.f1, m) for m in analysis.matrix.label_metrics() if m.f1 and m.support >= _WEAKEST]
    f1, weakest = min(metrics, key=lambda item: item[0].value, default=(None, None))
    if f1 is None or weakest is None or f1.value == 1 or len(metrics) == 1:
        return ""
    tie = sum(other.value == f1.value for other, _ in metrics) > 1
    return (
        f"{one_line(weakest.label)} is {'among those ' if tie else ''}found worst of the labels with "
        f"{_WEAKEST} articles or more: its F1 is {decimal(f1.value, 2)} [{decimal(f1.low, 2)}, "
        f"{decimal(f1.high, 2)}]."
    )


def _drift(analysis: Analysis) -> str:
    if analysis.groups is None:
        return ""
    found: list[tuple[Group, GroupPair]] = [
        (group, pair)
        for group in analysis.groups.groups
        for pair in group.pairs
        if pair.beyond_chance
    ]
    if not found:
        return ""
    # Two groups differ equally from each other: name the one with the larger share.
    group, pair = max(
        found, key=lambda item: (round(_surely(item[1].difference), 6), item[1].share.value)
    )
    others = pair.share.value - pair.difference.value
    return (
        f"{interval(pair.share)} of the {one_line(pair.gold)} articles of {one_line(group.name)} are "
        f"read as {one_line(pair.predicted)}, and {percent(others)} of all others."
    )


def _surely(difference: Estimate) -> float:
    """Return the least distance of a difference from 0, by its interval."""
    return max(difference.low, -difference.high)


def _named(comparison: Comparison, where: str) -> str:
    """Return the task of a comparison as a prefix, if there are several tasks."""
    return f"{comparison.task}: " if where and comparison.task else ""


def _compared(comparison: Comparison) -> str:
    first, second = one_line(comparison.a), one_line(comparison.b)
    if comparison.kind == "models" and comparison.accuracy is not None:
        a, b, difference = (getattr(comparison.accuracy, n) for n in ("a", "b", "difference"))
        chance = "" if difference.low > 0 or difference.high < 0 else ", not beyond chance"
        return (
            f"{first} is right in {decimal(100 * a, 1)} % of cases and {second} in "
            f"{decimal(100 * b, 1)} %: a difference of {_points(difference.value)} points "
            f"[{_points(difference.low)}, {_points(difference.high)}]{chance}; they agree on "
            f"{percent(comparison.agreement.value)} of the articles."
        )
    if not comparison.pairs:
        return f"{first} and {second} give the same label to every article."
    pair = comparison.pairs[0]
    return (
        f"{second} files {interval(pair.share)} of what {first} calls {one_line(pair.a)} under "
        f"{one_line(pair.b)} ({pair.articles:,} of {count(pair.of, 'article')}); the two agree on "
        f"{percent(comparison.agreement.value)} of all articles."
    )


def _points(difference: float) -> str:
    return decimal(100 * difference, 1, sign=True)
