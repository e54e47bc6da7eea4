"""Metrics of a classifier: accuracy, macro-F1 and calibration, with confidence intervals.

N articles, C labels; `labels` and `predicted` are class indices (N,), `probabilities` are (N, C)
with rows that sum to 1. Articles whose gold label is IGNORE (-100) are left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from newsie.data.articles import Article, is_table
from newsie.errors import InputError
from newsie.labels import IGNORE, LabelSpace
from newsie.metrics.estimates import Estimate, Interval, Z, f1_score, paired, share

__all__ = [
    "Evaluation",
    "Metric",
    "TaskMetrics",
    "accuracy",
    "brier_score",
    "calibration_difference",
    "confidence_bins",
    "evaluate",
    "evaluate_predictions",
    "expected_calibration_error",
    "fit_calibration_temperature",
    "macro_f1",
    "macro_f1_estimate",
    "negative_log_likelihood",
    "paired_difference",
    "softmax",
]

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Metric = Literal["accuracy", "macro_f1"]

CALIBRATION_BINS = 15
TEMPERATURE_BOUNDS = (0.05, 20.0)
"""The bounds of a calibration temperature, also without an optimum (if all predictions are correct)."""

_CHUNK = 2_000_000  # numbers that one bootstrap step holds in memory


@dataclass(frozen=True)
class TaskMetrics:
    """The metrics of the predictions for one task.

    Attributes:
        support: number of articles with a gold label, on which all metrics are computed.
        classes: number of labels that the task has.
        measured: number of labels that occur among the gold labels; macro-F1 is the mean over these.
        never_predicted: class indices of measured labels that are never predicted.
        accuracy: see `accuracy`, with Wilson's interval.
        macro_f1: see `macro_f1`, with the interval of `macro_f1_estimate`.
        expected_calibration_error: see `expected_calibration_error`.
        negative_log_likelihood: see `negative_log_likelihood`.
        brier_score: see `brier_score`.
    """

    support: int
    accuracy: float
    accuracy_interval: Interval
    macro_f1: float
    macro_f1_interval: Interval
    expected_calibration_error: float
    negative_log_likelihood: float
    brier_score: float
    classes: int = 0
    measured: int = 0
    never_predicted: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the metrics as plain JSON values."""
        return asdict(self)


def evaluate(probabilities: ArrayLike, labels: ArrayLike) -> TaskMetrics:
    """Compute all metrics of one task.

    Args:
        probabilities: (N, C).
        labels: gold class indices (N,).

    Raises:
        InputError: no article has a gold label, or the shapes do not match.
    """
    p, y = _scored(probabilities, labels)
    predicted = p.argmax(axis=1)
    right = _share_right(predicted, y)
    f1 = macro_f1_estimate(predicted, y)
    return TaskMetrics(
        support=len(y),
        accuracy=right.value,
        accuracy_interval=right.interval,
        macro_f1=f1.value,
        macro_f1_interval=f1.interval,
        expected_calibration_error=expected_calibration_error(p, y),
        negative_log_likelihood=negative_log_likelihood(p, y),
        brier_score=brier_score(p, y),
        classes=p.shape[1],
        measured=len(np.unique(y)),
        never_predicted=tuple(np.setdiff1d(y, predicted).tolist()),
    )


class _Answer(Protocol):
    """The part of a `newsie.Prediction` that is needed here."""

    @property
    def probabilities(self) -> Mapping[str, Floats]: ...


@dataclass(frozen=True)
class Evaluation:
    """The quality of a model's predictions.

    Attributes:
        articles: number of articles, labelled or not.
        tasks: the metrics of each task with a gold label.
        unknown_labels: task -> gold label that the task lacks -> number of articles, which are otherwise left
            out.
        without_label: task -> number of articles without a gold label, which are otherwise left out.
    """

    articles: int
    tasks: Mapping[str, TaskMetrics]
    unknown_labels: Mapping[str, Mapping[str, int]]
    without_label: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        """Return the evaluation as plain JSON values."""
        return asdict(self)


def evaluate_predictions(
    predictions: Iterable[tuple[Article, _Answer]], labels: LabelSpace
) -> Evaluation:
    """Compare predictions with the gold labels of their articles.

    Args:
        predictions: pairs of an article and its prediction, as from `Classifier.classify_stream`.
        labels: the label space of the model.
    """
    if is_table(predictions):
        raise InputError(
            f"evaluate_predictions takes pairs of an article and its prediction, and a "
            f"{type(predictions).__name__} was given; write evaluate_predictions(classifier.classify_stream("
            "articles), classifier.labels), with a list of articles that have gold labels"
        )
    index = {t.name: {label: i for i, label in enumerate(t.labels)} for t in labels.tasks}
    answers: dict[str, list[Floats]] = {name: [] for name in labels.names}
    gold: dict[str, list[int]] = {name: [] for name in labels.names}
    unknown: dict[str, Counter[str]] = {name: Counter() for name in labels.names}
    without: Counter[str] = Counter()
    articles = 0
    for article, prediction in predictions:
        articles += 1
        for task, probabilities in prediction.probabilities.items():
            label = article.labels.get(task)
            if label in index[task]:
                answers[task].append(probabilities)
                gold[task].append(index[task][label])
            elif label is not None:
                unknown[task][label] += 1
            else:
                without[task] += 1
    return Evaluation(
        articles,
        {t: evaluate(np.stack(answers[t]), gold[t]) for t in labels.names if gold[t]},
        {task: dict(found.most_common()) for task, found in unknown.items() if found},
        dict(without),
    )


