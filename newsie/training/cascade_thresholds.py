"""Building a cascade from two students, with thresholds that keep the larger one's accuracy.

A prediction of the small student is kept above a threshold of its calibrated confidence. Each label has
its own, because the small student may be as good as the larger one at sports and not at opinion. The
thresholds keep as many predictions as possible on articles that neither student was trained on, and lose
no more accuracy than allowed. They look better on the articles that they were chosen on, so the loss is
cross-validated. It is both counted and estimated: counting alone is not enough, because on few articles a
small student may seem as good as a larger one by luck. The estimate comes from the larger student's
calibrated probabilities: that of its own prediction less that of the small student's. It is never below
0, varies less, and needs no gold label.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from newsie.bundles.bundle import Bundle, CascadeRule, write_bundle
from newsie.bundles.manifest import MODEL, TOKENIZER
from newsie.data.articles import Article
from newsie.errors import InputError
from newsie.inference.classifier import Classifier
from newsie.labels import IGNORE

__all__ = ["MAX_LOSS_POINTS", "TaskCascade", "build_cascade", "choose_thresholds"]

MAX_LOSS_POINTS = 0.15
"""The accuracy in points that a task may lose on validation articles.

It is less than the 0.2 that a task should lose at most on other articles, which differ by chance.
"""

FOLDS = 10
"""The number of cross-validation folds."""

MIN_ARTICLES = 100
"""The fewest labelled articles of a task for thresholds; with fewer, the larger student predicts it alone."""

POOLED_ARTICLES = 50
"""The weight of all labels' articles in the threshold of each label, in articles."""

PRICES = np.logspace(0, 4, 81)
"""The kept articles that make up for one prediction expected to be lost; the lowest is tried first."""

WINDOW_ARTICLES = 4_096


@dataclass(frozen=True)
class TaskCascade:
    """The result of a cascade on the validation articles of one task.

    All but the thresholds is cross-validated: each tenth of the articles uses thresholds chosen on the other
    nine, because thresholds look better on the articles that they were chosen on.

    Attributes:
        articles: number of labelled articles.
        thresholds: the threshold of each label, see `CascadeRule`.
        passed_on: share of the labelled articles that the larger student classifies.
        accuracy: accuracy of the cascade.
        accuracy_first: accuracy of the small student alone.
        accuracy_last: accuracy of the larger student alone.
        expected_points: expected loss of accuracy in points, by the larger student's probabilities.
        margin_points: half the width of the 95 % interval of the lost accuracy, in points.
    """

    articles: int
    thresholds: tuple[float, ...]
    passed_on: float
    accuracy: float
    accuracy_first: float
    accuracy_last: float
    expected_points: float
    margin_points: float

    @property
    def lost_points(self) -> float:
        """The accuracy that the cascade loses, in points."""
        return 100 * (self.accuracy_last - self.accuracy)


