"""From two students to a cascade: thresholds that keep the larger one's accuracy.

For each task, the answers of the small student stand above a threshold of its calibrated confidence. The
threshold is the lowest at which the cascade loses no more accuracy than allowed, both as counted and as
expected, on labelled articles that neither student learnt from. Counting alone is not enough: on few articles
a small student may seem as good as a larger one by luck. What is expected comes from the larger student's
calibrated probabilities, of its own answer less of the small one's; that is never below 0 and varies less.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from newsie.bundle import Bundle, CascadeRule, write_bundle
from newsie.classifier import Classifier
from newsie.data.articles import Article
from newsie.errors import InputError
from newsie.labels import IGNORE

__all__ = ["MAX_LOSS_POINTS", "TaskCascade", "build_cascade", "choose_threshold"]

MAX_LOSS_POINTS = 0.15
"""Accuracy in points that a task may lose on the validation articles: less than the 0.2 that it should lose
at most on others, because a threshold that is chosen on some articles fits these best."""

MIN_ARTICLES = 100
"""Labelled articles of a task below which nothing can be said; the larger student then answers it alone."""

WINDOW_ARTICLES = 4_096


@dataclass(frozen=True)
class TaskCascade:
    """How a cascade did on the validation articles of one task.

    Attributes:
        articles: labelled articles.
        threshold: see CascadeRule.
        passed_on: share of the articles that the larger student answers.
        accuracy: of the cascade.
        accuracy_first: of the small student alone.
        accuracy_last: of the larger one alone.
        expected_points: accuracy that the cascade is expected to lose, in points, by the larger student's
            probabilities.
        margin_points: how far what the cascade loses on other articles of the kind may be from what it
            loses on these, in points: half of a 95 % interval.
    """

    articles: int
    threshold: float
    passed_on: float
    accuracy: float
    accuracy_first: float
    accuracy_last: float
    expected_points: float
    margin_points: float

    @property
    def lost_points(self) -> float:
        """Accuracy that the cascade loses, in points."""
        return 100 * (self.accuracy_last - self.accuracy)


def choose_threshold(
    confidence: NDArray[np.float64],
    first_right: NDArray[np.bool_],
    last_right: NDArray[np.bool_],
    expected_loss: NDArray[np.float64],
    *,
    max_loss_points: float = MAX_LOSS_POINTS,
) -> TaskCascade:
    """The lowest threshold of one task that loses at most so much accuracy.

    With the articles sorted by falling confidence, keeping the first n loses

        100 / N * sum over the n of (larger student is right - small student is right)

    points as counted, and the sum of the expected losses in place of the other as expected; the largest n for
    which both are within the limit is taken, up to a change of confidence.

    Args:
        confidence: (N,) calibrated confidence of the small student.
        first_right: (N,) whether its answer is the gold label.
        last_right: (N,) the same for the larger student.
        expected_loss: (N,) the probability that the larger student gives to its own answer, less what it
            gives to the small student's.
        max_loss_points: accuracy that may be lost, in points.
    """
    count = len(confidence)
    order = np.argsort(-confidence, kind="stable")
    ranked = confidence[order]
    right = last_right[order].astype(int) - first_right[order]
    # Points by the number of articles kept: as counted, and as expected.
    lost, expected = (
        np.concatenate([[0], np.cumsum(each)]) * 100 / max(count, 1)
        for each in (right, expected_loss[order])
    )
    # Articles that are as sure as each other are kept together or not at all.
    apart = np.concatenate([[True], ranked[1:] < ranked[:-1], [True]])[: count + 1]
    within = np.maximum(lost, expected) <= max_loss_points + 1e-9
    kept = int(np.flatnonzero(apart & within)[-1])
    if count < MIN_ARTICLES:
        kept = 0
    threshold = 1.0 if kept == 0 else 0.0 if kept == count else float(ranked[kept])
    accuracy_last = float(last_right.mean()) if count else 0.0
    return TaskCascade(
        articles=count,
        threshold=threshold,
        passed_on=1 - kept / count if count else 1.0,
        accuracy=accuracy_last - float(lost[kept]) / 100,
        accuracy_first=float(first_right.mean()) if count else 0.0,
        accuracy_last=accuracy_last,
        expected_points=float(expected[kept]),
        margin_points=_margin_points(right[:kept], count),
    )


def _margin_points(lost: NDArray[np.int64], count: int) -> float:
    """1.96 standard errors of the mean loss over N articles; those that are passed on lose nothing.

    Args:
        lost: (n,) of those that are kept: 1 where only the larger student is right, -1 where only the small
            one is, or 0.
        count: N.
    """
    if not len(lost):
        return 0.0
    mean = lost.sum() / count
    return float(196 * np.sqrt((np.square(lost).sum() / count - mean**2) / count))


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
    """Put two students into one bundle.

    Args:
        first: the small student.
        last: the larger one; of the same tasks, tokenizer and encoding, as two of one ladder are.
        articles: with gold labels; neither student learnt from them, and nobody measures on them later.
        directory: where the bundle goes.
        max_loss_points: accuracy in points that a task may lose on these articles.
        threads: see Classifier.
        replace: whether a bundle that is already there may be replaced.

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
        model=last.model_path,
        tokenizer=last.tokenizer_path.read_text(encoding="utf-8"),
        card=_card(first, last, tasks),
        metrics={
            **last.manifest.metrics,
            "cascade": {name: asdict(task) for name, task in tasks.items()},
        },
        lineage=last.manifest.lineage,
        cascade=CascadeRule(
            dict(first.manifest.calibration), {name: t.threshold for name, t in tasks.items()}
        ),
        first=first.model_path,
        replace=replace,
    )


