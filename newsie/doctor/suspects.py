"""Labels that are likely wrong: those that a classifier fitted on the other articles does not expect.

1. Each article is answered by two classifiers, fitted on other articles: TF-IDF and logistic regression;
   and logistic regression on the answers of the running student, whatever tasks it has. Of both answers
   the geometric mean is taken. The student knows from few articles what words learn from thousands.
2. cleanlab scores each label by its probability there, once these are sharpened (below).
3. A mixture says how likely each label is to be wrong. A label is drawn either from the classifier's
   answer q, or, with probability e, from all C labels alike:

       p(label | text) = (1 - e) q(label | text) + e / C,      q = answer ** (1 / T), normalised

   e and T are the ones with the highest likelihood. They tell labels that are alike (an article of
   "arts" that reads like "culture" still has a fair q) from labels out of the blue.
4. Suspects are the largest set of labels of which more than half are wrong, by that estimate
   (Newton et al. 2004, "Detecting differential gene expression with a semiparametric hierarchical
   mixture method": the mean over a set of its members' probabilities is its expected share).

cleanlab's own rules for step 4 take the joint distribution of given and likely labels (Northcutt et
al. 2021, "Confident Learning"), and call a label wrong that is merely hard: where labels are alike,
three of four suspects are right. `benchmarks/doctor.py` puts both side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from newsie.baseline import (
    BaselineConfig,
    out_of_fold_from_vectors,
    out_of_fold_probabilities,
)
from newsie.doctor.findings import MAX_EXAMPLES, Example, Finding, Severity, plural
from newsie.doctor.reading import NewsFile
from newsie.errors import MissingExtraError

__all__ = [
    "LARGE",
    "MAX_LABELS",
    "MIN_ARTICLES",
    "MIN_LABEL_ARTICLES",
    "Suspects",
    "Wrongness",
    "check_suspects",
    "estimate_wrongness",
    "find_suspects",
]

WANTED_SHARE = 0.57
"""Expected share of wrong labels among the suspects: somewhat more than half, for what the estimate
itself is off."""

TEMPERATURES = tuple(step / 20 for step in range(6, 21))
"""Between 0.3 and 1. A classifier that learnt wrong labels as well, and with a penalty, is less sure
than it should be; on few articles the likelihood alone could not tell this from right labels."""

ITERATIONS = 100
MIN_LABEL_ARTICLES = 5
MIN_ARTICLES = 100
MAX_LABELS = 300
MAX_CELLS = 4_000_000
"""Articles times labels, above which a random sample of the articles is looked at."""

LARGE = 40_000
"""Articles above which single words alone are counted, fewer folds are fitted, and no student is asked."""


class Wrongness(NamedTuple):
    """How likely labels are wrong.

    Attributes:
        probabilities: (N,) that the label is wrong.
        share: e, the estimated share of labels out of the blue.
        temperature: T, by which the classifier's answers are sharpened.
    """

    probabilities: NDArray[np.float64]
    share: float
    temperature: float


class Suspects(NamedTuple):
    """What was looked at, and which labels are likely wrong.

    Attributes:
        looked_at: (M,) positions of the articles that were looked at.
        answers: (M, C) probabilities by the classifiers that did not see the article.
        labels: the C labels.
        given: (M,) class index of the label in the file.
        wrongness: of each label.
        chosen: positions within `looked_at` of the suspects, the most likely wrong first.
    """

    looked_at: NDArray[np.int64]
    answers: NDArray[np.float32]
    labels: tuple[str, ...]
    given: NDArray[np.int64]
    wrongness: Wrongness
    chosen: NDArray[np.int64]


def find_suspects(
    texts: Sequence[str],
    labels: Sequence[str | None],
    readings: NDArray[np.float32] | None = None,
    *,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Suspects | None:
    """Look for labels that are likely wrong; None where there is too little to learn from.

    Args:
        texts: N texts, as models are shown them.
        labels: N labels; None where there is none.
        readings: (N, F) logits of a student that has not learnt these labels, all its tasks side by
            side; None to go by words alone.
        seed: of the sample, where there are too many to look at all.
        progress: called with (folds fitted, all folds).

    Raises:
        MissingExtraError: scikit-learn or cleanlab is not installed.
    """
    usable = _usable(labels)
    names = tuple(sorted({labels[i] or "" for i in usable}))
    if len(usable) < MIN_ARTICLES or not 2 <= len(names) <= MAX_LABELS:
        return None
    limit = MAX_CELLS // len(names)
    if len(usable) > limit:
        usable = np.sort(np.random.default_rng(seed).permutation(usable)[:limit])
    index = {name: i for i, name in enumerate(names)}
    given = np.array([index[labels[i] or ""] for i in usable], np.int64)
    large = len(usable) > LARGE
    answers = out_of_fold_probabilities(
        [texts[i] for i in usable],
        given,
        len(names),
        folds=4 if large else 10,
        config=BaselineConfig(
            longest_phrase=1 if large else 2, inverse_penalty=4.0, tolerance=0.01
        ),
        progress=progress,
    )
    if readings is not None:
        answers = _agreed(
            answers,
            out_of_fold_from_vectors(
                readings[usable],
                given,
                len(names),
                config=BaselineConfig(inverse_penalty=0.1, tolerance=0.001),
            ),
        )
    wrongness = estimate_wrongness(given, answers)
    chosen = _choose(wrongness.probabilities, given != answers.argmax(axis=1))
    return Suspects(usable, answers, names, given, wrongness, chosen)


def _agreed(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, C) geometric mean of the answers of two classifiers, normalised."""
    mean: NDArray[np.float32] = np.sqrt(np.maximum(one, 1e-6) * np.maximum(other, 1e-6))
    mean /= mean.sum(axis=1, keepdims=True)
    return mean