def softmax(logits: ArrayLike) -> Floats:
    """Return probabilities (..., C) from logits (..., C), computed in float64 so that rows sum to 1."""
    z = np.asarray(logits, dtype=np.float64)
    exp = np.exp(z - z.max(axis=-1, keepdims=True))
    return np.asarray(exp / exp.sum(axis=-1, keepdims=True), dtype=np.float64)


def accuracy(predicted: ArrayLike, labels: ArrayLike) -> float:
    """Return the share of articles predicted as their gold label."""
    p, y = _paired(predicted, labels)
    return float((p == y).mean())


def macro_f1(predicted: ArrayLike, labels: ArrayLike) -> float:
    """Return the mean F1 of the labels that occur among the gold labels.

        F1 = 2 TP / (2 TP + FP + FN), averaged over labels with TP + FN > 0

    This is the averaged F1 of Opitz & Burst 2019 (arXiv 1911.03347), and scikit-learn's
    `f1_score(average="macro")` with `labels` set to those that occur in gold.
    """
    f1, gold, _ = _label_f1(*_paired(predicted, labels))
    return float(f1[gold > 0].mean())


def expected_calibration_error(
    probabilities: ArrayLike, labels: ArrayLike, *, bins: int = CALIBRATION_BINS
) -> float:
    """Return the expected gap between confidence and accuracy, in bins of equally many articles.

        ECE = sum over bins b of (n_b / N) * |accuracy(b) - mean confidence(b)|

    Guo et al. 2017 (arXiv 1706.04599) with the equal-mass bins of Nguyen & O'Connor 2015 (arXiv 1508.05154):
    bins of equal width would hold nearly all articles of a sure model in one.
    """
    p, y = _scored(probabilities, labels)
    # n_b * |mean gap| = |sum of gaps|
    return float(np.abs(_gaps_by_bin(p, y, bins).sum(axis=0)).sum() / len(y))


def confidence_bins(confidence: Floats, bins: int = CALIBRATION_BINS) -> list[Indices]:
    """Return row indices in bins of about equally many articles, the least sure first.

    Bins are cut between different confidences only. Articles of equal confidence stay together, because
    otherwise the order of a file would decide their bins.
    """
    order = np.argsort(confidence, kind="stable")
    ranked = confidence[order]
    edges = np.cumsum([len(part) for part in np.array_split(ranked, min(bins, len(ranked)))])[:-1]
    starts = np.unique(np.searchsorted(ranked, ranked[edges]))
    return np.split(order, starts[starts > 0])


