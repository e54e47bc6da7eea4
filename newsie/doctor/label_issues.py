"""Finding labels that are likely wrong, because classifiers fitted on other articles do not expect them.

1. Two classifiers, fitted on other articles, predict each article: logistic regression on TF-IDF features,
   and logistic regression on the logits of the running student, whatever its tasks. Their predictions are
   combined by the geometric mean. The student needs few articles where words need thousands.
2. cleanlab scores each label by its predicted probability, after sharpening (below).
3. A mixture model estimates the probability that each label is wrong. A label is drawn either from the
   classifier's prediction q or, with probability e, uniformly from all C labels:

       p(label | text) = (1 - e) q(label | text) + e / C,      q = prediction ** (1 / T), normalised

   e and T have the highest likelihood. They distinguish similar labels (an article of "arts" that
   reads like "culture" still has a fair q) from random labels.
4. The suspects are the largest set of labels of which more than half are wrong, by that estimate
   (Newton et al. 2004, "Detecting differential gene expression with a semiparametric hierarchical
   mixture method": the mean of the probabilities in a set is its expected share of wrong labels).

cleanlab's own rules for step 4 use the joint distribution of given and likely labels (Northcutt et
al. 2021, "Confident Learning"), and also flag labels that are merely hard: if labels are similar,
three of four suspects have correct labels. `benchmarks/doctor.py` compares both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from newsie.doctor.findings import MAX_EXAMPLES, Example, Finding, Severity
from newsie.doctor.reading import NewsFile
from newsie.errors import MissingExtraError
from newsie.metrics.baseline import (
    BaselineConfig,
    out_of_fold_from_vectors,
    out_of_fold_probabilities,
)
from newsie.texts import plural

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
"""The expected share of wrong labels among the suspects: somewhat more than half, to allow for the error
of the estimate."""

TEMPERATURES = tuple(step / 20 for step in range(6, 21))
"""The temperatures T to try, from 0.3 to 1. A classifier that was fitted with a penalty, and on wrong
labels too, is underconfident. On few articles the likelihood alone could not detect this."""

ITERATIONS = 100
MIN_LABEL_ARTICLES = 5
MIN_ARTICLES = 100
MAX_LABELS = 300
MAX_CELLS = 4_000_000
"""The number of articles times labels above which only a random sample of the articles is checked."""

LARGE = 40_000
"""The number of articles above which only single words count, fewer folds are fitted, and no student is
used."""


class Wrongness(NamedTuple):
    """The estimated probabilities that labels are wrong.

    Attributes:
        probabilities: (N,) probability that each label is wrong.
        share: e, the estimated share of random labels.
        temperature: T, the temperature that sharpens the classifier's predictions.
    """

    probabilities: NDArray[np.float64]
    share: float
    temperature: float


class Suspects(NamedTuple):
    """The checked articles, and those whose labels are likely wrong.

    Attributes:
        looked_at: (M,) positions of the checked articles.
        answers: (M, C) probabilities from classifiers that were not fitted on the article.
        labels: the C labels.
        given: (M,) class index of the label in the file.
        wrongness: the estimate for the M labels.
        chosen: positions of the suspects within `looked_at`, most likely wrong first.
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
    """Find labels that are likely wrong. Return None if there is too little data to learn from.

    Args:
        texts: N texts, as models read them.
        labels: N labels; None for missing ones.
        readings: (N, F) logits of a student that was not trained on these labels, all its tasks side
            by side; None to use words alone.
        seed: seed of the sample, if there are too many articles to check all.
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
    """Return the normalised geometric mean of the predictions of two classifiers, (N, C)."""
    mean: NDArray[np.float32] = np.sqrt(np.maximum(one, 1e-6) * np.maximum(other, 1e-6))
    mean /= mean.sum(axis=1, keepdims=True)
    return mean


def _usable(labels: Sequence[str | None]) -> NDArray[np.int64]:
    """Return the positions of articles whose label is frequent enough to learn."""
    known = np.array([i for i, label in enumerate(labels) if label is not None], np.int64)
    if not len(known):
        return known
    _, index, counts = np.unique(
        [labels[i] or "" for i in known], return_inverse=True, return_counts=True
    )
    return known[counts[index] >= MIN_LABEL_ARTICLES]


def estimate_wrongness(given: NDArray[np.int64], answers: NDArray[np.float32]) -> Wrongness:
    """Estimate the probability that each label is wrong, with the mixture model above.

    Args:
        given: (N,) class index of each label.
        answers: (N, C) probabilities from a classifier that was not fitted on the article.

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
    assert found is not None  # TEMPERATURES is not empty
    return found


def _label_quality(
    given: NDArray[np.int64], logits: NDArray[np.floating[Any]]
) -> NDArray[np.float64]:
    """Return cleanlab's score of each label, (N,), from 0 to 1."""
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
    """Estimate by EM the share of random labels, and (N,) the probability that each is random and wrong."""
    share = 0.05
    probabilities = np.zeros_like(quality)
    for _ in range(ITERATIONS):
        wrong = share * background
        probabilities = wrong / ((1 - share) * quality + wrong)
        share, before = float(probabilities.mean()), share
        if abs(share - before) < 1e-6:
            break
    # Some random labels are right by chance.
    return share, probabilities * (1 - quality)


def _choose(probabilities: NDArray[np.float64], unexpected: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the most labels whose mean probability is at least WANTED_SHARE, highest first."""
    order = np.flatnonzero(unexpected)
    order = order[np.argsort(-probabilities[order], kind="stable")]
    means = np.cumsum(probabilities[order]) / np.arange(1, len(order) + 1)
    return order[: int((means >= WANTED_SHARE).sum())]


def check_suspects(file: NewsFile, task: str, suspects: Suspects) -> Iterator[Finding]:
    """Report labels that are likely wrong, if there are any."""
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