def _usable(labels: Sequence[str | None]) -> NDArray[np.int64]:
    """Positions of articles whose label is there often enough to be learnt."""
    known = np.array([i for i, label in enumerate(labels) if label is not None], np.int64)
    if not len(known):
        return known
    _, index, counts = np.unique(
        [labels[i] or "" for i in known], return_inverse=True, return_counts=True
    )
    return known[counts[index] >= MIN_LABEL_ARTICLES]


def estimate_wrongness(given: NDArray[np.int64], answers: NDArray[np.float32]) -> Wrongness:
    """How likely each label is wrong, by the mixture above.

    Args:
        given: (N,) class index of each label.
        answers: (N, C) probabilities of a classifier that did not see the article.

    Raises:
        MissingExtraError: cleanlab is not installed.
    """
    background = 1 / answers.shape[1]
    logs = np.log(np.maximum(answers, 1e-9))
    best, found = -np.inf, None
    for temperature in TEMPERATURES:
        quality = _label_quality(given, logs / temperature)
        share, probabilities = _fit_share(quality, background)
        likelihood = np.log((1 - share) * quality + share * background).mean()
        if likelihood > best:
            best, found = likelihood, Wrongness(probabilities, share, temperature)
    assert found is not None  # there are temperatures
    return found


def _label_quality(
    given: NDArray[np.int64], logits: NDArray[np.floating[Any]]
) -> NDArray[np.float64]:
    """(N,) cleanlab's score of each label, from 0 to 1."""
    try:
        from cleanlab.rank import get_label_quality_scores
    except ImportError as error:
        raise MissingExtraError("looking for wrong labels", "cleanlab", "analysis") from error
    exp = np.exp(logits - logits.max(axis=1, keepdims=True))
    sharp = exp / exp.sum(axis=1, keepdims=True)
    scores = get_label_quality_scores(given, sharp, method="self_confidence")
    return np.maximum(np.asarray(scores, np.float64), 1e-12)


def _fit_share(
    quality: NDArray[np.float64], background: float
) -> tuple[float, NDArray[np.float64]]:
    """The share of labels out of the blue, and (N,) how likely each is one and wrong, by EM."""
    share = 0.05
    probabilities = np.zeros_like(quality)
    for _ in range(ITERATIONS):
        wrong = share * background
        probabilities = wrong / ((1 - share) * quality + wrong)
        share, before = float(probabilities.mean()), share
        if abs(share - before) < 1e-6:
            break
    # Some labels out of the blue are right by chance.
    return share, probabilities * (1 - quality)


def _choose(probabilities: NDArray[np.float64], unexpected: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The most labels whose probabilities have a mean of WANTED_SHARE or more, highest first."""
    order = np.flatnonzero(unexpected)
    order = order[np.argsort(-probabilities[order], kind="stable")]
    means = np.cumsum(probabilities[order]) / np.arange(1, len(order) + 1)
    return order[: int((means >= WANTED_SHARE).sum())]


def check_suspects(file: NewsFile, task: str, suspects: Suspects) -> Iterator[Finding]:
    """Labels that are likely wrong, if there are any."""
    if not len(suspects.chosen):
        return
    wrong = suspects.wrongness.probabilities[suspects.chosen]
    rows = suspects.looked_at[suspects.chosen]
    better = suspects.answers[suspects.chosen].argmax(axis=1)
    cases = [
        {
            "row": file.numbers[row],
            "given": suspects.labels[suspects.given[position]],
            "likely": suspects.labels[label],
            "wrong": round(float(probability), 3),
        }
        for row, position, label, probability in zip(
            rows, suspects.chosen, better, wrong, strict=True
        )
    ]
    yield Finding(
        "suspect-labels",
        Severity.warning,
        f"{plural(len(rows), 'label is', 'labels are')} likely wrong ({len(rows):,} of "
        f"{len(suspects.given):,}); more than half of these should be",
        "Look at them, the first ones first, and correct the labels in the file; --suspects FILE "
        "writes all of them as a table. --fix leaves them alone.",
        len(rows),
        task,
        tuple(
            Example(
                file.headlines[row] or file.texts[row][:200],
                int(case["row"]),
                f"labelled {case['given']!r}, reads like {case['likely']!r}",
            )
            for row, case in list(zip(rows, cases, strict=True))[:MAX_EXAMPLES]
        ),
        tuple(int(case["row"]) for case in cases),
        {
            "looked_at": len(suspects.given),
            "expected_wrong": float(wrong.sum()),
            "share": suspects.wrongness.share,
            "temperature": suspects.wrongness.temperature,
            "cases": cases,
        },
    )
