"""The reasons why two labels are confused, with advice.

Each article of one label that is read as the other is of one of three kinds:

- shared: the model gives the gold label 10 % or more, so it sees both;
- suspect: the gold label is likely wrong, and the model is at least 90 % sure of the other one
  (`Suspects.sure_rows`);
- neither: the model hardly sees the gold label, and nothing shows that this is wrong.

If only some articles were examined for wrong labels (`newsie.confusion.label_issues`), only these are
counted. The verdict follows the largest of the three kinds: overlap, noise or unclear. An overlap must
also be beyond chance (`OverlapPair.overlapping`) if that could be tested. With fewer than 5 of these
articles the verdict is unclear. It is never an overlap if there are no other labels, because all that
one label does not get then goes to the other. The first check is for scarcity: a label is scarce if its
confusions go one way and it has few articles or is hardly ever predicted. The advice follows the verdict
and states its benefit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from newsie.confusion.label_issues import Suspects
from newsie.confusion.matrix import ConfusionMatrix
from newsie.confusion.merging import Merge, merge_pair
from newsie.confusion.overlap import MINIMUM_LIFT, Overlap, OverlapPair
from newsie.confusion.predictions import Answers
from newsie.confusion.sentences import count, decimal, percent
from newsie.metrics.estimates import Estimate, share
from newsie.printable import one_line

__all__ = ["Advice", "BorderArticle", "Evidence", "LabelPair", "examine_pairs", "scarcity"]

Verdict = Literal["overlap", "noise", "scarce", "unclear"]
Action = Literal["merge", "allow two labels", "relabel", "collect", "look"]

SHARED = 0.1
"""The least probability of the gold label at which the model sees both labels."""
SCARCE = 0.2
"""A label is scarce if it has fewer articles than this share of the median label's,"""
HARDLY_GIVEN = 0.2
"""or is predicted for fewer articles than this share of its own, because the model learnt little of it;"""
ONE_WAY = 3.0
"""and, in both cases, its articles are lost to the other label this many times as often as the reverse."""
ENOUGH = 5
"""The fewest confused articles from which a reason can be given."""

_BORDER = 8
_RELABEL = 200


@dataclass(frozen=True)
class BorderArticle:
    """An article between two labels.

    Attributes:
        row: its row number, from 0.
        probabilities: the probabilities of the two labels of the pair.
        gold: its gold label, if there is one.
        predicted: the predicted label.
    """

    row: int
    probabilities: tuple[float, float]
    gold: str | None
    predicted: str


@dataclass(frozen=True)
class Evidence:
    """The evidence for the verdict on a pair (a, b).

    Attributes:
        suspect, shared, neither: numbers of confused and examined articles, by kind.
        examined: number of confused articles that were examined for wrong labels.
        crossing: number of articles that carry one label of the pair and belong to the other, by cleanlab's
            count.
        expected: number of confused articles that the model expects: the probability of a summed over those
            read as b, and the reverse. More are confused if labels are wrong, the articles differ from the
            training data, or the model is overconfident.
        separability: the probability that an article of a has a greater p_a / p_b than one of b; 0.5 if the
            two cannot be told apart (A(a, b) of Hand & Till 2001, Machine Learning 45).
        a_as_b, b_as_a: share of the articles of one that are read as the other; None without articles.
        support: number of articles of a and of b.
        predicted: number of articles with a gold label that are predicted as a, and as b.
        median_support: the median support of the labels that occur.
        lift, q_value, overlapping: the overlap of their probabilities; None if it cannot be tested.
    """

    suspect: int
    shared: int
    neither: int
    examined: int
    crossing: float
    expected: float
    separability: float | None
    a_as_b: Estimate | None
    b_as_a: Estimate | None
    support: tuple[int, int]
    predicted: tuple[int, int]
    median_support: float
    lift: float | None
    q_value: float | None
    overlapping: bool | None


@dataclass(frozen=True)
class Advice:
    """The advice on a pair: the action, a sentence, and the rows to relabel, likeliest first."""

    action: Action
    sentence: str
    rows: tuple[int, ...] = ()


@dataclass(frozen=True)
class LabelPair:
    """Two labels that are confused.

    Attributes:
        labels: the pair (a, b).
        verdict: the reason; always "overlap" without gold labels.
        confusions: number of articles of one read as the other, both ways; without gold labels, the number of
            articles whose best two labels these are.
        evidence: None without gold labels.
        sentences: the evidence in words.
        advice: what to do.
        merged: the effect of merging the two; None without gold labels, or if there are no other labels.
        border: the articles with the greatest min(p_a, p_b).
    """

    labels: tuple[str, str]
    verdict: Verdict
    confusions: int
    evidence: Evidence | None
    sentences: tuple[str, ...]
    advice: Advice
    merged: Merge | None
    border: tuple[BorderArticle, ...]