def choose_thresholds(
    first: NDArray[np.floating[Any]],
    last: NDArray[np.floating[Any]],
    gold: NDArray[np.int64],
    *,
    max_loss_points: float = MAX_LOSS_POINTS,
) -> TaskCascade:
    """Choose the thresholds of one task.

    At a given price, each label gets the threshold that saves the most: articles kept, less the price times
    the accuracy that they are expected to lose. The lowest price is taken at which the task loses no more
    than allowed, cross-validated.

    Args:
        first: (N, C) calibrated probabilities of the small student.
        last: (N, C) calibrated probabilities of the larger student.
        gold: (N,) label or IGNORE. Articles without a label help to estimate what each label loses.
        max_loss_points: the accuracy in points that the labelled articles may lose, cross-validated.
    """
    rows, labelled = np.arange(len(gold)), gold != IGNORE
    confidence, label = first.max(axis=1), first.argmax(axis=1)
    expected = last.max(axis=1) - last[rows, label]
    first_right, last_right = label == gold, last.argmax(axis=1) == gold
    lost = last_right.astype(int) - first_right
    count = int(labelled.sum())
    fold = np.random.default_rng(0).permutation(len(gold)) % FOLDS
    thresholds, kept = np.ones(first.shape[1]), np.zeros(len(gold), bool)
    for price in PRICES if count >= MIN_ARTICLES else ():
        saved = 1 - price * expected
        above = labelled & _above_held_out(confidence, label, saved, fold, first.shape[1])
        if max(lost[above].sum(), expected[above].sum()) <= max_loss_points / 100 * count + 1e-9:
            thresholds = _thresholds(confidence, label, saved, first.shape[1])
            kept = above
            break
    if not count:
        return TaskCascade(0, tuple(map(float, thresholds)), 1.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    accuracy_last = float(last_right[labelled].mean())
    return TaskCascade(
        articles=count,
        thresholds=tuple(map(float, thresholds)),
        passed_on=1 - float(kept.sum()) / count,
        accuracy=accuracy_last - float(lost[kept].sum()) / count,
        accuracy_first=float(first_right[labelled].mean()),
        accuracy_last=accuracy_last,
        expected_points=100 * float(expected[kept].sum()) / count,
        margin_points=_margin_points(lost[kept], count),
    )


def _thresholds(
    confidence: NDArray[np.floating[Any]],
    label: NDArray[np.int64],
    saved: NDArray[np.floating[Any]],
    labels: int,
) -> NDArray[np.float64]:
    """Return the threshold for each label that saves the most.

    Each label's own articles are joined by all others, at a weight of `POOLED_ARTICLES` in total, so that a
    rare label has about the common threshold.
    """
    order = np.argsort(-confidence, kind="stable")
    ranked = confidence[order]
    # Articles of equal confidence are kept together or not at all.
    together = np.flatnonzero(ranked[1:] == ranked[:-1]) + 1
    limits = np.concatenate([[1.0], ranked[1:], [0.0]])
    pooled = POOLED_ARTICLES / max(len(confidence), 1)
    found = np.empty(labels)
    for index in range(labels):
        weights = (label[order] == index) + pooled
        worth = np.concatenate([[0.0], np.cumsum(weights * saved[order])])  # by articles kept
        worth[together] = -np.inf
        best = np.flatnonzero(worth >= worth.max() - 1e-9)[-1]
        found[index] = limits[best]
    return found


def _above_held_out(
    confidence: NDArray[np.floating[Any]],
    label: NDArray[np.int64],
    saved: NDArray[np.floating[Any]],
    fold: NDArray[np.int64],
    labels: int,
) -> NDArray[np.bool_]:
    """Return a mask (N,) of the articles above the threshold that the other folds' articles give."""
    above = np.zeros(len(confidence), bool)
    for number in range(FOLDS):
        ours = fold == number
        others = _thresholds(confidence[~ours], label[~ours], saved[~ours], labels)
        above[ours] = confidence[ours] > others[label[ours]]
    return above


def _margin_points(lost: NDArray[np.int64], count: int) -> float:
    """Return 1.96 standard errors of a difference of paired proportions, in points, over N + 2 articles.

    Half an article is added to each of the four outcomes of a pair, so that seeing no difference does not
    imply that there is none (Agresti and Min 2005, Statistics in Medicine 24: 729-740).

    Args:
        lost: (n,) the loss of each kept article; articles that are passed on lose nothing.
        count: N.
    """
    total = count + 2
    mean = lost.sum() / total
    return float(196 * np.sqrt(((np.square(lost).sum() + 1) / total - mean**2) / total))


def build_cascade(
    first: Bundle,
    last: Bundle,
    articles: Iterable[Article],
    directory: str | Path,
    *,
    max_loss_points: float = MAX_LOSS_POINTS,
    threads: int | None = None,
    replace: bool = False,
) -> Bundle:
    """Write a bundle of two students as a cascade.

    Args:
        first: the small student.
        last: the larger student, with the same tasks, tokenizer and encoding.
        articles: articles with gold labels, used neither to train a student nor to measure it later.
        directory: the directory to write.
        max_loss_points: the accuracy in points that a task may lose, cross-validated on these articles.
        threads: see `Classifier`.
        replace: replace an existing bundle.

    Raises:
        InputError: the students do not fit together, or no article has a gold label.
        BundleError: the directory exists already, or a student cannot be run.
    """
    _check_fit(first, last)
    answers = _Answers(first, last, threads)
    answers.read(articles)
    tasks = answers.choose(max_loss_points)
    return write_bundle(
        directory,
        name=f"{last.manifest.name}-cascade",
        label_space=last.manifest.label_space,
        encoding=last.manifest.encoding,
        calibration=last.manifest.calibration,
        model=last.read(MODEL),
        tokenizer=last.read(TOKENIZER).decode(),
        card=_card(first, last, tasks),
        metrics={
            **last.manifest.metrics,
            "cascade": {name: asdict(task) for name, task in tasks.items()},
        },
        lineage=last.manifest.lineage,
        cascade=CascadeRule(
            dict(first.manifest.calibration),
            {
                task.name: dict(zip(task.labels, tasks[task.name].thresholds, strict=True))
                for task in last.manifest.label_space.tasks
            },
        ),
        first=first.read(MODEL),
        replace=replace,
    )


def _check_fit(first: Bundle, last: Bundle) -> None:
    small, large = first.manifest, last.manifest
    if first.fingerprint == last.fingerprint:
        raise InputError(f"{first.path} and {last.path} are the same student; a cascade needs two")
    tokens = [manifest.encoding.max_tokens for manifest in (small, large)]
    for what, one, other in (
        ("tasks and labels", small.label_space.to_json(), large.label_space.to_json()),
        (f"max_tokens ({tokens[0]} and {tokens[1]})", *tokens),
        ("encoding", small.encoding, large.encoding),
        ("tokenizer", first.read(TOKENIZER), last.read(TOKENIZER)),
    ):
        if one != other:
            raise InputError(
                f"{first.path} and {last.path} cannot make a cascade: they differ in {what}. Train both "
                "from one recipe, for example with newsie train RECIPE --student nano, where both have the "
                "same max_tokens"
            )
    if small.cascade or large.cascade:
        raise InputError("a cascade is made of two students, and one of these is a cascade already")


class _Answers:
    """The predictions of both students, by task."""

    def __init__(self, first: Bundle, last: Bundle, threads: int | None) -> None:
        self._models = [Classifier(bundle, threads=threads) for bundle in (first, last)]
        self.labels = last.manifest.label_space
        self._parts: dict[str, list[tuple[NDArray[Any], ...]]] = {t: [] for t in self.labels.names}

    def read(self, articles: Iterable[Article]) -> None:
        """Classify the articles; none of them is kept."""
        remaining = iter(articles)
        while window := list(islice(remaining, WINDOW_ARTICLES)):
            gold = self.labels.encode([self._known(article) for article in window])
            first, last = (model.calibrate(model.logits(window)) for model in self._models)
            for task, column in gold.items():
                self._parts[task].append((first[task], last[task], column))

    def _known(self, article: Article) -> Article:
        """Return the article with only those labels that the students know."""
        known = {
            task: label
            for task, label in article.labels.items()
            if task in self.labels.names and label in self.labels[task].labels
        }
        return replace(article, labels=known)

    def choose(self, max_loss_points: float) -> dict[str, TaskCascade]:
        """Choose the thresholds of each task."""
        columns = {
            task: tuple(map(np.concatenate, zip(*parts, strict=True)))
            for task, parts in self._parts.items()
            if parts
        }
        if not any((gold != IGNORE).any() for _, _, gold in columns.values()):
            raise InputError(
                "none of the articles has a gold label of these tasks: "
                f"{', '.join(self.labels.names)}; give a file with a column for each task"
            )
        return {
            task: choose_thresholds(*found, max_loss_points=max_loss_points)
            for task, found in columns.items()
        }


def _card(first: Bundle, last: Bundle, tasks: dict[str, TaskCascade]) -> str:
    rows = "".join(
        f"| {name} | {t.articles:,} | {100 * t.passed_on:.1f} % | "
        f"{100 * t.accuracy:.2f} % | {100 * t.accuracy_last:.2f} % | {100 * t.accuracy_first:.2f} % | "
        f"{t.lost_points:.2f} ± {t.margin_points:.2f} | {t.expected_points:.2f} |\n"
        for name, t in tasks.items()
    )
    head, _, rest = last.card.partition("\n## ")
    return (
        f"{head.rstrip()}\n\n## Cascade\n\n"
        f"The student {first.manifest.name} (`first.onnx`, bundle {first.fingerprint}) answers what it is "
        f"sure of; the rest goes on to {last.manifest.name} (`model.onnx`, bundle {last.fingerprint}). On "
        "the validation articles, each tenth of them with thresholds that were chosen on the other nine:\n\n"
        "| task | articles | passed on | accuracy | larger alone | small alone | lost, points | "
        "expected |\n"
        f"|---|---|---|---|---|---|---|---|\n{rows}" + (f"\n## {rest}" if rest else "")
    )