def _check_fit(first: Bundle, last: Bundle) -> None:
    small, large = first.manifest, last.manifest
    for what, one, other in (
        ("tasks and labels", small.label_space.to_json(), large.label_space.to_json()),
        ("encoding", small.encoding, large.encoding),
        ("tokenizer", first.tokenizer_path.read_bytes(), last.tokenizer_path.read_bytes()),
    ):
        if one != other:
            raise InputError(
                f"{first.path} and {last.path} cannot make a cascade: they differ in {what}. Train both "
                "from one recipe, for example with newsie train RECIPE --student nano"
            )
    if small.cascade or large.cascade:
        raise InputError("a cascade is made of two students, and one of these is a cascade already")


class _Answers:
    """What both students make of labelled articles, by task."""

    def __init__(self, first: Bundle, last: Bundle, threads: int | None) -> None:
        self._models = [Classifier(bundle, threads=threads) for bundle in (first, last)]
        self.labels = last.manifest.label_space
        self._rows: dict[str, list[tuple[NDArray[Any], ...]]] = {t: [] for t in self.labels.names}

    def read(self, articles: Iterable[Article]) -> None:
        """Classify them all; none is kept."""
        window: list[Article] = []
        for article in articles:
            window.append(article)
            if len(window) == WINDOW_ARTICLES:
                self._add(window)
                window = []
        if window:
            self._add(window)

    def _add(self, window: list[Article]) -> None:
        gold = self.labels.encode([self._known(article) for article in window])
        found = [model.calibrate(model.logits(window)) for model in self._models]
        for task, column in gold.items():
            rows = np.flatnonzero(column != IGNORE)
            first, last = (answers[task][rows] for answers in found)
            chosen = [answer.argmax(axis=1) for answer in (first, last)]
            right = [labels == column[rows] for labels in chosen]
            [of_first, of_last] = [last[np.arange(len(rows)), labels] for labels in chosen]
            self._rows[task].append((first.max(axis=1), *right, of_last - of_first))

    def _known(self, article: Article) -> Article:
        """The article with those of its labels that the students know."""
        known = {
            task: label
            for task, label in article.labels.items()
            if task in self.labels.names and label in self.labels[task].labels
        }
        return replace(article, labels=known)

    def choose(self, max_loss_points: float) -> dict[str, TaskCascade]:
        """The threshold of each task."""
        columns = {
            task: tuple(map(np.concatenate, zip(*rows, strict=True)))
            for task, rows in self._rows.items()
            if rows
        }
        if not any(len(found[0]) for found in columns.values()):
            raise InputError(
                "none of the articles has a gold label of these tasks: "
                f"{', '.join(self.labels.names)}; give a file with a column for each task"
            )
        return {
            task: choose_threshold(*found, max_loss_points=max_loss_points)
            for task, found in columns.items()
        }


def _card(first: Bundle, last: Bundle, tasks: dict[str, TaskCascade]) -> str:
    rows = "".join(
        f"| {name} | {t.articles:,} | {t.threshold:.3f} | {100 * t.passed_on:.1f} % | "
        f"{100 * t.accuracy:.2f} % | {100 * t.accuracy_last:.2f} % | {100 * t.accuracy_first:.2f} % | "
        f"{t.lost_points:.2f} ± {t.margin_points:.2f} | {t.expected_points:.2f} |\n"
        for name, t in tasks.items()
    )
    head, _, rest = last.card.partition("\n## ")
    return (
        f"{head.rstrip()}\n\n## Cascade\n\n"
        f"The student {first.manifest.name} (`first.onnx`, bundle {first.fingerprint}) answers what it is "
        f"sure of; the rest goes on to {last.manifest.name} (`model.onnx`, bundle {last.fingerprint}). On "
        "the validation articles that the thresholds were chosen on:\n\n"
        "| task | articles | threshold | passed on | accuracy | larger alone | small alone | lost, points | "
        "expected |\n"
        f"|---|---|---|---|---|---|---|---|---|\n{rows}" + (f"\n## {rest}" if rest else "")
    )
