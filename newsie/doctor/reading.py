"""Reading a file as training does: the articles, their row numbers, the label columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from newsie.data.articles import Article
from newsie.data.cleaning import clean_text, learn_site_suffixes, strip_site_suffix
from newsie.data.columns import Columns
from newsie.data.encoding import view_text
from newsie.data.label_columns import no_column, open_twice
from newsie.data.readers import Problems
from newsie.errors import ReadError
from newsie.labels import LabelRule

__all__ = ["NewsFile", "read_file"]


@dataclass(frozen=True)
class NewsFile:
    """The usable articles of a file, with their row numbers.

    Attributes:
        path: the file.
        columns: the chosen columns.
        rules: task -> source of its labels.
        rows: number of rows read.
        problems: the rows that cannot be used.
        articles: N articles.
        numbers: N row numbers, 1-based; a header is not counted.
    """

    path: str
    columns: Columns
    rules: Mapping[str, LabelRule]
    rows: int
    problems: Problems
    articles: Sequence[Article]
    numbers: Sequence[int]

    @cached_property
    def site_suffixes(self) -> tuple[str, ...]:
        """The site names at the end of headlines, as training learns and removes them."""
        return learn_site_suffixes(
            [article.headline for article in self.articles],
            [article.publisher for article in self.articles],
        )

    @cached_property
    def headlines(self) -> list[str]:
        """The N headlines, cleaned, without site names."""
        suffixes = frozenset(self.site_suffixes)
        return [strip_site_suffix(clean_text(a.headline), suffixes) for a in self.articles]

    @cached_property
    def texts(self) -> list[str]:
        """The N texts, as models read them."""
        suffixes = frozenset(self.site_suffixes)
        return [view_text(article, "full", suffixes) for article in self.articles]

    def labels(self, task: str) -> list[str | None]:
        """Return the N labels of a task, with None for missing ones."""
        return [article.labels.get(task) for article in self.articles]

    def counts(self, task: str) -> dict[str, int]:
        """Return label -> number of articles, most frequent first."""
        found = Counter(label for label in self.labels(task) if label is not None)
        return dict(found.most_common())


def read_file(
    path: str | Path,
    rules: Mapping[str, LabelRule],
    columns: Mapping[str, str] | None = None,
) -> NewsFile:
    """Read all articles of a file.

    Raises:
        ReadError: the file cannot be read, has no usable row, or lacks a column.
    """
    reader = open_twice(path, columns, rules)
    articles, numbers = [], []
    for article in reader:
        articles.append(article)
        numbers.append(reader.number)
    for task, column in reader.missing_rules.items():
        raise no_column(reader, task, column)
    if not articles:
        problem = reader.problems.summary()
        raise ReadError(path, f"no row of it can be used as an article. {problem}".strip())
    return NewsFile(
        reader.path,
        reader.columns,
        dict(rules),
        reader.rows,
        reader.problems,
        articles,
        numbers,
    )
