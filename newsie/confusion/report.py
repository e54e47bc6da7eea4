"""The content of confusion.json: the analyses of all tasks, the comparisons, and the articles to show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from newsie.confusion.analysis import SUSPECTS, Analysis
from newsie.confusion.comparison import Comparison
from newsie.confusion.document import as_json
from newsie.confusion.summary import foremost_task, headline, summarise
from newsie.data.articles import Article
from newsie.data.cleaning import clean_start, clean_text
from newsie.version import __version__

__all__ = ["FORMAT_VERSION", "Report", "shown_rows", "suspect_rows"]

FORMAT_VERSION = 1

_BODY = 400  # characters shown of an article's body
_SUSPECTS = 50  # suspect articles shown


@dataclass(frozen=True, eq=False)
class Report:
    """The results of analysing a file.

    Attributes:
        source: the name of the file.
        model: {"name", "fingerprint"} of the bundle that made the predictions.
        against: the same for the model that it is compared with, or None.
        articles: number of articles.
        analyses: task -> analysis.
        comparisons: comparisons of predictions for the same articles.
        texts: row -> article, for the articles that are shown; see `shown_rows`.
        left_out: sentences that say what is missing, and why.
        without_label: task -> number of articles that have no gold label.
        unknown_label: task -> number of articles whose gold label the model does not have.
    """

    source: str
    model: Mapping[str, str]
    against: Mapping[str, str] | None
    articles: int
    analyses: Mapping[str, Analysis]
    comparisons: Sequence[Comparison]
    texts: Mapping[int, Article]
    left_out: Sequence[str] = ()
    without_label: Mapping[str, int] = field(default_factory=dict)
    unknown_label: Mapping[str, int] = field(default_factory=dict)

    @property
    def summary(self) -> tuple[str, ...]:
        """Up to five sentences with the main findings."""
        return summarise(self.analyses, self.comparisons)

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain JSON values; `docs/confusion.md` describes them."""
        return {
            "format_version": FORMAT_VERSION,
            "newsie_version": __version__,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "source": self.source,
            "model": dict(self.model),
            "against": None if self.against is None else dict(self.against),
            "articles": self.articles,
            "foremost": foremost_task(self.analyses),
            "headline": headline(self.analyses),
            "summary": list(self.summary),
            "left_out": list(self.left_out),
            "without_label": dict(self.without_label),
            "unknown_label": dict(self.unknown_label),
            "tasks": [analysis.to_json(task) for task, analysis in self.analyses.items()],
            "comparisons": [as_json(comparison) for comparison in self.comparisons],
            "texts": {str(row): _text(article) for row, article in sorted(self.texts.items())},
        }


def shown_rows(analysis: Analysis) -> set[int]:
    """Return the rows that a report shows as articles: border, cells, to relabel, and the first suspects."""
    rows = {row for cell in analysis.cells for row in cell.rows}
    for pair in analysis.pairs:
        rows |= {article.row for article in pair.border} | set(pair.advice.rows[:_SUSPECTS])
    if analysis.suspects is not None:
        rows |= set(analysis.suspects.rows[:_SUSPECTS].tolist())
    return rows


def suspect_rows(analysis: Analysis) -> list[int]:
    """Return the rows whose gold label is likely wrong, the likeliest first, at most 1,000."""
    if analysis.suspects is None:
        return []
    rows: list[int] = analysis.suspects.rows[:SUSPECTS].tolist()
    return rows


def _text(article: Article) -> dict[str, Any]:
    return {
        "id": clean_text(article.id),
        "headline": clean_text(article.headline),
        "body": clean_start(article.body, _BODY)[:_BODY],
        "publisher": clean_text(article.publisher),
        "published": clean_text(article.published or "") or None,
    }