def negative_log_likelihood(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Return the mean of -log p(gold label), in nats (Good 1952, "Rational decisions").

    It is infinite if a gold label has probability 0.
    """
    p, y = _scored(probabilities, labels)
    with np.errstate(divide="ignore"):
        return float(-np.log(p[np.arange(len(y)), y]).mean())


def brier_score(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Return the mean squared distance between the probabilities and the truth, 0 (best) to 2.

        1/N sum over articles, sum over labels of (p - [label is gold])^2

    Brier 1950, "Verification of forecasts expressed in terms of probability".
    """
    p, y = _scored(probabilities, labels)
    p = p.copy()
    p[np.arange(len(y)), y] -= 1.0
    return float((p**2).sum(axis=1).mean())


def fit_calibration_temperature(logits: ArrayLike, labels: ArrayLike) -> float:
    """Return the temperature T > 0 at which softmax(logits / T) has the least negative log-likelihood.

    Guo et al. 2017 (arXiv 1706.04599), section 4.2. In b = 1 / T the likelihood is concave, with

        d NLL / d b = mean over articles of (sum_c p_c z_c) - z_gold

    whose only zero is found by bisection, within TEMPERATURE_BOUNDS.

    Args:
        logits: (N, C).
        labels: gold class indices (N,).

    Raises:
        InputError: no article has a gold label, or a logit is not a number.
    """
    z, y = _scored(logits, labels)
    z = z - z.max(axis=1, keepdims=True)
    gold = z[np.arange(len(y)), y]

    def slope(log_temperature: float) -> float:
        exp = np.exp(z / np.exp(log_temperature))
        return float(((exp * z).sum(axis=1) / exp.sum(axis=1) - gold).mean())

    low, high = np.log(TEMPERATURE_BOUNDS)
    for _ in range(50):
        middle = (low + high) / 2
        # A positive slope means that b = 1 / T is too large, and so T too small.
        low, high = (middle, high) if slope(middle) > 0 else (low, middle)
    return float(np.exp((low + high) / 2))


def macro_f1_estimate(predicted: ArrayLike, labels: ArrayLike) -> Estimate:
    """Return macro-F1 with a 95 % interval that does not degenerate on few articles.

    On each side it is the wider of two intervals:

    - MOVER (Zou & Donner 2008, "Construction of confidence limits about effect measures", Statistics in
      Medicine 27) of the labels' intervals of `f1_score`. With L labels of F1 f_k in [l_k, u_k] it begins
      at macro-F1 - sqrt(2 sum_k (f_k - l_k)^2) / L and ends likewise. The 2 allows for an error that
      lowers the F1 of two labels, the gold one and the predicted one: (a + b)^2 <= 2 (a^2 + b^2).
    - Wald's by the delta method (Takahashi et al. 2022, "Confidence interval for micro-averaged F1 and
      macro-averaged F1 scores", Applied Intelligence 52). It has width 0 if all predictions are correct, and
      reaches higher than MOVER if most labels are perfect.

    `tests/metrics/test_evaluation.py` simulates the coverage.
    """
    p, y = _paired(predicted, labels)
    counts = _confusion(p, y)
    right, union = (
        np.diagonal(counts),
        counts.sum(axis=0) + counts.sum(axis=1) - np.diagonal(counts),
    )
    gold = np.flatnonzero(counts.sum(axis=1))
    scores = [s for k in gold if (s := f1_score(int(right[k]), int(union[k])))]
    value = float(np.mean([s.value for s in scores]))
    wald = Z * float(np.sqrt((_influence(p, y) ** 2).sum()))
    down = np.sqrt(2 * sum((s.value - s.low) ** 2 for s in scores)) / len(scores)
    up = np.sqrt(2 * sum((s.high - s.value) ** 2 for s in scores)) / len(scores)
    return Estimate(value, value - max(wald, down), value + max(wald, up)).within(0.0, 1.0)


def paired_difference(
    metric: Metric, predicted: ArrayLike, other: ArrayLike, labels: ArrayLike
) -> Estimate:
    """Return metric(predicted) - metric(other) on the same articles, with its paired 95 % interval.

    The two differ beyond chance if the interval excludes 0. For accuracy see
    `newsie.metrics.estimates.paired`. For macro-F1 the variance is the sum over articles of the squared
    difference of their influences (the delta method, see `macro_f1_estimate`), with one more article for
    and one against the first, each of the mean influence of a correct instead of a wrong prediction. The
    interval therefore does not degenerate if few articles differ (as Bonett & Price 2012, "Adjusted Wald
    confidence interval for a difference of binomial proportions based on paired data", do for shares).
    """
    p, y = _paired(predicted, labels)
    q, _ = _paired(other, labels)
    if metric == "accuracy":
        first, second = p == y, q == y
        return paired(int((first & ~second).sum()), int((second & ~first).sum()), len(y))
    value = macro_f1(p, y) - macro_f1(q, y)
    c = max(_classes(p, y), _classes(q, y))
    gold = np.bincount(y, minlength=c)
    given = (np.bincount(p, minlength=c) + np.bincount(q, minlength=c)) / 2
    measured = gold > 0
    one = 2 / (gold + given)[measured] / measured.sum()
    variance = ((_influence(p, y) - _influence(q, y)) ** 2).sum() + 2 * (one**2).mean()
    half = Z * float(np.sqrt(variance))
    return Estimate(value, max(-1.0, value - half), min(1.0, value + half))


def calibration_difference(
    probabilities: ArrayLike,
    other: ArrayLike,
    labels: ArrayLike,
    *,
    confidence: float = 0.95,
    resamples: int = 2_000,
    seed: int = 0,
) -> Interval:
    """Return the percentile interval of ECE(probabilities) - ECE(other) on the same articles, paired.

    Each article is weighted by a Poisson variable of mean 1, which is equivalent to drawing with replacement
    (Chamandy et al. 2012, "Estimating uncertainty for massive data streams"). The bins are those of all
    articles.

    On few articles the ECE is too high, the more so the better a model is calibrated (Roelofs et al. 2022,
    arXiv 2012.08668). The interval is therefore that of the difference at this number of articles, not in the
    limit, and lies rather too near 0: it may miss changes but does not invent any.

    Args:
        probabilities: (N, C).
        other: (N, D), of the same articles.
        labels: gold class indices (N,).
        confidence: the confidence level of the interval.
        resamples: the number of resamples.
        seed: the random seed.
    """
    p, y = _scored(probabilities, labels)
    q, _ = _scored(other, labels)
    ours, theirs = _gaps_by_bin(p, y), _gaps_by_bin(q, y)
    random, step = np.random.default_rng(seed), max(1, _CHUNK // len(y))
    values = []
    for start in range(0, resamples, step):
        drawn = random.poisson(1.0, size=(min(step, resamples - start), len(y))).astype(np.float64)
        total = np.maximum(drawn.sum(axis=1), 1)
        errors = [np.abs(drawn @ gaps).sum(axis=1) / total for gaps in (ours, theirs)]
        values.append(errors[0] - errors[1])
    return _percentiles(np.concatenate(values), confidence)


def _gaps_by_bin(p: Floats, y: Indices, bins: int = CALIBRATION_BINS) -> Floats:
    """Return (N, B): each article's confidence - correctness, in the column of its bin."""
    confidence = p.max(axis=1)
    gap = confidence - (p.argmax(axis=1) == y)
    parts = confidence_bins(confidence, bins)
    placed = np.zeros((len(y), len(parts)))
    for column, rows in enumerate(parts):
        placed[rows, column] = gap[rows]
    return placed


def _share_right(predicted: Indices, labels: Indices) -> Estimate:
    right = share(int((predicted == labels).sum()), len(labels))
    assert right is not None  # an article has a gold label
    return right


def _label_f1(predicted: Indices, labels: Indices) -> tuple[Floats, Indices, Indices]:
    """Return the F1 of each class (C,), its number of gold articles, and that plus the predicted ones."""
    confusion = _confusion(predicted, labels)
    gold = confusion.sum(axis=1)
    # 2 TP + FP + FN = predicted + gold; if that is 0, so is TP.
    total = np.maximum(gold + confusion.sum(axis=0), 1)
    return 2 * np.diagonal(confusion) / total, gold, total


def _influence(predicted: Indices, labels: Indices) -> Floats:
    """Return each article's first-order influence on macro-F1, (N,); the sum of squares is the variance.

    F1_k = 2 TP_k / S_k with S_k = gold + predicted articles. An article adds -F1_k / S_k for each of its
    gold and its predicted label k, and 2 / S_k if both are the same.
    """
    f1, gold, total = _label_f1(predicted, labels)
    measured = gold > 0
    lost, won = -f1 / total * measured, 2 / total * measured
    values = lost[labels] + lost[predicted] + won[labels] * (labels == predicted)
    return np.asarray(values / measured.sum(), np.float64)


def _confusion(predicted: Indices, labels: Indices) -> Indices:
    c = _classes(predicted, labels)
    return np.bincount(labels * c + predicted, minlength=c * c).reshape(c, c)


def _classes(predicted: ArrayLike, labels: ArrayLike) -> int:
    return int(max(np.max(predicted), np.max(labels))) + 1


def _percentiles(values: Floats, confidence: float) -> Interval:
    if not 0 < confidence < 1:
        raise InputError(f"confidence is {confidence}; give a number between 0 and 1, like 0.95")
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(low), float(high))


def _paired(predicted: ArrayLike, labels: ArrayLike) -> tuple[Indices, Indices]:
    """Return the predicted and gold class indices of the articles that have a gold label."""
    p, y = np.asarray(predicted, dtype=np.int64), np.asarray(labels, dtype=np.int64)
    if p.ndim != 1 or p.shape != y.shape:
        raise InputError(f"predicted {p.shape} and labels {y.shape} must both be (N,)")
    known = y != IGNORE
    if not known.any():
        raise InputError(
            f"none of the {len(y)} articles has a gold label; there is nothing to measure"
        )
    p, y = p[known], y[known]
    if min(p.min(), y.min()) < 0:
        raise InputError(f"a class index is {min(p.min(), y.min())}; they start at 0")
    return p, y


def _scored(scores: ArrayLike, labels: ArrayLike) -> tuple[Floats, Indices]:
    """Return the scores (probabilities or logits) and gold class indices of the labelled articles."""
    s, y = np.asarray(scores, dtype=np.float64), np.asarray(labels, dtype=np.int64)
    if s.ndim != 2 or y.shape != s.shape[:1]:
        raise InputError(f"scores {s.shape} must be (N, C) and labels {y.shape} (N,)")
    _, y = _paired(np.zeros_like(y), labels)
    s = s[np.asarray(labels) != IGNORE]
    if y.max() >= s.shape[1]:
        raise InputError(f"a gold class index is {y.max()}, and there are {s.shape[1]} labels")
    if not np.isfinite(s).all():
        raise InputError("a probability or logit is not a finite number")
    return s, y
