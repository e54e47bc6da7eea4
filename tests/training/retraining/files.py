"""Small files of a newsroom's own, for tests of retraining."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from newsie.data.articles import Article
from newsie.inference.classifier import Classifier
from tests.tiny import tiny_articles

__all__ = ["heard_by", "write_rows", "write_volume"]


def write_rows(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> Path:
    """A CSV file."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
    return path


def heard_by(classifier: Classifier) -> Callable[[Article], str]:
    """Labels that the states of a student tell, and words hardly do: its own answers to a task."""

    def label(article: Article) -> str:
        [prediction] = classifier.classify([article], tasks=["mood"])
        return {"calm": "quiet", "loud": "crying"}[prediction.label("mood")]

    return label


def write_volume(
    path: Path,
    count: int,
    seed: int = 0,
    *,
    label: Callable[[Article], str],
    column: str = "category",
) -> Path:
    """Tiny articles with a label that no tiny task has."""
    rows = [
        (article.id, article.headline, article.body, label(article))
        for article in tiny_articles(count, seed)
    ]
    return write_rows(path, ("id", "headline", "body", column), rows)