def examine_pairs(
    answers: Answers,
    matrix: ConfusionMatrix | None,
    overlap: Overlap | None,
    suspects: Suspects | None,
    *,
    count: int = 12,
) -> tuple[LabelPair, ...]:
    """Return the most confused pairs, or without gold labels those that overlap most, the most first."""
    chosen = _by_overlap(answers, overlap) if matrix is None else _by_confusions(matrix)
    chosen = chosen[:count]
    used = sorted({label for pair in chosen for label in pair})
    columns = dict(zip(used, answers.columns(used), strict=True))
    return tuple(
        _examine(answers, (a, b), (columns[a], columns[b]), matrix, overlap, suspects)
        for a, b in chosen
    )


def _by_confusions(matrix: ConfusionMatrix) -> list[tuple[int, int]]:
    both = np.triu(matrix.counts + matrix.counts.T, 1)
    order = np.argsort(-both, axis=None, kind="stable")[: np.count_nonzero(both)]
    return [divmod(int(cell), len(both)) for cell in order]


def _by_overlap(answers: Answers, overlap: Overlap | None) -> list[tuple[int, int]]:
    index = {label: i for i, label in enumerate(answers.labels)}
    pairs = overlap.pairs if overlap else ()
    return [(index[p.labels[0]], index[p.labels[1]]) for p in pairs if p.overlapping]


def _examine(
    answers: Answers,
    pair: tuple[int, int],
    p: tuple[NDArray[np.float32], NDArray[np.float32]],
    matrix: ConfusionMatrix | None,
    overlap: Overlap | None,
    suspects: Suspects | None,
) -> LabelPair:
    a, b = answers.labels[pair[0]], answers.labels[pair[1]]
    lift = overlap.find(a, b) if overlap else None
    border = _border(answers, p)
    if matrix is None:
        assert lift is not None  # the pair was chosen for its overlap
        return _without_gold((a, b), lift, border)
    evidence, rows = _evidence(answers, pair, p, matrix, lift, suspects)
    verdict = _verdict(evidence, alone=answers.classes == 2)
    merged = merge_pair(answers, *pair, p[0] + p[1]) if answers.classes > 2 else None
    confusions = int(matrix.counts[pair] + matrix.counts[pair[::-1]])
    return LabelPair(
        labels=(a, b),
        verdict=verdict,
        confusions=confusions,
        evidence=evidence,
        sentences=tuple(_sentences(a, b, evidence, confusions)),
        advice=_advice((a, b), verdict, evidence, merged, rows),
        merged=merged,
        border=border,
    )


def _border(
    answers: Answers, p: tuple[NDArray[np.float32], NDArray[np.float32]]
) -> tuple[BorderArticle, ...]:
    least = np.minimum(*p)
    # Take the lowest row first among equals; argpartition alone would take any of them.
    edge = np.partition(least, -min(_BORDER, len(least)))[-min(_BORDER, len(least))]
    rows = np.flatnonzero(least >= edge)
    rows = rows[np.argsort(-least[rows], kind="stable")][:_BORDER]
    return tuple(
        BorderArticle(
            int(row),
            (float(p[0][row]), float(p[1][row])),
            answers.labels[answers.gold[row]] if answers.gold[row] >= 0 else None,
            answers.labels[answers.predicted[row]],
        )
        for row in rows
    )


def _evidence(
    answers: Answers,
    pair: tuple[int, int],
    p: tuple[NDArray[np.float32], NDArray[np.float32]],
    matrix: ConfusionMatrix,
    lift: OverlapPair | None,
    suspects: Suspects | None,
) -> tuple[Evidence, tuple[int, ...]]:
    """Return the evidence, and the suspect rows of the pair, the likeliest first."""
    a, b = pair
    gold, predicted = answers.gold, answers.predicted
    confused = ((gold == a) & (predicted == b)) | ((gold == b) & (predicted == a))
    rows = (
        () if suspects is None else tuple(suspects.sure_rows[confused[suspects.sure_rows]].tolist())
    )
    examined = np.flatnonzero(confused)
    if suspects is not None:
        examined = suspects.examined_rows[confused[suspects.examined_rows]]
    close = np.minimum(p[0][examined], p[1][examined]) >= SHARED
    shared = int((close & ~np.isin(examined, rows)).sum())
    known = gold >= 0
    support = matrix.support
    found = Evidence(
        suspect=len(rows),
        shared=shared,
        neither=len(examined) - shared - len(rows),
        examined=len(examined),
        crossing=0.0 if suspects is None else float(suspects.crossing[a, b]),
        expected=float(p[0][known & (predicted == b)].sum() + p[1][known & (predicted == a)].sum()),
        separability=_separability(
            p[0][gold == a], p[1][gold == a], p[0][gold == b], p[1][gold == b]
        ),
        a_as_b=share(int(matrix.counts[a, b]), int(support[a])),
        b_as_a=share(int(matrix.counts[b, a]), int(support[b])),
        support=(int(support[a]), int(support[b])),
        predicted=(int(matrix.predicted[a]), int(matrix.predicted[b])),
        median_support=float(np.median(support[support > 0])),
        lift=lift.lift.value if lift else None,
        q_value=lift.q_value if lift else None,
        overlapping=lift.overlapping if lift else None,
    )
    return found, rows


