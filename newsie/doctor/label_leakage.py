"""Checks for giveaways: publishers or starts of URLs that predict the label without any text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from newsie.data.articles import Article
from newsie.doctor.findings import MAX_EXAMPLES, Example, Finding, Severity
from newsie.doctor.label_checks import spelled
from newsie.doctor.reading import NewsFile

__all__ = ["Giveaway", "check_giveaways", "measure_giveaway"]

MIN_ARTICLES = 50
MIN_KNOWN_SHARE = 0.5
TELLING = 0.5
"""The share of the errors of always predicting the most frequent label that a giveaway removes, beyond
the share removed by chance (Goodman and Kruskal 1954, lambda)."""


@dataclass(frozen=True)
class Giveaway:
    """The accuracy of predicting a label from a value alone.

    Attributes:
        accuracy: share of articles whose label is the most frequent one among the others with the
            same value.
        baseline: share of the most frequent label overall.
        by_chance: the accuracy with shuffled labels.
        information: mutual information of value and label, over the entropy of the label; 0 to 1.
    """

    accuracy: float
    baseline: float
    by_chance: float
    information: float

    @property
    def tells(self) -> bool:
        """True if the value gives the label away."""
        floor = max(self.baseline, self.by_chance)
        return floor < 1 and (self.accuracy - floor) / (1 - floor) >= TELLING


def measure_giveaway(values: Sequence[str], labels: Sequence[str], seed: int = 0) -> Giveaway:
    """Measure how well the values predict the labels.

    Args:
        values: N values, such as publishers.
        labels: N labels.
        seed: seed of the shuffle.
    """
    _, value = np.unique(values, return_inverse=True)
    _, label = np.unique(labels, return_inverse=True)
    shuffled = np.random.default_rng(seed).permutation(label)
    total = np.bincount(label)
    return Giveaway(
        _accuracy(value, label),
        float(total.max() / len(label)),
        _accuracy(value, shuffled),
        _information(value, label),
    )


def _accuracy(value: NDArray[np.int64], label: NDArray[np.int64]) -> float:
    """Return the share of labels that are the most frequent one among the others with the same value.

    The label of a value that occurs once is predicted from all other articles.
    """
    counts: dict[int, Counter[int]] = {}
    pairs = list(zip(value.tolist(), label.tolist(), strict=True))
    for v, y in pairs:
        counts.setdefault(v, Counter())[y] += 1
    overall = Counter(label.tolist())
    best = {v: found.most_common(2) for v, found in counts.items()}
    (first, _), *_ = overall.most_common(1)
    right = 0
    for v, y in pairs:
        top = best[v]
        if counts[v].total() == 1:
            right += y == first
        elif top[0][0] == y:
            # Without this article, its label has one less. A tie then counts as wrong.
            right += len(top) == 1 or top[0][1] - 1 > top[1][1]
    return right / len(pairs)


def _information(value: NDArray[np.int64], label: NDArray[np.int64]) -> float:
    """Return (H(label) + H(value) - H(both)) / H(label), or 0 if there is only one label."""
    both = value * (int(label.max()) + 1) + label
    entropies = []
    for item in (label, value, both):
        _, counts = np.unique(item, return_counts=True)
        shares = counts / counts.sum()
        entropies.append(float(-(shares * np.log(shares)).sum()))
    return (entropies[0] + entropies[1] - entropies[2]) / entropies[0] if entropies[0] else 0.0


def check_giveaways(file: NewsFile, task: str) -> Iterator[Finding]:
    """Check that neither publisher nor URL gives the label away."""
    for what, column, values in (
        ("publisher", file.columns.publisher, [a.publisher.strip() for a in file.articles]),
        ("address", file.columns.url, [_address(a) for a in file.articles]),
    ):
        pairs = [
            (value, label)
            for value, label in zip(values, spelled(file, task), strict=True)
            if value and label is not None
        ]
        enough = max(MIN_ARTICLES, MIN_KNOWN_SHARE * sum(file.counts(task).values()))
        if column is None or len(pairs) < enough or len({label for _, label in pairs}) < 2:
            continue
        names, labels = zip(*pairs, strict=True)
        found = measure_giveaway(names, labels)
        if found.tells:
            yield _finding(task, what, column, found, Counter(pairs), Counter(names))


def _address(article: Article) -> str:
    """Return the host and the first part of the path: "paper.example/sport"."""
    try:
        parts = urlsplit(article.url.strip())
    except ValueError:
        return ""
    first = next((part for part in parts.path.split("/")[:-1] if part), "")
    return f"{parts.netloc.casefold().removeprefix('www.')}/{first}" if parts.netloc else ""


def _finding(
    task: str,
    what: str,
    column: str,
    found: Giveaway,
    pairs: Counter[tuple[str, str]],
    names: Counter[str],
) -> Finding:
    shown = [(pair, n) for pair, n in pairs.most_common() if n > names[pair[0]] / 2]
    return Finding(
        f"{what}-tells-label",
        Severity.warning,
        f"The {what} alone tells the label of {found.accuracy:.0%} of the articles (the most "
        f"frequent label: {found.baseline:.0%})",
        f"No model is shown column {column!r}, but each {what} has a style, and the student may "
        "learn that instead of the subject. Test on others than it is trained on, and look at "
        f"the figures by {what}.",
        names.total(),
        task,
        tuple(
            Example(f"{name} → {label}", note=f"{n:,} of {names[name]:,} articles")
            for (name, label), n in shown[:MAX_EXAMPLES]
        ),
        details={
            "accuracy": found.accuracy,
            "baseline": found.baseline,
            "by_chance": found.by_chance,
            "information": found.information,
        },
    )