def _separability(*p: NDArray[np.float32]) -> float | None:
    """Return the separability from p_a and p_b of the articles of a and of b; None if either has none."""
    if not len(p[0]) or not len(p[2]):
        return None
    of_a, of_b = ((one / np.maximum(one + two, 1e-30)) for one, two in (p[:2], p[2:]))
    of_b.sort()
    below = np.searchsorted(of_b, of_a, "left") + np.searchsorted(of_b, of_a, "right")
    return float(below.mean() / (2 * len(of_b)))


def _verdict(e: Evidence, *, alone: bool) -> Verdict:
    if _scarce(e) is not None:
        return "scarce"
    if e.examined < ENOUGH:
        return "unclear"
    largest = _largest(e)
    doubtful = largest == "overlap" and (alone or e.overlapping is False)
    return "unclear" if doubtful else largest


def _largest(e: Evidence) -> Verdict:
    """Return the verdict of the largest of the three kinds of articles."""
    kinds: dict[Verdict, int] = {"overlap": e.shared, "noise": e.suspect, "unclear": e.neither}
    return max(kinds, key=lambda kind: kinds[kind])


def _scarce(e: Evidence) -> int | None:
    """Return 0 or 1, the label of the pair that has too few articles; None if neither has."""
    if e.a_as_b is None or e.b_as_a is None:
        return None
    rare = 0 if e.a_as_b.value >= e.b_as_a.value else 1
    lost, back = (e.a_as_b, e.b_as_a) if rare == 0 else (e.b_as_a, e.a_as_b)
    few = e.support[rare] < SCARCE * e.median_support
    hardly_given = e.predicted[rare] < HARDLY_GIVEN * e.support[rare]
    # The difference must be beyond chance: the intervals must be that far apart, not only the
    # shares.
    return rare if (few or hardly_given) and lost.low >= ONE_WAY * back.high else None


def _sentences(a: str, b: str, e: Evidence, total: int) -> list[str]:
    a, b = one_line(a), one_line(b)
    said = [
        f"{percent(part.value)} of {first} articles are read as {second}"
        for first, second, part in ((a, b, e.a_as_b), (b, a, e.b_as_a))
        if part is not None
    ]
    found = ", and ".join(said)
    lines = [
        f"{found[:1].upper()}{found[1:]}: {count(total, 'article')}, where the model expects "
        f"{e.expected:,.0f}.",
        _kinds_sentence(e, total),
    ]
    if e.separability is not None:
        lines.append(
            f"Of an article of {a} and one of {b} it tells which is which in "
            f"{percent(e.separability)} of cases (50 % would be chance)."
        )
    lines.append(_overlap_sentence(e))
    rare = _scarce(e)
    if rare is not None:
        lines.append(f"{_scarcity((a, b)[rare], rare, e)}.")
    return lines


def _scarcity(name: str, rare: int, e: Evidence) -> str:
    """Return the reason why a label of the pair is scarce."""
    articles, given = count(e.support[rare], "article"), count(e.predicted[rare], "article")
    if e.support[rare] < SCARCE * e.median_support:
        return (
            f"{name} has only {articles}, where the median label has {e.median_support:,.0f}, and is "
            f"given to {given}"
        )
    return f"{name} has {articles}, but is given to only {e.predicted[rare]:,}"


def scarcity(pair: LabelPair) -> str:
    """Return the reason for the verdict "scarce", without a full stop; empty for other verdicts."""
    if pair.evidence is None or pair.verdict != "scarce":
        return ""
    rare = _scarce(pair.evidence) or 0
    return _scarcity(one_line(pair.labels[rare]), rare, pair.evidence)


def _kinds_sentence(e: Evidence, total: int) -> str:
    if not e.examined:
        return "None of these was examined for a wrong label."
    these = "these" if e.examined == total else f"the {e.examined:,} of these that were examined"
    return (
        f"In {e.shared:,} of {these} it sees both labels (the gold one has 10 % or more); in "
        f"{e.suspect:,} it is at least 90 % sure that the gold label is wrong; {e.neither:,} are neither."
    )


def _overlap_sentence(e: Evidence) -> str:
    if e.lift is None or e.q_value is None:
        return "Whether the two share more than their frequencies alone would give is not known."
    if e.overlapping:
        verdict = f"an overlap beyond chance, of more than {MINIMUM_LIFT:g} times"
    elif e.lift > MINIMUM_LIFT:
        verdict = f"not an overlap, because more than {MINIMUM_LIFT:g} times may be due to chance"
    else:
        verdict = f"not an overlap, which takes more than {MINIMUM_LIFT:g} times"
    return (
        f"The two share {decimal(e.lift, 1)} times the probability that their frequencies alone would give: "
        f"{verdict} (q = {e.q_value:.2g})."
    )


def _advice(
    labels: tuple[str, str],
    verdict: Verdict,
    e: Evidence,
    merged: Merge | None,
    rows: Sequence[int],
) -> Advice:
    a, b = map(one_line, labels)
    if verdict == "scarce":
        rare = (a, b)[_scarce(e) or 0]
        return Advice("collect", f"Collect more articles of {rare} to learn from.")
    if verdict == "noise":
        listed = f" (the first {_RELABEL} are listed)" if len(rows) > _RELABEL else ""
        return Advice(
            "relabel",
            f"Look at the labels of {count(len(rows), 'article')}, the likeliest to be wrong first{listed}.",
            tuple(rows[:_RELABEL]),
        )
    if verdict == "unclear":
        return Advice("look", f"Look at the articles: {_why_unclear(e, alone=merged is None)}.")
    if merged is not None and merged.gain.low > 0 and _both_ways(e):
        return Advice(
            "merge",
            f"Merge {a} and {b}, or allow both labels: together they are found with an F1 of "
            f"{decimal(merged.f1_after, 2)}, alone with {decimal(merged.f1_before[0], 2)} and "
            f"{decimal(merged.f1_before[1], 2)}.",
        )
    sentence = f"Allow both {a} and {b} for one article."
    if merged is not None and merged.gain.low > 0:
        sentence += (
            f" Merged, they would be found with an F1 of {decimal(merged.f1_after, 2)}; but the mistakes "
            "go one way, as between a whole and its part, so to merge them is not advised."
        )
    return Advice("allow two labels", sentence)


def _why_unclear(e: Evidence, *, alone: bool) -> str:
    if e.examined < ENOUGH:
        return "they are too few to tell why"
    if alone:
        return (
            "wrong labels do not explain most of this, and with two labels only, what is both cannot "
            "be told from what is hard"
        )
    largest = _largest(e)
    if largest == "overlap":
        return (
            f"the model sees both labels in {e.shared:,} of {e.examined:,}, but the two do not overlap "
            "beyond chance, and wrong labels do not explain most of this"
        )
    unseen = (
        f"in {e.neither:,} of {e.examined:,} the model hardly sees the gold label, and nothing shows "
        "that it is wrong"
    )
    return f"the two overlap beyond chance, but {unseen}" if e.overlapping else unseen


def _both_ways(e: Evidence) -> bool:
    """Return True if each of the two is lost to the other: they are one label, not part and whole."""
    if e.a_as_b is None or e.b_as_a is None:
        return False
    less, more = sorted((e.a_as_b.value, e.b_as_a.value))
    return more < ONE_WAY * less


def _without_gold(
    labels: tuple[str, str], pair: OverlapPair, border: tuple[BorderArticle, ...]
) -> LabelPair:
    a, b = map(one_line, labels)
    # The overlap orders the pair in its own way.
    to_b, to_a = pair.shares if pair.labels == labels else pair.shares[::-1]
    return LabelPair(
        labels=labels,
        verdict="overlap",
        confusions=pair.articles,
        evidence=None,
        sentences=(
            f"{a} and {b} are the best two labels of {count(pair.articles, 'article')}.",
            f"The two share {decimal(pair.lift.value, 1)} times the probability that their frequencies "
            f"alone would give: an overlap beyond chance, of more than {MINIMUM_LIFT:g} times "
            f"(q = {pair.q_value:.2g}).",
            f"Of the probability that articles read as {a} give to other labels, {percent(to_b)} "
            f"goes to {b}; the reverse is {percent(to_a)}.",
        ),
        advice=Advice(
            "look",
            "Look at the articles between the two: with gold labels the report would tell whether "
            "labels are wrong, and what merging the two would bring.",
        ),
        merged=None,
        border=border,
    )
